// EC2's latest answers in a run. EC2 is asked once; each change then updates the answer with its result, refusals included.
// Otherwise no plan would ever be empty, and each look would ask EC2 again.
import type { Eni } from '../aws/ec2.ts';
import type { Failure } from '../messages/failure.ts';

export class Cloud {
  /** All ENIs attached to the instance; or the reason, when EC2 did not answer and the run goes on without it. */
  attached: readonly Eni[] | Failure | undefined;
  /** This node's pod ENIs that are attached to nothing. */
  unattached: readonly Eni[] | undefined;
  /** CIDRs that pod ENIs had at the first look. This run has asked for all later ones. */
  found: ReadonlySet<string> = new Set();
  /** What EC2 has accepted and a describe must show, by ENI. */
  promised = new Map<string, Promised>();
  /** ENIs that got no further address. */
  full = new Set<string>();
  /** Why EC2 gives no further ENI. */
  exhausted: Failure | undefined;
  /** Number of ENIs on the default card at which EC2 has refused another ENI. */
  eniLimit: number | undefined;
  /** CIDR blocks of the VPC; or the reason, when EC2 did not answer. */
  vpcCidrs: readonly string[] | Failure | undefined;
  /** A public IPv4 address that was asked for and has come. */
  publicAddress: string | undefined;
}

export interface Promised {
  /** Addresses for the pool, at least. */
  poolSize: number;
  ipv6: boolean;
  /** MAC of an ENI that was made just now. */
  mac?: string | undefined;
}

/** The next look at ENIs asks EC2 again. */
export function forgetEnis(cloud: Cloud): void {
  const { eniLimit, vpcCidrs, publicAddress } = cloud;
  Object.assign(cloud, new Cloud(), { eniLimit, vpcCidrs, publicAddress });
}
