// Packer itself and its Amazon plugin, built from the Go module proxy and kept between runs. Debian's Packer is too old for plugins,
// and the proxy is the only source that every machine of the tests can reach.
//   node test/packer/fetch.ts   builds missing tools (minutes the first time; Go fetches the toolchain that it needs)
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { goCommand } from '../go.ts';

export const PACKER = { module: 'github.com/hashicorp/packer', version: 'v1.16.0', go: '1.26.3' };
export const AMAZON_PLUGIN = {
  module: 'github.com/hashicorp/packer-plugin-amazon',
  version: 'v1.8.2',
  go: '1.25.11',
};
/** Both require a fork of a library. `go install MODULE@VERSION` ignores a replace directive, a module of our own does not. */
const REPLACE = 'github.com/zclconf/go-cty => github.com/nywilken/go-cty v1.13.3';

const contents = createHash('sha256')
  .update(JSON.stringify([PACKER, AMAZON_PLUGIN, REPLACE]))
  .digest('hex');
const folder = cacheFolder('packer', contents.slice(0, 12));

export interface PackerTools {
  /** Path of the executable. */
  packer: string;
  /** The folder for PACKER_PLUGIN_PATH, in which the Amazon plugin is installed. */
  plugins: string;
}

/** undefined when they have not been built. */
export function packerTools(): PackerTools | undefined {
  return existsSync(folder)
    ? { packer: join(folder, 'packer'), plugins: join(folder, 'plugins') }
    : undefined;
}

/** Builds missing tools. @throws when that fails. */
export function ensurePackerTools(): PackerTools {
  const found = packerTools();
  if (found !== undefined) return found;
  const go = goCommand();
  if (go === undefined) throw new Error('Packer was not built: Go is not installed');
  mkdirSync(join(folder, '..'), { recursive: true });
  // Built in a folder beside it and renamed as a whole: what is in the folder is complete.
  const work = mkdtempSync(join(folder, '..', '.build-'));
  try {
    for (const [name, tool] of Object.entries({ packer: PACKER, 'packer-plugin-amazon': AMAZON_PLUGIN }))
      compile(go, work, name, tool);
    const { packer, plugins } = { packer: join(work, 'packer'), plugins: join(work, 'plugins') };
    run(
      packer,
      [
        'plugins',
        'install',
        '--path',
        join(work, 'packer-plugin-amazon'),
        AMAZON_PLUGIN.module.replace('packer-plugin-', ''),
      ],
      work,
      {
        PACKER_PLUGIN_PATH: plugins,
      },
    );
    rmSync(join(work, 'packer-plugin-amazon'));
    renameSync(work, folder);
    return { packer: join(folder, 'packer'), plugins: join(folder, 'plugins') };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function compile(go: string, work: string, name: string, tool: typeof PACKER): void {
  const source = join(work, `source-${name}`);
  mkdirSync(source);
  writeFileSync(
    join(source, 'go.mod'),
    `module eniboot/${name}\n\ngo ${tool.go}\n\nrequire ${tool.module} ${tool.version}\n\nreplace ${REPLACE}\n`,
  );
  writeFileSync(join(source, 'main.go'), `package tools\n\nimport _ "${tool.module}"\n`);
  const flags = { CGO_ENABLED: '0', GOFLAGS: '-mod=mod', GOTOOLCHAIN: 'auto' };
  run(go, ['build', '-trimpath', '-ldflags=-s -w', '-o', join(work, name), tool.module], source, flags);
  rmSync(source, { recursive: true, force: true });
}

function run(file: string, args: string[], cwd: string, env: Record<string, string>): void {
  const result = spawnSync(file, args, { cwd, env: { ...process.env, ...env }, encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${file} ${args.join(' ')}: ${result.stderr}${result.stdout}`);
}

if (process.argv[1] === import.meta.filename) process.stdout.write(`${ensurePackerTools().packer}\n`);
