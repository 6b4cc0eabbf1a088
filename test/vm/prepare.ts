// What every VM of a run starts from: the root image with this build and the stand-ins laid over it. Done outside
// the sandbox, since a root image is built from the network.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import type { Bench } from './bench.ts';
import { ensureImage, type Image, packageVersions, type Suite } from './image/image.ts';
import { type LayerEntry, layOver, stage } from './layer.ts';
import { probeAccelerator } from './machine.ts';

const repository = join(import.meta.dirname, '../..');

export interface Prepared {
  /** By Debian suite: those asked for. */
  benches: Partial<Record<Suite, Bench>>;
  /** Commit, accelerator and versions, for the evidence of a run. */
  provenance: Record<string, unknown>;
}

/**
 * Builds the executable and lays it, the node's files, the stand-ins and `extra` over a copy of each root image.
 *
 * @param work empty folder for disks, gigabytes; the caller removes it.
 */
export async function prepareBenches(
  work: string,
  suites: readonly Suite[],
  extra: readonly LayerEntry[],
  say: (line: string) => void,
): Promise<Prepared> {
  const images = suites.map((suite) => ensureImage(suite, say));
  const [first] = images;
  if (first === undefined) throw new Error('no suite was asked for');
  const accelerator = await probeAccelerator(first.kernel);
  const staging = stageEniboot(work, extra);
  const benches: Prepared['benches'] = {};
  for (const image of images) {
    const folder = join(work, image.suite);
    mkdirSync(folder);
    const root = join(folder, 'root.raw');
    layOver(image.root, root, staging);
    benches[image.suite] = {
      work: folder,
      root,
      kernel: image.kernel,
      initrd: image.initrd,
      accelerator,
      patience: (accelerator === 'kvm' ? 0.5 : 1) * busyness(),
    };
  }
  rmSync(staging, { recursive: true });
  return { benches, provenance: { ...commit(), accelerator, images: Object.fromEntries(images.map(facts)) } };
}

/** How many times slower than alone a machine is here: several programs for each core share them. */
function busyness(): number {
  const [lastMinute = 0] = loadavg();
  return Math.max(1, Math.ceil(lastMinute / availableParallelism()));
}

function stageEniboot(work: string, extra: readonly LayerEntry[]): string {
  execFileSync(process.execPath, [join(repository, 'agent/build/build.ts'), '--no-bundle', 'x64'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const built = join(repository, 'dist/x64');
  const { version } = JSON.parse(readFileSync(join(built, 'manifest.json'), 'utf8')) as { version: string };
  const home = '/usr/libexec/eniboot';
  const kubeletVersion = join(work, 'kubelet-version');
  // The image build records it; the stand-in has none of its own.
  writeFileSync(kubeletVersion, 'Kubernetes v1.36.1\n');
  const staging = join(work, 'staging');
  stage(
    staging,
    [
      { from: join(repository, 'systemd/usr'), to: '/usr' },
      { from: join(repository, 'systemd/etc'), to: '/etc' },
      { from: join(import.meta.dirname, 'node'), to: '/' },
      { from: join(built, 'eniboot'), to: `${home}/${version}/eniboot` },
      { from: join(built, 'manifest.json'), to: `${home}/${version}/manifest.json` },
      { from: kubeletVersion, to: `${home}/kubelet-version` },
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
  ...['systemd', 'linux-image-cloud-amd64', 'network-manager', 'cloud-init', 'iproute2', 'nftables'],
  ...['iptables', 'ipvsadm', 'containerd', 'podman', 'containernetworking-plugins'],
];

function facts(image: Image): [Suite, Record<string, string>] {
  return [image.suite, { digest: image.digest, ...packageVersions(image, packagesThatMatter) }];
}
