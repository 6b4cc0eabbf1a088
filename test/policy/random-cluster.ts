// Random clusters, their changes step by step, and the comparison of a decision with the oracle.
import fc from 'fast-check';
import * as assert from 'uvu/assert';
import {
  type Changes,
  type Decision,
  type Member,
  type PodRules,
  wayThrough,
} from '../../agent/policy/decide.ts';
import { keyOf, readNamespace, readPod, readPolicy } from '../../agent/policy/objects.ts';
import { endAt, type Labelled, lets, type PodObject, type PolicyObject, type World } from './oracle.ts';

const labelKey = fc.constantFrom('app', 'tier', 'constructor');
const labelValue = fc.constantFrom('a', 'b', '');
export const labels = fc.dictionary(labelKey, labelValue, { maxKeys: 2 });
const expression = fc.oneof(
  fc.record({
    key: labelKey,
    operator: fc.constantFrom('In', 'NotIn'),
    values: fc.array(labelValue, { minLength: 1, maxLength: 2 }),
  }),
  fc.record({ key: labelKey, operator: fc.constantFrom('Exists', 'DoesNotExist') }),
);
const selector = fc.record(
  { matchLabels: labels, matchExpressions: fc.array(expression, { maxLength: 2 }) },
  { requiredKeys: [] },
);
const namespaceName = fc.constantFrom('x', 'y', 'z');
const podName = fc.constantFrom('p1', 'p2', 'p3', 'p4');
const protocol = fc.constantFrom('TCP', 'UDP', 'SCTP');
const portName = fc.constantFrom('http', 'dns');
const portNumber = fc.constantFrom(53, 80, 81, 8080);
/** Few addresses, so that blocks meet pods, and two pods claim one address. */
export const addresses4 = ['10.0.0.1', '10.0.0.2', '10.0.0.9', '10.0.1.1', '192.0.2.7'];
export const addresses6 = ['2001:db8::1', '2001:db8::9', '2001:db8:1::1'];
const podIPs = fc
  .tuple(fc.option(fc.constantFrom(...addresses4)), fc.option(fc.constantFrom(...addresses6)))
  .map((found) => found.flatMap((ip) => (ip === null ? [] : [{ ip }])));
const pod: fc.Arbitrary<PodObject> = fc.record({
  metadata: fc.record({
    name: podName,
    namespace: namespaceName,
    labels,
    creationTimestamp: fc.constantFrom('2026-11-01T00:00:00Z', '2026-11-02T00:00:00Z'),
  }),
  spec: fc.record({
    hostNetwork: fc.constantFrom(false, false, false, true),
    containers: fc.array(
      fc.record({
        ports: fc.array(
          fc.record(
            { name: portName, protocol, containerPort: portNumber },
            { requiredKeys: ['containerPort'] },
          ),
          { maxLength: 2 },
        ),
      }),
      { minLength: 1, maxLength: 2 },
    ),
  }),
  status: fc.record({
    phase: fc.constantFrom('Pending', 'Running', 'Running', 'Succeeded', 'Failed'),
    podIPs,
  }),
});
const block = fc.constantFrom(
  { cidr: '10.0.0.0/24', except: ['10.0.0.0/29'] },
  { cidr: '10.0.0.3/16' },
  { cidr: '0.0.0.0/0', except: ['10.0.0.0/8', '192.0.2.7/32'] },
  { cidr: '2001:DB8::/64', except: ['2001:db8::8/125'] },
  { cidr: '::/0' },
);
const peer = fc.oneof(
  fc.record({ podSelector: selector }),
  fc.record({ namespaceSelector: selector }),
  fc.record({ podSelector: selector, namespaceSelector: selector }),
  fc.record({ ipBlock: block }),
);
const port = fc.oneof(
  fc.record({ protocol }, { requiredKeys: [] }),
  fc.record({ protocol, port: fc.oneof(portNumber, portName) }, { requiredKeys: ['port'] }),
  fc.record({ protocol, port: fc.constantFrom(53, 80), endPort: fc.constantFrom(80, 8079) }),
);
const ports = fc.array(port, { maxLength: 2 });
const peers = fc.array(peer, { maxLength: 2 });
export const policy: fc.Arbitrary<PolicyObject> = fc.record({
  metadata: fc.record({ name: fc.constantFrom('n1', 'n2', 'n3'), namespace: namespaceName }),
  spec: fc.record(
    {
      podSelector: selector,
      policyTypes: fc.constantFrom([], ['Ingress'], ['Egress'], ['Ingress', 'Egress']),
      ingress: fc.array(fc.record({ from: peers, ports }, { requiredKeys: [] }), { maxLength: 2 }),
      egress: fc.array(fc.record({ to: peers, ports }, { requiredKeys: [] }), { maxLength: 2 }),
    },
    { requiredKeys: [] },
  ),
}) as fc.Arbitrary<PolicyObject>;
const namespace: fc.Arbitrary<Labelled> = fc.record({ metadata: fc.record({ name: namespaceName, labels }) });

export type Step =
  | { put: 'namespace'; object: Labelled }
  | { put: 'pod'; object: PodObject }
  | { put: 'policy'; object: PolicyObject }
  | { remove: 'namespace'; name: string }
  | { remove: 'pod' | 'policy'; key: string }
  | { local: string[] };
const podKey = fc.tuple(namespaceName, podName).map(([space, name]) => `${space}/${name}`);
const putPod: fc.Arbitrary<Step> = fc.record({ put: fc.constant('pod' as const), object: pod });
export const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 2, arbitrary: fc.record({ put: fc.constant('namespace' as const), object: namespace }) },
  { weight: 6, arbitrary: fc.record({ put: fc.constant('pod' as const), object: pod }) },
  { weight: 5, arbitrary: fc.record({ put: fc.constant('policy' as const), object: policy }) },
  { weight: 1, arbitrary: fc.record({ remove: fc.constant('namespace' as const), name: namespaceName }) },
  { weight: 2, arbitrary: fc.record({ remove: fc.constant('pod' as const), key: podKey }) },
  {
    weight: 1,
    arbitrary: fc.record({
      remove: fc.constant('policy' as const),
      key: fc.tuple(namespaceName, fc.constantFrom('n1', 'n2', 'n3')).map((both) => both.join('/')),
    }),
  },
  { weight: 2, arbitrary: fc.record({ local: fc.uniqueArray(podKey, { maxLength: 8 }) }) },
);

/** Pods come and change, and seldom anything else: this makes and moves members of rules. */
export const podStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: putPod },
  { weight: 1, arbitrary: step },
);

/** Takes the same step for the objects that the oracle reads, and for the decision. */
export function take(step: Step, world: World, decision: Decision, local: Set<string>): void {
  if ('local' in step) {
    local.clear();
    for (const key of step.local) local.add(key);
    decision.setLocal(local);
  } else if ('remove' in step) {
    if (step.remove === 'namespace') {
      world.namespaces = world.namespaces.filter(({ metadata }) => metadata.name !== step.name);
      decision.removeNamespace(step.name);
    } else if (step.remove === 'pod') {
      world.pods = world.pods.filter(({ metadata }) => keyOf(metadata) !== step.key);
      decision.removePod(step.key);
    } else {
      world.policies = world.policies.filter(({ metadata }) => keyOf(metadata) !== step.key);
      decision.removePolicy(step.key);
    }
  } else if (step.put === 'namespace') {
    const { name } = step.object.metadata;
    world.namespaces = [...world.namespaces.filter(({ metadata }) => metadata.name !== name), step.object];
    decision.putNamespace(valueOf(readNamespace(step.object)));
  } else if (step.put === 'pod') {
    const key = keyOf(step.object.metadata);
    world.pods = [...world.pods.filter(({ metadata }) => keyOf(metadata) !== key), step.object];
    decision.putPod(valueOf(readPod(step.object)));
  } else {
    const key = keyOf(step.object.metadata);
    world.policies = [...world.policies.filter(({ metadata }) => keyOf(metadata) !== key), step.object];
    decision.putPolicy(valueOf(readPolicy(step.object)));
  }
}

export function valueOf<T>(read: { value: T } | { problem: string }): T {
  if ('problem' in read) throw new Error(read.problem);
  return read.value;
}

/** What a node keeps of the changes that it was given. */
export interface Kept {
  rules: Map<string, PodRules>;
  members: Map<string, Map<string, Member>>;
}

export function keep(kept: Kept, { pods, members }: Changes): void {
  for (const [key, rules] of pods) {
    if (rules === undefined) assert.ok(kept.rules.delete(key), `${key} was not there`);
    else kept.rules.set(key, rules);
  }
  for (const [rule, changed] of members) {
    const those = kept.members.get(rule) ?? new Map<string, Member>();
    kept.members.set(rule, those);
    for (const [address, { before, now: member }] of changed) {
      assert.equal(those.get(address), before, `${address} of ${rule} was another`);
      if (member === undefined) assert.ok(those.delete(address), `${address} was not in ${rule}`);
      else those.set(address, member);
    }
  }
}

const probes = [...addresses4, ...addresses6, '198.51.100.1'].flatMap((address) =>
  (['TCP', 'UDP', 'SCTP'] as const).flatMap((protocol) =>
    [53, 80, 81, 8080, 9].map((port) => ({ address, protocol, port })),
  ),
);

export function compare(world: World, kept: Kept, local: ReadonlySet<string>): void {
  const membersOf = (rule: string) => kept.members.get(rule) ?? new Map<string, Member>();
  for (const object of world.pods) {
    const key = keyOf(object.metadata);
    if (!local.has(key)) continue;
    const rules = kept.rules.get(key);
    assert.ok(rules, `no rules for ${key}`);
    for (const { ip } of object.status.podIPs ?? []) {
      const own = endAt(world, ip);
      if (own.pod !== object) continue;
      for (const { address, protocol, port } of probes) {
        for (const direction of ['ingress', 'egress'] as const) {
          const wanted = lets(world, direction, own, endAt(world, address), protocol, port);
          const way = wayThrough(rules[direction], membersOf, { address, protocol, port });
          const found = way !== undefined;
          if (found !== wanted)
            assert.unreachable(
              `${key} ${direction} ${address} ${protocol} ${port}: ${found}, should be ${wanted}`,
            );
        }
      }
    }
  }
}
