// time limit: 600 s
// The executables: the same commit gives the same bytes wherever it is built, and both CPUs' run.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = join(import.meta.dirname, '../..');
const scratch = mkdtempSync(join(tmpdir(), 'eniboot-build-'));

/** Builds the last commit in a clone of its own and returns the folder it went to. */
function buildClone(name: string, ...args: string[]): string {
  const clone = join(scratch, name);
  execFileSync('git', ['clone', '--quiet', root, clone]);
  symlinkSync(join(root, 'node_modules'), join(clone, 'node_modules'));
  execFileSync(process.execPath, ['agent/build/build.ts', '--no-bundle', ...args], {
    cwd: clone,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return join(clone, 'dist');
}

function digest(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

const one = buildClone('one');

test('a second clone in another folder gives the same bytes', () => {
  const other = buildClone('another', 'x64');
  assert.is(digest(join(other, 'x64/eniboot')), digest(join(one, 'x64/eniboot')));
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

test.after(() => rmSync(scratch, { recursive: true, force: true }));
test.run();
