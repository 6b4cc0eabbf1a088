// The executable that tests, benchmarks and the demo run: built from what is checked out, in the form that ships.
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { buildStandIn } from './stand-in.ts';
import { remember, whenChanged } from './when-changed.ts';

const root = join(import.meta.dirname, '../..');
type Arch = 'x64' | 'arm64';
const own: Arch = process.arch === 'arm64' ? 'arm64' : 'x64';

/** The inputs of build.ts, without the commit by which the executable names itself. */
const inputs = ['agent', 'cni', 'systemd', 'package.json', 'package-lock.json', 'LICENSE', 'NOTICE'];

/**
 * Builds the executable for this CPU, or another, without a bundle, unless it is up to date; for this CPU also the one for
 * kernels without ipvlan, which simulated nodes of pods run. Returns its path.
 */
export function buildExecutable(arch: Arch = own): string {
  if (arch === own) buildStandIn();
  whenChanged(executable(arch), () => build('--no-bundle', arch));
  return join(root, 'dist', arch, 'eniboot');
}

/** Builds the executables and bundles of both CPUs in any case. */
export function buildBundles(): void {
  build();
  for (const arch of ['x64', 'arm64'] as const) remember(executable(arch));
}

function executable(arch: Arch) {
  const outputs = [`dist/${arch}/eniboot`, `dist/${arch}/manifest.json`, 'dist/node-files.tar'];
  return { root, name: arch, inputs, also: commit(), outputs };
}

function build(...args: string[]): void {
  execFileSync(process.execPath, [join(root, 'agent/build/build.ts'), ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

/** The commit as build.ts sees it, which marks changed sources. Empty without git. */
function commit(): string {
  const git = (...args: string[]) => spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout ?? '';
  return `${git('rev-parse', 'HEAD')}${git('status', '--porcelain', '--', ...inputs, 'packer')}`;
}
