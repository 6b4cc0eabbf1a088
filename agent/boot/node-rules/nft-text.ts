// The node's nftables tables as text: pure, from the node, the pool and the configured table. All pods share the tables: a pod
// adds no rule, no chain and no element. The guards' chains come from nft-guard.ts.
import ipaddr from 'ipaddr.js';
import type { Config } from '../../config/schema.ts';
import { contains, type Range, rangeOf, toAddress } from '../../host/ipv4.ts';
import {
  BOOT_ENI_MARK,
  NFT_TABLE,
  POD_LINK_PREFIX,
  SERVICE_MARK,
  TURN_BACK_ADDRESS6,
} from '../../host/names.ts';
import type { Counted } from '../../host/nft.ts';
import { type GuardedEni, guardChains, renderGuardTable } from './nft-guard.ts';
import { serviceCidrs4 } from './service-cidrs.ts';

export type EgressAction = 'route' | 'snat' | 'snat-keep-port';

export interface EgressInput {
  /** Device name of the boot ENI. */
  device: string;
  /** Primary address of the boot ENI: the source of everything that leaves. */
  nodeAddress: string;
  /** All CIDR blocks of the VPC. */
  vpcCidrs: string[];
  /** The pool: prefixes and single addresses of all pod ENIs. */
  poolCidrs: string[];
  /** /80 prefixes of all pod ENIs; undefined when pods have only IPv4. */
  poolPrefixes6?: string[] | undefined;
  /** Pod ENIs whose device is here. */
  enis: GuardedEni[];
  config: Pick<Config, 'egress' | 'pods' | 'kubernetes'>;
}

/** IPv4 multicast, RFC 5771. */
const MULTICAST_CIDR = '224.0.0.0/4';
const MULTICAST = rangeOf(MULTICAST_CIDR);

type RoutingConfig = Pick<Config, 'egress' | 'pods'>;

interface ActionRange extends Range {
  action: EgressAction;
}

/** Both tables of the node. @param counted the values at which their counters begin */
export function renderTables(input: EgressInput, counted: Counted = new Map()): string {
  return `table inet ${NFT_TABLE} {
${renderEgressTable(input, counted)}}
table netdev ${NFT_TABLE} {
${renderGuardTable(input.enis, counted)}}
`;
}

/**
 * The body of table inet eniboot. Its sets are declared by `typeof`, and none is anonymous: nft 1.0.6, which kube-proxy's image
 * has had, ends with signal 11 on what nft 1.1.3 and later write for other sets (kubernetes/kubernetes #136786).
 */
function renderEgressTable(input: EgressInput, counted: Counted): string {
  const { device, nodeAddress } = input;
  const mark = hex(BOOT_ENI_MARK);
  const pods = `"${POD_LINK_PREFIX}*"`;
  const ranges = flatten(egressRows(input.vpcCidrs, input.config));
  // Multicast is never translated, but no pod ENI carries it either.
  const routed = ranges
    .filter((range) => range.action === 'route' && range.first < MULTICAST.first)
    .map(showRange);
  const verdicts = ranges
    .filter((range) => range.action !== 'snat')
    .map((range) => `${showRange(range)} : ${range.action === 'route' ? 'return' : 'goto keep_port'}`);
  const six =
    input.poolPrefixes6 === undefined
      ? noLines6
      : lines6(input.poolPrefixes6, ipv6Cidrs(input.config.kubernetes.serviceCidrs));
  return `  set pool4 {
    typeof ip saddr; flags interval; auto-merge;${elements([...input.poolCidrs].sort(byAddress))}
  }
  set routed4 {
    typeof ip daddr; flags interval; auto-merge;${elements(routed)}
  }
  map actions4 {
    typeof ip daddr : verdict; flags interval;${elements(verdicts)}
  }
${six.sets}  chain postrouting {
    type nat hook postrouting priority srcnat - 5; policy accept;
    ip saddr @pool4 oifname ${pods} snat ip to ${nodeAddress}
${six.turnBack}    ip saddr @pool4 oifname "${device}" goto egress
  }
  chain egress {
    ip daddr vmap @actions4
    snat ip to ${nodeAddress} fully-random
  }
  chain keep_port {
    snat ip to ${nodeAddress}
  }
  chain marks {
    type filter hook prerouting priority mangle; policy accept;
    iifname "${device}" ct direction original ct mark set ct mark or ${mark}
    iifname ${pods} ct mark and ${mark} == ${mark} meta mark set meta mark or ${mark}
${six.fromPods}  }
  chain services {
    type route hook output priority mangle; policy accept;
    ip saddr @pool4 ip daddr @routed4 meta mark set meta mark or ${hex(SERVICE_MARK)}
${six.services}  }
  chain clamp {
    type filter hook forward priority mangle; policy accept;
    ip saddr @pool4 oifname "${device}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
  }
${six.chains}${guardChains(input.enis, input.config.pods.allowImds, counted)}`;
}

const noLines6 = { sets: '', turnBack: '', fromPods: '', services: '', chains: '' };

/**
 * The IPv6 part. Nothing is translated on its way out. Everything that a pod sends to the node and that is not for the node is
 * Service traffic; SERVICE_MARK sends it back into its pod.
 */
function lines6(prefixes: string[], serviceCidrs: string[]): typeof noLines6 {
  const pods = `"${POD_LINK_PREFIX}*"`;
  const mark = hex(SERVICE_MARK);
  return {
    sets: `  set pool6 {
    typeof ip6 saddr; flags interval; auto-merge;${elements([...prefixes].sort())}
  }
  set services6 {
    typeof ip6 daddr; flags interval; auto-merge;${elements([...serviceCidrs].sort())}
  }
`,
    turnBack: `    ip6 saddr @pool6 oifname ${pods} snat ip6 to ${TURN_BACK_ADDRESS6}\n`,
    // Replies are left out: a reply that comes back by the client's link has another pod of this node as its source.
    fromPods: `    iifname ${pods} ip6 saddr @pool6 ct direction original meta mark set meta mark or ${mark}\n`,
    services: `    ip6 saddr @pool6 meta mark set meta mark or ${mark}\n`,
    // A packet that still has a Service's address here belongs to no Service. It would go round between node and pod.
    chains:
      serviceCidrs.length === 0
        ? ''
        : `  chain no_service {
    type filter hook forward priority filter; policy accept;
    iifname ${pods} ip6 daddr @services6 reject with icmpv6 type no-route
  }
`,
  };
}

/** In the form that the kernel prints. */
export function ipv6Cidrs(cidrs: string[]): string[] {
  return cidrs
    .filter((cidr) => ipaddr.IPv6.isValidCIDR(cidr))
    .map((cidr) => {
      const [address, length] = ipaddr.IPv6.parseCIDR(cidr);
      return `${address.toRFC5952String()}/${length}`;
    });
}

/** All rows, the built-in ones first: a configured row for the same CIDR comes later and wins. */
function egressRows(
  vpcCidrs: readonly string[],
  config: RoutingConfig,
): { cidr: string; action: EgressAction }[] {
  return [
    ...[...vpcCidrs, ...config.pods.routes, MULTICAST_CIDR].map(
      (cidr) => ({ cidr, action: 'route' }) as const,
    ),
    ...config.egress.table,
  ];
}

/**
 * The CIDRs that pods reach by their own ENI, and the CIDRs inside those that leave through the node. For the pods' routing
 * tables, where the longest prefix wins as it does here.
 */
export function podRouting(
  vpcCidrs: readonly string[],
  config: Pick<Config, 'egress' | 'pods' | 'kubernetes'>,
): { podRoutes: string[]; egressRoutes: string[] } {
  const rows = config.egress.table;
  const leaving = rows.filter((row) => row.action !== 'route').map((row) => row.cidr);
  const routes = rows.filter((row) => row.action === 'route').map((row) => row.cidr);
  // The node answers for Services, also where their CIDR lies in the VPC or holds a block of it.
  const services = serviceCidrs4(config.kubernetes.serviceCidrs);
  const podRoutes = [...new Set([...vpcCidrs, ...config.pods.routes, ...routes])]
    .filter((cidr) => !leaving.includes(cidr) && !services.some((service) => contains(service, cidr)))
    .sort();
  return {
    podRoutes,
    egressRoutes: [...new Set([...leaving, ...services])]
      .filter((cidr) => podRoutes.some((route) => contains(route, cidr)))
      .sort(),
  };
}

/**
 * The longest prefix wins, as disjoint ranges in order: interval maps of nftables cannot overlap. CIDRs either nest or are
 * disjoint, so it is enough to lay the shorter prefixes first and the longer ones over them.
 */
export function flatten(rows: { cidr: string; action: EgressAction }[]): ActionRange[] {
  const ordered = rows
    .map((row) => ({ ...rangeOf(row.cidr), action: row.action }))
    .sort((a, b) => b.last - b.first - (a.last - a.first));
  let ranges: ActionRange[] = [];
  for (const row of ordered) {
    ranges = ranges.flatMap((range) => subtract(range, row));
    ranges.push(row);
  }
  ranges.sort((a, b) => a.first - b.first);
  const merged: ActionRange[] = [];
  for (const range of ranges) {
    const before = merged.at(-1);
    if (before !== undefined && before.last + 1 === range.first && before.action === range.action) {
      before.last = range.last;
    } else {
      merged.push({ ...range });
    }
  }
  return merged;
}

function subtract(range: ActionRange, hole: Range): ActionRange[] {
  if (hole.last < range.first || hole.first > range.last) return [range];
  const left = { ...range, last: hole.first - 1 };
  const right = { ...range, first: hole.last + 1 };
  return [left, right].filter((part) => part.first <= part.last);
}

function showRange(range: Range): string {
  return range.first === range.last
    ? toAddress(range.first)
    : `${toAddress(range.first)}-${toAddress(range.last)}`;
}

function hex(mark: number): string {
  return `0x${mark.toString(16).padStart(8, '0')}`;
}

function elements(list: string[]): string {
  return list.length === 0 ? '' : ` elements = { ${list.join(', ')} }`;
}

function byAddress(a: string, b: string): number {
  return rangeOf(a).first - rangeOf(b).first;
}
