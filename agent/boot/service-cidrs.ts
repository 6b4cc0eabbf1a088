// Service CIDRs beside what only the node knows: the blocks of its VPC, and which of their addresses somebody has.
import { contains, isAddress, isCidr } from '../host/ipv4.ts';
import { listOwned } from '../pool/pool.ts';
import { readIfPresent } from '../port/fs.ts';
import { type Boot, type Check, fail, nodeOf, pass, warn } from './phase.ts';

/** Those of IPv4: over IPv6 pods reach Services by routes of their own. */
export function serviceCidrs4(cidrs: readonly string[]): string[] {
  return cidrs.filter(isCidr);
}

/**
 * A Service CIDR may lie in the VPC: pods then reach it by the node, as any other (podRouting in egress-table.ts). It must not
 * hold an address that somebody has, since that one could not be reached any more, and its Service neither.
 */
export function checkServiceCidrs(boot: Boot): Check {
  const id = 'service-cidrs';
  const services = serviceCidrs4(boot.config.kubernetes.serviceCidrs);
  const { bootEni } = nodeOf(boot);
  const taken = takenCidrs(boot);
  for (const cidr of services)
    for (const [what, other] of taken)
      if (overlap(cidr, other))
        return fail(id, 'SERVICE_CIDR_OVERLAP', `the Service CIDR ${cidr} holds ${what} ${other}`, {
          serviceCidr: cidr,
          other,
        });
  const inside = services.filter((cidr) => bootEni.vpcCidrs.some((block) => overlap(block, cidr)));
  return inside.length === 0
    ? pass(id, 'no Service CIDR lies in the VPC')
    : warn(id, `pods cannot reach what the VPC has in ${inside.join(', ')}: it is a Service CIDR`, {
        inside,
        vpcCidrs: bootEni.vpcCidrs,
      });
}

/** Addresses that are known to be somebody's, with what they are. */
function takenCidrs(boot: Boot): [what: string, cidr: string][] {
  const { bootEni, otherEnis } = nodeOf(boot);
  const subnets = [bootEni, ...otherEnis, ...boot.pods].map((eni) => eni.subnetCidr);
  return [
    ...bootEni.addresses.map((address): [string, string] => ['the node’s address', `${address}/32`]),
    ...[...new Set(subnets)].filter(isCidr).map((cidr): [string, string] => ['the subnet', cidr]),
    ...listOwned().map(({ cidr }): [string, string] => ['addresses of the pool,', cidr]),
    ...resolvers().map((address): [string, string] => ['the node’s DNS server', `${address}/32`]),
  ];
}

/** Where NetworkManager, systemd-resolved and others say whom the node asks. */
const RESOLVERS = ['/run/NetworkManager/resolv.conf', '/run/systemd/resolve/resolv.conf', '/etc/resolv.conf'];

/** IPv4, without the node's own. */
function resolvers(): string[] {
  const lines = RESOLVERS.flatMap((path) => (readIfPresent(path) ?? '').split('\n'));
  const named = lines.flatMap((line) => /^nameserver\s+(\S+)/.exec(line)?.[1] ?? []);
  return [...new Set(named)].filter((address) => isAddress(address) && !address.startsWith('127.'));
}

function overlap(one: string, other: string): boolean {
  return contains(one, other) || contains(other, one);
}
