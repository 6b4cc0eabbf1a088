// time limit: 240 s
// The stages by themselves: eniboot-ipam as a delegate and as the first of a chain, eniboot-ptp after another plugin's
// interface. A stand-in for the reference plugin ipvlan makes that interface; cnitool.test.ts tests with the real
// plugins.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { supportedVersions } from '../../cni/call.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { type Answer, bootPodNode, INTERFACE_PLUGINS, type PodNode, variablesOf } from './rig.ts';

let cloud: Cloud;
let node: PodNode;
let device: string;

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud, { config: configText(cloud, 'pool: { target: 32, restSeconds: 0 }\n') });
  device = node.instance.deviceOf(node.instance.enis[1]?.id ?? '') ?? '';
});
test.after(() => cloud.stop());

const ipamConf = { cniVersion: '1.1.0', name: 'pods', type: 'eniboot-ipam' };
const ptpConf = { cniVersion: '1.1.0', name: 'pods', type: 'eniboot-ptp' };
const delegating = () => ({
  cniVersion: '1.1.0',
  name: 'pods',
  type: 'ipvlan',
  master: device,
  ipam: { type: 'eniboot-ipam' },
});
const ipam = (command: string, name: string, config: unknown = ipamConf) =>
  node.cni(command, variablesOf(name, `/run/netns/${name}`), config, 'eniboot-ipam');
const ptp = (command: string, name: string, config: unknown = ptpConf) =>
  node.cni(command, variablesOf(name, `/run/netns/${name}`), config, 'eniboot-ptp');

function succeeds(answer: Answer): void {
  assert.is(answer.exit, 0, answer.stdout + answer.stderr);
  assert.is(answer.stderr, '');
}

function refuses(answer: Answer, code: number, says: RegExp): void {
  assert.is(answer.json?.code, code, answer.stdout);
  assert.match(answer.json.msg, says, answer.stdout);
  assert.is.not(answer.exit, 0);
  assert.is(answer.stderr, '');
}

/** Calls the plugin in the middle of the chain. */
async function makeInterface(name: string, prevResult: any): Promise<any> {
  const config = { ...delegating(), cniVersion: prevResult.cniVersion, ipam: undefined, prevResult };
  const answer = await node.cni(
    'ADD',
    variablesOf(name, `/run/netns/${name}`),
    config,
    `${INTERFACE_PLUGINS}/ipvlan`,
  );
  succeeds(answer);
  return answer.json;
}

/** Makes a pod with the chain; returns the result of its last plugin. */
async function addChained(name: string): Promise<any> {
  await node.sh(`ip netns add ${name}`);
  const first = await ipam('ADD', name);
  succeeds(first);
  const second = await makeInterface(name, first.json);
  const third = await ptp('ADD', name, { ...ptpConf, prevResult: second });
  succeeds(third);
  return third.json;
}

/** DEL in a runtime's order: last plugin first. */
async function delChained(name: string): Promise<void> {
  succeeds(await ptp('DEL', name));
  await node.sh(`ip -n ${name} link del eth0 2>/dev/null || :`);
  succeeds(await ipam('DEL', name));
}

test('the boot installs the stages beside the plugin', async () => {
  const listed = await node.sh(
    'cd /opt/cni/bin; for one in eniboot*; do echo "$one $(readlink "$one")"; done',
  );
  const target = '/usr/libexec/eniboot/current/eniboot';
  assert.equal(listed.trim().split('\n'), [
    `eniboot ${target}`,
    `eniboot-ipam ${target}`,
    `eniboot-policy ${target}`,
    `eniboot-ptp ${target}`,
  ]);
});

test('eniboot-policy passes prevResult on, and requires it', async () => {
  await node.sh('ip netns add handed');
  const variables = variablesOf('handed', '/run/netns/handed');
  const prevResult = { cniVersion: '1.1.0', ips: [{ address: '10.0.64.5/20' }], dns: {} };
  const config = { cniVersion: '1.1.0', name: 'chain', type: 'eniboot-policy' };
  const given = await node.cni('ADD', variables, { ...config, prevResult }, 'eniboot-policy');
  assert.equal([given.exit, given.json], [0, prevResult]);
  const alone = await node.cni('ADD', variables, config, 'eniboot-policy');
  assert.equal([alone.exit, alone.json.code], [1, 7]);
  for (const command of ['CHECK', 'DEL'])
    assert.is(
      (await node.cni(command, variables, { ...config, prevResult }, 'eniboot-policy')).exit,
      0,
      command,
    );
  await node.sh('ip netns del handed');
});

test('VERSION of each', async () => {
  for (const plugin of ['eniboot', 'eniboot-ipam', 'eniboot-ptp']) {
    const { json } = await node.cni('VERSION', {}, '', plugin);
    assert.equal(json, { cniVersion: '1.1.0', supportedVersions: [...supportedVersions] });
  }
});

test('an error names its plugin', async () => {
  refuses(await node.cni('ADD', {}, '', 'eniboot-ptp'), 4, /^eniboot-ptp: CNI_ENVIRONMENT: /);
  refuses(await node.cni('ADD', {}, '', 'eniboot-ipam'), 4, /^eniboot-ipam: CNI_ENVIRONMENT: /);
});

test('as a delegate: address, routes and DNS in the form of every version, and no interface', async () => {
  await node.sh('ip netns add d');
  const dns = { nameservers: ['172.20.0.10'], search: ['svc.cluster.local'] };
  for (const cniVersion of supportedVersions) {
    const { json, exit, stdout } = await ipam('ADD', 'd', { ...delegating(), cniVersion, dns });
    assert.is(exit, 0, stdout);
    const { address } = json.ips?.[0] ?? { address: json.ip4.ip };
    assert.match(address, /^10\.0\.64\.\d+\/20$/);
    const routes = ['10.0.0.0/16', '100.64.0.0/16'].map((dst) => ({ dst, gw: '10.0.64.1' }));
    assert.equal(
      json,
      cniVersion < '0.3.0'
        ? { cniVersion, ip4: { ip: address, gateway: '10.0.64.1', routes }, dns }
        : {
            cniVersion,
            ips: [{ ...(cniVersion < '1.0.0' ? { version: '4' } : {}), address, gateway: '10.0.64.1' }],
            routes,
            dns,
          },
    );
    succeeds(await ipam('DEL', 'd', { ...delegating(), cniVersion }));
  }
  assert.equal(await node.leftovers(), []);
});

test('as the first of a chain its result names the device of the ENI, in every version that has interfaces', async () => {
  await node.sh('ip netns add h');
  for (const cniVersion of supportedVersions) {
    const { json } = await ipam('ADD', 'h', { ...ipamConf, cniVersion });
    const [, eni] = node.instance.enis;
    const mtu = cniVersion === '1.1.0' ? { mtu: 9001 } : {};
    assert.equal(
      json.interfaces,
      cniVersion < '0.3.0' ? undefined : [{ name: device, mac: eni?.mac, ...mtu }],
    );
    assert.is(json.ips?.[0].interface, undefined, 'the address is on no interface yet');
    succeeds(await ipam('DEL', 'h', { ...ipamConf, cniVersion }));
  }
});

test('the address belongs to the ENI whose device is master; another master, or none for ipvlan, is error 7', async () => {
  await node.sh('ip netns add m');
  const boot = node.instance.deviceOf(node.instance.bootEni.id);
  for (const master of [boot, 'nosuch', 7, { name: device }, '../lo']) {
    refuses(await ipam('ADD', 'm', { ...delegating(), master }), 7, new RegExp(`master: .*: ${device}`));
  }
  for (const type of ['ipvlan', 'macvlan']) {
    for (const master of [undefined, '', null]) {
      refuses(await ipam('ADD', 'm', { ...delegating(), type, master }), 7, /master: is missing: .*boot ENI/);
    }
  }
  // A plugin without a master device gets an address of the first ENI with a free one.
  const { json } = await ipam('ADD', 'm', { ...delegating(), type: 'ptp', master: undefined });
  assert.match(json.ips[0].address, /^10\.0\.64\./);
  succeeds(await ipam('DEL', 'm', delegating()));
  assert.equal(await node.leftovers(), []);
});

test('requests that only another address plugin could grant are error 2, which names their path', async () => {
  await node.sh('ip netns add r');
  const asked: [string, unknown, unknown, RegExp][] = [
    [
      'eniboot-ipam',
      { ...delegating(), ipam: { type: 'eniboot-ipam', subnet: '10.1.0.0/24' } },
      {},
      /ipam\.subnet/,
    ],
    [
      'eniboot-ipam',
      { ...delegating(), ipam: { type: 'eniboot-ipam', addresses: [{}] } },
      {},
      /ipam\.addresses/,
    ],
    ['eniboot-ipam', { ...delegating(), runtimeConfig: { ips: ['10.0.64.9/20'] } }, {}, /runtimeConfig\.ips/],
    ['eniboot-ipam', ipamConf, { CNI_ARGS: 'IP=10.0.64.9' }, /CNI_ARGS IP/],
    ['eniboot-ipam', { ...ipamConf, ipam: { type: 'host-local' } }, {}, /ipam/],
    ['eniboot-ptp', { ...ptpConf, ipam: { type: 'host-local' } }, {}, /ipam/],
    ['eniboot-ptp', { ...ptpConf, ipMasq: true }, {}, /ipMasq/],
  ];
  for (const [plugin, config, variables, says] of asked) {
    const answer = await node.cni(
      'ADD',
      { ...variablesOf('r', '/run/netns/r'), ...(variables as Record<string, string>) },
      config,
      plugin,
    );
    refuses(answer, 2, says);
  }
  const chained = { ...ipamConf, prevResult: { cniVersion: '1.1.0' } };
  refuses(await ipam('ADD', 'r', chained), 7, /prevResult: eniboot-ipam chooses the device/);
  assert.equal(await node.leftovers(), []);
});

test('a second ADD of the same interface is error 101 and does not change the first', async () => {
  const result = await addChained('twice');
  const before = await node.leftovers();
  refuses(await ipam('ADD', 'twice'), 101, /already/);
  const { interfaces, ...rest } = result;
  const prevResult = { ...rest, interfaces: interfaces.slice(0, 1) };
  refuses(await ptp('ADD', 'twice', { ...ptpConf, prevResult }), 101, /already/);
  assert.equal(await node.leftovers(), before);
  await delChained('twice');
});

test('a pod of the chain is reached from the node, from pods of both kinds, and by Services', async () => {
  await addChained('c1');
  const chained = await addChained('c2');
  const whole = await node.addPod('w');
  const address = chained.ips[0].address.split('/')[0];
  await Promise.all([node.serve('c2'), node.serve('w'), node.serve('', 8000)]);
  const host = node.instance.bootEni.primaryIp;
  assert.is(await node.fetch('', `http://${address}/`), host);
  assert.is(await node.fetch('c2', `http://${host}:8000/`), address);
  assert.is(await node.fetch('c2', `http://${whole.address}/`), address);
  assert.is(await node.fetch('w', `http://${address}/`), whole.address);
  assert.is(await node.fetch('c2', cloud.internet.curlTarget), node.instance.bootEni.publicIp);
  await node.sh(`nft -f - <<'EOF'
table ip proxy {
  chain prerouting { type nat hook prerouting priority dstnat; ip daddr 172.20.0.10 tcp dport 80 dnat to ${whole.address}; }
}
EOF`);
  assert.is(await node.fetch('c2', 'http://172.20.0.10/'), address, "the backend sees the pod's address");
  await node.sh('nft delete table ip proxy');
  succeeds(await node.cni('DEL', variablesOf('w', whole.netns)));
  await delChained('c1');
  await delChained('c2');
  assert.equal(await node.leftovers(), []);
});

test('eniboot-ptp passes prevResult on with two more interfaces and its default route, in every version', async () => {
  for (const cniVersion of supportedVersions.filter((version) => version >= '0.3.0')) {
    await node.sh('ip netns add x');
    const first = await ipam('ADD', 'x', { ...ipamConf, cniVersion });
    const second = await makeInterface('x', first.json);
    // An interface and an address of another plugin, an unknown key, and a default route that eniboot-ptp replaces.
    const other = { name: 'net1', mac: '02:00:00:00:00:02', sandbox: '/run/netns/x' };
    const prevResult = {
      ...second,
      interfaces: [other, ...second.interfaces],
      ips: [
        { ...second.ips[0], address: '192.0.2.9/24', interface: 0 },
        { ...second.ips[0], interface: 1 },
      ],
      routes: [...second.routes, { dst: '0.0.0.0/0', gw: '10.0.64.1' }],
      dns: { nameservers: ['172.20.0.10'] },
      future: { key: 1 },
    };
    const { json, exit, stdout } = await ptp('ADD', 'x', { ...ptpConf, cniVersion, prevResult });
    assert.is(exit, 0, stdout);
    assert.is(json.cniVersion, cniVersion);
    assert.equal(json.ips, prevResult.ips);
    assert.equal(json.dns, prevResult.dns);
    assert.equal(json.future, { key: 1 });
    assert.equal(json.interfaces.slice(0, 2), prevResult.interfaces);
    assert.equal(
      json.interfaces.slice(2).map(({ name, sandbox, mtu }: any) => [name.slice(0, 3), sandbox, mtu]),
      [
        ['vet', '/run/netns/x', cniVersion === '1.1.0' ? 9001 : undefined],
        ['enb', undefined, cniVersion === '1.1.0' ? 9001 : undefined],
      ],
    );
    for (const ip of json.ips) assert.ok(json.interfaces[ip.interface] !== undefined);
    assert.equal(
      json.routes.filter((route: any) => route.dst === '0.0.0.0/0'),
      [{ dst: '0.0.0.0/0', gw: node.instance.bootEni.primaryIp }],
    );
    await delChained('x');
    await node.sh('ip netns del x');
  }
  for (const cniVersion of ['0.1.0', '0.2.0']) {
    await node.sh('ip netns add x');
    const { json: first } = await ipam('ADD', 'x', { ...ipamConf, cniVersion });
    await makeInterface('x', {
      ips: [{ address: first.ip4.ip, gateway: first.ip4.gateway }],
      routes: first.ip4.routes,
    });
    const { json } = await ptp('ADD', 'x', { ...ptpConf, cniVersion, prevResult: first });
    assert.equal(json, {
      cniVersion,
      ip4: {
        ...first.ip4,
        routes: [...first.ip4.routes, { dst: '0.0.0.0/0', gw: node.instance.bootEni.primaryIp }],
      },
    });
    await delChained('x');
    await node.sh('ip netns del x');
  }
});

test('eniboot-ptp refuses a prevResult of another pod, names its path, and changes nothing', async () => {
  await node.sh('ip netns add p');
  refuses(await ptp('ADD', 'p'), 7, /prevResult: is missing/);
  refuses(
    await ptp('ADD', 'p', { ...ptpConf, prevResult: { ips: [] } }),
    7,
    /"ipam": \{"type": "eniboot-ipam"\}/,
  );
  const first = await ipam('ADD', 'p');
  const good = await makeInterface('p', first.json);
  const before = await node.leftovers();
  const wrong: [unknown, RegExp][] = [
    ['text', /prevResult: is missing/],
    [{ ...good, ips: [] }, /prevResult: does not hold 10\.0\.64\.\d+\/20/],
    [{ ...good, ips: 'none' }, /prevResult: does not hold/],
    [{ ...good, ips: [{ ...good.ips[0], address: '192.0.2.1/24' }] }, /prevResult: does not hold/],
    [{ ...good, ips: [...good.ips, null] }, /prevResult\.ips\[1\]: is not an object/],
    [
      { ...good, ips: [{ ...good.ips[0], interface: 1 }] },
      /prevResult\.ips\[0\]\.interface: 1 is not the index/,
    ],
    [{ ...good, ips: [{ ...good.ips[0], interface: -1 }] }, /interface: -1 is not the index/],
    [{ ...good, interfaces: {} }, /prevResult\.interfaces: is not a list/],
    [{ ...good, interfaces: [{ name: 'eth7', sandbox: '/run/netns/p' }] }, /is on "eth7"/],
    [{ ...good, interfaces: [{ name: 'eth0' }] }, /is on "eth0", not on the container's eth0/],
    [{ ...good, routes: 'all' }, /prevResult\.routes: is not a list/],
  ];
  for (const [prevResult, says] of wrong) {
    refuses(await ptp('ADD', 'p', { ...ptpConf, prevResult }), 7, says);
    assert.equal(await node.leftovers(), before);
  }
  await delChained('p');
});

test('when any operation of eniboot-ptp is refused, it leaves the earlier interface and nothing of its own', async () => {
  await node.sh('ip netns add f');
  const first = await ipam('ADD', 'f');
  const prevResult = await makeInterface('f', first.json);
  const before = await node.leftovers();
  const links = await node.sh('ip -n f -br link show type veth');
  let steps = 0;
  for (let step = 1; ; step += 1) {
    node.failAt(step);
    const answer = await ptp('ADD', 'f', { ...ptpConf, prevResult });
    if (answer.exit === 0) {
      steps = step - 1;
      break;
    }
    refuses(answer, 100, /Refused by the stand-in/);
    assert.equal(await node.leftovers(), before, `after a refusal of operation ${step}`);
    assert.is(await node.sh('ip -n f -br link show type veth'), links, `in the pod, operation ${step}`);
    assert.match(await node.sh('ip -n f -br addr show eth0'), /10\.0\.64\./);
  }
  node.failAt(undefined);
  assert.ok(steps >= 16, `${steps} operations were refused`);
  await delChained('f');
  assert.equal(await node.leftovers(), []);
});

test('CHECK of each stage names the wrong parts of that stage', async () => {
  const prevResult = await addChained('k');
  const address = prevResult.ips[0].address.split('/')[0];
  succeeds(await ipam('CHECK', 'k', { ...ipamConf, prevResult }));
  succeeds(await ipam('CHECK', 'k', { ...delegating(), prevResult }));
  succeeds(await ptp('CHECK', 'k', { ...ptpConf, prevResult }));
  refuses(await ipam('CHECK', 'k'), 7, /prevResult: CHECK needs/);
  refuses(await ptp('CHECK', 'k'), 7, /prevResult: CHECK needs/);
  const other = { ...prevResult, ips: [{ address: '10.0.64.250/20' }] };
  refuses(await ipam('CHECK', 'k', { ...ipamConf, prevResult: other }), 102, /prevResult does not hold/);
  refuses(await ipam('CHECK', 'k', { ...delegating(), master: 'lo', prevResult }), 7, /master/);
  const host = node.instance.bootEni.primaryIp;
  await node.sh('ip -n k route del default');
  refuses(await ptp('CHECK', 'k', { ...ptpConf, prevResult }), 102, /0\.0\.0\.0\/0|default/);
  await node.sh(`ip -n k route add default via ${host} dev veth0 src ${address} proto 140`);
  succeeds(await ptp('CHECK', 'k', { ...ptpConf, prevResult }));
  await node.sh('ip -n k addr flush dev eth0');
  refuses(await ptp('CHECK', 'k', { ...ptpConf, prevResult }), 102, new RegExp(`address ${address}`));
  await delChained('k');
  refuses(await ipam('CHECK', 'k', { ...ipamConf, prevResult }), 102, /has no address for eth0/);
  refuses(await ptp('CHECK', 'k', { ...ptpConf, prevResult }), 102, /has no address for eth0/);
});

test('DEL of each stage succeeds in any order, twice, without namespace, lease or prevResult', async () => {
  await addChained('e1');
  await delChained('e1');
  await delChained('e1');
  // The interface plugin calls its delegate and then removes its link; the link to the node is gone with it.
  await addChained('e2');
  succeeds(await ipam('DEL', 'e2', delegating()));
  assert.equal(await node.leftovers(), [], 'no address is free while the kernel has its rules');
  succeeds(await ptp('DEL', 'e2'));
  await addChained('e3');
  await node.sh('ip netns del e3');
  succeeds(await node.cni('DEL', variablesOf('e3', ''), ptpConf, 'eniboot-ptp'));
  assert.match((await node.leftovers()).join('\n'), /^lease .*,e3,eth0$/, 'only eniboot-ipam ends the lease');
  succeeds(await node.cni('DEL', variablesOf('e3', '/run/netns/gone'), ipamConf, 'eniboot-ipam'));
  assert.equal(await node.leftovers(), []);
});

test('`eniboot` ends pods of the chain, and the chain ends pods of `eniboot`, after a change of the conflist', async () => {
  await addChained('old');
  await node.addPod('new');
  succeeds(await node.cni('DEL', variablesOf('old', '/run/netns/old')));
  await delChained('new');
  assert.equal(await node.leftovers(), []);
  assert.is(await node.sh("ip -n new -br link | grep -v '^lo' || :"), '');
});

test('GC of one network ends none of the leases of another that shares the pool', async () => {
  const networkOf = (name: string) => ({ ...ipamConf, name });
  await node.sh('ip netns add a; ip netns add b; ip netns add c');
  succeeds(await ipam('ADD', 'a', networkOf('alpha')));
  succeeds(await ipam('ADD', 'b', networkOf('beta')));
  succeeds(await node.cni('ADD', variablesOf('c', '/run/netns/c'), { cniVersion: '1.1.0', name: 'gamma' }));
  const gc = (plugin: string, name: string, valid: string[]) =>
    node.cni(
      'GC',
      {},
      {
        cniVersion: '1.1.0',
        name,
        'cni.dev/valid-attachments': valid.map((containerID) => ({ containerID, ifname: 'eth0' })),
      },
      plugin,
    );
  const leased = async () =>
    (await node.leftovers())
      .flatMap((line) => (line.startsWith('lease') ? line.split(',')[2] : []))
      .sort()
      .join(' ');
  await node.ageLeases();
  succeeds(await gc('eniboot-ipam', 'other', []));
  assert.is(await leased(), 'a b c');
  succeeds(await gc('eniboot-ipam', 'alpha', ['a']));
  assert.is(await leased(), 'a b c');
  succeeds(await gc('eniboot-ipam', 'alpha', []));
  assert.is(await leased(), 'b c');
  // Of the same network, any of the plugins ends it; eniboot-ptp ends only its own parts.
  const host = (await node.leftovers()).find((line) => line.startsWith('link'));
  succeeds(await gc('eniboot-ptp', 'beta', []));
  assert.is(await leased(), 'b c');
  assert.ok((await node.leftovers()).includes(host ?? 'none'), "another network's link stays");
  succeeds(await gc('eniboot-ptp', 'gamma', []));
  assert.is(await leased(), 'b c');
  assert.not.ok((await node.leftovers()).some((line) => line.startsWith('link')));
  succeeds(await gc('eniboot', 'beta', []));
  succeeds(await gc('eniboot-ipam', 'gamma', []));
  assert.equal(await node.leftovers(), []);
});

test("GC ends the lease of an ADD that was killed before its note, in any network, and keeps a live pod's lease without a note", async () => {
  const pod = await node.addPod('kept');
  const [free = ''] = (await node.sh('cd /run/eniboot/pool; ls -d free/*')).trim().split('\n');
  const [address, eni] = free.slice('free/'.length).split(',');
  await node.sh(`cd /run/eniboot/pool
    mv ${free} leased/${address},${eni},killed,eth0
    for one in leased/${pod.address},*; do : >"$one"; done`);
  const gc = await node.cni(
    'GC',
    {},
    { ...ipamConf, name: 'any', 'cni.dev/valid-attachments': [] },
    'eniboot-ipam',
  );
  succeeds(gc);
  const leases = (await node.leftovers()).filter((line) => line.startsWith('lease'));
  assert.equal(
    leases.map((line) => line.split(',')[2]),
    ['kept'],
  );
  succeeds(await node.cni('DEL', variablesOf('kept', pod.netns)));
});

test("GC keeps the lease of another network's ADD that has not written its note yet", async () => {
  const [free = ''] = (await node.sh('cd /run/eniboot/pool; ls -d free/*')).trim().split('\n');
  const [address, eni] = free.slice('free/'.length).split(',');
  const lease = `leased/${address},${eni},slow,eth0`;
  await node.sh(`cd /run/eniboot/pool; mv ${free} ${lease}`);
  const [gc] = await Promise.all([
    node.cni('GC', {}, { ...ipamConf, name: 'any', 'cni.dev/valid-attachments': [] }, 'eniboot-ipam'),
    node.sh(`sleep 0.5; [ ! -e /run/eniboot/pool/${lease} ] ||
      printf 'slow\n/run/netns/slow\nother\n\n{}\n' >/run/eniboot/pool/${lease}`),
  ]);
  succeeds(gc);
  assert.equal(await node.leftovers(), [`lease ${lease.slice('leased/'.length)}`]);
  succeeds(await node.cni('DEL', variablesOf('slow', '')));
});

test('STATUS of the stages: the node, and for eniboot-ipam the ENI of its master', async () => {
  succeeds(await node.cni('STATUS', {}, ipamConf, 'eniboot-ipam'));
  succeeds(await node.cni('STATUS', {}, delegating(), 'eniboot-ipam'));
  succeeds(await node.cni('STATUS', {}, ptpConf, 'eniboot-ptp'));
  refuses(await node.cni('STATUS', {}, { ...delegating(), master: 'lo' }, 'eniboot-ipam'), 7, /master/);
  refuses(await node.cni('STATUS', {}, { ...ipamConf, cniVersion: '1.0.0' }, 'eniboot-ipam'), 1, /STATUS/);
  await node.sh(`ip link set ${device} down`);
  refuses(await node.cni('STATUS', {}, delegating(), 'eniboot-ipam'), 50, /POD_ENI_DOWN: /);
  refuses(await node.cni('STATUS', {}, ptpConf, 'eniboot-ptp'), 50, /no pod ENI/);
  await node.sh(`ip link set ${device} up; mv /run/eniboot/node.json /run/eniboot/node.away`);
  refuses(await node.cni('STATUS', {}, ipamConf, 'eniboot-ipam'), 50, /node\.json/);
  refuses(await node.cni('STATUS', {}, ptpConf, 'eniboot-ptp'), 50, /node\.json/);
  refuses(await ipam('ADD', 'd'), 11, /NODE_NOT_READY/);
  await node.sh('mv /run/eniboot/node.away /run/eniboot/node.json');
});

test.run();
