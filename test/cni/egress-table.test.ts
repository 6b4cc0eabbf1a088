// Rows of egress.table, tested with pods' packets. A destination with `route` is reached by the pod's own ENI; a destination
// with NAT is reached through the node, also inside the VPC.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, conf, variablesOf } from './rig.ts';

const cloud = await startCloud();
const plain = await bootPodNode(cloud);
const other = plain.instance.bootEni.primaryIp;
const rows = `egress:
  table:
    - { cidr: 192.168.0.0/16, action: route }
    - { cidr: ${other}/32, action: snat }
`;
const node = await bootPodNode(cloud, { config: configText(cloud, rows) });
const pod = await node.addPod('a');
await plain.serve('');

async function wayTo(address: string): Promise<string> {
  return (await node.inPod(pod.id, 'ip', ['route', 'get', address])).stdout;
}

test("a row with `route` outside the VPC: by the ENI and its router, with the pod's address", async () => {
  assert.match(await wayTo('192.168.7.7'), /via 10\.0\.64\.1 dev eth0/);
});

test('a row with NAT inside the VPC: through the node, and the other side sees the node', async () => {
  assert.match(await wayTo(other), /dev veth0/);
  assert.is(await node.fetch(pod.id, `http://${other}/`), node.instance.bootEni.primaryIp);
});

test('the rest of the VPC stays without NAT', async () => {
  assert.match(await wayTo('10.0.1.9'), /dev eth0/);
});

test('destinations that the node would send back into the pod have a throw route', async () => {
  const table = await node.sh(`ip -4 route show table all | grep throw`);
  assert.match(table, new RegExp(`throw ${other.replaceAll('.', '\\.')}`));
});

test('CHECK checks these rows, and DEL leaves none of them', async () => {
  const check = () => node.cni('CHECK', variablesOf(pod.id, pod.netns), { ...conf, prevResult: pod.result });
  assert.is((await check()).stdout, '');
  await node.sh(`ip -n ${pod.id} route del ${other}/32 dev veth0`);
  assert.match((await check()).stdout, /the pod's route .* dev veth0 .*is missing/);
  assert.is((await node.cni('DEL', variablesOf(pod.id, pod.netns))).exit, 0);
  assert.equal(await node.leftovers(), []);
});

test.after(() => cloud.stop());
test.run();
