// Replaces the machine for the product's modules when they run in this process: a modelled kernel, virtual time, the simulated
// EC2 without HTTP. memory.ts has the list of replaced modules.
import { AsyncLocalStorage } from 'node:async_hooks';
import { mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { limitsOf } from '../../agent/aws/limits/limits.ts';
import type { MetadataEni } from '../../agent/aws/metadata.ts';
import type { Context } from '../../agent/boot/context.ts';
import type { NodeFacts } from '../../agent/boot/facts/facts.ts';
import type { Config } from '../../agent/config/schema.ts';
import type { Link } from '../../agent/host/links.ts';
import { BOOT_ENI_MARK, BOOT_ENI_RULE_PRIORITY } from '../../agent/host/names.ts';
import type { Route, Rule } from '../../agent/host/routes.ts';
import type { Problem, Kernel as Session } from '../../agent/kernel/execute.ts';
import type { KernelOperation, Side } from '../../agent/kernel/operation.ts';
import { render } from '../../agent/kernel/render.ts';
import type { Clock } from '../../agent/port/clock.ts';
import type { ExecResult } from '../../agent/port/exec-result.ts';
import { enisOf } from '../aws/ec2/world.ts';
import { createFaults, isFor } from '../aws/faults.ts';
import { AwsError, createEc2, virtualScheduler } from '../aws/index.ts';
import { launchRecord } from '../aws/launch.ts';
import { beforeChanges, change } from '../pool/crash.ts';
import { createKernel, type Space } from './kernel.ts';

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

/** One run of the agent. After its kill, every operation that it had begun ends at its next change, at any later time. */
export interface Life {
  dead: boolean;
}
export const lives = new AsyncLocalStorage<Life>();

function isDead(): boolean {
  return lives.getStore()?.dead === true;
}

/** The only node of this process. */
export const node = {
  scheduler,
  ec2,
  faults: createFaults(),
  instance,
  kernel: createKernel(),
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

/** Makes changes that are not the product's: a kill does not happen at them. */
export function silently<T>(work: () => T): T {
  const hook = beforeChanges(undefined);
  try {
    return work();
  } finally {
    beforeChanges(hook);
  }
}

/** Empties kernel and /run, makes a new boot ID, and plugs devices for the attached ENIs. */
export function powerOn(): void {
  silently(() => {
    for (const folder of ['eniboot', 'netns', 'model'])
      rmSync(`/run/${folder}`, { recursive: true, force: true });
    mkdirSync('/run/netns');
    mkdirSync('/run/eniboot');
    node.kernel = createKernel();
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

/** Shows the host's devices in sysfs, where the plugin reads them. */
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

/** Throws in a run that was killed: it must have no further effect. */
function requireAlive(): void {
  change('kernel', 'a program is started');
}

export function runSync(file: string, args: string[]): ExecResult {
  requireAlive();
  const answer = (stdout: string): ExecResult => ({
    command: [file, ...args],
    exitCode: 0,
    signal: null,
    missing: false,
    stdout,
    stderr: '',
    timedOut: false,
    ms: 0,
  });
  if (file === 'crictl') {
    const items = node.sandboxes.map((id) => ({ id, metadata: { name: id, namespace: 'n' } }));
    return answer(JSON.stringify({ items }));
  }
  throw new Error(`the modelled machine has no ${file} ${args.join(' ')}`);
}

export async function run(file: string, args: string[]): Promise<ExecResult> {
  await systemClock.sleep(5);
  return runSync(file, args);
}

// agent/kernel/execute.ts

export function inPod<T>(netns: string, work: (kernel: Session) => T): T {
  const space = node.kernel.spaces.get(netns);
  if (space === undefined)
    throw Object.assign(new Error(`ENOENT: ${netns}`), { code: 'ENOENT', syscall: 'open', errno: -2 });
  return work(session(space));
}

export function inPodIfThere<T>(netns: string, work: (kernel: Session) => T): T | undefined {
  return node.kernel.spaces.has(netns) ? inPod(netns, work) : undefined;
}

export function inNode<T>(work: (kernel: Session) => T): T {
  return work(session(undefined));
}

function session(pod: Space | undefined): Session {
  const spaceOf = (side: Side) => (side === 'node' ? node.kernel.host : pod);
  const links = (side: Side) =>
    [...(spaceOf(side)?.links ?? [])].map(([name, { group, parent, peer }]) => ({
      ...{ name, group, kind: parent !== undefined ? 'ipvlan' : peer === undefined ? '' : 'veth' },
    }));
  const ownRules = (side: Side) =>
    (spaceOf(side)?.rules ?? []).map(({ kind, family, priority, table }) => ({
      ...{ kind, family, priority, table },
    }));
  return {
    run: (operations) => done(operations, pod),
    setting: () => undefined,
    // The parts that a removal reads; the modelled node has no CHECK.
    listing: (side) => ({ links: () => links(side), ownRules: () => ownRules(side) }) as never,
    tables: () => {
      throw new Error('the modelled machine lists no tables');
    },
  };
}

/** Changes by the process itself: when it is killed, no later one happens. */
function done(operations: readonly KernelOperation[], pod: Space | undefined): Problem | undefined {
  for (const operation of operations) {
    change('kernel', render(operation));
    const answer = node.kernel.perform(operation, pod);
    showInSysfs();
    if (answer !== undefined && operation.do !== 'remove') return { operation, ...answer };
  }
  return undefined;
}

// agent/host/links.ts, routes.ts, nft.ts, sysctl.ts, lock.ts

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

export async function routeTo(): Promise<{ device: string; source: string }> {
  return { device: BOOT_DEVICE, source: node.enis()[0]?.primaryIp ?? '' };
}

export async function listRules(): Promise<Rule[]> {
  return [{ priority: BOOT_ENI_RULE_PRIORITY, mark: BOOT_ENI_MARK, mask: BOOT_ENI_MARK, table: 'main' }];
}

interface Tables {
  listing: string | undefined;
  counted: Map<string, { packets: number; bytes: number }>;
}

export async function readTables(): Promise<Tables> {
  return { listing: node.egress, counted: new Map() };
}

export async function readCounters(): Promise<Map<string, { packets: number; bytes: number }>> {
  return new Map();
}

export function compareTables(
  { listing }: { listing: string | undefined },
  body: string,
): { intact: boolean; present: boolean } {
  return { intact: listing === body, present: listing !== undefined };
}

export async function replaceTables({ text }: { text: string }): Promise<Tables> {
  change('nft', 'replace');
  node.egress = text;
  return readTables();
}

export function readSysctl(path: string): string {
  return path.endsWith('rp_filter') ? '2' : '1';
}

/** The driver starts one run of the agent at a time. */
export async function takeLock(): Promise<{ release: () => void }> {
  return { release: () => {} };
}

// agent/boot/phases/identify.ts, agent/aws/metadata.ts

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

/** The facts that IMDS would give. */
export function identify(context: Context): { observe(): Promise<{ node: NodeFacts }> } {
  return { observe: async () => ({ node: await observeNode(context) }) };
}

async function observeNode(context: Context): Promise<NodeFacts> {
  const [bootEni, ...others] = node.enis().filter((eni) => eni.attachment?.status === 'attached');
  const [bootDevice] = await listLinks();
  const limits = await limitsOf(instance.type);
  const { config } = node;
  if (bootEni === undefined || bootDevice === undefined || limits === undefined || config === undefined)
    throw new Error('the modelled node has no answer for this');
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
  Object.assign(context.known, { identity, config });
  return {
    ...{ config, identity, bootDevice, limits },
    bootEni: {
      ...describe(bootEni),
      vpcId: world.vpc.id,
      vpcCidrs: [...world.vpc.cidrs],
      publicAddress: '203.0.113.1',
      ipv6Addresses: bootEni.ipv6Addresses,
    },
    ownAddresses: { ipv4: describe(bootEni).addresses, ipv6: bootEni.ipv6Addresses },
    otherEnis: others.map(describe),
    limitsFromEc2: false,
    lifecycleTarget: undefined,
  };
}

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
    // EC2 has carried the call out; the caller may be killed before it gets the answer.
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
