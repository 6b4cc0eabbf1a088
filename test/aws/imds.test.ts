import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { realScheduler } from './ec2/scheduler.ts';
import { startCloud } from './index.ts';

/** Milliseconds that the model is ahead of the clock: a lag ends when the test says so, however busy the machine is. */
let ahead = 0;
const cloud = await startCloud({ scheduler: { ...realScheduler, now: () => Date.now() + ahead } });
const node = await cloud.launch({
  podEnis: [{ prefixes: 2 }],
  tags: { role: 'node' },
  userData: '#cloud-config\n',
  imds: { tagsInMetadata: true },
  lifecycleState: 'InService',
});
const podEni = node.enis[1];

interface Answer {
  status: number;
  body: string;
  failed: boolean;
}

/** One request from inside the instance. */
async function request(args: string[]): Promise<Answer> {
  const [path = '', ...rest] = args;
  const result = await node.run('curl', [
    '-s',
    '-m',
    '1',
    '-w',
    '\n%{http_code}',
    ...rest,
    `http://169.254.169.254/latest${path}`,
  ]);
  const cut = result.stdout.lastIndexOf('\n');
  return {
    status: Number(result.stdout.slice(cut + 1)),
    body: result.stdout.slice(0, cut),
    failed: result.exitCode !== 0,
  };
}

function put(...headers: string[]): Promise<Answer> {
  return request(['/api/token', '-X', 'PUT', ...headers.flatMap((header) => ['-H', header])]);
}

const ttl = 'X-aws-ec2-metadata-token-ttl-seconds: 600';
let token = '';
function get(path: string, with_ = token): Promise<Answer> {
  return request([path, '-H', `X-aws-ec2-metadata-token: ${with_}`]);
}

test.before.each(async () => {
  cloud.faults.clear();
  token = (await put(ttl)).body;
});
test.after(() => cloud.stop());

test('a token needs a TTL within bounds and no proxy; a read needs a token', async () => {
  assert.is((await put()).status, 400);
  assert.is((await put('X-aws-ec2-metadata-token-ttl-seconds: 21601')).status, 400);
  assert.is((await put('X-aws-ec2-metadata-token-ttl-seconds: 0')).status, 400);
  assert.is((await put(ttl, 'X-Forwarded-For: 10.0.0.1')).status, 403);
  assert.is((await request(['/meta-data/mac'])).status, 401);
  assert.is((await get('/meta-data/mac', 'made-up')).status, 401);
  assert.is((await get('/meta-data/mac')).body, node.bootEni.mac);
});

test('the tree holds what EC2 says about the instance', async () => {
  const expected: Record<string, string | undefined> = {
    'instance-id': node.id,
    'instance-type': 'm5.xlarge',
    'local-ipv4': node.bootEni.primaryIp,
    'public-ipv4': node.bootEni.publicIp,
    'local-hostname': 'ip-10-0-0-4.eu-west-1.compute.internal',
    'placement/availability-zone': 'eu-west-1a',
    'placement/availability-zone-id': 'euw1-az1',
    'placement/region': 'eu-west-1',
    'services/domain': 'amazonaws.com',
    'autoscaling/target-lifecycle-state': 'InService',
    'tags/instance/role': 'node',
    'iam/security-credentials/': 'eniboot-node',
    'network/interfaces/macs/': [node.bootEni.mac, podEni?.mac]
      .sort()
      .map((mac) => `${mac}/`)
      .join('\n'),
    [`network/interfaces/macs/${podEni?.mac}/device-number`]: '1',
    [`network/interfaces/macs/${podEni?.mac}/interface-id`]: podEni?.id,
    [`network/interfaces/macs/${podEni?.mac}/ipv4-prefix`]: podEni?.prefixes.join('\n'),
    [`network/interfaces/macs/${podEni?.mac}/local-ipv4s`]: podEni?.primaryIp,
    [`network/interfaces/macs/${podEni?.mac}/subnet-ipv4-cidr-block`]: '10.0.64.0/20',
    [`network/interfaces/macs/${podEni?.mac}/vpc-ipv4-cidr-blocks`]: '10.0.0.0/16\n100.64.0.0/16',
  };
  for (const [path, text] of Object.entries(expected))
    assert.is((await get(`/meta-data/${path}`)).body, text, path);
  assert.is((await get('/user-data')).body, '#cloud-config\n');
  assert.is((await get('/meta-data/nothing')).status, 404);
  assert.is((await get('/meta-data/public-keys/')).status, 404);
  const key = { id: 'key-1', name: 'mine', publicKey: 'ssh-ed25519 AAAA mine', tags: new Map() };
  cloud.ec2.world.keyPairs.set(key.name, key);
  node.record.keyName = key.name;
  assert.match((await get('/meta-data/')).body, /^public-keys\/$/m);
  assert.is((await get('/meta-data/public-keys/')).body, '0=mine');
  assert.is((await get('/meta-data/public-keys/0/openssh-key')).body, key.publicKey);
  assert.is((await get(`/meta-data/network/interfaces/macs/${podEni?.mac}/public-ipv4s`)).status, 404);
  const document = JSON.parse((await get('/dynamic/instance-identity/document')).body) as {
    instanceId: string;
  };
  assert.is(document.instanceId, node.id);
});

test('a fault can give every status, for a while or for a path', async () => {
  for (const status of [401, 403, 404, 429, 500, 503]) {
    const rule = cloud.faults.imds.add({ status, times: 2, method: 'GET' });
    assert.is((await get('/meta-data/mac')).status, status);
    assert.is((await get('/meta-data/mac')).status, status);
    assert.is((await get('/meta-data/mac')).status, 200);
    assert.is(rule.hits, 2);
  }
  cloud.faults.imds.add({ status: 404, path: `/latest/meta-data/network/interfaces/macs/${podEni?.mac}` });
  assert.is((await get(`/meta-data/network/interfaces/macs/${podEni?.mac}/device-number`)).status, 404);
  assert.is((await get(`/meta-data/network/interfaces/macs/${node.bootEni.mac}/device-number`)).body, '0');
});

test('a fault makes IMDS silent, slow, cut short or wrong', async () => {
  cloud.faults.imds.add({ unanswered: true, times: 1 });
  assert.ok((await get('/meta-data/mac')).failed);
  cloud.faults.imds.add({ delayMs: 200, times: 1 });
  const started = performance.now();
  assert.is((await get('/meta-data/mac')).status, 200);
  assert.ok(performance.now() - started >= 200);
  cloud.faults.imds.add({ truncate: 3, times: 1 });
  const short = await get('/meta-data/mac');
  assert.ok(short.failed);
  assert.is(short.body, node.bootEni.mac.slice(0, 3));
  cloud.faults.imds.add({ path: /device-number$/, edit: () => '0', times: 1 });
  assert.is((await get(`/meta-data/network/interfaces/macs/${podEni?.mac}/device-number`)).body, '0');
  cloud.faults.imds.add({
    path: /macs\/$/,
    edit: (text) => text.split('\n').slice(0, 1).join('\n'),
    times: 1,
  });
  assert.is((await get('/meta-data/network/interfaces/macs/')).body.split('\n').length, 1);
});

test('a token can expire before its time', async () => {
  cloud.faults.imds.add({ tokenLifeMs: 1, times: 1 });
  const brief = (await put(ttl)).body;
  assert.is((await get('/meta-data/mac', brief)).status, 401);
});

test('a new ENI and a new prefix appear after the lag', async () => {
  cloud.latency.imdsLagMs = 60_000;
  ahead += 60_000;
  const macs = async (): Promise<number> =>
    (await get('/meta-data/network/interfaces/macs/')).body.split('\n').length;
  const prefixes = async (): Promise<number> =>
    (await get(`/meta-data/network/interfaces/macs/${podEni?.mac}/ipv4-prefix`)).body.split('\n').length;
  cloud.ec2.send('AssignPrivateIpAddresses', { NetworkInterfaceId: podEni?.id, Ipv4PrefixCount: 1 });
  const made = cloud.ec2.send('CreateNetworkInterface', { SubnetId: podEni?.subnetId }) as {
    NetworkInterface: { NetworkInterfaceId: string };
  };
  const { NetworkInterfaceId } = made.NetworkInterface;
  cloud.ec2.send('AttachNetworkInterface', { NetworkInterfaceId, InstanceId: node.id, DeviceIndex: 2 });
  const status = () => cloud.enis.get(NetworkInterfaceId)?.attachment?.status;
  while (status() !== 'attached') await new Promise((done) => setTimeout(done, 5));
  ahead += 30_000;
  assert.is(await macs(), 2);
  assert.is(await prefixes(), 2);
  ahead += 60_000;
  assert.is(await macs(), 3);
  assert.is(await prefixes(), 3);
});

test('each request is on record with its instance', () => {
  const last = cloud.imds.at(-1);
  assert.is(last?.instanceId, node.id);
  assert.is(last?.status, 200);
});

test.run();
