// `npm run build`: one self-contained executable for each CPU, its manifest, the bundle and the digests. The same commit gives
// the same bytes: the result depends neither on the time nor on the machine.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { LICENCES } from '../boot/version/unpack.ts';
import { NODE_TABLES } from '../host/names.ts';
import { packBundle } from '../rollout/releases.ts';
import { fetchPackage, lockedVersion, runtimes } from './npm-package.ts';

const root = join(import.meta.dirname, '../..');
const dist = join(root, 'dist');
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };

const targets = {
  x64: { bun: runtimes.x64, target: 'bun-linux-x64' },
  arm64: { bun: runtimes.arm64, target: 'bun-linux-arm64' },
} as const;
type Arch = keyof typeof targets;

/** Names in /opt/cni/bin, all links to the executable. */
const plugins = ['eniboot', 'eniboot-ipam', 'eniboot-ptp', 'eniboot-policy'];

// Files in dist/ get the same modes as in the image, whatever the umask of the user; tar sets the modes in archives itself.
process.umask(0o022);

const asked = process.argv.slice(2).filter((word) => word !== '--no-bundle');
if (process.argv.includes('--help') || asked.some((word) => !(word in targets))) {
  process.stdout.write(
    'Usage: npm run build [-- [--no-bundle] [x64] [arm64]]\nBuilds dist/<arch>/eniboot, its manifest and bundle (dist/eniboot-<version>-<arch>.tar.gz); both CPUs by default.\n',
  );
  process.exit(process.argv.includes('--help') ? 0 : 2);
}
const withBundle = !process.argv.includes('--no-bundle');
const archs = asked.length === 0 ? (Object.keys(targets) as Arch[]) : (asked as Arch[]);

/** All sources of an image. Of packer/ only some files: operators keep their pins there too. */
const sources = [
  ...['agent', 'cni', 'systemd', 'package.json', 'package-lock.json', 'LICENSE', 'NOTICE'],
  ...['packer/scripts', 'packer/eniboot.pkr.hcl', 'packer/variables.pkr.hcl'],
];
const changed = git('status', '--porcelain', '--', ...sources) !== '';
const commit = `${git('rev-parse', 'HEAD') ?? 'unknown'}${changed ? '+changes' : ''}`;
const compiler = await fetchPackage(targets[process.arch as Arch].bun, root);
bun(root, ['run', 'agent/build/check-runtime.ts']);

const defines = [
  `--define=ENIBOOT_VERSION=${JSON.stringify(version)}`,
  `--define=ENIBOOT_COMMIT=${JSON.stringify(commit)}`,
];

const digests: Record<string, { sha256: string; bytes: number }> = {};
for (const arch of archs) await build(arch);
packNodeFiles();
writeFileSync(
  join(dist, 'manifest.json'),
  `${JSON.stringify({ version, commit, files: digests }, null, 2)}\n`,
);

async function build(arch: Arch): Promise<void> {
  // Built in a folder of its own and moved by a rename: a process that runs the old executable meanwhile keeps it whole.
  const folder = join(dist, `.${arch}.${process.pid}`);
  mkdirSync(folder, { recursive: true });
  const base = await fetchPackage(targets[arch].bun, root);
  const executable = join(folder, 'eniboot');
  const source = join(folder, 'source');
  stageSource(source);
  bun(source, [
    'build',
    'agent/main.ts',
    '--compile',
    '--bytecode',
    '--splitting',
    '--format=esm',
    '--minify',
    // The source map is embedded, and read only for a stack trace, which then names files and lines of the source.
    '--sourcemap=linked',
    // A CNI call ends before compiled code is worth its cost; the agent asks for another policy when it starts (port/runtime.ts).
    '--compile-jit-policy=1000',
    `--target=${targets[arch].target}`,
    `--compile-executable-path=${join(base, 'bin/bun')}`,
    // A root process must not read a .env or bunfig.toml in its working directory.
    '--no-compile-autoload-dotenv',
    '--no-compile-autoload-bunfig',
    ...defines,
    `--outfile=${executable}`,
  ]);
  rmSync(source, { recursive: true });
  for (const name of readdirSync(folder)) if (name.endsWith('.map')) rmSync(join(folder, name));
  chmodSync(executable, 0o755);
  const sha256 = digestOf(executable);
  writeFileSync(
    join(folder, 'manifest.json'),
    `${JSON.stringify({ version, commit, arch, runtime: `bun ${lockedVersion(targets[arch].bun, root)}`, files: [{ path: 'eniboot', sha256 }], plugins, tables: NODE_TABLES }, null, 2)}\n`,
  );
  for (const notice of LICENCES) writeFileSync(join(folder, notice), readFileSync(join(root, notice)));
  const bundle = join(dist, `eniboot-${version}-${arch}.tar.gz`);
  if (withBundle) await packBundle(folder, bundle);
  const place = join(dist, arch);
  rmSync(`${place}.old`, { recursive: true, force: true });
  if (existsSync(place)) renameSync(place, `${place}.old`);
  renameSync(folder, place);
  rmSync(`${place}.old`, { recursive: true, force: true });
  for (const [name, path] of [
    [`${arch}/eniboot`, join(place, 'eniboot')],
    [`${arch}/manifest.json`, join(place, 'manifest.json')],
    ...(withBundle ? ([[`eniboot-${version}-${arch}.tar.gz`, bundle]] as const) : []),
  ] as const) {
    digests[name] = { sha256: digestOf(path), bytes: statSync(path).size };
    process.stdout.write(
      `${digests[name].sha256}  dist/${name}  ${(digests[name].bytes / 1e6).toFixed(1)} MB\n`,
    );
  }
}

/** Packs the files of systemd/ for a node. Links stay links; modes are set, so that the umask of a checkout has no effect. */
function packNodeFiles(): void {
  const name = 'node-files.tar';
  const partial = join(dist, `.${name}.${process.pid}`);
  execFileSync('tar', [
    ...[
      '--create',
      '--sort=name',
      '--mtime=@0',
      '--owner=0',
      '--group=0',
      '--numeric-owner',
      '--format=ustar',
    ],
    ...['--mode=u=rwX,go=rX', '--file', partial, '--directory', join(root, 'systemd'), 'etc', 'usr'],
  ]);
  renameSync(partial, join(dist, name));
  digests[name] = { sha256: digestOf(join(dist, name)), bytes: statSync(join(dist, name)).size };
}

/**
 * Copies the sources, and a second time into plugin/ for the CNI plugin. With one copy, the bundler would make modules of their
 * own for what plugin and agent share, and each such module costs time at the start of every pod. A separate folder, since it
 * is no source.
 */
function stageSource(source: string): void {
  for (const folder of ['.', 'plugin']) {
    for (const name of ['agent', 'cni'])
      cpSync(join(root, name), join(source, folder, name), { recursive: true });
  }
  const main = join(source, 'agent/main.ts');
  const text = readFileSync(main, 'utf8');
  const changed = text.replace("'../cni/process.ts'", "'../plugin/cni/process.ts'");
  if (changed === text) throw new Error('agent/main.ts does not load cni/process.ts');
  writeFileSync(main, changed);
}

function bun(folder: string, args: string[]): void {
  execFileSync(join(compiler, 'bin/bun'), args, {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '' },
  });
}

function digestOf(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}

function git(...args: string[]): string | undefined {
  try {
    return execFileSync('git', args, { cwd: root, stdio: ['ignore', 'pipe', 'ignore'] })
      .toString()
      .trim();
  } catch {
    return undefined;
  }
}
