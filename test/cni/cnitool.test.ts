// time limit: 240 s
// A real runtime's library around the plugins: cnitool (libcni) with the conflist that the boot wrote. Reference plugins are
// chained after `eniboot`, before the stages and between them. `node test/cni/fetch.ts` builds these tools; without them the
// tests are skipped with a message. Where the kernel has no ipvlan, ipvlan-plugin.ts stands in for the reference `ipvlan`.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { bootPodNode, type PodNode } from './rig.ts';
import { cnitool as callCnitool, withTools } from './with-tools.ts';

let cloud: Cloud;
let node: PodNode;
let other: PodNode;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud);
  other = await bootPodNode(cloud);
});
test.after(() => cloud.stop());

const cnitool = (command: string, network: string, netns: string, extra?: string) =>
  callCnitool(node, command, network, netns, extra);

test('the conflist that the boot wrote names one plugin and the versions that it supports', () => {
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
  // cnitool gives no list: libcni then ends every attachment in its cache and calls GC without a list. eniboot takes an
  // absent list for a mistake and frees nothing.
  await node.sh('rm -r /var/lib/cni/results');
  try {
    await cnitool('gc', 'eniboot', '/run/netns/one');
    assert.unreachable('a GC without a list must fail');
  } catch (error) {
    assert.match(String(error), /valid-attachments/);
  }
  assert.is((await node.leftovers()).filter((line) => line.startsWith('lease')).length, 2);
  await cnitool('del', 'eniboot', '/run/netns/one');
  await cnitool('del', 'eniboot', '/run/netns/two');
  assert.equal(await node.leftovers(), []);
});

withTools("libcni shows eniboot's error, code and text", async () => {
  await node.sh('ip netns add full');
  await node.sh(
    'mkdir /run/aside; mv /run/eniboot/pool/free/* /run/aside/; rm -f /run/eniboot/pool/cooling/*',
  );
  try {
    await cnitool('add', 'eniboot', '/run/netns/full');
    assert.unreachable('an ADD must fail with an empty pool');
  } catch (error) {
    assert.match(String(error), /POOL_EXHAUSTED: no address is free on this node/);
  } finally {
    await node.sh('mv /run/aside/* /run/eniboot/pool/free/');
  }
  await cnitool('del', 'eniboot', '/run/netns/full');
});

/** Writes a network configuration list onto the node. */
function writeList(name: string, cniVersion: string, plugins: object[]): void {
  const list = { cniVersion, name, plugins };
  node.instance.write(`/etc/cni/net.d/20-${name}.conflist`, JSON.stringify(list));
}

const podDevice = () => node.instance.deviceOf(node.instance.enis[1]?.id ?? '') ?? '';

withTools('the chain eniboot-ipam, ipvlan, eniboot-ptp is a pod like any other', async () => {
  const host = node.instance.bootEni.primaryIp;
  await node.serve('', 8000);
  for (const cniVersion of ['0.4.0', '1.0.0', '1.1.0']) {
    writeList('lyft', cniVersion, [{ type: 'eniboot-ipam' }, { type: 'ipvlan' }, { type: 'eniboot-ptp' }]);
    await node.sh('ip netns add l1; ip netns add l2');
    const l1 = JSON.parse(await cnitool('add', 'lyft', '/run/netns/l1'));
    const l2 = JSON.parse(await cnitool('add', 'lyft', '/run/netns/l2'));
    assert.is(l1.cniVersion, cniVersion);
    assert.equal(
      l1.interfaces.map(({ name, sandbox }: any) => [name.slice(0, 4), sandbox]),
      [
        ['eth0', '/run/netns/l1'],
        ['veth', '/run/netns/l1'],
        ['enb0', undefined],
      ],
    );
    assert.is(l1.ips[0].interface, 0);
    await cnitool('check', 'lyft', '/run/netns/l1');
    if (cniVersion === '1.1.0') await cnitool('status', 'lyft', '/run/netns/l1');
    await node.serve('l2');
    const [one, two] = [l1, l2].map((result) => result.ips[0].address.split('/')[0]);
    assert.is(await node.fetch('l1', `http://${two}/`), one);
    assert.is(await node.fetch('l1', `http://${host}:8000/`), one);
    assert.is(await node.fetch('', `http://${two}/`), host);
    await node.sh(`ip -n l1 route del default`);
    await assertRejects(
      cnitool('check', 'lyft', '/run/netns/l1'),
      /ATTACHMENT_DIFFERS: .*0\.0\.0\.0\/0|default/,
    );
    await cnitool('del', 'lyft', '/run/netns/l1');
    // A missing namespace does not stop the DELs of the chain.
    await node.sh('ip netns del l2');
    await cnitool('del', 'lyft', '/run/netns/l2');
    assert.equal(await node.leftovers(), []);
    await node.sh('ip netns del l1');
  }
});

for (const type of ['macvlan', 'ipvlan']) {
  withTools(`eniboot-ipam is the ipam of ${type}, and eniboot-ptp its link to the node`, async () => {
    const name = `own-${type}`;
    const first = {
      type,
      master: podDevice(),
      ipam: { type: 'eniboot-ipam' },
      dns: { nameservers: ['10.9.9.9'] },
    };
    writeList(name, '1.1.0', [first, { type: 'eniboot-ptp' }]);
    await node.sh(`ip netns add o; ip -n o link set lo up`);
    const added = JSON.parse(await cnitool('add', name, '/run/netns/o'));
    assert.match(added.ips[0].address, /^10\.0\.64\.\d+\/20$/);
    assert.equal(
      added.interfaces.map((one: any) => one.name.slice(0, 4)),
      ['eth0', 'veth', 'enb0'],
    );
    assert.equal(added.dns, { nameservers: ['10.9.9.9'] });
    await cnitool('check', name, '/run/netns/o');
    await cnitool('status', name, '/run/netns/o');
    await node.serve('o');
    const address = added.ips[0].address.split('/')[0];
    assert.is(await node.fetch('', `http://${address}/`), node.instance.bootEni.primaryIp);
    assert.match((await node.leftovers()).join('\n'), new RegExp(`lease ${address},`));
    await cnitool('del', name, '/run/netns/o');
    assert.equal(await node.leftovers(), []);

    // No address is lost, whether the interface plugin fails before or after it called its delegate.
    await node.sh('ip -n o link add eth0 type veth peer name busy');
    await assertRejects(cnitool('add', name, '/run/netns/o'), /exist/);
    assert.equal(await node.leftovers(), []);
    await node.sh('ip -n o link del eth0');
    // Without `master` the plugin takes the device of the default route: the boot ENI.
    writeList(name, '1.1.0', [{ ...first, master: node.instance.deviceOf(node.instance.bootEni.id) }]);
    await assertRejects(
      cnitool('add', name, '/run/netns/o'),
      new RegExp(`is not the device of a pod ENI; these are: ${podDevice()}`),
    );
    // Runtimes call DEL after a failed ADD: the reference plugin leaves its interface until then.
    await cnitool('del', name, '/run/netns/o');
    writeList(name, '1.1.0', [{ ...first, master: undefined }]);
    await assertRejects(cnitool('add', name, '/run/netns/o'), /master: is missing|chained master failure/);
    assert.equal(await node.leftovers(), []);
    await node.sh('ip netns del o');
  });
}

async function assertRejects(work: Promise<unknown>, says: RegExp): Promise<void> {
  const said = await work.then(
    () => 'it succeeded',
    (error: unknown) => String(error),
  );
  assert.ok(says.test(said), said);
}

withTools('the reference plugins tuning, portmap and firewall work after eniboot in the chain', async () => {
  writeList('chained', '1.0.0', [
    { type: 'eniboot' },
    { type: 'tuning', sysctl: { 'net.ipv4.conf.IFNAME.log_martians': '1' } },
    { type: 'portmap', capabilities: { portMappings: true }, backend: 'nftables' },
    { type: 'firewall', backend: 'iptables' },
  ]);
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
  assert.match(await node.sh('iptables -S CNI-FORWARD'), new RegExp(added.ips[0].address.split('/')[0]));
  await cnitool('del', 'chained', '/run/netns/web', capabilities);
  assert.equal(await node.leftovers(), []);
});

for (const backend of ['iptables', 'nftables']) {
  withTools(
    `portmap (${backend}) after eniboot: a hostPort serves pods of its own node, and no packet takes a wrong way`,
    async () => {
      writeList('ported', '1.0.0', [
        { type: 'eniboot' },
        { type: 'portmap', capabilities: { portMappings: true }, backend },
      ]);
      await node.sh('ip netns add server; ip netns add client');
      const capabilities = `CAP_ARGS='{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'`;
      await cnitool('add', 'ported', '/run/netns/server', capabilities);
      const client = JSON.parse(await cnitool('add', 'eniboot', '/run/netns/client'));
      await node.serve('server');
      const host = node.instance.bootEni.primaryIp;
      assert.is(await node.fetch('client', `http://${host}:8080/`), client.ips[0].address.split('/')[0]);
      // portmap marks packets that it masquerades. An eniboot mark in the same bits would send them by the main table, past the pod's ENI.
      const inServer = 'nsenter --net=/run/netns/server';
      assert.match(await node.sh(`${inServer} grep veth0: /proc/net/dev`), /veth0: +0 +0 /);
      await cnitool('del', 'eniboot', '/run/netns/client');
      await cnitool('del', 'ported', '/run/netns/server', capabilities);
      assert.equal(await node.leftovers(), []);
      await node.sh('kill $(ip netns pids server); ip netns del server; ip netns del client');
    },
  );
}

withTools(
  'bandwidth after eniboot passes on a pod without limits, and refuses limits and CHECK because it finds no veth',
  async () => {
    writeList('limited', '1.0.0', [
      { type: 'eniboot' },
      { type: 'bandwidth', capabilities: { bandwidth: true } },
    ]);
    await node.sh('ip netns add bw');
    const added = JSON.parse(await cnitool('add', 'limited', '/run/netns/bw'));
    assert.is(added.interfaces.length, 3);
    await assertRejects(cnitool('check', 'limited', '/run/netns/bw'), /no veth peer of container interface/);
    await cnitool('del', 'limited', '/run/netns/bw');
    const limits = `CAP_ARGS='{"bandwidth":{"ingressRate":1000000,"ingressBurst":1000000}}'`;
    await assertRejects(
      cnitool('add', 'limited', '/run/netns/bw', limits),
      /no veth peer of container interface/,
    );
    await cnitool('del', 'limited', '/run/netns/bw', limits);
    assert.equal(await node.leftovers(), []);
  },
);

withTools('sbr after eniboot: routes by source, and a DEL that leaves nothing', async () => {
  writeList('by-source', '1.0.0', [{ type: 'eniboot' }, { type: 'sbr' }]);
  await node.sh('ip netns add s');
  const added = JSON.parse(await cnitool('add', 'by-source', '/run/netns/s'));
  const address = added.ips[0].address.split('/')[0];
  assert.match(await node.sh('ip -n s rule'), new RegExp(`from ${address} lookup 100`));
  assert.match(await node.sh('ip -n s route show table 100'), /default via 10\.0\.64\.1 dev eth0/);
  await cnitool('del', 'by-source', '/run/netns/s');
  assert.equal(await node.leftovers(), []);
});

test.run();
