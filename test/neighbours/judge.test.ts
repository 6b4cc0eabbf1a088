// The effect of rules on a packet, rule form by rule form: texts of nft and iptables-save, read as the agent reads them. nft's
// texts are loaded and listed in a namespace of the test's own; iptables' texts need no kernel.
import { execFileSync } from 'node:child_process';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { judge } from '../../agent/host/obstacles/judge.ts';
import { journeysOf, type Terrain, type Way } from '../../agent/host/obstacles/packet.ts';
import { decide, isForeignRule, type Told } from '../../agent/host/obstacles/routing.ts';
import { chainsOfSave, type Ruleset, rulesetOf } from '../../agent/host/obstacles/ruleset.ts';
import {
  docker,
  docker28,
  kubeProxyIptables,
  kubeProxyIpvs,
  kubeProxyNftables,
  nodeLocalDns,
  operatorAllowing,
  operatorDrop,
  tailscaleChains,
} from './rules.ts';

const terrain: Terrain = {
  bootDevice: 'ens5',
  nodeAddresses: ['10.0.0.4'],
  pod: { address: '10.0.64.17', link: 'enb0a004011', eniDevice: 'ens6', address6: undefined },
  elsewhere: '10.0.80.1',
  nodeAddress6: undefined,
};
const dual: Terrain = {
  ...terrain,
  pod: { ...terrain.pod, address6: '2001:db8:64::a00:4011' },
  nodeAddress6: '2001:db8::4',
};

/** The ways that are closed; a question mark follows a way that may be closed. */
function closed(ruleset: Ruleset, where = terrain): string[] {
  const blocked = journeysOf(where, 0x1000).flatMap((journey) => {
    const one = judge(ruleset, journey);
    return one === undefined ? [] : `${journey.way}${one.certain ? '' : '?'}`;
  });
  return [...new Set(blocked)].sort();
}

function ofNft(text: string): Ruleset {
  const script = `ip link set lo up; for device in ens5 ens6; do ip link add $device type veth peer name $device-p; done
    nft -f - && nft -j list ruleset`;
  return rulesetOf(
    execFileSync('unshare', ['--net', 'sh', '-ec', script], { input: text, encoding: 'utf8' }),
  );
}

function ofSave(text: string): Ruleset {
  return { chains: chainsOfSave(text, 'ip', 'iptables-legacy'), sets: new Map() };
}

const forwarded: Way[] = ['internet', 'outside', 'service'];
const save = (rules: string, policy = 'ACCEPT') =>
  `*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ${policy} [0:0]\n:OUTPUT ACCEPT [0:0]\n:MINE - [0:0]\n${rules}\nCOMMIT\n`;

const iptables: [name: string, text: string, closed: string[]][] = [
  ['docker', docker, forwarded],
  ['docker 28', docker28, forwarded],
  ['kube-proxy, mode iptables', kubeProxyIptables, []],
  ['kube-proxy, mode ipvs', kubeProxyIpvs, []],
  ['NodeLocal DNSCache', nodeLocalDns, []],
  ['tailscale', tailscaleChains, []],
  [
    'policy DROP, with a rule that lets pods pass',
    save('-A FORWARD -i enb+ -j ACCEPT\n-A FORWARD -o enb+ -j ACCEPT', 'DROP'),
    [],
  ],
  [
    'policy DROP, with rules that let replies and one address pass',
    save(
      '-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n-A FORWARD -s 10.0.64.0/20 -j ACCEPT',
      'DROP',
    ),
    ['outside'],
  ],
  [
    'policy DROP, with a rule that lets translated packets pass',
    save('-A FORWARD -m conntrack --ctstate DNAT -j ACCEPT', 'DROP'),
    ['internet'],
  ],
  [
    'policy DROP after a match on an unknown set',
    save('-A FORWARD -m set --match-set pods src -j ACCEPT', 'DROP'),
    forwarded.map((way) => `${way}?`),
  ],
  ['a drop after a match on an unknown set', save('-A FORWARD -m set --match-set bad src -j DROP'), []],
  [
    'a drop of floods',
    save('-A INPUT -m hashlimit --hashlimit-above 100/sec --hashlimit-name x -j DROP'),
    [],
  ],
  ['INVALID is dropped', save('-A FORWARD -m conntrack --ctstate INVALID -j DROP'), []],
  [
    'an early REJECT',
    save(
      '-A FORWARD -j MINE\n-A MINE -p udp -j ACCEPT\n-A MINE -i enb+ ! -o enb+ -j REJECT --reject-with icmp-port-unreachable',
    ),
    ['internet', 'outside'],
  ],
  [
    'a chain that returns',
    save('-A FORWARD -j MINE\n-A FORWARD -j DROP\n-A MINE -m comment --comment "a b" -j RETURN'),
    forwarded,
  ],
  ['a goto does not return', save('-A FORWARD -g MINE\n-A FORWARD -j DROP\n-A MINE -p udp -j DROP'), []],
  ['ports', save('-A INPUT -p tcp -m multiport --dports 22,10000:10300 -j DROP'), ['node']],
  [
    'a mark that an earlier rule sets',
    save('-A FORWARD -i enb+ -j MARK --set-xmark 0x10/0xff\n-A FORWARD -m mark --mark 0x10/0x10 -j DROP'),
    forwarded,
  ],
  [
    'a range, and its complement',
    save(
      '-A FORWARD -m iprange --src-range 10.0.64.1-10.0.64.9 -j DROP\n-A FORWARD ! -s 10.0.0.0/8 -i enb+ -j DROP',
    ),
    [],
  ],
  ['packets that a bridge forwards', save('-A FORWARD -m physdev --physdev-is-bridged -j DROP'), []],
  [
    'queued for a program',
    save('-A FORWARD -i enb+ -j NFQUEUE --queue-num 1'),
    forwarded.map((way) => `${way}?`),
  ],
  [
    'before routing, by the node’s address',
    '*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -i ens5 -d 10.0.0.4/32 -p tcp -m tcp --dport 30000:32767 -j DROP\nCOMMIT\n',
    ['outside'],
  ],
  [
    'to the node, by the type of its address',
    save('-A INPUT -i enb+ -m addrtype --dst-type LOCAL -j DROP'),
    ['node'],
  ],
];

for (const [name, text, wanted] of iptables)
  test(`iptables: ${name}`, () => assert.equal(closed(ofSave(text)), wanted));

test('tailscale drops packets of pods in 100.64.0.0/10 to the node', () => {
  const pod = { ...terrain.pod, address: '100.64.3.17' };
  assert.equal(closed(ofSave(tailscaleChains), { ...terrain, pod }), ['node']);
});

const chain = (body: string, hook = 'forward', more = '') =>
  `table inet t {\n${more}\n chain b { }\n chain c { type filter hook ${hook} priority 0; policy accept; ${body}; }\n}`;

const nftables: [name: string, text: string, closed: string[], where?: Terrain][] = [
  ['an operator’s', operatorDrop, forwarded],
  [
    'an operator’s table, over IPv6 too',
    operatorDrop,
    ['internet', 'outside', 'outside6', 'service', 'service6'],
    dual,
  ],
  ['an operator’s table that lets pods pass', operatorAllowing, []],
  ['kube-proxy', kubeProxyNftables, []],
  [
    'a table for IPv6 only',
    'table ip6 t { chain c { type filter hook forward priority 0; policy drop; }; }',
    [],
  ],
  [
    'a set of prefixes',
    chain(
      'ip saddr @s drop',
      'forward',
      ' set s { type ipv4_addr; flags interval; elements = { 10.0.64.0/24, 1.2.3.4-1.2.3.9 }; }',
    ),
    ['internet', 'outside', 'service'],
  ],
  [
    'a set without the pod',
    chain(
      'ip saddr @s drop',
      'forward',
      ' set s { type ipv4_addr; flags interval; elements = { 10.9.0.0/16 }; }',
    ),
    [],
  ],
  ['all devices but a set', chain('iifname != { "enb*", "ens5" } drop'), []],
  ['a verdict map', chain('iifname vmap { "enb*" : goto b, "ens5" : drop }'), ['internet', 'outside']],
  ['a map of pairs', chain('meta l4proto . th dport vmap { tcp . 443 : drop }'), ['internet', 'service']],
  ['only new connections', chain('ct state new reject'), forwarded],
  ['only related and new of UDP', chain('meta l4proto udp ct state { new, related } drop'), []],
  ['unless translated', chain('ct status & dnat == 0 drop'), ['internet']],
  ['one direction', chain('ct direction reply drop'), forwarded],
  ['SYN', chain('tcp flags & (fin | syn | rst | ack) == syn drop'), forwarded],
  ['a rate', chain('limit rate over 10/second drop'), []],
  ['a reverse path filter', chain('fib saddr . iif oif missing drop', 'prerouting'), []],
  ['local destinations', chain('iifname "enb*" fib daddr type local drop', 'prerouting'), ['node']],
  ['ports and protocols', chain('tcp dport 8000-9000 drop', 'output'), ['node']],
  ['ICMP only', chain('icmp type echo-request drop'), []],
  [
    'at an ENI that nft names',
    'table netdev t { chain c { type filter hook ingress device "ens6" priority 0; ip protocol tcp drop; }; }',
    nftTellsDevices() ? ['vpc'] : [],
  ],
];

function nftTellsDevices(): boolean {
  const text = 'table netdev t { chain c { type filter hook ingress device "ens6" priority 0; }; }';
  return (ofNft(text).chains[0]?.base?.devices.length ?? 0) > 0;
}

for (const [name, text, wanted, where] of nftables)
  test(`nft: ${name}`, () => assert.equal(closed(ofNft(text), where), wanted));

test('a netdev chain is judged at its own device', () => {
  const drop = { expressions: [{ drop: null }], text: 'x' };
  const base = { hook: 'egress' as const, priority: 0, policy: 'accept' as const };
  const at = (device: string): Ruleset => ({
    chains: [
      {
        family: 'netdev',
        table: 't',
        name: 'c',
        by: 'nft',
        rules: [drop],
        base: { ...base, devices: [device] },
      },
    ],
    sets: new Map(),
  });
  assert.equal(closed(at('ens6')), ['vpc']);
  assert.equal(closed(at('ens7')), []);
  assert.equal(closed(at('ens5')), ['internet', 'outside']);
});

const usual: Told[] = [
  { priority: 0, src: 'all', table: 'local' },
  { priority: 32_766, src: 'all', table: 'main' },
  { priority: 32_767, src: 'all', table: 'default' },
];
const main: Told[] = [
  { dst: 'default', gateway: '10.0.0.1', dev: 'ens5' },
  { dst: '10.0.0.0/24', dev: 'ens5' },
];

test('policy rules by priority, the longest prefix in each table, and rules that are passed over', () => {
  const question = { source: '10.0.64.17', destination: '198.51.100.1', iif: 'enb0a004011', mark: 0 };
  const device = (rules: Told[], routes: Told[], asked = question) =>
    decide({ rules: [...usual, ...rules], routes: [...main, ...routes] }, asked)?.device;
  const all = { priority: 5270, src: 'all', table: '52' };
  const tun = { dst: 'default', dev: 'tun0', table: '52' };
  for (const [wanted, rules, routes] of [
    ['ens5', [], []],
    ['tun0', [all], [tun]],
    ['ens5', [all], [{ dst: '100.64.0.1', dev: 'tun0', table: '52' }]],
    ['ens5', [all], [tun, { dst: '198.51.100.0/24', type: 'throw', table: '52' }]],
    ['ens5', [{ ...all, fwmark: '0x80000', fwmask: '0xff0000' }], [tun]],
    ['tun0', [{ ...all, not: null, fwmark: '0xca6c' }], [tun]],
    ['ens5', [{ priority: 5, src: 'all', table: 'main', suppress_prefixlen: 0 }], []],
    ['tun0', [{ priority: 5, src: '10.0.64.0', srclen: 20, table: '52' }], [tun]],
    ['ens5', [{ priority: 5, src: '10.0.80.0', srclen: 20, table: '52' }], [tun]],
    ['ens5', [{ ...all, ipproto: 'udp' }], [tun]],
    ['ens5', [{ priority: 5, src: 'all', goto: 32_766 }, all], [tun]],
    [undefined, [{ priority: 5, src: 'all', action: 'blackhole' }], []],
  ] as [string | undefined, Told[], Told[]][])
    assert.is(device(rules, routes), wanted, JSON.stringify(rules));
  assert.is(isForeignRule(all), true);
  assert.is(isForeignRule({ ...all, protocol: '140' }), false);
  assert.equal(usual.map(isForeignRule), [false, false, false]);
});

test('what answers a connection goes the other way round, with its mark, and as whom the connection has asked for', () => {
  const [begins, answers] = journeysOf(terrain, 0x1000).filter(({ way }) => way === 'outside');
  assert.ok(begins !== undefined && answers !== undefined);
  const { iif, oif, source, destination, sport, dport } = begins.packet;
  assert.equal([iif, oif, dport, begins.packet.mark], ['ens5', 'enb0a004011', 80, 0]);
  assert.equal(begins.before, { destination: '10.0.0.4', dport: 30_080, dnat: false });
  assert.equal(answers.packet, {
    ...{ ...begins.packet, state: 'established', direction: 'reply', mark: 0x1000 },
    ...{ iif: oif, oif: iif, source: destination, destination: source, sport: dport, dport: sport },
  });
  assert.equal(answers.after, { source: '10.0.0.4', sport: 30_080 });
});

test.run();
