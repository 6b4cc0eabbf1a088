// A packet on its way over the node, with the fields that other programs' rules can match, and the hooks that it
// passes.

/** Where rules are applied, by nftables' names. */
export type Hook = 'ingress' | 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'egress';

export interface Packet {
  family: 4 | 6;
  /** The device by which the packet comes in, and the one by which it leaves. */
  iif: string | undefined;
  oif: string | undefined;
  source: string;
  destination: string;
  protocol: 'tcp' | 'udp';
  sport: number;
  dport: number;
  state: 'new' | 'established';
  direction: 'original' | 'reply';
  /** Whether the connection's destination has been translated, and whether its source has. */
  dnat: boolean;
  snat: boolean;
  /** undefined: another program has set the mark to an unknown value. */
  mark: number | undefined;
  ctMark: number | undefined;
  /** Addresses of the node itself. */
  local: readonly string[];
}

/** The ways of a pod's packets over the node, with the same names as in agent/cli/trace-paths.ts. */
export type Way =
  | 'vpc'
  | 'node'
  | 'service'
  | 'internet'
  | 'outside'
  | 'out6'
  | 'node6'
  | 'service6'
  | 'outside6';

/** One packet on its way: a name for people, and its fields before and after the node's own NAT. */
export interface Journey {
  way: Way;
  /** Completes the sentence "… is dropped". */
  what: string;
  hooks: readonly Hook[];
  packet: Packet;
  /** Fields before destination NAT: at ingress, and in prerouting up to priority dstnat. */
  before?: Partial<Packet> | undefined;
  /** Fields after source NAT: at egress, and in postrouting behind priority srcnat. */
  after?: Partial<Packet> | undefined;
}

/** The node and one of its pods, with the addresses and devices of their packets. */
export interface Terrain {
  bootDevice: string;
  /** The node's addresses, its primary address first. */
  nodeAddresses: readonly string[];
  /** A pod: its address, the host end of its link, its ENI's device. */
  pod: { address: string; link: string; eniDevice: string | undefined; address6: string | undefined };
  /** An address in the VPC that belongs to neither the node nor one of its pods. */
  elsewhere: string;
  /** The node's IPv6 address; undefined when pods have IPv4 alone or the node has none. */
  nodeAddress6: string | undefined;
  /** The other end of the connection, when one is asked about; otherwise an example address stands for all. */
  to?: string | undefined;
}

/** Addresses for documentation (RFC 5737, RFC 3849) that stand for hosts of the Internet. */
export const SOMEWHERE = '198.51.100.1';
const SOMEWHERE6 = '2001:db8::1';
/** Addresses of a Service that no host has: benchmark block (RFC 2544), discard prefix (RFC 6666). */
const SERVICE = '198.18.0.10';
const SERVICE6 = '100::10';
/** A port in the range of NodePorts. */
const NODE_PORT = 30_080;
/** kubelet's port, to which metrics-server in a pod connects. */
const KUBELET_PORT = 10_250;

const INTO: readonly Hook[] = ['ingress', 'prerouting', 'input'];
const THROUGH: readonly Hook[] = ['ingress', 'prerouting', 'forward', 'postrouting', 'egress'];
const OUT: readonly Hook[] = ['output', 'postrouting', 'egress'];

/**
 * The packets of a pod that pass the node, in both directions of each connection. Packets from a pod to the VPC by its
 * own ENI pass the ENI's device, but none of the node's hooks.
 *
 * @param bootMark mark that the node sets on connections that entered by the boot ENI.
 */
export function journeysOf(terrain: Terrain, bootMark: number): Journey[] {
  const { pod, nodeAddress6, to } = terrain;
  const to4 = to?.includes(':') === false ? to : undefined;
  const to6 = to?.includes(':') === true ? to : SOMEWHERE6;
  const four = journeys(4, terrain, bootMark, {
    pod: pod.address,
    node: terrain.nodeAddresses[0] ?? '',
    local: terrain.nodeAddresses,
    elsewhere: to4 ?? terrain.elsewhere,
    somewhere: to4 ?? SOMEWHERE,
    service: SERVICE,
  });
  if (pod.address6 === undefined) return four;
  const six = journeys(6, terrain, bootMark, {
    pod: pod.address6,
    node: nodeAddress6 ?? '',
    local: nodeAddress6 === undefined ? [] : [nodeAddress6],
    elsewhere: to6,
    somewhere: to6,
    service: SERVICE6,
  });
  // Over IPv6 no packet leaves through the node, and a node without an IPv6 address cannot be a destination.
  return [
    ...four,
    ...six.filter(({ way }) => way !== 'internet' && (nodeAddress6 !== undefined || way !== 'node6')),
  ];
}

interface Names {
  pod: string;
  node: string;
  local: readonly string[];
  elsewhere: string;
  somewhere: string;
  service: string;
}

function journeys(family: 4 | 6, terrain: Terrain, bootMark: number, names: Names): Journey[] {
  const { bootDevice } = terrain;
  const { link, eniDevice } = terrain.pod;
  const { pod, node, elsewhere, somewhere, service, local } = names;
  const six = family === 6;
  const over = six ? ' over IPv6' : '';
  const ofNode = six ? 'node6' : 'node';
  const base: Omit<Packet, 'source' | 'destination'> = {
    ...{ family, local, protocol: 'tcp', sport: 45_000, dport: 443, iif: undefined, oif: undefined },
    ...{ state: 'new', direction: 'original', dnat: false, snat: false, mark: 0, ctMark: 0 },
  };
  return [
    ...connection({
      way: 'internet',
      what: ['what pods send to the Internet', 'what the Internet answers pods'],
      hooks: THROUGH,
      packet: { ...base, iif: link, oif: bootDevice, source: pod, destination: somewhere },
      leavesAs: node,
    }),
    ...connection({
      way: six ? 'service6' : 'service',
      what: [`what pods send to Services${over}`, `what Services answer pods${over}`],
      hooks: THROUGH,
      packet: { ...base, iif: link, oif: link, source: pod, destination: elsewhere },
      asksFor: { destination: service },
      leavesAs: node,
    }),
    ...connection({
      way: ofNode,
      what: [
        `what the node sends to pods${over} (kubelet's probes)`,
        `what pods answer the node${over} (kubelet's probes)`,
      ],
      hooks: OUT,
      packet: { ...base, dport: 8080, oif: link, source: node, destination: pod },
    }),
    ...connection({
      way: ofNode,
      what: [
        `what pods send to the node${over} (TCP ${KUBELET_PORT}, kubelet)`,
        `what the node answers pods${over}`,
      ],
      hooks: INTO,
      packet: { ...base, dport: KUBELET_PORT, iif: link, source: pod, destination: node },
    }),
    ...connection({
      way: six ? 'outside6' : 'outside',
      what: [
        `what comes from outside to pods${over} (NodePort, hostPort)`,
        `what pods answer to outside${over} (NodePort, hostPort)`,
      ],
      hooks: THROUGH,
      packet: {
        ...{ ...base, dport: 80, iif: bootDevice, oif: link, source: somewhere, destination: pod },
        ctMark: bootMark,
      },
      asksFor: { destination: node, dport: NODE_PORT },
    }),
    ...(eniDevice === undefined
      ? []
      : connection({
          way: six ? 'out6' : 'vpc',
          what: [`what pods send by their ENI${over}`, `what comes to pods by their ENI${over}`],
          hooks: ['egress'],
          packet: { ...base, oif: eniDevice, source: pod, destination: elsewhere },
        })),
  ];
}

interface Connection extends Pick<Journey, 'way' | 'hooks'> {
  /** Names for people: of the packet that opens the connection, and of the answer. */
  what: [string, string];
  /** The packet's fields between destination NAT and source NAT. */
  packet: Packet;
  /** Fields before destination NAT; absent when the destination is not translated. */
  asksFor?: { destination: string; dport?: number };
  /** Source address after source NAT; absent when the source is not translated. */
  leavesAs?: string;
}

/** Both directions of a connection: the answer has source and destination exchanged. */
function connection({ way, what, hooks, packet, asksFor, leavesAs }: Connection): Journey[] {
  const { iif, oif, source, destination, sport, dport, ctMark } = packet;
  const begins: Packet = { ...packet, dnat: asksFor !== undefined };
  const answers: Packet = {
    ...{ ...begins, state: 'established', direction: 'reply', snat: leavesAs !== undefined, mark: ctMark },
    ...{ iif: oif, oif: iif, source: destination, destination: source, sport: dport, dport: sport },
  };
  const answeredAs = asksFor && {
    source: asksFor.destination,
    ...(asksFor.dport === undefined ? {} : { sport: asksFor.dport }),
  };
  return [
    {
      ...{ way, hooks, what: what[0], packet: begins },
      before: asksFor && { ...asksFor, dnat: false },
      after: leavesAs === undefined ? undefined : { source: leavesAs, snat: true },
    },
    {
      ...{ way, hooks: hooksBack(hooks), what: what[1], packet: answers },
      before: leavesAs === undefined ? undefined : { destination: leavesAs },
      after: answeredAs,
    },
  ];
}

function hooksBack(hooks: readonly Hook[]): readonly Hook[] {
  if (hooks === THROUGH) return hooks;
  if (hooks === INTO) return OUT;
  return hooks === OUT ? INTO : ['ingress'];
}
