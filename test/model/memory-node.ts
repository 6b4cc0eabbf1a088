// What the product's modules find in place of a machine when they run in this process: a modelled kernel, virtual
// time, the simulated EC2 without HTTP. memory.ts says which modules are replaced by what is exported here.
import { AsyncLocalStorage } from 'node:async_hooks';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { limitsOf } from '../../agent/aws/limits/limits.ts';
import type { MetadataEni } from '../../agent/aws/metadata.ts';
import type { Boot } from '../../agent/boot/phase.ts';
import type { Config } from '../../agent/config/schema.ts';
import type { Link, Route, Rule } from '../../agent/host/links.ts';
import { BOOT_ENI_MARK, BOOT_ENI_RULE_PRIORITY } from '../../agent/host/names.ts';
import type { PodRemoval } from '../../agent/host/netlink/remove.ts';
import type { Clock } from '../../agent/port/clock.ts';
import type { ExecOptions, ExecResult } from '../../agent/port/exec-result.ts';
import { enisOf } from '../aws/ec2/world.ts';
import { createFaults, isFor } from '../aws/faults.ts';
import { AwsError, createEc2, virtualScheduler } from '../aws/index.ts';
import { launchRecord } from '../aws/launch.ts';
import { beforeChanges, Crash, change } from '../pool/crash.ts';
import { createKernel, type Space, showJson } from './kernel.ts';

export * from '@aws-sdk/client-ec2';

const SYSFS = '/sys/class/net';
const BOOT_DEVICE = 'ens5';
/** Milliseconds between power-on and the agent's start; between an attachment and its device. */
const POWER_ON_MS = 5_000;
const DEVICE_MS = 500;
const API_MS = 120;

const scheduler = virtualScheduler();
const region = 'eu-west-1';
const latency = {
  ...{ attachMs: 1_500, detachMs: 2_500, describeLagMs: 1_000, instanceMs: 3_000 },
  ...{ pendingMs: 8_000, imageMs: 60_000 },
};
const ec2 = createEc2({
  region,
  scheduler,
  latency,
  subnets: [
    { cidr: '10.0.0.0/24', zone: `${region}a`, tags: { Name: 'nodes-a' } },
    { cidr: '10.0.64.0/20', zone: `${region}a`, tags: { Name: 'pods-a', eniboot: 'pods' } },
  ],
});
const { world } = ec2;
const instance = launchRecord(ec2, { type: 't3.small' });

/** One run of the agent. Whatever a dead one had begun finds that it is dead, however late. */
export interface Life {
  dead: boolean;
}
export const lives = new AsyncLocalStorage<Life>();

function isDead(): boolean {
  return lives.getStore()?.dead === true;
}

/** The one node of this process. */
export const node = {
  scheduler,
  ec2,
  faults: createFaults(),
  instance,
  kernel: createKernel(),
  /** What killed plugins had started and what goes on without them. */
  orphans: [] as (() => void)[],
  poweredOnAt: 0,
  boots: 0,
  egress: undefined as string | undefined,
  sandboxes: [] as string[],
  config: undefined as Config | undefined,
  enis: () => enisOf(world, instance.id),
};

ec2.subscribe((event) => {
  if (event.kind === 'attached') scheduler.after(DEVICE_MS, () => silently(plugAll));
  if (event.kind === 'detached') silently(plugAll);
});

/** Does what is no doing of the product's: no moment for a kill. */
export function silently<T>(work: () => T): T {
  const hook = beforeChanges(undefined);
  try {
    return work();
  } finally {
    beforeChanges(hook);
  }
}

/** Empty kernel, empty /run, a new boot ID; the ENIs that are attached have their devices. */
export function powerOn(): void {
  silently(() => {
    for (const folder of ['eniboot', 'netns', 'model'])
      rmSync(`/run/${folder}`, { recursive: true, force: true });
    mkdirSync('/run/netns');
    mkdirSync('/run/eniboot');
    node.kernel = createKernel();
    node.orphans = [];
    node.egress = undefined;
    node.poweredOnAt = scheduler.now();
    node.boots += 1;
    plugAll();
  });
}

function plugAll(): void {
  const { host } = node.kernel;
  const present = enisOf(world, instance.id).filter((eni) => eni.attachment?.status === 'attached');
  const devices = new Map(present.map((eni) => [deviceName(eni.attachment?.deviceIndex ?? 0), eni.mac]));
  for (const name of host.links.keys())
    if (name.startsWith('ens') && !devices.has(name)) node.kernel.unplug(name);
  for (const [name, mac] of devices) if (!host.links.has(name)) node.kernel.plug(name, mac);
  showInSysfs();
}

function deviceName(index: number): string {
  return `ens${5 + index}`;
}

/** The host's devices as the plugin reads them. */
function showInSysfs(): void {
  silently(() => {
    const { links } = node.kernel.host;
    const shown = readdirSync(SYSFS);
    for (const name of shown) if (!links.has(name)) rmSync(`${SYSFS}/${name}`, { recursive: true });
    for (const [name, { mac }] of links) {
      if (shown.includes(name)) continue;
      mkdirSync(`${SYSFS}/${name}`);
      writeFileSync(`${SYSFS}/${name}/address`, `${mac}\n`);
      writeFileSync(`${SYSFS}/${name}/mtu`, '9001\n');
      writeFileSync(`${SYSFS}/${name}/flags`, '0x1003\n');
    }
  });
}

// agent/port/clock.ts

export const systemClock: Clock = {
  bootMs: () => scheduler.now() - node.poweredOnAt + POWER_ON_MS,
  now: () => new Date(scheduler.now()),
  sleep: (ms) => {
    const life = lives.getStore();
    return new Promise((resolve) => {
      if (life?.dead === true) return;
      scheduler.after(ms, () => {
        if (life?.dead !== true) resolve();
      });
    });
  },
};

export function pause(): void {}

export function bootId(): string {
  return `boot-${node.boots}`;
}

// agent/port/exec-sync.ts, agent/port/exec.ts

interface Step {
  name: string;
  /** What it complains of. */
  run: () => string | undefined;
}

/**
 * Runs steps until one fails. The caller may be killed before each; what it had started then goes on, now or
 * whenever the driver lets it.
 */
function perform(steps: Step[], goOn = false): { at: number; complaints: string[] } {
  const complaints: string[] = [];
  let failedAt = 0;
  for (const [at, step] of steps.entries()) {
    try {
      change('kernel', step.name);
    } catch (error) {
      if (error instanceof Crash)
        node.orphans.push(() => silently(() => void perform(steps.slice(at), goOn)));
      throw error;
    }
    const complaint = step.run();
    showInSysfs();
    if (complaint === undefined) continue;
    failedAt ||= at + 1;
    complaints.push(complaint, `Command failed -:${at + 1}`);
    if (!goOn) break;
  }
  return { at: failedAt, complaints };
}

function linesOf(space: Space, text: string): Step[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => ({ name: line, run: () => node.kernel.line(space, line) }));
}

/** Thrown into a run that is dead already: nothing it does has any effect. */
function requireAlive(): void {
  change('kernel', 'a program is started');
}

export function runSync(file: string, args: string[], { input = '' }: ExecOptions = {}): ExecResult {
  requireAlive();
  const { kernel } = node;
  const answer = (exitCode: number, stderr: string[] = [], stdout = ''): ExecResult => ({
    command: [file, ...args],
    exitCode,
    signal: null,
    missing: false,
    stdout,
    stderr: stderr.join('\n'),
    timedOut: false,
    ms: 0,
  });
  const spaceAt = (path: string) => kernel.spaces.get(path);
  if (file === 'sh' && args[2] === 'eniboot') {
    const [, , , path = '', host = '', table = ''] = args;
    const space = spaceAt(path);
    const making: Step = {
      name: 'nft',
      run: () => {
        if (space === undefined) return `nsenter: cannot open ${path}: No such file or directory`;
        space.table = table;
        return undefined;
      },
    };
    // One shell: killed in its first part, its children still make the second.
    const first = linesOf(kernel.host, host);
    const second = space === undefined ? [] : linesOf(space, input);
    const { at, complaints } = perform([making, ...first, ...second]);
    if (at === 0) return answer(0);
    if (at === 1) return answer(42, complaints);
    const inHost = at - 1 <= first.length;
    const line = inHost ? at - 1 : at - 1 - first.length;
    return answer(inHost ? 41 : 1, [complaints[0] ?? '', `Command failed -:${line}`]);
  }
  if (file === 'ip' && args.includes('-batch')) {
    const { complaints } = perform(linesOf(kernel.host, input), args.includes('-force'));
    return answer(complaints.length === 0 ? 0 : 1, complaints);
  }
  if (file === 'ip' && args[0] === 'link' && args[1] === 'del') {
    const { complaints } = perform(linesOf(kernel.host, args.join(' ')));
    return answer(complaints.length === 0 ? 0 : 1, complaints);
  }
  if (file === 'ip' && args[0] === '-j') {
    return answer(0, [], showJson(kernel.host, args.includes('link') ? 'link' : 'rule'));
  }
  // No pod of the model is in another network.
  if (file === 'nsenter' && args.at(-1)?.includes('/net/route') === true) return answer(0, [], '--------\n');
  if (file === 'crictl') {
    const items = node.sandboxes.map((id) => ({ id, metadata: { name: id, namespace: 'n' } }));
    return answer(0, [], JSON.stringify({ items }));
  }
  throw new Error(`the modelled machine has no ${file} ${args.join(' ')}`);
}

export async function run(file: string, args: string[], options: ExecOptions = {}): Promise<ExecResult> {
  await systemClock.sleep(5);
  return runSync(file, args, options);
}

// agent/host/netlink/remove.ts

export function removeFromPod(netns: string, { group, lines }: PodRemoval): string | undefined {
  const space = node.kernel.spaces.get(netns);
  const isOther = (one: number) => one !== 0 && one !== group;
  if (space === undefined || [...space.links.values()].some((link) => isOther(link.group))) return undefined;
  const dropping: Step = {
    name: 'the tables',
    run: () => {
      space.table = undefined;
      return undefined;
    },
  };
  return removed([...linesOf(space, [`link del group ${group}`, ...lines].join('\n')), dropping]);
}

export function removeFromNode(lines: readonly string[]): string | undefined {
  return removed(linesOf(node.kernel.host, lines.join('\n')));
}

/** By the process itself: when that is killed, nothing goes on. */
function removed(steps: Step[]): string | undefined {
  for (const { name, run } of steps) {
    change('kernel', name);
    const complaint = run();
    showInSysfs();
    if (complaint !== undefined && !/Cannot find|No such|does not exist/.test(complaint)) return complaint;
  }
  return undefined;
}

// agent/host/links.ts, nft.ts, sysctl.ts, lock.ts

export async function listLinks(): Promise<Link[]> {
  const boot = node.enis()[0];
  return [...node.kernel.host.links]
    .filter(([, link]) => link.peer === undefined)
    .map(([name, { mac }], at) => ({
      index: at + 2,
      name,
      mac,
      mtu: 9001,
      up: true,
      carrier: true,
      kind: undefined,
      stacked: false,
      bus: 'pci',
      ipv6Auto: false,
      addresses:
        name === BOOT_DEVICE
          ? [{ family: 4, address: boot?.primaryIp ?? '', prefixLength: 24, scope: 'global', dynamic: true }]
          : [],
    }));
}

export async function waitForLinks(
  found: (links: Link[]) => boolean,
  timeoutMs: number,
): Promise<Link[] | undefined> {
  for (const started = scheduler.now(); scheduler.now() - started < timeoutMs; ) {
    const links = await listLinks();
    if (found(links)) return links;
    await systemClock.sleep(100);
  }
  return undefined;
}

export async function listRoutes(): Promise<Route[]> {
  return [{ family: 4, destination: 'default', gateway: '10.0.0.1', device: BOOT_DEVICE, protocol: 'dhcp' }];
}

export async function listRules(): Promise<Rule[]> {
  return [{ priority: BOOT_ENI_RULE_PRIORITY, mark: BOOT_ENI_MARK, mask: BOOT_ENI_MARK, table: 'main' }];
}

export async function ipBatch(lines: string[]): Promise<void> {
  perform(linesOf(node.kernel.host, lines.join('\n')));
}

export async function compareTables(body: string): Promise<{ intact: boolean; present: boolean }> {
  return { intact: node.egress === body, present: node.egress !== undefined };
}

export async function replaceTables(body: string): Promise<void> {
  change('nft', 'replace');
  node.egress = body;
}

export function readSysctl(path: string): string {
  return path.endsWith('rp_filter') ? '2' : '1';
}

export function writeSysctl(): void {}

/** One run of the agent at a time is the driver's doing. */
export async function takeLock(): Promise<{ release: () => void }> {
  return { release: () => {} };
}

// agent/boot/identify.ts, agent/aws/metadata.ts

function describe(eni: ReturnType<typeof node.enis>[number]): MetadataEni {
  return {
    mac: eni.mac,
    eniId: eni.id,
    deviceNumber: eni.attachment?.deviceIndex ?? 0,
    subnetId: eni.subnetId,
    subnetCidr: world.subnets.get(eni.subnetId)?.cidr ?? '',
    addresses: [eni.primaryIp, ...eni.secondaryIps],
    prefixes: eni.prefixes,
    ipv6Prefixes: eni.ipv6Prefixes,
  };
}

export async function readEni(_imds: unknown, mac: string): Promise<MetadataEni | undefined> {
  const eni = node.enis().find((one) => one.mac === mac);
  return eni === undefined ? undefined : describe(eni);
}

/** What IMDS would tell. */
export const identify = {
  async observe(boot: Boot): Promise<void> {
    const [bootEni, ...others] = node.enis().filter((eni) => eni.attachment?.status === 'attached');
    const [bootDevice] = await listLinks();
    const limits = await limitsOf(instance.type);
    if (
      bootEni === undefined ||
      bootDevice === undefined ||
      limits === undefined ||
      node.config === undefined
    )
      throw new Error('the modelled node lacks something');
    boot.config = node.config;
    const identity = {
      instanceId: instance.id,
      instanceType: instance.type,
      imageId: instance.imageId,
      region,
      zone: instance.zone,
      zoneId: instance.zoneId,
      accountId: world.accountId,
      mac: bootEni.mac,
    };
    boot.identity = identity;
    boot.node = {
      identity,
      bootEni: {
        ...describe(bootEni),
        vpcId: world.vpc.id,
        vpcCidrs: [...world.vpc.cidrs],
        publicAddress: '203.0.113.1',
        ipv6Addresses: bootEni.ipv6Addresses,
      },
      bootDevice,
      ownAddresses: { ipv4: describe(bootEni).addresses, ipv6: bootEni.ipv6Addresses },
      otherEnis: others.map(describe),
      limits,
      lifecycleTarget: undefined,
    };
  },
};

// @aws-sdk/client-ec2: the real commands, carried to the simulated EC2 on virtual time, with its faults.

export class EC2Client {
  async send(command: { constructor: { name: string }; input: object }): Promise<object> {
    const action = command.constructor.name.replace(/Command$/, '');
    await systemClock.sleep(API_MS);
    change('ec2', action);
    const fault = node.faults.ec2.take(
      (one) => (one.action === '*' || one.action === action) && isFor(one, instance.id),
    );
    if (fault?.close === true) throw reset();
    if (fault?.error !== undefined) throw refusal(new AwsError(fault.error, 'a fault of the test'));
    let answer: object;
    try {
      answer = ec2.send(action, command.input, { instanceId: instance.id });
    } catch (error) {
      throw error instanceof AwsError ? refusal(error) : error;
    }
    if (isDead()) return new Promise(() => {});
    // Carried out, and the caller may be dead before it hears of it.
    change('ec2', `${action} answered`);
    if (fault?.lost !== undefined) throw reset();
    return answer;
  }
}

function reset(): Error {
  return Object.assign(new Error('socket hang up'), { code: 'ECONNRESET' });
}

function refusal({ code, message, status }: AwsError): Error {
  return Object.assign(new Error(message), { name: code, $metadata: { httpStatusCode: status } });
}
