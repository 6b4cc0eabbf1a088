// The instance as tests use it: EC2's record, and the machine behind it.
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { ExecOptions, ExecResult } from '../../../agent/port/exec-result.ts';
import type { Ec2 } from '../ec2/ec2.ts';
import type { Eni, InstanceRecord } from '../ec2/state.ts';
import { enisOf, subnetOf } from '../ec2/world.ts';
import { type Faults, isFor } from '../faults.ts';
import type { LaunchOptions } from '../launch.ts';
import type { Network } from '../network/network.ts';
import type { Body } from './body.ts';
import type { Machine } from './machine.ts';
import { createNamespaced } from './namespaced.ts';
import { createVm } from './vm.ts';

export interface Instance {
  readonly id: string;
  readonly type: string;
  readonly zone: string;
  /** EC2's record: state, tags, lifecycle state, hop limit. A test may change it. */
  readonly record: InstanceRecord;
  readonly bootEni: Eni;
  /** By device index, boot ENI first. */
  readonly enis: Eni[];
  /** PID of its init, 0 while it is off. */
  readonly pid: number;
  /** Its file tree, reached from outside. */
  readonly root: string;
  /** Everything written to /dev/console since launch. */
  consoleLog(): string;
  /** Name of the ENI's device: inside the instance, or the tap of a VM. */
  deviceOf(eniId: string): string | undefined;
  /** Runs a program inside all its namespaces; a time-out (default 10 s) kills it. */
  run(file: string, args: string[], options?: ExecOptions): Promise<ExecResult>;
  /** Starts a program in the same way and leaves it running; `kill` signals the program itself. */
  spawn(file: string, args: string[], options?: SpawnOptions): ChildProcess;
  /** A file as the instance sees it; undefined when it does not exist. */
  read(path: string): string | undefined;
  write(path: string, text: string, mode?: number): void;
  /** Gives a new boot ID and an empty /run, plugs devices again; keeps /etc, /var, /opt and /usr/libexec/eniboot. */
  reboot(): Promise<void>;
  /** Stops it; EC2 takes the public IPv4 back. */
  stop(): Promise<void>;
  /** Starts it; EC2 gives a new public IPv4 only when exactly one ENI is attached. */
  start(): Promise<void>;
  terminate(): Promise<void>;
}

/** The methods that the cloud itself calls. */
export interface Driven extends Instance {
  powerOn(): Promise<void>;
  /** Called when the model says `attached`: the device comes a little later. */
  attached(eni: Eni): Promise<void>;
  detached(eni: Eni): Promise<void>;
  obey(action: 'reboot' | 'stop' | 'start' | 'terminate'): Promise<void>;
  destroy(): Promise<void>;
}

export interface Surroundings {
  ec2: Ec2;
  network: Network;
  faults: Faults;
  deviceMs: () => number;
  settled: () => Promise<void>;
}

export function createInstance(around: Surroundings, record: InstanceRecord, wanted: LaunchOptions): Driven {
  const { ec2, network, faults } = around;
  const { world } = ec2;
  const bootEni = enisOf(world, record.id)[0];
  if (bootEni === undefined) throw new Error(`${record.id} has no boot ENI`);
  const present = (): Eni[] =>
    enisOf(world, record.id).filter((eni) => eni.attachment?.status === 'attached');
  const takeFault = () => faults.device.take((fault) => isFor(fault, record.id)) ?? {};

  const namespaced =
    wanted.vm === undefined
      ? createNamespaced(
          {
            id: record.id,
            region: world.region,
            bootEni,
            subnet: subnetOf(world, bootEni.subnetId),
            files: wanted.files ?? {},
            present,
            faultForLaunched: takeFault,
          },
          network,
        )
      : undefined;
  const body: Body = namespaced ?? createVm(wanted.vm as NonNullable<typeof wanted.vm>, present, network);

  function machine(): Machine {
    if (namespaced === undefined)
      throw new Error(`${record.id} is a VM: reach into it through the VM's runner`);
    return namespaced.machine;
  }

  // Changes of power run one after the other: an instance that is powered off while it starts must end up off.
  let changing: Promise<void> = Promise.resolve();
  function change(power: () => Promise<void>): Promise<void> {
    const changed = changing.then(power);
    changing = changed.catch(() => undefined);
    return changed;
  }

  async function ask(action: string, state: InstanceRecord['state']): Promise<void> {
    ec2.send(action, { InstanceIds: [record.id] });
    for (let tries = 0; record.state !== state; tries++) {
      if (tries > 10_000) throw new Error(`${record.id} did not become ${state}`);
      await delay(1);
    }
    await around.settled();
  }

  return {
    id: record.id,
    type: record.type,
    zone: record.zone,
    record,
    bootEni,
    get enis() {
      return enisOf(world, record.id);
    },
    get pid() {
      return machine().pid;
    },
    get root() {
      return machine().root;
    },
    consoleLog: () => machine().console(),
    deviceOf: body.deviceOf,
    run: (file, args, options) => machine().run(file, args, options),
    spawn: (file, args, options) => machine().spawn(file, args, options),
    read: (path) => machine().read(path),
    write: (path, text, mode) => machine().write(path, text, mode),
    reboot: () => ask('RebootInstances', 'running'),
    stop: () => ask('StopInstances', 'stopped'),
    start: () => ask('StartInstances', 'running'),
    terminate: () => ask('TerminateInstances', 'terminated'),
    powerOn: () => change(body.powerOn),
    attached: async (eni) => {
      const fault = takeFault();
      await delay(around.deviceMs() + (fault.delayMs ?? 0));
      if (eni.attachment?.instanceId === record.id) await body.plug(eni, fault);
    },
    detached: body.unplug,
    obey: async (action) => {
      await change(async () => {
        if (action !== 'start') await body.powerOff();
        if (action === 'reboot' || action === 'start') await body.powerOn();
      });
      await wanted.vm?.onPower?.(action);
    },
    destroy: () =>
      change(async () => {
        await body.powerOff();
        await body.destroy();
      }),
  };
}
