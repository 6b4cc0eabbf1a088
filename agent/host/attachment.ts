// What an attachment is, as text for `ip -batch` and `nft`: pure. Both sides of it, and why each part is there:
//
//   pod   eth0   ipvlan (L2) on the pod ENI, carries the pod's address: all VPC traffic, no NAT, no host stack
//         veth0  no address: the node itself, Services, and everything outside the VPC
//   node  enb…   the other end of veth0, no address either
//
// Service traffic leaves by veth0, kube-proxy picks a backend on the node, and the pod's table there turns it
// back into the pod, which sends it out of eth0 as itself: the backend sees the pod's address.
//
// With IPv6 the same two links carry both families. There is no NAT in it, so eth0 has the default route, and
// veth0 what only the node can do: the node's own addresses, and Services. On the node a pod has no rules of its
// own, only a route for its source address in the one table that packets with SERVICE_MARK look into.

import { contains, rangeOf, toAddress, toNumber } from './ipv4.ts';
import { ENI_PREFIX_LENGTH, podIpv6 } from './ipv6.ts';
import {
  BOOT_ENI_MARK,
  IMDS_ADDRESS,
  IMDS_ADDRESS6,
  NFT_TABLE,
  NODE_LINK_ADDRESS6,
  POD_MARK_RULE_PRIORITY,
  POD_RULE_PRIORITY,
  ROUTE_PROTOCOL,
  ROUTER_ADDRESS6,
  SERVICE_MARK,
  TURN_BACK_ADDRESS6,
} from './names.ts';
import { prefixOf } from './netlink/values.ts';
import type { NodeFile, NodePodEni } from './node-file.ts';
import { limitChain, type PodLimits } from './pod-limits.ts';
import { hostLinkOf } from './pod-link-name.ts';

/** Name of the pod's end of the unnumbered link. */
export const POD_VETH = 'veth0';

/** Name of the chain that holds a pod to its own addresses. */
export const GUARD_CHAIN = 'own_source';

export interface Attachment {
  address: string;
  /** The ENI's, which all its pods send from. */
  mac: string;
  /** The pod's interface: eth0. */
  ifName: string;
  /** Length of the ENI's subnet. */
  prefixLength: number;
  /** The subnet's router, at its first address (VPC User Guide, "Subnet CIDR blocks"). */
  router: string;
  nodeAddresses: string[];
  /** CIDRs beyond the ENI's own subnet that eth0 reaches through the router. */
  routes: string[];
  /** CIDRs inside those that veth0 reaches, and the node translates. */
  egressRoutes: string[];
  allowImds: boolean;
  /** Absent where pods have IPv4 alone. */
  ipv6?:
    | { address: string; prefixLength: number; nodeAddresses: string[]; serviceCidrs: string[] }
    | undefined;
  /** The IPv6 address that belongs to `address`, also of a pod whose IPv6 is off; absent where pods have IPv4 alone. */
  address6?: string | undefined;
  /** Of the veth; eth0 has its ENI's. */
  mtu: number;
  hostLink: string;
  hostMac: string;
  podMac: string;
  /** Number of the pod's routing table on the node: its address. */
  table: number;
  /** Device group of what we make in the pod: what DEL knows it by, whoever's namespace the path leads to by then. */
  group: number;
  /** Bandwidth limits, where there are any. */
  limits?: PodLimits;
}

/** The names and numbers of an address: all that DEL needs to know. */
function traceOf(address: string): Pick<Attachment, 'hostLink' | 'hostMac' | 'podMac' | 'table' | 'group'> {
  const table = toNumber(address);
  const digits = table.toString(16).padStart(8, '0');
  const mac = (kind: string) => `02:${kind}:${(digits.match(/../g) ?? []).join(':')}`;
  return {
    hostLink: hostLinkOf(address),
    hostMac: mac('e0'),
    podMac: mac('e1'),
    table,
    group: table % 2 ** 31,
  };
}

export function attachmentOf(
  node: NodeFile,
  address: string,
  { mac, subnetCidr, ipv6Prefix }: Pick<NodePodEni, 'mac' | 'subnetCidr' | 'ipv6Prefix'>,
  ifName: string,
): Attachment {
  const ipv6 =
    node.ipv6 === undefined || ipv6Prefix === undefined
      ? undefined
      : { address: podIpv6(ipv6Prefix, address), prefixLength: ENI_PREFIX_LENGTH, ...node.ipv6 };
  return {
    address,
    mac,
    ifName,
    prefixLength: Number(subnetCidr.split('/')[1]),
    router: toAddress(rangeOf(subnetCidr).first + 1),
    nodeAddresses: node.nodeAddresses,
    // What lies in the subnet is reached without the router: the route of the address itself covers it.
    routes: node.podRoutes.filter((cidr) => !contains(subnetCidr, cidr)),
    egressRoutes: node.egressRoutes,
    allowImds: node.allowImds,
    ...(ipv6 === undefined ? {} : { ipv6, address6: ipv6.address }),
    mtu: node.mtu,
    ...traceOf(address),
  };
}

/**
 * Lines for `ip -batch` on the node. Both links are made inside the pod's namespace at once: a link that is
 * moved there costs a grace period of the kernel each, tens of milliseconds under load.
 *
 * @param eniDevice device of the pod ENI; undefined where another plugin has made the pod's interface.
 */
export function hostLines(
  a: Attachment,
  netns: string,
  eniDevice: string | undefined,
  ipv6: boolean,
): string[] {
  return [
    ...(eniDevice === undefined
      ? []
      : [`link add link ${eniDevice} name ${a.ifName} group ${a.group} netns ${netns} type ipvlan mode l2`]),
    `link add name ${a.hostLink} address ${a.hostMac} mtu ${a.mtu} type veth peer name ${POD_VETH} address ${a.podMac} mtu ${a.mtu} group ${a.group} netns ${netns}`,
    ...silence(a.hostLink, ipv6),
    `link set dev ${a.hostLink} up`,
    // Permanent, since an address-less device asks with a sender that arp_ignore=1 (kube-proxy's strict ARP) does not answer.
    `neigh replace ${a.address} lladdr ${a.podMac} dev ${a.hostLink} nud permanent`,
    `route replace ${a.address}/32 dev ${a.hostLink} scope link proto ${ROUTE_PROTOCOL}`,
    ...turnBackRoutes(a).map(
      (cidr) =>
        `route replace ${cidr} via ${a.address} dev ${a.hostLink} onlink table ${a.table} proto ${ROUTE_PROTOCOL}`,
    ),
    // Not turned back: the node sends these on by the boot ENI.
    ...a.egressRoutes.map((cidr) => `route replace throw ${cidr} table ${a.table} proto ${ROUTE_PROTOCOL}`),
    ...rulesOf(a).map((rule) => `rule add ${rule}`),
    ...hostLines6(a),
  ];
}

/** In the same batch: neither line needs to be told its family. */
function hostLines6({ ipv6, hostLink, podMac }: Attachment): string[] {
  if (ipv6 === undefined) return [];
  const { address } = ipv6;
  return [
    `neigh replace ${address} lladdr ${podMac} dev ${hostLink} nud permanent`,
    `route replace ${address}/128 dev ${hostLink} proto ${ROUTE_PROTOCOL}`,
    `route replace ::/0 from ${address}/128 via ${address} dev ${hostLink} onlink table ${ROUTE_PROTOCOL} proto ${ROUTE_PROTOCOL}`,
  ];
}

/**
 * Lines for `ip -batch` in the pod.
 *
 * @param ours whether the pod's interface is of our making.
 */
export function podLines(a: Attachment, ours: boolean, ipv6: boolean): string[] {
  const [node = ''] = a.nodeAddresses;
  const proto = `proto ${ROUTE_PROTOCOL}`;
  return [
    'link set dev lo up',
    ...silence(a.ifName, ipv6),
    // Another plugin's came up before it was told to have no link-local address.
    ...(ours || !ipv6 ? [] : [`address flush dev ${a.ifName} scope link`]),
    `link set dev ${a.ifName} up`,
    `address replace ${a.address}/${a.prefixLength} dev ${a.ifName}`,
    ...a.routes.map((cidr) => `route replace ${cidr} via ${a.router} dev ${a.ifName} ${proto}`),
    ...silence(POD_VETH, ipv6),
    `link set dev ${POD_VETH} up`,
    ...a.nodeAddresses.flatMap((address) => [
      `neigh replace ${address} lladdr ${a.hostMac} dev ${POD_VETH} nud permanent`,
      `route replace ${address}/32 dev ${POD_VETH} scope link src ${a.address} ${proto}`,
    ]),
    ...a.egressRoutes.map(
      (cidr) => `route replace ${cidr} via ${node} dev ${POD_VETH} src ${a.address} ${proto}`,
    ),
    `route replace default via ${node} dev ${POD_VETH} src ${a.address} ${proto}`,
    ...(a.allowImds ? [] : [`route replace unreachable ${IMDS_ADDRESS}/32 ${proto}`]),
    // Connections that came in by veth0 from anybody but the node (NodePort, hostPort) are answered there.
    `route replace default via ${node} dev ${POD_VETH} table ${ROUTE_PROTOCOL} ${proto}`,
    `rule add ${replyRule()}`,
  ];
}

/** Lines for `ip -6 -batch` in the pod, after those of IPv4; none where it has IPv4 alone. */
export function podLines6(a: Attachment): string[] {
  if (a.ipv6 === undefined) return [];
  const proto = `proto ${ROUTE_PROTOCOL}`;
  const byNode = `via ${NODE_LINK_ADDRESS6} dev ${POD_VETH}`;
  const { address, prefixLength, nodeAddresses, serviceCidrs } = a.ipv6;
  return [
    // EC2 gives an address once, so nobody is asked whether it is taken. Pods of the same ENI are on this link.
    `address replace ${address}/${prefixLength} dev ${a.ifName} nodad`,
    `route replace ::/0 via ${ROUTER_ADDRESS6} dev ${a.ifName} ${proto}`,
    `neigh replace ${NODE_LINK_ADDRESS6} lladdr ${a.hostMac} dev ${POD_VETH} nud permanent`,
    ...[...nodeAddresses.map((one) => `${one}/128`), ...serviceCidrs, `${TURN_BACK_ADDRESS6}/128`].map(
      (cidr) => `route replace ${cidr} ${byNode} ${proto}`,
    ),
    // Whether or not `pods.allowImds` is set: that opens the way through the node, over IPv4.
    `route replace unreachable ${IMDS_ADDRESS6}/128 ${proto}`,
    `route replace ::/0 ${byNode} table ${ROUTE_PROTOCOL} ${proto}`,
    `rule add ${replyRule()}`,
  ];
}

/** Where the routes lead that an attachment has in the pod's main table: CIDRs of both families. */
export function podDestinations(a: Attachment): string[] {
  return [...podLines(a, true, false), ...podLines6(a)].flatMap((line) => {
    const to = / table /.test(line) ? undefined : /^route replace (?:unreachable )?(\S+)/.exec(line)?.[1];
    return to === undefined ? [] : [to === 'default' ? '0.0.0.0/0' : to];
  });
}

/** Settings of the pod's namespace, as paths below /proc/sys and values. */
export function podSysctls(a: Attachment): [string, string][] {
  return [
    // Service traffic turns back through the pod.
    ['net/ipv4/ip_forward', '1'],
    // The node's redirect for exactly that traffic is not to be believed.
    ['net/ipv4/conf/all/accept_redirects', '0'],
    ['net/ipv4/conf/all/rp_filter', '0'],
    [`net/ipv4/conf/${a.ifName}/rp_filter`, '1'],
    [`net/ipv4/conf/${POD_VETH}/rp_filter`, '1'],
    // So that the source check of a marked packet asks the same table as its reply will.
    [`net/ipv4/conf/${POD_VETH}/src_valid_mark`, '1'],
    // Also keeps router advertisements out.
    ...(a.ipv6 === undefined ? [] : ([['net/ipv6/conf/all/forwarding', '1']] satisfies [string, string][])),
  ];
}

/** The pod's own nftables table. */
export function podTable(a: Attachment): string {
  const mark = hex(BOOT_ENI_MARK);
  const node = a.nodeAddresses.join(', ');
  return `table ip ${NFT_TABLE} {
  chain prerouting {
    type filter hook prerouting priority mangle; policy accept;
    iifname "${POD_VETH}" ip saddr != { ${node} } ct direction original ct state new ct mark set ct mark or ${mark}
    iifname "${POD_VETH}" ct mark and ${mark} == ${mark} meta mark set meta mark or ${mark}
  }
  chain output {
    type route hook output priority mangle; policy accept;
    ct direction reply ct mark and ${mark} == ${mark} meta mark set meta mark or ${mark}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr { ${node} } oifname "${a.ifName}" snat ip to ${a.address} fully-random
  }
${a.ipv6 === undefined ? limitsOf(a) : ''}}
`;
}

/**
 * What IPv6 adds, a table of its own; empty where the pod has IPv4 alone. Of family inet, since a limit is one for
 * both families together.
 */
export function podTable6(a: Attachment): string {
  const { ipv6, ifName } = a;
  if (ipv6 === undefined) return '';
  const mark = hex(BOOT_ENI_MARK);
  const node = [TURN_BACK_ADDRESS6, ...ipv6.nodeAddresses].join(', ');
  return `table inet ${NFT_TABLE} {
  chain prerouting6 {
    type filter hook prerouting priority mangle; policy accept;
    iifname "${POD_VETH}" ip6 saddr != { ${node} } ct direction original ct state new ct mark set ct mark or ${mark}
    meta nfproto ipv6 iifname "${POD_VETH}" ct mark and ${mark} == ${mark} meta mark set meta mark or ${mark}
  }
  chain output6 {
    type route hook output priority mangle; policy accept;
    meta nfproto ipv6 ct direction reply ct mark and ${mark} == ${mark} meta mark set meta mark or ${mark}
  }
  chain postrouting6 {
    type nat hook postrouting priority srcnat; policy accept;
    ip6 saddr ${TURN_BACK_ADDRESS6} oifname "${ifName}" snat ip6 to ${ipv6.address} fully-random
  }
${limitsOf(a)}}
`;
}

/**
 * What may leave the pod's interface: frames of its own addresses. A route or a sysctl is not an access control: a
 * process without any capability passes a route by binding its socket to the interface (SO_BINDTODEVICE, since Linux
 * 5.7), and one with NET_RAW writes frames itself. Within one ENI no frame meets a hook of the node, so the pod has a
 * chain of its own, at the egress hook (Linux 5.16). Only NET_ADMIN in the pod's namespace removes it.
 *
 * Both the frame's type and what the socket said it is (`meta protocol`): the kernel looks for the packet's header
 * where a socket's VLAN type says, whatever the frame's bytes are (packet_parse_headers in net/packet/af_packet.c).
 * Over IPv6, of the messages by which neighbours and routers are found (types 133 to 137, RFC 4861) a pod sends
 * solicitations, and advertisements of its own address.
 */
export function podGuard(a: Attachment): string {
  const from = (type: 'ip' | 'ip6' | 'arp') =>
    `    ether saddr ${a.mac} ether type ${type} meta protocol ${type} `;
  const six = `${from('ip6')}ip6 saddr ${a.address6} `;
  const rules = [
    `${from('ip')}ip saddr ${a.address} ip daddr != ${IMDS_ADDRESS} accept`,
    `${from('arp')}arp saddr ether ${a.mac} arp saddr ip ${a.address} accept`,
    ...(a.address6 === undefined
      ? []
      : [
          `${six}ip6 daddr != ${IMDS_ADDRESS6} meta l4proto != ipv6-icmp accept`,
          `${six}ip6 daddr != ${IMDS_ADDRESS6} icmpv6 type < 133 accept`,
          `${six}icmpv6 type 135 accept`,
          `${six}icmpv6 type 136 @nh,384,128 0x${Buffer.from(prefixOf(a.address6).bytes).toString('hex')} accept`,
        ]),
    '    counter drop',
  ];
  return `table netdev ${NFT_TABLE} {
  chain ${GUARD_CHAIN} {
    type filter hook egress device "${a.ifName}" priority filter; policy drop;
${rules.join('\n')}
  }
}
`;
}

/** All of a pod's tables. */
export function podTables(a: Attachment): string {
  return podTable(a) + podTable6(a) + podGuard(a);
}

function limitsOf(a: Attachment): string {
  return limitChain(a.limits ?? {}, [a.ifName, POD_VETH]);
}

/**
 * Lines that take the node's side away; each may find nothing. Routes and neighbours go with the link, but for
 * the pod table's `throw` routes, which have none.
 */
export function removalLines(address: string): string[] {
  const trace = traceOf(address);
  return [
    `link del dev ${trace.hostLink}`,
    ...rulesOf({ address, ...trace }).map((rule) => `rule del ${rule}`),
    `route flush table ${trace.table} proto ${ROUTE_PROTOCOL}`,
  ];
}

/** Number of the pod's links that are ours: both, or veth0 alone where eth0 is another plugin's. */
export function linkGroupOf(address: string): number {
  return traceOf(address).group;
}

/** What goes with no link of the pod's: lines for `ip -batch` and for `ip -6 -batch`. */
export const podRemovalLines = [
  `route flush table main type unreachable proto ${ROUTE_PROTOCOL}`,
  `rule del ${replyRule()}`,
];

/** The node's rules for one pod: packets from its link, and Service traffic of IPVS, which has no input device. */
function rulesOf(a: Pick<Attachment, 'address' | 'hostLink' | 'table'>): string[] {
  const mark = hex(SERVICE_MARK);
  return [
    `priority ${POD_RULE_PRIORITY} iif ${a.hostLink} lookup ${a.table} protocol ${ROUTE_PROTOCOL}`,
    `priority ${POD_MARK_RULE_PRIORITY} from ${a.address} fwmark ${mark}/${mark} lookup ${a.table} protocol ${ROUTE_PROTOCOL}`,
  ];
}

/** What the pod's table on the node sends back into the pod: all that its eth0 reaches. */
function turnBackRoutes(a: Attachment): string[] {
  const subnet = `${toAddress(rangeOf(`${a.address}/${a.prefixLength}`).first)}/${a.prefixLength}`;
  return [...new Set([...a.routes, ...(a.routes.some((cidr) => contains(cidr, subnet)) ? [] : [subnet])])];
}

function replyRule(): string {
  const mark = hex(BOOT_ENI_MARK);
  return `priority ${POD_RULE_PRIORITY} fwmark ${mark}/${mark} lookup ${ROUTE_PROTOCOL} protocol ${ROUTE_PROTOCOL}`;
}

/** No IPv6 address by itself: all pods of an ENI share its MAC and would collide on one link-local address. */
function silence(device: string, ipv6: boolean): string[] {
  return ipv6 ? [`link set dev ${device} addrgenmode none`] : [];
}

function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}
