import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Instance, startCloud } from './index.ts';

const cloud = await startCloud({ bucketOf: () => ({ capacity: 1e6, refill: 1e6 }) });
const node = await cloud.launch({ files: { '/etc/eniboot/config.yaml': 'cluster: test\n' } });
const pods = [...cloud.subnets.values()].find((subnet) => subnet.tags.get('eniboot') === 'pods');

interface Link {
  ifname: string;
  address: string;
  mtu: number;
  flags: string[];
}

async function links(instance: Instance): Promise<Link[]> {
  return JSON.parse((await instance.run('ip', ['-j', 'link'])).stdout) as Link[];
}

async function attach(instance: Instance, index: number): Promise<string> {
  const made = cloud.ec2.send('CreateNetworkInterface', { SubnetId: pods?.id }) as {
    NetworkInterface: { NetworkInterfaceId: string };
  };
  const { NetworkInterfaceId } = made.NetworkInterface;
  cloud.ec2.send('AttachNetworkInterface', {
    NetworkInterfaceId,
    InstanceId: instance.id,
    DeviceIndex: index,
  });
  await delay(60);
  await cloud.settled();
  return NetworkInterfaceId;
}

async function detach(eniId: string): Promise<void> {
  cloud.ec2.send('DetachNetworkInterface', { AttachmentId: cloud.enis.get(eniId)?.attachment?.id });
  await delay(60);
  await cloud.settled();
  cloud.ec2.send('DeleteNetworkInterface', { NetworkInterfaceId: eniId });
}

test.before.each(() => {
  cloud.faults.clear();
});

test('an instance forwards nothing by itself', async () => {
  assert.is((await node.run('cat', ['/proc/sys/net/ipv4/ip_forward'])).stdout.trim(), '0');
});

test('an instance has files, processes and a name of its own', async () => {
  assert.is(node.read('/etc/eniboot/config.yaml'), 'cluster: test\n');
  assert.not.ok(existsSync('/etc/eniboot/config.yaml'), 'the machine itself is untouched');
  assert.is((await node.run('hostname', [])).stdout.trim(), 'ip-10-0-0-4');
  const script =
    'touch /etc/a /var/lib/b /opt/c /run/d /usr/libexec/eniboot/e; echo here > /dev/console; ls /sys/class/net; cat /proc/1/comm';
  const result = await node.run('sh', ['-c', script]);
  assert.equal(result.stdout.trim().split('\n'), ['ens5', 'lo', 'sh']);
  assert.is(node.consoleLog(), 'here\n');
  for (const path of ['/etc/a', '/var/lib/b', '/opt/c', '/run/d', '/usr/libexec/eniboot/e'])
    assert.not.ok(existsSync(path), path);
});

test('run reports a missing program, an exit code, a time-out and input', async () => {
  assert.ok((await node.run('no-such-program', [])).missing);
  assert.is((await node.run('sh', ['-c', 'exit 3'])).exitCode, 3);
  assert.is((await node.run('cat', [], { input: 'text' })).stdout, 'text');
  assert.is((await node.run('sh', ['-c', 'echo $COLOUR'], { env: { COLOUR: 'red' } })).stdout, 'red\n');
  const slow = await node.run('sleep', ['60'], { timeoutMs: 100 });
  assert.ok(slow.timedOut);
  assert.is(slow.exitCode, null);
  assert.not.match((await node.run('ps', ['ax'])).stdout, 'sleep 60');
});

test('a signal reaches the program itself', async () => {
  const child = node.spawn(
    'sh',
    ['-c', 'trap "echo caught; exit 7" TERM; echo ready; while :; do sleep 0.05; done'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  let output = '';
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    if (output === 'ready\n') child.kill('SIGTERM');
  });
  const [code] = await new Promise<[number | null]>((done) => child.once('close', (exit) => done([exit])));
  assert.is(output, 'ready\ncaught\n');
  assert.is(code, 7);
});

test('the init of an instance reaps orphaned processes', async () => {
  await node.run('sh', ['-c', '(sleep 0.1 &) ; true']);
  await delay(300);
  assert.not.match((await node.run('ps', ['ax'])).stdout, '<defunct>');
});

test('an attached ENI arrives after a while: its MAC, down, without an address', async () => {
  const eniId = await attach(node, 1);
  const device = (await links(node)).find((link) => link.address === cloud.enis.get(eniId)?.mac);
  assert.is(device?.ifname, 'ens6');
  assert.is(device?.mtu, 9001);
  assert.not.ok(device?.flags.includes('UP'));
  assert.not.match((await node.run('ip', ['addr', 'show', 'ens6'])).stdout, 'inet');
  await detach(eniId);
  assert.equal(
    (await links(node)).map((link) => link.ifname),
    ['lo', 'ens5'],
  );
  assert.equal(cloud.leakReport(), []);
});

test('a device can stay away, come late, be renamed, have another MTU, no carrier or an address from another program', async () => {
  const names = async (): Promise<string[]> =>
    (await links(node)).map((link) => link.ifname).filter((name) => name !== 'lo' && name !== 'ens5');
  cloud.faults.device.add({ never: true, times: 1 });
  let eniId = await attach(node, 1);
  assert.equal(await names(), []);
  assert.is(cloud.enis.get(eniId)?.attachment?.status, 'attached');
  await detach(eniId);

  cloud.faults.device.add({ mtu: 1500, renameTo: 'eth9', renameAfterMs: 10, times: 1 });
  eniId = await attach(node, 1);
  assert.equal(await names(), ['eth9']);
  assert.is((await links(node)).find((link) => link.ifname === 'eth9')?.mtu, 1500);
  await detach(eniId);

  cloud.faults.device.add({ noCarrier: true, name: 'eth7', times: 1 });
  eniId = await attach(node, 1);
  await node.run('ip', ['link', 'set', 'eth7', 'up']);
  assert.is((await node.run('cat', ['/sys/class/net/eth7/carrier'])).stdout, '0\n');
  await detach(eniId);

  cloud.faults.device.add({ address: '10.0.64.200/20', defaultRouteVia: '10.0.64.1', times: 1 });
  eniId = await attach(node, 1);
  assert.match((await node.run('ip', ['addr', 'show', 'ens6'])).stdout, '10.0.64.200/20');
  assert.match((await node.run('ip', ['route'])).stdout, 'default via 10.0.64.1 dev ens6 proto dhcp');
  await detach(eniId);
});

test('an attachment can hang, or land at another index than asked', async () => {
  cloud.faults.attach.add({ stuck: true, times: 1 });
  let eniId = await attach(node, 1);
  assert.is(cloud.enis.get(eniId)?.attachment?.status, 'attaching');
  await detach(eniId);
  cloud.faults.attach.add({ deviceIndex: 3, times: 1 });
  eniId = await attach(node, 1);
  assert.is(cloud.enis.get(eniId)?.attachment?.deviceIndex, 3);
  await detach(eniId);
});

test('a reboot empties /run, changes the boot ID, and keeps files, ENIs and the public address', async () => {
  const eniId = await attach(node, 1);
  const bootId = node.read('/proc/sys/kernel/random/boot_id');
  const publicIp = node.bootEni.publicIp;
  node.write('/run/eniboot/status.json', '{}');
  node.write('/var/lib/eniboot/mark', 'kept');
  await node.reboot();
  assert.is.not((await node.run('cat', ['/proc/sys/kernel/random/boot_id'])).stdout, bootId);
  assert.is(node.read('/run/eniboot/status.json'), undefined);
  assert.is(node.read('/var/lib/eniboot/mark'), 'kept');
  assert.is(node.read('/etc/eniboot/config.yaml'), 'cluster: test\n');
  assert.equal(
    (await links(node)).map((link) => link.ifname),
    ['lo', 'ens5', 'ens6'],
  );
  assert.is((await node.run('curl', ['-s', '-m', '2', cloud.internet.curlTarget])).stdout.trim(), publicIp);
  await detach(eniId);
});

test('a stop gives the public address back; with two ENIs a start brings none', async () => {
  await node.stop();
  assert.is(node.pid, 0);
  await node.start();
  const fresh = node.bootEni.publicIp;
  assert.is((await node.run('curl', ['-s', '-m', '2', cloud.internet.curlTarget])).stdout.trim(), fresh);
  const eniId = await attach(node, 1);
  await node.stop();
  await node.start();
  assert.is(node.bootEni.publicIp, undefined);
  assert.is.not((await node.run('curl', ['-s', '-m', '1', cloud.internet.curlTarget])).exitCode, 0);
  cloud.ec2.send('ModifyNetworkInterfaceAttribute', {
    NetworkInterfaceId: node.bootEni.id,
    AssociatePublicIpAddress: true,
  });
  await cloud.settled();
  assert.is(
    (await node.run('curl', ['-s', '-m', '2', cloud.internet.curlTarget])).stdout.trim(),
    node.bootEni.publicIp,
  );
  await detach(eniId);
});

test('an instance can terminate itself, and the leak report names what is left', async () => {
  const doomed = await cloud.launch();
  const eniId = await attach(doomed, 1);
  await doomed.terminate();
  assert.is(doomed.pid, 0);
  assert.equal(
    cloud.leakReport().map((leak) => leak.id),
    [eniId],
  );
  cloud.ec2.send('DeleteNetworkInterface', { NetworkInterfaceId: eniId });
  assert.equal(cloud.leakReport(), []);
});

test('an instance that is terminated while it starts ends up off', async () => {
  const known = new Set(cloud.instances.keys());
  const launching = cloud.launch();
  const id = [...cloud.instances.keys()].find((one) => !known.has(one));
  cloud.ec2.send('TerminateInstances', { InstanceIds: [id] });
  const doomed = await launching;
  await delay(50);
  await cloud.settled();
  assert.is(doomed.pid, 0);
});

test('a region and its first instance are up in moments, and leave no address and no route', async () => {
  await cloud.stop();
  const state = () =>
    ['-4', '-6'].flatMap((family) =>
      ['address', 'route'].map((what) => execFileSync('ip', [family, '-o', what, 'show']).toString()),
    );
  const before = state();
  const started = performance.now();
  const another = await startCloud({ ipv6: true });
  await another.launch();
  const seconds = (performance.now() - started) / 1000;
  await another.stop();
  // Usually half a second. The bound notices a wait that was built in, and not a busy machine.
  assert.ok(seconds < 5, `took ${seconds.toFixed(1)} s`);
  assert.equal(state(), before);
});

test.run();
