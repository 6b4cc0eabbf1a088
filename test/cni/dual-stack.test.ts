// time limit: 240 s
// Pods with IPv6 beside IPv4: the source addresses that receivers see over IPv6, on two simulated nodes in one VPC with a
// source check on every ENI.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, conf, type Pod, type PodNode, proxy, variablesOf } from './rig.ts';

const SERVICES = `kubernetes: { serviceCidrs: [172.20.0.0/16, "fd00:10:96::/108"] }
`;

let cloud: Cloud;
let one: PodNode;
let two: PodNode;
let a: Pod;
let b: Pod;
let far: Pod;

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const config = configText(cloud, SERVICES, { ipFamily: 'dual-stack' });
  one = await bootPodNode(cloud, { config });
  two = await bootPodNode(cloud, { config });
  a = await one.addPod('a');
  b = await one.addPod('b');
  far = await two.addPod('far');
  await Promise.all([one.serve('a'), one.serve('b'), two.serve('far'), one.serve(''), two.serve('')]);
});
test.after(() => cloud.stop());

test('pod to pod on another node: no NAT', async () => {
  assert.is(await one.fetch('a', `http://[${far.address6}]/`), a.address6);
  assert.is(await two.fetch('far', `http://[${a.address6}]/`), far.address6);
});

test('pod to pod on one ENI: no NAT', async () => {
  assert.is(await one.fetch('a', `http://[${b.address6}]/`), a.address6);
});

test("an address is the ENI's prefix, and the pod's IPv4 address in its last 32 bits", async () => {
  const prefix = one.instance.enis[1]?.ipv6Prefixes[0] ?? '';
  const [, , c = 0, d = 0] = a.address.split('.').map(Number);
  const low = `${((10 << 8) | 0).toString(16)}:${((c << 8) | d).toString(16)}`;
  assert.is(a.address6, `${prefix.replace('::/80', '')}:0:${low}`);
});

test('pod to its node and back: real addresses, over the veth', async () => {
  const [node = ''] = one.instance.bootEni.ipv6Addresses;
  assert.is(await one.fetch('a', `http://[${node}]/`), a.address6);
  assert.is(await one.fetch('', `http://[${a.address6}]/`), node);
});

test("pod to the Internet: the pod's own address", async () => {
  assert.is(await one.fetch('a', cloud.internet.ipv6Target), a.address6);
});

test('pods do not reach the instance metadata service, the node does', async () => {
  const url = 'http://[fd00:ec2::254]/latest/meta-data/';
  assert.is(await one.fetch('a', url), '');
  // 401, which IMDSv2 answers without a token: IMDS is reached.
  assert.match(await one.fetch('', url), /Unauthorized/);
});

const CLUSTER_IP = 'fd00:10:96::a';

test("a Service backend on another node or this node sees the pod's address; the calling pod as backend sees the turn-back address", async () => {
  for (const [backend, seen] of [
    [far.address6, a.address6],
    [b.address6, a.address6],
    [a.address6, '100::1'],
  ] as const) {
    await proxy(one, 'ip6', `ip6 daddr ${CLUSTER_IP} tcp dport 80 dnat to ${backend}`);
    assert.is(await one.fetch('a', `http://[${CLUSTER_IP}]/`), seen, `backend ${backend}`);
  }
});

test('a packet to a Service address that no Service has is refused, and does not loop', async () => {
  assert.is(await one.fetch('a', 'http://[fd00:10:96::bad]/'), '');
});

test('NodePort with policy Local: the pod sees the client', async () => {
  const [node = ''] = one.instance.bootEni.ipv6Addresses;
  await proxy(one, 'ip6', `ip6 daddr ${node} tcp dport 30080 dnat to [${a.address6}]:80`);
  assert.is(await two.fetch('', `http://[${node}]:30080/`), two.instance.bootEni.ipv6Addresses[0]);
  assert.is(await two.fetch('far', `http://[${node}]:30080/`), far.address6);
});

test('NodePort with policy Cluster: to a pod on this node and to a pod on another', async () => {
  const [node = ''] = one.instance.bootEni.ipv6Addresses;
  for (const backend of [a.address6, far.address6]) {
    await proxy(
      one,
      'ip6',
      `ip6 daddr ${node} tcp dport 30080 meta mark set meta mark or 0x4000 dnat to [${backend}]:80`,
    );
    assert.is(await two.fetch('', `http://[${node}]:30080/`), node, `backend ${backend}`);
  }
});

test('kubelet gets both addresses of the node', () => {
  const { primaryIp, ipv6Addresses } = one.instance.bootEni;
  assert.match(
    one.instance.read('/run/eniboot/kubelet.env') ?? '',
    `--node-ip=${primaryIp},${ipv6Addresses[0]} `,
  );
});

test('CHECK names missing IPv6 parts', async () => {
  const check = async () =>
    (await one.cni('CHECK', variablesOf('b', b.netns), { ...conf, prevResult: b.result })).stdout;
  assert.is(await check(), '');
  await one.sh('ip -n b -6 rule del priority 1024; ip -n b -6 route del default dev eth0');
  assert.match(await check(), /rule .*is missing/);
  assert.match(await check(), /route ::\/0 via fe80:ec2::1 dev eth0.* is missing/);
});

test('a pod whose IPv6 is off gets IPv4 only, in the result as well', async () => {
  await one.sh(
    'ip netns add off; ip netns exec off sh -c "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6"',
  );
  const { exit, json, stdout } = await one.cni('ADD', variablesOf('off', '/run/netns/off'));
  assert.is(exit, 0, stdout);
  assert.is(json.ips.length, 1);
  assert.not.ok(json.routes.some((route: any) => route.dst.includes(':')));
  assert.is(await one.fetch('off', `http://${far.address}/`), json.ips[0].address.split('/')[0]);
  const check = await one.cni('CHECK', variablesOf('off', '/run/netns/off'), { ...conf, prevResult: json });
  assert.is(check.stdout, '');
  assert.is((await one.cni('DEL', variablesOf('off', '/run/netns/off'))).exit, 0);
});

test('an address that is in use in either family is passed over', async () => {
  const noted = async () =>
    (await one.sh('cd /run/eniboot/pool; [ ! -d in-use ] || ls in-use'))
      .split('\n')
      .filter((name) => name !== '');
  const before = await one.leftovers();
  await one.sh('ip netns add carried');
  let refused = 0;
  for (let step = 1; step < 80; step += 1) {
    // EADDRINUSE, which the kernel answers only to operations that add an address.
    one.failAt(step, 98);
    const { exit, json, stdout } = await one.cni('ADD', variablesOf('carried', '/run/netns/carried'));
    one.failAt(undefined);
    if (exit !== 0) {
      assert.is(json.code, 100, stdout);
      assert.equal(await one.leftovers(), before, `operation ${step}`);
      continue;
    }
    const notes = await noted();
    assert.is((await one.cni('DEL', variablesOf('carried', '/run/netns/carried'))).exit, 0);
    if (notes.length === 0) break;
    refused += 1;
    assert.is(notes.length, 1);
    const [address] = (notes[0] ?? '').split(',');
    assert.not.ok(
      json.ips.some((ip: any) => ip.address.startsWith(`${address}/`)),
      `operation ${step}`,
    );
    assert.equal(await one.leftovers(), before, `operation ${step}`);
    await one.sh('rm /run/eniboot/pool/in-use/*');
  }
  assert.is(refused, 2, 'one address of each family was refused');
  await one.sh('ip netns del carried');
});

test('GC ends a pod with both families and leaves nothing of it', async () => {
  const before = await one.leftovers();
  const gone = await one.addPod('gone');
  assert.ok((await one.leftovers()).some((line) => line.includes(gone.address6 ?? 'none')));
  const valid = [a, b].map(({ id }) => ({ containerID: id, ifname: 'eth0' }));
  await one.ageLeases();
  const { exit, stdout } = await one.cni('GC', {}, { ...conf, 'cni.dev/valid-attachments': valid });
  assert.is(exit, 0, stdout);
  assert.equal(await one.leftovers(), before);
});

test('repair restores missing IPv6 rules and sets of the node, and pods go on', async () => {
  await one.sh('ip -6 rule del priority 1024; ip -6 rule del priority 512; nft flush set inet eniboot pool6');
  const { exitCode, stdout } = await one.eniboot(['repair', '--json']);
  assert.is(exitCode, 0, stdout);
  assert.is((JSON.parse(stdout) as { changes: unknown[] }).changes.length >= 3, true, stdout);
  await proxy(one, 'ip6', `ip6 daddr ${CLUSTER_IP} tcp dport 80 dnat to ${far.address6}`);
  assert.is(await one.fetch('a', `http://[${CLUSTER_IP}]/`), a.address6);
});

test('DEL leaves nothing, on the node or in the pod', async () => {
  for (const pod of [a, b]) assert.is((await one.cni('DEL', variablesOf(pod.id, pod.netns))).exit, 0);
  assert.equal(await one.leftovers(), []);
  assert.is(await one.sh('ip netns exec a nft list tables; ip -n a -6 rule | grep 1024 || :'), '');
});

test('nothing that pods sent was dropped as spoofed', async () => {
  await cloud.settled();
  assert.equal(await cloud.network.spoofed(), []);
  assert.equal(await cloud.network.undelivered(), []);
});

test('an ingress limit holds for both families together; CHECK and trace find it', async () => {
  const limited = { ...conf, runtimeConfig: { bandwidth: { ingressRate: 50e6, egressRate: 40e6 } } };
  const pod = await one.addPod('limited', {}, limited);
  const tables = await one.sh('ip netns exec limited nft list ruleset');
  assert.is(tables.match(/limit rate over/g)?.length, 2, tables);
  assert.match(await one.sh('ip netns exec limited nft list table inet eniboot'), /chain arriving/);
  const check = () =>
    one.cni('CHECK', variablesOf('limited', pod.netns), { ...conf, prevResult: pod.result });
  assert.is((await check()).exit, 0, (await check()).stdout);
  const traced = await one.tool(['trace', 'limited']);
  assert.is(traced.exitCode, 0, traced.stdout);
  await one.sh('ip netns exec limited nft flush chain inet eniboot arriving');
  assert.match((await check()).json.msg, /chain arriving of table inet eniboot differs/);
  await one.cni('DEL', variablesOf('limited', pod.netns));
  assert.is(await one.sh('ip netns exec limited nft list ruleset'), '');
});

test('in a pod whose IPv6 is off, a limit is set, is checked, and is removed by DEL', async () => {
  await one.sh('ip netns exec off sysctl -q net.ipv6.conf.all.disable_ipv6');
  const limited = { ...conf, runtimeConfig: { bandwidth: { ingressRate: 50e6, egressRate: 40e6 } } };
  const { exit, json, stdout } = await one.cni('ADD', variablesOf('off', '/run/netns/off'), limited);
  assert.is(exit, 0, stdout);
  assert.is(json.ips.length, 1);
  const check = () => one.cni('CHECK', variablesOf('off', '/run/netns/off'), { ...conf, prevResult: json });
  assert.is((await check()).stdout, '');
  await one.sh('ip netns exec off nft flush chain inet eniboot arriving');
  assert.match((await check()).json.msg, /chain arriving of table .* differs/);
  await one.cni('DEL', variablesOf('off', '/run/netns/off'));
  assert.is(await one.sh('ip netns exec off nft list ruleset'), '');
});

test.run();
