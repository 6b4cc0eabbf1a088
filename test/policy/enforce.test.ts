// The tables in the pods' namespaces equal tables made anew, however they came about: by whole tables or by elements, after
// refusals and after changes by another program.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { SetChange, Table } from '../../agent/kernel/operation.ts';
import { createDecision } from '../../agent/policy/decide.ts';
import { createEnforcer, type Event, type LocalPod } from '../../agent/policy/enforce.ts';
import type { PolicyNamespace } from '../../agent/policy/namespace.ts';
import { nodeTable } from '../../agent/policy/node-table.ts';
import { readPod, readPolicy } from '../../agent/policy/objects.ts';
import { closed, policyTable } from '../../agent/policy/pod-table.ts';
import type { World } from './oracle.ts';
import { podStep, step, take, valueOf } from './random-cluster.ts';

/**
 * Memory in place of a kernel, and as strict: a change of a set or an element that does not exist is refused, and then nothing
 * is changed.
 */
function memoryNamespace() {
  let table: { rest: string; sets: Map<string, Set<string>> } | undefined;
  let generation = 1;
  let refusing = false;
  let silent = false;
  const answer = <T>(said: T): T => {
    if (silent) throw new Error('a listing that changed each time');
    return said;
  };
  const refused = { errno: 12, words: 'Cannot allocate memory' };
  const missing = { errno: 2, words: 'No such file or directory' };
  const namespace: PolicyNamespace = {
    put(wanted) {
      if (refusing) return refused;
      generation += 1;
      table = wanted && shape(wanted);
      return undefined;
    },
    change(changes: readonly SetChange[]) {
      if (refusing) return refused;
      for (const { name, left } of changes) {
        const set = table?.sets.get(name);
        if (set === undefined || left.some((one) => !set.has(one))) return missing;
      }
      for (const { name, joined, left } of changes) {
        for (const one of left) table?.sets.get(name)?.delete(one);
        for (const one of joined) table?.sets.get(name)?.add(one);
      }
      generation += 1;
      return undefined;
    },
    generation: () => answer(generation),
    denied: () => new Map(),
    holds: (wanted) => answer(text(table) === text(wanted && shape(wanted))),
    close: () => undefined,
  };
  return {
    namespace,
    refuse: (on: boolean) => {
      refusing = on;
    },
    silence: (on: boolean) => {
      silent = on;
    },
    flush: () => {
      generation += 1;
      table = undefined;
    },
    text: () => text(table),
  };
}

function shape({ sets = [], ...rest }: Table) {
  return {
    rest: JSON.stringify(rest),
    sets: new Map(
      sets.map((set) => [
        set.name,
        new Set('ranges' in set ? set.ranges.map(({ first, last }) => `${first}-${last}`) : set.addresses),
      ]),
    ),
  };
}

function text(table: ReturnType<typeof shape> | undefined): string {
  if (table === undefined) return 'none';
  const sets = [...table.sets].map(([name, addresses]) => `${name}: ${[...addresses].sort()}`).sort();
  return `${table.rest}\n${sets.join('\n')}`;
}

const network = {
  ...{ ifName: 'eth0', veth: 'veth0' },
  ...{ node: ['10.0.0.4', '100::1'], services: ['172.20.0.0/16', 'fd00:10:96::/108'] },
};

/** `silence`: the kernel does as it is told, and answers no question. */
type Disturbance = 'none' | 'flush' | 'refuse' | 'silence' | 'new sandbox';
const disturbance = fc.constantFrom<Disturbance>(
  ...(['none', 'none', 'none', 'flush', 'refuse', 'silence', 'new sandbox'] as const),
);

/** Policies with many members, and pods of this node that they isolate. */
const isolated = (['x', 'y'] as const).map((namespace) => ({
  put: 'policy' as const,
  object: {
    metadata: { namespace, name: 'n1' },
    spec: {
      policyTypes: ['Ingress', 'Egress'],
      ingress: [{ from: [{ namespaceSelector: {} }, { podSelector: { matchLabels: { app: 'a' } } }] }],
      egress: [{ to: [{ podSelector: {} }], ports: [{ port: 'http' }, { port: 80 }] }],
    },
  },
}));
const beginning = [...isolated, { local: ['x/p1', 'x/p2', 'y/p1'] }].map(
  (one) => [one, true, 'none'] as const,
);
/** Mostly pods that come and change, then any change of a cluster. */
const scenario = fc
  .tuple(
    fc.array(fc.tuple(podStep, fc.boolean(), disturbance), { minLength: 10, maxLength: 40 }),
    fc.array(fc.tuple(step, fc.boolean(), disturbance), { maxLength: 20 }),
  )
  .map(([pods, rest]) => [...beginning, ...pods, ...rest]);

test('by whole tables or by elements: the same', () => {
  const seen = { full: 0, deltas: 0, 'put-back': 0, refused: 0 };
  fc.assert(
    fc.property(scenario, (steps) => {
      const world: World = { namespaces: [], pods: [], policies: [] };
      const decision = createDecision();
      const local = new Set<string>();
      const kernels = new Map<string, ReturnType<typeof memoryNamespace>>();
      const events: Event[] = [];
      const open = (netns: string) => {
        const made = memoryNamespace();
        kernels.set(netns, made);
        return made.namespace;
      };
      const enforcer = createEnforcer(
        decision,
        open,
        { netns: 'node', addresses: ['10.0.0.4'] },
        (key) => key.startsWith('x/'),
        (event) => events.push(event),
        { denied: () => undefined, forget: () => undefined },
        () => nowMs,
      );
      let nowMs = 0;
      let sandbox = 0;
      const pods = (): LocalPod[] =>
        [...local].map((key) => ({
          id: `${key} ${sandbox}`,
          key,
          netns: `${key} ${sandbox}`,
          network,
          hostLink: `enb-${key}`,
          addresses: [],
        }));
      for (const [one, look, disturb] of steps) {
        take(one, world, decision, local);
        const kernel = [...kernels.values()].at(look ? -1 : 0);
        if (disturb === 'flush') kernel?.flush();
        if (disturb === 'new sandbox') sandbox += 1;
        kernel?.refuse(disturb === 'refuse');
        kernel?.silence(disturb === 'silence');
        enforcer.setPods(pods());
        if (disturb === 'flush' || disturb === 'silence') enforcer.inspect();
        if (look) enforcer.apply();
        kernel?.refuse(false);
        kernel?.silence(false);
      }
      // What was refused is tried again after a minute at the latest.
      nowMs += 60_000;
      enforcer.inspect();
      for (const { key, netns } of pods()) {
        const rules = decision.rulesOf(key) ?? (key.startsWith('x/') ? closed : {});
        const wanted = policyTable(network, rules, decision.membersOf);
        assert.is(kernels.get(netns)?.text(), text(wanted && shape(wanted)), key);
      }
      const links = pods().map(({ key, ...rest }) => ({
        ...rest,
        rules: decision.rulesOf(key) ?? (key.startsWith('x/') ? closed : {}),
      }));
      const wanted = nodeTable(['10.0.0.4'], links, decision.membersOf);
      assert.is(kernels.get('node')?.text(), text(wanted && shape(wanted)), 'the node');
      assert.is(enforcer.counts().pending, 0);
      const { full, deltas } = enforcer.counts();
      seen.full += full;
      seen.deltas += deltas;
      for (const { kind } of events) seen[kind] += 1;
    }),
    { numRuns: Number(process.env['ENIBOOT_RUNS'] ?? 1000), includeErrorInReport: true },
  );
  for (const [what, times] of Object.entries(seen))
    assert.ok(times > 100, `${what} was hardly tried: ${times}`);
});

/** Two pods of namespace x on the node, and what the tests do with them. @param isClosed whether its namespace has a policy. */
function node(
  isClosed: () => boolean,
  refuses: (netns: string) => boolean = () => false,
  isGone: (netns: string) => boolean = () => false,
) {
  const decision = createDecision();
  const kernels = new Map<string, ReturnType<typeof memoryNamespace>>();
  const puts: string[] = [];
  const events: Event[] = [];
  let pods: LocalPod[] = [];
  let nowMs = 0;
  const enforcer = createEnforcer(
    decision,
    (netns) => {
      if (isGone(netns)) throw new Error(`no such namespace: ${netns}`);
      const made = memoryNamespace();
      kernels.set(netns, made);
      const put: PolicyNamespace['put'] = (table) => {
        puts.push(netns);
        made.refuse(refuses(netns));
        return made.namespace.put(table);
      };
      return { ...made.namespace, put };
    },
    { netns: 'node', addresses: ['10.0.0.4'] },
    isClosed,
    (event) => events.push(event),
    { denied: () => undefined, forget: () => undefined },
    () => nowMs,
  );
  return {
    decision,
    enforcer,
    events,
    puts,
    /** The pods that have an address, by the ID of their container. */
    run(containers: Record<string, string>, uids: Record<string, string> = {}) {
      pods = Object.entries(containers).map(([id, key]) => ({
        ...{ id, key, netns: id, network, hostLink: `enb-${id}`, addresses: [] },
        ...(uids[id] !== undefined && { uid: uids[id] }),
      }));
      decision.setLocal(new Set(pods.map(({ key }) => key)));
      enforcer.setPods(pods);
    },
    look: () => enforcer.apply(),
    /** Looks each second. */
    lookFor(seconds: number) {
      for (let left = seconds; left > 0; left -= 1) {
        nowMs += 1000;
        enforcer.inspect();
      }
    },
    isOpen: (id: string) => kernels.get(id)?.text() === 'none',
  };
}

const policyFor = (matchLabels: object, rest: object = {}) =>
  valueOf(
    readPolicy({ metadata: { namespace: 'x', name: 'n' }, spec: { podSelector: { matchLabels }, ...rest } }),
  );
const podOf = (name: string, labels: object, more: object = {}) =>
  valueOf(
    readPod({
      metadata: { namespace: 'x', name, labels, creationTimestamp: '2026-11-01T00:00:00Z', ...more },
      spec: { containers: [] },
    }),
  );

test('the first policy of a namespace closes the pods there of which the API server has not told, until it does', () => {
  let isIsolated = false;
  const { decision, run, look, isOpen, puts } = node(() => isIsolated);
  run({ c1: 'x/p1' });
  look();
  assert.ok(isOpen('c1'), 'it was added when its namespace had no policy');
  isIsolated = true;
  decision.putPolicy(policyFor({ app: 'b' }));
  look();
  assert.not.ok(isOpen('c1'));
  const written = puts.length;
  look();
  assert.is(puts.length, written, 'it is closed once');
  decision.putPod(podOf('p1', { app: 'a' }));
  look();
  assert.ok(isOpen('c1'), 'the policy does not select it');
  isIsolated = false;
  decision.removePolicy('x/n');
  run({ c1: 'x/p1', c2: 'x/p2' });
  look();
  assert.ok(isOpen('c2'));
});

const mirror = (uid: string) => ({
  uid: 'of the API server',
  annotations: { 'kubernetes.io/config.mirror': uid },
});
/** What the API server says of the pod `two`, and of the earlier pod `one` of its name. */
const identities: [what: string, own: object, earlier: object][] = [
  ['by the UID', { uid: 'two' }, { uid: 'one' }],
  ['a static pod, by the UID that kubelet gave it', mirror('two'), mirror('one')],
];
for (const [what, own, earlier] of identities)
  test(`a pod gets no rules of an earlier pod of its name: ${what}`, () => {
    const { decision, run, look, isOpen } = node(() => true);
    decision.putPolicy(policyFor({ app: 'b' }));
    decision.putPod(podOf('p1', { app: 'a' }, earlier));
    run({ c1: 'x/p1' }, { c1: 'one' });
    look();
    assert.ok(isOpen('c1'));
    run({ c2: 'x/p1' }, { c2: 'two' });
    look();
    assert.not.ok(isOpen('c2'), 'the earlier pod was not selected, and of this one nothing is known');
    decision.putPod(podOf('p1', { app: 'b' }, own));
    look();
    assert.not.ok(isOpen('c2'), 'it is selected');
    decision.removePolicy('x/n');
    look();
    assert.ok(isOpen('c2'));
    decision.removePod('x/p1');
    look();
    assert.not.ok(isOpen('c2'), 'it is not known any more');
    decision.putPod(podOf('p1', {}, own));
    look();
    assert.ok(isOpen('c2'), 'its rules are what they were, and it is known again');
  });

for (const [what, uid, object] of [
  ['an earlier version of ADD has noted no UID', undefined, { uid: 'one' }],
  ['the API server has told no UID', 'one', {}],
] as const)
  test(`a pod goes by its name when ${what}`, () => {
    const { decision, run, look, isOpen } = node(() => true);
    decision.putPod(podOf('p1', {}, object));
    run({ c1: 'x/p1' }, uid === undefined ? {} : { c1: uid });
    look();
    assert.ok(isOpen('c1'));
  });

test('a pod whose namespace cannot be opened is told once, and again after it could be', () => {
  let gone = 'c1';
  const { run, look, events, isOpen } = node(
    () => false,
    () => false,
    (netns) => netns === gone,
  );
  for (let looks = 0; looks < 10; looks += 1) {
    run({ c1: 'x/p1', c2: 'x/p2' });
    look();
  }
  assert.equal(
    events.map(({ kind, where }) => `${kind} ${where}`),
    ['refused x/p1'],
  );
  assert.ok(isOpen('c2'));
  gone = 'none';
  run({ c1: 'x/p1', c2: 'x/p2' });
  assert.ok(isOpen('c1'));
  gone = 'c1';
  run({});
  run({ c1: 'x/p1' });
  assert.is(events.length, 2);
});

test('a table that the kernel refuses for good is tried and told ever more seldom, and a change of its rules tries at once', () => {
  let refused = 'c1';
  const { decision, run, look, lookFor, puts, events } = node(
    () => true,
    (netns) => netns === refused,
  );
  for (const name of ['p1', 'p2']) decision.putPod(podOf(name, { app: name }));
  decision.putPolicy(policyFor({}));
  run({ c1: 'x/p1', c2: 'x/p2' });
  lookFor(600);
  assert.ok(events.length < 20, `told ${events.length} times in ten minutes`);
  assert.ok(events.length > 12, `tried ${events.length} times in ten minutes`);
  const of = (netns: string) => puts.filter((one) => one === netns).length;
  assert.is(of('c1'), events.length);
  assert.is(of('c2'), 1);
  assert.ok(of('node') <= events.length, `${of('node')} times the node`);
  const before = of('c1');
  look();
  assert.is(of('c1'), before);
  decision.putPolicy(policyFor({ app: 'p1' }, { policyTypes: ['Egress'] }));
  look();
  assert.is(of('c1'), before + 1, 'another policy');
  look();
  assert.is(of('c1'), before + 1);
  refused = 'node';
  lookFor(60);
  assert.is(of('c1'), before + 2, 'it is taken at last');
  const written = of('node');
  lookFor(600);
  assert.ok(of('node') - written < 20, `${of('node') - written} times the node`);
});

test.run();
