// time limit: 300 s
// Each path of docs/network-policy.md over IPv4, on two simulated nodes with the service running. Then: no path is ever open by
// accident.
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { bootPodNode, type Pod, type PodNode } from '../cni/rig.ts';
import { eventually } from './eventually.ts';
import { testPaths } from './paths.ts';
import { block, selected, startTwoNodes, type TwoNodes } from './two-nodes.ts';

let rig: TwoNodes;
let one: PodNode;
let a: Pod;
let b: Pod;
let far: Pod;
let nodeIp: string;

test.before(async () => {
  rig = await startTwoNodes();
  ({ one, a, b, far } = rig);
  nodeIp = one.instance.bootEni.primaryIp;
});
test.after(() => rig.stop());

testPaths(test, 4, () => rig);

const reachB = () => one.fetch('a', `http://${b.address}/`);

test('a pod and its own node always reach each other', async () => {
  rig.isolate('a', { policyTypes: ['Ingress', 'Egress'] });
  await eventually('a is shut', async () => (await reachB()) === '');
  assert.is(await one.fetch('a', `http://${nodeIp}/`), a.address);
  assert.is(await one.fetch('', `http://${a.address}/`), nodeIp);
});

test('a pod that starts in a namespace with a policy is shut until its rules are known', async () => {
  rig.isolate('none', { policyTypes: ['Egress'] });
  await eventually(
    'the mark',
    async () => (await one.sh('ls /run/eniboot-policy/namespaces || :')).trim() === 'x',
  );
  const objectOf = (uid: string, pod: typeof a) => {
    const { metadata, ...rest } = rig.podObject(one, pod);
    return { ...rest, metadata: { ...metadata, uid } as typeof metadata };
  };
  rig.api.put('pods', objectOf('one', { ...a, id: 'early', address: '192.0.2.1' }));
  const early = await one.addPod('early', {
    CNI_ARGS: 'K8S_POD_NAMESPACE=x;K8S_POD_NAME=early;K8S_POD_UID=two',
  });
  await delay(1500);
  const said = await one.fetch('early', `http://${b.address}/`);
  assert.is(said, '', 'the API server has told of an earlier pod of its name alone');
  rig.api.put('pods', objectOf('two', early));
  await eventually('it is open', async () => (await one.fetch('early', `http://${b.address}/`)) !== '');
  const other = await one.addPod('other', { CNI_ARGS: 'K8S_POD_NAMESPACE=y;K8S_POD_NAME=other' });
  assert.is(await one.fetch('other', `http://${b.address}/`), other.address, 'a namespace without a policy');
});

test('the service killed: what stands, stands, new pods are shut, and the next one makes it right', async () => {
  rig.isolate('a', { policyTypes: ['Egress'] });
  await eventually('a is shut', async () => (await reachB()) === '');
  const ended = new Promise((resolve) => rig.service.once('close', resolve));
  rig.service.kill('SIGKILL');
  await ended;
  const late = await one.addPod('late', { CNI_ARGS: 'K8S_POD_NAMESPACE=x;K8S_POD_NAME=late' });
  rig.api.put('pods', rig.podObject(one, late));
  rig.open();
  await delay(1500);
  assert.is(await reachB(), '');
  assert.is(await one.fetch('late', `http://${b.address}/`), '');
  assert.is(await one.fetch('b', `http://${far.address}/`), b.address);
  rig.service = rig.serve(one);
  await eventually('a is open', async () => (await reachB()) === a.address);
  await eventually('late is open', async () => (await one.fetch('late', `http://${b.address}/`)) !== '');
});

test('a pod that removes its own rules has them back within two seconds', async () => {
  rig.isolate('a', { policyTypes: ['Egress'] });
  await eventually('a is shut', async () => (await reachB()) === '');
  await one.inPod('a', 'nft', ['delete', 'table', 'inet', 'eniboot_policy']);
  assert.is(await reachB(), a.address, 'it can, with NET_ADMIN');
  await delay(2000);
  assert.is(await reachB(), '');
  assert.match(rig.journal(), /another program has changed the rules.*"where":"x\/a"/);
});

test('a policy that cannot be read changes nothing, and the journal and `eniboot policy` name it', async () => {
  rig.isolate('a', { policyTypes: ['Egress'] });
  await eventually('a is shut', async () => (await reachB()) === '');
  const to = Array.from({ length: 10_000 }, (_, at) => block(`10.${at >> 8}.${at & 255}.0/24`));
  rig.isolate('a', { policyTypes: ['Egress'], egress: [{ to }] });
  await eventually('the journal names it', () =>
    assert.match(rig.journal(), /cannot be read.*"object":"policy x\/n".*10001 peers/),
  );
  assert.is(await reachB(), '', 'what it said before stands');
  const { stderr } = await one.eniboot(['policy']);
  assert.match(stderr, /policy x\/n cannot be read: spec: 10001 peers/);
});

test('what a policy denies is counted under its name, also where its table is put anew', async () => {
  rig.isolate('b', { policyTypes: ['Ingress'] });
  await eventually('b is shut', async () => (await reachB()) === '');
  rig.isolate('b', { policyTypes: ['Ingress'], ingress: [{ ports: [{ port: 9 }] }] });
  const line = /^eniboot_policy_denied_packets_total\{policy="x\/n",direction="ingress"\} ([1-9]\d*)$/m;
  const written = async () => {
    await one.eniboot(['pool', 'collect']);
    return one.instance.read('/var/lib/eniboot/metrics/node.prom') ?? '';
  };
  await eventually('the series', async () => line.test(await written()));
  const before = Number(line.exec(await written())?.[1]);
  await reachB();
  await eventually('it goes on', async () => Number(line.exec(await written())?.[1]) > before);
  assert.match(await written(), /^eniboot_policy_pods\{state="isolated"\} 1$/m);
});

test('eniboot policy says what applies, and which rule lets a pair through', async () => {
  rig.isolate('b', { policyTypes: ['Ingress'], ingress: [{ from: [selected('a')], ports: [{ port: 80 }] }] });
  const of = async (...args: string[]) => {
    const { exitCode, stdout } = await one.eniboot(['policy', ...args, '--json']);
    return { exitCode, ...JSON.parse(stdout) };
  };
  await eventually('the rule is in force', async () => {
    const { pods } = await of('x/b');
    return pods[0].standing === 'in force' && pods[0].ingress?.[0]?.startsWith('x/n ingress 0: ');
  });
  assert.equal(await of('test', 'x/a', 'x/b', '--port', '80'), {
    exitCode: 0,
    ...{ may: true, egress: { may: true }, ingress: { may: true, rule: 'x/n ingress 0' } },
  });
  assert.is((await of('test', 'x/far', 'x/b', '--port', '80')).exitCode, 1);
  assert.is((await of('test', 'x/a', 'x/b', '--port', '81')).exitCode, 1);
  const traced = JSON.parse((await one.tool(['trace', 'x/b', '--json'])).stdout);
  const steps = (way: string) =>
    traced.ways
      .find((one: { name: string }) => one.name === way)
      .steps.filter((step: { what: string }) => step.what === 'policy');
  assert.match(
    steps('vpc')[0].found,
    /^ingress isolated, \d+ packets denied; egress open; `eniboot policy x\/b`/,
  );
  assert.equal(steps('node'), []);
  const { stdout } = await one.eniboot(['policy']);
  assert.match(stdout, /x\/b\n.*ingress +x\/n ingress 0: 1 addresses of pods, TCP 80/s);
});

test('without a policy section nothing of it is there', async () => {
  const plain = await bootPodNode(rig.cloud);
  const pod = await plain.addPod('plain', { CNI_ARGS: 'K8S_POD_NAMESPACE=x;K8S_POD_NAME=plain' });
  assert.not.match((await plain.inPod('plain', 'nft', ['list', 'tables'])).stdout, /eniboot_policy/);
  assert.is(await plain.fetch('plain', `http://${far.address}/`), pod.address);
  const { exitCode, stderr } = await plain.eniboot(['policy']);
  assert.is(exitCode, 1);
  assert.match(stderr, /POLICY_OFF/);
});

test.run();
