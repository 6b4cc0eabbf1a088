// eniboot finds its part in user data as cloud-init finds parts: a table of cases, compared with Python's own parser.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../../agent/config/load.ts';
import { parseMessage } from '../../agent/config/mime.ts';
import type { ConfigProblem } from '../../agent/config/problem.ts';
import { type ConfigSource, configMediaType } from '../../agent/config/source.ts';
import { readConfigSources, readFileSources } from '../../agent/config/sources.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { cloudInitParts } from './cloud-init.ts';
import { userDataCases } from './recognise-cases.ts';

const folder = mkdtempSync(join(tmpdir(), 'eniboot-recognise-'));
test.after(() => rmSync(folder, { recursive: true }));

const base = { name: 'base.yaml', content: 'cluster: base\npods: {subnets: {tags: {a: b}}, max: 20}\n' };

interface Said {
  max: number | undefined;
  problems: ConfigProblem[];
  warnings: ConfigProblem[];
}

/** Loaded on top of a complete configuration, so that a lost part would not be an error. */
function load(sources: ConfigSource[]): Said {
  try {
    const { config, warnings } = loadConfig([base, ...sources]);
    return { max: config.pods.max, problems: [], warnings };
  } catch (error) {
    if (!isFailure(error, 'CONFIG_INVALID')) throw error;
    return { max: undefined, problems: error.facts['problems'] as ConfigProblem[], warnings: [] };
  }
}

const theirs = cloudInitParts(userDataCases.map(({ data }) => data));

for (const [at, { name, data, becomes, unlike }] of userDataCases.entries()) {
  test(name, () => {
    const onNode = readConfigSources({ userData: data });
    const said = load(onNode);
    const told = [...said.problems, ...said.warnings].map(
      ({ source, line, problem }) => `${source}:${line} ${problem}`,
    );
    if (becomes === 'read') {
      assert.equal(said.problems, []);
      assert.is(said.max, 33);
    } else if (becomes === 'passes') {
      assert.equal(told, []);
      assert.is(said.max, 20);
    } else if (becomes instanceof RegExp) {
      assert.match(told.join('\n'), becomes);
      assert.is(said.max, undefined, 'the user data is refused');
      for (const { source, remedy } of said.problems)
        assert.ok(source.startsWith('user data') && remedy !== '');
    } else {
      assert.equal(said.problems, []);
      assert.match(told.join('\n'), becomes.warns);
      assert.is(said.max, 20);
      assert.ok(
        said.warnings.every(({ line }) => line > 0),
        'the message has the place',
      );
    }

    // `config check` of that file gives the same result, or tells that it is user data without configuration.
    const path = join(folder, `${at}.txt`);
    writeFileSync(path, data);
    const checked = load(readFileSources(path, true));
    const named = (problems: ConfigProblem[]) =>
      problems.map((one) => ({ ...one, source: one.source.replace(path, 'user data') }));
    assert.equal({ ...checked, problems: named(checked.problems), warnings: named(checked.warnings) }, said);

    const found = theirs[at]?.filter(
      ({ type, text }) =>
        type === configMediaType ||
        /^[^\S\ufeff]*#eniboot-config[ \t]*(?:[\r\n]|$)/.test(Buffer.from(text, 'latin1').toString()),
    );
    const ours = onNode.flatMap((source) => ('content' in source ? [source.content] : []));
    const texts = (list: (string | Uint8Array)[]) =>
      list.map((one) => Buffer.from(one).toString('utf8').trim());
    const same =
      JSON.stringify(texts(ours)) ===
      JSON.stringify(texts((found ?? []).map(({ text }) => Buffer.from(text, 'latin1'))));
    assert.is(same, unlike === undefined, unlike ?? `cloud-init finds ${JSON.stringify(found)}`);
  });
}

test('random messages are split into the parts that Python finds', () => {
  const lines = fc.array(
    fc.tuple(
      fc.constantFrom(
        ...[
          'MIME-Version: 1.0',
          'Content-Type: multipart/mixed; boundary="b"',
          'Content-Type: multipart/mixed; boundary=c',
        ],
        ...[
          'Content-Type: multipart/digest;\n boundary="b"',
          'Content-Type: message/rfc822',
          'Content-Type: a/b; name="x;y"',
        ],
        ...[
          'Content-Transfer-Encoding: quoted-printable',
          'Content-Disposition: attachment; filename=f',
          'From me',
          'From: x',
        ],
        ...[
          '',
          '',
          '',
          '--b',
          '--b',
          '--b',
          '--c',
          '--c',
          '--b--',
          '--c--',
          '--b  ',
          '--b--x',
          ':x',
          ' x',
          '  ',
          'a: b',
          '#!/bin/sh',
        ],
        ...['a=3Db=', 'x'],
      ),
      fc.constantFrom('\n', '\n', '\n', '\r\n', '\r', ''),
    ),
    { maxLength: 16 },
  );
  const seed = Date.now() % 1_000_000;
  const texts = fc
    .sample(lines, { numRuns: 3000, seed })
    .map(
      (pieces) =>
        `MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n${pieces.map((piece) => piece.join('')).join('')}`,
    )
    // Without texts that have blanks after the name of an encoding, where the parsers differ.
    .filter((text) => !/quoted-printable(?:\r\n|\r|\n)?[ \t]/.test(text));
  for (const [at, parts] of cloudInitParts(texts).entries()) {
    const text = texts[at] ?? '';
    const ours = parseMessage(text).parts.map(({ filename, body }) => [
      filename,
      Buffer.from(body).toString('latin1'),
    ]);
    assert.equal(
      ours,
      parts?.map(({ file, text: theirText }) => [file, theirText]),
      `seed ${seed}: ${JSON.stringify(text)}`,
    );
  }
});

test.run();
