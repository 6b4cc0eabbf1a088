// time limit: 600 s
// The executables: the same commit gives the same bytes wherever it is built, and those of both CPUs run.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = join(import.meta.dirname, '../..');
const scratch = mkdtempSync(join(tmpdir(), 'eniboot-build-'));

/**
 * Builds the last commit in a new clone and returns the folder of the build. Not in this tree, since other tests run what is in
 * dist/ meanwhile.
 */
function buildClone(name: string, ...args: string[]): string {
  const clone = join(scratch, name);
  execFileSync('git', ['clone', '--quiet', root, clone]);
  symlinkSync(join(root, 'node_modules'), join(clone, 'node_modules'));
  execFileSync(process.execPath, ['agent/build/build.ts', ...args], {
    cwd: clone,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return join(clone, 'dist');
}

function digest(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

/** Builds under a umask that removes all rights of other users. */
function buildAnother(): string {
  const umask = process.umask(0o077);
  try {
    return buildClone('another', 'x64');
  } finally {
    process.umask(umask);
  }
}

const one = buildClone('one', '--no-bundle');
const another = buildAnother();

test('`eniboot bundle build` packs the very bundle of the build, licences included', () => {
  const from = join(another, 'x64');
  const out = join(scratch, 'packed.tar.gz');
  const pack = (path: string) =>
    spawnSync(join(from, 'eniboot'), ['bundle', 'build', '--from', from, '--out', out], {
      encoding: 'utf8',
      env: { PATH: path },
    });
  const bundle = readdirSync(another).find((name) => name.endsWith('-x64.tar.gz')) ?? '';
  // When tar fails, nothing is left.
  const bin = join(scratch, 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'tar'), '#!/bin/sh\nexit 2\n', { mode: 0o755 });
  const failed = pack(`${bin}:${process.env['PATH']}`);
  assert.is(failed.status, 1, failed.stdout);
  assert.match(failed.stderr, 'FILE_WRITE');
  assert.not.ok(existsSync(out) || existsSync(`${out}.tmp`));
  const packed = pack(process.env['PATH'] ?? '');
  assert.is(packed.status, 0, packed.stderr);
  assert.is(digest(out), digest(join(another, bundle)));
  const members = execFileSync('tar', ['--list', '--gzip', '--file', out]).toString().split('\n');
  assert.equal(members, ['LICENSE', 'NOTICE', 'eniboot', 'manifest.json', '']);
});

test('a second clone in another folder, with another umask, gives the same bytes', () => {
  for (const path of ['x64/eniboot', 'node-files.tar'])
    assert.is(digest(join(another, path)), digest(join(one, path)), path);
});

test('the bundle and what is in dist/ are the same under any umask, and all users can read them', () => {
  const built = join(one, 'x64');
  const packed = (umask: number): string => {
    const before = process.umask(umask);
    try {
      const folder = join(scratch, `files-${umask}`);
      mkdirSync(folder);
      // With the modes that a copy or a checkout under that umask has.
      for (const name of ['LICENSE', 'NOTICE'])
        writeFileSync(join(folder, name), readFileSync(join(built, name)));
      // What is packed does not matter here, and the executable takes six seconds of processor to compress.
      const script = join(folder, 'eniboot');
      writeFileSync(script, '#!/bin/sh\n', { mode: 0o777 });
      const files = [{ path: 'eniboot', sha256: digest(script) }];
      writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ version: '1.0.0', files }));
      const out = join(scratch, `packed-${umask}.tar.gz`);
      const { status, stderr } = spawnSync(
        join(built, 'eniboot'),
        ['bundle', 'build', '--from', folder, '--out', out],
        { encoding: 'utf8' },
      );
      assert.is(status, 0, stderr);
      return out;
    } finally {
      process.umask(before);
    }
  };
  const usual = packed(0o022);
  const listed = execFileSync('tar', ['--list', '--verbose', '--gzip', '--file', usual], {
    encoding: 'utf8',
  });
  assert.equal(
    listed.match(/^\S+ \S+/gm),
    ['-rw-r--r-- 0/0', '-rw-r--r-- 0/0', '-rwxr-xr-x 0/0', '-rw-r--r-- 0/0'],
    listed,
  );
  for (const umask of [0o077, 0o002]) assert.is(digest(packed(umask)), digest(usual), umask.toString(8));
  for (const name of ['x64/manifest.json', 'x64/eniboot', 'manifest.json', 'node-files.tar'])
    assert.is(statSync(join(another, name)).mode & 0o044, 0o044, name);
});

test('the node files are those of systemd/, readable by all, with their links and programs', () => {
  const listed = execFileSync('tar', ['--list', '--verbose', '--file', join(one, 'node-files.tar')], {
    encoding: 'utf8',
  });
  assert.match(listed, /^-rw-r--r-- 0\/0 .* usr\/lib\/systemd\/system\/eniboot\.service$/m);
  assert.match(listed, /^-rwxr-xr-x 0\/0 .* usr\/lib\/udev\/eniboot-nic-order$/m);
  assert.match(listed, /^l\S+ 0\/0 .* etc\/systemd\/system\/nm-cloud-setup\.timer -> \/dev\/null$/m);
  const inTree = execFileSync('git', ['ls-files', 'etc', 'usr'], {
    cwd: join(root, 'systemd'),
    encoding: 'utf8',
  });
  const names = listed.match(/^[-l].* 1970-01-01 \S+ (\S+)/gm) ?? [];
  assert.is(names.length, inTree.trim().split('\n').length);
});

for (const arch of ['x64', 'arm64']) {
  test(`${arch}: at most 125 MB, and the manifest has its digest`, () => {
    const path = join(one, arch, 'eniboot');
    assert.ok(statSync(path).size <= 125e6, `${statSync(path).size} bytes`);
    const manifest = JSON.parse(readFileSync(join(one, arch, 'manifest.json'), 'utf8')) as {
      files: { path: string; sha256: string }[];
      arch: string;
    };
    assert.is(manifest.arch, arch);
    assert.equal(manifest.files, [{ path: 'eniboot', sha256: digest(path) }]);
  });
}

test('the dist manifest names every file with its digest', () => {
  const { files } = JSON.parse(readFileSync(join(one, 'manifest.json'), 'utf8')) as {
    files: Record<string, { sha256: string }>;
  };
  assert.equal(Object.keys(files).sort(), [
    'arm64/eniboot',
    'arm64/manifest.json',
    'node-files.tar',
    'x64/eniboot',
    'x64/manifest.json',
  ]);
  for (const [path, { sha256 }] of Object.entries(files)) assert.is(digest(join(one, path)), sha256);
});

test('neither a .env nor a bunfig.toml in the working directory reaches it', () => {
  execFileSync('sh', [
    '-c',
    `cd "$0" && echo 'NODE_OPTIONS=--boom' > .env && echo 'preload = ["./evil.js"]' > bunfig.toml && echo 'console.log("evil")' > evil.js`,
    scratch,
  ]);
  const result = spawnSync(join(one, 'x64/eniboot'), ['version'], { cwd: scratch, encoding: 'utf8' });
  assert.is(result.status, 0);
  assert.match(result.stdout, /^eniboot \d+\.\d+\.\d+ \([0-9a-f]{40}\)\n$/);
});

const emulator = ['/usr/bin/qemu-aarch64', '/usr/bin/qemu-aarch64-static'].find((path) => existsSync(path));
const emulated = emulator === undefined || !existsSync('/usr/aarch64-linux-gnu') ? test.skip : test;
emulated('the arm64 executable runs (under emulation: no arm64 machine is at hand)', () => {
  const result = spawnSync(
    emulator ?? '',
    ['-L', '/usr/aarch64-linux-gnu', join(one, 'arm64/eniboot'), 'capacity', 'm7g.large', '--json'],
    { encoding: 'utf8', timeout: 120_000 },
  );
  assert.is(result.status, 0, result.stderr);
  assert.is((JSON.parse(result.stdout) as { type: string }).type, 'm7g.large');
});

test('what was changed and is in no commit is not called that commit', () => {
  const clone = join(scratch, 'one');
  const changed = join(clone, 'systemd/usr/lib/systemd/system/eniboot.service');
  writeFileSync(changed, `${readFileSync(changed, 'utf8')}# changed\n`);
  execFileSync(process.execPath, ['agent/build/build.ts', '--no-bundle', 'x64'], {
    cwd: clone,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const { commit } = JSON.parse(readFileSync(join(one, 'manifest.json'), 'utf8')) as { commit: string };
  assert.match(commit, /^[0-9a-f]{40}\+changes$/);
});

test.after(() => rmSync(scratch, { recursive: true, force: true }));
test.run();
