// A pod's rules as a table of its own namespace: pure. docs/network-policy.md says which packets meet which hook, and with
// which addresses. Only packets of the two interfaces of an attachment are looked at.
import { POLICY_TABLE } from '../host/names.ts';
import type { Chain, JumpedTo, Statement, Table } from '../kernel/operation.ts';
import type { Grant, Member, PodRules } from './decide.ts';
import { alwaysThrough, grantChains, grantRules, setsOf, throughFor } from './grants.ts';
import type { Direction } from './objects.ts';

export interface PodNetwork {
  /** The pod's interface, and its end of the link to the node. */
  ifName: string;
  veth: string;
  /** The node's addresses as the pod sees them, of both families, with the addresses with which Service traffic turns back. */
  node: readonly string[];
  /** Service CIDRs of both families. */
  services: readonly string[];
  /** Denied packets are sent to listeners of LOG_GROUP. */
  logs?: true;
}

const count: Statement = { count: true };
/** Group of nfnetlink_log, in the pod's namespace. */
export const LOG_GROUP = 3760;
/** Packets a second that are logged, for one pod and direction. */
const LOGGED = 5;

/** Until a pod's rules are known, only traffic from and to its own node is let through. */
export const closed: PodRules = { ingress: [], egress: [] };

/** Undefined when nothing isolates the pod. */
export function policyTable(
  network: PodNetwork,
  rules: PodRules,
  membersOf: (rule: string) => ReadonlyMap<string, Member>,
): Table | undefined {
  if (rules.ingress === undefined && rules.egress === undefined) return undefined;
  const grants = [...(rules.ingress ?? []), ...(rules.egress ?? [])];
  return {
    family: 'inet',
    name: POLICY_TABLE,
    sets: grants.flatMap((grant) => setsOf(grant, membersOf(grant.rule))),
    chains: [
      ...(rules.ingress === undefined ? [] : ingressChains(network, rules.ingress, membersOf)),
      ...(rules.egress === undefined ? [] : egressChains(network, rules.egress, membersOf)),
    ],
  };
}

/** The log rules, which stand before the rule that denies. */
function logged({ logs }: PodNetwork, prefix: Direction): Statement[][] {
  return logs
    ? [
        [
          { match: 'rate', perSecond: LOGGED },
          { log: LOG_GROUP, prefix },
        ],
      ]
    : [];
}

function ingressChains(
  network: PodNetwork,
  grants: readonly Grant[],
  membersOf: (rule: string) => ReadonlyMap<string, Member>,
): (Chain | JumpedTo)[] {
  const { ifName, veth, node } = network;
  return [
    ...grants.flatMap((grant) => grantChains(grant)),
    {
      name: 'ingress',
      rules: [
        ...alwaysThrough,
        ...grants.flatMap((grant) => grantRules(grant, 'saddr', membersOf(grant.rule))),
        ...logged(network, 'ingress'),
        [count, { verdict: 'drop' }],
      ],
    },
    // The node itself: kubelet's probes, host-network pods, and Service traffic, which turns back with the node's address.
    { name: 'from_veth', rules: [...throughFor(node, 'saddr'), [{ jump: 'ingress' }]] },
    {
      name: 'prerouting',
      // Before destinations are changed: when a sidecar redirects, the port that a policy names is the port in the packet.
      ...{ type: 'filter', hook: 'prerouting', priority: 'dstnat - 10', policy: 'accept' },
      rules: [
        [{ match: 'iifname', is: ifName }, { jump: 'ingress' }],
        [{ match: 'iifname', is: veth }, { jump: 'from_veth' }],
      ],
    },
  ];
}

function egressChains(
  network: PodNetwork,
  grants: readonly Grant[],
  membersOf: (rule: string) => ReadonlyMap<string, Member>,
): (Chain | JumpedTo)[] {
  const { ifName, veth, node, services } = network;
  const leaving = (is: string, jump: string): Statement[] => [{ match: 'oifname', is }, { jump }];
  return [
    ...grants.flatMap((grant) => grantChains(grant)),
    {
      name: 'egress',
      rules: [
        ...alwaysThrough,
        ...grants.flatMap((grant) => grantRules(grant, 'daddr', membersOf(grant.rule))),
        ...logged(network, 'egress'),
        [count, { reject: 'admin-prohibited' }],
      ],
    },
    // A Service's own address decides nothing. Its backend decides, where that is known: in `forward` here when the traffic
    // turns back, or on the node.
    {
      name: 'to_veth',
      rules: [...throughFor(services, 'daddr'), ...throughFor(node, 'daddr'), [{ jump: 'egress' }]],
    },
    {
      name: 'output',
      ...{ type: 'filter', hook: 'output', priority: 'filter + 10', policy: 'accept' },
      rules: [leaving(ifName, 'egress'), leaving(veth, 'to_veth')],
    },
    {
      name: 'forward',
      ...{ type: 'filter', hook: 'forward', priority: 'filter + 10', policy: 'accept' },
      rules: [leaving(ifName, 'egress'), leaving(veth, 'egress')],
    },
  ];
}
