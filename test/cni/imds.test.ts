// Pods and the instance metadata service with `pods.allowImds`: reached over IPv4, through the node, and by no other way.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type PodNode } from './rig.ts';

let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const config = configText(cloud, '', { ipFamily: 'dual-stack', allowImds: 'true' });
  // The node is a hop between a pod and IMDS.
  node = await bootPodNode(cloud, { config, imds: { hopLimit: 2 } });
  await node.addPod('a');
});
test.after(() => cloud.stop());

/** The HTTP status of a request for a token; 000 without an answer. */
async function tokenFrom(pod: string, host: string, ...more: string[]): Promise<string> {
  const request = [
    '-X',
    'PUT',
    '-H',
    'X-aws-ec2-metadata-token-ttl-seconds: 60',
    `http://${host}/latest/api/token`,
  ];
  const args = ['-s', '-g', '-m', '2', '-o', '/dev/null', '-w', '%{http_code}', ...more, ...request];
  const result = pod === '' ? await node.instance.run('curl', args) : await node.inPod(pod, 'curl', args);
  return result.stdout.trim();
}

test('a pod gets a token over IPv4, through the node', async () => {
  assert.is(await tokenFrom('a', '169.254.169.254'), '200');
});

test('a pod gets no token by its own interface, with any route', async () => {
  assert.is(await tokenFrom('a', '169.254.169.254', '--interface', 'if!eth0'), '000');
  await node.sh('ip -n a route replace 169.254.169.254/32 via 10.0.64.1 dev eth0');
  assert.is(await tokenFrom('a', '169.254.169.254'), '000');
  await node.sh('ip -n a route del 169.254.169.254/32');
  assert.is(await tokenFrom('a', '169.254.169.254'), '200');
});

test('over IPv6 a pod gets no token, and the node gets one', async () => {
  assert.is(await tokenFrom('', '[fd00:ec2::254]'), '200');
  for (const device of ['eth0', 'veth0'])
    assert.is(await tokenFrom('a', '[fd00:ec2::254]', '--interface', `if!${device}`), '000', device);
  await node.sh('ip -n a -6 route del unreachable fd00:ec2::254/128');
  assert.is(await tokenFrom('a', '[fd00:ec2::254]'), '000');
});

test.run();
