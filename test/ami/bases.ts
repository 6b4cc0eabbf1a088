// The bases of build instances, made outside the sandbox: a Debian with dnf under the name of Fedora 44, as a folder for namespaces or
// as a disk for VMs, with this run's layer and a stand-in for the kernel's package.
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import type { Bench } from '../vm/bench.ts';
import { ensureImage } from '../vm/image/image.ts';
import { layOver, namesOn, stage } from '../vm/layer.ts';
import { probeAccelerator } from '../vm/machine.ts';
import { must } from '../vm/must.ts';
import { patienceWith } from '../vm/prepare.ts';
import { makeRpm } from './hosts.ts';

export interface NamespaceBase {
  /** Path of the base. No run writes to it. */
  root: string;
  /** Path of the files that are laid over it for a build instance. */
  layer: string;
}

const packages = [
  ...['ca-certificates', 'curl', 'diffutils', 'dnf', 'gnupg', 'iproute2', 'kmod', 'openssh-server', 'procps'],
  ...['rpm', 'sudo', 'systemd', 'systemd-sysv', 'udev', 'util-linux'],
];
const options = [
  ...['--mode=root', '--variant=minbase', '--format=directory'],
  '--aptopt=Acquire::Check-Valid-Until "false"',
  ...['doc', 'man', 'locale'].map((name) => `--dpkgopt=path-exclude=/usr/share/${name}/*`),
  `--include=${packages.join(',')}`,
  // A base image has no host keys.
  '--customize-hook=rm -f "$1"/etc/ssh/ssh_host_*',
];
const standIns = join(import.meta.dirname, 'stand-ins');
/** Modules that `image check` asks for. */
const needed = [
  'ipvlan',
  'veth',
  'br_netfilter',
  'nf_conntrack',
  'nft_masq',
  'nft_nat',
  'nft_fib_inet',
  'nft_reject_inet',
  'nft_ct',
  'overlay',
];

export function makeNamespaceBase(work: string, shared: string, say: (line: string) => void): NamespaceBase {
  const layer = join(work, 'namespace-layer');
  for (const from of [shared, join(standIns, 'namespaces')]) cpSync(from, layer, { recursive: true });
  installKernelPackage(work, layer, '6.17.1', '300.fc44');
  const modules = join(layer, 'usr/lib/modules/6.17.1-300.fc44.x86_64');
  mkdirSync(modules, { recursive: true });
  const lines = needed.map((name) => `kernel/${name}.ko.xz:\n`);
  writeFileSync(join(modules, 'modules.dep'), lines.join(''));
  const root = ensureRoot(say);
  noteBaseFiles(layer, [root, layer]);
  return { root, layer };
}

/** For the stand-in `rpm`: files that a base image has below these folders belong to its packages, later files do not. */
const lookedAt = ['etc', 'root', 'var/lib'];

function noteBaseFiles(layer: string, roots: string[]): void {
  const files = roots.flatMap((root) =>
    lookedAt
      .filter((folder) => existsSync(join(root, folder)))
      .flatMap((folder) =>
        must(['find', join(root, folder), '!', '-type', 'd', '-printf', `/${folder}/%P\n`]).split('\n'),
      ),
  );
  const folder = join(layer, 'usr/local/share/stand-in');
  mkdirSync(folder, { recursive: true });
  writeFileSync(
    join(folder, 'base-files'),
    [...new Set(files)].filter(Boolean).sort().join('\n').concat('\n'),
  );
}

/** The root file system, made once (about a minute, needs the network and root). */
function ensureRoot(say: (line: string) => void): string {
  const digest = createHash('sha256').update(JSON.stringify(options)).digest('hex').slice(0, 12);
  const cache = cacheFolder('ami');
  const folder = join(cache, digest);
  if (existsSync(folder)) return folder;
  say('making the root of the build instance (once, about a minute)');
  mkdirSync(cache, { recursive: true });
  const work = mkdtempSync(join(cache, '.build-'));
  try {
    must(['mmdebstrap', ...options, 'trixie', join(work, 'root')], 900_000);
    renameSync(join(work, 'root'), folder);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return folder;
}

/** `root` of the result is the disk with the layer on it. */
export async function makeVmBase(work: string, shared: string, say: (line: string) => void): Promise<Bench> {
  const image = ensureImage('ami', say);
  const folder = join(work, 'vms');
  mkdirSync(folder);
  const layer = join(work, 'vm-layer');
  const [kernel = ''] = namesOn(image.root, '/usr/lib/modules');
  // Fedora's names of packages and kernels end with a dot and the CPU: this version does so, too.
  const [, version = '', release = ''] = /^(.*)-(\w+)-amd64$/.exec(kernel) ?? [];
  installKernelPackage(work, layer, version, release);
  const from = [join(import.meta.dirname, '../vm/node'), shared, join(standIns, 'vms'), layer];
  const dumped = join(work, 'vm-base');
  for (const one of lookedAt) {
    mkdirSync(join(dumped, dirname(one)), { recursive: true });
    must(['debugfs', '-R', `rdump /${one} ${join(dumped, dirname(one))}`, image.root]);
  }
  noteBaseFiles(layer, [dumped, ...from]);
  rmSync(dumped, { recursive: true });
  const staging = join(work, 'staging');
  stage(
    staging,
    from.map((one) => ({ from: one, to: '/' })),
    [{ path: `/usr/lib/modules/${version}-${release}.x86_64`, target: kernel }],
  );
  const root = join(folder, 'base.raw');
  layOver(image.root, root, staging);
  const { kernel: file, initrd } = image;
  const accelerator = await probeAccelerator(file);
  return { work: folder, root, kernel: file, initrd, accelerator, patience: patienceWith(accelerator) };
}

/** Puts the base image's own package of the kernel that it boots into the RPM database of `layer`. */
function installKernelPackage(work: string, layer: string, version: string, release: string): void {
  const folder = mkdtempSync(join(work, 'kernel-'));
  const rpm = makeRpm(work, { name: 'kernel-core', version, release, arch: 'x86_64' }, folder);
  mkdirSync(layer, { recursive: true });
  must(['rpm', `--root=${layer}`, '--dbpath=/var/lib/rpm', '--install', '--nodeps', rpm]);
}
