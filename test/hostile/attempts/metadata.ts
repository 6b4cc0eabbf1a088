// Ways to the node's credentials.
import {
  type Act,
  type Attempt,
  by,
  type Family,
  type Field,
  framesOf,
  refused,
  type Sign,
} from '../attempt.ts';
import {
  arp,
  echo,
  ether,
  fragments,
  ip,
  neighbour,
  protocol,
  redirect,
  solicitedNode,
  sourceRoute,
  tagged,
  tcp,
  udp,
} from '../frames.ts';

const NOBODY = '00:00:00:00:00:00';
const PORTS: [number, number] = [4242, 80];
const route = by('the unreachable route in the pod');
const turnsBack = by('it turns back into its pod, whose route to it is unreachable or leads back again');

export function metadata(f: Field): Attempt[] {
  return [
    ...ofFamily(f, 4),
    ...only4(f),
    ...(f.a.ip6 === undefined ? [] : [...ofFamily(f, 6), ...only6(f)]),
    ...services(f),
  ];
}

function ofFamily(f: Field, family: Family): Attempt[] {
  const { router, eniMac } = f;
  const six = family === 6;
  const to = six ? f.imds.ip6 : f.imds.ip4;
  const from = (six ? f.a.ip6 : f.a.ip4) ?? '';
  const ends = { from, to };
  const reached: Sign[] = ['answer', { frame: 'vpc', to }];
  const out: Sign[] = [{ frame: 'vpc' }];
  const { toRouter, toEverybody, toGroup, toNode, onEth0 } = framesOf(f);
  const packet = (mark: string) => udp(ends, PORTS, mark);
  const toRouterMac = { from: eniMac, to: router.mac };
  const process = refused('process', family);
  const raw = refused('net_raw', family);
  const admin = refused('net_admin', family);
  const packetWith =
    (more: { mark: number } | { bypass: true } | { xdp: true }): Act =>
    (mark) => ({ op: 'frames', dev: 'eth0', frames: [ether(toRouterMac, packet(mark))], ...more });

  const target = `${to}/${six ? 128 : 32}`;
  const way = (via: string) => ({
    before: [`ip route replace ${target} ${via}`],
    after: [`ip route del ${target} ${via}`, `ip route replace unreachable ${target} proto 140`],
  });
  const overEth0 = `via ${six ? 'fe80:ec2::1' : router.ip4} dev eth0`;
  const overVeth0 = `via ${six ? 'fe80::1' : f.one.ip4} dev veth0`;
  const plain: Act = () => ({ op: 'imds', to, port: 80 });
  const turns = six ? turnsBack : {};
  const free = six ? `${f.free.ip6}/80` : `${f.free.ip4}/20`;

  // biome-ignore format: one attempt, one line
  return [
    process('IMDS: by its route', plain, reached, route),
    process('IMDS: UDP by its route', () => ({ op: 'udp', to, port: 80 }), reached, route),
    process('IMDS: bound to eth0', () => ({ op: 'imds', to, port: 80, dev: 'eth0' }), reached),
    process('IMDS: UDP bound to eth0', () => ({ op: 'udp', to, port: 80, dev: 'eth0' }), reached),
    process('IMDS: bound to veth0', () => ({ op: 'imds', to, port: 80, dev: 'veth0' }), reached, by(six ? 'no route over veth0' : 'no machine answers ARP for it on veth0')),
    raw('IMDS: a packet by a raw socket bound to eth0', (mark) => ({ op: 'raw', to, dev: 'eth0', packets: [packet(mark)] }), reached),
    raw('IMDS: a connection set up by frames on eth0', (_, n) => ({ op: 'frames', dev: 'eth0', frames: [ether(toRouterMac, tcp(ends, [20000 + n, 80], ['syn']))], hear: Buffer.concat([tcp({ from: to, to: from }, [80, 20000 + n], []).subarray(six ? 8 : 12, six ? 44 : 24)]) }), reached),
    raw('IMDS: a frame of UDP on eth0', toRouter(packet), reached),
    raw('IMDS: a frame of ICMP on eth0', toRouter((mark) => echo(ends, mark)), reached),
    raw('IMDS: a frame of an unused protocol on eth0', toRouter((mark) => ip(ends, 253, Buffer.from(mark))), reached),
    raw('IMDS: fragments on eth0', toRouter((mark) => fragments(ends, PORTS, mark)), reached),
    raw('IMDS: a broadcast frame on eth0', toEverybody(packet), reached),
    raw('IMDS: a frame with a VLAN tag on eth0', onEth0((mark) => tagged(toRouterMac, packet(mark), 7)), out),
    raw('IMDS: a frame with a tag that has only a priority on eth0', onEth0((mark) => tagged(toRouterMac, packet(mark), 0xe000)), out),
    raw("IMDS: a frame with a provider's tag (802.1ad) on eth0", onEth0((mark) => tagged(toRouterMac, packet(mark), 7, 0x88a8)), out),
    raw('IMDS: a frame of an unused type on eth0', onEth0((mark) => ether(toRouterMac, packet(mark), 0x88b5)), out),
    raw('IMDS: a frame of UDP on veth0', toNode(packet), reached, turns),
    raw('IMDS: IPIP to it on eth0', toRouter((mark) => ip(ends, protocol.ipip, packet(mark))), reached),
    raw('IMDS: protocol 41 to it on eth0', toRouter((mark) => ip(ends, protocol.ipv6, packet(mark))), reached),
    raw('IMDS: GRE to it on eth0', toRouter((mark) => ip(ends, protocol.gre, packet(mark))), reached),
    // A process with NET_RAW may mark a packet (socket(7), SO_MARK).
    raw('IMDS: a frame on eth0 with mark 0x40', packetWith({ mark: 0x40 }), reached),
    raw('IMDS: a frame on eth0 with mark 0x1000', packetWith({ mark: 0x1000 }), reached),
    raw('IMDS: a frame on eth0 with all marks', packetWith({ mark: 0xffffffff }), reached),
    raw('IMDS: a frame on eth0 past the queueing discipline', packetWith({ bypass: true }), reached),
    raw('IMDS: a frame on eth0 by AF_XDP', packetWith({ xdp: true }), reached),
    six
      ? raw('IMDS: neighbour solicitation for it on eth0', toGroup(solicitedNode(to), (mark) => neighbour('solicitation', { from, to: solicitedNode(to) }, to, eniMac, mark)), out)
      : raw('IMDS: ARP for it on eth0', toEverybody((mark) => arp('request', { mac: eniMac, address: from }, { mac: NOBODY, address: to }, mark)), out),
    admin('IMDS: a route over eth0', plain, reached, way(overEth0)),
    ...(six ? [] : [admin('IMDS: a route over eth0 without the router', plain, reached, way('dev eth0'))]),
    admin('IMDS: a route over veth0', plain, reached, { ...turns, ...way(overVeth0) }),
    admin('IMDS: a route over veth0, mark 0x40', () => ({ op: 'imds', to, port: 80, mark: 0x40 }), reached, { ...turns, ...way(overVeth0) }),
    admin('IMDS: a route over veth0, mark 0x1000', () => ({ op: 'imds', to, port: 80, mark: 0x1000 }), reached, { ...turns, ...way(overVeth0) }),
    admin("IMDS: a route over eth0, the pod's own rules removed", plain, reached, { from: 'd', before: ['nft flush ruleset', `ip route replace ${target} ${overEth0}`] }),
    admin('IMDS: a second ipvlan on eth0, with an address of the pool', () => ({ op: 'imds', to, port: 80, dev: 'eth9' }), reached, {
      from: 'd', ipvlan: true,
      before: ['ip link add link eth0 name eth9 type ipvlan mode l2', 'ip link set eth9 up', `ip address add ${free} dev eth9${six ? ' nodad' : ''}`, `ip route replace ${target} ${overEth0.replace('eth0', 'eth9')}`],
      after: ['ip link del eth9'],
    }),
  ];
}

function only4(f: Field): Attempt[] {
  const { a, imds, router, eniMac } = f;
  const ends = { from: a.ip4, to: imds.ip4 };
  const reached: Sign[] = ['answer', { frame: 'vpc', to: imds.ip4 }];
  const { toRouter, toNode } = framesOf(f);
  const raw = refused('net_raw', 4);
  const admin = refused('net_admin', 4);
  const header = ether({ from: eniMac, to: router.mac }, Buffer.alloc(46), 0x0800).subarray(0, 14);
  const advice = redirect({ from: f.one.ip4, to: a.ip4 }, router.ip4, udp(ends, PORTS, 'x'));
  const rpFilter = (value: number) => `echo ${value} >/proc/sys/net/ipv4/conf/eth0/rp_filter`;
  const believe = (value: number) => `echo ${value} >/proc/sys/net/ipv4/conf/all/accept_redirects`;
  const bound: Act = () => ({ op: 'imds', to: imds.ip4, port: 80, dev: 'eth0' });
  const plain: Act = () => ({ op: 'imds', to: imds.ip4, port: 80 });
  // biome-ignore format: one attempt, one line
  return [
    raw('IMDS: a conversation by frames on eth0', () => ({ op: 'imds_by_frames', dev: 'eth0', ...ends, ether: header }), reached),
    raw('IMDS: a source route to it by the router, on eth0', toRouter((mark) => udp({ from: a.ip4, to: router.ip4 }, PORTS, mark, { options: sourceRoute(imds.ip4) })), reached, by('no router of a VPC heeds a source route')),
    raw('IMDS: a source route to it by the node, on veth0', toNode((mark) => udp({ from: a.ip4, to: f.one.ip4 }, PORTS, mark, { options: sourceRoute(imds.ip4) })), reached, by('the kernel heeds no source route')),
    raw('IMDS: a packet with options, on eth0', toRouter((mark) => udp(ends, PORTS, mark, { options: sourceRoute(f.far.ip4) })), reached),
    raw('IMDS: a packet with options, on veth0', toNode((mark) => udp(ends, PORTS, mark, { options: sourceRoute(f.far.ip4) })), reached, by('the kernel heeds no source route')),
    raw('IMDS: fragments, on veth0', toNode((mark) => fragments(ends, PORTS, mark)), reached),
    raw('IMDS: protocol 41 to the node, a packet to it inside, on veth0', toNode((mark) => ip({ from: a.ip4, to: f.one.ip4 }, protocol.ipv6, udp({ from: 'fd00::1', to: imds.ip6 }, PORTS, mark))), [{ frame: 'vpc' }], by('the node has no tunnel that is up')),
    raw('IMDS: IPIP to the node, a packet to it inside, on veth0', toNode((mark) => ip({ from: a.ip4, to: f.one.ip4 }, protocol.ipip, udp(ends, PORTS, mark))), [{ frame: 'vpc' }], by('the node has no tunnel that is up')),
    raw('IMDS: GRE to the node, a packet to it inside, on veth0', toNode((mark) => ip({ from: a.ip4, to: f.one.ip4 }, protocol.gre, Buffer.concat([Buffer.from([0, 0, 8, 0]), udp(ends, PORTS, mark)]))), [{ frame: 'vpc' }], by('the node has no tunnel that is up')),
    admin('IMDS: bound to eth0, no reverse-path filter in the pod', bound, reached, { before: [rpFilter(0)], after: [rpFilter(1)] }),
    admin("IMDS: after a redirect in the node's name, believed", plain, reached, { ...route, before: [`${believe(1)}; ${rpFilter(0)}`, sentByShell(ether({ from: eniMac, to: eniMac }, advice))], after: [believe(0), rpFilter(1)] }),
  ];
}

function only6(f: Field): Attempt[] {
  const { imds, a } = f;
  const mapped = `::ffff:${imds.ip4}`;
  const reached: Sign[] = ['answer', { frame: 'vpc', to: imds.ip4 }];
  const process = refused('process', 6);
  const nobody = by('nothing translates the address: in the VPC it is not IMDS');
  const { toRouter } = framesOf(f);
  const at =
    (to: string): Act =>
    () => ({ op: 'imds', to, port: 80, dev: 'eth0' });
  // biome-ignore format: one attempt, one line
  return [
    process('IMDS: IPv4-mapped', () => ({ op: 'imds', to: mapped, port: 80 }), reached, route),
    process('IMDS: IPv4-mapped, UDP bound to eth0', () => ({ op: 'udp', to: mapped, port: 80, dev: 'eth0' }), reached),
    refused('net_raw', 6)('IMDS: IPv4-mapped on the wire', toRouter((mark) => udp({ from: a.ip6 ?? '', to: mapped }, PORTS, mark)), reached, nobody),
    process('IMDS: as NAT64 writes its address', at('64:ff9b::a9fe:a9fe'), reached, nobody),
    process('IMDS: as 6to4 writes its address', at('2002:a9fe:a9fe::1'), reached, nobody),
    process('IMDS: as ISATAP writes its address', at('fe80::5efe:a9fe:a9fe'), reached, nobody),
  ];
}

/** Through Services whose endpoint was set to IMDS by a user with rights in the API, on purpose or by mistake. */
function services(f: Field): Attempt[] {
  const { imds } = f;
  const reached: Sign[] = ['answer', { frame: 'vpc', to: imds.ip4 }];
  const process = refused('process', 4);
  return (['iptables', 'ipvs', 'nftables'] as const).flatMap((stage) => {
    const at =
      (to: string, port: number): Act =>
      () => ({ op: 'imds', to, port });
    // biome-ignore format: one attempt, one line
    return [
      process(`IMDS: a Service that points there, ${stage}`, at(f.services.imds, 80), reached, { stage }),
      process(`IMDS: a NodePort of its node that points there, ${stage}`, at(f.one.ip4, 30099), reached, { stage }),
      process(`IMDS: a hostPort of its node that points there, ${stage}`, at(f.one.ip4, 8099), reached, { stage }),
      process(`IMDS: a hostPort of another node that points there, ${stage}`, at(f.two.ip4, 8099), reached, { stage }),
      process(`IMDS: a NodePort of another node that points there, ${stage}`, at(f.two.ip4, 30099), reached, { stage }),
      ...(f.a.ip6 === undefined || stage === 'iptables' ? [] : [refused('process', 6)(`IMDS: a Service that points there, ${stage}`, at(f.services6.imds, 80), ['answer', { frame: 'vpc', to: imds.ip6 }], { ...turnsBack, stage })]),
    ];
  });
}

function sentByShell(frame: Buffer): string {
  return `python3 -c 'import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0)); s.send(bytes.fromhex("${frame.toString('hex')}"))'`;
}
