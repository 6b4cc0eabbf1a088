// Compares Service CIDRs with what only the node knows: the blocks of its VPC, and which of their addresses are taken.
import { contains, isAddress, isCidr } from '../../host/ipv4.ts';
import type { Owned } from '../../pool/entry.ts';
import { readIfPresent } from '../../port/fs.ts';
import type { NodeFacts, PodEni } from '../facts/facts.ts';
import { type Check, pass, row, warn } from '../phase.ts';

/** The IPv4 CIDRs. Over IPv6, pods reach Services by routes of their own. */
export function serviceCidrs4(cidrs: readonly string[]): string[] {
  return cidrs.filter(isCidr);
}

/** The addresses around the node that are taken, beside those of its ENIs. */
interface Surroundings {
  vpcCidrs: readonly string[];
  pods: readonly PodEni[];
  owned: readonly Owned[];
  /** The node's DNS servers. */
  resolvers: readonly string[];
}

/**
 * A Service CIDR may lie in the VPC: pods then reach it through the node, as any other (podRouting in nft-text.ts). It must not
 * hold an address that is taken: pods could then reach neither that address nor its Service.
 */
export function checkServiceCidrs(node: NodeFacts, around: Surroundings): Check {
  const id = 'service-cidrs';
  const services = serviceCidrs4(node.config.kubernetes.serviceCidrs);
  const { vpcCidrs } = around;
  const taken = takenCidrs(node, around);
  for (const cidr of services)
    for (const [what, other] of taken)
      if (overlap(cidr, other))
        return row(id, { serviceCidr: cidr, other }).fail(
          'SERVICE_CIDR_OVERLAP',
          `the Service CIDR ${cidr} holds ${what} ${other}`,
        );
  const inside = services.filter((cidr) => vpcCidrs.some((block) => overlap(block, cidr)));
  if (inside.length === 0) return pass(id, 'no Service CIDR lies in the VPC');
  const summary = `pods cannot reach what the VPC has in ${inside.join(', ')}: it is a Service CIDR`;
  return warn(id, summary, { inside, vpcCidrs });
}

/** Addresses that are known to be taken, with a description of each. */
function takenCidrs(
  { bootEni, otherEnis }: NodeFacts,
  { pods, owned, resolvers }: Surroundings,
): [what: string, cidr: string][] {
  const subnets = [bootEni, ...otherEnis, ...pods].map((eni) => eni.subnetCidr);
  return [
    ...bootEni.addresses.map((address): [string, string] => ['the node’s address', `${address}/32`]),
    ...[...new Set(subnets)].filter(isCidr).map((cidr): [string, string] => ['the subnet', cidr]),
    ...owned.map(({ cidr }): [string, string] => ['addresses of the pool,', cidr]),
    ...resolvers.map((address): [string, string] => ['the node’s DNS server', `${address}/32`]),
  ];
}

/** Where NetworkManager, systemd-resolved and other programs write the node's DNS servers. */
const RESOLVERS = ['/run/NetworkManager/resolv.conf', '/run/systemd/resolve/resolv.conf', '/etc/resolv.conf'];

/** IPv4 servers, without addresses of the node itself. */
export function readResolvers(): string[] {
  const lines = RESOLVERS.flatMap((path) => (readIfPresent(path) ?? '').split('\n'));
  const named = lines.flatMap((line) => /^nameserver\s+(\S+)/.exec(line)?.[1] ?? []);
  return [...new Set(named)].filter((address) => isAddress(address) && !address.startsWith('127.'));
}

function overlap(one: string, other: string): boolean {
  return contains(one, other) || contains(other, one);
}
