// The runtime for another CPU. npm does not install it on this CPU, so npm's own client takes it from the registry, and it is
// checked against the lock file before it is used.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from './cache.ts';

interface Lock {
  packages: Record<string, { version: string; integrity?: string } | undefined>;
}

/** The runtime that is compiled into the executable, by CPU. */
export const runtimes = { x64: '@oven/bun-linux-x64', arm64: '@oven/bun-linux-aarch64' } as const;

/** Folder of an unpacked package: in node_modules when npm has installed it, else in the cache. */
export async function fetchPackage(name: string, root: string): Promise<string> {
  const installed = join(root, 'node_modules', name);
  if (existsSync(join(installed, 'package.json'))) return installed;
  const version = lockedVersion(name, root);
  const integrity = readLock(root).packages[`node_modules/${name}`]?.integrity;
  if (integrity === undefined) throw new Error(`${name} has no integrity in package-lock.json`);
  const cache = cacheFolder('npm');
  const folder = join(cache, `${name.replace('/', '-')}-${version}`);
  if (existsSync(join(folder, 'package.json'))) return folder;
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, '.unpacking-'));
  try {
    const packed = execFileSync(
      'npm',
      ['pack', '--silent', '--pack-destination', work, `${name}@${version}`],
      { cwd: work },
    )
      .toString()
      .trim();
    const tarball = join(work, packed.split('\n').at(-1) ?? '');
    const actual = `sha512-${createHash('sha512').update(readFileSync(tarball)).digest('base64')}`;
    if (actual !== integrity)
      throw new Error(`${name}@${version} is not what package-lock.json says: ${actual}`);
    execFileSync('tar', ['--extract', '--gzip', '--file', tarball, '--directory', work]);
    renameSync(join(work, 'package'), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

export function lockedVersion(name: string, root: string): string {
  const version = readLock(root).packages[`node_modules/${name}`]?.version;
  if (version === undefined) throw new Error(`${name} is not in package-lock.json`);
  return version;
}

function readLock(root: string): Lock {
  return JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Lock;
}
