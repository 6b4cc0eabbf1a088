// time limit: 180 s
// Problems of an operator away from nodes: an AWS that does not answer, credentials that AWS refuses, and missing files. The
// silent AWS is a server that accepts connections and sends nothing.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startCloud } from '../aws/index.ts';
import { type Ended, EXECUTABLE, eniboot, operatorEnvironment } from './executable.ts';

const cloud = await startCloud();
const folder = mkdtempSync(join(tmpdir(), 'eniboot-operator-'));
test.after(() => {
  rmSync(folder, { recursive: true });
  return cloud.stop();
});

/** Commands that only read from AWS. */
const looks = [
  ['bundle', 'list'],
  ['rollout', 'status', '--cluster', 'demo'],
  ['image', 'list'],
  ['eni', 'sweep'],
];

test('with an AWS that does not answer, a command soon tells what it waits for, and ends', async () => {
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  const address = silent.address();
  const port = typeof address === 'object' ? address?.port : undefined;
  const env = { ...operatorEnvironment(cloud), AWS_ENDPOINT_URL: `http://127.0.0.1:${port}` };
  // The first command also shows that this message is not on stdout with the one object.
  const asked = looks.map((args, at) => (at === 0 ? [...args, '--json'] : args));
  const ended = await Promise.all(
    asked.map(async (args): Promise<Ended & { saidMs: number }> => {
      const started = performance.now();
      let saidMs = Number.NaN;
      const result = await eniboot(args, {
        env,
        watchErr: () => {
          if (Number.isNaN(saidMs)) saidMs = performance.now() - started;
        },
      });
      return { ...result, saidMs };
    }),
  );
  silent.close();
  for (const [at, { code, err, out, ms, saidMs }] of ended.entries()) {
    const name = asked[at]?.join(' ') ?? '';
    assert.is(code, 1, `${name}: ${err}`);
    assert.match(err, /^waiting for AWS to answer \w+; giving up after 30 s without an answer\n/, name);
    assert.match(err, /\neniboot: \w+: no (usable )?answer from /, name);
    assert.ok(saidMs < ms / 4, `${name}: said after ${saidMs} of ${ms} ms`);
    if (at === 0) assert.match(out, /^\{"failure":\{"code":"SSM_FAILED",.*\}\n$/);
    else if (asked[at]?.[0] === 'eni') assert.match(out, /^looking for .*\n$/);
    else assert.is(out, '');
  }
});

test('credentials that AWS refuses soon end a command, with a code and a remedy', async () => {
  const env = { ...operatorEnvironment(cloud), AWS_SECRET_ACCESS_KEY: 'wrong' };
  for (const args of looks) {
    const { code, out, err, ms } = await eniboot(args, { env });
    assert.is(code, 1, `${args.join(' ')}: ${err}`);
    assert.match(err, /CREDENTIALS_REFUSED: [^]*AWS_PROFILE/, args.join(' '));
    assert.not.match(out, /would be/, 'no numbers of a list that was not shown');
    assert.ok(ms < 20_000, `${args.join(' ')} took ${ms} ms`);
  }
});

const spec = ['rollout', 'plan'];
const userData = [
  'image',
  'boot-test',
  'ami-0123456789abcdef0',
  '--subnet',
  'subnet-01234567',
  '--user-data',
];
const archive = (path: string) => ['bundle', 'publish', '--x64', path, '--x64-url', 'https://x.example/x'];
const reading: [string, (path: string) => string[]][] = [
  ['config import', (path) => ['config', 'import', path, '--cluster', 'demo']],
  ['rollout plan', (path) => [...spec, path]],
  ['image boot-test', (path) => [...userData, path]],
  ['bundle publish', archive],
];

for (const [name, args] of reading) {
  test(`${name}: a missing file, or a folder in its place, ends with 1 and FILE_READ, and makes no call to AWS`, async () => {
    const calls = cloud.calls.length;
    for (const path of [join(folder, 'none'), folder]) {
      const { code, err, out } = await eniboot([...args(path), '--json'], {
        env: operatorEnvironment(cloud),
      });
      assert.is(code, 1, `${path}: ${err}`);
      const { failure } = JSON.parse(out) as { failure: { code: string; message: string } };
      assert.is(failure.code, 'FILE_READ');
      assert.match(failure.message, path);
    }
    assert.is(cloud.calls.length, calls);
  });
}

test('config check and iam-policy report such a file like any other source, also with 1', async () => {
  for (const args of [
    ['config', 'check'],
    ['iam-policy', '--config'],
  ]) {
    const { code, out, err } = await eniboot([...args, join(folder, 'none')]);
    assert.is(code, 1);
    assert.match(`${out}${err}`, /none:? .*does not exist|none: error: .*does not exist/);
  }
});

test('an output file that cannot be written is refused before the work', async () => {
  const nowhere = join(folder, 'none/x');
  writeFileSync(
    join(folder, 'spec.yaml'),
    'what: { bundle: { version: 1.0.0 } }\nwhere: { cluster: demo }\n',
  );
  const calls = cloud.calls.length;
  const writing = [
    ['bundle', 'build', '--out'],
    ['rollout', 'plan', join(folder, 'spec.yaml'), '--svg'],
    ['rollout', 'report', '--cluster', 'demo', '--html'],
    ['image', 'base', '--fedora', '44', '--lock'],
    ['image', 'check', '--report'],
  ];
  const bundle = ['support-bundle', '--output'];
  const cases = [
    ...[...writing, bundle].map((args) => [...args, nowhere]),
    ...writing.map((args) => [...args, folder]),
    ...[...writing, bundle].map((args) => [...args, `${folder}/x/`]),
  ];
  for (const args of cases) {
    const { code, err } = await eniboot(args, { env: operatorEnvironment(cloud) });
    assert.is(code, 1, args.join(' '));
    const path = args.at(-1);
    const why = path === nowhere ? 'ENOENT' : 'it is a folder';
    assert.ok(
      err.startsWith(`eniboot: FILE_WRITE: ${path} cannot be written: ${why}`),
      `${args.join(' ')}: ${err}`,
    );
  }
  assert.is(cloud.calls.length, calls);
});

/** Makes the folder of a version with this executable. */
function versionOf(name: string, executable: Uint8Array): string {
  const from = join(folder, name);
  mkdirSync(from);
  writeFileSync(join(from, 'eniboot'), executable);
  const files = [{ path: 'eniboot', sha256: createHash('sha256').update(executable).digest('hex') }];
  writeFileSync(join(from, 'manifest.json'), JSON.stringify({ version: '1.0.0', files, plugins: [] }));
  return from;
}

test('bundle build reports its progress', async () => {
  // A version of a few bytes, given by its folder: compressing the real one takes many seconds.
  const from = versionOf('version', Buffer.from('stand-in'));
  const file = join(folder, 'x.tar.gz');
  const built = await eniboot(['bundle', 'build', '--json', '--from', from, '--out', file]);
  assert.is(built.code, 0, built.err);
  assert.match(
    built.err,
    /^comparing eniboot with its digest\npacking 2 files of [^]*\ntaking the digest of /,
  );
  assert.is(JSON.parse(built.out).file, file);
});

test('a folder or file without an intact version is not packed and not published', async () => {
  const changed = versionOf('changed', Buffer.from('as built'));
  writeFileSync(join(changed, 'eniboot'), 'changed since');
  const lacking = versionOf('lacking', Buffer.from('x'));
  rmSync(join(lacking, 'eniboot'));
  const packed = join(folder, 'lacking.tar.gz');
  execFileSync('tar', ['-czf', packed, '-C', lacking, 'manifest.json']);
  for (const [args, said] of [
    [['bundle', 'build', '--from', folder], 'has no manifest.json that can be read'],
    [['bundle', 'build', '--from', changed], 'eniboot is not what its manifest says'],
    [['bundle', 'build', '--from', lacking], 'which its manifest names, is not there'],
    [archive(join(changed, 'eniboot')), 'it is no whole gzip'],
    [archive(packed), 'eniboot is missing'],
  ] as const) {
    const { code, err } = await eniboot([...args], { env: operatorEnvironment(cloud) });
    assert.is(code, 1, err);
    assert.match(err, 'eniboot: BUNDLE_UNUSABLE: ');
    assert.match(err, said);
    assert.not.match(err, 'terminate');
  }
});

test('bundle build leaves nothing when it is stopped, by Ctrl-C or by a closed terminal', async () => {
  const from = versionOf('large', randomBytes(48 * 1024 * 1024));
  const out = join(folder, 'stopped');
  mkdirSync(out);
  for (const signal of ['SIGINT', 'SIGHUP'] as const) {
    let sent = false;
    const { code, err } = await eniboot(['bundle', 'build', '--from', from, '--out', join(out, 'x.tar.gz')], {
      watchErr: (text, kill) => {
        if (sent || !text.includes('packing')) return;
        sent = true;
        // Only after tar has made its file.
        const wait = setInterval(() => {
          if (readdirSync(out).length === 0) return;
          clearInterval(wait);
          kill(signal);
        }, 10);
      },
    });
    assert.is(code, 130, `${signal}: ${err}`);
    assert.match(err, /interrupted; nothing was written\n$/);
    assert.equal(readdirSync(out), [], signal);
  }
});

test('a command under nohup does not stop when the terminal is closed', async () => {
  const file = join(folder, 'kept.tar.gz');
  const from = versionOf('medium', randomBytes(8 * 1024 * 1024));
  const { status, stderr } = spawnSync(
    'sh',
    [
      '-c',
      'trap "" HUP; "$0" bundle build --from "$1" --out "$2" & sleep 1; kill -HUP $!; wait $!',
      EXECUTABLE,
      from,
      file,
    ],
    { encoding: 'utf8' },
  );
  assert.is(status, 0, stderr);
  assert.ok(existsSync(file));
});

test.run();
