// The executable that tests, benchmarks and the demo run: as it ships, of what is checked out.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

const root = join(import.meta.dirname, '../..');
const own = process.arch === 'arm64' ? 'arm64' : 'x64';

/** Builds it for this CPU, or another, without a bundle; its path. */
export function buildExecutable(arch: 'x64' | 'arm64' = own): string {
  execFileSync(process.execPath, [join(root, 'agent/build/build.ts'), '--no-bundle', arch], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return join(root, 'dist', arch, 'eniboot');
}
