// A packet as the rules of others see it on its way over the node: what a firewall can ask of it, and where it passes.

/** Where rules are asked, by nftables' names. */
export type Hook = 'ingress' | 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting' | 'egress';

export interface Packet {
  family: 4 | 6;
  /** The devices it comes in and leaves by. */
  iif: string | undefined;
  oif: string | undefined;
  source: string;
  destination: string;
  protocol: 'tcp' | 'udp';
  sport: number;
  dport: number;
  state: 'new' | 'established';
  direction: 'original' | 'reply';
  /** The connection has had its destination, or its source, translated. */
  dnat: boolean;
  snat: boolean;
  /** undefined: somebody has set it to nobody knows what. */
  mark: number | undefined;
  ctMark: number | undefined;
  /** Addresses of the node itself. */
  local: readonly string[];
}

/** Ways that a pod's packets take over the node; those of agent/cli/trace-paths.ts by the same names. */
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

/** One packet on its way: what it is for people, and what differs before and after the node's own NAT. */
export interface Journey {
  way: Way;
  /** As in: … is dropped. */
  what: string;
  hooks: readonly Hook[];
  packet: Packet;
  /** Until destinations are translated: at ingress, and in prerouting up to priority dstnat. */
  before?: Partial<Packet>;
  /** Once sources are translated: at egress, and in postrouting behind priority srcnat. */
  after?: Partial<Packet>;
}

/** The node and one of its pods, as packets meet them. */
export interface Terrain {
  bootDevice: string;
  /** The node's own, its primary first. */
  nodeAddresses: readonly string[];
  /** Of pods: an address, the end of its link on the node, its ENI's device. */
  pod: { address: string; link: string; eniDevice: string | undefined; address6: string | undefined };
  /** An address in the VPC that is neither the node's nor a pod's here. */
  elsewhere: string;
  /** IPv6 of the node; undefined where pods have IPv4 alone or the node has none. */
  nodeAddress6: string | undefined;
  /** The other end that is asked about, in place of one that stands for all. */
  to?: string | undefined;
}

/** Documentation space (RFC 5737, RFC 3849): hosts of the Internet. */
export const SOMEWHERE = '198.51.100.1';
const SOMEWHERE6 = '2001:db8::1';
/** A Service's address that nobody has: benchmark space (RFC 2544), discard prefix (RFC 6666). */
const SERVICE = '198.18.0.10';
const SERVICE6 = '100::10';
/** In the range of NodePorts. */
const NODE_PORT = 30_080;
/** kubelet's, which metrics-server in a pod asks. */
const KUBELET_PORT = 10_250;

const INTO: readonly Hook[] = ['ingress', 'prerouting', 'input'];
const THROUGH: readonly Hook[] = ['ingress', 'prerouting', 'forward', 'postrouting', 'egress'];
const OUT: readonly Hook[] = ['output', 'postrouting', 'egress'];

/**
 * The packets of a pod that pass the node, both ways of each connection. What a pod says to the VPC by its own ENI passes
 * that device and none of the node's hooks.
 *
 * @param bootMark what the node marks connections that entered by the boot ENI with.
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
  // Over IPv6 nothing leaves through the node, and a node without an address is not spoken to.
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
  const { bootDevice, pod } = terrain;
  const { link, eniDevice } = pod;
  const six = family === 6;
  const over = six ? ' over IPv6' : '';
  const base = {
    family,
    protocol: 'tcp',
    sport: 45_000,
    dport: 443,
    state: 'new',
    direction: 'original',
    dnat: false,
    snat: false,
    mark: 0,
    ctMark: 0,
    local: names.local,
    iif: undefined,
    oif: undefined,
  } as const;
  const answered = { state: 'established', direction: 'reply', sport: 443, dport: 45_000 } as const;
  const marked = { mark: bootMark, ctMark: bootMark };
  const here = { source: names.pod, destination: names.node };
  const back = { source: names.node, destination: names.pod };
  const node = six ? 'node6' : 'node';
  const service = six ? 'service6' : 'service';
  const outside = six ? 'outside6' : 'outside';
  const list: Journey[] = [
    {
      way: 'internet',
      what: 'what pods send to the Internet',
      hooks: THROUGH,
      packet: { ...base, iif: link, oif: bootDevice, source: names.pod, destination: names.somewhere },
      after: { source: names.node, snat: true },
    },
    {
      way: 'internet',
      what: 'what the Internet answers pods',
      hooks: THROUGH,
      packet: {
        ...{ ...base, ...answered, snat: true, iif: bootDevice, oif: link },
        source: names.somewhere,
        destination: names.pod,
      },
      before: { destination: names.node },
    },
    {
      way: service,
      what: `what pods send to Services${over}`,
      hooks: THROUGH,
      packet: {
        ...{ ...base, dnat: true, iif: link, oif: link },
        source: names.pod,
        destination: names.elsewhere,
      },
      before: { destination: names.service, dnat: false },
      after: { source: names.node, snat: true },
    },
    {
      way: service,
      what: `what Services answer pods${over}`,
      hooks: THROUGH,
      packet: {
        ...{ ...base, ...answered, dnat: true, snat: true, iif: link, oif: link },
        source: names.elsewhere,
        destination: names.pod,
      },
      before: { destination: names.node },
      after: { source: names.service },
    },
    {
      way: node,
      what: `what the node sends to pods${over} (kubelet's probes)`,
      hooks: OUT,
      packet: { ...base, ...back, dport: 8080, oif: link },
    },
    {
      way: node,
      what: `what pods answer the node${over} (kubelet's probes)`,
      hooks: INTO,
      packet: { ...base, ...here, ...answered, sport: 8080, iif: link },
    },
    {
      way: node,
      what: `what pods send to the node${over} (TCP ${KUBELET_PORT}, kubelet)`,
      hooks: INTO,
      packet: { ...base, ...here, dport: KUBELET_PORT, iif: link },
    },
    {
      way: node,
      what: `what the node answers pods${over}`,
      hooks: OUT,
      packet: { ...base, ...back, ...answered, sport: KUBELET_PORT, oif: link },
    },
    {
      way: outside,
      what: `what comes from outside to pods${over} (NodePort, hostPort)`,
      hooks: THROUGH,
      packet: {
        ...{ ...base, dnat: true, ctMark: bootMark, dport: 80, iif: bootDevice, oif: link },
        source: names.somewhere,
        destination: names.pod,
      },
      before: { destination: names.node, dport: NODE_PORT, dnat: false },
    },
    {
      way: outside,
      what: `what pods answer to outside${over} (NodePort, hostPort)`,
      hooks: THROUGH,
      packet: {
        ...{ ...base, ...answered, ...marked, sport: 80, dnat: true, iif: link, oif: bootDevice },
        source: names.pod,
        destination: names.somewhere,
      },
      after: { source: names.node, sport: NODE_PORT },
    },
  ];
  if (eniDevice === undefined) return list;
  const vpc = six ? 'out6' : 'vpc';
  return [
    ...list,
    {
      way: vpc,
      what: `what pods send by their ENI${over}`,
      hooks: ['egress'],
      packet: { ...base, oif: eniDevice, source: names.pod, destination: names.elsewhere },
    },
    {
      way: vpc,
      what: `what comes to pods by their ENI${over}`,
      hooks: ['ingress'],
      packet: { ...base, ...answered, iif: eniDevice, source: names.elsewhere, destination: names.pod },
    },
  ];
}
