// Programs of the CNI project, built from the Go module proxy and kept between runs: cnitool, which is the real libcni, and
// reference plugins to chain with eniboot's and to compare with in measurements.
//   node test/cni/fetch.ts      builds missing programs (needs Go and, the first time, the network)
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { goCommand } from '../go.ts';

const modules = [
  { module: 'github.com/containernetworking/cni', version: 'v1.3.0', programs: ['cnitool'] },
  {
    module: 'github.com/containernetworking/plugins',
    version: 'v1.7.1',
    programs: [
      'plugins/main/ptp',
      'plugins/main/ipvlan',
      'plugins/main/macvlan',
      'plugins/ipam/host-local',
      'plugins/meta/portmap',
      'plugins/meta/tuning',
      'plugins/meta/sbr',
      'plugins/meta/firewall',
      'plugins/meta/bandwidth',
    ],
  },
];

/** Folder with all the programs; undefined when they have not been built. */
export function goTools(): string | undefined {
  const folder = folderOf();
  return existsSync(folder) ? folder : undefined;
}

/** The reason that tests print when the programs are missing. */
export const withoutGoTools = 'the Go tools are not built: node test/cni/fetch.ts (needs Go 1.23 or newer)';

function folderOf(): string {
  const contents = createHash('sha256').update(JSON.stringify(modules)).digest('hex').slice(0, 12);
  return cacheFolder('go', contents);
}

/** Built in a temporary folder and renamed as a whole: what is in the folder is complete. */
function build(): string | undefined {
  const folder = folderOf();
  if (existsSync(folder)) return undefined;
  const go = goCommand();
  if (go === undefined) return 'Go is not installed';
  mkdirSync(join(folder, '..'), { recursive: true });
  const work = mkdtempSync(join(folder, '..', '.build-'));
  for (const { module, version, programs } of modules) {
    const packages = programs.map((program) => `${module}/${program}@${version}`);
    // Go checks the sources against its checksum database, as always with `go install`.
    const result = spawnSync(go, ['install', '-trimpath', '-ldflags=-s -w', ...packages], {
      env: { ...process.env, GOBIN: work, CGO_ENABLED: '0', GOFLAGS: '-mod=mod' },
      encoding: 'utf8',
    });
    if (result.status !== 0) {
      rmSync(work, { recursive: true, force: true });
      return `${packages.join(' ')}: ${result.stderr}`;
    }
  }
  renameSync(work, folder);
  return undefined;
}

/** Builds missing programs, which takes minutes the first time. @throws when that fails. */
export function ensureGoTools(): string {
  const problem = build();
  if (problem !== undefined) throw new Error(`the Go tools were not built: ${problem}`);
  return folderOf();
}

if (process.argv[1] === import.meta.filename) {
  const problem = build();
  process.stdout.write(problem === undefined ? `${folderOf()}\n` : `not built: ${problem}\n`);
}
