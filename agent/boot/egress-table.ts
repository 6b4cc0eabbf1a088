// The egress table as text: pure, from the node, the pool and the configured table. One shared table for
// the whole node; a pod adds no rule, no chain and no element.
import type { Config } from '../config/schema.ts';
import { BOOT_ENI_MARK, IMDS_ADDRESS, POD_LINK_PREFIX, SERVICE_MARK } from '../host/names.ts';
import { contains, type Range, rangeOf, toAddress } from '../pool/ipv4.ts';

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
  config: Pick<Config, 'egress' | 'pods'>;
}

/** IPv4 multicast, RFC 5771. */
const MULTICAST_CIDR = '224.0.0.0/4';
const MULTICAST = rangeOf(MULTICAST_CIDR);

interface ActionRange extends Range {
  action: EgressAction;
}

/** The body of table inet eniboot. */
export function renderEgressTable(input: EgressInput): string {
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
  const imdsGuard = input.config.pods.allowImds
    ? ''
    : `  chain imds_guard {
    type filter hook forward priority filter; policy accept;
    ip saddr @pool4 ip daddr ${IMDS_ADDRESS} reject with icmp type admin-prohibited
  }
`;
  return `  set pool4 {
    type ipv4_addr; flags interval; auto-merge;${elements([...input.poolCidrs].sort(byAddress))}
  }
  set routed4 {
    type ipv4_addr; flags interval; auto-merge;${elements(routed)}
  }
  map actions4 {
    type ipv4_addr : verdict; flags interval;${elements(verdicts)}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat - 5; policy accept;
    ip saddr @pool4 oifname ${pods} snat ip to ${nodeAddress}
    ip saddr @pool4 oifname "${device}" goto egress
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
  }
  chain services {
    type route hook output priority mangle; policy accept;
    ip saddr @pool4 ip daddr @routed4 meta mark set meta mark or ${hex(SERVICE_MARK)}
  }
  chain clamp {
    type filter hook forward priority mangle; policy accept;
    ip saddr @pool4 oifname "${device}" tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu
  }
${imdsGuard}`;
}

/** All rows, the built-in ones first: a configured row for the same CIDR comes later and wins. */
function egressRows(
  vpcCidrs: string[],
  config: EgressInput['config'],
): { cidr: string; action: EgressAction }[] {
  return [
    ...[...vpcCidrs, ...config.pods.routes, MULTICAST_CIDR].map((cidr) => ({
      cidr,
      action: 'route' as const,
    })),
    ...config.egress.table,
  ];
}

/**
 * What pods reach by their own ENI, and what lies inside that and yet leaves through the node. As CIDRs, for
 * the pods' routing tables, where the longest prefix wins as it does here.
 */
export function podRouting(
  vpcCidrs: string[],
  config: EgressInput['config'],
): { podRoutes: string[]; egressRoutes: string[] } {
  const rows = config.egress.table;
  const leaving = rows.filter((row) => row.action !== 'route').map((row) => row.cidr);
  const routes = rows.filter((row) => row.action === 'route').map((row) => row.cidr);
  const podRoutes = [...new Set([...vpcCidrs, ...config.pods.routes, ...routes])]
    .filter((cidr) => !leaving.includes(cidr))
    .sort();
  return {
    podRoutes,
    egressRoutes: leaving.filter((cidr) => podRoutes.some((route) => contains(route, cidr))).sort(),
  };
}

/**
 * Longest prefix wins, as disjoint ranges in order: interval maps of nftables cannot overlap. CIDRs nest or
 * are disjoint, so laying the shorter prefixes first and the longer ones over them is enough.
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
