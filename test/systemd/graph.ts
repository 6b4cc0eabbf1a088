// Builds the file tree of a node in a folder (a release's real units, eniboot's added, enabled as on the image) and lets that
// release's own systemd load it and queue the boot.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Release, rootOf } from './releases.ts';

const here = import.meta.dirname;
/** The tree `systemd/` of the repository. */
export const nodeTree = join(here, '..', '..', 'systemd');
const units = 'usr/lib/systemd/system';

export interface Node {
  release: Release;
  /** cloud-init's units have another order on Fedora. */
  cloudInit: 'debian' | 'fedora';
  runtime: 'crio' | 'containerd';
  /** Files that are added last, by path; with them a test makes faults. */
  extra?: Record<string, string>;
  /** Paths in `extra` that are programs. */
  programs?: string[];
}

/** Makes the root of a node, calls `use` with its path and removes it again. */
export function withNode<T>(node: Node, use: (root: string) => T): T {
  const place = mkdtempSync(join(tmpdir(), 'eniboot-node-'));
  try {
    return use(compose(node, place));
  } finally {
    remove(place);
  }
}

/** The same for an asynchronous `use`. */
export async function withNodeAsync<T>(node: Node, use: (root: string) => Promise<T>): Promise<T> {
  const place = mkdtempSync(join(tmpdir(), 'eniboot-node-'));
  try {
    return await use(compose(node, place));
  } finally {
    remove(place);
  }
}

function remove(place: string): void {
  spawnSync('umount', ['--recursive', '--lazy', place]);
  rmSync(place, { recursive: true, force: true });
}

function compose(node: Node, place: string): string {
  const root = layOver(rootOf(node.release), place);
  for (const name of ['bin', 'sbin', 'lib', 'lib64']) symlinkSync(`usr/${name}`, join(root, name));
  for (const name of ['dev', 'proc', 'root', 'run', 'sys', 'tmp']) mkdirSync(join(root, name));
  if (node.cloudInit === 'fedora') orderAsOnFedora(root);
  for (const name of node.runtime === 'crio' ? ['crio.service', 'crio-wipe.service'] : ['containerd.service'])
    addFixture(root, name);
  addFixture(root, 'kubelet.service');
  addFixture(root, '10-kubeadm.conf', 'kubelet.service.d');
  // systemd checks that the program of a unit exists and is executable.
  for (const program of ['usr/bin/kubelet', 'usr/libexec/eniboot/current/eniboot'])
    write(root, program, '#!/bin/false\n', 0o755);
  cpSync(nodeTree, root, { recursive: true, verbatimSymlinks: true });
  write(root, 'usr/lib/systemd/system-preset/50-node.preset', nodePreset);
  for (const [path, text] of Object.entries(node.extra ?? {}))
    write(root, path, text, node.programs?.includes(path) ? 0o755 : 0o644);
  runIn(root, 'systemctl', ['preset-all']);
  // Does the same as cloud-init's generator when it finds a datasource.
  mkdirSync(join(root, 'etc/systemd/system/multi-user.target.wants'), { recursive: true });
  symlinkSync(
    `/${units}/cloud-init.target`,
    join(root, 'etc/systemd/system/multi-user.target.wants/cloud-init.target'),
  );
  return root;
}

/** A writable root over the cached one; without overlay mounts a copy, ten times slower. */
function layOver(base: string, place: string): string {
  const root = join(place, 'root');
  const script = `mount -t tmpfs tmpfs "$2" && cd "$2" && mkdir upper work root &&
    mount -t overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" overlay root`;
  const mounted = spawnSync('sh', ['-uc', script, 'sh', base, place], { stdio: 'ignore' });
  if (mounted.status !== 0) cpSync(base, root, { recursive: true, verbatimSymlinks: true });
  return root;
}

/** Runs a program of the release in the root, with /proc and /sys; returns standard output and error together. */
export function runIn(
  root: string,
  program: string,
  args: string[],
): { exitCode: number | null; output: string } {
  const script = 'for fs in proc sys; do mount --rbind "/$fs" "$1/$fs"; done; exec chroot "$@"';
  const result = spawnSync('unshare', ['--mount', 'sh', '-euc', script, 'sh', root, program, ...args], {
    encoding: 'utf8',
    timeout: 60_000,
    env: {
      PATH: '/usr/bin:/usr/sbin:/bin:/sbin',
      LC_ALL: 'C',
      SYSTEMD_LOG_LEVEL: 'info',
      SYSTEMD_LOG_TARGET: 'console',
    },
  });
  if (result.error !== undefined) throw result.error;
  return { exitCode: result.status, output: `${result.stdout}${result.stderr}` };
}

/**
 * The messages of systemd when it queues the boot (multi-user.target), kubelet, and each unit of eniboot. It breaks a cycle by
 * deleting a job, reports that, and exits with 0, hence the field `cycles`. The last field has the lines about eniboot's files or units.
 */
export function verify(root: string): { output: string; cycles: string[]; ours: string[] } {
  const ours = readdirSync(join(nodeTree, units)).filter((name) => name.startsWith('eniboot'));
  const output = [['multi-user.target'], ['kubelet.service'], ours]
    .map((queued) => runIn(root, 'systemd-analyze', ['verify', '--man=no', ...queued]).output)
    .join('\n');
  const lines = output.split('\n');
  return {
    output,
    cycles: lines.filter((line) => /ordering cycle|deleted to break/i.test(line)),
    ours: lines.filter((line) => line.includes('eniboot')),
  };
}

/** Fedora's cloud image without eniboot: only services in a preset are enabled, because the last preset is `disable *`. */
const nodePreset = `
enable NetworkManager.service
enable NetworkManager-wait-online.service
enable cloud-init-*.service
enable cloud-config.service
enable cloud-final.service
enable chrony.service
enable chronyd.service
enable ssh.service
enable sshd.service
enable systemd-resolved.service
enable nftables.service
enable firewalld.service
enable containerd.service
enable getty@.service
enable remote-fs.target
disable *
`;

/**
 * The lines by which cloud-init's unit templates differ between the variants debian and fedora, in 25.1 and in 26.2
 * (systemd/*.tmpl of cloud-init; only ordering).
 */
function orderAsOnFedora(root: string): void {
  const edit = (name: string, change: (text: string) => string) => {
    const path = join(root, units, name);
    const before = readFileSync(path, 'utf8');
    const after = change(before);
    if (after === before) throw new Error(`${name} has none of the lines that differ on Fedora`);
    writeFileSync(path, after);
  };
  const without = (text: string, ...lines: string[]) =>
    text
      .split('\n')
      .filter((line) => !lines.includes(line))
      .join('\n');
  edit('cloud-init-main.service', (text) => without(text, 'DefaultDependencies=no'));
  edit('cloud-init-local.service', (text) =>
    without(text, 'DefaultDependencies=no', 'Before=sysinit.target'),
  );
  edit('cloud-init-network.service', (text) =>
    without(text, 'Before=sysinit.target', 'Before=shutdown.target', 'Conflicts=shutdown.target').replace(
      'After=networking.service',
      'After=NetworkManager.service\nAfter=NetworkManager-wait-online.service',
    ),
  );
}

function addFixture(root: string, name: string, folder = ''): void {
  const to = join(root, units, folder, name);
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(join(here, 'fixtures', name), to);
}

function write(root: string, path: string, text: string, mode = 0o644): void {
  const to = join(root, path);
  mkdirSync(dirname(to), { recursive: true });
  writeFileSync(to, text);
  chmodSync(to, mode);
}
