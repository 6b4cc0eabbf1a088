// eniboot pool, pods and enis on a node: their output for people and programs.
import { chmodSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { toNumber } from '../../agent/host/ipv4.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { launchNode, type Node } from '../boot/node.ts';
import { bootClockMs, bootedNode, end, entries, lease, refill } from './node.ts';

let cloud: Cloud;
let node: Node;
test.before(async () => {
  cloud = await startCloud();
  node = await bootedNode(cloud, '{ target: 20 }');
  lease(node.instance, 10);
  end(node.instance, 3, bootClockMs());
});
test.after(() => cloud.stop());

test('pool shows every prefix with a bar with a character for each address', async () => {
  const { stdout, exitCode } = await node.eniboot(['pool']);
  assert.is(exitCode, 0);
  const [header, eni, first, second, all] = stdout.split('\n');
  assert.match(header ?? '', /^ +total +leased +ready +resting +in use +retiring$/);
  assert.match(eni ?? '', /^eni-[0-9a-f]+ +32 +7 +22 +3 +0 +0 +\[#{7}~{3}\.{22}\]$/);
  assert.match(first ?? '', /^ {2}10\.0\.64\.16\/28 +16 +7 +6 +3 +0 +0 +\[#{7}~{3}\.{6}\]$/);
  assert.match(second ?? '', /^ {2}10\.0\.64\.32\/28 +16 +0 +16 +0 +0 +0 +\[\.{16}\]$/);
  assert.match(all ?? '', /^all +32 +7 +22 +3 +0 +0/);
  const columns = stdout
    .trimEnd()
    .split('\n')
    .slice(1, -1)
    .map((line) => line.indexOf('['));
  assert.is(new Set(columns).size, 1, 'aligned');
});

test('pool --json is one object whose numbers add up', async () => {
  const { stdout } = await node.eniboot(['pool', '--json']);
  const pool = JSON.parse(stdout) as Record<string, number> & { prefixes: Record<string, number>[] };
  assert.is(pool['total'], 32);
  assert.is(
    (pool['leased'] ?? 0) + (pool['ready'] ?? 0) + (pool['resting'] ?? 0) + (pool['retiring'] ?? 0),
    32,
  );
  for (const field of ['leased', 'ready', 'resting', 'retiring'])
    assert.is(
      pool.prefixes.reduce((sum, prefix) => sum + (prefix[field] ?? 0), 0),
      pool[field],
    );
});

test('pods without a runtime shows addresses and owners, and tells why names are missing', async () => {
  const { stdout, stderr, exitCode } = await node.eniboot(['pods']);
  assert.is(exitCode, 0);
  assert.is(stdout.trim().split('\n').length, 8);
  assert.match(stdout, /^10\.0\.64\.16 +eni-[0-9a-f]+ +eth0 +c-10\.0\.64\.16 +\? +\d+ s +no link$/m);
  assert.match(stderr, /names of pods are missing: no container runtime listens/);
});

test("pods has the runtime's names, and the time of each lease", async () => {
  const socket = join(node.instance.root, 'run/crio/crio.sock');
  await node.instance.run('mkdir', ['-p', '/run/crio', '/opt/standin']);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  server.unref();
  const items = [
    { id: 'c-10.0.64.17', metadata: { name: 'web-1', namespace: 'shop' }, state: 'SANDBOX_READY' },
  ];
  const crictl = join(node.instance.root, 'opt/standin/crictl');
  writeFileSync(crictl, `#!/bin/sh\necho '${JSON.stringify({ items })}'\n`);
  chmodSync(crictl, 0o755);
  const env = { PATH: '/opt/standin:/usr/sbin:/usr/bin:/sbin:/bin' };
  const { stdout, stderr } = await node.eniboot(['pods'], { env });
  assert.is(stderr, '');
  assert.match(stdout, /^10\.0\.64\.17 .* shop\/web-1 +/m);
  const json = await node.eniboot(['pods', '--json'], { env });
  const { pods, runtime } = JSON.parse(json.stdout) as { pods: Record<string, unknown>[]; runtime: string };
  assert.is(runtime, 'answered');
  const pod = pods.find((one) => one['address'] === '10.0.64.17') ?? {};
  assert.is(pod['containerId'], 'c-10.0.64.17');
  assert.is(pod['namespace'], 'shop');
  assert.is(pod['name'], 'web-1');
  assert.is(pod['linked'], false);
  const age = Date.now() - Date.parse(String(pod['since']));
  assert.ok(age >= 0 && age < 60_000, `${age} ms`);
  server.close();
});

test('enis compares kernel, pool and EC2, and names each difference', async () => {
  const good = await node.eniboot(['enis', '--ec2']);
  assert.is(good.exitCode, 0, good.stderr);
  assert.match(good.stdout, /^eni-\S+ +boot +\S+ +up +9001 +- +- +attached at 0$/m);
  assert.match(good.stdout, /^eni-\S+ +pods +\S+ +up +9001 +32 +7 +attached at 1$/m);
  const [eni] = node.instance.enis.filter((one) => one.tags.get('eniboot:role') === 'pods');
  const device = node.instance.deviceOf(eni?.id ?? '') ?? '';
  await node.instance.run('ip', ['link', 'set', device, 'down']);
  const calls = cloud.calls.length;
  const down = await node.eniboot(['enis', '--json']);
  assert.is(down.exitCode, 1);
  assert.is(cloud.calls.length, calls, 'without --ec2 no call to EC2 is made');
  const shown = JSON.parse(down.stdout) as { disagreements: string[] };
  assert.equal(shown.disagreements, [`${device} of ${eni?.id} is down`]);
  await node.instance.run('ip', ['link', 'set', device, 'up']);
  cloud.ec2.send('AssignPrivateIpAddresses', { NetworkInterfaceId: eni?.id, Ipv4PrefixCount: 1 });
  await cloud.settled();
  const more = await node.eniboot(['enis', '--ec2']);
  assert.is(more.exitCode, 1);
  assert.match(more.stderr, /the pool lacks 10\.0\.64\.48\/28, which EC2 shows/);
  await refill(node);
  assert.is((await node.eniboot(['enis', '--ec2'])).exitCode, 0, 'refill has added it');
});

test("pool and check name files that are none of the pool's", async () => {
  const paths = ['notes.txt', 'free/10.0.64.300,eni-1,new', 'leased/README', 'owned/eni-1/nonsense'].map(
    (name) => `/run/eniboot/pool/${name}`,
  );
  assert.not.match((await node.eniboot(['pool'])).stdout, /passed over/);
  await node.instance.run('sh', ['-ec', `mkdir -p /run/eniboot/pool/owned/eni-1; touch ${paths.join(' ')}`]);
  const shown = await node.eniboot(['pool']);
  const { strays } = JSON.parse((await node.eniboot(['pool', '--json'])).stdout) as { strays: string[] };
  const { checks } = JSON.parse((await node.eniboot(['check', '--json'])).stdout) as {
    checks: { id: string; result: string; summary: string }[];
  };
  await node.instance.run('sh', ['-ec', `rm ${paths.join(' ')}; rmdir /run/eniboot/pool/owned/eni-1`]);
  assert.equal([...strays].sort(), [...paths].sort());
  for (const path of paths) assert.match(shown.stdout, `${path} is not a file of the pool`);
  const check = checks.find((one) => one.id === 'pool-folder');
  assert.is(check?.result, 'warn');
  for (const path of paths) assert.match(check?.summary ?? '', path);
});

test('collect and refill wait for the holder of the lock', async () => {
  const holder = node.instance.spawn('flock', ['/run/eniboot/pool/lock', 'sleep', '2'], { stdio: 'ignore' });
  await delay(300);
  const started = Date.now();
  const { exitCode } = await node.eniboot(['pool', 'collect']);
  assert.is(exitCode, 0);
  assert.ok(Date.now() - started > 1_000, 'it waited');
  holder.kill('SIGKILL');
});

test('on a node that has not booted all three fail with a code', async () => {
  await node.reboot();
  for (const args of [['pool'], ['enis'], ['pool', 'refill'], ['pool', 'collect']]) {
    const { exitCode, stderr } = await node.eniboot(args);
    assert.is(exitCode, 1, args.join(' '));
    assert.match(stderr, /NODE_NOT_READY|NOT_BOOTED/);
  }
  const pods = await node.eniboot(['pods']);
  assert.is(pods.stdout, 'no pod has an address on this node\n');
});

test('enis --ec2 shows a node whose boot has failed: the runbook sends people there', async () => {
  const failed = await launchNode(cloud);
  await failed.instance.run('rm', ['/usr/libexec/eniboot/kubelet-version']);
  const { status } = await failed.boot();
  assert.is(status?.failure?.code, 'KUBELET_MISSING', 'a phase behind attach');
  const { exitCode, stdout, stderr } = await failed.eniboot(['enis', '--ec2']);
  assert.is(exitCode, 0, stderr);
  assert.match(stdout, /^eni-\S+ +boot +\S+ +up +9001 +- +- +attached at 0$/m);
  assert.match(stdout, /^eni-\S+ +pods +\S+ +up +9001 +112 +0 +attached at 1$/m);
});

test('pool shows prefixes in the order of their addresses, as numbers', async () => {
  const large = await bootedNode(cloud, '{ target: 110 }');
  const { stdout } = await large.eniboot(['pool']);
  const firsts = [...stdout.matchAll(/^ {2}(10\.\S+)\/28 /gm)].map(([, first = '']) => toNumber(first));
  assert.is(firsts.length, 7);
  assert.equal(
    firsts,
    [...firsts].sort((a, b) => a - b),
  );
  assert.ok(
    firsts.some((first) => first % 256 >= 112),
    'as text, .112 comes before .16',
  );
});

test('another word after pool is wrong usage', async () => {
  for (const args of [
    ['pool', 'drain'],
    ['pool', 'refill', 'now'],
    ['pods', 'x'],
    ['enis', '--ec3'],
  ]) {
    const { exitCode } = await node.eniboot(args);
    assert.is(exitCode, 2, args.join(' '));
  }
  assert.is(entries(node.instance, 'free').length, 0);
});

test.run();
