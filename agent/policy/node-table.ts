// The node's own policy table: pure. It decides about packets for which the pod's namespace sees only the node's address:
// traffic that the node redirects to a pod (NodePorts), and traffic of a pod that the node redirects to a destination not
// behind that pod's own interface.

import { POLICY_TABLE } from '../host/names.ts';
import type { Chain, JumpedTo, Statement, Table } from '../kernel/operation.ts';
import type { Grant, Member, PodRules } from './decide.ts';
import { alwaysThrough, grantChains, grantRules, setsOf, throughFor } from './grants.ts';
import type { Direction } from './objects.ts';

/** A pod of this node, as the node sees it. */
export interface PodLink {
  /** The node's end of the pod's link. */
  hostLink: string;
  /** Of both families. */
  addresses: readonly string[];
  rules: PodRules;
}

/** Undefined when no pod is isolated. @param node the node's own addresses, to which policies do not apply. */
export function nodeTable(
  node: readonly string[],
  pods: readonly PodLink[],
  membersOf: (rule: string) => ReadonlyMap<string, Member>,
): Table | undefined {
  const sorted = [...pods].sort((a, b) => (a.hostLink < b.hostLink ? -1 : 1));
  const into = sorted.filter(({ rules }) => rules.ingress !== undefined);
  const outOf = sorted.filter(({ rules }) => rules.egress !== undefined);
  if (into.length + outOf.length === 0) return undefined;
  const sets = new Map<string, NonNullable<Table['sets']>[number]>();
  for (const { rules } of sorted)
    for (const grant of [...(rules.ingress ?? []), ...(rules.egress ?? [])])
      for (const set of setsOf(grant, membersOf(grant.rule))) sets.set(set.name, set);
  const enters = ({ hostLink }: PodLink): Statement => ({ match: 'oifname', is: hostLink });
  const notByItself = ({ hostLink }: PodLink, match: 'iifname' | 'oifname'): Statement => ({
    match,
    is: hostLink,
    not: true,
  });
  return {
    family: 'inet',
    name: POLICY_TABLE,
    sets: [...sets.values()],
    chains: [
      ...into.flatMap((pod) => chainsOf('i', pod, pod.rules.ingress ?? [], 'saddr', membersOf)),
      ...outOf.flatMap((pod) => chainsOf('e', pod, pod.rules.egress ?? [], 'daddr', membersOf)),
      {
        name: 'forward',
        ...{ type: 'filter', hook: 'forward', priority: 'filter + 10', policy: 'accept' },
        rules: [
          // Service traffic that turns back through its pod is decided in the pod, which it leaves with the pod's own address.
          ...into.map((pod) => [enters(pod), notByItself(pod, 'iifname'), { jump: nameOf('i', pod) }]),
          ...outOf.map((pod): Statement[] => [
            { match: 'iifname', is: pod.hostLink },
            notByItself(pod, 'oifname'),
            { jump: nameOf('e', pod) },
          ]),
        ],
      },
      {
        // IPVS sends redirected packets from this hook, with the addresses of their sender.
        name: 'output',
        ...{ type: 'filter', hook: 'output', priority: 'filter + 10', policy: 'accept' },
        rules: [
          ...throughFor(node, 'saddr'),
          ...into.map((pod) => [enters(pod), { jump: nameOf('i', pod) }]),
          ...outOf.flatMap((pod) =>
            pod.addresses.map((of): Statement[] => [
              { match: 'saddr', of },
              notByItself(pod, 'oifname'),
              { jump: nameOf('e', pod) },
            ]),
          ),
        ],
      },
    ],
  };
}

/** The chain whose last rule denies what comes into a pod, or goes out of it. */
export const chainOf = (direction: Direction, pod: Pick<PodLink, 'hostLink'>) =>
  nameOf(direction === 'ingress' ? 'i' : 'e', pod);

const nameOf = (kind: 'i' | 'e', { hostLink }: Pick<PodLink, 'hostLink'>) => `${kind}/${hostLink}`;

function chainsOf(
  kind: 'i' | 'e',
  pod: PodLink,
  grants: readonly Grant[],
  match: 'saddr' | 'daddr',
  membersOf: (rule: string) => ReadonlyMap<string, Member>,
): (Chain | JumpedTo)[] {
  const scope = `-${pod.hostLink}`;
  const denied: Statement = kind === 'i' ? { verdict: 'drop' } : { reject: 'admin-prohibited' };
  return [
    ...grants.flatMap((grant) => grantChains(grant, scope)),
    {
      name: nameOf(kind, pod),
      rules: [
        ...alwaysThrough,
        ...grants.flatMap((grant) => grantRules(grant, match, membersOf(grant.rule), scope)),
        [{ count: true }, denied],
      ],
    },
  ];
}
