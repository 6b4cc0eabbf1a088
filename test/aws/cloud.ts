// Connects the model, the servers and the devices.
import type { Server } from 'node:http';
import { networkInterfaces } from 'node:os';
import type { ApiCall } from './calls.ts';
import { type CloudWatch, createCloudWatch } from './cloudwatch/cloudwatch.ts';
import { parseCidr, toAddress } from './ec2/addresses.ts';
import { createEc2, type Ec2 } from './ec2/ec2.ts';
import { realScheduler, type Scheduler } from './ec2/scheduler.ts';
import type { Ec2Event, Eni, InstanceRecord, Subnet } from './ec2/state.ts';
import type { BucketSize } from './ec2/throttle.ts';
import type { SubnetSpec } from './ec2/world.ts';
import { createFaults, type Faults, isFor } from './faults.ts';
import { createApi } from './http/server.ts';
import type { KnownKey } from './http/signature.ts';
import { createImds, type ImdsRequest } from './imds/server.ts';
import { roleCredentials } from './imds/tree.ts';
import { createInstance, type Driven, type Instance } from './instance/instance.ts';
import { type LaunchOptions, launchRecord } from './launch.ts';
import {
  createNetwork,
  internetAddress,
  internetAddress6,
  metadataAddress,
  metadataAddress6,
  type Network,
} from './network/network.ts';
import { createSsm, type Ssm } from './ssm/ssm.ts';

/** Milliseconds that each step takes. The defaults are short; `realisticLatency` is of the order of EC2. */
export interface Latency {
  /** Every API call. */
  apiMs: number;
  attachMs: number;
  /** From `attached` to the device in the instance. */
  deviceMs: number;
  detachMs: number;
  describeLagMs: number;
  idLagMs?: number;
  imdsLagMs: number;
  instanceMs: number;
  /** From RunInstances or StartInstances to `running`. */
  pendingMs: number;
  /** From CreateImage or CopyImage to `available`. */
  imageMs: number;
}

const shortLatency: Latency = {
  apiMs: 0,
  attachMs: 15,
  deviceMs: 10,
  detachMs: 15,
  describeLagMs: 20,
  imdsLagMs: 10,
  instanceMs: 10,
  pendingMs: 150,
  imageMs: 150,
};

/** Orders of magnitude as seen on EC2: an attachment takes seconds, every other step less. */
export const realisticLatency: Latency = {
  apiMs: 120,
  attachMs: 1500,
  deviceMs: 500,
  detachMs: 2500,
  describeLagMs: 1000,
  imdsLagMs: 1000,
  instanceMs: 3000,
  pendingMs: 8000,
  imageMs: 60_000,
};

export interface CloudOptions {
  region?: string;
  /** The first CIDR also holds the API's address: .255.10 of a /16. */
  vpcCidrs?: string[];
  subnets?: SubnetSpec[];
  /** Gives each default subnet a /64, and each instance of a node subnet an address of it. */
  ipv6?: boolean;
  latency?: Partial<Latency>;
  bucketOf?: (action: string) => BucketSize | undefined;
  scheduler?: Scheduler;
  /** The account's defaults of instance metadata. */
  metadataDefaults?: Ec2['world']['metadataDefaults'];
  defaultKey?: string;
  /** Runs the instances of RunInstances, which without it exist for the API only. */
  machineFor?: (record: InstanceRecord) => RunMachine;
}

export interface RunMachine {
  launch: LaunchOptions;
  /** Called when the instance's devices are there. */
  started(instance: Instance): Promise<void>;
}

/** A resource that costs money or addresses and that no instance uses or will delete. */
export interface Leak {
  kind: 'eni' | 'addresses';
  /** ID of an ENI or a subnet. */
  id: string;
  why: string;
  tags: Record<string, string>;
}

export interface Cloud {
  region: string;
  ec2: Ec2;
  ssm: Ssm;
  cloudwatch: CloudWatch;
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
  /** Keys of an operator who may call everything. */
  operator: { accessKeyId: string; secretAccessKey: string };
  /** `pid` is a process in the Internet's network namespace: a test starts outside clients beside it. */
  internet: { curlTarget: string; address: string; ipv6Target: string; pid: number };
  launch(options?: LaunchOptions): Promise<Instance>;
  /** Resolves when every pending hot-plug, rule change and power action is done; rejects when one of them failed. */
  settled(): Promise<void>;
  leakReport(): Leak[];
  /** Serves the APIs on a Unix socket as well, for clients outside the namespace. */
  listenOn(socketPath: string): Promise<void>;
  stop(): Promise<void>;
}

/** Two zones, each with a node subnet and a pod subnet (tag eniboot=pods). */
function defaultSubnets(region: string, ipv6: boolean): SubnetSpec[] {
  const subnets: SubnetSpec[] = [
    { cidr: '10.0.0.0/24', zone: `${region}a`, tags: { Name: 'nodes-a' }, mapPublicIp: true },
    { cidr: '10.0.1.0/24', zone: `${region}b`, tags: { Name: 'nodes-b' }, mapPublicIp: true },
    { cidr: '10.0.64.0/20', zone: `${region}a`, tags: { Name: 'pods-a', eniboot: 'pods' } },
    { cidr: '10.0.80.0/20', zone: `${region}b`, tags: { Name: 'pods-b', eniboot: 'pods' } },
  ];
  if (!ipv6) return subnets;
  return subnets.map((subnet, index) => ({
    ...subnet,
    ipv6Cidr: `2001:db8:1234:1a0${index}::/64`,
    assignIpv6: subnet.mapPublicIp ?? false,
  }));
}

/** Starts a region in the network namespace of this process, which must be a private one (test/sandbox.sh makes it). */
export async function startCloud(options: CloudOptions = {}): Promise<Cloud> {
  requirePrivateNamespace();
  const region = options.region ?? 'eu-west-1';
  const scheduler = options.scheduler ?? realScheduler;
  const latency: Latency = { ...shortLatency, ...options.latency };
  const faults = createFaults();
  const ec2 = createEc2({
    region,
    scheduler,
    subnets: options.subnets ?? defaultSubnets(region, options.ipv6 === true),
    latency,
    denied: faults.denied,
    attachFault: (instanceId) => faults.attach.take((fault) => isFor(fault, instanceId)),
    ...(options.ipv6 === true ? { vpcIpv6Cidrs: ['2001:db8:1234:1a00::/56'] } : {}),
    ...(options.vpcCidrs === undefined ? {} : { vpcCidrs: options.vpcCidrs }),
    ...(options.bucketOf === undefined ? {} : { bucketOf: options.bucketOf }),
    ...(options.defaultKey === undefined ? {} : { defaultKey: options.defaultKey }),
    ...(options.metadataDefaults === undefined ? {} : { metadataDefaults: options.metadataDefaults }),
  });
  const { world } = ec2;
  const cloudwatch = createCloudWatch({
    scheduler,
    calls: ec2.calls,
    denied: faults.denied,
    bucketOf: options.bucketOf,
  });
  const ssm = createSsm({
    scheduler,
    calls: ec2.calls,
    denied: faults.denied,
    arnPrefix: `arn:aws:ssm:${region}:${world.accountId}`,
    accountId: world.accountId,
    bucketOf: options.bucketOf,
    tagsOf: (instanceId) => {
      const instance = world.instances.get(instanceId);
      return instance === undefined || instance.state === 'terminated' ? undefined : instance.tags;
    },
    isInAlarm: cloudwatch.isInAlarm,
    // In a test that registers no image, every image ID exists.
    imageExists: (imageId) =>
      world.images.size === 0
        ? /^ami-[0-9a-f]{17}$/.test(imageId)
        : world.images.get(imageId)?.state === 'available',
  });
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

  const newApi = () => createApi({ ec2, ssm, cloudwatch, faults, keyOf, latencyMs: () => latency.apiMs });
  const api = newApi();
  const newImds = () =>
    createImds({
      world,
      faults: faults.imds,
      requests: imdsRequests,
      lagMs: () => latency.imdsLagMs,
      credentialsOf: roleCredentials,
    });
  const imds = newImds();
  const servers = [api, imds];
  await Promise.all([listen(api, serviceAddress), listen(imds, metadataAddress)]);
  if (options.ipv6 === true) {
    const imds6 = newImds();
    servers.push(imds6);
    await listen(imds6, metadataAddress6);
  }

  const instances = new Map<string, Driven>();
  const pending = new Set<Promise<unknown>>();
  const broken: unknown[] = [];
  let stopped = false;
  function track(job: Promise<unknown>): void {
    const finished = job.catch((error: unknown) => void broken.push(error));
    pending.add(finished);
    void finished.finally(() => pending.delete(finished));
  }
  ec2.subscribe((event) => {
    const job = deviceJob(event);
    if (job !== undefined) track(job);
  });

  function deviceJob(event: Ec2Event): Promise<void> | undefined {
    if (event.kind === 'run') return run(event.instance);
    if (event.kind === 'addresses') return network.update(event.eni);
    if (event.kind === 'attached') return instances.get(event.attachment.instanceId)?.attached(event.eni);
    if (event.kind === 'detached') return instances.get(event.attachment.instanceId)?.detached(event.eni);
    if (event.kind === 'instance') return instances.get(event.instance.id)?.obey(event.action);
    return undefined;
  }

  async function run(record: InstanceRecord): Promise<void> {
    const machine = stopped ? undefined : options.machineFor?.(record);
    if (machine === undefined) return;
    await machine.started(await power(record, machine.launch));
  }

  async function power(record: InstanceRecord, wanted: LaunchOptions): Promise<Instance> {
    const around = { ec2, network, faults, deviceMs: () => latency.deviceMs, settled };
    const instance = createInstance(around, record, wanted);
    instances.set(record.id, instance);
    await instance.powerOn();
    return instance;
  }

  async function settled(): Promise<void> {
    while (pending.size > 0) await Promise.all(pending);
    await network.settled();
    if (broken.length > 0)
      throw new AggregateError(
        broken.splice(0),
        'the simulation could not carry out a change that its model decided on',
      );
  }

  const endpoint = `http://${serviceAddress}`;
  return {
    region,
    ec2,
    ssm,
    cloudwatch,
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
    internet: {
      curlTarget: `http://${internetAddress}/`,
      address: internetAddress,
      pid: network.internetPid,
      ipv6Target: `http://[${internetAddress6}]/`,
    },
    launch: async (wanted = {}) => power(launchRecord(ec2, wanted), wanted),
    settled,
    leakReport: () => leaksOf(ec2),
    listenOn: async (socketPath) => {
      const server = newApi();
      servers.push(server);
      await new Promise<void>((done, fail) => {
        server.once('error', fail);
        server.listen(socketPath, done);
      });
    },
    stop: async () => {
      stopped = true;
      for (const instance of instances.values()) await instance.destroy();
      await Promise.all(servers.map(close));
      try {
        await settled();
      } finally {
        await network.stop();
      }
    },
  };
}

export function leaksOf(ec2: Ec2): Leak[] {
  const { world } = ec2;
  const enis = [...world.enis.values()];
  const orphans = enis.flatMap((eni): Leak[] => {
    const owner = world.instances.get(eni.attachment?.instanceId ?? '');
    if (owner !== undefined && owner.state !== 'terminated') return [];
    const why =
      eni.attachment === undefined
        ? 'attached to nothing'
        : `attached to ${eni.attachment.instanceId}, which is gone`;
    return [{ kind: 'eni', id: eni.id, why, tags: Object.fromEntries(eni.tags) }];
  });
  const reserved = 5;
  const lost = [...world.subnets.values()].flatMap((subnet): Leak[] => {
    const { first, last } = subnet.space.range;
    const held = enis.filter((eni) => eni.subnetId === subnet.id).map(addressCount);
    const missing =
      last - first + 1 - reserved - subnet.space.free - held.reduce((sum, count) => sum + count, 0);
    if (missing === 0) return [];
    return [
      {
        kind: 'addresses',
        id: subnet.id,
        why: `${missing} taken without an ENI`,
        tags: Object.fromEntries(subnet.tags),
      },
    ];
  });
  return [...orphans, ...lost];
}

function addressCount(eni: Eni): number {
  return 1 + eni.secondaryIps.length + 16 * eni.prefixes.length;
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
