// Brings the decision into the namespaces of this node's pods: writes a whole table when a pod's rules have changed, and only
// elements of its sets when members of a rule have changed.
import type { Refusal } from '../kernel/conversation.ts';
import type { SetChange, Table } from '../kernel/operation.ts';
import type { Counts } from './counts.ts';
import type { Decision, Grant, Member, MemberChange, PodRules } from './decide.ts';
import { isInSet, namedOf, setName } from './grants.ts';
import type { PolicyNamespace } from './namespace.ts';
import { chainOf, nodeTable } from './node-table.ts';
import type { Direction } from './objects.ts';
import { closed, type PodNetwork, policyTable } from './pod-table.ts';

/** A pod that has an address of this node. */
export interface LocalPod {
  /** ID of the attachment: container and interface. */
  id: string;
  /** `namespace/name` */
  key: string;
  uid?: string;
  netns: string;
  network: PodNetwork;
  /** The node's end of the pod's link. */
  hostLink: string;
  /** Of both families. */
  addresses: readonly string[];
}

/** An event that a person should know of. `where`: the pod, or `the node`. */
export type Event =
  /** Another program has changed the rules there. They are written again. */
  | { kind: 'put-back'; where: string; netns: string }
  /** The kernel refused a change. The earlier rules stay, and the change is tried again, ever more seldom. */
  | { kind: 'refused'; where: string; netns: string; why: string };

export interface Enforcer {
  /** The pods that exist now. The next `apply` writes the rules of new pods. */
  setPods(pods: readonly LocalPod[]): void;
  /**
   * Brings the decision's changes to the pods and the node. Only this method takes the decision's changes, and only it writes.
   */
  apply(): void;
  /** Does what `apply` does; then writes rules again that another program has changed. */
  inspect(): void;
  /** Notes what was denied until now. */
  count(): void;
  /** `full`: tables that were written whole; `deltas`: changes that wrote only elements of sets. */
  counts(): { pods: number; isolated: number; full: number; deltas: number; pending: number };
  /** Closes the sockets. All rules stay as they are. */
  close(): void;
}

/** A namespace with a policy table of eniboot. */
interface Target {
  where: string;
  netns: string;
  namespace: PolicyNamespace;
  /** The grants whose sets stand in the table; undefined: the table has to be written whole. */
  grants: readonly Grant[] | undefined;
  generation: number;
  /** After refusals of the table: how long the next try is put off, and until when. */
  waitMs: number;
  triedAgainMs: number;
}

/** The first refusal may be a matter of the moment. A kernel that lacks what a table needs refuses it for good. */
const LEAST_WAIT_MS = 1000;
const MOST_WAIT_MS = 60_000;

interface KeptPod extends Target {
  pod: LocalPod;
  /** Whether the API server had told of the pod when its rules were decided. */
  known: boolean;
  /** As they stand in the kernel. */
  rules: PodRules;
  /** The policy to which the pod's denied packets are counted, by direction. */
  policies: Record<Direction, string>;
}

export interface NodeNamespace {
  netns: string;
  /** The node's own addresses. */
  addresses: readonly string[];
}

/**
 * @param open opens the namespace at a path; throws when it is gone.
 * @param isClosedUntilKnown whether a pod is closed until the API server has told of it.
 */
export function createEnforcer(
  decision: Decision,
  open: (netns: string) => PolicyNamespace,
  node: NodeNamespace,
  isClosedUntilKnown: (key: string) => boolean,
  tell: (event: Event) => void,
  tally: Pick<Counts, 'denied' | 'forget'>,
  nowMs: () => number,
): Enforcer {
  const kept = new Map<string, KeptPod>();
  /** Attachments whose namespace could not be opened at the last look. */
  const unopened = new Set<string>();
  const own = target('the node', node.netns);
  const counts = { full: 0, deltas: 0 };

  function target(where: string, netns: string): Target {
    const tries = { waitMs: 0, triedAgainMs: 0 };
    return { where, netns, namespace: open(netns), grants: undefined, generation: 0, ...tries };
  }

  function rulesFor({ pod, known }: KeptPod): PodRules {
    const found = known ? decision.rulesOf(pod.key) : undefined;
    return found ?? (isClosedUntilKnown(pod.key) ? closed : {});
  }

  /**
   * Since the pod's rules were decided, the API server has told of the pod, or of another of its name. Or it has not told of the
   * pod, and its namespace has got its first policy or lost its last.
   */
  function isOutdated({ pod: { key, uid }, known, rules }: KeptPod): boolean {
    if (decision.knows(key, uid) !== known) return true;
    return !known && (rules === closed) !== isClosedUntilKnown(key);
  }

  /** Counters of a pod: in its own namespace, and in the node's table. */
  const counterOf = (where: 'pod' | 'node', { pod }: KeptPod) => `${where} ${pod.id} `;

  function countIn(where: 'pod' | 'node', to: Target, pods: Iterable<KeptPod>): void {
    const packets = packetsOf(to);
    for (const one of pods)
      for (const direction of ['ingress', 'egress'] as const) {
        const counted = packets.get(where === 'pod' ? direction : chainOf(direction, one.pod));
        if (counted === undefined) continue;
        tally.denied(`${counterOf(where, one)}${direction}`, one.policies[direction], direction, counted);
      }
  }

  function policiesOf(pod: LocalPod): KeptPod['policies'] {
    return { ingress: policyOf(pod, 'ingress'), egress: policyOf(pod, 'egress') };
  }

  function policyOf({ key }: LocalPod, direction: Direction): string {
    const [first, ...more] = decision.isolatedBy(key, direction);
    const namespace = key.slice(0, key.indexOf('/'));
    if (first === undefined) return `${namespace}/`;
    return more.length === 0 ? first : `${namespace}/*`;
  }

  function put(to: Target, table: Table | undefined, grants: readonly Grant[]): void {
    if (!settle(to, () => to.namespace.put(table))) {
      to.waitMs = Math.min(MOST_WAIT_MS, Math.max(LEAST_WAIT_MS, 2 * to.waitMs));
      to.triedAgainMs = nowMs() + to.waitMs;
      return;
    }
    to.waitMs = 0;
    to.grants = grants;
    counts.full += 1;
  }

  /**
   * False when the table has to be written whole: a set or an element that is missing shows that another program has changed
   * the table.
   */
  function change(to: Target, sets: readonly SetChange[]): boolean {
    if (sets.length === 0) return true;
    if (!settle(to, () => to.namespace.change(sets))) return false;
    counts.deltas += 1;
    return true;
  }

  /** False when the kernel refused. Then nothing has changed, and the table is written whole later. */
  function settle(to: Target, act: () => Refusal | undefined): boolean {
    const why = outcome(() => {
      const refusal = act();
      if (refusal === undefined) to.generation = to.namespace.generation();
      return refusal;
    });
    if (why !== undefined) {
      to.grants = undefined;
      tell({ kind: 'refused', where: to.where, netns: to.netns, why });
      return false;
    }
    return true;
  }

  function tableOfNode(): Table | undefined {
    const links = [...kept.values()].map(({ pod: { hostLink, addresses }, rules }) => ({
      ...{ hostLink, addresses, rules },
    }));
    return nodeTable(node.addresses, links, decision.membersOf);
  }

  function tableOf({ pod, rules }: KeptPod): Table | undefined {
    return policyTable(pod.network, rules, decision.membersOf);
  }

  function isPutOff({ grants, waitMs, triedAgainMs }: Target): boolean {
    return grants === undefined && waitMs > 0 && nowMs() < triedAgainMs;
  }

  /** False when another program has changed the table, or may have, so that it has to be written again. */
  function stands(one: Target, wanted: () => Table | undefined): boolean {
    if (one.grants === undefined) return true;
    try {
      const generation = one.namespace.generation();
      if (generation === one.generation) return true;
      if (one.namespace.holds(wanted())) {
        one.generation = generation;
        return true;
      }
    } catch {
      // A pod with NET_ADMIN may change its nftables faster than they can be listed. Then its table is written again, unseen.
    }
    one.grants = undefined;
    tell({ kind: 'put-back', where: one.where, netns: one.netns });
    return false;
  }

  function applyToNode(whole: boolean, bySet: SetChanges): void {
    if (!whole && isPutOff(own)) return;
    const sets = whole || own.grants === undefined ? 'others' : changesFor(own.grants, bySet);
    if (sets !== 'others' && change(own, sets)) return;
    const pods = [...kept.values()];
    countIn('node', own, pods);
    for (const one of pods) one.policies = policiesOf(one.pod);
    put(
      own,
      tableOfNode(),
      pods.flatMap(({ rules }) => grantsOf(rules)),
    );
    tally.forget('node ');
  }

  function apply(): void {
    const { pods, members } = decision.takeChanges();
    const bySet: SetChanges = new Map();
    for (const [rule, changed] of members)
      bySet.set(rule, setChanges(rule, changed, decision.membersOf(rule)));
    let others = false;
    for (const one of kept.values()) {
      const isChanged = pods.has(one.pod.key) || isOutdated(one);
      if (!isChanged && isPutOff(one)) continue;
      const sets = isChanged || one.grants === undefined ? 'others' : changesFor(one.grants ?? [], bySet);
      if (sets !== 'others' && change(one, sets)) continue;
      others = true;
      countIn('pod', one, [one]);
      one.known = decision.knows(one.pod.key, one.pod.uid);
      one.rules = rulesFor(one);
      put(one, tableOf(one), grantsOf(one.rules));
      tally.forget(counterOf('pod', one));
    }
    applyToNode(others, bySet);
  }

  return {
    setPods(pods) {
      const ids = new Set(pods.map(({ id }) => id));
      for (const [id, one] of kept) {
        if (ids.has(id)) continue;
        one.namespace.close();
        kept.delete(id);
        tally.forget(counterOf('pod', one));
        own.grants = undefined;
      }
      for (const id of unopened) if (!ids.has(id)) unopened.delete(id);
      for (const pod of pods) {
        if (kept.has(pod.id)) continue;
        try {
          kept.set(pod.id, {
            ...target(pod.key, pod.netns),
            pod,
            known: false,
            rules: {},
            policies: policiesOf(pod),
          });
          unopened.delete(pod.id);
        } catch (error) {
          if (unopened.has(pod.id)) continue;
          unopened.add(pod.id);
          tell({ kind: 'refused', where: pod.key, netns: pod.netns, why: String(error) });
        }
      }
    },
    apply,
    inspect() {
      apply();
      const all = [...kept.values()].map((one) => stands(one, () => tableOf(one)));
      if (!stands(own, tableOfNode) || all.includes(false)) apply();
    },
    count() {
      for (const one of kept.values()) countIn('pod', one, [one]);
      countIn('node', own, kept.values());
    },
    counts: () => {
      const all = [...kept.values()];
      return {
        pods: all.length,
        isolated: all.filter(({ rules }) => rules.ingress !== undefined || rules.egress !== undefined).length,
        pending: [own, ...all].filter(({ grants }) => grants === undefined).length,
        ...counts,
      };
    },
    close() {
      for (const { namespace } of [own, ...kept.values()]) namespace.close();
      kept.clear();
    },
  };
}

/** `others`: a named port has another number now, and its set has another name. */
type SetChanges = Map<string, SetChange[] | 'others'>;

function grantsOf({ ingress = [], egress = [] }: PodRules): Grant[] {
  return [...ingress, ...egress];
}

/** Changes of the sets that exist for these grants, each set once. */
function changesFor(grants: readonly Grant[], bySet: SetChanges): SetChange[] | 'others' {
  const found = new Map<string, SetChange>();
  for (const grant of grants) {
    const sets = bySet.get(grant.rule) ?? [];
    if (sets === 'others') {
      if (grant.named) return 'others';
      continue;
    }
    // A table has a rule's sets of peers or of named ports only if a grant uses them.
    for (const set of sets)
      if (set.name.startsWith('m') ? grant.members : grant.named) found.set(set.name, set);
  }
  return [...found.values()];
}

/** Empty when the namespace is gone. */
function packetsOf({ namespace }: Target): ReadonlyMap<string, number> {
  try {
    return namespace.denied();
  } catch {
    return new Map();
  }
}

function outcome(act: () => Refusal | undefined): string | undefined {
  try {
    return act()?.words;
  } catch (error) {
    return String(error);
  }
}

/**
 * The changes of a rule's sets, the same in each pod that has the rule. `others`: a named port has another number now, and its
 * set has another name.
 */
function setChanges(
  rule: string,
  changed: ReadonlyMap<string, MemberChange>,
  now: ReadonlyMap<string, Member>,
): SetChange[] | 'others' {
  const named = namedPortsOf(changed, now);
  if (named === 'others') return named;
  const sets: SetChange[] = [];
  const add = (port?: (typeof named)[number]) => {
    for (const family of [4, 6] as const) {
      const joined: string[] = [];
      const left: string[] = [];
      for (const [address, { before: was, now: is }] of changed) {
        if (address.includes(':') !== (family === 6)) continue;
        const [had, has] = [was, is].map((one) => one !== undefined && isInSet(one, port));
        if (has && !had) joined.push(address);
        if (had && !has) left.push(address);
      }
      if (joined.length + left.length > 0) sets.push({ name: setName(rule, family, port), joined, left });
    }
  };
  add();
  for (const port of named) add(port);
  return sets;
}

/** Named ports whose sets may change. Empty when no changed member has named ports, which saves a look at all members. */
function namedPortsOf(
  changed: ReadonlyMap<string, MemberChange>,
  now: ReadonlyMap<string, Member>,
): ReturnType<typeof namedOf> | 'others' {
  const isNamed = (one: Member | undefined) => one !== undefined && one.named.length > 0;
  if (![...changed.values()].some((one) => isNamed(one.before) || isNamed(one.now))) return [];
  const before = new Map(now);
  for (const [address, { before: was }] of changed) {
    if (was === undefined) before.delete(address);
    else before.set(address, was);
  }
  const named = namedOf(now);
  return JSON.stringify(named) === JSON.stringify(namedOf(before)) ? named : 'others';
}
