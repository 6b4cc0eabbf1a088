// Instances with namespaces and a root of their own: no kernel and no systemd. A build instance has sshd; a node runs
// `eniboot boot` from the image's disk, with that disk below its own, and a stand-in for the SSM agent.
import { appendFileSync, cpSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Cloud, Instance } from '../aws/index.ts';
import { manage } from '../aws/managed.ts';
import { ENIBOOT } from '../boot/node.ts';
import type { NamespaceBase } from './bases.ts';
import type { Machines } from './machines.ts';

/** @param missingModule a kernel module that build instances do not have. */
export function namespaces(base: NamespaceBase, work: string, missingModule: string | undefined): Machines {
  return {
    launch: (cloud, record, from) => {
      const folder = join(work, record.id);
      const start = async (instance: Instance): Promise<void> => {
        for (const name of ['upper', 'work', 'root']) mkdirSync(join(folder, name), { recursive: true });
        if (from !== undefined)
          return bootNode(cloud, instance, `${join(from.folder, 'upper')}:${base.root}`, folder);
        cpSync(base.layer, join(folder, 'upper'), { recursive: true });
        const hostname = `ip-${instance.bootEni.primaryIp.replaceAll('.', '-')}`;
        appendFileSync(join(folder, 'upper/etc/hosts'), `127.0.0.1 ${hostname}\n`);
        mkdirSync(join(folder, 'upper/stand-in'));
        if (missingModule !== undefined)
          writeFileSync(join(folder, 'upper/stand-in/missing-modules'), `${missingModule}\n`);
        const publicKey = cloud.ec2.world.keyPairs.get(record.keyName ?? '')?.publicKey ?? '';
        const daemon = instance.spawn(
          'sh',
          ['-euc', startInstance, 'instance', base.root, folder, publicKey],
          { stdio: ['ignore', 'ignore', 'pipe'] },
        );
        let said = '';
        daemon.stderr?.on('data', (chunk) => {
          said += String(chunk);
          writeFileSync(join(work, 'sshd.log'), said);
        });
      };
      return {
        disk: { folder, names: async (path) => namesIn(join(folder, 'upper', path)) },
        machine: { launch: {}, started: start },
      };
    },
    fit: (template) => template,
    slowness: 1,
    booted: new Map(),
    running: () => [],
    end: async () => {},
  };
}

function namesIn(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** Starts the boot of a node of a finished image, without systemd. Its SSM agent has registered. */
async function bootNode(cloud: Cloud, instance: Instance, lower: string, disk: string): Promise<void> {
  const shell = (script: string, timeoutMs: number, ...args: string[]) =>
    instance.run('sh', ['-euc', script, 'node', ...args], { timeoutMs });
  const mounted = await shell(mountRoot, 20_000, lower, disk);
  if (mounted.exitCode !== 0) throw new Error(`the disk of ${instance.id}: ${mounted.stderr}`);
  const root = join(disk, 'root');
  const tool = await shell(standInNft, 20_000, root);
  if (tool.exitCode !== 0) throw new Error(`nft for ${instance.id}: ${tool.stderr}`);
  manage(cloud, instance, root);
  if (existsSync(join(disk, '../never-boots'))) return;
  const booted = await shell(
    'chroot "$1" systemd-machine-id-setup; exec chroot "$1" "$2" boot --json',
    120_000,
    root,
    ENIBOOT,
  );
  writeFileSync(join(disk, 'boot.log'), booted.stdout + booted.stderr);
}

/** $1 is the lower folder of the overlay, $2 the instance's disk. */
const mountRoot = `
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
root=$2/root
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
`;

/** The image's nftables package is only a name and a version: program and libraries are this machine's. $1 is the node's root. */
const standInNft = `
nft=$(command -v nft)
for file in "$nft" $(ldd "$nft" | grep -o '/[^ ]*'); do
  [ -e "$1$file" ] || { mkdir -p "$1\${file%/*}"; cp -L "$file" "$1$file"; }
done
`;

/** $3 is the public key, which cloud-init would get from IMDS. */
const startInstance = `${mountRoot}
mkdir -p "$root/run/sshd"
chown -R 0:0 "$root/etc/sudoers.d" "$root/usr/local/bin" "$root/etc/yum.repos.d"
chroot "$root" useradd --create-home --shell /bin/bash fedora
chroot "$root" usermod --password '*' fedora
install -d -m 0700 "$root/home/fedora/.ssh"
printf '%s\\n' "$3" >"$root/home/fedora/.ssh/authorized_keys"
chroot "$root" chown -R fedora: /home/fedora
chroot "$root" ssh-keygen -A >/dev/null
exec chroot "$root" /usr/sbin/sshd -D -e
`;
