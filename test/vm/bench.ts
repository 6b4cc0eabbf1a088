// A node in the VM: the simulated AWS on one side, QEMU on the other, and the operations of cases on both.
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import type { Status } from '../../agent/boot/verdict/status.ts';
import { type Cloud, type Instance, type LaunchOptions, startCloud } from '../aws/index.ts';
import { createHost } from './host.ts';
import type { Arm64Tools } from './image/arm64-tools.ts';
import type { Accelerator, Machine } from './machine.ts';
import { must } from './must.ts';

/** What every case of a run shares. */
export interface Bench {
  /** Folder for disks and logs. */
  work: string;
  /** Root image with this build laid over it. */
  root: string;
  kernel: string;
  initrd: string;
  accelerator: Accelerator;
  arm64?: Arm64Tools;
  /** Multiplies every wait: emulation is 10 to 20 times slower than KVM, more so on a busy machine. */
  patience: number;
}

export interface NodeOptions extends Omit<LaunchOptions, 'vm' | 'userData'> {
  /** Sections of the node's configuration, which is its user data. Each is added to the default section. */
  config?: Sections;
  /** An existing region, which outlives the node; without it the node gets a region of its own. */
  cloud?: Cloud;
  /** Memory of the machine; default: enough for eniboot and pods without a runtime. */
  memoryMiB?: number;
  /** The boot ENI's card comes after the others in PCI order. */
  bootNicLast?: boolean;
}

type Sections = Record<string, unknown>;

export interface Node {
  cloud: Cloud;
  instance: Instance;
  /** The machine of the present power-on. */
  readonly machine: Machine;
  /** Changes the configuration, as an operator changes user data of a stopped instance. */
  configure(config: Sections): void;
  /** Waits for the verdict on the console and resolves to that line. */
  announced(): Promise<string>;
  /** The same, then until systemd has nothing left to do. */
  verdict(): Promise<Observation>;
  observe(): Promise<Observation>;
  /** Ignores verdicts on the console from earlier boots, from here on. */
  forgetConsole(): void;
  end(): Promise<void>;
}

/** The state of the guest at one moment. */
export interface Observation {
  status: Status;
  /** Lines of the console that hold a verdict. */
  verdicts: string[];
  /** Starts of the stand-ins in this boot. */
  starts: Start[];
  failedUnits: string[];
  /** Lines of the journal about ordering cycles of units. */
  cycles: string[];
  /** `systemctl show` of eniboot.service and kubelet.service. */
  eniboot: Record<string, string>;
  kubelet: Record<string, string>;
  devices: Device[];
  /** Host milliseconds from power-on until the verdict was on the console; only for the first boot of a cold machine. */
  powerOnMs: number | undefined;
}

export interface Start {
  name: string;
  /** Boot clock, seconds. */
  at: number;
  /** ActiveState of eniboot.service at that moment. */
  eniboot: string;
  args: string;
}

export interface Device {
  name: string;
  mac: string;
  /** With prefix length, of both families. */
  addresses: string[];
  up: boolean;
  mtu: number;
  /** NetworkManager's state of the device: `connected`, `unmanaged`, … */
  state: string;
}

/** Name of the snapshot that is taken just before eniboot starts. */
const gate = 'gate';

/** A node just powered on, from its first instruction. */
export async function coldNode(
  bench: Bench,
  options: NodeOptions = {},
  kernelArguments: string[] = [],
): Promise<Node> {
  const work = mkdtempSync(join(bench.work, 'node-'));
  const disk = join(work, 'disk.qcow2');
  must(['qemu-img', 'create', '-q', '-f', 'qcow2', '-b', bench.root, '-F', 'raw', disk]);
  return launch(bench, options, work, disk, { kernelArguments });
}

/** A node that has booted up to eniboot, and the disk from which other nodes go on. */
export async function nodeAtGate(bench: Bench): Promise<Node> {
  const node = await coldNode(bench, {}, ['e2e.gate']);
  await node.machine.ready(120_000 * bench.patience);
  const wait = 'until [ -e /run/e2e/gate-reached ]; do sleep 0.2; done';
  const reached = await node.machine.run(wait, 180_000 * bench.patience);
  if (reached.exitCode !== 0) throw new Error(`the boot did not reach eniboot:\n${node.machine.console()}`);
  await node.machine.snapshot(gate, gateDisk(bench));
  return node;
}

/** A node that goes on from the snapshot of nodeAtGate, in a cloud of its own. */
export async function nodeFromGate(bench: Bench, options: NodeOptions = {}): Promise<Node> {
  const work = mkdtempSync(join(bench.work, 'node-'));
  const disk = join(work, 'disk.qcow2');
  copyFileSync(gateDisk(bench), disk);
  return launch(bench, options, work, disk, { kernelArguments: ['e2e.gate'], from: gate });
}

/** Lets the boot go on into eniboot. */
export async function openGate(node: Node): Promise<void> {
  const result = await node.machine.run('touch /run/e2e/gate-open');
  if (result.exitCode !== 0) throw new Error(`the gate did not open: ${result.stderr}`);
}

async function launch(
  bench: Bench,
  options: NodeOptions,
  work: string,
  disk: string,
  how: { kernelArguments: string[]; from?: string },
): Promise<Node> {
  const { config = {}, cloud: shared, memoryMiB, bootNicLast = false, ...launchOptions } = options;
  const cloud = shared ?? (await startCloud());
  const host = createHost({
    ...bench,
    work,
    disk,
    kernelArguments: how.kernelArguments,
    bootNicLast,
    ...(memoryMiB === undefined ? {} : { memoryMiB }),
  });
  const instance = await cloud.launch({
    ...launchOptions,
    userData: userData(cloud, config),
    vm: host.hooks,
  });
  await host.powerOn(instance, how.from);
  const current = (): Machine => {
    if (host.machine === undefined) throw new Error('the machine is off');
    return host.machine;
  };
  let forgotten: { machine: Machine; until: number } | undefined;
  const consoleFrom = () => (forgotten?.machine === host.machine ? (forgotten?.until ?? 0) : 0);
  return {
    cloud,
    instance,
    get machine() {
      return current();
    },
    configure: (changed) => {
      instance.record.userData = userData(cloud, changed);
    },
    announced,
    verdict: async () => {
      await announced();
      const first = how.from === undefined && consoleFrom() === 0;
      const powerOnMs = first ? current().elapsedMs() : undefined;
      return { ...(await settledObservation(current(), bench)), powerOnMs };
    },
    observe: () => observe(current(), consoleFrom()),
    forgetConsole: () => {
      forgotten = { machine: current(), until: current().console().length };
    },
    end: async () => {
      await host.kill();
      if (shared === undefined) await cloud.stop();
      rmSync(work, { recursive: true, force: true });
    },
  };

  function announced(): Promise<string> {
    return current().consoleShows(/eniboot: (READY|FAILED) .*/, 400_000 * bench.patience, consoleFrom());
  }

  async function settledObservation(from: Machine, { patience }: Bench): Promise<Observation> {
    // Returns when the boot's jobs are done: `running`, or `degraded` with a failed unit.
    await from.run('timeout 110 systemctl is-system-running --wait', 120_000 * patience);
    // A later job of its own starts kubelet.
    await from.run(
      'for i in 1 2 3 4 5 6 7 8 9 10; do [ -n "$(systemctl list-jobs --no-legend)" ] || break; sleep 1; done',
    );
    return observe(from, consoleFrom());
  }
}

function userData(cloud: Cloud, config: Sections): string {
  const { ec2, ssm } = cloud.endpoints;
  const sections: Sections = {
    cluster: 'e2e',
    pods: { subnets: { tags: { eniboot: 'pods' } } },
    aws: { endpoints: { ec2, ssm } },
  };
  for (const [name, value] of Object.entries(config)) {
    const before = sections[name];
    sections[name] = isSection(before) && isSection(value) ? { ...before, ...value } : value;
  }
  return `#eniboot-config\n${stringify(sections)}`;
}

function isSection(value: unknown): value is Sections {
  return typeof value === 'object' && value !== null;
}

function gateDisk(bench: Bench): string {
  return join(bench.work, 'gate.qcow2');
}

export function hasGate(bench: Bench): boolean {
  return existsSync(gateDisk(bench));
}

const sections = {
  status: 'cat /run/eniboot/status.json 2>/dev/null || echo null',
  starts: 'cat /run/e2e/started 2>/dev/null',
  failed: 'systemctl list-units --state=failed --plain --no-legend --full | cut -d" " -f1',
  cycles: 'journalctl -b -o cat --no-pager _PID=1 | grep -E "ordering cycle|deleted to break"',
  eniboot: 'systemctl show eniboot.service',
  kubelet: 'systemctl show kubelet.service',
  addresses: 'ip -j address',
  states: 'nmcli -t -f DEVICE,STATE device',
};

/** All questions in one script: under emulation a round trip and a process each take a good part of a second. */
async function observe(machine: Machine, consoleFrom: number): Promise<Observation> {
  const script = Object.entries(sections)
    .map(([name, command]) => `echo '@@${name}'; ${command}`)
    .join('\n');
  const { stdout } = await machine.run(script);
  const found = new Map<string, string>();
  for (const part of stdout.split(/^@@/m).slice(1)) {
    const at = part.indexOf('\n');
    found.set(part.slice(0, at), part.slice(at + 1).trim());
  }
  const text = (name: keyof typeof sections) => found.get(name) ?? '';
  const lines = (name: keyof typeof sections) =>
    text(name)
      .split('\n')
      .filter((line) => line !== '');
  const states = new Map(lines('states').map((line) => line.split(':', 2) as [string, string]));
  return {
    status: JSON.parse(text('status')) as Status,
    verdicts:
      machine
        .console()
        .slice(consoleFrom)
        .match(/eniboot: (READY|FAILED) .*/g) ?? [],
    starts: lines('starts').map((line) => {
      const [name = '', at = '', eniboot = '', ...args] = line.split(' ');
      return { name, at: Number(at), eniboot, args: args.join(' ') };
    }),
    failedUnits: lines('failed'),
    cycles: lines('cycles'),
    eniboot: properties(text('eniboot')),
    kubelet: properties(text('kubelet')),
    devices: (JSON.parse(text('addresses')) as Link[])
      .filter((link) => link.link_type === 'ether')
      .map((link) => ({
        name: link.ifname,
        mac: link.address,
        addresses: link.addr_info.map((one) => `${one.local}/${one.prefixlen}`),
        up: link.flags.includes('UP'),
        mtu: link.mtu,
        state: states.get(link.ifname) ?? 'unknown',
      })),
    powerOnMs: undefined,
  };
}

interface Link {
  ifname: string;
  link_type: string;
  address: string;
  flags: string[];
  mtu: number;
  addr_info: { local: string; prefixlen: number }[];
}

function properties(text: string): Record<string, string> {
  return Object.fromEntries(
    text.split('\n').map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}
