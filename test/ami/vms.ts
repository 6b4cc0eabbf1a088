// Instances that are virtual machines with a kernel, systemd, sshd, NetworkManager and cloud-init of their own. A node of an image
// boots from the disk of the image's instance, with a disk of its own over it.
import { existsSync, mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Cloud, Instance } from '../aws/index.ts';
import { manageBy } from '../aws/managed.ts';
import { ENIBOOT } from '../boot/node.ts';
import type { Bench } from '../vm/bench.ts';
import { createHost, type Host } from '../vm/host.ts';
import { namesOn } from '../vm/layer.ts';
import type { Machine } from '../vm/machine.ts';
import { must } from '../vm/must.ts';
import type { Machines, Report } from './machines.ts';

/** dnf and the check of 120 MB need more memory than a node. */
const memoryMiB = 2048;

export function vms(base: Bench): Machines {
  const hosts = new Map<string, Host>();
  const booted: Machines['booted'] = new Map();
  const { patience } = base;
  const diskIn = (folder: string) => join(folder, 'disk.qcow2');

  return {
    launch: (cloud, record, from) => {
      const folder = join(base.work, record.id);
      mkdirSync(folder);
      const host = createHost({
        ...base,
        work: folder,
        disk: diskIn(folder),
        memoryMiB,
        beforeEnd: async (machine) => {
          if (from !== undefined) booted.set(record.id, await checkBooted(machine, patience));
        },
      });
      hosts.set(folder, host);
      const start = async (instance: Instance): Promise<void> => {
        // An image may be launched while its instance still shuts down.
        await hosts.get(from?.folder ?? '')?.settled();
        const below = from === undefined ? [base.root, 'raw'] : [diskIn(from.folder), 'qcow2'];
        const [file = '', format = ''] = below;
        must(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', file, '-F', format, diskIn(folder)]);
        const machine = await host.powerOn(instance);
        if (from !== undefined) await agentStarts(cloud, instance.id, machine, patience);
      };
      return {
        disk: {
          folder,
          names: async (path) => {
            await host.settled();
            return namesOn(rawOf(diskIn(folder)), path);
          },
        },
        machine: { launch: { vm: host.hooks }, started: start },
      };
    },
    // An emulated machine takes minutes until Packer can connect, and its answers are slow.
    fit: (template) =>
      template.replace(
        /^( *)ssh_username .*$/m,
        (line, indent: string) =>
          `${line}\n${indent}ssh_timeout = "60m"\n${indent}ssh_handshake_attempts = 1000`,
      ),
    slowness: 10,
    booted,
    running: () =>
      [...hosts].flatMap(([folder, { machine }]) => (machine === undefined ? [] : [basename(folder)])),
    end: async () => {
      for (const host of hosts.values()) await host.kill();
    },
  };
}

/** The image's SSM agent is a stand-in: after systemd has started it, scripts run in the guest as the agent would run them. */
async function agentStarts(cloud: Cloud, id: string, machine: Machine, patience: number): Promise<void> {
  await machine.ready(300_000 * patience);
  const wait = 'until systemctl is-active --quiet amazon-ssm-agent.service; do sleep 1; done';
  const { exitCode, stderr } = await machine.run(wait, 600_000 * patience);
  if (exitCode !== 0) throw new Error(`the SSM agent of ${id} did not start: ${stderr}`);
  manageBy(cloud, id, (script) => machine.run(script, 120_000 * patience));
}

async function checkBooted(machine: Machine, patience: number): Promise<Report> {
  // The simulated EC2 no longer has the instance: timers that ask it fail, which is no failure of the image.
  const script = `systemctl stop 'eniboot-*'\nsystemctl reset-failed 'eniboot-*'\n${ENIBOOT} image check --booted --json`;
  const { stdout, stderr } = await machine.run(script, 300_000 * patience);
  if (stdout === '') throw new Error(`image check --booted: ${stderr}`);
  return JSON.parse(stdout) as Report;
}

/** debugfs cannot read qcow2. The disk is converted once; it no longer changes. */
function rawOf(disk: string): string {
  const raw = `${disk}.raw`;
  if (!existsSync(raw)) must(['qemu-img', 'convert', '-O', 'raw', disk, raw], 600_000);
  return raw;
}
