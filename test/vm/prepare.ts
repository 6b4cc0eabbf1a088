// Prepares the roots from which every VM of a run starts: the root image with this build and a suite's own files laid over it.
// It runs outside the sandbox, because a root image is built from the network.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { buildExecutable } from '../build/executable.ts';
import type { Bench } from './bench.ts';
import { nameOf, type Root } from './case.ts';
import { arm64Tools } from './image/arm64-tools.ts';
import { ensureImage, type Image, packageVersions, type Suite } from './image/image.ts';
import { type LayerEntry, layOver, stage } from './layer.ts';
import { type Accelerator, probeAccelerator } from './machine.ts';

const repository = join(import.meta.dirname, '../..');

/** Stand-ins for kubelet and cri-o, which record their start and then only wait. */
export const STAND_INS: LayerEntry = { from: join(import.meta.dirname, 'stand-ins'), to: '/' };

export interface Prepared {
  /** By the names of their roots. */
  benches: Record<string, Bench>;
  /** Commit, accelerator and versions, for the evidence of a run. */
  provenance: Record<string, unknown>;
}

/**
 * Builds the executable and lays it, the node's files and each root's own files over a copy of its image.
 *
 * @param work empty folder for disks (gigabytes); the caller removes it.
 * @param roots all for one CPU. `name` replaces the root's own name.
 */
export async function prepareBenches(
  work: string,
  roots: readonly (Root & { name?: string; extra: readonly LayerEntry[] })[],
  say: (line: string) => void,
): Promise<Prepared> {
  const images = [...new Set(roots.map(({ image }) => image))].map((suite) => ensureImage(suite, say));
  const [first] = images;
  if (first === undefined) throw new Error('no root was given');
  const arch = first.suite === 'arm64' ? 'arm64' : 'x64';
  const arm64 = arch === 'arm64' ? { arm64: arm64Tools(say) } : {};
  const accelerator = arch === 'arm64' ? 'tcg' : await probeAccelerator(first.kernel);
  buildExecutable(arch);
  const benches: Prepared['benches'] = {};
  for (const one of roots) {
    const image = images.find(({ suite }) => suite === one.image) ?? first;
    const name = one.name ?? nameOf(one);
    const folder = join(work, name);
    mkdirSync(folder);
    const staging = stageEniboot(arch, folder, one.extra);
    const root = join(folder, 'root.raw');
    layOver(image.root, root, staging);
    rmSync(staging, { recursive: true });
    benches[name] = {
      ...arm64,
      work: folder,
      root,
      kernel: image.kernel,
      initrd: image.initrd,
      accelerator,
      // Emulating another CPU takes about twice as long (docs/evidence/e2e-vm-arm64.json).
      patience: patienceWith(accelerator) * (arch === 'arm64' ? 2 : 1),
    };
  }
  return { benches, provenance: { ...commit(), accelerator, images: Object.fromEntries(images.map(facts)) } };
}

/** `Bench.patience`: how slow the machines are, times the number of programs that share each core here. */
export function patienceWith(accelerator: Accelerator): number {
  const [lastMinute = 0] = loadavg();
  return (accelerator === 'kvm' ? 0.5 : 1) * Math.max(1, Math.ceil(lastMinute / availableParallelism()));
}

function stageEniboot(arch: string, work: string, extra: readonly LayerEntry[]): string {
  const built = join(repository, 'dist', arch);
  const { version } = JSON.parse(readFileSync(join(built, 'manifest.json'), 'utf8')) as { version: string };
  const home = '/usr/libexec/eniboot';
  const staging = join(work, 'staging');
  stage(
    staging,
    [
      { from: join(repository, 'systemd/usr'), to: '/usr' },
      { from: join(repository, 'systemd/etc'), to: '/etc' },
      { from: join(import.meta.dirname, 'node'), to: '/' },
      { from: join(built, 'eniboot'), to: `${home}/${version}/eniboot` },
      { from: join(built, 'manifest.json'), to: `${home}/${version}/manifest.json` },
      ...extra,
    ],
    [{ path: `${home}/current`, target: version }],
  );
  return staging;
}

function commit() {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: repository, encoding: 'utf8' }).trim();
  const qemu = execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).split('\n')[0];
  return {
    commit: git('rev-parse', 'HEAD'),
    uncommitted: git('status', '--porcelain', '--', 'agent', 'cni', 'systemd', 'test').length > 0,
    at: new Date().toISOString(),
    qemu,
  };
}

const packagesThatMatter = [
  ...[
    'systemd',
    'linux-image-cloud-amd64',
    'linux-image-cloud-arm64',
    'network-manager',
    'cloud-init',
    'iproute2',
    'nftables',
  ],
  ...['iptables', 'ipvsadm', 'containerd', 'podman', 'containernetworking-plugins'],
];

function facts(image: Image): [Suite, Record<string, string>] {
  return [image.suite, { digest: image.digest, ...packageVersions(image, packagesThatMatter) }];
}
