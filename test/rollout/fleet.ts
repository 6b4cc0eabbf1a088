// A fleet of modelled nodes under the simulated SSM on virtual time, and an operator whose calls can be lost, or who is killed.
// The model itself answers DescribeInstances: 20,000 simulated instances with ENIs would not answer differently.

import { type AwsClock, awsClock } from '../../agent/aws/aws-clock.ts';
import { type FleetAws, fleetAws } from '../../agent/aws/fleet.ts';
import type { CallRecord } from '../../agent/aws/patience.ts';
import type { Clock } from '../../agent/port/clock.ts';
import { recording } from '../aws/calls.ts';
import { type CloudWatch, createCloudWatch } from '../aws/cloudwatch/cloudwatch.ts';
import { defaultBucket } from '../aws/ec2/ec2.ts';
import { AwsError, throttled } from '../aws/ec2/errors.ts';
import { type VirtualScheduler, virtualScheduler } from '../aws/ec2/scheduler.ts';
import { Throttle } from '../aws/ec2/throttle.ts';
import type { ApiCall } from '../aws/index.ts';
import { checkRequest } from '../aws/requests/check.ts';
import { type Behaviour, type ModelledNode, modelledNode } from '../aws/ssm/modelled-node.ts';
import { createSsm, type Ssm } from '../aws/ssm/ssm.ts';

/** Digest of the modelled release's only archive. */
export const SHA256 = 'a'.repeat(64);
export const OLD = '1.0.0';
export const NEW = '1.1.0';
export const CLUSTER = 'modelled';

export interface FleetOptions {
  /** The number of nodes in each zone. */
  zones: number[];
  behaviourOf?: (node: number, zone: number) => Behaviour;
  updateMs?: () => number;
  /** Milliseconds until a node with 'returns' comes back. */
  awayMs?: () => number;
  /** A clock that several Regions share. */
  scheduler?: VirtualScheduler;
}

export interface Launched {
  instanceId: string;
  imageId: string;
  zoneId: string;
  launchedMs: number;
  state: string;
  verdict: string | undefined;
}

export interface Fleet {
  scheduler: VirtualScheduler;
  ssm: Ssm;
  cloudwatch: CloudWatch;
  calls: ApiCall[];
  nodes: ModelledNode[];
  zoneOf: Map<string, string>;
  /** API actions that operators may not call. */
  denied: Set<string>;
  /** Instances that EC2 no longer has. */
  terminated: Set<string>;
  /** Instances that were launched during the rollout, from an AMI. */
  launched: Launched[];
  /** When the nodes of `launch` were launched. */
  launchedMs: Map<string, number>;
  /** Instances for which EC2 returns no zone ID. */
  zoneless: Set<string>;
  /** EC2's name of a node's CPU, where it differs from x86_64. */
  cpuOf: Map<string, string>;
  /** A node's AMI and instance type, where they differ from the fleet's. */
  imageOf: Map<string, string>;
  typeOf: Map<string, string>;
  /** Further tags of a node. */
  tagsOf: Map<string, Record<string, string>>;
  /** AMIs without a boot test; every other AMI has passed one. */
  untested: Set<string>;
  /** Verdicts in the tags of nodes that were launched during the rollout. */
  verdicts: Map<string, string>;
  /**
   * Launches a node. It boots the version that its zone's parameter names now, and is READY, with an SSM agent that answers,
   * after `bootMs` (default 0).
   */
  launch(zone: number, bootMs?: number): ModelledNode;
  /** The answer of EC2, SSM or CloudWatch to a request. Throws AwsError as they refuse and throttle. */
  answer(action: string, request: object): object;
  publish(version: string, sha256?: string): void;
  clock: Clock;
}

export function createFleet(options: FleetOptions): Fleet {
  const scheduler = options.scheduler ?? virtualScheduler();
  const calls: ApiCall[] = [];
  const denied = new Set<string>();
  const zoneOf = new Map<string, string>();
  const terminated = new Set<string>();
  const launchedMs = new Map<string, number>();
  const tags = new Map([['eniboot:cluster', CLUSTER]]);
  const cloudwatch = createCloudWatch({ scheduler, calls, denied });
  const ssm = createSsm({
    scheduler,
    calls,
    denied,
    arnPrefix: 'arn:aws:ssm:eu-west-1:123456789012',
    accountId: '123456789012',
    tagsOf: (id) => (zoneOf.has(id) && !terminated.has(id) ? tags : undefined),
    imageExists: (id) => id !== 'ami-00000000',
    isInAlarm: cloudwatch.isInAlarm,
  });
  ssm.latency.deliveryMs = 1_000;
  ssm.latency.listLagMs = 3_000;
  const make = (zone: number, at: number, version: string, behaviour: Behaviour): ModelledNode => {
    const instanceId = `i-${zone.toString(16).padStart(2, '0')}${at.toString(16).padStart(15, '0')}`;
    zoneOf.set(instanceId, `euw1-az${zone + 1}`);
    return modelledNode(
      instanceId,
      { version, behaviour },
      {
        scheduler,
        updateMs: options.updateMs ?? (() => 30_000),
        parameter: (name) => ssm.parameters.get(name)?.at(-1)?.value,
        zone: zoneParameter(zone),
        ...(options.awayMs === undefined ? {} : { awayMs: options.awayMs }),
      },
    );
  };
  const nodes = options.zones.flatMap((count, zone) =>
    Array.from({ length: count }, (_, at) => make(zone, at, OLD, options.behaviourOf?.(at, zone) ?? 'good')),
  );
  for (const node of nodes) ssm.nodes.set(node.instanceId, node);
  const throttle = new Throttle(scheduler, defaultBucket);
  const ec2 = recording({
    service: 'ec2',
    calls,
    scheduler,
    isMutating: () => false,
    carryOut(action, request) {
      if (!throttle.take(action)) throw throttled();
      checkRequest('ec2', action, request, scheduler.now());
      if (denied.has(action))
        throw new AwsError('UnauthorizedOperation', 'You are not authorized to perform this operation.');
      return ec2Actions[action]?.(fleet, request) ?? {};
    },
  });
  const fleet: Fleet = {
    scheduler,
    ssm,
    cloudwatch,
    denied,
    calls,
    nodes,
    zoneOf,
    terminated,
    launched: [],
    launchedMs,
    zoneless: new Set(),
    cpuOf: new Map(),
    imageOf: new Map(),
    typeOf: new Map(),
    tagsOf: new Map(),
    untested: new Set(),
    verdicts: new Map(),
    launch(zone, bootMs = 0) {
      const said = ssm.parameters.get(zoneParameter(zone))?.at(-1)?.value;
      const { version = OLD } = JSON.parse(said ?? '{}') as { version?: string };
      const node = make(zone, 0x1000 + nodes.length, version, 'good');
      if (version !== OLD) node.previous = { version: OLD, sha256: undefined };
      launchedMs.set(node.instanceId, scheduler.now());
      nodes.push(node);
      const ready = () => {
        fleet.verdicts.set(node.instanceId, `ready@${version}`);
        ssm.nodes.set(node.instanceId, node);
      };
      if (bootMs === 0) ready();
      else scheduler.after(bootMs, ready);
      return node;
    },
    answer: (action, request) =>
      (action in ec2Actions ? ec2 : action.startsWith('DescribeAlarm') ? cloudwatch.send : ssm.send)(
        action,
        request,
      ),
    publish: (version, sha256 = SHA256) => {
      ssm.put(
        `/eniboot/releases/${version}`,
        JSON.stringify({ version, x64: { url: `https://bundles.example/${version}.tar.gz`, sha256 } }),
      );
    },
    clock: virtualClock(scheduler),
  };
  fleet.publish(NEW);
  return fleet;
}

function zoneParameter(zone: number): string {
  return `/eniboot/bundle/euw1-az${zone + 1}`;
}

/** `aheadMs`: how far this wall clock is ahead of AWS's. */
export function virtualClock(scheduler: VirtualScheduler, aheadMs = 0): Clock {
  return {
    bootMs: () => scheduler.now(),
    now: () => new Date(scheduler.now() + aheadMs),
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted === true) return reject(signal.reason as Error);
        const cancel = scheduler.after(ms, () => {
          signal?.removeEventListener('abort', abort);
          resolve();
        });
        function abort(): void {
          cancel();
          reject(signal?.reason as Error);
        }
        signal?.addEventListener('abort', abort, { once: true });
      }),
  };
}

/** A process was killed: it does nothing more, and its promises never settle. */
export class Killed extends Error {}

export interface OperatorOptions {
  /** Kills the process at this call, counted from 1, before or after it was carried out. */
  killAt?: { call: number; carriedOut: boolean };
  /** Whether the answer to this call gets lost. */
  loses?: (action: string) => boolean;
  /** AWS's refusal of a call, which is then not carried out. */
  refuses?: (action: string) => AwsError | undefined;
  apiMs?: number;
  /** Milliseconds that its machine's clock is ahead of AWS's. */
  aheadMs?: number;
  onCall?: (record: CallRecord) => void;
  random?: () => number;
}

export interface Operator {
  aws: FleetAws;
  clock: AwsClock;
  killed: Promise<never>;
  calls: () => number;
}

/** One operator's process, with its calls to AWS. `killed` rejects when it is killed. */
export function operatorOf(fleet: Fleet, options: OperatorOptions = {}): Operator {
  const [operator] = operatorsOf([fleet], options);
  return operator as Operator;
}

/** One process that works in several Regions. It is killed at one of its calls, counted over all Regions. */
export function operatorsOf(fleets: readonly Fleet[], options: OperatorOptions = {}): Operator[] {
  let die: (error: Killed) => void = () => {};
  const killed = new Promise<never>((_, reject) => {
    die = reject;
  });
  killed.catch(() => {});
  const life = { count: 0, dead: false, die, killed };
  return fleets.map((fleet) => operatorIn(fleet, options, life));
}

interface Life {
  count: number;
  dead: boolean;
  die: (error: Killed) => void;
  killed: Promise<never>;
}

function operatorIn(fleet: Fleet, options: OperatorOptions, life: Life): Operator {
  const { scheduler } = fleet;
  const local = virtualClock(scheduler, options.aheadMs);
  const clock = awsClock(local);
  const wait = (ms: number) => new Promise<void>((resolve) => void scheduler.after(ms, resolve));
  async function send(action: string, request: object): Promise<object> {
    if (life.dead) return new Promise(() => {});
    life.count += 1;
    const last = options.killAt?.call === life.count;
    const perish = (): Promise<never> => {
      life.dead = true;
      life.die(new Killed());
      return new Promise(() => {});
    };
    if (last && options.killAt?.carriedOut === false) return perish();
    const sentMs = local.now().getTime();
    await wait(options.apiMs ?? 50);
    if (life.dead) return new Promise(() => {});
    clock.learn(new Date(scheduler.now()).toUTCString(), sentMs);
    try {
      const refusal = options.refuses?.(action);
      if (refusal !== undefined) throw refusal;
      const answer = fleet.answer(action, request);
      if (last) return perish();
      if (options.loses?.(action) === true)
        throw Object.assign(new Error('socket hang up'), { name: 'ECONNRESET' });
      return answer;
    } catch (error) {
      if (!(error instanceof AwsError)) throw error;
      throw Object.assign(new Error(error.message), {
        name: error.code,
        $metadata: { httpStatusCode: error.status },
      });
    }
  }
  return {
    killed: life.killed,
    clock,
    calls: () => life.count,
    aws: fleetAws(send, {
      clock: local,
      until: () => Number.POSITIVE_INFINITY,
      onThrottled: () => {},
      onCall: options.onCall ?? (() => {}),
      random: options.random ?? (() => 0.5),
    }),
  };
}

/** EC2's actions are answered here; the simulated SSM and CloudWatch answer all others. */
const ec2Actions: Record<string, (fleet: Fleet, request: object) => object> = {
  DescribeInstances: describeInstances,
  DescribeImages: describeImages,
};

function describeImages(fleet: Fleet, request: object): object {
  const { ImageIds = [] } = request as { ImageIds?: string[] };
  const tested = [{ Key: 'eniboot:boot-test', Value: 'passed@2026-01-01T00:00:00Z' }];
  return {
    Images: ImageIds.map((ImageId) => ({
      ImageId,
      Architecture: 'x86_64',
      State: 'available',
      Tags: fleet.untested.has(ImageId) ? [] : tested,
    })),
  };
}

/** Fields of a node with two ENIs that EC2 returns and no code here reads. Their size fills an operator's memory as in a real fleet. */
const unread = {
  AmiLaunchIndex: 0,
  ClientToken: '3f6b2f5e-6c1b-4d39-9d5a-0f6b2f5e6c1b',
  EbsOptimized: true,
  EnaSupport: true,
  Hypervisor: 'xen',
  IamInstanceProfile: {
    Arn: 'arn:aws:iam::123456789012:instance-profile/node',
    Id: 'AIPAIOSFODNN7EXAMPLE1',
  },
  Monitoring: { State: 'disabled' },
  PrivateDnsName: 'ip-10-0-1-23.eu-west-1.compute.internal',
  PrivateIpAddress: '10.0.1.23',
  RootDeviceName: '/dev/sda1',
  RootDeviceType: 'ebs',
  SubnetId: 'subnet-0123456789abcdef0',
  VpcId: 'vpc-0123456789abcdef0',
  VirtualizationType: 'hvm',
  CpuOptions: { CoreCount: 1, ThreadsPerCore: 2 },
  MetadataOptions: {
    State: 'applied',
    HttpTokens: 'required',
    HttpPutResponseHopLimit: 1,
    HttpEndpoint: 'enabled',
    HttpProtocolIpv6: 'disabled',
    InstanceMetadataTags: 'disabled',
  },
  PrivateDnsNameOptions: {
    HostnameType: 'ip-name',
    EnableResourceNameDnsARecord: false,
    EnableResourceNameDnsAAAARecord: false,
  },
  SecurityGroups: [{ GroupName: 'nodes', GroupId: 'sg-0123456789abcdef0' }],
  BlockDeviceMappings: [
    {
      DeviceName: '/dev/sda1',
      Ebs: {
        AttachTime: new Date(0),
        DeleteOnTermination: true,
        Status: 'attached',
        VolumeId: 'vol-0123456789abcdef0',
      },
    },
  ],
  NetworkInterfaces: [0, 1].map((DeviceIndex) => ({
    Attachment: {
      AttachTime: new Date(0),
      AttachmentId: 'eni-attach-0123456789abcdef0',
      DeleteOnTermination: true,
      DeviceIndex,
      NetworkCardIndex: 0,
      Status: 'attached',
    },
    Description: 'pods of a node',
    Groups: [{ GroupName: 'nodes', GroupId: 'sg-0123456789abcdef0' }],
    InterfaceType: 'interface',
    MacAddress: '02:00:00:00:00:01',
    NetworkInterfaceId: 'eni-0123456789abcdef0',
    OwnerId: '123456789012',
    PrivateDnsName: 'ip-10-0-1-23.eu-west-1.compute.internal',
    PrivateIpAddress: '10.0.1.23',
    PrivateIpAddresses: [
      {
        Primary: true,
        PrivateDnsName: 'ip-10-0-1-23.eu-west-1.compute.internal',
        PrivateIpAddress: '10.0.1.23',
      },
    ],
    Ipv4Prefixes: Array.from({ length: DeviceIndex * 7 }, (_, at) => ({ Ipv4Prefix: `10.0.${at}.16/28` })),
    SourceDestCheck: true,
    Status: 'in-use',
    SubnetId: 'subnet-0123456789abcdef0',
    VpcId: 'vpc-0123456789abcdef0',
  })),
};

function describeInstances(fleet: Fleet, request: object): object {
  const {
    MaxResults = 1000,
    NextToken,
    Filters = [],
  } = request as {
    MaxResults?: number;
    NextToken?: string;
    Filters?: { Name: string; Values: string[] }[];
  };
  const image = Filters.find((one) => one.Name === 'image-id')?.Values[0];
  if (image !== undefined)
    return {
      Reservations: fleet.launched
        .filter((one) => one.imageId === image)
        .map((one) => ({
          Instances: [
            {
              InstanceId: one.instanceId,
              LaunchTime: new Date(one.launchedMs),
              State: { Name: one.state },
              Architecture: 'x86_64',
              Placement: fleet.zoneless.has(one.instanceId) ? {} : { AvailabilityZoneId: one.zoneId },
              Tags: one.verdict === undefined ? [] : [{ Key: 'eniboot:verdict', Value: one.verdict }],
            },
          ],
        })),
    };
  const asked = Filters.find((one) => one.Name === 'instance-id')?.Values;
  const start = Number(NextToken ?? 0);
  const all = [
    ...fleet.nodes.filter((node) => !fleet.terminated.has(node.instanceId)),
    ...fleet.launched.filter((one) => one.state === 'running'),
  ];
  const times = Filters.find((one) => one.Name === 'launch-time')?.Values.map((one) => one.slice(0, -1));
  const inZone = Filters.find((one) => one.Name === 'availability-zone-id')?.Values;
  const verdicts = new Map([
    ...fleet.verdicts,
    ...fleet.launched.map((one) => [one.instanceId, one.verdict] as const),
  ]);
  const launched = new Map([
    ...fleet.launchedMs,
    ...fleet.launched.map((one) => [one.instanceId, one.launchedMs] as const),
  ]);
  const zones = new Map([
    ...fleet.zoneOf,
    ...fleet.launched.map((one) => [one.instanceId, one.zoneId] as const),
  ]);
  const launchOf = (instanceId: string) => new Date(launched.get(instanceId) ?? 0);
  const living = all.filter(
    ({ instanceId }) =>
      (asked === undefined || asked.includes(instanceId)) &&
      (times === undefined || times.some((one) => launchOf(instanceId).toISOString().startsWith(one))) &&
      (inZone === undefined ||
        (!fleet.zoneless.has(instanceId) && inZone.includes(zones.get(instanceId) ?? ''))),
  );
  const page = living.slice(start, start + MaxResults);
  return {
    Reservations: page.map(({ instanceId }) => ({
      Instances: [
        {
          ...unread,
          InstanceId: instanceId,
          LaunchTime: launchOf(instanceId),
          Architecture: fleet.cpuOf.get(instanceId) ?? 'x86_64',
          ImageId: fleet.imageOf.get(instanceId) ?? 'ami-0123456789abcdef0',
          InstanceType: fleet.typeOf.get(instanceId) ?? 'm7i.large',
          Placement: fleet.zoneless.has(instanceId) ? {} : { AvailabilityZoneId: zones.get(instanceId) },
          State: { Name: 'running' },
          Tags: [
            { Key: 'eniboot:cluster', Value: CLUSTER },
            { Key: 'eniboot:verdict', Value: verdicts.get(instanceId) ?? '' },
            ...Object.entries(fleet.tagsOf.get(instanceId) ?? {}).map(([Key, Value]) => ({ Key, Value })),
          ],
        },
      ],
    })),
    ...(start + MaxResults < living.length ? { NextToken: String(start + MaxResults) } : {}),
  };
}

/** Runs `work` on the fleet's clock to its end. */
export async function onFleetTime<T>(fleet: Fleet, work: Promise<T>): Promise<T> {
  let settled = false;
  const watched = work.finally(() => {
    settled = true;
  });
  watched.catch(() => {});
  await fleet.scheduler.run(() => settled);
  return watched;
}
