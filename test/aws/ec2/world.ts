import { createHash } from 'node:crypto';
import { AddressSpace, contains } from './addresses.ts';
import { AwsError } from './errors.ts';
import { instanceTypes, type TypeLimits } from './instance-types.ts';
import { containsIpv6 } from './ipv6.ts';
import type { Scheduler } from './scheduler.ts';
import type {
  Ec2Event,
  ElasticIp,
  Eni,
  ImageRecord,
  InstanceRecord,
  KeyPairRecord,
  SecurityGroup,
  Snapshot,
  Subnet,
  Vpc,
} from './state.ts';

/** Milliseconds that each step takes. */
export interface Ec2Latency {
  /** AttachNetworkInterface's answer until the attachment is `attached`. */
  attachMs: number;
  detachMs: number;
  /**
   * Until a new object is in a describe that does not name its ID, an instance in any describe, and a tag in the answer.
   */
  describeLagMs: number;
  /** Until the ID of a new ENI is known to every call; default 0. */
  idLagMs?: number;
  /** StopInstances, TerminateInstances until the new state holds. */
  instanceMs: number;
  /** RunInstances and StartInstances until `running`: `pending` comes first. */
  pendingMs: number;
  /** CreateImage and CopyImage until `available`. */
  imageMs: number;
}

/** A fault of the next attachments. */
export interface AttachFault {
  /** Stays in `attaching` for good. */
  stuck?: boolean;
  /** The device index that the attachment gets, with any requested index. */
  deviceIndex?: number;
  /** Extra milliseconds in `attaching`. */
  delayMs?: number;
}

export interface World {
  region: string;
  accountId: string;
  scheduler: Scheduler;
  latency: Ec2Latency;
  /** The account's default for instances that set none. Source: EC2 API reference, ModifyInstanceMetadataDefaults. */
  metadataDefaults: { instanceMetadataTags: 'enabled' | 'disabled' };
  /** ID of the customer's KMS key that the account encrypts with by default; undefined for AWS's own key. */
  defaultKey: string | undefined;
  /** Whether the caller's role has a permission that AWS checks within another call (`iam:…`, `kms:…`). */
  may: (permission: string) => boolean;
  vpc: Vpc;
  subnets: Map<string, Subnet>;
  groups: Map<string, SecurityGroup>;
  enis: Map<string, Eni>;
  instances: Map<string, InstanceRecord>;
  elasticIps: Map<string, ElasticIp>;
  images: Map<string, ImageRecord>;
  snapshots: Map<string, Snapshot>;
  /** By name. */
  keyPairs: Map<string, KeyPairRecord>;
  /** Instance ID → its ENIs by network card and device index. Kept beside `enis` so that a fleet of thousands stays fast. */
  attachments: Map<string, Map<number, Eni>>;
  /** Client token → the request that it came with, and its result. */
  tokens: Map<string, { request: string; result: string }>;
  /** Resource ID → when CreateTags last changed its tags, and what they were before. */
  retagged: Map<string, { at: number; before: Map<string, string> }>;
  attachFault: (instanceId: string) => AttachFault | undefined;
  publicIps: AddressSpace;
  emit: (event: Ec2Event) => void;
  nextId: (prefix: string) => string;
}

export interface SubnetSpec {
  cidr: string;
  /** A /64 of the VPC's IPv6 block. */
  ipv6Cidr?: string;
  /** Default false: as on EC2, a subnet with IPv6 does not give addresses by itself. */
  assignIpv6?: boolean;
  zone: string;
  tags?: Record<string, string>;
  mapPublicIp?: boolean;
}

/** IDs in AWS's form. The nth of its kind in this region is the same in every run. */
export function idSource(seed: string): (prefix: string) => string {
  const counts = new Map<string, number>();
  return (prefix) => {
    const count = (counts.get(prefix) ?? 0) + 1;
    counts.set(prefix, count);
    const digest = createHash('sha256').update(`${seed}/${prefix}/${count}`).digest('hex');
    return `${prefix}-0${digest.slice(0, 16)}`;
  };
}

export function addSubnet(world: World, spec: SubnetSpec): Subnet {
  const subnet: Subnet = {
    id: world.nextId('subnet'),
    vpcId: world.vpc.id,
    cidr: spec.cidr,
    ipv6Cidr: spec.ipv6Cidr,
    assignIpv6: spec.assignIpv6 ?? false,
    ipv6Given: 0,
    zone: spec.zone,
    zoneId: zoneId(spec.zone),
    tags: new Map(Object.entries(spec.tags ?? {})),
    space: new AddressSpace(spec.cidr),
    mapPublicIp: spec.mapPublicIp ?? false,
  };
  world.subnets.set(subnet.id, subnet);
  return subnet;
}

/** eu-west-1a → euw1-az1. In a real account the letters are shuffled; here they are not. */
function zoneId(zone: string): string {
  const [area = '', side = '', rest = ''] = zone.split('-');
  const letter = rest.at(-1) ?? 'a';
  return `${area}${side[0] ?? ''}${Number.parseInt(rest, 10)}-az${letter.charCodeAt(0) - 96}`;
}

export function subnetOf(world: World, id: string): Subnet {
  const subnet = world.subnets.get(id);
  if (subnet === undefined)
    throw new AwsError('InvalidSubnetID.NotFound', `The subnet ID '${id}' does not exist`);
  return subnet;
}

export function eniOf(world: World, id: string | undefined): Eni {
  if (id === undefined)
    throw new AwsError('MissingParameter', 'The request must contain the parameter networkInterfaceId');
  if (!/^eni-[0-9a-f]{8,17}$/.test(id))
    throw new AwsError('InvalidNetworkInterfaceID.Malformed', `Invalid id: "${id}" (expecting "eni-...")`);
  const eni = world.enis.get(id);
  // Source: EC2 developer guide, "Eventual consistency in the Amazon EC2 API": also a command that names the ID is refused.
  if (eni === undefined || world.scheduler.now() - eni.createdAt < (world.latency.idLagMs ?? 0))
    throw new AwsError(
      'InvalidNetworkInterfaceID.NotFound',
      `The networkInterface ID '${id}' does not exist`,
    );
  return eni;
}

export function instanceOf(world: World, id: string | undefined): InstanceRecord {
  if (id === undefined)
    throw new AwsError('MissingParameter', 'The request must contain the parameter instanceId');
  const instance = world.instances.get(id);
  if (instance === undefined)
    throw new AwsError('InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`);
  return instance;
}

export function limitsOf(type: string): TypeLimits {
  const limits = instanceTypes[type];
  if (limits === undefined)
    throw new AwsError(
      'InvalidInstanceType',
      `The following supplied instance types do not exist: [${type}]`,
    );
  return limits;
}

/** The tags that a describe shows: without those that were written a moment ago. */
export function shownTags(world: World, id: string, tags: Map<string, string>): Map<string, string> {
  const changed = world.retagged.get(id);
  return changed !== undefined && isYoung(world, changed.at) ? changed.before : tags;
}

/** A describe may not show a young object yet. Source: EC2 developer guide, "Eventual consistency in the Amazon EC2 API". */
export function isYoung(world: World, since: number): boolean {
  return world.scheduler.now() - since < world.latency.describeLagMs;
}

/** The ENIs of an instance, by network card and device index. */
export function enisOf(world: World, instanceId: string): Eni[] {
  const byIndex = world.attachments.get(instanceId);
  if (byIndex === undefined) return [];
  return [...byIndex.entries()].sort((a, b) => a[0] - b[0]).map(([, eni]) => eni);
}

/** The ENI that owns an address inside the VPC. */
export function eniByAddress(world: World, address: string): Eni | undefined {
  for (const eni of world.enis.values()) {
    if (eni.primaryIp === address || eni.secondaryIps.includes(address)) return eni;
    if (eni.ipv6Addresses.includes(address)) return eni;
    if (eni.ipv6Prefixes.some((prefix) => containsIpv6(prefix, address))) return eni;
    if (!address.includes(':') && eni.prefixes.some((prefix) => contains(prefix, address))) return eni;
  }
  return undefined;
}
