// Source addresses that are not the pod's, on both of its links; and answers and errors in the name of other machines.
import {
  type Act,
  type Attempt,
  by,
  CLIENT_PORT,
  type Family,
  type Field,
  framesOf,
  open,
  PORT,
  refused,
  type Sign,
} from '../attempt.ts';
import { ether, redirect, tcp, tooBig, udp } from '../frames.ts';

export function sources(f: Field): Attempt[] {
  return [...ofFamily(f, 4), ...(f.a.ip6 === undefined ? [] : ofFamily(f, 6))];
}

const ports: [number, number] = [4242, PORT];
const filter = by("the node's reverse-path filter");
const turnsBack = by('it turns back into its pod, which sends it as itself or not at all');

function ofFamily(f: Field, family: Family): Attempt[] {
  const six = family === 6;
  const key = six ? 'ip6' : 'ip4';
  const names: [string, string | undefined][] = [
    ['its node', f.one[key]],
    ['a local address of its node', f.local[key]],
    ['a pod of its ENI', f.b[key]],
    ['a pod of another ENI', f.c[key]],
    ['a pod of another node', f.far[key]],
    ['the router', six ? 'fe80:ec2::1' : f.router.ip4],
    ['a host in the Internet', f.foreign[key]],
    ['the metadata service', f.imds[key]],
    ['a free address of its ENI', f.free[key]],
    ['the unspecified address', six ? '::' : '0.0.0.0'],
    ['the loopback', six ? '::1' : '127.0.0.1'],
    ...(six
      ? ([
          ['the turn-back address', '100::1'],
          ["the node's name on the link", 'fe80::1'],
        ] satisfies [string, string][])
      : []),
  ];
  const named = names.filter((pair): pair is [string, string] => pair[1] !== undefined);
  return [
    ...named.flatMap(([name, from]) => as(f, family, name, from)),
    ...bySockets(f, family),
    ...inConversations(f, family),
  ];
}

/** Attempts with one source, in every direction. */
function as(f: Field, family: Family, name: string, from: string): Attempt[] {
  const key = family === 6 ? 'ip6' : 'ip4';
  const [own = '', b = '', c = '', far = ''] = [f.a[key], f.b[key], f.c[key], f.far[key]];
  const node = f.local[key] ?? '';
  const internet = f.internet[key] ?? '';
  const { toRouter, toEni, toNode } = framesOf(f);
  const raw = refused('net_raw', family);
  const to = (address: string) => (mark: string) => udp({ from, to: address }, ports, mark);
  // A packet whose source the node replaces is as good as refused: by the pod's own address, or by source NAT to the Internet.
  const not = [own];
  const away: Sign[] = [
    { frame: 'vpc', not },
    { heard: 'far', not },
  ];
  const [other, place] = from === c ? ([b, 'b'] as const) : ([c, 'c'] as const);
  // biome-ignore format: one attempt, one line
  return [
    raw(`as ${name}, out of eth0 to another node`, toRouter(to(far)), away),
    ...(from === b ? [] : [raw(`as ${name}, out of eth0 to a pod of its ENI`, toEni(to(b)), [{ frame: 'b' }, { heard: 'b' }])]),
    ...(['plain', 'loose'] as const).flatMap((stage) => {
      const how = stage === 'loose' ? ', no reverse-path filter' : '';
      const over = (where: Direction) => ({ stage, ...holds(family, stage, name, where) });
      return [
        ...(from === node ? [] : [raw(`as ${name}, over veth0 to its node${how}`, toNode(to(node)), [{ heard: 'one', not }], over('node'))]),
        raw(`as ${name}, over veth0 to a pod of its node${how}`, toNode(to(other)), [{ frame: place, not }, { heard: place, not }, { frame: 'vpc', not }], over('pod')),
        ...(family === 6 && f.one.ip6 === undefined ? [] : [raw(`as ${name}, over veth0 to the Internet${how}`, toNode(to(internet)), [{ frame: 'vpc', not: [...not, f.one.ip4] }], over('Internet'))]),
      ];
    }),
  ];
}

type Direction = 'node' | 'pod' | 'Internet';

/** What refuses a source on veth0 where the guard is not needed. */
function holds(family: Family, stage: 'plain' | 'loose', name: string, where: Direction) {
  if (name === 'the loopback') return by('the kernel takes no such source from a link');
  if (name === 'the unspecified address' && (family === 4 || where !== 'node'))
    return by('the kernel forwards nothing from the unspecified address');
  if (family === 6) {
    if (where !== 'node' && (name === 'the router' || name === "the node's name on the link"))
      return by('the kernel forwards nothing from a link-local address');
    return {};
  }
  if (name === 'its node' || name === 'a local address of its node')
    return by('the kernel takes its own addresses from no link');
  if (stage === 'plain') return filter;
  if (where === 'pod') return turnsBack;
  const ofPool = ['a pod of its ENI', 'a pod of another ENI', 'a free address of its ENI'].includes(name);
  return ofPool && where === 'Internet'
    ? by("the node's source NAT: it leaves with the node's address, as every pod's traffic")
    : {};
}

function bySockets(f: Field, family: Family): Attempt[] {
  const key = family === 6 ? 'ip6' : 'ip4';
  const [stolen = '', far = ''] = [f.b[key], f.far[key]];
  const raw = refused('net_raw', family);
  const signs: Sign[] = [{ frame: 'vpc' }, { heard: 'far' }];
  const send = { op: 'udp' as const, port: PORT, from: stolen };
  const byXdp =
    (mac: string, to: string): Act =>
    (mark) => ({
      op: 'frames',
      dev: 'eth0',
      xdp: true,
      frames: [ether({ from: f.eniMac, to: mac }, udp({ from: f.c[key] ?? '', to }, ports, mark))],
    });
  // ipvlan cannot tell for which pod of its ENI such a frame is, and gives it to the node (docs/security.md).
  // A process with NET_RAW may use TRANSPARENT (ip(7)). FREEBIND needs no capability, and IPv6 then sends from the bound address.
  // biome-ignore format: one attempt, one line
  return [
    refused('process', family)('as a pod of its ENI, by FREEBIND, out of eth0', () => ({ ...send, to: far, free: true }), signs, family === 4 ? by('the kernel sends from its own addresses alone') : {}),
    raw('as a pod of its ENI, by TRANSPARENT, out of eth0', () => ({ ...send, to: far, transparent: true }), signs),
    raw('as a pod of another ENI, by AF_XDP, out of eth0', byXdp(f.router.mac, far), signs),
    raw('as a pod of another ENI, by AF_XDP, to a pod of its ENI', byXdp(f.eniMac, stolen), [{ heard: 'b' }], { ipvlan: true }),
    raw('as a pod of its ENI, by a raw socket, out of eth0', (mark) => ({ op: 'raw', to: far, packets: [udp({ from: stolen, to: far }, ports, mark)] }), signs),
    ...(family === 6
      ? [refused('process', 6)('as a pod of its ENI, by FREEBIND, over veth0 to a Service', () => ({ ...send, to: f.services6.far, port: 80, free: true }), [{ heard: 'far' }], { stage: 'nftables' })]
      : [raw('as a pod of its ENI, by TRANSPARENT, over veth0, no reverse-path filter', () => ({ ...send, to: f.one.ip4, transparent: true }), [{ heard: 'one' }], { stage: 'loose' })]),
  ];
}

/** In the name of pod `c`, with which the node talks all the time from CLIENT_PORT. */
function inConversations(f: Field, family: Family): Attempt[] {
  const key = family === 6 ? 'ip6' : 'ip4';
  const [b = '', c = ''] = [f.b[key], f.c[key]];
  // The node's address in that conversation: for IPv6 its boot ENI's, when that has one.
  const node = f.one[key] ?? f.local[key] ?? '';
  const own = f.a[key] ?? '';
  const { toNode } = framesOf(f);
  const raw = refused('net_raw', family);
  const about = udp({ from: node, to: c }, [CLIENT_PORT, PORT], '');
  const pathMtu: Sign[] = [{ changed: 'one', script: `ip route get ${c} | grep -o "mtu [0-9]*" || :` }];
  const way: Sign[] = [{ changed: 'one', script: `ip route get ${f.internet.ip4} | grep -o "via [0-9.]*"` }];
  const undo = 'ip route flush cache; ip -6 route flush cache';
  const notIts: Act = toNode(() => tooBig({ from: own, to: node }, 1280, about));
  const reply: Sign[] = [
    { frame: 'b', not: [own] },
    { frame: 'vpc', not: [own] },
  ];
  return (['plain', 'loose'] as const).flatMap((stage) => {
    const how = stage === 'loose' ? ', no reverse-path filter' : '';
    const held = { stage, ...(family === 4 && stage === 'plain' ? filter : {}) };
    const back = family === 4 && stage === 'loose' ? { ...held, ...turnsBack } : held;
    // biome-ignore format: one attempt, one line
    return [
      raw(`another pod's answer to the node, over veth0${how}`, toNode((mark) => udp({ from: c, to: node }, [PORT, CLIENT_PORT], mark)), [{ heard: 'one' }], held),
      raw(`a reset that belongs to no connection, in another pod's name, over veth0${how}`, toNode((mark) => tcp({ from: c, to: b }, [PORT, 9], ['rst'], mark)), reply, back),
      raw(`an acknowledgement of nothing, in another pod's name, over veth0${how}`, toNode((mark) => tcp({ from: c, to: b }, [PORT, 9], ['ack'], mark)), reply, back),
      raw(`"too big" in another pod's name, about the node's conversation with it, over veth0${how}`, toNode(() => tooBig({ from: c, to: node }, 1280, about)), pathMtu, { ...held, undo }),
      ...(stage === 'loose' ? [] : [
        raw("\"too big\" in its own name, about the node's conversation with another pod, over veth0", notIts, pathMtu, { undo, ...open('such an error may come from any router; it must quote what the node really sends') }),
        ...(family === 4 ? [raw("redirect in the router's name, about the node's way to the Internet, over veth0", toNode(() => redirect({ from: f.router.ip4, to: f.one.ip4 }, own, udp({ from: f.one.ip4, to: f.internet.ip4 }, ports, ''))), way, by('a router takes no redirects'))] : []),
      ]),
    ];
  });
}
