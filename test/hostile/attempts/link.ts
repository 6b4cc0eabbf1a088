// The link that the pods of an ENI share: ARP, neighbour discovery, routers, DHCP, foreign MACs, the ipvlan itself.
import {
  type Attempt,
  evilMac,
  type Field,
  framesOf,
  open,
  type Payload,
  PORT,
  type Rest,
  refused,
  type Sign,
} from '../attempt.ts';
import {
  arp,
  BROADCAST,
  dhcp,
  ether,
  icmp,
  neighbour,
  routerAdvertisement,
  solicitedNode,
  udp,
} from '../frames.ts';

const NOBODY = '00:00:00:00:00:00';
const ROUTER6 = 'fe80:ec2::1';
const EVERYBODY6 = 'ff02::1';
const atB: Sign[] = [{ frame: 'b' }, { neighbour: 'b' }];
const out: Sign[] = [{ frame: 'vpc' }];
const both: Sign[] = [...atB, ...out];
const closedBy = 'hostUsers: false, or no NET_ADMIN, closes it';

export function link(f: Field): Attempt[] {
  return [...ofIpv4(f), ...ipvlan(f), ...advertisedRouters(f), ...(f.a.ip6 === undefined ? [] : ofIpv6(f))];
}

function ofIpv4(f: Field): Attempt[] {
  const { a, b, far, router, eniMac } = f;
  const { toRouter, toEni, toEverybody, onEth0, toNode } = framesOf(f);
  const raw = refused('net_raw', 4);
  const claims = (
    [
      ['the router', router.ip4],
      ['a pod of its ENI', b.ip4],
      ['a pod of another node', far.ip4],
      ['its node', f.one.ip4],
    ] as const
  ).flatMap(([name, address]) => {
    const asked = address === b.ip4 ? router.ip4 : b.ip4;
    // biome-ignore format: one attempt, one line
    return [
      raw(`ARP: it is ${name}, asking all`, toEverybody((mark, n) => arp('request', { mac: evilMac(n), address }, { mac: NOBODY, address: asked }, mark)), both),
      raw(`ARP: it is ${name}, told to all (gratuitous)`, toEverybody((mark, n) => arp('reply', { mac: evilMac(n), address }, { mac: BROADCAST, address }, mark)), both, { ipvlan: true }),
      ...(address === b.ip4 ? [] : [raw(`ARP: it is ${name}, told a pod of its ENI`, toEni((mark, n) => arp('reply', { mac: evilMac(n), address }, { mac: eniMac, address: b.ip4 }, mark)), atB)]),
    ];
  });
  const everybody = { from: '0.0.0.0', to: '255.255.255.255' };
  const fromItself = { from: a.ip4, to: everybody.to };
  const toB = { from: a.ip4, to: b.ip4 };
  const toFar = { from: a.ip4, to: far.ip4 };
  const ports: [number, number] = [4242, PORT];
  const overVeth = toNode((mark, n) =>
    arp('request', { mac: evilMac(n), address: f.c.ip4 }, { mac: NOBODY, address: f.one.ip4 }, mark),
  );
  // biome-ignore format: one attempt, one line
  return [
    ...claims,
    raw('ARP: its own address is at a MAC of its making', toEverybody((mark, n) => arp('request', { mac: evilMac(n), address: a.ip4 }, { mac: NOBODY, address: router.ip4 }, mark)), out),
    raw('ARP: it is a pod of its ENI, told the router', toRouter((mark) => arp('reply', { mac: eniMac, address: b.ip4 }, { mac: router.mac, address: router.ip4 }, mark)), out),
    raw('ARP: without a sender address, as for duplicate detection', toEverybody((mark) => arp('request', { mac: eniMac, address: '0.0.0.0' }, { mac: NOBODY, address: b.ip4 }, mark)), both),
    raw('ARP: it is another pod, told its node over veth0', overVeth, [{ neighbour: 'one' }], { held: "the node's reverse-path filter" }),
    raw('ARP: it is another pod, told its node over veth0, no reverse-path filter', overVeth, [{ neighbour: 'one' }], { stage: 'loose', ...open("no route to another pod leads over this pod's link") }),
    raw('a MAC of its making, to another node', onEth0((mark, n) => ether({ from: evilMac(n), to: router.mac }, udp(toFar, ports, mark))), out),
    raw('a MAC of its making, to a pod of its ENI', onEth0((mark, n) => ether({ from: evilMac(n), to: eniMac }, udp(toB, ports, mark))), both),
    raw("the router's MAC, to a pod of its ENI", onEth0((mark) => ether({ from: router.mac, to: eniMac }, udp(toB, ports, mark))), both),
    raw('DHCP: a client asks', toEverybody((mark) => dhcp(everybody, 'discover', eniMac, mark)), out),
    raw('DHCP: a client asks from its own address', toEverybody((mark) => dhcp(fromItself, 'discover', eniMac, mark)), out),
    raw('DHCP: a server offers', toEverybody((mark) => dhcp(fromItself, 'offer', eniMac, mark)), out),
    raw('DHCP: a server offers, to a pod of its ENI', toEni((mark) => dhcp(toB, 'offer', eniMac, mark)), [{ frame: 'b' }], open('no pod asks')),
    raw("DHCP: a server offers in the router's name", toEverybody((mark) => dhcp({ from: router.ip4, to: everybody.to }, 'offer', eniMac, mark)), both),
  ];
}

/** Changes by NET_ADMIN to the pod's own links and rules, which also affect pods that share the ENI. */
function ipvlan(f: Field): Attempt[] {
  const { b, far, free, router, eniMac } = f;
  const { toEni, toRouter } = framesOf(f);
  const admin = refused('net_admin', 4, { ipvlan: true });
  const reached: Sign[] = ['answer', ...out, { heard: 'far' }];
  const carrying = (address: string) => ({
    before: [`ip address add ${address}/32 dev eth0`],
    after: [`ip address del ${address}/32 dev eth0`],
  });
  const asItself = (from: string) => () => ({ op: 'udp' as const, to: far.ip4, port: PORT, from });
  const bare = (why: string): Rest => ({
    from: 'd',
    before: ['nft flush ruleset'],
    ...open(`${why}; ${closedBy}`),
  });
  const apart = bare('the node and EC2 know which addresses an ENI has, not which of its pods sends');
  const past = bare('frames between the pods of an ENI do not pass the node');
  const modes = "for pod in a b c; do ip -n $pod -d link show eth0 | grep -o 'mode l[23]s* [a-z]*'; done";
  const mode = (wanted: string) =>
    admin(`an ipvlan of ${wanted}`, () => ({ op: 'nothing' }), [{ changed: 'one', script: modes }], {
      from: 'd',
      expected: 'mended',
      why: `a change of one ipvlan's mode changes all ipvlans of its ENI; ${closedBy}`,
      before: [`ip link set dev eth0 type ipvlan ${wanted}`],
      undo: 'ip -n d link set dev eth0 type ipvlan mode l2 bridge',
    });
  const toFar =
    (from: string): Payload =>
    (mark) =>
      udp({ from, to: far.ip4 }, [4242, PORT], mark);
  // biome-ignore format: one attempt, one line
  return [
    admin("listening to a neighbour's conversation, promiscuous", () => ({ op: 'listen', dev: 'eth0', hear: Buffer.from('between neighbours') }), ['answer'], { held: 'an ipvlan gets only packets for its own addresses', before: ['ip link set eth0 promisc on'], after: ['ip link set eth0 promisc off'] }),
    admin("a neighbour's live address on its own eth0", asItself(b.ip4), reached, { held: 'an ENI has each address once (ipvlan)', ...carrying(b.ip4) }),
    admin('a free address of the pool on its own eth0', asItself(free.ip4), reached, carrying(free.ip4)),
    admin("as a free address of its ENI, the pod's own rules removed", toRouter(toFar(free.ip4)), [{ heard: 'far' }], apart),
    admin("as a pod of its ENI, to another node, the pod's own rules removed", toRouter(toFar(b.ip4)), [{ heard: 'far' }], apart),
    admin("ARP: it is the router, told a pod of its ENI, the pod's own rules removed", toEni((mark, n) => arp('reply', { mac: evilMac(n), address: router.ip4 }, { mac: eniMac, address: b.ip4 }, mark)), atB, past),
    admin("as a host in the Internet, to a pod of its ENI, the pod's own rules removed", toEni((mark) => udp({ from: f.foreign.ip4, to: b.ip4 }, [4242, PORT], mark)), [{ frame: 'b' }], past),
    admin("as a pod of another ENI, the pod's own rules removed", toRouter(toFar(f.c.ip4)), out, { from: 'd', before: ['nft flush ruleset'] }),
    admin('IMDS: a frame after eth0 was renamed', (mark) => ({ op: 'frames', dev: 'eth7', frames: [ether({ from: eniMac, to: router.mac }, udp({ from: f.a.ip4, to: f.imds.ip4 }, [4242, 80], mark))] }), out, { from: 'd', before: ['ip link set eth0 down; ip link set eth0 name eth7; ip link set eth7 up'], after: ['ip link set eth7 down; ip link set eth7 name eth0; ip link set eth0 up'] }),
    mode('mode l3'),
    mode('mode l3s'),
    mode('mode l2 private'),
    mode('mode l2 vepa'),
  ];
}

/** Also when pods have IPv4 only: their kernels have IPv6 nevertheless. */
function advertisedRouters(f: Field): Attempt[] {
  const { toGroup } = framesOf(f);
  const raw = refused('net_raw', 6);
  return [
    ['the router', ROUTER6] as const,
    ['an address of its making', 'fe80::bad'] as const,
    ...(f.a.ip6 === undefined ? [] : [['its own address', f.a.ip6] as const]),
  ].map(([name, from]) =>
    raw(
      `router advertisement from ${name}`,
      toGroup(EVERYBODY6, (mark, n) => routerAdvertisement({ from, to: EVERYBODY6 }, evilMac(n), mark)),
      both,
    ),
  );
}

function ofIpv6(f: Field): Attempt[] {
  const { router } = f;
  const [own = '', victim = '', far = ''] = [f.a.ip6, f.b.ip6, f.far.ip6];
  const { toRouter, toEni, toGroup, onEth0 } = framesOf(f);
  const raw = refused('net_raw', 6);
  const group = solicitedNode(victim);
  const claims = (
    [
      ['the router', ROUTER6],
      ['a pod of its ENI', victim],
      ['a pod of another node', far],
    ] as const
  ).flatMap(([name, address]) => {
    const seen = both;
    const alone = address === victim;
    // biome-ignore format: one attempt, one line
    return [
      raw(`advertisement: it is ${name}, told to all`, toGroup(EVERYBODY6, (mark, n) => neighbour('advertisement', { from: address, to: EVERYBODY6 }, address, evilMac(n), mark)), seen),
      raw(`advertisement: ${name} is at a MAC of its making, from its own address`, toGroup(EVERYBODY6, (mark, n) => neighbour('advertisement', { from: own, to: EVERYBODY6 }, address, evilMac(n), mark)), seen),
      ...(alone ? [] : [
        raw(`advertisement: it is ${name}, told a pod of its ENI`, toEni((mark, n) => neighbour('advertisement', { from: address, to: victim }, address, evilMac(n), mark)), atB),
        raw(`advertisement: ${name} is at a MAC of its making, from its own address, told a pod of its ENI`, toEni((mark, n) => neighbour('advertisement', { from: own, to: victim }, address, evilMac(n), mark)), atB),
        raw(`solicitation in the name of ${name}, to a pod of its ENI`, toEni((mark, n) => neighbour('solicitation', { from: address, to: victim }, victim, evilMac(n), mark)), atB),
      ]),
    ];
  });
  // biome-ignore format: one attempt, one line
  return [
    ...claims,
    raw('advertisement: its own address is at a MAC of its making', toEni((mark, n) => neighbour('advertisement', { from: own, to: victim }, own, evilMac(n), mark)), atB, open('it loses its own answers alone: no frame leaves from that MAC')),
    raw("duplicate detection of a neighbour's address", toGroup(group, (mark) => neighbour('solicitation', { from: '::', to: group }, victim, undefined, mark)), both),
    raw("redirect in the router's name, to a pod of its ENI", toEni((mark) => icmp({ from: ROUTER6, to: victim }, [137, 0], Buffer.alloc(4), Buffer.concat([Buffer.alloc(32), Buffer.from(mark)]))), atB),
    raw('DHCPv6: a client asks', toGroup('ff02::1:2', (mark) => udp({ from: own, to: 'ff02::1:2' }, [546, 547], mark)), out),
    raw('DHCPv6: a server offers, to a pod of its ENI', toEni((mark) => udp({ from: own, to: victim }, [547, 546], mark)), [{ frame: 'b' }], open('no pod asks')),
    raw('DHCPv6: a server offers, to another node', toRouter((mark) => udp({ from: own, to: far }, [547, 546], mark)), out),
    raw('a MAC of its making, to another node', onEth0((mark, n) => ether({ from: evilMac(n), to: router.mac }, udp({ from: own, to: far }, [4242, PORT], mark))), out),
  ];
}
