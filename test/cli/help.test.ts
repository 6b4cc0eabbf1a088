// Rules of every command: help that teaches, wrong usage refused before any change, JSON alone on stdout, and no start-up cost
// that a quick command does not need.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Status } from '../../agent/boot/verdict/status.ts';
import { commands } from '../../agent/cli/commands.ts';
import { EXECUTABLE, eniboot } from './executable.ts';

const root = join(import.meta.dirname, '../..');
const names = commands.map((command) => command.name);
/** Operands that a command needs before its options are read. */
const operands: Record<string, string[]> = {
  eni: ['sweep'],
  config: ['check'],
  trace: ['pod'],
  rollout: ['status'],
  bundle: ['list'],
  image: ['check'],
};

test('the overview names every command and the exit codes; no command is wrong usage', async () => {
  const asked = await eniboot(['--help']);
  assert.is(asked.code, 0);
  for (const { name, summary } of commands)
    assert.match(asked.out, new RegExp(`^  ${name} +${escape(summary)}$`, 'm'));
  assert.match(asked.out, /Exit codes: /);
  const bare = await eniboot([]);
  assert.is(bare.code, 2);
  assert.is(bare.out, asked.out);
  assert.is((await eniboot(['--version'])).out, (await eniboot(['version'])).out);
});

test('every --help has usage, every option, exit codes, and fits a terminal', async () => {
  for (const name of names) {
    const { code, out, err } = await eniboot([name, '--help']);
    assert.is(code, 0, name);
    assert.is(err, '');
    assert.match(out, new RegExp(`^Usage: eniboot ${name}\\b`));
    assert.match(out, /^Exit codes:\s+0 /m, name);
    assert.match(out, /\b2 +wrong usage/, name);
    for (const line of out.split('\n'))
      assert.ok(line.length <= 128, `${name}: ${line.length} characters: ${line}`);
    for (const option of optionsOf(name))
      assert.match(out, `--${option}`, `${name} --help is silent about --${option}`);
    assert.is((await eniboot(['help', name])).out, out);
    assert.is((await eniboot([name, '--nonsense', '-h'])).out, out, 'help comes before a mistake');
    const entry = commands.find((command) => command.name === name);
    assert.is((await entry?.load())?.help, out);
  }
});

test('a mistyped command or option is refused with a suggestion, on stderr, exit 2', async () => {
  for (const [typed, meant] of [
    ['bot', 'boot'],
    ['stauts', 'status'],
    ['suport-bundle', 'support-bundle'],
    ['iam_policy', 'iam-policy'],
  ] as const) {
    const { code, out, err } = await eniboot([typed]);
    assert.is(code, 2);
    assert.is(out, '');
    assert.match(err, `no command ${typed}; did you mean ${meant}?`);
  }
  assert.not.match((await eniboot(['xyzzy'])).err, 'did you mean');
  for (const name of names) {
    const { code, out, err } = await eniboot([name, ...(operands[name] ?? []), '--jsn']);
    assert.is(code, 2, name);
    assert.is(out, '', name);
    assert.match(err, /Unknown option '--jsn'; did you mean --json\?/, name);
  }
});

test('an extra argument, and an option without its value, are refused, exit 2', async () => {
  // config and rollout take any number of files.
  for (const name of names.filter((one) => one !== 'config' && one !== 'rollout')) {
    const { code, out, err } = await eniboot([name, ...(operands[name] ?? []), 'one', 'two', 'three']);
    assert.is(code, 2, name);
    assert.is(out, '');
    assert.match(err, /unexpected argument|no one;|no policy one/, name);
  }
  for (const args of [
    ['eni', 'sweep', '--max'],
    ['eni', 'sweep', '--max', '0'],
    ['eni', 'sweep', '--min-age', '1h'],
    ['iam-policy', '--account', '12'],
    ['trace', 'pod', '--to', 'nowhere'],
  ]) {
    const { code, err } = await eniboot(args);
    assert.is(code, 2, args.join(' '));
    assert.match(err, 'USAGE');
  }
});

test('an empty value is refused wherever it stands: a script gives it for a variable that is not set', async () => {
  for (const [said, ...args] of [
    ['--cluster is empty', 'eni', 'sweep', '--cluster', ''],
    ['--region is empty', 'bundle', 'list', '--region='],
    ['--region is empty', 'rollout', 'status', '--cluster', 'demo', '--region', ''],
    ['--output is empty', 'support-bundle', '--output='],
    ['--kms-key is empty', 'iam-policy', 'image', '--kms-key', ''],
    ['--cluster is empty', 'config', 'import', 'x', '--cluster', ''],
    ['an argument is empty', 'trace', ''],
    ['an argument is empty', 'config', 'check', ''],
  ]) {
    // With a region: the refusal comes before any call.
    const { code, err } = await eniboot(args, { env: { AWS_REGION: 'eu-west-1' } });
    assert.is(code, 2, `${args.join(' ')}: ${err}`);
    assert.match(err, said ?? '');
  }
});

test('a missing or mistyped verb, another verb’s option and a malformed value are refused with the right form', async () => {
  for (const [args, said] of [
    [['bundle'], 'what to do is missing: build, publish, list'],
    [['rollout', '--json'], 'what to do is missing: plan, run, watch'],
    [['eni', 'swep'], 'no swep; did you mean sweep?'],
    [['config', 'chek', 'x.yaml'], 'no chek; did you mean check?'],
    [['pool', 'colect'], 'no colect; did you mean collect?'],
    [['image', 'xyzzy'], 'no xyzzy; there are check, boot-test'],
    [['rollout', 'run', 'x.yaml', '--cluster', 'prod'], 'run: --cluster is for watch, status, verify, halt'],
    [['bundle', 'list', '--out', 'x'], 'list: --out is for build'],
    [['image', 'promote', 'ami-01234567', '--at', '2030-01-01'], 'promote: --at is for deprecate'],
    [['image', 'rollback', '--zone', 'euw1-az1', '--arch', 'x86'], '--arch x86 is not x86_64 or arm64'],
    [['iam-policy', '--account', '12'], '--account 12 is not 12 digits'],
    [['update', '--version', '1.0.0', '--digests', 'x'], '--digests x is not a SHA-256'],
  ] as const) {
    const { code, err } = await eniboot([...args]);
    assert.is(code, 2, args.join(' '));
    assert.match(err, said);
  }
});

test('with --json a refusal is one object on stdout too, with code, message and remedy', async () => {
  const refusals = [
    ['nonsense', '--json'],
    ...names.map((name) => [name, ...(operands[name] ?? []), '--nonsense', '--json']),
  ];
  for (const args of refusals) {
    const { code, out } = await eniboot(args);
    assert.is(code, 2, args.join(' '));
    const { failure } = oneObject(out) as { failure: { code: string; message: string; remedy: string } };
    assert.is(failure.code, 'USAGE');
    assert.ok(failure.message.length > 0 && failure.remedy.length > 0);
  }
});

test("commands that change the machine or read root's files need root and tell so", async () => {
  const changing = [['boot'], ['repair'], ['support-bundle'], ['pool', 'refill'], ['pool', 'collect']];
  const update = ['--version', '1.2.3', '--digests', '0'.repeat(64)];
  const reading = [['check'], ['plan'], ['pool'], ['pods'], ['enis'], ['trace', 'pod']];
  for (const args of [...changing, ...reading, ['update']]) {
    const more = args[0] === 'update' ? update : [];
    // This namespace maps no user: the executable does not run as root.
    const result = spawnSync('unshare', ['--user', EXECUTABLE, ...args, ...more, '--json'], {
      encoding: 'utf8',
    });
    assert.is(result.status, 1, `${args.join(' ')}: ${result.stderr}`);
    assert.is((oneObject(result.stdout) as { failure: { code: string } }).failure.code, 'NOT_ROOT');
    assert.match(result.stderr, `eniboot ${args.join(' ').replace('trace pod', 'trace')} needs root`);
  }
});

test('output is coloured on terminals only, and not with NO_COLOR', async () => {
  mkdirSync('/run/eniboot', { recursive: true });
  writeFileSync('/run/eniboot/status.json', JSON.stringify(failedStatus));
  const piped = await eniboot(['status']);
  assert.is(piped.code, 1);
  assert.match(piped.out, 'FAILED SUBNETS_FULL');
  assert.not.match(piped.out, '\u001b');
  assert.match(onTerminal({}), '\u001b[31m');
  assert.not.match(onTerminal({ NO_COLOR: '1' }), '\u001b');
  assert.match(onTerminal({ NO_COLOR: '' }), '\u001b[31m');
});

test('status tells the remaining time of a running boot, and that a boot past its deadline was ended', async () => {
  mkdirSync('/run/eniboot', { recursive: true });
  const { failure: _, ...rest } = failedStatus;
  writeFileSync(
    '/run/eniboot/status.json',
    JSON.stringify({ ...rest, verdict: 'booting', remainingSeconds: 100 }),
  );
  for (const [age, said] of [
    [0, /^eniboot: booting, (100|9\d) s left$/m],
    [60, /^eniboot: booting, (40|3\d) s left$/m],
    [105, /^eniboot: booting, 0 s left$/m],
    [400, /^eniboot: booting, but its time was over 30\d s ago: .*systemctl status eniboot/m],
  ] as const) {
    const written = Date.now() / 1000 - age;
    utimesSync('/run/eniboot/status.json', written, written);
    const { code, out } = await eniboot(['status']);
    assert.is(code, 3);
    assert.match(out, said);
  }
});

test('a reader that closes its end is no failure; a full disk behind stdout is a failure with a code', async () => {
  const pager = shell('"$0" config schema | head -c 1; echo ":${PIPESTATUS[0]}"');
  assert.is(pager.stdout, '{:0\n');
  assert.is(pager.stderr, '');
  const full = shell('"$0" config schema > /dev/full');
  assert.is(full.status, 1);
  assert.match(full.stderr, 'FILE_WRITE: standard output: ENOSPC');
  assert.is(shell('"$0" version > /dev/full 2> /dev/full').status, 1);
  // Neither the overview nor the object of a refusal fails when it cannot be written.
  for (const [args, code, said] of [
    ['--help', 1, /^eniboot: FILE_WRITE: standard output: ENOSPC.*\n  what to do: .*\n$/],
    ['boto --json', 2, /^eniboot: USAGE: no command boto.*\n  what to do: .*\n$/],
  ] as const) {
    const { status, stderr } = shell(`"$0" ${args} > /dev/full`);
    assert.is(status, code, stderr);
    assert.match(stderr, said);
  }
});

test('quick commands load neither the AWS SDK nor any other large module', async () => {
  const heavy = /node_modules\/(@aws-sdk|@smithy|winston|execa|yaml|valibot|systeminformation)\//;
  const hook = join('/run', 'record.mjs');
  writeFileSync(
    hook,
    `import { registerHooks } from 'node:module';
registerHooks({ load(url, context, next) { process.stderr.write('LOADED ' + url + '\\n'); return next(url, context); } });
`,
  );
  const loadedBy = (args: string[]) => {
    const result = spawnSync(process.execPath, ['--import', hook, 'agent/main.ts', ...args], {
      cwd: root,
      encoding: 'utf8',
    });
    const loaded = [...result.stderr.matchAll(/^LOADED (.*)$/gm)].map((match) => match[1] ?? '');
    assert.ok(
      loaded.some((url) => url.endsWith('agent/main.ts')),
      result.stderr,
    );
    return [...new Set(loaded.flatMap((url) => heavy.exec(url)?.[1] ?? []))];
  };
  for (const args of [['status'], ['version'], ['--help'], ['capacity', 'm5.large'], ['iam-policy']])
    assert.equal(loadedBy(args), [], args.join(' '));
  // This proves the check: a command that calls EC2 does load the SDK.
  assert.ok(loadedBy(['eni', 'sweep', '--region', 'x']).some((name) => name === '@aws-sdk'));
  const { ms } = await eniboot(['version']);
  assert.ok(ms < 2_000, `${ms} ms`);
});

/** Options that a command's source declares, in a file or a folder of its name. */
function optionsOf(name: string): string[] {
  const folder = join(root, 'agent/cli', name);
  const files = existsSync(folder) ? readdirSync(folder).map((file) => join(folder, file)) : [`${folder}.ts`];
  const source = files.map((file) => readFileSync(file, 'utf8')).join('\n');
  return [...source.matchAll(/'?([a-z][a-z0-9-]*)'?: \{ type: '(?:boolean|string)'/g)].map(
    (match) => match[1] ?? '',
  );
}

function oneObject(text: string): unknown {
  assert.is(text.trim().split('\n').length, 1, `not one line: ${text}`);
  const value: unknown = JSON.parse(text);
  assert.type(value, 'object');
  return value;
}

function onTerminal(env: Record<string, string>): string {
  const result = spawnSync(
    'script',
    ['--quiet', '--return', '--command', `${EXECUTABLE} status`, '/dev/null'],
    {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'] ?? '', ...env },
    },
  );
  assert.is(result.status, 1, result.stderr);
  return result.stdout;
}

function shell(script: string) {
  return spawnSync('bash', ['-c', script, EXECUTABLE], { encoding: 'utf8' });
}

function escape(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
}

const failedStatus = {
  schema: 1,
  verdict: 'failed',
  degraded: [],
  failure: { code: 'SUBNETS_FULL', phase: 'attach', message: 'no room', remedy: 'make room', facts: {} },
  version: '1.0.0',
  commit: 'unknown',
  bootId: '',
  attempts: 1,
  startedAt: '2030-01-01T00:00:00Z',
  finishedAt: '2030-01-01T00:00:09Z',
  seconds: 9,
  remainingSeconds: 291,
  instance: undefined,
  bootEni: undefined,
  podEnis: [],
  capacity: undefined,
  phases: [],
  cloud: { imdsRequests: 0, ec2Calls: {}, ec2Mutating: 0, waitMs: 0 },
} satisfies Partial<Status>;

test.run();
