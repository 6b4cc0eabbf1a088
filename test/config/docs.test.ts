// docs/configuration.md is correct: its table is the schema's, and every example in it loads.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../../agent/config/load.ts';
import { parameterReferences } from '../../agent/config/parameters.ts';
import { userDataSources } from '../../agent/config/userdata.ts';
import { page, withTable } from './reference.ts';

const text = readFileSync(page, 'utf8');

/** The fenced blocks of one language. */
function blocks(language: string): string[] {
  return [...text.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)]
    .filter((match) => match[1] === language)
    .map((match) => match[2] ?? '');
}

test('the table of keys is generated from the schema (else: node_modules/.bin/node test/config/reference.ts)', () => {
  assert.is(text, withTable(text));
});

test('every YAML example is valid without a warning, alone or on top of the worked example', () => {
  const [worked, ...others] = blocks('yaml');
  assert.ok(worked !== undefined && others.length >= 3);
  const base = { name: 'worked example', content: worked };
  assert.equal(loadConfig([base]).warnings, []);
  for (const content of others) {
    const alone = /^cluster:/m.test(content);
    const sources = [...(alone ? [] : [base]), { name: content, content }];
    assert.equal(loadConfig(sources).warnings, []);
  }
});

test('the configurations of docs/examples/join are valid without a warning', () => {
  for (const name of ['node.yaml', 'eks/node.yaml']) {
    const content = readFileSync(join(dirname(page), 'examples/join', name), 'utf8');
    assert.equal(loadConfig([{ name, content }]).warnings, [], name);
  }
});

test('the smallest configuration on the page is complete', () => {
  const smallest = blocks('yaml').find(
    (block) => block.startsWith('cluster:') && block.split('\n').length <= 6,
  );
  assert.ok(smallest !== undefined);
  assert.is(loadConfig([{ name: 'smallest', content: smallest }]).config.pods.max, 110);
});

test('the user data examples hold configuration that loads', () => {
  const examples = blocks('text');
  assert.ok(examples.length >= 2);
  for (const example of examples) {
    const sources = userDataSources(example);
    assert.is(sources.length, 1);
    assert.ok(
      loadConfig([{ name: 'base', content: blocks('yaml')[0] ?? '' }, ...sources]).config.cluster.length > 0,
    );
  }
});

test('the example with parameters uses the parameters that the text names', () => {
  const example = blocks('yaml').find((block) => block.includes('ssm:'));
  const names = parameterReferences(loadConfig([{ name: 'a', content: example ?? '' }]).config);
  assert.ok(names.length >= 3);
  for (const name of names) assert.ok(text.includes(`ssm:${name}`));
});

test('the shown output of `config check` is its real output', () => {
  const [shown] = blocks('console');
  assert.ok(shown !== undefined);
  try {
    loadConfig([
      {
        name: 'node.yaml',
        content: 'cluster: production\npods:\n  subnet:\n    ids: [subnet-0a1b2c3d4e5f60001]\n',
      },
    ]);
    assert.unreachable();
  } catch (error) {
    const [problem] = (
      error as { facts: { problems: { line: number; path: string; problem: string; remedy: string }[] } }
    ).facts.problems;
    assert.ok(problem !== undefined);
    assert.ok(shown.includes(`node.yaml:${problem.line}:3: error: ${problem.path} ${problem.problem}`));
    assert.ok(shown.includes(problem.remedy));
  }
});

test.run();
