// time limit: 240 s
// Packets of pods: the source addresses that receivers see, on two simulated nodes in one VPC, with strict reverse-path
// filters on every device but the boot ENIs and a source check on every ENI.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type Pod, type PodNode, proxy } from './rig.ts';

let cloud: Cloud;
let one: PodNode;
let two: PodNode;
let a: Pod;
let b: Pod;
let far: Pod;

const CLUSTER_IP = '172.20.0.10';

test.before(async () => {
  cloud = await startCloud();
  one = await bootPodNode(cloud);
  two = await bootPodNode(cloud);
  for (const node of [one, two]) await beStrict(node);
  a = await one.addPod('a');
  b = await one.addPod('b');
  far = await two.addPod('far');
  await Promise.all([one.serve('a'), one.serve('b'), two.serve('far'), one.serve(''), two.serve('')]);
});
test.after(() => cloud.stop());

/** Reverse-path filters as the image's sysctl.d and the agent set them: strict everywhere, loose on the boot ENI. */
async function beStrict(node: PodNode): Promise<void> {
  const boot = node.instance.deviceOf(node.instance.bootEni.id);
  await node.sh(`cd /proc/sys/net/ipv4/conf; echo 0 > all/rp_filter
    for device in *; do case $device in all|${boot}) ;; *) echo 1 > $device/rp_filter;; esac; done`);
}

test('pod to pod on one ENI: no NAT', async () => {
  assert.is(await one.fetch('a', `http://${b.address}/`), a.address);
});

test('pod to pod on another node: no NAT', async () => {
  assert.is(await one.fetch('a', `http://${far.address}/`), a.address);
  assert.is(await two.fetch('far', `http://${a.address}/`), far.address);
});

test('pod to its node and back: real addresses, over the veth', async () => {
  const node = one.instance.bootEni.primaryIp;
  assert.is(await one.fetch('a', `http://${node}/`), a.address);
  assert.is(await one.fetch('', `http://${a.address}/`), node);
});

test('pod to another node: by its own ENI, no NAT', async () => {
  assert.is(await one.fetch('a', `http://${two.instance.bootEni.primaryIp}/`), a.address);
});

test("pod to the Internet: the boot ENI's public address", async () => {
  const seen = await one.fetch('a', cloud.internet.curlTarget);
  assert.is(seen, one.instance.bootEni.publicIp);
});

test('pods do not reach the instance metadata service', async () => {
  assert.is(await one.fetch('a', 'http://169.254.169.254/latest/meta-data/'), '');
  assert.is.not(await one.fetch('', 'http://169.254.169.254/latest/meta-data/'), undefined);
});

test("a Service backend on another node, on this node, and the calling pod all answer; the first two see the pod's address", async () => {
  for (const [backend, seen] of [
    [far.address, a.address],
    [b.address, a.address],
    [a.address, one.instance.bootEni.primaryIp],
  ] as const) {
    await proxy(one, 'ip', `ip daddr ${CLUSTER_IP} tcp dport 80 dnat to ${backend}`);
    assert.is(await one.fetch('a', `http://${CLUSTER_IP}/`), seen, `backend ${backend}`);
  }
});

test('pods reach Services by the node also when their CIDR is in the VPC', async () => {
  const text = configText(cloud, 'kubernetes: { serviceCidrs: [10.0.128.0/17, 100.64.0.0/16] }\n');
  const node = await bootPodNode(cloud, { config: text });
  await beStrict(node);
  const pod = await node.addPod('in');
  await node.serve('in');
  for (const address of ['10.0.200.10', '100.64.0.10'])
    for (const [backend, seen] of [
      [far.address, pod.address],
      [pod.address, node.instance.bootEni.primaryIp],
    ] as const) {
      await proxy(node, 'ip', `ip daddr ${address} tcp dport 80 dnat to ${backend}`);
      assert.is(await node.fetch('in', `http://${address}/`), seen, `${address}, backend ${backend}`);
    }
  assert.is(await node.fetch('in', `http://${far.address}/`), pod.address);
});

test('a Service whose backend is the node itself answers', async () => {
  await proxy(one, 'ip', `ip daddr ${CLUSTER_IP} tcp dport 80 dnat to ${one.instance.bootEni.primaryIp}`);
  assert.is(await one.fetch('a', `http://${CLUSTER_IP}/`), a.address);
});

test('the node reaches a Service whose backend is a pod here or elsewhere', async () => {
  for (const backend of [far.address, b.address]) {
    await proxy(
      one,
      'ip',
      `ip daddr ${CLUSTER_IP} tcp dport 80 meta mark set meta mark or 0x4000 dnat to ${backend}`,
    );
    assert.is(
      await one.fetch('', `http://${CLUSTER_IP}/`),
      one.instance.bootEni.primaryIp,
      `backend ${backend}`,
    );
  }
});

test('NodePort with policy Local: the pod sees the client, from a pod and a node of the VPC', async () => {
  const node = one.instance.bootEni.primaryIp;
  await proxy(one, 'ip', `ip daddr ${node} tcp dport 30080 dnat to ${a.address}:80`);
  assert.is(await two.fetch('', `http://${node}:30080/`), two.instance.bootEni.primaryIp);
  assert.is(await two.fetch('far', `http://${node}:30080/`), far.address);
});

test('NodePort with policy Cluster: to a pod on this node and to a pod on another', async () => {
  const node = one.instance.bootEni.primaryIp;
  for (const backend of [a.address, far.address]) {
    await proxy(
      one,
      'ip',
      `ip daddr ${node} tcp dport 30080 meta mark set meta mark or 0x4000 dnat to ${backend}:80`,
    );
    assert.is(await two.fetch('', `http://${node}:30080/`), node, `backend ${backend}`);
  }
});

test("packets that IPVS forwards with a pod's address go through that pod, not by the boot ENI", async () => {
  // Stands in for IPVS, which this kernel may not have: the node itself sends a packet with the pod's source address.
  const receiver = two.instance.spawn(
    'ip',
    [
      'netns',
      'exec',
      'far',
      'timeout',
      '5',
      'socat',
      '-u',
      'UDP-RECVFROM:7000',
      'SYSTEM:echo $SOCAT_PEERADDR',
    ],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let seen = '';
  receiver.stdout?.on('data', (chunk: Buffer) => {
    seen += chunk.toString();
  });
  const ended = new Promise((resolve) => receiver.once('close', resolve));
  await one.sh(
    `sleep 0.5; echo hello | socat -u - UDP-SENDTO:${far.address}:7000,ip-transparent,bind=${a.address}`,
  );
  await ended;
  assert.is(seen.trim(), a.address);
});

test('nothing that pods sent was dropped as spoofed', async () => {
  await cloud.settled();
  assert.equal(await cloud.network.spoofed(), []);
  assert.equal(await cloud.network.undelivered(), []);
});

test.run();
