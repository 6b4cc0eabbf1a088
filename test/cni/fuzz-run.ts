// Runs a part of the fuzz test (fuzz-worker.ts). The caller runs in a sandbox and has called prepare().
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fetchPackage, runtimes } from '../../agent/build/npm-package.ts';
import type { Tally } from './fuzz.ts';

const root = join(import.meta.dirname, '../..');

/** @throws with the seed and the smallest input with a wrong answer. */
export async function fuzz(
  part: 'calls' | 'state' | 'processes',
  count: number,
  seed: number,
): Promise<Tally> {
  const name = process.arch === 'arm64' ? runtimes.arm64 : runtimes.x64;
  const runtime = join(await fetchPackage(name, root), 'bin/bun');
  const worker = join(import.meta.dirname, 'fuzz-worker.ts');
  const { status, stdout, stderr, error } = spawnSync(runtime, [worker, part, `${count}`, `${seed}`], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  if (status !== 0) throw new Error(error?.message ?? stderr);
  return JSON.parse(stdout) as Tally;
}
