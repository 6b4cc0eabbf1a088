// runtime: the executable's
// The policy's table in a pod's namespace, on a real kernel: after refusals, and in a pod that changes its own nftables all the
// time.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { suite } from 'uvu';
import * as assert from 'uvu/assert';
import type { Table } from '../../agent/kernel/operation.ts';
import { noBlocks } from '../../agent/policy/blocks.ts';
import { createDecision, type Grant } from '../../agent/policy/decide.ts';
import { createEnforcer, type Event } from '../../agent/policy/enforce.ts';
import { setName } from '../../agent/policy/grants.ts';
import { openPolicyNamespace, type PolicyNamespace } from '../../agent/policy/namespace.ts';
import { readPod, readPolicy } from '../../agent/policy/objects.ts';
import { policyTable } from '../../agent/policy/pod-table.ts';
import { standingOf } from '../../agent/policy/standing.ts';
import { valueOf } from './random-cluster.ts';

const NETNS = '/run/netns/pod';
const network = { ifName: 'eth0', veth: 'veth0', node: ['10.0.0.4'], services: [] };
const inPod = (...command: string[]) => execFileSync('ip', ['netns', 'exec', 'pod', ...command]);

interface Seen {
  namespace: PolicyNamespace;
  busy: ChildProcess | undefined;
}

const test = suite<Seen>('namespace');
test.before.each((context) => {
  execFileSync('ip', ['netns', 'add', 'pod']);
  context.namespace = openPolicyNamespace(NETNS);
});
test.after.each(({ namespace, busy }) => {
  busy?.kill('SIGKILL');
  namespace.close();
  execFileSync('ip', ['netns', 'delete', 'pod']);
});

const grants = (count: number): Grant[] =>
  Array.from({ length: count }, (_, at) => ({
    ...{ rule: `x/n ingress ${at}`, anyPeer: false, blocks: noBlocks, members: true, named: false },
  }));
const tableOf = (all: readonly Grant[]) =>
  policyTable(network, { ingress: all }, () => new Map([['10.0.0.1', { peer: true, named: [] }]])) as Table;

// The second number is more than the answers that a socket holds.
for (const count of [1, 10, 2000])
  test(`${count} sets are gone: the change is refused, and the next table is written at once`, ({
    namespace,
  }) => {
    const all = grants(count);
    const table = tableOf(all);
    assert.is(namespace.put(table), undefined);
    const before = namespace.generation();
    inPod('nft', 'delete', 'table', 'inet', 'eniboot_policy');
    assert.is(namespace.generation(), before + 1);
    const sets = all.map(({ rule }) => ({ name: setName(rule, 4), joined: ['10.0.0.2'], left: [] }));
    assert.is(namespace.change(sets)?.errno, 2);
    assert.is(namespace.generation(), before + 1, 'nothing has changed');
    assert.is(namespace.put(table), undefined);
    assert.is(namespace.generation(), before + 2);
    assert.ok(namespace.holds(table));
    assert.ok(namespace.denied().has('ingress'));
  });

test('a pod that changes its nftables all the time ends nothing, and its table stands', async (context) => {
  const decision = createDecision();
  const metadata = { namespace: 'x', name: 'p', creationTimestamp: '2026-11-01T00:00:00Z' };
  decision.putPolicy(valueOf(readPolicy({ metadata, spec: { podSelector: {} } })));
  decision.putPod(valueOf(readPod({ metadata, spec: { containers: [] } })));
  decision.setLocal(new Set(['x/p']));
  const events: Event[] = [];
  const enforcer = createEnforcer(
    decision,
    openPolicyNamespace,
    { netns: '/proc/self/ns/net', addresses: ['10.0.0.4'] },
    () => true,
    (event) => events.push(event),
    { denied: () => undefined, forget: () => undefined },
    () => 0,
  );
  const pod = { id: 'c eth0', key: 'x/p', netns: NETNS, network, hostLink: 'enb1', addresses: ['10.0.0.1'] };
  enforcer.setPods([pod]);
  enforcer.apply();
  const rules = `table inet mine {\n chain c {\n${'  tcp dport 1 counter accept\n'.repeat(20_000)} }\n}\n`;
  execFileSync('ip', ['netns', 'exec', 'pod', 'nft', '-f', '-'], { input: rules });
  const script = 'while :; do nft add table ip z; nft delete table ip z; done';
  context.busy = spawn('ip', ['netns', 'exec', 'pod', 'sh', '-c', script], { stdio: 'ignore' });
  await delay(300);
  const table = policyTable(network, { ingress: [] }, () => new Map());
  for (let looks = 0; looks < 10; looks += 1) {
    enforcer.inspect();
    enforcer.count();
    assert.is.not(standingOf(NETNS, table).state, 'differs');
    await delay(50);
  }
  assert.is(enforcer.counts().pending, 0);
  enforcer.close();
});

test.run();
