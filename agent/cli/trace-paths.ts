// The paths of a pod's packets, each as the objects that carry the packets, in order. Pure. The pod's own objects are those of
// agent/attachment/plan.ts; a test checks that each of them is on at least one path.
import { type Attachment, POD_VETH } from '../attachment/attachment.ts';
import type { PartState } from '../attachment/differences.ts';
import { LIMIT_CHAIN } from '../attachment/limits.ts';
import { GUARD_CHAIN } from '../attachment/tables.ts';
import { IMDS_ADDRESS, IMDS_ADDRESS6 } from '../host/names.ts';

export interface Step {
  where: 'pod' | 'node' | 'pool' | 'EC2';
  /** Kind of object: route, rule, chain, ENI … */
  what: string;
  text: string;
  /** unknown: the object could not be looked at, and `found` says why. */
  state: 'present' | 'missing' | 'wrong' | 'unknown';
  /** What is there instead, or more about what is there. */
  found?: string;
  /** What to do; only when the state is missing or wrong. */
  remedy?: string;
}

export type WayName =
  | 'vpc'
  | 'node'
  | 'service'
  | 'internet'
  | 'outside'
  | 'imds'
  // IPv6 is not translated: the VPC and the Internet share one path.
  | 'out6'
  | 'node6'
  | 'service6'
  | 'outside6'
  | 'imds6';

export interface Way {
  name: WayName;
  /** Where the path leads and how, for people. */
  title: string;
  steps: Step[];
}

/** The node's objects that pods' packets meet, under names that only this module uses. */
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
  // Objects of the pod's own ENI.
  'eniSources',
  'eniOut',
  'eniIn',
] as const;
export type NodeStepName = (typeof nodeSteps)[number];

export interface Seen {
  attachment: Attachment;
  parts: PartState[];
  /** An object that this node is not meant to have is not in the map. */
  node: Map<NodeStepName, Step>;
  /** Obstacles of other programs, with the paths on which they stand. */
  others: { ways: readonly WayName[]; step: Step }[];
}

/**
 * @param carries whether a route of the pod, by its destination, is to be included; default: all routes.
 */
export function waysOf(seen: Seen, carries: (destination: string) => boolean = () => true): Way[] {
  const six = seen.parts.filter(isIpv6);
  const four = seen.parts.filter((part) => !isIpv6(part));
  // A pod may have IPv6 turned off: then it has no paths over IPv6.
  const hasIpv6 = six.some((part) => part.what.kind === 'address');
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

/** Parts that carry packets of both families. */
function isOfBoth({ what }: PartState): boolean {
  const chains = [LIMIT_CHAIN, GUARD_CHAIN];
  return (
    what.kind === 'link' ||
    what.kind === 'limit' ||
    (what.kind === 'chain' && chains.includes(what.chain.name))
  );
}

/** Parts that carry only IPv6; parts for both families do not count. */
function isIpv6({ what }: PartState): boolean {
  switch (what.kind) {
    case 'address':
    case 'neighbour':
      return what.address.includes(':');
    case 'route':
      return [what.to, what.via, what.from].some((one) => one?.includes(':') === true);
    case 'rule':
      return what.family === 6;
    case 'setting':
      return what.path.startsWith('net/ipv6/');
    case 'chain':
      return what.chain.name.endsWith('6');
    case 'link':
    case 'limit':
      return false;
  }
}

/** The steps that the paths of one family share. `parts`: parts of that family. */
function stepsOf({ attachment: a, parts, node: steps }: Seen, carries: (destination: string) => boolean) {
  const pick = (holds: (what: PartState['what'], side: PartState['side']) => boolean) =>
    parts.filter(({ what, side }) => holds(what, side)).map(toStep);
  const node = (...names: NodeStepName[]) => names.flatMap((name) => steps.get(name) ?? []);
  const link = (name: string) => pick((what) => what.kind === 'link' && what.end.name === name);
  const limit = (device: string) => pick((what) => what.kind === 'limit' && what.device === device);
  const neighbours = (device: string) => pick((what) => what.kind === 'neighbour' && what.device === device);
  const chain = (name: string) => pick((what) => what.kind === 'chain' && what.chain.name === name);
  const podRoutes = (device: string, holds: (to: string) => boolean) =>
    pick(
      (what, side) =>
        what.kind === 'route' &&
        side === 'pod' &&
        what.table === undefined &&
        what.device === device &&
        holds(what.to) &&
        carries(what.to),
    );
  const rule = (side: PartState['side']) => pick((what, of) => what.kind === 'rule' && of === side);
  return {
    ...{ pick, node, link, neighbours, chain, podRoutes, rule },
    start: node('lease', 'namespace'),
    itsInterface: [
      ...link(a.ifName),
      ...pick((what) => what.kind === 'address'),
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
      ...pick((what, side) => what.kind === 'route' && side === 'node' && what.table === undefined),
      ...neighbours(a.hostLink),
      ...chain(LIMIT_CHAIN),
    ],
    replyRoutes: pick((what, side) => what.kind === 'route' && side === 'pod' && what.table !== undefined),
    refusal: pick((what) => what.kind === 'route' && what.type === 'unreachable'),
  };
}

function waysOf6(seen: Seen, carries: (destination: string) => boolean): Way[] {
  const { attachment: a } = seen;
  const { address = '', nodeAddresses = [] } = a.ipv6 ?? {};
  const { pick, node, link, neighbours, chain, podRoutes, rule, ...common } = stepsOf(seen, carries);
  const { start, itsInterface, byVeth, intoPod, replyRoutes, refusal } = common;
  const itsEni = [...common.itsEni, ...node('chain out6', 'sourceCheck6', 'securityGroups')];
  const isNode = (to: string) => nodeAddresses.some((one) => to === `${one}/128`);
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
        ...podRoutes(POD_VETH, (to) => !isNode(to)),
        ...byVeth,
        ...node('set pool6', 'chain marks', 'chain services', 'chain no_service', 'serviceRule6'),
        ...pick((what, side) => what.kind === 'route' && side === 'node' && what.table !== undefined),
        ...node('forwarding6', 'chain through_node', 'chain replies', 'chain postrouting'),
        ...neighbours(a.hostLink),
        ...pick((what) => what.kind === 'setting'),
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
  const { pick, node, link, neighbours, chain, podRoutes, rule, ...common } = stepsOf(seen, carries);
  const { start, itsInterface, byVeth, intoPod, replyRoutes, refusal } = common;
  const setting = (...names: string[]) =>
    pick((what) => what.kind === 'setting' && names.some((name) => what.path.endsWith(name)));
  const ownTable = (type: 'throw' | undefined) =>
    pick(
      (what, side) =>
        what.kind === 'route' && side === 'node' && what.table === a.table && what.type === type,
    );
  const itsEni = [
    ...node('prefix'),
    ...common.itsEni,
    ...node('chain out4', 'chain out_arp', 'sourceCheck', 'securityGroups'),
  ];
  const isNode = (to: string) => a.nodeAddresses.some((one) => to === `${one}/32`);
  const leaving = podRoutes(POD_VETH, (to) => !isNode(to));
  const byBootEni = node('defaultRoute', 'bootDevice');

  return [
    {
      name: 'vpc',
      title: `to the VPC: out of ${a.ifName} by its own ENI, as ${a.address}`,
      steps: [
        ...start,
        // The address comes before the routes: without it the kernel accepts none of them.
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
        ...ownTable(undefined),
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
  const { side, what, text, state, found, command } = part;
  const successor = "delete the pod: its successor's network is made anew";
  const remedy = command === undefined ? successor : `\`${command}\`, or delete the pod`;
  return {
    where: side,
    what: what.kind,
    text,
    state,
    ...(found === undefined ? {} : { found }),
    ...(state === 'present' ? {} : { remedy }),
  };
}
