// The modelled region of a fleet: the simulated EC2's state machine on virtual time, without its HTTP server.

import { launchInstance } from '../../aws/ec2/actions/instances.ts';
import { defaultBucket, isMutating } from '../../aws/ec2/ec2.ts';
import { enisOf } from '../../aws/ec2/world.ts';
import { AwsError, createEc2, type Ec2, type VirtualScheduler } from '../../aws/index.ts';

export interface RegionOptions {
  /** Token bucket of every mutating call; undefined: EC2's sizes. */
  bucket: { capacity: number; refill: number } | undefined;
  /** Share of answers that are lost after EC2 has carried the call out. */
  lossRate: number;
  random: () => number;
}

/** Milliseconds, the orders of magnitude seen on EC2; the same as the demo's. */
export const latency = {
  ...{ attachMs: 1_500, detachMs: 2_500, describeLagMs: 1_000, instanceMs: 3_000 },
  ...{ pendingMs: 8_000, imageMs: 60_000 },
};
export const API_MS = 120;
export const DEVICE_MS = 500;

export interface Region {
  ec2: Ec2;
  scheduler: VirtualScheduler;
  lossRate: number;
  random: () => number;
  bucketOf(action: string): { capacity: number; refill: number };
  /** Accepted and throttled calls by action. */
  accepted: Map<string, number>;
  throttled: Map<string, number>;
  /** One call by an instance, or by an operator. Throws AwsError. */
  send(action: string, request: object, instanceId: string | undefined): object;
  launch(): string;
}

const zones = ['eu-west-1a', 'eu-west-1b', 'eu-west-1c'] as const;

/** CIDRs of a zone, with room for 585 nodes each, at 7 prefixes a node. */
function podCidrs(zone: number): string[] {
  return [0, 1, 2, 3].map((part) => `10.${32 + zone * 4 + part}.0.0/16`);
}

export function createRegion(scheduler: VirtualScheduler, options: RegionOptions): Region {
  const bucketOf = (action: string) =>
    options.bucket !== undefined && isMutating(action) ? options.bucket : defaultBucket(action);
  const ec2 = createEc2({
    scheduler,
    latency,
    bucketOf,
    // A block of a VPC, and so a subnet, is a /16 at most (VPC user guide, "VPC CIDR blocks"); the quota of blocks is up to 50.
    vpcCidrs: ['10.0.0.0/16', ...zones.flatMap((_, at) => podCidrs(at))],
    subnets: zones.flatMap((zone, at) => [
      { cidr: `10.0.${at * 64}.0/18`, zone, tags: { Name: `nodes-${at}` } },
      ...podCidrs(at).map((cidr) => ({ cidr, zone, tags: { eniboot: 'pods' } })),
    ]),
  });
  const nodeSubnets = [...ec2.world.subnets.values()].filter((subnet) => subnet.tags.has('Name'));
  const accepted = new Map<string, number>();
  const throttled = new Map<string, number>();
  let launched = 0;
  return {
    ec2,
    scheduler,
    lossRate: options.lossRate,
    random: options.random,
    bucketOf,
    accepted,
    throttled,
    send(action, request, instanceId) {
      try {
        const answer = ec2.send(action, request, { instanceId });
        accepted.set(action, (accepted.get(action) ?? 0) + 1);
        return answer;
      } catch (error) {
        const refused = error instanceof AwsError && error.code === 'RequestLimitExceeded';
        const books = refused ? throttled : accepted;
        books.set(action, (books.get(action) ?? 0) + 1);
        throw error;
      } finally {
        // The calls are counted above; the requests of thousands of nodes would only take memory.
        ec2.calls.length = 0;
      }
    },
    launch() {
      const subnet = nodeSubnets[launched++ % nodeSubnets.length];
      const instance = launchInstance(ec2.world, {
        type: 'm5.xlarge',
        imageId: 'ami-0123456789abcdef0',
        subnetId: subnet?.id ?? '',
        tags: new Map(),
        hopLimit: 1,
        tagsInMetadata: false,
        role: 'eniboot-node',
        shutdownBehavior: 'terminate',
      });
      return instance.id;
    },
  };
}

/** Boot ENI and VPC of an instance, as IMDS gives them. */
export function metadataOf(region: Region, instanceId: string) {
  const { world } = region.ec2;
  const [boot] = enisOf(world, instanceId);
  const instance = world.instances.get(instanceId);
  if (boot === undefined || instance === undefined) throw new Error(`${instanceId} has no boot ENI`);
  return { boot, instance, vpc: world.vpc, subnet: world.subnets.get(boot.subnetId) };
}
