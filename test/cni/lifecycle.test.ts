// time limit: 300 s
// The remains of an attachment: after DEL, without its namespace, after a reboot, after a failure at every step of an ADD;
// and the answers of CHECK, STATUS and GC.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { type Answer, bootPodNode, conf, type PodNode, podNode, variablesOf } from './rig.ts';

let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud();
  // No rest, so that tests may use addresses again. Other tests test resting.
  node = await bootPodNode(cloud, { config: configText(cloud, 'pool: { target: 32, restSeconds: 0 }\n') });
});
test.after(() => cloud.stop());

const del = (name: string, netns = `/run/netns/${name}`) => node.cni('DEL', variablesOf(name, netns));

function succeeds(answer: Answer): void {
  assert.is(answer.exit, 0, answer.stdout + answer.stderr);
  assert.is(answer.json, undefined);
  assert.is(answer.stderr, '');
}

function refuses(answer: Answer, code: number, says: RegExp): void {
  assert.is(answer.json?.code, code, answer.stdout);
  assert.match(answer.json.msg, says, answer.stdout);
  assert.is.not(answer.exit, 0);
  assert.is(answer.stderr, '');
}

async function insideOf(name: string): Promise<string> {
  return node.sh(`cd /run/netns; ip -n ${name} -br link | grep -v '^lo' || :; ip -n ${name} rule | grep ^1024 || :
    for family in -4 -6; do ip -n ${name} $family route show table all proto 140; done
    nsenter --net=${name} nft list tables`);
}

test('the result of every version has the form of that version', async () => {
  await node.sh('ip netns add v');
  for (const cniVersion of ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0']) {
    const dns = { nameservers: ['10.96.0.10'] };
    const { json, exit } = await node.cni('ADD', variablesOf('v', '/run/netns/v'), {
      ...conf,
      cniVersion,
      dns,
    });
    assert.is(exit, 0);
    assert.is(json.cniVersion, cniVersion);
    assert.equal(json.dns, dns);
    if (cniVersion < '0.3.0') {
      assert.match(json.ip4.ip, /^10\.0\.64\.\d+\/20$/);
      assert.is(json.ip4.gateway, '10.0.64.1');
      assert.equal(json.ip4.routes.at(-1), { dst: '0.0.0.0/0', gw: node.instance.bootEni.primaryIp });
      assert.is(json.interfaces, undefined);
    } else {
      const [eth0, veth0, host] = json.interfaces;
      assert.is(eth0.name, 'eth0');
      assert.is(eth0.mac, node.instance.enis[1]?.mac);
      assert.is(eth0.sandbox, '/run/netns/v');
      assert.is(veth0.sandbox, '/run/netns/v');
      assert.is(host.sandbox, undefined);
      assert.is(eth0.mtu, cniVersion === '1.1.0' ? 9001 : undefined);
      assert.is(json.ips[0].interface, 0);
      assert.is(json.ips[0].version, cniVersion < '1.0.0' ? '4' : undefined);
      assert.match(json.ips[0].address, /^10\.0\.64\.\d+\/20$/);
      assert.equal(
        json.routes.map((route: any) => route.dst),
        ['10.0.0.0/16', '100.64.0.0/16', '0.0.0.0/0'],
      );
    }
    succeeds(await del('v'));
  }
  assert.equal(await node.leftovers(), []);
  assert.is(await insideOf('v'), '');
});

test('DEL may be called again, and without the namespace', async () => {
  const pod = await node.addPod('d1');
  assert.is.not((await node.leftovers()).length, 0);
  succeeds(await del('d1'));
  succeeds(await del('d1'));
  await node.addPod('d2');
  await node.sh('ip netns del d2');
  succeeds(await del('d2'));
  await node.addPod('d3');
  succeeds(await del('d3', ''));
  assert.is(await insideOf('d3'), '', "DEL has found the namespace by ADD's note");
  await node.addPod('d4');
  succeeds(await del('d4', '/run/netns/gone'));
  assert.is(await insideOf('d4'), '');
  assert.equal(await node.leftovers(), []);
  assert.match(
    await node.sh('ls /run/eniboot/pool/cooling'),
    new RegExp(`^${pod.address},eni-[0-9a-f]+,\\d+$`, 'm'),
  );
});

test('DEL with a path that now leads to another pod does not change that pod', async () => {
  await node.addPod('old');
  const other = await node.addPod('new');
  await node.sh('ip netns del old');
  succeeds(await del('old', '/run/netns/new'));
  await node.serve('new');
  assert.is(await node.fetch('', `http://${other.address}/`), node.instance.bootEni.primaryIp);
  const check = await node.cni('CHECK', variablesOf('new', '/run/netns/new'), {
    ...conf,
    prevResult: other.result,
  });
  succeeds(check);
  succeeds(await del('new'));
});

test('DEL with a path that leads elsewhere ends the attachment where ADD made it', async () => {
  await node.addPod('here');
  await node.sh('ip netns add elsewhere');
  succeeds(await del('here', '/run/netns/elsewhere'));
  assert.is(await insideOf('here'), '');
  assert.equal(await node.leftovers(), []);
});

test('DEL ends only its own lease, and does not use prevResult', async () => {
  const pod = await node.addPod('mine');
  const answer = await node.cni('DEL', variablesOf('stranger', '/run/netns/mine'), {
    ...conf,
    prevResult: pod.result,
  });
  succeeds(answer);
  assert.match((await node.leftovers()).join('\n'), /lease .*,mine,eth0/);
  succeeds(await del('mine'));
});

test('a second ADD of the same interface is refused and changes nothing', async () => {
  const pod = await node.addPod('twice');
  const before = await node.leftovers();
  refuses(await node.cni('ADD', variablesOf('twice', pod.netns)), 101, /already/);
  // The same namespace with another container ID: its eth0 exists, for any caller.
  refuses(await node.cni('ADD', variablesOf('other', pod.netns)), 101, /already/);
  assert.equal(await node.leftovers(), before);
  await node.sh('ip netns add taken; ip -n taken link add eth0 type veth peer name other');
  const inside = await insideOf('taken');
  refuses(await node.cni('ADD', variablesOf('taken', '/run/netns/taken')), 101, /already/);
  assert.is(await insideOf('taken'), inside);
  succeeds(await node.cni('CHECK', variablesOf('twice', pod.netns), { ...conf, prevResult: pod.result }));
  succeeds(await del('twice'));
});

test('an ADD leaves nothing when any of its operations is refused, in the pod or on the node', async () => {
  await node.sh('ip netns add f');
  const free = await node.sh('ls /run/eniboot/pool/free /run/eniboot/pool/cooling');
  const codes = new Set<string>();
  let steps = 0;
  for (let step = 1; ; step += 1) {
    node.failAt(step);
    const answer = await node.cni('ADD', variablesOf('f', '/run/netns/f'));
    if (answer.exit === 0) {
      steps = step - 1;
      break;
    }
    refuses(answer, 100, /Refused by the stand-in/);
    codes.add(/^eniboot: (\w+)/.exec(answer.json.msg)?.[1] ?? '');
    assert.equal(await node.leftovers(), [], `after a refusal of operation ${step}`);
    assert.is(await insideOf('f'), '', `in the pod, operation ${step}`);
    assert.is(
      await node.sh('ls /run/eniboot/pool/free /run/eniboot/pool/cooling'),
      free,
      `pool, operation ${step}`,
    );
  }
  node.failAt(undefined);
  assert.ok(steps >= 25, `${steps} operations were refused`);
  assert.equal([...codes].sort(), ['KERNEL_CHANGE', 'NFT_FAILED']);
  succeeds(await del('f'));
});

test('CHECK does not report a part as missing when it could not read it', async () => {
  const pod = await node.addPod('busy');
  const check = () => node.cni('CHECK', variablesOf('busy', pod.netns), { ...conf, prevResult: pod.result });
  succeeds(await check());
  // First each request of CHECK is refused, then each answer of the kernel is lost.
  for (const fault of ['sendto:error=ENOBUFS', 'recvfrom:error=EIO']) {
    let met = 0;
    for (let at = 1; at < 100; at += 1) {
      node.trace('-e', `trace=${fault.split(':')[0]}`, '-e', `inject=${fault}:when=${at}`);
      const answer = await check();
      node.trace();
      if (answer.exit === 0) break;
      met += 1;
      refuses(answer, 11, /KERNEL_QUERY: looking at what a pod has: /);
    }
    assert.ok(met >= 10, `${fault}: ${met} times`);
  }
  succeeds(await del('busy'));
});

test('a kernel without ipvlan: the error names the module and how to load it', async () => {
  await node.sh('ip netns add old && touch /run/stand-in/no-ipvlan');
  const { json } = await node.cni('ADD', variablesOf('old', '/run/netns/old'));
  await node.sh('rm /run/stand-in/no-ipvlan');
  assert.is(json.code, 100);
  assert.match(json.msg, /KERNEL_MODULE_MISSING: ip link add .*: the kernel of this node has no ipvlan/);
  assert.match(json.details, /modprobe ipvlan.*modules-load\.d/);
  assert.equal(await node.leftovers(), []);
  await node.sh('ip netns del old');
});

test('a damaged node.json: error 11 of ADD and 50 of STATUS name the command that writes the file again', async () => {
  await node.sh('ip netns add dam && cd /run/eniboot && cp -p node.json node.kept && echo "{}" > node.json');
  const failed = [await node.cni('ADD', variablesOf('dam', '/run/netns/dam')), await node.cni('STATUS')];
  await node.sh('cd /run/eniboot && mv node.kept node.json; ip netns del dam');
  assert.equal(
    failed.map(({ json }) => json.code),
    [11, 50],
  );
  for (const { json } of failed) {
    assert.match(json.msg, /NODE_FILE_DAMAGED/);
    assert.match(json.details, /eniboot repair/);
  }
});

test('the next ADD of an address removes the remains of a killed ADD of that address', async () => {
  await node.sh('ip netns add k');
  // To learn the next address, an ADD is refused at its first operation.
  node.failAt(1);
  const { json: failed } = await node.cni('ADD', variablesOf('k', '/run/netns/k'));
  const table = Number(/ group (\d+) /.exec(failed.msg)?.[1]);
  const host = `enb${table.toString(16).padStart(8, '0')}`;
  const address = [24, 16, 8, 0].map((shift) => (table >> shift) & 255).join('.');
  // Parts that an ADD makes before it is killed.
  await node.sh(`nsenter --net=/run/netns/k nft add table ip eniboot
    nsenter --net=/run/netns/k nft add chain ip eniboot stale
    ip link add ${host} type veth peer name stray
    ip rule add priority 1024 iif ${host} lookup ${table} protocol 140
    ip rule add priority 1025 from ${address} fwmark 0x40/0x40 lookup ${table} protocol 140`);
  const { json, exit, stdout } = await node.cni('ADD', variablesOf('k', '/run/netns/k'));
  assert.is(exit, 0, stdout);
  assert.is(json.ips[0].address, `${address}/20`);
  const table4 = await node.sh('nsenter --net=/run/netns/k nft list table ip eniboot');
  assert.match(table4, new RegExp(`snat to ${address} `));
  assert.not.match(table4, /stale/);
  succeeds(await node.cni('CHECK', variablesOf('k', '/run/netns/k'), { ...conf, prevResult: json }));
  succeeds(await del('k'));
  assert.equal(await node.leftovers(), []);
});

test('an address that a lost namespace still carries is passed over, and comes last from then on', async () => {
  const lost = await node.addPod('lost');
  const holder = node.instance.spawn('ip', ['netns', 'exec', 'lost', 'sleep', '1000'], { stdio: 'ignore' });
  await node.sh('sleep 0.3; ip netns del lost');
  succeeds(await del('lost'));
  // Only one address is not in use: all others are moved out of the pool.
  await node.sh(`mkdir -p /run/aside; cd /run/eniboot/pool
    for one in free/* cooling/*; do case $one in */${lost.address},*) ;; *,*) mv $one /run/aside/;; esac; done
    set -- /run/aside/*; cp "$1" free/`);
  const pod = await node.addPod('next');
  assert.is.not(pod.address, lost.address);
  await node.sh('ip netns add full');
  refuses(await node.cni('ADD', variablesOf('full', '/run/netns/full')), 11, /ADDRESS_IN_USE|POOL_EXHAUSTED/);
  // The address stays where the DEL of its pod has put it.
  assert.match(await node.sh('ls /run/eniboot/pool/cooling'), new RegExp(`^${lost.address},`));
  assert.match(await node.sh('ls /run/eniboot/pool/in-use'), new RegExp(`^${lost.address},`));
  holder.kill('SIGKILL');
  await node.sh('sleep 0.5');
  assert.is((await node.addPod('again')).address, lost.address);
  for (const name of ['next', 'again', 'full']) succeeds(await del(name));
  await node.sh(`cd /run/aside; for one in *; do
    case $one in ${pod.address},*) ;; *) mv "$one" /run/eniboot/pool/free/;; esac; done`);
});

test('an ADD is killed at any moment: DEL and GC find all its parts, and no address is lost', async () => {
  const count = async () =>
    Number(await node.sh('cd /run/eniboot/pool; ls free cooling leased | grep -c eni-'));
  const before = await count();
  let killed = 0;
  for (let round = 0; round < 20; round += 1) {
    const name = `kill${round}`;
    await node.sh(`ip netns add ${name}`);
    const after = 10 + Math.random() * 120;
    if (await node.cniKilled('ADD', variablesOf(name, `/run/netns/${name}`), after)) killed += 1;
    // Children of the plugin go on for a moment after the kill. The brackets keep pgrep's pattern from matching its own command line.
    await node.sh(`for try in $(seq 400); do
        pgrep -f -- '[-]batch|[t]able ip eniboot' >/dev/null || exit 0
        sleep 0.05
      done
      exit 1`);
    succeeds(await del(name));
    succeeds(await node.cni('GC', {}, { ...conf, 'cni.dev/valid-attachments': [] }));
    assert.equal(await node.leftovers(), [], `round ${round}`);
    assert.is(await node.sh(`ip -n ${name} -br link | grep -v '^lo' || :`), '', `in the pod, round ${round}`);
  }
  assert.is(await count(), before);
  assert.ok(killed >= 5, `${killed} of 20 were killed before they ended`);
});

test('CHECK names each changed part, and accepts additions of later plugins', async () => {
  const pod = await node.addPod('t');
  const check = (prevResult: unknown = pod.result) =>
    node.cni('CHECK', variablesOf('t', pod.netns), { ...conf, prevResult });
  succeeds(await check());
  refuses(await check(null), 7, /prevResult/);
  refuses(await check({ ...pod.result, ips: [{ address: '10.9.9.9/20' }] }), 102, /prevResult does not hold/);
  await node.sh('ip -n t link add extra type veth peer name extra2; ip -n t route add 192.0.2.0/24 dev eth0');
  succeeds(await check());
  const host = pod.result.interfaces[2].name;
  const table = Number.parseInt(host.slice(3), 16);
  const tampered: [string, string, RegExp][] = [
    [
      'ip -n t route del default',
      `ip -n t route add default via ${node.instance.bootEni.primaryIp} dev veth0`,
      /the pod's route default .* is missing/,
    ],
    [
      'ip -n t route del 100.64.0.0/16',
      'ip -n t route add 100.64.0.0/16 via 10.0.64.1 dev eth0',
      /the pod's route 100\.64\.0\.0\/16 via 10\.0\.64\.1 dev eth0 is missing/,
    ],
    [
      `ip rule del priority 1024 iif ${host}`,
      `ip rule add priority 1024 iif ${host} lookup ${table} protocol 140`,
      /the rule priority 1024 iif enb\w+ .*is missing/,
    ],
    [
      `ip neigh del ${pod.address} dev ${host}`,
      `ip neigh add ${pod.address} lladdr ${pod.result.interfaces[1].mac} dev ${host} nud permanent`,
      /the neighbour .* is missing/,
    ],
  ];
  for (const [harm, mend, says] of tampered) {
    await node.sh(harm);
    refuses(await check(), 102, says);
    await node.sh(mend);
    succeeds(await check());
  }
  await node.sh(`ip link set ${host} down`);
  refuses(await check(), 102, /is down/);
  await node.sh('ip -n t addr flush dev eth0');
  refuses(await check(), 102, /the pod's address .* dev eth0 is missing/);
  succeeds(await del('t'));
  refuses(await check(), 102, /has no address/);
  assert.equal(await node.leftovers(), []);
});

test('CHECK expects no limits when the limits in the note are damaged', async () => {
  const pod = await node.addPod('noted');
  for (const limits of [
    '5',
    'null',
    '[]',
    '{"egress":5}',
    '{"egress":{"bitsPerSecond":"1;","burstBytes":1}}',
    '{',
  ]) {
    await node.sh(
      `printf 'noted\n${pod.netns}\neniboot\n\n%s\n' '${limits}' >$(ls /run/eniboot/pool/leased/*,noted,eth0)`,
    );
    succeeds(await node.cni('CHECK', variablesOf('noted', pod.netns), { ...conf, prevResult: pod.result }));
  }
  succeeds(await del('noted'));
});

test('GC ends attachments that are not in the list, keeps the others, and finds links without a lease', async () => {
  await node.addPod('keep');
  await node.addPod('drop');
  await node.sh('ip link add enb0a0040fe type veth peer name stray2');
  const gc = () =>
    node.cni('GC', {}, { ...conf, 'cni.dev/valid-attachments': [{ containerID: 'keep', ifname: 'eth0' }] });
  await node.ageLeases();
  succeeds(await gc());
  const left = await node.leftovers();
  assert.equal(
    left.filter((line) => line.startsWith('lease')).map((line) => line.split(',')[2]),
    ['keep'],
  );
  assert.is(left.filter((line) => line.startsWith('link')).length, 1);
  succeeds(await gc());
  // The list that libcni writes for a runtime without sandboxes: cri-o calls GC so when it starts.
  succeeds(await node.cni('GC', {}, { ...conf, 'cni.dev/valid-attachments': null }));
  assert.equal(await node.leftovers(), []);
});

test('a GC that fails with one attachment goes on with the next, reports the first, and ends it in the next run', async () => {
  for (const name of ['g1', 'g2']) await node.addPod(name);
  await node.ageLeases();
  const gc = () => node.cni('GC', {}, { ...conf, 'cni.dev/valid-attachments': [] });
  // The refused request is in the pod of the first attachment.
  node.refuseAt(3);
  refuses(await gc(), 100, /KERNEL_CHANGE: not removed in \/run\/netns\/g[12]: .*errno 105/);
  node.refuseAt(undefined);
  const left = await node.leftovers();
  assert.is(left.filter((line) => line.startsWith('lease')).length, 1, left.join('\n'));
  assert.is(left.filter((line) => line.startsWith('rule')).length, 2, left.join('\n'));
  succeeds(await gc());
  assert.equal(await node.leftovers(), []);
});

test('with strict ARP, as kube-proxy sets it for IPVS, pod and node reach each other over the unnumbered link', async () => {
  const pod = await node.addPod('strict');
  const { primaryIp } = node.instance.bootEni;
  await node.serve('');
  await node.serve('strict');
  const settings = ['all', 'default', 'enb*'].map((of) => `/proc/sys/net/ipv4/conf/${of}`).join(' ');
  await node.sh(`for of in ${settings}; do echo 2 > $of/arp_announce; echo 1 > $of/arp_ignore; done
    ip neigh flush all`);
  assert.is(await node.fetch('strict', `http://${primaryIp}/`), pod.address);
  assert.is(await node.fetch('', `http://${pod.address}/`), primaryIp);
  await node.sh(`for of in ${settings}; do echo 0 > $of/arp_announce; echo 0 > $of/arp_ignore; done`);
  succeeds(await del('strict'));
});

test('no link of a pod has an IPv6 link-local address, which pods of one ENI would share', async () => {
  await node.addPod('silent');
  assert.is(
    await node.sh('ip -n silent -6 -br address show scope link; ip -n silent -br -4 address'),
    await node.sh('ip -n silent -br -4 address'),
  );
  assert.is(
    await node.sh('for link in /sys/class/net/enb*; do ip -6 -br address show dev "${link##*/}"; done'),
    '',
  );
  succeeds(await del('silent'));
});

test('a pod whose runtime turned IPv6 off gets its IPv4 network', async () => {
  const { primaryIp } = node.instance.bootEni;
  await node.sh(`ip netns add off
    ip netns exec off sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1`);
  const { exit, json, stdout } = await node.cni('ADD', variablesOf('off', '/run/netns/off'));
  assert.is(exit, 0, stdout);
  assert.is(await node.fetch('off', `http://${primaryIp}/`), json.ips[0].address.split('/')[0]);
  succeeds(await node.cni('CHECK', variablesOf('off', '/run/netns/off'), { ...conf, prevResult: json }));
  succeeds(await del('off'));
});

test('STATUS is 0 on a ready node, 51 when a pod ENI with pods is down, 50 when none is up', async () => {
  succeeds(await node.cni('STATUS'));
  const device = node.instance.deviceOf(node.instance.enis[1]?.id ?? '');
  await node.sh(`ip link set ${device} down`);
  refuses(await node.cni('STATUS'), 50, /POD_ENI_DOWN: no pod ENI/);
  await node.sh(`ip link set ${device} up`);
  await node.addPod('s');
  await node.sh(`ip link set ${device} down`);
  refuses(await node.cni('STATUS'), 51, /pods on them/);
  await node.sh(`ip link set ${device} up`);
  succeeds(await node.cni('STATUS'));
  succeeds(await del('s'));
});

test("another program's device on top of a pod ENI, with the ENI's MAC, is not taken for the ENI", async () => {
  const [, eni] = node.instance.enis;
  const device = node.instance.deviceOf(eni?.id ?? '');
  // Its name sorts before the name of the ENI's device, and it is down.
  await node.sh(`ip link add link ${device} name aaa address ${eni?.mac} type macvlan mode bridge`);
  succeeds(await node.cni('STATUS'));
  // The refused first operation names the device.
  node.failAt(1);
  await node.sh('ip netns add top');
  refuses(
    await node.cni('ADD', variablesOf('top', '/run/netns/top')),
    100,
    new RegExp(`link add link ${device} name eth0`),
  );
  node.failAt(undefined);
  await node.sh('ip link del aaa; ip netns del top');
  assert.equal(await node.leftovers(), []);
});

test('30 ADDs at once get 30 addresses; the next two get the last addresses, and then ADD is error 11', async () => {
  const names = Array.from({ length: 30 }, (_, at) => `p${at}`);
  await node.sh(names.map((name) => `ip netns add ${name}`).join('\n'));
  const answers = await Promise.all(
    names.map((name) => node.cni('ADD', variablesOf(name, `/run/netns/${name}`))),
  );
  for (const answer of answers) assert.is(answer.exit, 0, answer.stdout);
  const addresses = answers.map((answer) => answer.json.ips[0].address);
  assert.is(new Set(addresses).size, 30);
  const primaries = node.instance.enis.map((eni) => eni.primaryIp);
  assert.equal(
    primaries.filter((one) => addresses.some((cidr) => cidr.startsWith(`${one}/`))),
    [],
    "an ENI's own address went to a pod",
  );
  await node.sh('rm -f /run/eniboot/pool/refill-wanted');
  await node.addPod('p30');
  await node.addPod('p31');
  assert.is.not(
    node.instance.read('/run/eniboot/pool/refill-wanted'),
    undefined,
    'a refill is wanted below the low-water mark',
  );
  await node.sh('rm -f /run/eniboot/pool/refill-wanted; ip netns add p32');
  refuses(await node.cni('ADD', variablesOf('p32', '/run/netns/p32')), 11, /no address is free/);
  assert.is.not(node.instance.read('/run/eniboot/pool/refill-wanted'), undefined, 'a refill is wanted again');
  // With an error here kubelet would set the node NotReady, although its 32 pods are healthy.
  succeeds(await node.cni('STATUS'));
  await Promise.all([...names, 'p30', 'p31', 'p32'].map(async (name) => succeeds(await del(name))));
  assert.equal(await node.leftovers(), []);
});

test('after a reboot DEL of an old pod succeeds, and its address is given to the next', async () => {
  await node.addPod('r');
  await node.reboot();
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready');
  node = podNode(node);
  succeeds(await del('r'));
  assert.equal(await node.leftovers(), []);
  await node.addPod('r2');
  succeeds(await del('r2'));
});

test('a released address rests before another pod gets it', async () => {
  const rested = await bootPodNode(cloud, {
    config: configText(cloud, 'pods_rest: 0\n').replace(
      'pods_rest: 0',
      'pool: { target: 16, restSeconds: 3 }',
    ),
  });
  const first = await rested.addPod('a');
  succeeds(await rested.cni('DEL', variablesOf('a', first.netns)));
  const released = performance.now();
  const names = Array.from({ length: 15 }, (_, at) => `q${at}`);
  const others = await Promise.all(names.map((name) => rested.addPod(name)));
  assert.not.ok(others.some((pod) => pod.address === first.address));
  await rested.sh('ip netns add last');
  let answer = await rested.cni('ADD', variablesOf('last', '/run/netns/last'));
  const waited = performance.now() - released;
  if (waited < 2_500) refuses(answer, 11, /1 rest/);
  while (answer.exit !== 0) answer = await rested.cni('ADD', variablesOf('last', '/run/netns/last'));
  assert.is(answer.json.ips[0].address.split('/')[0], first.address);
  assert.ok(performance.now() - released >= 3_000, 'the address was leased before it had rested');
});

test.run();
