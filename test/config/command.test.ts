import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { configCommand } from '../../agent/cli/config.ts';
import { isFailure } from '../../agent/messages/failure.ts';

const folder = mkdtempSync(join(tmpdir(), 'eniboot-config-'));
test.after(() => rmSync(folder, { recursive: true }));

function file(name: string, content: string | Uint8Array): string {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
}

const good = file('good.yaml', 'cluster: prod\npods:\n  subnets: {tags: {role: pods}}\n  max: 60\n');
const bad = file('bad.yaml', 'clustr: prod\npods:\n  subnets: {tags: {role: pods}}\n  max: 0\n');

async function run(args: string[], isTTY = false) {
  let out = '';
  let err = '';
  const code = await configCommand.run(args, {
    stdout: (text) => {
      out += text;
    },
    stderr: (text) => {
      err += text;
    },
    isTTY,
  });
  return { code, out, err };
}

test('check: a valid file', async () => {
  assert.equal(await run(['check', good]), { code: 0, out: `valid: ${good}\n`, err: '' });
  assert.equal(await run(['check', '--json', good]), {
    code: 0,
    out: '{"valid":true,"problems":[],"warnings":[]}\n',
    err: '',
  });
});

test('check: problems as text', async () => {
  const { code, out, err } = await run(['check', bad]);
  assert.is(code, 1);
  assert.is(err, '');
  assert.is(
    out,
    `${bad}:1:1: error: clustr is an unknown key
  value   "prod"
  meant   cluster
  remedy  Write \`cluster\` instead.

${bad}:4:8: error: pods.max must be a whole number from 1 to 1000
  value   0
  remedy  Choose a value in that range.

2 errors
`,
  );
});

test('check: problems as JSON', async () => {
  const { code, out } = await run(['check', bad, '--json']);
  assert.is(code, 1);
  const report = JSON.parse(out) as { valid: boolean; problems: { path: string; line: number }[] };
  assert.is(report.valid, false);
  assert.equal(
    report.problems.map((problem) => `${problem.line} ${problem.path}`),
    ['1 clustr', '4 pods.max'],
  );
});

test('colour only on a terminal', async () => {
  assert.not.ok((await run(['check', bad])).out.includes('\u001b'));
  assert.ok((await run(['check', bad], true)).out.includes('\u001b[31merror\u001b[0m'));
});

test('check: warnings do not make it invalid', async () => {
  const { code, out } = await run(['check', good, file('rest.yaml', 'pool: {restSeconds: 0}\n')]);
  assert.is(code, 0);
  assert.match(out, /rest\.yaml:1:21: warning: pool\.restSeconds gives/);
  assert.match(out, /1 warning\nvalid: /);
});

test('check: user data is split into its parts, alone and on top of a file', async () => {
  const packed = file('user-data.gz', gzipSync('#eniboot-config\npods: {max: 0}\n'));
  const { code, out } = await run(['check', good, packed]);
  assert.is(code, 1);
  assert.match(out, /user-data\.gz:2:13: error: pods\.max must be/);
});

test("check: a MIME message without eniboot's part, a folder and an absent file are named as such", async () => {
  const foreign =
    'Content-Type: multipart/mixed; boundary="b"\n\n--b\nContent-Type: text/plain\n\nhello\n--b--\n';
  assert.match((await run(['check', file('mime.txt', foreign)])).out, /without a part of type application/);
  assert.match((await run(['check', folder])).out, /the document is a folder/);
  assert.match((await run(['check', join(folder, 'absent.yaml')])).out, /does not exist/);
});

test('check: a file that a node would not read as user data is not accepted as user data', async () => {
  const unmarked = 'pods: {max: 33}\n';
  const path = file('user-data.txt', unmarked);
  const { code, out } = await run(['check', good, path]);
  assert.is(code, 0);
  assert.match(out, /user-data\.txt:1:1: warning: .*in user data it would not be read/);
  const shown = JSON.parse((await run(['show', '--json', good, '--user-data', path])).out) as {
    config: { pods: { max: number } };
    sources: { source: string; keys: string[] }[];
  };
  assert.is(shown.config.pods.max, 60);
  assert.equal(
    shown.sources.map(({ source }) => source),
    ['default', good],
  );
  const marked = file('marked.txt', `\n#eniboot-config\n${unmarked}`);
  const both = JSON.parse((await run(['show', '--json', good, '--user-data', marked])).out) as typeof shown;
  assert.is(both.config.pods.max, 33);
  assert.equal(both.sources.slice(1), [
    { source: good, keys: ['cluster', 'pods.subnets.tags.role'] },
    { source: marked, keys: ['pods.max'] },
  ]);
  const alone = await run(['check', '--user-data', path]).catch((error: unknown) => error);
  assert.ok(isFailure(alone, 'CONFIG_MISSING'));
  assert.match(alone.message, /user data.*:1:1: looks like configuration/);
});

test('check: a file for /etc/eniboot may begin with any comment; a warning tells when user data with it is refused', async () => {
  const settings = 'cluster: prod\npods: {subnets: {tags: {a: b}}}\n';
  for (const [comment, warning] of [
    ['#included by the image', undefined],
    ['# of team a', undefined],
    ['# of team a\n#eniboot-config', /not in its first line.*in user data it is refused/],
    ['# eniboot-config', /nearly but not.*in user data it is refused/],
  ] as const) {
    const path = file('comment.yaml', `${comment}\n${settings}`);
    const { code, out } = await run(['check', path]);
    assert.is(code, 0, out);
    if (warning === undefined) assert.is(out, `valid: ${path}\n`);
    else assert.match(out, warning);
    const asUserData = await run(['check', good, '--user-data', path]);
    assert.is(asUserData.code, warning === undefined ? 0 : 1, asUserData.out);
  }
});

test('show: each value with its origin; the output is itself a valid configuration', async () => {
  const { code, out } = await run(['show', good]);
  assert.is(code, 0);
  const rows = new Map(
    out
      .trimEnd()
      .split('\n')
      .map((line) => [line.split(/ +/)[0], line.split(/ {2,}/).slice(1)]),
  );
  assert.equal(rows.get('pods.max'), ['60', `${good}:4`]);
  assert.equal(rows.get('pods.subnets.tags.role'), ['"pods"', `${good}:3`]);
  assert.equal(rows.get('boot.deadlineSeconds'), ['300', 'default']);
  const shown = JSON.parse((await run(['show', '--json', good])).out) as { config: object; origins: object };
  const again = file('again.json', JSON.stringify(shown.config));
  assert.equal(JSON.parse((await run(['show', '--json', again])).out).config, shown.config);
});

test('show: nothing on standard output when the configuration is refused', async () => {
  const { code, out, err } = await run(['show', bad]);
  assert.is(code, 1);
  assert.is(out, '');
  assert.match(err, /2 errors/);
});

test('schema: one JSON document', async () => {
  const { code, out } = await run(['schema']);
  assert.is(code, 0);
  assert.is((JSON.parse(out) as { title: string }).title, 'eniboot configuration');
});

test('wrong usage and a wrong configuration have different exit codes', async () => {
  for (const args of [[], ['chek'], ['check', '--jsn'], ['schema', good]]) {
    let said: unknown;
    await run(args).catch((error: unknown) => {
      said = error;
    });
    assert.ok(isFailure(said, 'USAGE'), args.join(' '));
    assert.match((said as Error).message, /^eniboot config: /);
  }
});

test.run();
