// time limit: 300 s
// A pod with NET_ADMIN gives its interface addresses of the pool that it has not leased. No other pod waits because of it, none
// of these addresses rests as if it had been leased, and tools name the pod.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { toNumber } from '../../agent/host/ipv4.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, kernelHasIpvlan, type Pod, type PodNode, variablesOf } from './rig.ts';

let cloud: Cloud;
let node: PodNode;
let evil: Pod;
let taken: string[];

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud, { config: configText(cloud, 'pool: { target: 32, restSeconds: 0 }\n') });
  evil = await node.addPod('evil', { CNI_ARGS: 'K8S_POD_NAMESPACE=default;K8S_POD_NAME=evil' });
  taken = (await listed('free')).slice(0, 14);
  await carry(taken);
});
test.after(() => cloud.stop());

async function listed(state: string): Promise<string[]> {
  const names = await node.sh(
    `cd /run/eniboot/pool; [ ! -d ${state} ] || ls ${state} | cut -d, -f1 | sort -uV`,
  );
  return names.split('\n').filter((name) => name !== '');
}

/** The stand-in of ipvlan recognises an address in use by its port. */
const portOf = (address: string) => `ipv${(toNumber(address) & 0x7fffffff).toString(16).padStart(8, '0')}`;

async function carry(addresses: string[]): Promise<void> {
  for (const address of addresses) {
    await node.sh(`ip -n evil address add ${address}/20 dev eth0`);
    if (!kernelHasIpvlan())
      await node.sh(`ip link add ${portOf(address)} type veth peer name x${toNumber(address)}`);
  }
}

async function drop(addresses: string[]): Promise<void> {
  for (const address of addresses) {
    await node.sh(`ip -n evil address del ${address}/20 dev eth0`);
    if (!kernelHasIpvlan()) await node.sh(`ip link del ${portOf(address)}`);
  }
}

interface Shown {
  total: number;
  leased: number;
  ready: number;
  resting: number;
  inUse: number;
  retiring: number;
  carried: { address: string; eniId: string; netns: string; pod?: string }[];
  unseen: string[];
}
const pool = async () => JSON.parse((await node.eniboot(['pool', '--json'])).stdout) as Shown;

test('ADD goes on past fourteen addresses in use, and none of them rests', async () => {
  const pod = await node.addPod('first');
  assert.not.ok(taken.includes(pod.address));
  assert.equal(await listed('cooling'), []);
  assert.equal(await listed('in-use'), taken);
  // Each is still free.
  const free = await listed('free');
  assert.ok(taken.every((address) => free.includes(address)));
});

test('the next ADD does not try them first', async () => {
  const stamps = await node.sh('ls /run/eniboot/pool/in-use');
  const pod = await node.addPod('second');
  assert.not.ok(taken.includes(pod.address));
  assert.is(await node.sh('ls /run/eniboot/pool/in-use'), stamps, 'no address in use was tried again');
});

test('eniboot pool, check and the metrics tell how many addresses are in use, and which pod carries them', async () => {
  const shown = await pool();
  assert.is(shown.inUse, 14);
  assert.is(shown.leased + shown.ready + shown.resting + shown.inUse + shown.retiring, shown.total);
  assert.equal(shown.unseen, []);
  assert.equal(shown.carried.map(({ address }) => address).sort(), [...taken].sort());
  for (const { netns, pod } of shown.carried) assert.equal([netns, pod], ['/run/netns/evil', 'default/evil']);
  const { stdout } = await node.eniboot(['pool']);
  assert.match(stdout, /^all +32 +3 +15 +0 +14 +0/m);
  assert.match(
    stdout,
    new RegExp(`^${taken[0]} is carried by pod default/evil \\(/run/netns/evil\\), without`, 'm'),
  );
  const { checks } = JSON.parse((await node.eniboot(['check', '--json'])).stdout) as {
    checks: { id: string; result: string; summary: string }[];
  };
  const check = checks.find(({ id }) => id === 'addresses');
  assert.is(check?.result, 'warn');
  assert.match(check?.summary ?? '', /^14 addresses of the pool are carried .* by default\/evil$/);
  await node.eniboot(['pool', 'collect']);
  const metrics = await node.sh('cat /var/lib/eniboot/metrics/node.prom');
  assert.match(metrics, /eniboot_pool_addresses\{[^}]*state="in-use"\} 14/);
});

test('an address in use in a namespace without a pod is shown with the path, or a process, of the namespace', async () => {
  await node.sh('ip netns add lost');

  const mac = (await node.sh('ip -n evil -br link show eth0')).split(/\s+/)[2] ?? '';
  const [address = ''] = (await listed('free')).filter((one) => !taken.includes(one));
  await node.sh(`ip -n lost link add d0 address ${mac} type veth peer name d1
    ip -n lost address add ${address}/20 dev d0`);
  const of = async () => (await pool()).carried.find((one) => one.address === address);
  assert.equal([(await of())?.netns, (await of())?.pod], ['/run/netns/lost', undefined]);
  const process = node.instance.spawn('ip', ['netns', 'exec', 'lost', 'sleep', '1000'], { stdio: 'ignore' });
  await node.sh('sleep 0.3; ip netns del lost');
  assert.match((await of())?.netns ?? '', /^\/proc\/\d+\/ns\/net$/);
  process.kill('SIGKILL');
});

test("a pod's own address is never shown as in use by another pod", async () => {
  assert.not.ok((await pool()).carried.some(({ address }) => address === evil.address));
});

test('when all free addresses are in use, ADD tells so, and does not change them', async () => {
  const rest = (await listed('free')).filter((address) => !taken.includes(address));
  await carry(rest);
  await node.sh('ip netns add starved');
  const before = await listed('free');
  const { exit, json } = await node.cni('ADD', variablesOf('starved', '/run/netns/starved'));
  assert.is.not(exit, 0);
  assert.is(json.code, 11);
  assert.match(json.msg, /POOL_EXHAUSTED: .*29 are carried without a lease/);
  assert.equal(await listed('free'), before);
  assert.equal(await listed('cooling'), []);
  assert.ok((await node.leftovers()).every((line) => !line.includes('starved')));
  // A refill does not count addresses in use: it grows the pool.
  const refill = await node.eniboot(['pool', 'refill']);
  assert.match(refill.stdout, /^\+ /m, refill.stdout + refill.stderr);
  assert.ok((await pool()).ready > 0);
  const pod = await node.addPod('relieved');
  assert.not.ok([...taken, ...rest].includes(pod.address));
  await drop(rest);
});

test('an address that is no longer in use is leased again, last of all, and its note is removed', async () => {
  await drop(taken);
  await node.sh(
    'cd /run/eniboot/pool; mkdir -p /run/aside; for one in free/*; do mv "$one" /run/aside/; done',
  );
  const [one = ''] = taken;
  await node.sh(`mv /run/aside/${one},* /run/eniboot/pool/free/`);
  const pod = await node.addPod('again');
  assert.is(pod.address, one);
  assert.not.ok((await listed('in-use')).includes(one));
  await node.sh('mv /run/aside/* /run/eniboot/pool/free/');
});

test('a note counts for ten minutes of the boot clock; collect removes it then', async () => {
  const now = Math.round(Number((await node.sh('cut -d" " -f1 /proc/uptime')).trim()) * 1000);
  const [free = ''] = (await node.sh('ls /run/eniboot/pool/free | sort -V | tail -n 1')).trim().split('\n');
  const [address = '', eni = ''] = free.split(',');
  await node.sh(
    `rm -f /run/eniboot/pool/in-use/*; touch /run/eniboot/pool/in-use/${address},${eni},${now - 590_000}`,
  );
  assert.is((await pool()).inUse, 1);
  await node.sh(
    `rm -f /run/eniboot/pool/in-use/*; touch /run/eniboot/pool/in-use/${address},${eni},${now - 600_001}`,
  );
  assert.is((await pool()).inUse, 0);
  await node.eniboot(['pool', 'collect']);
  assert.equal(await listed('in-use'), []);
});

test.run();
