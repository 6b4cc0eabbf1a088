// Boots a node's root with the release's own systemd as process 1 of a PID namespace: no kernel, no network, but real jobs,
// restarts, conditions and sandboxes, in seconds. Needs root and a cgroup2 hierarchy in which it may make groups.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Container {
  /** Text of a file in the container; undefined when it does not exist. */
  read(path: string): string | undefined;
  /** The file is there whole or not at all. */
  write(path: string, text: string): void;
  remove(path: string): void;
  /** Mounts a new folder onto itself, as a runtime mounts a pod's network namespace. */
  pin(path: string): void;
  /** Runs systemctl in the container. */
  systemctl(...args: string[]): { exitCode: number | null; output: string };
  /** Polls until `condition` holds; throws with the console's last lines after `seconds`. */
  until(what: string, condition: () => boolean, seconds?: number): Promise<void>;
}

/** The reason why no container can be booted here; undefined when one can. */
export function whyNot(): string | undefined {
  const probe =
    'd=$(mktemp -d); mount -t cgroup2 cgroup2 "$d" && mkdir "$d/eniboot-probe-$$" && rmdir "$d/eniboot-probe-$$"; umount "$d"';
  const result = spawnSync('unshare', ['--mount', 'sh', '-euc', probe], { encoding: 'utf8' });
  return result.status === 0 ? undefined : `no cgroup2 hierarchy to make groups in: ${result.stderr.trim()}`;
}

/** Boots `root` to multi-user.target, calls `use` while it runs, and ends all its processes. */
export async function withContainer(
  root: string,
  use: (container: Container) => Promise<void>,
): Promise<void> {
  const place = join(root, '..', 'container');
  mkdirSync(place);
  const console = join(place, 'console');
  writeFileSync(console, '');
  const group = `eniboot-test-${process.pid}-${Date.now()}`;
  shell(prepare, root, place, group);
  const outer = spawn('sh', ['-euc', boot, 'sh', root, place, group, console], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  try {
    const container: Container = {
      read: (path) => (existsSync(join(root, path)) ? readFileSync(join(root, path), 'utf8') : undefined),
      write(path, text) {
        const whole = join(root, path);
        writeFileSync(`${whole}.new`, text);
        renameSync(`${whole}.new`, whole);
      },
      remove: (path) => rmSync(join(root, path)),
      pin(path) {
        const whole = join(root, path);
        mkdirSync(whole, { recursive: true });
        const mount = ['--target', `${init(outer.pid)}`, '--mount', 'mount', '--bind', whole, whole];
        execFileSync('nsenter', mount);
      },
      systemctl(...args) {
        const inside = [
          '--target',
          `${init(outer.pid)}`,
          '--mount',
          '--pid',
          '--cgroup',
          '--root',
          '--wd',
          '/usr/bin/systemctl',
        ];
        const result = spawnSync('nsenter', [...inside, ...args], { encoding: 'utf8', timeout: 20_000 });
        return { exitCode: result.status, output: `${result.stdout}${result.stderr}` };
      },
      async until(what, condition, seconds = 20) {
        const end = Date.now() + seconds * 1000;
        while (!condition()) {
          if (Date.now() > end)
            throw new Error(`not in ${seconds} s: ${what}\n${readFileSync(console, 'utf8').slice(-2000)}`);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      },
    };
    await container.until(
      'systemd answers',
      () =>
        init(outer.pid) !== undefined &&
        /running|degraded|starting/.test(container.systemctl('is-system-running').output),
    );
    await use(container);
  } finally {
    spawnSync('sh', ['-euc', end, 'sh', join(place, 'cgroup', group)], { stdio: 'inherit' });
  }
}

/** /run is mounted from outside, so that a test can read its files. */
const prepare = `
  mount -t tmpfs -o mode=755 tmpfs "$1/run"
  mount -t tmpfs tmpfs "$1/tmp"
  mkdir "$2/cgroup"
  mount -t cgroup2 cgroup2 "$2/cgroup"
  mkdir "$2/cgroup/$3"
  : >"$1/etc/machine-id"
  echo root:x:0:0::/root:/bin/sh >"$1/etc/passwd"
  echo root:x:0: >"$1/etc/group"`;

/** The groups can be removed after the kernel has ended the last process, some milliseconds after the kill. */
const end = `
  echo 1 >"$1/cgroup.kill"
  while grep -q 'populated 1' "$1/cgroup.events"; do sleep 0.02; done
  find "$1" -depth -type d -exec rmdir {} +`;

const boot = `
  echo $$ >"$2/cgroup/$3/cgroup.procs"
  exec unshare --cgroup --pid --fork --kill-child=KILL --mount --uts sh -euc '
    mount -t proc proc "$1/proc"
    mount -t sysfs -o ro sysfs "$1/sys"
    mount -t cgroup2 cgroup2 "$1/sys/fs/cgroup"
    mount -t tmpfs -o mode=755 tmpfs "$1/dev"
    mkdir "$1/dev/shm" "$1/dev/pts"
    for name in null zero full random urandom tty; do
      : >"$1/dev/$name"
      mount --bind "/dev/$name" "$1/dev/$name"
    done
    ln -s pts/ptmx "$1/dev/ptmx"
    : >"$1/dev/console"
    mount --bind "$4" "$1/dev/console"
    # As on a machine, where services get the mounts that come later.
    mount --make-rshared /
    exec chroot "$1" /usr/bin/env -i container=test PATH=/usr/bin:/usr/sbin \\
      /usr/lib/systemd/systemd --show-status=yes --unit=multi-user.target
  ' sh "$@"`;

function shell(script: string, ...args: string[]): void {
  const result = spawnSync('sh', ['-euc', script, 'sh', ...args], { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(result.stderr);
}

/** PID, as seen from outside, of the container's process 1. */
function init(outer: number | undefined): number | undefined {
  const children = `/proc/${outer}/task/${outer}/children`;
  const child = existsSync(children) ? readFileSync(children, 'utf8').trim() : '';
  return child === '' ? undefined : Number(child.split(' ')[0]);
}
