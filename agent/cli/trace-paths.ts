// The ways a pod's packets take, each as the objects that carry them, in the order in which they do. Pure. The pod's
// own objects are those of agent/host/attachment.ts; a test holds that each of them is on one way at least.
import { type Attachment, GUARD_CHAIN, POD_VETH } from '../host/attachment.ts';
import type { PartState } from '../host/attachment-state.ts';
import { IMDS_ADDRESS, IMDS_ADDRESS6 } from '../host/names.ts';
import { LIMIT_CHAIN } from '../host/pod-limits.ts';

export interface Step {
  where: 'pod' | 'node' | 'pool' | 'EC2';
  /** Kind of object: route, rule, chain, ENI … */
  what: string;
  text: string;
  /** unknown: it could not be looked at, and `found` says why. */
  state: 'present' | 'missing' | 'wrong' | 'unknown';
  /** What is there instead, or more about what is there. */
  found?: string;
  /** What to do; where the state is missing or wrong. */
  remedy?: string;
}

export type WayName =
  | 'vpc'
  | 'node'
  | 'service'
  | 'internet'
  | 'outside'
  | 'imds'
  // Over IPv6, which is not translated: the VPC and the Internet are one way.
  | 'out6'
  | 'node6'
  | 'service6'
  | 'outside6'
  | 'imds6';

export interface Way {
  name: WayName;
  /** Where it leads and how, for people. */
  title: string;
  steps: Step[];
}

/** The node's objects that pods' packets meet, under names of this module. */
export const nodeSteps = [
  'lease',
  'namespace',
  'prefix',
  'eni',
  'eniDevice',
  'attachedEni',
  'sourceCheck',
  'securityGroups',
  'forwarding',
  'looseFilter',
  'bootDevice',
  'defaultRoute',
  'publicAddress',
  'markRule',
  'poolMember',
  'sourceCheck6',
  'forwarding6',
  'markRule6',
  'serviceRule6',
  'set pool6',
  'chain no_service',
  'set routed4',
  'map actions4',
  'chain postrouting',
  'chain egress',
  'chain keep_port',
  'chain marks',
  'chain services',
  'chain clamp',
  // The guards.
  'chain from_enis',
  'chain from_pods',
  'chain to_node',
  'chain through_node',
  'chain replies',
  'chain imds',
  'chain imds_out',
  'chain out4',
  'chain out6',
  'chain out_arp',
  // Of the pod's own ENI.
  'eniSources',
  'eniOut',
  'eniIn',
] as const;
export type NodeStepName = (typeof nodeSteps)[number];

export interface Seen {
  attachment: Attachment;
  parts: PartState[];
  /** An object that this node is not meant to have is absent. */
  node: Map<NodeStepName, Step>;
  /** What others have put into the way, and into which ones. */
  others: { ways: readonly WayName[]; step: Step }[];
}

/**
 * @param carries keeps those of the pod's routes that matter to the caller; all unless told otherwise.
 */
export function waysOf(seen: Seen, carries: (destination: string) => boolean = () => true): Way[] {
  const six = seen.parts.filter(isIpv6);
  const four = seen.parts.filter((part) => !isIpv6(part));
  // A pod may have IPv6 turned off: then there is nothing of it.
  const hasIpv6 = six.some((part) => part.kind === 'address');
  const both = [...four.filter(isOfBoth), ...six];
  const ways = [
    ...waysOf4({ ...seen, parts: four }, carries),
    ...(hasIpv6 ? waysOf6({ ...seen, parts: both }, carries) : []),
  ];
  return ways.map((way) => {
    const others = seen.others.filter((one) => one.ways.includes(way.name)).map(({ step }) => step);
    return { ...way, steps: [...way.steps, ...others] };
  });
}

/** What carries the packets of either family. */
function isOfBoth(part: PartState): boolean {
  const chains = [LIMIT_CHAIN, GUARD_CHAIN];
  return (
    part.kind === 'link' || part.kind === 'limit' || (part.kind === 'chain' && chains.includes(part.name))
  );
}

/** What carries both families is not. */
function isIpv6(part: PartState): boolean {
  switch (part.kind) {
    case 'address':
    case 'neighbour':
      return part.address.includes(':');
    case 'route':
      return [part.destination, part.gateway, part.from].some((one) => one?.includes(':') === true);
    case 'rule':
      return part.family === 6;
    case 'setting':
      return part.path.startsWith('net/ipv6/');
    case 'chain':
      return part.name.endsWith('6');
    case 'link':
    case 'limit':
      return false;
  }
}

/** How the ways of either family find their objects, and what they have in common. `parts` are those of one family. */
function stepsOf({ attachment: a, parts, node: steps }: Seen, carries: (destination: string) => boolean) {
  const pick = (holds: (part: PartState) => boolean) => parts.filter(holds).map(toStep);
  const node = (...names: NodeStepName[]) => names.flatMap((name) => steps.get(name) ?? []);
  const link = (name: string) => pick((part) => part.kind === 'link' && part.name === name);
  const limit = (device: string) => pick((part) => part.kind === 'limit' && part.device === device);
  const neighbours = (device: string) => pick((part) => part.kind === 'neighbour' && part.device === device);
  const chain = (name: string) => pick((part) => part.kind === 'chain' && part.name === name);
  const podRoutes = (device: string, holds: (destination: string) => boolean) =>
    pick(
      (part) =>
        part.kind === 'route' &&
        part.side === 'pod' &&
        part.table === 'main' &&
        part.device === device &&
        holds(part.destination) &&
        carries(part.destination),
    );
  const rule = (side: PartState['side']) => pick((part) => part.kind === 'rule' && part.side === side);
  return {
    ...{ pick, node, link, neighbours, chain, podRoutes, rule },
    start: node('lease', 'namespace'),
    itsInterface: [
      ...link(a.ifName),
      ...pick((part) => part.kind === 'address'),
      ...limit(a.ifName),
      ...chain(LIMIT_CHAIN),
      ...chain(GUARD_CHAIN),
    ],
    byVeth: [
      ...neighbours(POD_VETH),
      ...link(POD_VETH),
      ...limit(POD_VETH),
      ...link(a.hostLink),
      ...node('chain from_pods'),
    ],
    itsEni: node('eni', 'eniDevice', 'eniSources', 'eniOut', 'eniIn', 'chain from_enis', 'attachedEni'),
    intoPod: [
      ...pick((part) => part.kind === 'route' && part.side === 'node' && part.table === 'main'),
      ...neighbours(a.hostLink),
      ...chain(LIMIT_CHAIN),
    ],
    replyRoutes: pick((part) => part.kind === 'route' && part.side === 'pod' && part.table !== 'main'),
    refusal: pick((part) => part.kind === 'route' && part.type === 'unreachable'),
  };
}

function waysOf6(seen: Seen, carries: (destination: string) => boolean): Way[] {
  const { attachment: a } = seen;
  const { address = '', nodeAddresses = [] } = a.ipv6 ?? {};
  const { pick, node, link, neighbours, chain, podRoutes, rule, ...common } = stepsOf(seen, carries);
  const { start, itsInterface, byVeth, intoPod, replyRoutes, refusal } = common;
  const itsEni = [...common.itsEni, ...node('chain out6', 'sourceCheck6', 'securityGroups')];
  const isNode = (destination: string) => nodeAddresses.includes(destination);
  return [
    {
      name: 'out6',
      title: `over IPv6 to the VPC and the Internet: out of ${a.ifName} by its own ENI, as ${address}`,
      steps: [...start, ...itsInterface, ...podRoutes(a.ifName, () => true), ...itsEni],
    },
    {
      name: 'node6',
      title: 'over IPv6 to its node and back: over the veth, real addresses both ways',
      steps: [...start, ...podRoutes(POD_VETH, isNode), ...byVeth, ...node('chain to_node'), ...intoPod],
    },
    {
      name: 'service6',
      title: `over IPv6 to a Service: over the veth to kube-proxy, back into the pod, out of ${a.ifName} as ${address}`,
      steps: [
        ...start,
        ...podRoutes(POD_VETH, (destination) => !isNode(destination)),
        ...byVeth,
        ...node('set pool6', 'chain marks', 'chain services', 'chain no_service', 'serviceRule6'),
        ...pick((part) => part.kind === 'route' && part.side === 'node' && part.table !== 'main'),
        ...node('forwarding6', 'chain through_node', 'chain replies', 'chain postrouting'),
        ...neighbours(a.hostLink),
        ...pick((part) => part.kind === 'setting'),
        ...chain('postrouting6'),
        ...itsInterface,
        ...itsEni,
      ],
    },
    {
      name: 'outside6',
      title:
        'over IPv6 from outside (NodePort, hostPort): in by the boot ENI, over the veth, and back the same way',
      steps: [
        ...start,
        ...node('bootDevice', 'chain marks', 'forwarding6'),
        ...intoPod,
        ...link(a.hostLink),
        ...link(POD_VETH),
        ...chain('prerouting6'),
        ...chain('output6'),
        ...rule('pod'),
        ...replyRoutes,
        ...neighbours(POD_VETH),
        ...node('markRule6'),
      ],
    },
    {
      name: 'imds6',
      title: `to the metadata service ${IMDS_ADDRESS6}: refused, in the pod and on the node`,
      steps: [
        ...start,
        ...refusal,
        ...chain(GUARD_CHAIN),
        ...node('chain out6', 'chain through_node', 'chain imds', 'chain imds_out'),
      ],
    },
  ];
}

function waysOf4(seen: Seen, carries: (destination: string) => boolean): Way[] {
  const { attachment: a } = seen;
  const table = String(a.table);
  const { pick, node, link, neighbours, chain, podRoutes, rule, ...common } = stepsOf(seen, carries);
  const { start, itsInterface, byVeth, intoPod, replyRoutes, refusal } = common;
  const setting = (...names: string[]) =>
    pick((part) => part.kind === 'setting' && names.some((name) => part.path.endsWith(name)));
  const ownTable = (type: 'unicast' | 'throw') =>
    pick(
      (part) => part.kind === 'route' && part.side === 'node' && part.table === table && part.type === type,
    );
  const itsEni = [
    ...node('prefix'),
    ...common.itsEni,
    ...node('chain out4', 'chain out_arp', 'sourceCheck', 'securityGroups'),
  ];
  const isNode = (destination: string) => a.nodeAddresses.includes(destination);
  const leaving = podRoutes(POD_VETH, (destination) => !isNode(destination));
  const byBootEni = node('defaultRoute', 'bootDevice');

  return [
    {
      name: 'vpc',
      title: `to the VPC: out of ${a.ifName} by its own ENI, as ${a.address}`,
      steps: [
        ...start,
        // The address before the routes: without it the kernel takes none of them.
        ...itsInterface,
        ...podRoutes(a.ifName, () => true),
        ...setting(`/${a.ifName}/rp_filter`, '/all/rp_filter'),
        ...itsEni,
      ],
    },
    {
      name: 'node',
      title: 'to its node and back: over the veth, real addresses both ways',
      steps: [...start, ...podRoutes(POD_VETH, isNode), ...byVeth, ...node('chain to_node'), ...intoPod],
    },
    {
      name: 'service',
      title: `to a Service: over the veth to kube-proxy, back into the pod, out of ${a.ifName} as ${a.address}`,
      steps: [
        ...start,
        ...leaving,
        ...byVeth,
        ...node('poolMember', 'set routed4', 'chain services'),
        ...rule('node'),
        ...ownTable('unicast'),
        ...node('chain through_node', 'chain replies', 'chain postrouting'),
        ...neighbours(a.hostLink),
        ...setting('ip_forward', 'accept_redirects'),
        ...chain('postrouting'),
        ...itsInterface,
        ...itsEni,
      ],
    },
    {
      name: 'internet',
      title: "to the Internet: over the veth, translated to the node's address, out of the boot ENI",
      steps: [
        ...start,
        ...leaving,
        ...byVeth,
        ...ownTable('throw'),
        ...node('forwarding', 'chain through_node', 'poolMember', 'map actions4'),
        ...node('chain postrouting', 'chain egress', 'chain keep_port', 'chain clamp'),
        ...byBootEni,
        ...node('publicAddress'),
        ...intoPod,
      ],
    },
    {
      name: 'outside',
      title: 'from outside (NodePort, hostPort): in by the boot ENI, over the veth, and back the same way',
      steps: [
        ...start,
        ...node('bootDevice', 'looseFilter', 'chain marks', 'forwarding'),
        ...intoPod,
        ...link(a.hostLink),
        ...link(POD_VETH),
        ...setting(`/${POD_VETH}/rp_filter`, 'src_valid_mark'),
        ...chain('prerouting'),
        ...chain('output'),
        ...rule('pod'),
        ...replyRoutes,
        ...neighbours(POD_VETH),
        ...node('markRule', 'defaultRoute'),
      ],
    },
    {
      name: 'imds',
      title: a.allowImds
        ? `to the metadata service ${IMDS_ADDRESS}: allowed (pods.allowImds), as to the Internet`
        : `to the metadata service ${IMDS_ADDRESS}: refused, in the pod and on the node`,
      steps: [
        ...start,
        ...refusal,
        ...chain(GUARD_CHAIN),
        ...(a.allowImds ? [...leaving, ...byVeth] : []),
        ...node('chain out4', 'chain through_node', 'chain imds', 'chain imds_out'),
      ],
    },
  ];
}

function toStep(part: PartState): Step {
  const { side, kind, text, state, found, command } = part;
  const successor = "delete the pod: its successor's network is made anew";
  const remedy = command === undefined ? successor : `\`${command}\`, or delete the pod`;
  return {
    where: side,
    what: kind,
    text,
    state,
    ...(found === undefined ? {} : { found }),
    ...(state === 'present' ? {} : { remedy }),
  };
}
