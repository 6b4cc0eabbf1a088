// time limit: 300 s
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as v from 'valibot';
import { stringify } from 'yaml';
import { loadConfig } from '../../agent/config/load.ts';
import { parameterReferences, resolveParameters } from '../../agent/config/parameters.ts';
import { parseSource } from '../../agent/config/parse.ts';
import type { ConfigProblem } from '../../agent/config/problem.ts';
import { configSchema } from '../../agent/config/schema.ts';
import { validate } from '../../agent/config/validate.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { validDocument } from './valid-config.ts';

function load(text: string | Uint8Array) {
  return loadConfig([{ name: 'a.yaml', content: text }]);
}

/** The problems, or undefined when it loads; anything thrown but CONFIG_INVALID fails the test. */
function refusal(text: string | Uint8Array): ConfigProblem[] | undefined {
  try {
    load(text);
    return undefined;
  } catch (error) {
    if (isFailure(error, 'CONFIG_INVALID')) return error.facts['problems'] as ConfigProblem[];
    throw error;
  }
}

test('any valid configuration loads, as YAML and as JSON, and is the same after writing and reading', () => {
  fc.assert(
    fc.property(validDocument, (document) => {
      const { config } = load(stringify(document));
      assert.equal(config, v.parse(configSchema, document));
      assert.equal(load(JSON.stringify(document)).config, config);
      assert.equal(load(stringify(config)).config, config);
    }),
    { numRuns: 200 },
  );
});

test('merging a configuration with itself, or in halves, changes nothing', () => {
  fc.assert(
    fc.property(validDocument, (document) => {
      const whole = load(stringify(document)).config;
      const { pods, ...rest } = document;
      const content = [stringify({ pods }), stringify(rest), stringify(document)];
      assert.equal(
        loadConfig(content.map((text, index) => ({ name: `${index}`, content: text }))).config,
        whole,
      );
    }),
    { numRuns: 100 },
  );
});

test('after all references are resolved none is left, and nothing else has changed', () => {
  fc.assert(
    fc.property(validDocument, (document) => {
      const { config } = load(stringify(document));
      const given: Record<string, string> = { '/api': 'https://a.example', '/a/ca': '/etc/other.crt' };
      const values = new Map(parameterReferences(config).map((name) => [name, given[name] ?? 'c1']));
      const resolved = resolveParameters(config, values);
      assert.equal(parameterReferences(resolved), []);
      const { join } = resolved;
      assert.equal(
        { ...resolved, cluster: '', apiServer: undefined, join: join && { ...join, ca: '' } },
        { ...config, cluster: '', apiServer: undefined, join: config.join && { ...config.join, ca: '' } },
      );
    }),
    { numRuns: 200 },
  );
});

/** A valid document with one place replaced by another value, or with one key too many. */
const spoiltDocument = fc
  .tuple(
    validDocument,
    fc.nat(),
    fc.oneof(
      fc.jsonValue({ maxDepth: 2 }),
      fc.constantFrom(null, -1, 1e9, '', 'x', 'ssm:/a', [], {}, ['10.0.0.0/8'], { ids: ['x'] }, { tags: {} }),
    ),
    fc.oneof(
      fc.constant(undefined),
      fc.constantFrom('toString', 'hasOwnProperty', '__proto__', 'cidr', 'ids'),
      fc.string(),
    ),
  )
  .map(([document, where, value, key]) => {
    const copy: unknown = structuredClone(document);
    const holders: Record<string, unknown>[] = [];
    const collect = (node: unknown): void => {
      if (typeof node !== 'object' || node === null) return;
      holders.push(node as Record<string, unknown>);
      Object.values(node).forEach(collect);
    };
    collect(copy);
    const holder = holders[where % holders.length] as Record<string, unknown>;
    const keys = Object.keys(holder);
    const target = key ?? keys[where % Math.max(1, keys.length)] ?? 'key';
    if (Array.isArray(holder)) holder.push(value);
    else
      Object.defineProperty(holder, target, { value, enumerable: true, configurable: true, writable: true });
    return copy;
  });

test('the walk over the schema and the schema itself refuse the same documents, and every problem has all its fields', () => {
  let refused = 0;
  fc.assert(
    fc.property(spoiltDocument, (document) => {
      const text = JSON.stringify(document, null, 1);
      const parsed = parseSource('a.yaml', text);
      if (parsed.tree !== undefined && parsed.problems.length === 0) {
        // valibot accepts a list as an object; the walk and JSON Schema do not.
        const found = validate(parsed.tree).filter((one) => one.problem.problem !== 'must be a map');
        const listForMap = found.length < validate(parsed.tree).length;
        if (!listForMap) assert.is(found.length === 0, v.is(configSchema, JSON.parse(text)));
      }
      const problems = refusal(text) ?? [];
      if (problems.length > 0) refused++;
      for (const problem of problems) {
        assert.ok(problem.line >= 1 && problem.column >= 1);
        assert.ok(problem.problem.length > 0 && problem.remedy.length > 0);
        assert.ok((problem.value ?? '').length <= 80);
      }
    }),
    { numRuns: 1000 },
  );
  assert.ok(refused > 300, `only ${refused} of 1000 were refused: the test no longer tests enough`);
});

const fragment = fc.constantFrom(
  'cluster: a',
  'pods:',
  '  subnets:',
  '    ids:',
  '- ',
  '  - x',
  '\t',
  '? ',
  ': ',
  '{',
  '}',
  '[',
  ']',
  ',',
  '&a ',
  '*a',
  '!t ',
  '!!binary ',
  '|',
  '>',
  '"',
  "'",
  '#',
  '\n',
  '\n\n',
  '---\n',
  '...\n',
  '%YAML 1.1\n',
  '<<: ',
  'null',
  '~',
  '\u0000',
  '\ufeff',
  '\u2028',
  '0x10',
  '1e999',
  '-.inf',
  '.nan',
  '2001-01-01',
  '__proto__: ',
  '\r',
  ' ',
  '    ',
);

test('any junk is refused with a message', () => {
  const junk = fc.oneof(
    fc.array(fragment, { maxLength: 40 }).map((parts) => parts.join('')),
    fc.array(fragment, { maxLength: 40 }).map((parts) => parts.join('\n')),
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.uint8Array({ maxLength: 200 }),
  );
  fc.assert(
    fc.property(junk, (text) => {
      const problems = refusal(text);
      assert.ok(problems === undefined || problems.length > 0);
    }),
    { numRuns: 1500 },
  );
});

test('64 KiB of any bytes are judged within two seconds of CPU time', () => {
  const unit = [
    'a: ',
    '[',
    '- ',
    'a:\n ',
    '"',
    '&a ',
    '{a: ',
    '? ',
    '\n',
    'k: v\n',
    '#x\n',
    "'",
    '|\n',
    '!a ',
    '- [',
    'a: [1,\n',
  ];
  for (const text of unit) {
    const before = process.threadCpuUsage();
    refusal(text.repeat(Math.floor((64 * 1024) / text.length)));
    const { user, system } = process.threadCpuUsage(before);
    assert.ok(
      user + system < 2_000_000,
      `${JSON.stringify(text)} took ${Math.round((user + system) / 1000)} ms`,
    );
  }
  const stairs = Array.from({ length: 350 }, (_, depth) => `${' '.repeat(depth)}a:\n`).join('');
  assert.ok((refusal(stairs) ?? []).length > 0);
});

test.run();
