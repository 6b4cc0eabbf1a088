// Puts the model, the servers and the devices together.
import type { ChildProcess, SpawnOptions } from 'node:child_process';
import type { Server } from 'node:http';
import { networkInterfaces } from 'node:os';
import type { ExecOptions, ExecResult } from '../../agent/port/exec-result.ts';
import { launchInstance } from './ec2/actions/instances.ts';
import { attach, finishAttach, givePublicAddress } from './ec2/actions/interfaces.ts';
import { parseCidr, toAddress } from './ec2/addresses.ts';
import { type ApiCall, createEc2, type Ec2 } from './ec2/ec2.ts';
import { realScheduler, type Scheduler } from './ec2/scheduler.ts';
import type { Ec2Event, Eni, InstanceRecord, Subnet } from './ec2/state.ts';
import type { BucketSize } from './ec2/throttle.ts';
import { enisOf, type SubnetSpec, subnetOf } from './ec2/world.ts';
import { createFaults, type DeviceFault, type Faults } from './faults.ts';
import { createApi } from './http/server.ts';
import type { KnownKey } from './http/signature.ts';
import { createImds, type ImdsRequest } from './imds/server.ts';
import { roleCredentials } from './imds/tree.ts';
import { createMachine, type Machine } from './instance/machine.ts';
import {
  createNetwork,
  dnsAddress,
  internetAddress,
  metadataAddress,
  type Network,
  routerAddress,
} from './network/network.ts';
import { createSsm, type Ssm } from './ssm/ssm.ts';

/** Milliseconds each thing takes. The defaults are short; `realisticLatency` is what EC2 shows. */
export interface Latency {
  /** Every API call. */
  apiMs: number;
  attachMs: number;
  /** From `attached` to the device in the instance. */
  deviceMs: number;
  detachMs: number;
  describeLagMs: number;
  imdsLagMs: number;
  instanceMs: number;
}

const shortLatency: Latency = {
  apiMs: 0,
  attachMs: 15,
  deviceMs: 10,
  detachMs: 15,
  describeLagMs: 20,
  imdsLagMs: 10,
  instanceMs: 10,
};

/** Orders of magnitude as seen on EC2: an attachment takes seconds, everything else less. */
export const realisticLatency: Latency = {
  apiMs: 120,
  attachMs: 1500,
  deviceMs: 500,
  detachMs: 2500,
  describeLagMs: 1000,
  imdsLagMs: 1000,
  instanceMs: 3000,
};

export interface CloudOptions {
  region?: string;
  /** The first one also holds the API's address, .255.10 of a /16. */
  vpcCidrs?: string[];
  subnets?: SubnetSpec[];
  latency?: Partial<Latency>;
  bucketOf?: (action: string) => BucketSize | undefined;
  scheduler?: Scheduler;
}

export interface PodEniSpec {
  subnet?: string;
  prefixes?: number;
  addresses?: number;
  tags?: Record<string, string>;
  deviceIndex?: number;
  deleteOnTermination?: boolean;
}

export interface LaunchOptions {
  type?: string;
  /** Subnet ID; default is the node subnet of the first zone. */
  subnet?: string;
  /** Default true. */
  publicIp?: boolean;
  userData?: string;
  tags?: Record<string, string>;
  /** ENIs attached before power-on: a number of plain ones with eight prefixes' worth of nothing, or each described. */
  podEnis?: number | PodEniSpec[];
  imds?: { hopLimit?: number; tagsInMetadata?: boolean };
  /** Laid into the instance before it boots: path → text. */
  files?: Record<string, string>;
  shutdownBehavior?: 'stop' | 'terminate';
  role?: string;
  lifecycleState?: string;
  imageId?: string;
}

export interface Instance {
  readonly id: string;
  readonly type: string;
  readonly zone: string;
  readonly record: InstanceRecord;
  readonly bootEni: Eni;
  readonly enis: Eni[];
  /** PID of its init, 0 while it is off. */
  readonly pid: number;
  /** Its file tree, reached from outside. */
  readonly root: string;
  consoleLog(): string;
  /** The name of an ENI's device in there, as it was plugged in. */
  deviceOf(eniId: string): string | undefined;
  run(file: string, args: string[], options?: ExecOptions): Promise<ExecResult>;
  spawn(file: string, args: string[], options?: SpawnOptions): ChildProcess;
  read(path: string): string | undefined;
  write(path: string, text: string, mode?: number): void;
  reboot(): Promise<void>;
  stop(): Promise<void>;
  start(): Promise<void>;
  terminate(): Promise<void>;
}

/** An ENI nobody will ever use or delete. */
export interface Leak {
  kind: 'eni';
  id: string;
  why: string;
  tags: Record<string, string>;
}

export interface Cloud {
  region: string;
  ec2: Ec2;
  ssm: Ssm;
  vpc: Ec2['world']['vpc'];
  subnets: Map<string, Subnet>;
  enis: Map<string, Eni>;
  instances: Map<string, Instance>;
  faults: Faults;
  calls: ApiCall[];
  imds: ImdsRequest[];
  latency: Latency;
  network: Network;
  endpoints: { ec2: string; ssm: string; imds: string };
  /** Keys of somebody who may do everything. */
  operator: { accessKeyId: string; secretAccessKey: string };
  internet: { curlTarget: string; address: string };
  launch(options?: LaunchOptions): Promise<Instance>;
  /** Every pending hot-plug, rule change and power action has happened. */
  settled(): Promise<void>;
  leakReport(): Leak[];
  stop(): Promise<void>;
}

/** Two zones, each with a node subnet and a pod subnet (tag eniboot=pods). */
function defaultSubnets(region: string): SubnetSpec[] {
  return [
    { cidr: '10.0.0.0/24', zone: `${region}a`, tags: { Name: 'nodes-a' }, mapPublicIp: true },
    { cidr: '10.0.1.0/24', zone: `${region}b`, tags: { Name: 'nodes-b' }, mapPublicIp: true },
    { cidr: '10.0.64.0/20', zone: `${region}a`, tags: { Name: 'pods-a', eniboot: 'pods' } },
    { cidr: '10.0.80.0/20', zone: `${region}b`, tags: { Name: 'pods-b', eniboot: 'pods' } },
  ];
}

/**
 * Starts a region in the network namespace this process is in, which must be a private one (test/sandbox.sh gives it).
 */
export async function startCloud(options: CloudOptions = {}): Promise<Cloud> {
  requirePrivateNamespace();
  const region = options.region ?? 'eu-west-1';
  const scheduler = options.scheduler ?? realScheduler;
  const latency: Latency = { ...shortLatency, ...options.latency };
  const denied = new Set<string>();
  const faults = createFaults(denied);
  const ec2 = createEc2({
    region,
    scheduler,
    subnets: options.subnets ?? defaultSubnets(region),
    latency,
    attachFault: () => faults.attach.take(() => true),
    ...(options.vpcCidrs === undefined ? {} : { vpcCidrs: options.vpcCidrs }),
    ...(options.bucketOf === undefined ? {} : { bucketOf: options.bucketOf }),
  });
  const { world } = ec2;
  for (const action of Object.keys(world.latency) as (keyof typeof world.latency)[])
    Object.defineProperty(world.latency, action, { get: () => latency[action] });
  ec2.denied = denied;
  const ssm = createSsm(scheduler, ec2.calls, denied, `arn:aws:ssm:${region}:${world.accountId}`);
  const serviceAddress = toAddress(parseCidr(world.vpc.cidrs[0] ?? '10.0.0.0/16').last - 245);
  const network = await createNetwork(world, serviceAddress);
  const operator = {
    accessKeyId: 'AKIASIMULATEDOPERATR',
    secretAccessKey: 'simulated/secret/of/the/operator/0000000',
  };
  const imdsRequests: ImdsRequest[] = [];

  function keyOf(accessKeyId: string): KnownKey | undefined {
    if (accessKeyId === operator.accessKeyId) return { secretAccessKey: operator.secretAccessKey };
    for (const instanceId of world.instances.keys()) {
      const pair = roleCredentials(instanceId);
      if (pair.accessKeyId === accessKeyId)
        return { secretAccessKey: pair.secretAccessKey, sessionToken: pair.sessionToken, instanceId };
    }
    return undefined;
  }

  const api = createApi({ ec2, ssm, faults, keyOf, latencyMs: () => latency.apiMs });
  const imds = createImds({
    world,
    faults: faults.imds,
    requests: imdsRequests,
    lagMs: () => latency.imdsLagMs,
    credentialsOf: roleCredentials,
  });
  await Promise.all([listen(api, serviceAddress), listen(imds, metadataAddress)]);

  const instances = new Map<string, SimulatedInstance>();
  const pending = new Set<Promise<unknown>>();
  function track(job: Promise<unknown>): void {
    const settled = job.catch((error: unknown) =>
      process.stderr.write(`simulated device: ${String(error)}\n`),
    );
    pending.add(settled);
    void settled.finally(() => pending.delete(settled));
  }
  ec2.subscribe((event) => dispatch(event));

  function dispatch(event: Ec2Event): void {
    if (event.kind === 'addresses') track(network.update(event.eni));
    if (event.kind === 'attached') {
      const instance = instances.get(event.attachment.instanceId);
      if (instance !== undefined) track(instance.hotPlug(event.eni));
    }
    if (event.kind === 'detached') track(unplug(event.eni, event.attachment.instanceId));
    if (event.kind === 'instance') {
      const instance = instances.get(event.instance.id);
      if (instance !== undefined) track(instance.obey(event.action));
    }
  }

  async function unplug(eni: Eni, instanceId: string): Promise<void> {
    instances.get(instanceId)?.forget(eni.id);
    await network.unplug(eni);
  }

  async function settled(): Promise<void> {
    while (pending.size > 0) await Promise.all(pending);
    await network.settled();
  }

  const endpoint = `http://${serviceAddress}`;
  return {
    region,
    ec2,
    ssm,
    vpc: world.vpc,
    subnets: world.subnets,
    enis: world.enis,
    instances,
    faults,
    calls: ec2.calls,
    imds: imdsRequests,
    latency,
    network,
    endpoints: { ec2: endpoint, ssm: endpoint, imds: `http://${metadataAddress}` },
    operator,
    internet: { curlTarget: `http://${internetAddress}/`, address: internetAddress },
    launch: async (wanted = {}) => {
      const record = launch(ec2, wanted);
      const instance = createInstance(ec2, network, latency, faults, record, wanted, settled);
      instances.set(record.id, instance);
      await instance.boot();
      return instance;
    },
    settled,
    leakReport: () => leaks(ec2),
    stop: async () => {
      for (const instance of instances.values()) await instance.destroy();
      await settled();
      await Promise.all([api, imds].map(close));
      await network.stop();
    },
  };
}

/** The model's part of a launch: boot ENI, pod ENIs, public address; no device yet. */
function launch(ec2: Ec2, wanted: LaunchOptions): InstanceRecord {
  const { world } = ec2;
  const first = [...world.subnets.values()][0];
  const subnet = subnetOf(world, wanted.subnet ?? first?.id ?? '');
  const record = launchInstance(world, {
    type: wanted.type ?? 'm5.xlarge',
    imageId: wanted.imageId ?? 'ami-0123456789abcdef0',
    subnetId: subnet.id,
    publicIp: false,
    tags: new Map(Object.entries({ Name: 'node', ...wanted.tags })),
    hopLimit: wanted.imds?.hopLimit ?? 1,
    tagsInMetadata: wanted.imds?.tagsInMetadata ?? false,
    userData: wanted.userData,
    role: wanted.role ?? 'eniboot-node',
    shutdownBehavior: wanted.shutdownBehavior ?? 'stop',
    lifecycleState: wanted.lifecycleState,
  });
  const boot = enisOf(world, record.id)[0];
  if (boot !== undefined && wanted.publicIp !== false) givePublicAddress(world, boot);
  const podEnis =
    typeof wanted.podEnis === 'number'
      ? Array.from({ length: wanted.podEnis }, () => ({}))
      : (wanted.podEnis ?? []);
  for (const [index, spec] of podEnis.entries()) launchPodEni(ec2, record, spec, index + 1);
  return record;
}

function launchPodEni(ec2: Ec2, record: InstanceRecord, spec: PodEniSpec, nextIndex: number): void {
  const { world } = ec2;
  const inZone = [...world.subnets.values()].filter((one) => one.zone === record.zone);
  const subnetId = spec.subnet ?? (inZone.find((one) => one.tags.get('eniboot') === 'pods') ?? inZone[0])?.id;
  const answer = ec2.send('CreateNetworkInterface', {
    SubnetId: subnetId,
    Description: 'attached at launch',
    ...(spec.prefixes === undefined ? {} : { Ipv4PrefixCount: spec.prefixes }),
    ...(spec.addresses === undefined ? {} : { SecondaryPrivateIpAddressCount: spec.addresses }),
    ...(spec.tags === undefined
      ? {}
      : {
          TagSpecifications: [
            {
              ResourceType: 'network-interface',
              Tags: Object.entries(spec.tags).map(([Key, Value]) => ({ Key, Value })),
            },
          ],
        }),
  }) as { NetworkInterface: { NetworkInterfaceId: string } };
  const eni = world.enis.get(answer.NetworkInterface.NetworkInterfaceId);
  if (eni === undefined) return;
  const attachment = attach(world, eni, record, {
    deviceIndex: spec.deviceIndex ?? nextIndex,
    networkCardIndex: 0,
    deleteOnTermination: spec.deleteOnTermination ?? true,
  });
  finishAttach(world, eni, attachment);
}

interface SimulatedInstance extends Instance {
  boot(): Promise<void>;
  hotPlug(eni: Eni): Promise<void>;
  forget(eniId: string): void;
  obey(action: 'reboot' | 'stop' | 'start' | 'terminate'): Promise<void>;
  destroy(): Promise<void>;
}

function createInstance(
  ec2: Ec2,
  network: Network,
  latency: Latency,
  faults: Faults,
  record: InstanceRecord,
  wanted: LaunchOptions,
  settled: () => Promise<void>,
): SimulatedInstance {
  const { world } = ec2;
  const bootEni = bootEniOf(ec2, record);
  const subnet = subnetOf(world, bootEni.subnetId);
  const machine: Machine = createMachine({
    id: record.id,
    hostname: `ip-${bootEni.primaryIp.replaceAll('.', '-')}`,
    resolvConf: `search ${record.zone.slice(0, -1)}.compute.internal\nnameserver ${dnsAddress(subnet)}\n`,
  });
  const devices = new Map<string, string>();

  /** Nitro names devices by PCI slot: ens5 for device index 0, then ens6 and so on. */
  async function plug(eni: Eni, fault: DeviceFault = {}): Promise<void> {
    if (fault.never === true) return;
    const taken = new Set(devices.values());
    let slot = 5 + (eni.attachment?.deviceIndex ?? 0);
    while (taken.has(`ens${slot}`)) slot++;
    const device = fault.name ?? `ens${slot}`;
    devices.set(eni.id, device);
    await network.plug(eni, {
      kind: 'netns',
      pid: machine.pid,
      device,
      mtu: fault.mtu ?? 9001,
      carrier: fault.noCarrier !== true,
    });
    if (fault.address !== undefined) {
      const route =
        fault.defaultRouteVia === undefined
          ? ''
          : `route add default via ${fault.defaultRouteVia} dev ${device} proto dhcp metric 101\n`;
      await machine.configure(`link set ${device} up\naddr add ${fault.address} dev ${device}\n${route}`);
    }
    const newName = fault.renameTo;
    if (newName !== undefined) {
      await new Promise((done) => setTimeout(done, fault.renameAfterMs ?? 50));
      await machine.configure(`link set ${device} name ${newName}\n`);
      devices.set(eni.id, newName);
    }
  }

  async function powerOn(files: Record<string, string>): Promise<void> {
    await machine.powerOn();
    for (const [path, text] of Object.entries(files)) machine.write(path, text);
    devices.clear();
    const present = enisOf(world, record.id).filter((eni) => eni.attachment?.status === 'attached');
    for (const eni of present) await plug(eni, eni === bootEni ? {} : (faults.device.take(() => true) ?? {}));
    const device = devices.get(bootEni.id) ?? 'ens5';
    const router = routerAddress(subnet);
    const length = parseCidr(subnet.cidr).length;
    // What NetworkManager leaves behind after DHCP on the boot ENI.
    await machine.configure(
      [
        'link set lo up',
        `link set ${device} up`,
        `addr add ${bootEni.primaryIp}/${length} brd + dev ${device} valid_lft 86400 preferred_lft 86400 noprefixroute`,
        `route add ${subnet.cidr} dev ${device} proto kernel scope link src ${bootEni.primaryIp} metric 100`,
        `route add default via ${router} dev ${device} proto dhcp src ${bootEni.primaryIp} metric 100`,
        '',
      ].join('\n'),
    );
  }

  async function powerOff(): Promise<void> {
    await machine.powerOff();
    for (const eni of [...devices.keys()].map((id) => world.enis.get(id)))
      if (eni !== undefined) await network.unplug(eni);
    devices.clear();
  }

  const instance: SimulatedInstance = {
    id: record.id,
    type: record.type,
    zone: record.zone,
    record,
    bootEni,
    get enis() {
      return enisOf(world, record.id);
    },
    get pid() {
      return machine.pid;
    },
    get root() {
      return machine.root;
    },
    consoleLog: machine.console,
    deviceOf: (eniId) => devices.get(eniId),
    run: machine.run,
    spawn: machine.spawn,
    read: machine.read,
    write: machine.write,
    reboot: async () => {
      ec2.send('RebootInstances', { InstanceIds: [record.id] });
      await settled();
    },
    stop: async () => {
      ec2.send('StopInstances', { InstanceIds: [record.id] });
      await until(() => record.state === 'stopped');
      await settled();
    },
    start: async () => {
      ec2.send('StartInstances', { InstanceIds: [record.id] });
      await settled();
    },
    terminate: async () => {
      ec2.send('TerminateInstances', { InstanceIds: [record.id] });
      await until(() => record.state === 'terminated');
      await settled();
    },
    boot: () => powerOn(wanted.files ?? {}),
    hotPlug: async (eni) => {
      const fault = faults.device.take(() => true) ?? {};
      await new Promise((done) => setTimeout(done, latency.deviceMs + (fault.delayMs ?? 0)));
      if (machine.pid !== 0 && eni.attachment?.instanceId === record.id && !devices.has(eni.id))
        await plug(eni, fault);
    },
    forget: (eniId) => void devices.delete(eniId),
    obey: async (action) => {
      if (action !== 'start') await powerOff();
      if (action === 'reboot' || action === 'start') await powerOn({});
    },
    destroy: async () => {
      await powerOff();
      await machine.destroy();
    },
  };
  return instance;
}

function bootEniOf(ec2: Ec2, record: InstanceRecord): Eni {
  const eni = enisOf(ec2.world, record.id)[0];
  if (eni === undefined) throw new Error(`${record.id} has no boot ENI`);
  return eni;
}

function leaks(ec2: Ec2): Leak[] {
  const { world } = ec2;
  return [...world.enis.values()].flatMap((eni) => {
    const owner = world.instances.get(eni.attachment?.instanceId ?? '');
    if (owner !== undefined && owner.state !== 'terminated') return [];
    const why =
      eni.attachment === undefined
        ? 'attached to nothing'
        : `attached to ${eni.attachment.instanceId}, which is gone`;
    return [{ kind: 'eni' as const, id: eni.id, why, tags: Object.fromEntries(eni.tags) }];
  });
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 10_000) throw new Error('the simulated instance did not reach its state');
    await new Promise((done) => setTimeout(done, 1));
  }
}

function requirePrivateNamespace(): void {
  const foreign = Object.keys(networkInterfaces()).filter((name) => name !== 'lo');
  if (foreign.length === 0) return;
  throw new Error(
    `the simulated AWS needs a network namespace of its own, and this one holds ${foreign.join(', ')}: start it through test/sandbox.sh`,
  );
}

async function listen(server: Server, address: string): Promise<void> {
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(80, address, done);
  });
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((done) => server.close(done));
}
