// time limit: 180 s
// A real runtime's library around the plugin: cnitool (libcni) with the conflist that the boot wrote, and reference
// plugins chained behind ours. Built by `node test/cni/fetch.ts`; without them those tests say so and are skipped.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { goTools, withoutGoTools } from './fetch.ts';
import { bootPodNode, type PodNode } from './rig.ts';

const tools = goTools();
const withTools = (name: string, work: () => Promise<void>) =>
  tools === undefined ? test.skip(name, work) : test(name, work);
if (tools === undefined) process.stdout.write(`skipped: ${withoutGoTools}\n`);

let cloud: Cloud;
let node: PodNode;
let other: PodNode;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud);
  other = await bootPodNode(cloud);
});
test.after(() => cloud.stop());

/** Runs cnitool as a runtime would on the node: from the host, with the plugin folders of the node first. */
async function cnitool(command: string, network: string, netns: string, extra = ''): Promise<string> {
  return node.sh(`export PATH=/run/stand-in/bin:/usr/sbin:/usr/bin:/sbin:/bin
    export CNI_PATH=/opt/cni/bin:${tools} NETCONFPATH=/etc/cni/net.d ${extra}
    ${tools}/cnitool ${command} ${network} ${netns}`);
}

test('the conflist that the boot wrote names one plugin and the versions it takes', () => {
  const conflist = JSON.parse(node.instance.read('/etc/cni/net.d/10-eniboot.conflist') ?? '{}');
  assert.is(conflist.name, 'eniboot');
  assert.equal(
    conflist.plugins.map((plugin: any) => plugin.type),
    ['eniboot'],
  );
  assert.equal(conflist.cniVersions, ['0.4.0', '1.0.0', '1.1.0']);
});

withTools('libcni: add, check, status and del with the conflist of the boot', async () => {
  await node.sh('ip netns add one; ip netns add two');
  const one = JSON.parse(await cnitool('add', 'eniboot', '/run/netns/one'));
  const two = JSON.parse(await cnitool('add', 'eniboot', '/run/netns/two'));
  assert.is(one.cniVersion, '1.1.0', 'the highest version that both sides know');
  assert.is.not(one.ips[0].address, two.ips[0].address);
  await cnitool('check', 'eniboot', '/run/netns/one');
  await cnitool('status', 'eniboot', '/run/netns/one');
  await node.serve('one');
  const address = one.ips[0].address.split('/')[0];
  assert.is(await node.fetch('two', `http://${address}/`), two.ips[0].address.split('/')[0]);
  // cnitool gives no list: libcni then ends every attachment in its cache and calls GC without one. Ours takes an
  // absent list for a mistake and frees nothing by it.
  await node.sh('rm -r /var/lib/cni/results');
  try {
    await cnitool('gc', 'eniboot', '/run/netns/one');
    assert.unreachable('a GC without a list');
  } catch (error) {
    assert.match(String(error), /valid-attachments/);
  }
  assert.is((await node.leftovers()).filter((line) => line.startsWith('lease')).length, 2);
  await cnitool('del', 'eniboot', '/run/netns/one');
  await cnitool('del', 'eniboot', '/run/netns/two');
  assert.equal(await node.leftovers(), []);
});

withTools('libcni shows our error, code and text', async () => {
  await node.sh('ip netns add full');
  await node.sh(
    'mkdir /run/aside; mv /run/eniboot/pool/free/* /run/aside/; rm -f /run/eniboot/pool/cooling/*',
  );
  try {
    await cnitool('add', 'eniboot', '/run/netns/full');
    assert.unreachable('the pool is empty');
  } catch (error) {
    assert.match(String(error), /POOL_EXHAUSTED: no address is free on this node/);
  } finally {
    await node.sh('mv /run/aside/* /run/eniboot/pool/free/');
  }
  await cnitool('del', 'eniboot', '/run/netns/full');
});

withTools('the reference plugins tuning and portmap behind ours: the result is theirs to use', async () => {
  const list = {
    cniVersion: '1.0.0',
    name: 'chained',
    plugins: [
      { type: 'eniboot' },
      { type: 'tuning', sysctl: { 'net.ipv4.conf.IFNAME.log_martians': '1' } },
      { type: 'portmap', capabilities: { portMappings: true }, backend: 'nftables' },
    ],
  };
  node.instance.write('/etc/cni/net.d/20-chained.conflist', JSON.stringify(list));
  await node.sh('ip netns add web');
  const capabilities = `CAP_ARGS='{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'`;
  const added = JSON.parse(await cnitool('add', 'chained', '/run/netns/web', capabilities));
  assert.is(added.cniVersion, '1.0.0');
  await cnitool('check', 'chained', '/run/netns/web', capabilities);
  assert.is(
    (await node.sh('nsenter --net=/run/netns/web cat /proc/sys/net/ipv4/conf/eth0/log_martians')).trim(),
    '1',
  );
  await node.serve('web');
  const host = node.instance.bootEni.primaryIp;
  assert.is(
    await other.fetch('', `http://${host}:8080/`),
    other.instance.bootEni.primaryIp,
    'hostPort shows the client',
  );
  await cnitool('del', 'chained', '/run/netns/web', capabilities);
  assert.equal(await node.leftovers(), []);
});

test.run();
