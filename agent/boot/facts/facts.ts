// Facts: what each phase finds out from the facts before it. A fact does not change later.
import type { InstanceLimits } from '../../aws/limits/limits.ts';
import type { BootEniMetadata, InstanceIdentity, MetadataEni } from '../../aws/metadata.ts';
import type { Config } from '../../config/schema.ts';
import type { Link } from '../../host/links.ts';
import type { Capacity } from './capacity.ts';

/** The node as identify found it. */
export interface NodeFacts {
  readonly config: Config;
  readonly identity: InstanceIdentity;
  readonly bootEni: Readonly<BootEniMetadata>;
  /** The boot ENI's device. Its name may change at any time: deviceName() returns the present name. */
  readonly bootDevice: Readonly<Link>;
  /**
   * Addresses of the boot ENI that pods reach through their node, the primary first: those that EC2 assigned, and those that
   * another program (keepalived, kube-vip) has given to its device or to the loopback.
   */
  readonly ownAddresses: { ipv4: readonly string[]; ipv6: readonly string[] };
  /** ENIs other than the boot ENI on the default network card, as far as IMDS describes them completely. */
  readonly otherEnis: readonly MetadataEni[];
  readonly limits: InstanceLimits;
  /** EC2 was asked for the limits in this run: attach notes its answer. */
  readonly limitsFromEc2: boolean;
  /** Target lifecycle state in a warm pool, for example `Warmed:Stopped`. */
  readonly lifecycleTarget: string | undefined;
}

/** The network around the node, as egress found it. */
export interface Vpc {
  /** All blocks of the VPC, sorted. */
  readonly cidrs: readonly string[];
  /** The boot ENI's public IPv4 address. */
  readonly publicAddress: string | undefined;
}

/** A pod ENI in use: both EC2 and the kernel have it. */
export interface PodEni {
  readonly eniId: string;
  readonly mac: string;
  readonly deviceIndex: number;
  readonly subnetId: string;
  /** Empty while IMDS does not know the ENI, since EC2 describes an ENI without its subnet's CIDR. */
  readonly subnetCidr: string;
  readonly primaryAddress: string;
  /** /28 prefixes and single addresses as CIDRs: the pool is made of them. */
  readonly cidrs: readonly string[];
  /** The /80 from which its pods' IPv6 addresses are made; undefined when pods have only IPv4. */
  readonly ipv6Prefix: string | undefined;
}

/** The pod ENIs, as attach found them. */
export interface Attached {
  readonly pods: readonly PodEni[];
  readonly capacity: Capacity;
}

/** What the phases have found so far. */
export interface Facts {
  node?: NodeFacts;
  vpc?: Vpc;
  attached?: Attached;
  /** Folder of another version, which has to finish the boot. */
  staged?: string;
}

/** Pods have IPv6 beside IPv4. */
export function isDualStack({ config }: Pick<NodeFacts, 'config'>): boolean {
  return config.pods.ipFamily === 'dual-stack';
}

/** The number of addresses in a prefix (/28) or a single address (/32). */
export function sizeOf(cidr: string): number {
  return cidr.endsWith('/28') ? 16 : 1;
}
