// Policies, pods and namespaces → what each pod of this node lets through. No input or output: the caller puts in what the API
// server says, and takes out what has changed since the last time.
import { type Blocks, noBlocks } from './blocks.ts';
import {
  type Direction,
  keyOf,
  type Namespace,
  type Pod,
  type PodPeer,
  type Policy,
  type Port,
  type Protocol,
  type Rule,
} from './objects.ts';
import { matches } from './selector.ts';

/** A port range as a packet has it, by number. */
export interface PortRange {
  protocol: Protocol;
  first: number;
  last: number;
}

/** What one rule of a policy lets through, for one pod. The three kinds of peers are alternatives. */
export interface Grant {
  /** `namespace/name`, direction and place in its list. It also names the members of the rule. */
  rule: string;
  /** Absent: all ports. Empty: only the ports of `members[…].named`. */
  ports?: readonly PortRange[];
  /** Any peer, on `ports`. */
  anyPeer: boolean;
  /** Peers in these blocks, on `ports`. */
  blocks: Blocks;
  /** The members of the rule that are peers, on `ports`. */
  members: boolean;
  /** The named ports of the rule's members. Only for egress: those of an ingress rule are among `ports`. */
  named: boolean;
}

/** Absent: the pod is not isolated in this direction. The grants are alternatives, also those of several policies. */
export type PodRules = Partial<Record<Direction, readonly Grant[]>>;

/** A pod's address as a rule sees it. */
export interface Member {
  /** A peer of the rule selects the pod: all ports of the rule apply to it. */
  peer: boolean;
  /** The numbers that the pod gives the rule's named ports. */
  named: readonly { protocol: Protocol; port: number }[];
}

/** Undefined: not a member. */
export interface MemberChange {
  before: Member | undefined;
  now: Member | undefined;
}

/** The grant that lets a peer through; `open` when nothing isolates the pod; undefined when no grant lets the peer through. */
export function wayThrough(
  grants: readonly Grant[] | undefined,
  membersOf: (rule: string) => ReadonlyMap<string, Member>,
  { address, protocol, port }: { address: string; protocol: Protocol; port: number },
): Grant | 'open' | undefined {
  if (grants === undefined) return 'open';
  const holds = (one: PortRange) => one.protocol === protocol && one.first <= port && port <= one.last;
  return grants.find(({ rule, ports, anyPeer, blocks, members, named }) => {
    const member = membersOf(rule).get(address);
    if (named && member?.named.some((one) => one.protocol === protocol && one.port === port)) return true;
    if (ports !== undefined && !ports.some(holds)) return false;
    return anyPeer || blocks.covers(address) || (members && member?.peer === true);
  });
}

export interface Changes {
  /** Local pods whose rules have changed, with all their rules. Undefined: the pod is gone. */
  pods: Map<string, PodRules | undefined>;
  /** By rule and address. */
  members: Map<string, Map<string, MemberChange>>;
}

export interface Decision {
  putNamespace(namespace: Namespace): void;
  removeNamespace(name: string): void;
  putPod(pod: Pod): void;
  /** `namespace/name`, as for policies. */
  removePod(key: string): void;
  putPolicy(policy: Policy): void;
  removePolicy(key: string): void;
  /** The pods of this node, by `namespace/name`. Only these get rules. */
  setLocal(keys: ReadonlySet<string>): void;
  /** What has changed since the last call, without changes that were undone. */
  takeChanges(): Changes;
  rulesOf(pod: string): PodRules | undefined;
  /**
   * Whether the API server has told of this pod, and not only of an earlier one of its name. A pod without a UID goes by its
   * name.
   */
  knows(pod: string, uid: string | undefined): boolean;
  /** `namespace/name` of the policies that isolate a pod of this node. */
  isolatedBy(pod: string, direction: Direction): string[];
  /** Undefined: the pod does not exist. */
  addressesOf(pod: string): readonly string[] | undefined;
  membersOf(rule: string): ReadonlyMap<string, Member>;
}

interface RuleState {
  id: string;
  policy: Policy;
  direction: Direction;
  rule: Rule;
  /** Ports that the rule names, whose numbers the peers define. */
  names: readonly Port[];
  members: Map<string, Member>;
}

interface PolicyState {
  policy: Policy;
  rules: RuleState[];
  /** The policy selects a pod of this node. The members of other policies' rules are not computed. */
  needed: boolean;
}

const noMembers: ReadonlyMap<string, Member> = new Map();

export function createDecision(): Decision {
  const namespaces = new Map<string, Namespace>();
  const pods = new Map<string, Pod>();
  const podsIn = new Map<string, Set<string>>();
  const policies = new Map<string, PolicyState>();
  const policiesIn = new Map<string, Set<string>>();
  /** Pods that claim an address. It belongs to the youngest: the API server shows the pods of a lost node for minutes. */
  const claims = new Map<string, Set<string>>();
  let local: ReadonlySet<string> = new Set();
  /** Rules of local pods as of the last takeChanges(). */
  const told = new Map<string, string>();
  const dirtyPods = new Set<string>();
  /** By rule and address: the member as of the last takeChanges(). */
  const before = new Map<string, Map<string, Member | undefined>>();

  const statesIn = (namespace: string): PolicyState[] =>
    [...(policiesIn.get(namespace) ?? [])].flatMap((key) => policies.get(key) ?? []);

  function* neededRules(): Generator<RuleState> {
    for (const { needed, rules } of policies.values()) if (needed) yield* rules;
  }

  function ownerOf(address: string): Pod | undefined {
    let owner: Pod | undefined;
    for (const key of claims.get(address) ?? []) {
      const pod = pods.get(key);
      if (pod !== undefined && (owner === undefined || isYounger(pod, owner))) owner = pod;
    }
    return owner;
  }

  function isPeer({ peers }: Rule, policy: Policy, pod: Pod): boolean {
    return (
      peers?.pods.some((one) => isIn(one, policy, pod.namespace) && matches(one.pods, pod.labels)) ?? false
    );
  }

  function isIn({ namespaces: chosen }: PodPeer, policy: Policy, namespace: string): boolean {
    if (chosen === undefined) return namespace === policy.namespace;
    const labels = namespaces.get(namespace)?.labels;
    return labels !== undefined && matches(chosen, labels);
  }

  function memberOf({ rule, policy, names }: RuleState, address: string, pod: Pod): Member | undefined {
    const peer = isPeer(rule, policy, pod);
    if (names.length === 0) return peer ? member(true, []) : undefined;
    const asked = rule.peers === undefined || peer || rule.peers.blocks.covers(address);
    const named = asked ? namedPorts(names, pod) : [];
    return peer || named.length > 0 ? member(peer, named) : undefined;
  }

  function set({ id, members }: RuleState, address: string, now: Member | undefined): void {
    const was = members.get(address);
    if (was === now) return;
    const changed = before.get(id) ?? new Map<string, Member | undefined>();
    before.set(id, changed);
    if (!changed.has(address)) changed.set(address, was);
    if (now === undefined) members.delete(address);
    else members.set(address, now);
  }

  function lookAt(address: string, states: Iterable<RuleState>): void {
    const pod = ownerOf(address);
    for (const state of states) set(state, address, pod && memberOf(state, address, pod));
  }

  /** Computes the members of a policy's rules when the policy is needed, and forgets them when it is not. */
  function settle(state: PolicyState): void {
    const { policy, rules } = state;
    const needed = [...(podsIn.get(policy.namespace) ?? [])].some(
      (key) => local.has(key) && matches(policy.selector, pods.get(key)?.labels ?? new Map()),
    );
    if (needed === state.needed) return;
    state.needed = needed;
    for (const rule of rules) {
      if (!needed) for (const address of [...rule.members.keys()]) set(rule, address, undefined);
      else if (rule.names.length > 0) for (const address of claims.keys()) lookAt(address, [rule]);
      else lookAtPeers(rule);
    }
  }

  function lookAtPeers(state: RuleState): void {
    const { rule, policy } = state;
    for (const [namespace, keys] of podsIn) {
      if (!rule.peers?.pods.some((one) => isIn(one, policy, namespace))) continue;
      for (const key of keys) for (const address of pods.get(key)?.addresses ?? []) lookAt(address, [state]);
    }
  }

  function put(pod: Pod | undefined, key: string): void {
    const last = pods.get(key);
    const namespace = (pod ?? last)?.namespace ?? '';
    if (pod === undefined) pods.delete(key);
    else pods.set(key, pod);
    keep(podsIn, namespace, key, pod !== undefined);
    for (const address of last?.addresses ?? []) keep(claims, address, key, false);
    for (const address of pod?.addresses ?? []) keep(claims, address, key, true);
    for (const address of new Set([...(last?.addresses ?? []), ...(pod?.addresses ?? [])]))
      lookAt(address, neededRules());
    if (!local.has(key)) return;
    dirtyPods.add(key);
    for (const state of statesIn(namespace)) settle(state);
  }

  function lookAtNamespace(name: string): void {
    const states = [...neededRules()].filter(({ rule }) =>
      rule.peers?.pods.some(({ namespaces: chosen }) => chosen !== undefined),
    );
    for (const key of podsIn.get(name) ?? [])
      for (const address of pods.get(key)?.addresses ?? []) lookAt(address, states);
  }

  function replacePolicy(key: string, policy: Policy | undefined): void {
    const last = policies.get(key);
    const namespace = (policy ?? last?.policy)?.namespace ?? '';
    for (const rule of last?.rules ?? [])
      for (const address of [...rule.members.keys()]) set(rule, address, undefined);
    policies.delete(key);
    keep(policiesIn, namespace, key, policy !== undefined);
    if (policy !== undefined) {
      const state = { policy, rules: statesOf(policy), needed: false };
      policies.set(key, state);
      settle(state);
    }
    for (const one of local) if (one.startsWith(`${namespace}/`)) dirtyPods.add(one);
  }

  function rulesOf(key: string): PodRules | undefined {
    const pod = local.has(key) ? pods.get(key) : undefined;
    if (pod === undefined) return undefined;
    const found: Partial<Record<Direction, Grant[]>> = {};
    for (const { policy, rules } of statesIn(pod.namespace)) {
      if (!matches(policy.selector, pod.labels)) continue;
      for (const direction of ['ingress', 'egress'] as const) if (policy[direction]) found[direction] ??= [];
      for (const state of rules) {
        const grant = grantOf(state, pod);
        if (grant !== undefined) found[state.direction]?.push(grant);
      }
    }
    for (const grants of Object.values(found)) grants.sort((a, b) => (a.rule < b.rule ? -1 : 1));
    return found;
  }

  function isolatedBy(key: string, direction: Direction): string[] {
    const pod = pods.get(key);
    if (pod === undefined) return [];
    return statesIn(pod.namespace)
      .map(({ policy }) => policy)
      .filter((policy) => policy[direction] !== undefined && matches(policy.selector, pod.labels))
      .map(keyOf);
  }

  const membersOf = (id: string) => {
    const [policy = ''] = id.split(' ');
    return policies.get(policy)?.rules.find((one) => one.id === id)?.members ?? noMembers;
  };

  function takePods(): Changes['pods'] {
    const changed: Changes['pods'] = new Map();
    for (const key of dirtyPods) {
      const found = rulesOf(key);
      const text = found && JSON.stringify(found, withoutRanges);
      if (told.get(key) === text) continue;
      if (text === undefined) told.delete(key);
      else told.set(key, text);
      changed.set(key, found);
    }
    dirtyPods.clear();
    return changed;
  }

  function takeMembers(): Changes['members'] {
    const changed: Changes['members'] = new Map();
    for (const [id, addresses] of before) {
      const members = membersOf(id);
      const differing = new Map<string, MemberChange>();
      for (const [address, was] of addresses) {
        const now = members.get(address);
        if (was !== now) differing.set(address, { before: was, now });
      }
      if (differing.size > 0) changed.set(id, differing);
    }
    before.clear();
    return changed;
  }

  return {
    putNamespace: (namespace) => {
      namespaces.set(namespace.name, namespace);
      lookAtNamespace(namespace.name);
    },
    removeNamespace: (name) => {
      namespaces.delete(name);
      lookAtNamespace(name);
    },
    putPod: (pod) => put(pod, keyOf(pod)),
    removePod: (key) => put(undefined, key),
    putPolicy: (policy) => replacePolicy(keyOf(policy), policy),
    removePolicy: (key) => replacePolicy(key, undefined),
    setLocal: (keys) => {
      const others = [...local, ...keys].filter((key) => local.has(key) !== keys.has(key));
      local = new Set(keys);
      for (const key of others) dirtyPods.add(key);
      for (const namespace of new Set(others.map((key) => key.slice(0, key.indexOf('/')))))
        for (const state of statesIn(namespace)) settle(state);
    },
    takeChanges: () => ({ pods: takePods(), members: takeMembers() }),
    rulesOf,
    knows: (key, uid) => {
      const uids = pods.get(key)?.uids;
      return uids !== undefined && (uid === undefined || uids.length === 0 || uids.includes(uid));
    },
    isolatedBy,
    addressesOf: (key) => pods.get(key)?.addresses,
    membersOf,
  };
}

/** Leaves out the ranges: there may be ten thousand blocks, for each of a node's pods. */
function withoutRanges(name: string, value: unknown): unknown {
  return name === 'blocks' ? (value as Blocks).id : value;
}

/** Keeps or removes a value in the set of a key. An empty set is removed. */
function keep(sets: Map<string, Set<string>>, key: string, value: string, there: boolean): void {
  const found = sets.get(key) ?? new Set<string>();
  if (there) sets.set(key, found.add(value));
  else if (found.delete(value) && found.size === 0) sets.delete(key);
}

const interned = new Map<string, Member>();

/** Equal members are one object: there are many, and they are compared by identity. */
function member(peer: boolean, named: Member['named']): Member {
  const text = `${peer} ${named.map(({ protocol, port }) => `${protocol} ${port}`).join()}`;
  const found = interned.get(text) ?? { peer, named };
  interned.set(text, found);
  return found;
}

function statesOf(policy: Policy): RuleState[] {
  return (['ingress', 'egress'] as const).flatMap((direction) =>
    (policy[direction] ?? []).map((rule, at) => ({
      id: `${keyOf(policy)} ${direction} ${at}`,
      policy,
      direction,
      rule,
      names: direction === 'egress' ? (rule.ports ?? []).filter(({ name }) => name !== undefined) : [],
      members: new Map(),
    })),
  );
}

/** Undefined: the rule lets nothing through. */
function grantOf({ id, direction, rule, names }: RuleState, pod: Pod): Grant | undefined {
  // The destination defines a named port: for ingress that is the pod itself.
  const own = direction === 'ingress' ? namedPorts(rule.ports ?? [], pod) : [];
  const ports = rule.ports && [
    ...rule.ports.flatMap(rangeOf),
    ...own.map(({ protocol, port }) => ({ protocol, first: port, last: port })),
  ];
  const reachable = ports === undefined || ports.length > 0;
  if (!reachable && names.length === 0) return undefined;
  return {
    rule: id,
    ...(ports && { ports }),
    anyPeer: reachable && rule.peers === undefined,
    blocks: (reachable && rule.peers?.blocks) || noBlocks,
    members: reachable && (rule.peers?.pods.length ?? 0) > 0,
    named: names.length > 0,
  };
}

function rangeOf({ protocol, first, last, name }: Port): PortRange[] {
  if (name !== undefined) return [];
  return [{ protocol, first: first ?? 0, last: last ?? 65_535 }];
}

function namedPorts(asked: readonly Port[], pod: Pod): { protocol: Protocol; port: number }[] {
  return asked.flatMap(({ name, protocol }) =>
    pod.ports
      .filter((one) => one.name === name && one.protocol === protocol)
      .map(({ port }) => ({ protocol, port })),
  );
}

function isYounger(pod: Pod, other: Pod): boolean {
  if (pod.createdAt !== other.createdAt) return pod.createdAt > other.createdAt;
  return keyOf(pod) > keyOf(other);
}
