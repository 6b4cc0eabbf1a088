// The operations that make an attachment and remove it, in the order in which they are executed. Pure. The parts on
// both sides, and the reason for each:
//
//   pod   eth0   ipvlan (L2) on the pod ENI, carries the pod's address: all VPC traffic, no NAT, no host stack
//         veth0  no address: the node itself, Services, and everything outside the VPC
//   node  enb…   the other end of veth0, no address either
//
// Service traffic leaves by veth0, and kube-proxy picks a backend on the node. The pod's table on the node then sends
// the packet back into the pod, and the pod sends it out of eth0 with its own address, which the backend sees.
//
// With IPv6 the same two links carry both families. IPv6 has no NAT, so the default route goes by eth0. By veth0 go
// only the node's own addresses and Services. On the node a pod has no IPv6 rules of its own, only a route for its
// source address in the one table to which packets with SERVICE_MARK go.
import { contains, rangeOf, toAddress } from '../host/ipv4.ts';
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
} from '../host/names.ts';
import {
  type KernelOperation,
  make,
  type Program,
  type Route,
  type Rule,
  type Setting,
  type Side,
  type Table,
  type Tables,
} from '../kernel/operation.ts';
import { type Attachment, namesOf, POD_VETH } from './attachment.ts';
import { limitProgram } from './limits.ts';
import { podTables } from './tables.ts';

/** The pod's surroundings that an attachment depends on. */
export interface Place {
  /** Device of the pod ENI; undefined when another plugin has made the pod's interface. */
  eniDevice: string | undefined;
  /** The kernel has IPv6. */
  ipv6: boolean;
  /** The table that closes the pod until its network policies are known. */
  closed?: Table | undefined;
}

export interface AttachmentPlan {
  /** Both sides and all tables, and the node's IPv6 parts. */
  always: KernelOperation[];
  /** The IPv6 parts in the pod, which are made only where IPv6 is on: a runtime may have turned it off. */
  whereIpv6: KernelOperation[];
  /** These run after the operations, since a thread in a pod's namespace must not start a program. */
  programs: Program[];
}

export function attachmentPlan(a: Attachment, place: Place): AttachmentPlan {
  return {
    always: [
      ...nodeOperations(a, place),
      make('pod', withTable(podTables(a), place.closed), 'remake'),
      ...podSettings(a).map((setting) => make('pod', setting, 'replace')),
      ...podOperations(a, place),
    ],
    whereIpv6: podOperations6(a),
    programs: limitProgram(a.limits ?? {}, [a.ifName, POD_VETH]),
  };
}

function withTable({ kind, tables }: Tables, more: Table | undefined): Tables {
  return { kind, tables: more === undefined ? tables : [...tables, more] };
}

/**
 * Both links are made directly inside the pod's namespace. Moving a link there costs a grace period of the kernel,
 * which is tens of milliseconds under load.
 */
function nodeOperations(a: Attachment, { eniDevice, ipv6 }: Place): KernelOperation[] {
  const { hostLink, hostMac, podMac, mtu, group, table } = a;
  const device = hostLink;
  const inside = (name: string) => ({ name, group, inPod: true }) as const;
  return [
    ...(eniDevice === undefined
      ? []
      : [make('node', { kind: 'ipvlan', parent: eniDevice, end: inside(a.ifName) }, 'refuse')]),
    make(
      'node',
      {
        kind: 'veth',
        end: { name: hostLink, mac: hostMac, mtu },
        peer: { ...inside(POD_VETH), mac: podMac, mtu },
      },
      // A host link with this name is left from a killed call: the name contains the address, and this call has leased
      // it.
      'remake',
    ),
    ...withoutLinkLocal('node', device, ipv6),
    { on: 'node', do: 'set', device, up: true },
    // Permanent, since a device without an address sends its ARP request with a sender address that the other side does
    // not answer when arp_ignore is 1 (kube-proxy's strict ARP).
    make('node', { kind: 'neighbour', device, address: a.address, mac: podMac }),
    route('node', { to: `${a.address}/32`, device }),
    ...turnBackRoutes(a).map((to) => route('node', { to, via: a.address, device, onlink: true, table })),
    // These destinations are not sent back into the pod: the node forwards them by the boot ENI.
    ...a.egressRoutes.map((to) => route('node', { to, type: 'throw', table })),
    ...podRules(a).map((rule) => make('node', rule, 'keep')),
    ...nodeOperations6(a),
  ];
}

function nodeOperations6({ ipv6, hostLink: device, podMac: mac }: Attachment): KernelOperation[] {
  if (ipv6 === undefined) return [];
  const { address } = ipv6;
  return [
    make('node', { kind: 'neighbour', device, address, mac }),
    route('node', { to: `${address}/128`, device }),
    route('node', {
      to: '::/0',
      from: `${address}/128`,
      via: address,
      device,
      onlink: true,
      table: ROUTE_PROTOCOL,
    }),
  ];
}

function podOperations(a: Attachment, { eniDevice, ipv6 }: Place): KernelOperation[] {
  const [via = ''] = a.nodeAddresses;
  const { ifName, address, hostMac: mac, prefixLength } = a;
  const device = POD_VETH;
  return [
    { on: 'pod', do: 'set', device: 'lo', up: true },
    ...withoutLinkLocal('pod', ifName, ipv6),
    // The other plugin's interface came up before this setting, and so has a link-local address already.
    ...(eniDevice !== undefined || !ipv6
      ? []
      : [{ on: 'pod', do: 'flush', what: { kind: 'addresses', device: ifName, scope: 'link' } } as const]),
    { on: 'pod', do: 'set', device: ifName, up: true },
    make('pod', { kind: 'address', device: ifName, address, prefixLength }),
    ...a.routes.map((to) => route('pod', { to, via: a.router, device: ifName })),
    ...withoutLinkLocal('pod', device, ipv6),
    { on: 'pod', do: 'set', device, up: true },
    ...a.nodeAddresses.flatMap((one) => [
      make('pod', { kind: 'neighbour', device, address: one, mac }),
      route('pod', { to: `${one}/32`, device, source: address }),
    ]),
    ...a.egressRoutes.map((to) => route('pod', { to, via, device, source: address })),
    route('pod', { to: 'default', via, device, source: address }),
    ...(a.allowImds ? [] : [route('pod', { to: `${IMDS_ADDRESS}/32`, type: 'unreachable' })]),
    // Replies of connections that came in by veth0 from outside the node (NodePort, hostPort) go out by veth0.
    route('pod', { to: 'default', via, device, table: ROUTE_PROTOCOL }),
    make('pod', replyRule(4), 'keep'),
  ];
}

function podOperations6({ ipv6, ifName, hostMac: mac }: Attachment): KernelOperation[] {
  if (ipv6 === undefined) return [];
  const { address, prefixLength, nodeAddresses, serviceCidrs } = ipv6;
  const byNode = { via: NODE_LINK_ADDRESS6, device: POD_VETH };
  return [
    // The kernel need not check for duplicates, since EC2 gives an address only once. The other pods of the ENI are on
    // this link.
    make('pod', { kind: 'address', device: ifName, address, prefixLength, unchecked: true }),
    route('pod', { to: '::/0', via: ROUTER_ADDRESS6, device: ifName }),
    make('pod', { kind: 'neighbour', device: POD_VETH, address: NODE_LINK_ADDRESS6, mac }),
    ...[...nodeAddresses.map((one) => `${one}/128`), ...serviceCidrs, `${TURN_BACK_ADDRESS6}/128`].map((to) =>
      route('pod', { to, ...byNode }),
    ),
    // Also with `pods.allowImds`: that setting opens only the way over IPv4 through the node.
    route('pod', { to: `${IMDS_ADDRESS6}/128`, type: 'unreachable' }),
    route('pod', { to: '::/0', ...byNode, table: ROUTE_PROTOCOL }),
    make('pod', replyRule(6), 'keep'),
  ];
}

/** Kernel settings of the pod's namespace. */
export function podSettings(a: Attachment): Setting[] {
  const values: [path: string, value: string][] = [
    // The pod forwards the Service traffic that the node sends back.
    ['net/ipv4/ip_forward', '1'],
    // The pod must ignore the redirects that the node sends for this traffic.
    ['net/ipv4/conf/all/accept_redirects', '0'],
    ['net/ipv4/conf/all/rp_filter', '0'],
    [`net/ipv4/conf/${a.ifName}/rp_filter`, '1'],
    [`net/ipv4/conf/${POD_VETH}/rp_filter`, '1'],
    // The source check of a marked packet then looks into the same table as its reply.
    [`net/ipv4/conf/${POD_VETH}/src_valid_mark`, '1'],
    // With forwarding on, the pod also ignores router advertisements.
    ...(a.ipv6 === undefined ? [] : ([['net/ipv6/conf/all/forwarding', '1']] satisfies [string, string][])),
  ];
  return values.map(([path, value]) => ({ kind: 'setting', path, value }));
}

/** Destinations of the attachment's routes in the pod's main table, as CIDRs of both families. */
export function podDestinations(a: Attachment): string[] {
  const { always, whereIpv6 } = attachmentPlan(a, { eniDevice: undefined, ipv6: false });
  return [...always, ...whereIpv6].flatMap((one) => {
    const what = one.on === 'pod' && one.do === 'make' ? one.what : undefined;
    if (what?.kind !== 'route' || what.table !== undefined) return [];
    return what.to === 'default' ? '0.0.0.0/0' : what.to;
  });
}

/** Path of the pod's setting by which a runtime turns off IPv6: `1` off, `0` on. */
export function ipv6Switch({ ifName }: Attachment): string {
  return `net/ipv6/conf/${ifName}/disable_ipv6`;
}

/**
 * Removes the node's side; each object may be gone already. The kernel removes routes and neighbours together with the
 * link, except the `throw` routes of the pod's table, which belong to no link.
 *
 * @param rules to remove, instead of those that this version makes.
 */
export function nodeRemoval(address: string, rules?: readonly Rule[]): KernelOperation[] {
  const names = namesOf(address);
  return [
    { on: 'node', do: 'remove', what: { kind: 'device', device: names.hostLink } },
    ...(rules ?? podRules({ address, ...names })).map(
      (what) => ({ on: 'node', do: 'remove', what }) as const,
    ),
    { on: 'node', do: 'flush', what: { kind: 'routes', family: 4, table: names.table } },
  ];
}

/** Removes the pod's links, and with them their ends on the node. */
export function linkRemoval(group: number): KernelOperation {
  return { on: 'pod', do: 'remove', what: { kind: 'group', group } };
}

/**
 * Removes the parts that the kernel does not remove together with the pod's links. It covers both families whatever the
 * node has: an object that is not there costs only a message.
 */
export const podRemoval: KernelOperation[] = [
  ...([4, 6] as const).flatMap((family): KernelOperation[] => [
    { on: 'pod', do: 'flush', what: { kind: 'routes', family, table: 'main', type: 'unreachable' } },
    { on: 'pod', do: 'remove', what: replyRule(family) },
  ]),
  ...(['ip', 'inet', 'netdev'] as const).map((family): KernelOperation => {
    return { on: 'pod', do: 'remove', what: { kind: 'table', family, name: NFT_TABLE } };
  }),
];

/**
 * The node's rules for one pod: one for packets from its link, one for Service traffic of IPVS, which has no input
 * device.
 */
function podRules({ address, hostLink, table }: Pick<Attachment, 'address' | 'hostLink' | 'table'>): Rule[] {
  return [
    { kind: 'rule', family: 4, priority: POD_RULE_PRIORITY, iif: hostLink, table },
    { kind: 'rule', family: 4, priority: POD_MARK_RULE_PRIORITY, from: address, mark: SERVICE_MARK, table },
  ];
}

function replyRule(family: 4 | 6): Rule {
  return { kind: 'rule', family, priority: POD_RULE_PRIORITY, mark: BOOT_ENI_MARK, table: ROUTE_PROTOCOL };
}

/** The destinations that the pod's table on the node sends back into the pod: all that its eth0 reaches. */
function turnBackRoutes(a: Attachment): string[] {
  const subnet = `${toAddress(rangeOf(`${a.address}/${a.prefixLength}`).first)}/${a.prefixLength}`;
  return [...new Set([...a.routes, ...(a.routes.some((cidr) => contains(cidr, subnet)) ? [] : [subnet])])];
}

/**
 * Stops the kernel from giving the device an IPv6 address: all pods of an ENI share its MAC, and would all have the
 * same link-local address.
 */
function withoutLinkLocal(on: Side, device: string, ipv6: boolean): KernelOperation[] {
  return ipv6 ? [{ on, do: 'set', device, generatesAddress: false }] : [];
}

function route(on: Side, what: Omit<Route, 'kind'>): KernelOperation {
  return make(on, { kind: 'route', ...what });
}
