// A fleet of modelled nodes under the simulated SSM on virtual time, and an operator whose calls can be lost or be his last.
// DescribeInstances is answered from the model itself: 20,000 simulated instances with ENIs would say nothing more.

import { type AwsClock, awsClock } from '../../agent/aws/aws-clock.ts';
import { type FleetAws, fleetAws } from '../../agent/aws/fleet.ts';
import type { CallRecord } from '../../agent/aws/patience.ts';
import type { Clock } from '../../agent/port/clock.ts';
import { AwsError } from '../aws/ec2/errors.ts';
import { type VirtualScheduler, virtualScheduler } from '../aws/ec2/scheduler.ts';
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
  /** Nodes of each zone. */
  zones: number[];
  behaviourOf?: (node: number, zone: number) => Behaviour;
  updateMs?: () => number;
  /** Milliseconds that a node which returns is away. */
  awayMs?: () => number;
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
  calls: ApiCall[];
  nodes: ModelledNode[];
  zoneOf: Map<string, string>;
  /** Instances that EC2 no longer has. */
  terminated: Set<string>;
  /** Instances that were launched meanwhile, from an AMI. */
  launched: Launched[];
  /** Instances whose zone's ID EC2 does not tell. */
  zoneless: Set<string>;
  /** EC2's name of a node's CPU, where it is not x86_64. */
  cpuOf: Map<string, string>;
  /** A node's AMI and instance type, where they are not those of all others. */
  imageOf: Map<string, string>;
  typeOf: Map<string, string>;
  /** Further tags of a node. */
  tagsOf: Map<string, Record<string, string>>;
  /** AMIs without a boot test; every other has passed one. */
  untested: Set<string>;
  /** What nodes that were launched meanwhile say of themselves. */
  verdicts: Map<string, string>;
  /** Launches a node, which comes up on what its zone's parameter names. */
  launch(zone: number): ModelledNode;
  publish(version: string, sha256?: string): void;
  clock: Clock;
}

export function createFleet(options: FleetOptions): Fleet {
  const scheduler = virtualScheduler();
  const calls: ApiCall[] = [];
  const zoneOf = new Map<string, string>();
  const terminated = new Set<string>();
  const tags = new Map([['eniboot:cluster', CLUSTER]]);
  const ssm = createSsm({
    scheduler,
    calls,
    denied: new Set(),
    arnPrefix: 'arn:aws:ssm:eu-west-1:123456789012',
    accountId: '123456789012',
    tagsOf: (id) => (zoneOf.has(id) && !terminated.has(id) ? tags : undefined),
    imageExists: (id) => id !== 'ami-00000000',
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
        ...(options.awayMs === undefined ? {} : { awayMs: options.awayMs }),
      },
    );
  };
  const nodes = options.zones.flatMap((count, zone) =>
    Array.from({ length: count }, (_, at) => make(zone, at, OLD, options.behaviourOf?.(at, zone) ?? 'good')),
  );
  for (const node of nodes) ssm.nodes.set(node.instanceId, node);
  const fleet: Fleet = {
    scheduler,
    ssm,
    calls,
    nodes,
    zoneOf,
    terminated,
    launched: [],
    zoneless: new Set(),
    cpuOf: new Map(),
    imageOf: new Map(),
    typeOf: new Map(),
    tagsOf: new Map(),
    untested: new Set(),
    verdicts: new Map(),
    launch(zone) {
      const said = ssm.parameters.get(`/eniboot/bundle/euw1-az${zone + 1}`)?.at(-1)?.value;
      const { version = OLD } = JSON.parse(said ?? '{}') as { version?: string };
      const node = make(zone, 0x1000 + nodes.length, version, 'good');
      fleet.verdicts.set(node.instanceId, `ready@${version}`);
      nodes.push(node);
      ssm.nodes.set(node.instanceId, node);
      return node;
    },
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

/** `aheadMs`: how far its wall clock is ahead of everybody else's. */
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

/** A process that was killed: nothing of it goes on, its promises never settle. */
export class Killed extends Error {}

export interface OperatorOptions {
  /** Kills the process at this call, counted from 1, before or after it was carried out. */
  killAt?: { call: number; carriedOut: boolean };
  /** Whether the answer to this call gets lost. */
  loses?: (action: string) => boolean;
  apiMs?: number;
  /** Milliseconds its machine's clock is ahead of AWS's. */
  aheadMs?: number;
  onCall?: (record: CallRecord) => void;
  random?: () => number;
}

/** One operator's process, as far as AWS sees it. `killed` rejects when it dies. */
export function operatorOf(
  fleet: Fleet,
  options: OperatorOptions = {},
): { aws: FleetAws; clock: AwsClock; killed: Promise<never>; calls: () => number } {
  const { scheduler } = fleet;
  const local = virtualClock(scheduler, options.aheadMs);
  const clock = awsClock(local);
  let count = 0;
  let dead = false;
  let die: (error: Killed) => void = () => {};
  const killed = new Promise<never>((_, reject) => {
    die = reject;
  });
  killed.catch(() => {});
  const wait = (ms: number) => new Promise<void>((resolve) => void scheduler.after(ms, resolve));
  async function send(action: string, request: object): Promise<object> {
    if (dead) return new Promise(() => {});
    count += 1;
    const last = options.killAt?.call === count;
    const perish = (): Promise<never> => {
      dead = true;
      die(new Killed());
      return new Promise(() => {});
    };
    if (last && options.killAt?.carriedOut === false) return perish();
    const sentMs = local.now().getTime();
    await wait(options.apiMs ?? 50);
    if (dead) return new Promise(() => {});
    clock.learn(new Date(scheduler.now()).toUTCString(), sentMs);
    try {
      if (isEc2(action)) checkRequest('ec2', action, request, scheduler.now());
      const answer =
        action === 'DescribeInstances'
          ? describeInstances(fleet, request)
          : action === 'DescribeImages'
            ? describeImages(fleet, request)
            : fleet.ssm.send(action, request);
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
    killed,
    clock,
    calls: () => count,
    aws: fleetAws(send, {
      clock: local,
      until: () => Number.POSITIVE_INFINITY,
      onThrottled: () => {},
      onCall: options.onCall ?? (() => {}),
      random: options.random ?? (() => 0.5),
    }),
  };
}

/** Answered here, and by the simulated SSM all others. */
function isEc2(action: string): boolean {
  return action === 'DescribeInstances' || action === 'DescribeImages';
}

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
  const living = asked === undefined ? all : all.filter((one) => asked.includes(one.instanceId));
  const page = living.slice(start, start + MaxResults);
  const verdicts = new Map([
    ...fleet.verdicts,
    ...fleet.launched.map((one) => [one.instanceId, one.verdict] as const),
  ]);
  const zones = new Map([
    ...fleet.zoneOf,
    ...fleet.launched.map((one) => [one.instanceId, one.zoneId] as const),
  ]);
  return {
    Reservations: page.map(({ instanceId }) => ({
      Instances: [
        {
          InstanceId: instanceId,
          LaunchTime: new Date(0),
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
