// time limit: 240 s
// A pod's namespace with links, routes or rules of other programs, made before ADD or later. ADD keeps them, or refuses and
// changes nothing; DEL leaves them. A new case is a line in one of the two tables.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { type Answer, bootPodNode, conf, type PodNode, variablesOf } from './rig.ts';

let cloud: Cloud;
let node: PodNode;

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const extra =
    'pool: { target: 32, restSeconds: 0 }\nkubernetes: { serviceCidrs: [172.20.0.0/16, "fd00:10:96::/108"] }\n';
  node = await bootPodNode(cloud, { config: configText(cloud, extra, { ipFamily: 'dual-stack' }) });
});
test.after(() => cloud.stop());
test.after.each(async () => {
  await node.cni('DEL', variablesOf('p', '/run/netns/p'));
  await node.sh('ip netns del p 2>/dev/null || :');
});

/** Makes another network in a pod's namespace `p`, as the delegates of Multus do (reference macvlan, bridge, host-device). */
const network = (device: string, address = '192.0.2.9/24') =>
  `ip -n p link add ${device} type veth peer name ${device}peer; ip -n p link set ${device}peer up
   ip -n p link set ${device} up; ip -n p address add ${address} dev ${device}`;

/** A script that runs before ADD, and whether ADD refuses. NODE is the node's address. */
const before: [what: string, script: string, outcome: 'refused' | 'kept', says?: RegExp][] = [
  [
    'a default route',
    `${network('net0')}; ip -n p route add default via 192.0.2.1`,
    'refused',
    /a default route by net0/,
  ],
  [
    'a default route without a router and with a metric',
    `${network('net0')}; ip -n p route add default dev net0 metric 500`,
    'refused',
    /a default route by net0/,
  ],
  [
    'an IPv6 default route',
    'ip -n p link add net0 type veth peer name peer0; ip -n p link set peer0 up; ip -n p link set net0 up; ip -n p -6 route add default via fe80::9 dev net0',
    'refused',
    /a default route of IPv6 by net0/,
  ],
  ['a network without a default route', network('net0'), 'refused', /a route to 192\.0\.2\.0\/24 by net0/],
  [
    'a network of IPv6 alone',
    'ip -n p link add net0 type veth peer name peer0; ip -n p link set peer0 up; ip -n p link set net0 up; ip -n p address add 2001:db8:9::9/64 dev net0 nodad',
    'refused',
    / of IPv6 by net0/,
  ],
  [
    'a route to the VPC',
    `${network('net0', '192.0.2.9/32')}; ip -n p route add 10.0.0.0/16 dev net0`,
    'refused',
    /a route to 10\.0\.0\.0\/16 by net0/,
  ],
  [
    'a route to the node',
    `${network('net0', '192.0.2.9/32')}; ip -n p route add NODE/32 dev net0`,
    'refused',
    /a route to \S+\/32 by net0/,
  ],
  [
    "a blackhole route to a destination of eniboot's route",
    'ip -n p route add blackhole 169.254.169.254/32',
    'refused',
    /a route to 169\.254\.169\.254\/32 by no device/,
  ],
  [
    'the same over IPv6',
    'ip -n p -6 route add blackhole fd00:ec2::254/128',
    'refused',
    /a route to fd00:ec2:.*254\/128 of IPv6 by/,
  ],
  [
    'unreachable routes',
    'ip -n p route add unreachable 198.51.100.0/24; ip -n p -6 route add unreachable fd09::/16',
    'kept',
  ],
  ['a link that is down', 'ip -n p link add net0 group 5 type bridge', 'kept'],
  [
    "rules at eniboot's priority and routes in its table",
    `ip -n p rule add priority 1024 fwmark 0x1/0x1 lookup 77; ip -n p -6 rule add priority 1024 fwmark 0x1/0x1 lookup 77
     ip -n p route add throw 10.8.0.0/16 table 140; ip -n p route add unreachable 10.8.0.0/16 table 77`,
    'kept',
  ],
  [
    'nftables tables of another program, with marks and an egress hook',
    `nsenter --net=/run/netns/p nft 'table ip foreign { chain pre { type filter hook prerouting priority mangle; ct mark set 0x1; }; }
     table inet foreign { chain out { type route hook output priority mangle; meta mark set ct mark; }; }
     table netdev foreign { chain out { type filter hook egress device "lo" priority 0; }; }'`,
    'kept',
  ],
];

/** A script that runs after ADD, and the code of CHECK. DEL leaves its changes in either case. */
const later: [what: string, script: string, checked: 0 | 102][] = [
  ['a network of Multus', network('net1'), 0],
  ['a network whose link has a group', `${network('net1')}; ip -n p link set net1 group 5`, 0],
  [
    'a network with a route to a part of the VPC',
    `${network('net1')}; ip -n p route add 10.0.77.0/24 via 192.0.2.1`,
    0,
  ],
  [
    'a default route with a metric',
    `${network('net1')}; ip -n p route add default via 192.0.2.1 metric 100`,
    0,
  ],
  [
    "a default route that replaces eniboot's",
    `${network('net1')}; ip -n p route replace default via 192.0.2.1`,
    102,
  ],
  [
    "an IPv6 default route that replaces eniboot's",
    `${network('net1')}; ip -n p -6 route del default; ip -n p -6 route add default via fe80::9 dev net1`,
    102,
  ],
  [
    'rules, tables, nftables',
    `ip -n p rule add priority 1023 lookup 77; ip -n p route add unreachable 10.8.0.0/16 table 77
     ip -n p route add throw 10.8.0.0/16 table 140
     nsenter --net=/run/netns/p nft 'table ip nat { chain out { type nat hook output priority -100; tcp dport 1 redirect to :15001; }; }'`,
    0,
  ],
];

/** Links, addresses, rules, routes and nftables in the namespace, a line for each. */
async function look(): Promise<string[]> {
  const all =
    await node.sh(`for family in -4 -6; do ip -n p $family rule; ip -n p $family route show table all; done
    ip -n p -br link; ip -n p -br address; nsenter --net=/run/netns/p nft list ruleset`);
  return (
    all
      // The guard's counters of dropped packets change meanwhile.
      .replaceAll(/linkdown|expires \S+|packets \d+ bytes \d+/g, '')
      .split('\n')
      .map((line) => line.trim().replaceAll(/\s+/g, ' '))
      // The kernel adds these when duplicate address detection has ended, a second after the link is up.
      .filter((line) => line !== '}' && !/^(?:local|anycast) fe80::/.test(line))
  );
}

/** The settings that ADD changes, and all settings of the same folders. */
const settings = () =>
  node.sh(`nsenter --net=/run/netns/p sysctl -a 2>/dev/null |
    grep -E '^net[.]ipv[46][.](ip_forward|conf[.](all|default|lo)[.])' | grep -vE 'stable_secret|mc_forwarding'`);

const run = (script: string) => node.sh(script.replaceAll('NODE', node.instance.bootEni.primaryIp));
const pool = () => node.sh('ls /run/eniboot/pool/free /run/eniboot/pool/cooling | cut -d, -f1 | sort');
const call = (command: string, more: object = {}) =>
  node.cni(command, variablesOf('p', '/run/netns/p'), { ...conf, ...more });
const said = ({ stdout, stderr }: Answer) => stdout + stderr;

for (const [what, script, outcome, says] of before)
  test(`there before ADD: ${what}: ${outcome}`, async () => {
    await node.sh('ip netns add p; ip -n p link set lo up');
    await run(script);
    const [seen, set, free] = [await look(), await settings(), await pool()];
    const added = await call('ADD');
    if (outcome === 'refused') {
      assert.is(added.json?.code, 103, said(added));
      assert.match(added.json.msg, /^eniboot: NETNS_TAKEN: the pod has another network already: it has /);
      assert.match(added.json.msg, says ?? /./);
      assert.is(await settings(), set);
      assert.equal(await look(), seen);
    } else {
      assert.is(added.exit, 0, said(added));
      const now = await look();
      assert.equal(
        seen.filter((line) => !now.includes(line)),
        [],
      );
      const checked = await call('CHECK', { prevResult: added.json });
      assert.is(checked.exit, 0, said(checked));
    }
    const removed = await call('DEL');
    assert.is(removed.exit, 0, said(removed));
    assert.equal(await look(), seen);
    assert.equal(await node.leftovers(), []);
    assert.is(await pool(), free);
    await node.sh('ip netns del p');
  });

for (const [what, script, checked] of later)
  test(`comes after ADD: ${what}: DEL leaves it`, async () => {
    await node.sh('ip netns add p; ip -n p link set lo up');
    const bare = await look();
    const added = await call('ADD');
    assert.is(added.exit, 0, said(added));
    const ours = await look();
    await run(script);
    const theirs = (await look()).filter((line) => !ours.includes(line));
    assert.ok(theirs.length > 0);
    const found = await call('CHECK', { prevResult: added.json });
    assert.is(found.json?.code ?? 0, checked, said(found));
    const removed = await call('DEL');
    assert.is(removed.exit, 0, said(removed));
    const left = await look();
    assert.equal(
      theirs.filter((line) => !left.includes(line)),
      [],
      "the other program's parts remain",
    );
    assert.equal(
      left.filter((line) => !theirs.includes(line) && !bare.includes(line)),
      [],
      'no part of eniboot remains',
    );
    assert.equal(await node.leftovers(), []);
    await node.sh('ip netns del p');
  });

test('a second attachment of a pod is refused, and the first is unchanged', async () => {
  const first = await node.addPod('p');
  const seen = await look();
  const second = await node.cni('ADD', { ...variablesOf('p', '/run/netns/p'), CNI_IFNAME: 'net1' });
  assert.is(second.json?.code, 103, said(second));
  assert.equal(await look(), seen);
  const removed = await node.cni('DEL', { ...variablesOf('p', '/run/netns/p'), CNI_IFNAME: 'net1' });
  assert.is(removed.exit, 0, said(removed));
  assert.equal(await look(), seen);
  const checked = await call('CHECK', { prevResult: first.result });
  assert.is(checked.exit, 0, said(checked));
  assert.is((await call('DEL')).exit, 0);
  await node.sh('ip netns del p');
});

test("eniboot-ptp does not replace another network's default route", async () => {
  await node.sh('ip netns add p; ip -n p link set lo up');
  await run(`${network('net0')}; ip -n p route add default via 192.0.2.1`);
  const variables = variablesOf('p', '/run/netns/p');
  const address = await node.cni('ADD', variables, { ...conf, type: 'eniboot-ipam' }, 'eniboot-ipam');
  assert.is(address.exit, 0, said(address));
  const [ip] = address.json.ips;
  await node.sh(
    `ip -n p link add eth0 type veth peer name e; ip -n p link set eth0 up; ip -n p address add ${ip.address} dev eth0`,
  );
  const seen = await look();
  const prevResult = {
    cniVersion: '1.1.0',
    interfaces: [{ name: 'eth0', sandbox: '/run/netns/p' }],
    ips: [{ ...ip, interface: 0 }],
  };
  const linked = await node.cni(
    'ADD',
    variables,
    { ...conf, type: 'eniboot-ptp', prevResult },
    'eniboot-ptp',
  );
  assert.is(linked.json?.code, 103, said(linked));
  assert.match(linked.json.msg, /a default route by net0/);
  assert.equal(await look(), seen);
  const removed = await node.cni('DEL', variables, { ...conf, type: 'eniboot-ipam' }, 'eniboot-ipam');
  assert.is(removed.exit, 0, said(removed));
  assert.equal(await node.leftovers(), []);
});

test.run();
