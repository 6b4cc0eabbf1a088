// The machine behind a simulated instance: QEMU whose NICs are the instance's ENIs, with hot-plugs, stops and starts.
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Instance, LaunchOptions } from '../aws/index.ts';
import type { Bench } from './bench.ts';
import { type Machine, type Nic, startMachine } from './machine.ts';

type Eni = Instance['bootEni'];

export interface HostOptions extends Pick<Bench, 'kernel' | 'initrd' | 'accelerator' | 'arm64' | 'patience'> {
  /** Folder of this machine only: each power-on has a folder of its own in it. */
  work: string;
  /** Path of a qcow2 image, which the machine writes to. */
  disk: string;
  memoryMiB?: number;
  kernelArguments?: string[];
  /** The boot ENI's card comes after the others in PCI order. */
  bootNicLast?: boolean;
  /** Called before the machine of a terminated instance ends. */
  beforeEnd?: (machine: Machine) => Promise<void>;
}

export interface Host {
  /** For the launch of the instance: ENIs become NICs, and EC2's decisions change the power. */
  hooks: NonNullable<LaunchOptions['vm']>;
  /** The machine since the last power-on; undefined as soon as the instance was asked to stop. */
  readonly machine: Machine | undefined;
  /** The first power-on, with the ENIs that the instance has then; `from` names a snapshot on the disk to go on from. */
  powerOn(instance: Instance, from?: string): Promise<Machine>;
  /** Resolves when every change of power so far is done: after a stop, nothing writes to the disk. */
  settled(): Promise<void>;
  /** Ends QEMU at once. */
  kill(): Promise<void>;
}

export function createHost(options: HostOptions): Host {
  const { work, patience, beforeEnd, bootNicLast, ...shape } = options;
  const started: Machine[] = [];
  let machine: Machine | undefined;
  let changing: Promise<void> = Promise.resolve();
  let owner: Instance | undefined;

  function change(power: () => Promise<void>): Promise<void> {
    const changed = changing.then(power);
    changing = changed.catch(() => undefined);
    return changed;
  }

  async function powerOn(instance: Instance, from?: string): Promise<Machine> {
    owner = instance;
    const folder = join(work, `power-on-${started.length + 1}`);
    mkdirSync(folder);
    const [boot, ...pods] = instance.enis.map((eni) => nicOf(eni, instance.deviceOf(eni.id) ?? ''));
    if (boot === undefined) throw new Error(`${instance.id} has no boot ENI`);
    const running = await startMachine({
      ...shape,
      work: folder,
      firmware: { instanceId: instance.id, instanceType: instance.type },
      // A snapshot has only the boot ENI; the others are plugged in as soon as the machine runs.
      nics: from !== undefined ? [boot] : bootNicLast === true ? [...pods, boot] : [boot, ...pods],
      ...(from === undefined ? {} : { from }),
    });
    started.push(running);
    machine = running;
    if (from !== undefined) await arrive(running, pods);
    return running;
  }

  return {
    hooks: {
      onPlug: async (eni, tap) => machine?.plug(nicOf(eni, tap)),
      // The cards of an ending instance stay until it has ended: QEMU holds their taps.
      onUnplug: async (eni) => (machine === undefined ? changing : machine.unplug(eni.id)),
      onPower: async (action) => {
        if (action === 'reboot') return;
        if (action === 'start')
          return change(async () => {
            if (owner !== undefined) await powerOn(owner);
          });
        const going = machine;
        machine = undefined;
        await change(async () => {
          if (going === undefined) return;
          if (action === 'terminate') await beforeEnd?.(going);
          await going.powerOff(120_000 * patience);
        });
      },
    },
    get machine() {
      return machine;
    },
    powerOn,
    settled: () => changing,
    kill: async () => {
      for (const one of started) await one.kill();
    },
  };
}

/** The snapshot runs later, in a cloud whose routers have other MACs: its clock is set and its neighbour tables are flushed. */
async function arrive(machine: Machine, pods: Nic[]): Promise<void> {
  const now = (Date.now() / 1000).toFixed(1);
  const result = await machine.run(`date -s @${now} >/dev/null && ip neigh flush all`);
  if (result.exitCode !== 0) throw new Error(`the snapshot did not go on: ${result.stderr}`);
  for (const nic of pods) await machine.plug(nic);
  for (const nic of pods) {
    const found = await machine.run(`until ip -o link | grep -q ${nic.mac}; do sleep 0.1; done`, 60_000);
    if (found.exitCode !== 0) throw new Error(`${nic.id} did not arrive in the guest`);
  }
}

function nicOf(eni: Eni, tap: string): Nic {
  const mtu = Number(readFileSync(`/sys/class/net/${tap}/mtu`, 'utf8'));
  return { id: eni.id, tap, mac: eni.mac, mtu };
}
