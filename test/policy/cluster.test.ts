// time limit: 300 s
// A node that watches few namespaces decides for its pods as a node that sees the whole cluster, in whatever order the API
// server reports things.
import fc from 'fast-check';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cluster, watchCluster } from '../../agent/policy/cluster.ts';
import { createDecision, type Decision } from '../../agent/policy/decide.ts';
import { keyOf } from '../../agent/policy/objects.ts';
import { systemClock } from '../../agent/port/clock.ts';
import { type ApiObject, type ApiStandIn, startApiServer, TOKEN } from './api-server.ts';
import { eventually } from './eventually.ts';
import type { World } from './oracle.ts';
import { compare, type Kept, keep, step, take } from './random-cluster.ts';

interface Seen {
  api: ApiStandIn;
  decision: Decision;
  cluster: Cluster;
  stop: AbortController;
  told: string[];
}

const test = suite<Seen>('cluster');

test.before.each(async (context) => {
  context.api = await startApiServer();
});
test.after.each(async ({ api, stop, cluster }) => {
  stop.abort();
  await cluster.ended;
  await api.stop();
});

function start(context: Seen): void {
  context.stop = new AbortController();
  context.decision = createDecision();
  context.told = [];
  const { api, decision, stop, told } = context;
  context.cluster = watchCluster(
    { url: api.url, identity: () => ({ ca: api.ca, token: TOKEN }) },
    'here',
    decision,
    { clock: systemClock, signal: stop.signal, random: () => 0.05 },
    { changed: () => undefined, silent: (path, problem) => told.push(`${path}: ${problem.message}`) },
  );
}

const paths = { namespace: 'namespaces', pod: 'pods', policy: 'networkpolicies' };

test('looking at the namespaces that matter is enough', async (context) => {
  // No smaller case is looked for, since each would take as long.
  const runs = { numRuns: Number(process.env['ENIBOOT_RUNS'] ?? 40), endOnFailure: true };
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), fc.nat(40), async (steps, before) => {
      await context.api.stop();
      context.api = await startApiServer();
      const { api } = context;
      const world: World = { namespaces: [], pods: [], policies: [] };
      const unused = createDecision();
      const put = (one: (typeof steps)[number]) => {
        if ('local' in one) return;
        take(one, world, unused, new Set());
        // Half of the pods are this node's: those of namespace x, and p1 of each other namespace.
        if ('put' in one) {
          const { metadata } = one.object as ApiObject;
          const nodeName = metadata.namespace === 'x' || metadata.name === 'p1' ? 'here' : 'there';
          const { spec } = one.object as { spec?: object };
          const object = one.put === 'pod' ? { ...one.object, spec: { ...spec, nodeName } } : one.object;
          api.put(paths[one.put], object);
        } else if (one.remove === 'namespace') api.remove('namespaces', { metadata: { name: one.name } });
        else {
          const [namespace = '', name = ''] = one.key.split('/');
          api.remove(paths[one.remove], { metadata: { namespace, name } });
        }
      };
      for (const one of steps.slice(0, before)) put(one);
      start(context);
      await eventually('all is listed', () => assert.ok(context.cluster.isKnown()));
      for (const one of steps.slice(before)) put(one);
      const own = world.pods.filter(({ metadata }) => metadata.namespace === 'x' || metadata.name === 'p1');
      const local = new Set(own.map(({ metadata }) => keyOf(metadata)));
      context.decision.setLocal(local);
      const kept: Kept = { rules: new Map(), members: new Map() };
      await eventually('all is known', () => {
        assert.ok(context.cluster.isKnown(), 'something is not listed yet');
        keep(kept, context.decision.takeChanges());
        compare(world, kept, local);
      });
      context.stop.abort();
      await context.cluster.ended;
    }),
    runs,
  );
});

const pod = (key: string, nodeName: string, ip: string, containerPort = 80) => {
  const [namespace, name] = key.split('/');
  return {
    metadata: { namespace, name, creationTimestamp: '2026-11-01T00:00:00Z' },
    spec: { nodeName, containers: [{ ports: [{ name: 'http', containerPort }] }] },
    status: { phase: 'Running', podIPs: [{ ip }] },
  } as unknown as ApiObject;
};
const everywhere = '/api/v1/pods?limit=500';
const tables: [string, object, string[], string[]][] = [
  [
    'its own namespace',
    { podSelector: {} },
    ['10.0.0.1', '10.0.0.2'],
    ['/api/v1/namespaces/x/pods?limit=500'],
  ],
  [
    'namespaces by label',
    { namespaceSelector: { matchLabels: { team: 'y' } } },
    ['10.0.0.3'],
    ['/api/v1/namespaces/y/pods?limit=500'],
  ],
  [
    'every namespace',
    { namespaceSelector: {} },
    ['10.0.0.1', '10.0.0.2', '10.0.0.3', '10.0.0.4'],
    [everywhere],
  ],
  ['no pod', { ipBlock: { cidr: '10.0.0.0/8' } }, [], []],
];
for (const [what, peer, addresses, asked] of tables) {
  test(`peers in ${what}: these are looked at, and no others`, async (context) => {
    const { api } = context;
    for (const name of ['x', 'y', 'z'])
      api.put('namespaces', { metadata: { name, labels: { team: name } } } as unknown as ApiObject);
    api.put('pods', pod('x/p1', 'here', '10.0.0.1'));
    api.put('pods', pod('x/p2', 'there', '10.0.0.2'));
    api.put('pods', pod('y/p2', 'there', '10.0.0.3'));
    api.put('pods', pod('z/p2', 'there', '10.0.0.4'));
    const metadata = { namespace: 'x', name: 'n' };
    api.put('networkpolicies', { metadata, spec: { ingress: [{ from: [peer] }] } } as unknown as ApiObject);
    // A policy for pods of other nodes is no reason to watch its peers.
    api.put('networkpolicies', {
      metadata: { namespace: 'z', name: 'n' },
      spec: { ingress: [{ from: [{ namespaceSelector: {} }] }] },
    } as unknown as ApiObject);
    start(context);
    context.decision.setLocal(new Set(['x/p1']));
    await eventually('all is known', () => {
      assert.ok(context.cluster.isKnown());
      assert.equal([...context.decision.membersOf('x/n ingress 0').keys()].sort(), addresses);
    });
    const lists = api.requests.filter((one) => one.includes('pods?limit') && !one.includes('fieldSelector'));
    assert.equal(lists, asked);
  });
}

test('a named port has no peers: it is what pods call so anywhere', async (context) => {
  const { api } = context;
  api.put('pods', pod('x/p1', 'here', '10.0.0.1'));
  api.put('pods', pod('z/p2', 'there', '10.0.0.4', 81));
  const spec = { policyTypes: ['Egress'], egress: [{ ports: [{ port: 'http' }] }] };
  api.put('networkpolicies', { metadata: { namespace: 'x', name: 'n' }, spec } as unknown as ApiObject);
  start(context);
  context.decision.setLocal(new Set(['x/p1']));
  await eventually('all is known', () =>
    assert.equal([...context.decision.membersOf('x/n egress 0').keys()].sort(), ['10.0.0.1', '10.0.0.4']),
  );
});

test('what went away while nothing was heard is gone after the new list', async (context) => {
  const { api } = context;
  const metadata = { namespace: 'x', name: 'n' };
  api.put('pods', pod('x/p1', 'here', '10.0.0.1'));
  api.put('networkpolicies', {
    metadata,
    spec: { ingress: [{ from: [{ podSelector: {} }] }] },
  } as unknown as ApiObject);
  start(context);
  context.decision.setLocal(new Set(['x/p1']));
  await eventually('all is known', () => assert.is(context.decision.membersOf('x/n ingress 0').size, 1));
  api.cut();
  api.remove('pods', pod('x/p1', 'here', '10.0.0.1'));
  api.remove('networkpolicies', { metadata } as unknown as ApiObject);
  api.put('pods', pod('x/p3', 'here', '10.0.0.1'));
  api.compact();
  context.decision.setLocal(new Set(['x/p1', 'x/p3']));
  await eventually('all is known', () => {
    assert.equal(context.decision.rulesOf('x/p3'), {}, 'no policy is left');
    assert.is(context.decision.rulesOf('x/p1'), undefined, 'nor the pod');
  });
});

test('a policy that becomes unreadable stays what it was; one that was never read is closed; both are named', async (context) => {
  const { api } = context;
  const metadata = { namespace: 'x', name: 'n' };
  api.put('pods', pod('x/p1', 'here', '10.0.0.1'));
  api.put('networkpolicies', { metadata, spec: { ingress: [{}] } } as unknown as ApiObject);
  start(context);
  await eventually('all is listed', () => assert.ok(context.cluster.isKnown()));
  api.put('networkpolicies', { metadata, spec: { ingress: [{ fromNowhere: 1 }] } } as unknown as ApiObject);
  api.put('networkpolicies', {
    metadata: { ...metadata, name: 'm' },
    spec: { policyTypes: ['Sideways'] },
  } as unknown as ApiObject);
  await eventually('all is known', () =>
    assert.equal([...context.cluster.problems().keys()].sort(), ['policy x/m', 'policy x/n']),
  );
  context.decision.setLocal(new Set(['x/p1']));
  const rules = context.decision.rulesOf('x/p1');
  assert.equal(
    rules?.ingress?.map(({ rule }) => rule),
    ['x/n ingress 0'],
  );
  assert.equal(rules?.egress, [], 'closed in both directions by the one that was never read');
  const unreadable = pod('x/p9', 'here', '10.0.0.9');
  api.put('pods', { ...unreadable, status: { podIPs: 'none' } } as unknown as ApiObject);
  await eventually('the pod is named', () => assert.ok(context.cluster.problems().has('pod x/p9')));
  api.remove('pods', unreadable);
  api.put('networkpolicies', { metadata, spec: {} } as unknown as ApiObject);
  api.remove('networkpolicies', { metadata: { ...metadata, name: 'm' } });
  await eventually('all is known', () => assert.is(context.cluster.problems().size, 0));
});

test('a policy that was never readable closes what it selects now, and only that', async (context) => {
  const { api } = context;
  const labelled = (key: string, ip: string, app: string) => {
    const { metadata, ...rest } = pod(key, 'here', ip);
    return { metadata: { ...metadata, labels: { app } }, ...rest } as ApiObject;
  };
  api.put('pods', labelled('x/a', '10.0.0.1', 'a'));
  api.put('pods', labelled('x/b', '10.0.0.2', 'b'));
  const policy = (app: string, rule: object) =>
    api.put('networkpolicies', {
      metadata: { namespace: 'x', name: 'n' },
      spec: { podSelector: { matchLabels: { app } }, policyTypes: ['Ingress'], ingress: [rule] },
    } as ApiObject);
  const rules = () => ['x/a', 'x/b'].map((key) => context.decision.rulesOf(key));
  const shut = { ingress: [], egress: [] };
  policy('a', { fromNowhere: 1 });
  start(context);
  context.decision.setLocal(new Set(['x/a', 'x/b']));
  await eventually('a is closed', () => assert.equal(rules(), [shut, {}]));
  policy('b', { fromNowhere: 1 });
  await eventually('b is closed, and a is open', () => assert.equal(rules(), [{}, shut]));
  policy('b', {});
  await eventually('it can be read', () => assert.is(rules()[1]?.ingress?.length, 1));
  policy('a', { fromNowhere: 1 });
  await eventually('it is unreadable again', () => assert.is(context.cluster.problems().size, 1));
  assert.is(rules()[1]?.ingress?.length, 1, 'what it said before stands');
  api.remove('networkpolicies', { metadata: { namespace: 'x', name: 'n' } });
  await eventually('it is gone', () => assert.equal(rules(), [{}, {}]));
  policy('a', { fromNowhere: 1 });
  await eventually('another of its name, never read', () => assert.equal(rules(), [shut, {}]));
});

test('many namespaces and many policies: the service does not look at each with each again and again', async (context) => {
  const { api } = context;
  for (let at = 0; at < 2000; at += 1)
    api.put('namespaces', { metadata: { name: `n${at}`, labels: { team: `t${at}` } } } as ApiObject);
  api.put('pods', pod('n0/p1', 'here', '10.0.0.1'));
  const from = ['t1', 'none'].map((team) => ({ namespaceSelector: { matchLabels: { team } } }));
  for (let at = 0; at < 100; at += 1)
    api.put('networkpolicies', {
      metadata: { namespace: 'n0', name: `n${at}` },
      spec: { ingress: [{ from }] },
    } as unknown as ApiObject);
  const before = process.cpuUsage();
  start(context);
  await eventually('all is listed', () => assert.ok(context.cluster.isKnown()));
  for (let at = 0; at < 100; at += 1) api.put('pods', pod('n0/p1', 'here', `10.0.1.${at}`));
  await eventually('all is heard', () => assert.equal(context.decision.addressesOf('n0/p1'), ['10.0.1.99']));
  const { user, system } = process.cpuUsage(before);
  assert.ok(user + system < 4_000_000, `${user + system} µs of a processor`);
  assert.ok(api.requests.some((one) => one.startsWith('/api/v1/namespaces/n1/pods')));
});

test('one object that cannot be read in any way keeps no other from being heard', async (context) => {
  const { api } = context;
  const metadata = { namespace: 'x', name: 'n' };
  api.put('pods', pod('x/p1', 'here', '10.0.0.1'));
  start(context);
  await eventually('all is listed', () => assert.ok(context.cluster.isKnown()));
  const blocks = [{ ipBlock: { cidr: '::ffff:10.0.0.0/104' } }];
  api.put('networkpolicies', {
    metadata: { ...metadata, name: 'mapped' },
    spec: { podSelector: { matchLabels: { app: 'none' } }, ingress: [{ from: blocks }] },
  } as unknown as ApiObject);
  for (const object of [{ metadata: null }, { metadata: { name: 1 } }, {}])
    api.say(JSON.stringify({ type: 'ADDED', object }));
  api.put('networkpolicies', { metadata, spec: {} } as unknown as ApiObject);
  context.decision.setLocal(new Set(['x/p1']));
  await eventually('the last policy is heard', () =>
    assert.equal(context.decision.rulesOf('x/p1'), { ingress: [] }),
  );
});

test.run();
