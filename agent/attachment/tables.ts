// The pod's own tables of nftables. Pure.
import { BOOT_ENI_MARK, IMDS_ADDRESS, IMDS_ADDRESS6, NFT_TABLE, TURN_BACK_ADDRESS6 } from '../host/names.ts';
import type { Chain, EtherType, Statement, Table, Tables } from '../kernel/operation.ts';
import { type Attachment, POD_VETH } from './attachment.ts';
import { limitChain } from './limits.ts';

/** Name of the chain that drops frames with any but the pod's own addresses. */
export const GUARD_CHAIN = 'own_source';

export function podTables(a: Attachment): Tables {
  return { kind: 'tables', tables: [...pathTables(a), guardTable(a)] };
}

/** All tables but the guard. They name the node's addresses. */
export function podPathTables(a: Attachment): Tables {
  return { kind: 'tables', tables: pathTables(a) };
}

/** The guard alone. */
export function podGuard(a: Attachment): Tables {
  return { kind: 'tables', tables: [guardTable(a)] };
}

/**
 * With IPv6 a second table of family inet holds the IPv6 chains and the limits, since a limit counts both families
 * together.
 */
function pathTables(a: Attachment): Table[] {
  const limits = limitChain(a.limits ?? {}, [a.ifName, POD_VETH]);
  const { ipv6 } = a;
  const four = { family: 'ip', name: NFT_TABLE } as const;
  if (ipv6 === undefined)
    return [{ ...four, chains: [...pathChains(a.nodeAddresses, a.address, a.ifName, 4), ...limits] }];
  return [
    { ...four, chains: pathChains(a.nodeAddresses, a.address, a.ifName, 4) },
    {
      family: 'inet',
      name: NFT_TABLE,
      chains: [
        ...pathChains([TURN_BACK_ADDRESS6, ...ipv6.nodeAddresses], ipv6.address, a.ifName, 6),
        ...limits,
      ],
    },
  ];
}

const marked: Statement = { match: 'ct mark', has: BOOT_ENI_MARK };
const mark: Statement = { add: 'meta mark', bit: BOOT_ENI_MARK };

/**
 * @param node the node's addresses on the veth.
 * @param own source address of Service traffic that the node has sent back.
 */
function pathChains(node: string[], own: string, ifName: string, family: 4 | 6): Chain[] {
  const six = family === 6;
  const of: Statement[] = six ? [{ match: 'nfproto', is: 'ipv6' }] : [];
  const fromPod: Statement = { match: 'iifname', is: POD_VETH };
  const chain = (name: string, rest: Pick<Chain, 'type' | 'hook' | 'priority' | 'rules'>): Chain => ({
    name: six ? `${name}6` : name,
    ...rest,
    policy: 'accept',
  });
  return [
    chain('prerouting', {
      ...{ type: 'filter', hook: 'prerouting', priority: 'mangle' },
      rules: [
        [
          fromPod,
          { match: 'saddr', of: node, not: true },
          { match: 'direction', is: 'original' },
          { match: 'state', is: 'new' },
          { add: 'ct mark', bit: BOOT_ENI_MARK },
        ],
        [...of, fromPod, marked, mark],
      ],
    }),
    chain('output', {
      ...{ type: 'route', hook: 'output', priority: 'mangle' },
      rules: [[...of, { match: 'direction', is: 'reply' }, marked, mark]],
    }),
    chain('postrouting', {
      ...{ type: 'nat', hook: 'postrouting', priority: 'srcnat' },
      // Over IPv6 the node has a single address while Service traffic turns back.
      rules: [
        [
          { match: 'saddr', of: six ? TURN_BACK_ADDRESS6 : node },
          { match: 'oifname', is: ifName },
          { snat: own },
        ],
      ],
    }),
  ];
}

/**
 * What may leave the pod's interface: frames with the pod's own addresses. A route or a sysctl is not an access
 * control: a process without any capability passes a route by binding its socket to the interface (SO_BINDTODEVICE,
 * since Linux 5.7), and a process with NET_RAW writes frames itself. Frames between pods of one ENI reach no hook of
 * the node, so each pod has a chain of its own at the egress hook (Linux 5.16). Only NET_ADMIN in the pod's namespace
 * can remove it.
 *
 * The chain checks both the frame's type and the type that the socket named (`meta protocol`): the kernel looks for the
 * packet's header behind a VLAN tag when the socket's type is VLAN, whatever the bytes of the frame are
 * (packet_parse_headers in net/packet/af_packet.c). Of the IPv6 messages for neighbour and router discovery (types 133
 * to 137, RFC 4861) a pod may send solicitations, and advertisements of its own address.
 */
function guardTable(a: Attachment): Table {
  const accept: Statement = { verdict: 'accept' };
  const from = (type: EtherType): Statement[] => [
    { match: 'frame', from: a.mac, type },
    { match: 'protocol', is: type },
  ];
  const notTo = (of: string): Statement => ({ match: 'daddr', of, not: true });
  const six = (address: string): Statement[][] => {
    const own: Statement[] = [...from('ip6'), { match: 'saddr', of: address }];
    return [
      [...own, notTo(IMDS_ADDRESS6), { match: 'l4proto', not: 'ipv6-icmp' }, accept],
      [...own, notTo(IMDS_ADDRESS6), { match: 'icmpv6', type: 133, below: true }, accept],
      [...own, { match: 'icmpv6', type: 135 }, accept],
      [...own, { match: 'icmpv6', type: 136 }, { match: 'advertised', is: address }, accept],
    ];
  };
  const chain: Chain = {
    ...{ name: GUARD_CHAIN, type: 'filter', hook: 'egress', device: a.ifName },
    ...{ priority: 'filter', policy: 'drop' },
    rules: [
      [...from('ip'), { match: 'saddr', of: a.address }, notTo(IMDS_ADDRESS), accept],
      [...from('arp'), { match: 'arp', mac: a.mac, address: a.address }, accept],
      ...(a.address6 === undefined ? [] : six(a.address6)),
      [{ count: true }, { verdict: 'drop' }],
    ],
  };
  return { family: 'netdev', name: NFT_TABLE, chains: [chain] };
}
