// What hostile pods try, as a table: one attempt, one line. What holds it, or why nothing does, stands in its line.
import {
  arp,
  BROADCAST,
  dhcp,
  echo,
  ether,
  fragments,
  icmp,
  ip,
  multicastMac,
  neighbour,
  protocol,
  redirect,
  routerAdvertisement,
  solicitedNode,
  sourceRoute,
  tagged,
  tcp,
  tooBig,
  udp,
} from './frames.ts';

/** Without any capability; as containerd starts containers, with NET_RAW; the same and NET_ADMIN. */
export type Attacker = 'process' | 'net_raw' | 'net_admin';

/** Where an attempt comes from, or is seen: a pod by its name, a node, the VPC, the Internet. */
export type Place = 'a' | 'b' | 'c' | 'd' | 'far' | 'one' | 'two' | 'vpc' | 'internet';

/** How the node is while an attempt is made. */
export type Stage =
  | 'plain'
  /** Without any reverse-path filter on the node. */
  | 'loose'
  /** With kube-proxy's rules, of this mode. */
  | 'iptables'
  | 'ipvs'
  | 'nftables';

export interface Machine {
  ip4: string;
  ip6?: string | undefined;
}

interface BothFamilies extends Machine {
  ip6: string;
}

/** Everybody's addresses. */
export interface Field {
  imds: BothFamilies;
  /** On node one: `a` and `b` share an ENI with `d`, `c` is on another. `far` is on node two. */
  a: Machine & { vethMac: string; nodeMac: string };
  b: Machine;
  c: Machine;
  far: Machine;
  /** Addresses of the nodes, IPv6 where the boot ENI has one. */
  one: Machine;
  two: Machine;
  /** Addresses of node one that belong to no ENI, as of a local DNS cache. */
  local: Machine;
  router: Machine & { mac: string };
  internet: Machine;
  /** An address of the pool on the first ENI that no pod has; and the ENI's primary one, which no pod ever has. */
  free: Machine;
  primary: string;
  eniMac: string;
  otherEniMac: string;
  /** What no VPC has. */
  foreign: BothFamilies;
  services: { b: string; c: string; far: string; imds: string };
  services6: { far: string; imds: string };
}

/** What attacker.py does. */
export type Operation =
  | {
      op: 'udp' | 'tcp' | 'imds' | 'ping';
      to: string;
      port?: number;
      dev?: string;
      from?: string;
      mark?: number;
      free?: true;
      transparent?: true;
    }
  | { op: 'path_mtu'; to: string; port: number; size: number }
  | { op: 'frames'; dev: string; frames: Buffer[]; hear?: Buffer; mark?: number }
  | { op: 'raw'; to: string; dev?: string; packets: Buffer[] }
  | { op: 'imds_by_frames'; dev: string; from: string; to: string; ether: Buffer }
  | { op: 'listen'; dev: string; hear: Buffer }
  | { op: 'nothing' };

/** By what it is seen that an attempt got through. */
export type Sign =
  /** The attacker got an answer. */
  | 'answer'
  /** A program there received it; `as`: from whom it had to be. */
  | { heard: Place; as?: string }
  /** A frame of it arrived there; `as` and `to` are the addresses it had to have. */
  | { frame: Place; as?: string; to?: string }
  /** The neighbour table there has an entry of the attacker's making. */
  | { neighbour: Place };

export interface Attempt {
  what: string;
  as: Attacker;
  family: 4 | 6;
  /** The pod it comes from; `a` without it. */
  from?: Place;
  /** `plain` without it. */
  stage?: Stage;
  /**
   * `refused`: by the guard alone, so that it gets through without it, or by what `held` names, with and without the guard.
   * `works`: it has to get through. `open`: it gets through, and `why` says why nothing is done about it.
   */
  expected: 'refused' | 'works' | 'open';
  held?: string;
  why?: string;
  /** Only a real ipvlan shows it. */
  ipvlan?: true;
  /** Shell commands in the pod, around the attempt. */
  before?: string[];
  after?: string[];
  /** `mark` is the text, `n` the number, by which its packets are known. */
  operation: (mark: string, n: number) => Operation;
  signs: Sign[];
}

type Rest = Omit<Attempt, 'what' | 'as' | 'family' | 'expected' | 'operation' | 'signs'>;

/** Held by what was there before the guard. */
const by = (held: string): Rest => ({ held });

export function attempts(field: Field): Attempt[] {
  return [...metadata(field), ...neighbours(field), ...forged(field), ...stray(field), ...ordinary(field)];
}

const DNS4 = '169.254.169.253';
const TIME4 = '169.254.169.123';
const DNS6 = 'fd00:ec2::253';
const TIME6 = 'fd00:ec2::123';
/** Beside IMDS: what the simulated VPC has to answer at, as pairs of address and port. */
export function linkLocalServices(ipv6: boolean): [string, number][] {
  return [
    [DNS4, 53],
    [TIME4, 123],
    ...(ipv6
      ? ([
          [DNS6, 53],
          [TIME6, 123],
        ] satisfies [string, number][])
      : []),
  ];
}
/** Where witnesses answer. */
const PORT = 7777;
/** Where witnesses talk to their peers from. */
const CLIENT_PORT = 7778;

// ---- the metadata service

function metadata(f: Field): Attempt[] {
  const { imds, a, router, eniMac } = f;
  const reaches = (to: string): Sign[] => ['answer', { frame: 'vpc', to }];
  const rows: Attempt[] = [];
  const add = (
    as: Attacker,
    family: 4 | 6,
    what: string,
    operation: Attempt['operation'],
    rest: Rest = {},
    signs: Sign[] = reaches(family === 4 ? imds.ip4 : imds.ip6),
  ) => rows.push({ what: `IMDS: ${what}`, as, family, expected: 'refused', operation, signs, ...rest });

  const families = [
    { family: 4 as const, to: imds.ip4, own: a.ip4 },
    ...(a.ip6 === undefined ? [] : [{ family: 6 as const, to: imds.ip6, own: a.ip6 }]),
  ];
  const route = by('the unreachable route in the pod');
  for (const { family, to, own } of families) {
    const six = family === 6;
    const ends = { from: own, to };
    const toRouter = (payload: Buffer, type?: number) =>
      ether({ from: eniMac, to: router.mac }, payload, type);
    const packet = (mark: string) => udp(ends, [4242, 80], mark);
    const send = (...frames: Buffer[]): Operation => ({ op: 'frames', dev: 'eth0', frames });

    add('process', family, 'by its route', () => ({ op: 'imds', to, port: 80 }), route);
    add('process', family, 'UDP by its route', () => ({ op: 'udp', to, port: 80 }), route);
    add('process', family, 'bound to eth0', () => ({ op: 'imds', to, port: 80, dev: 'eth0' }));
    add('process', family, 'UDP bound to eth0', () => ({ op: 'udp', to, port: 80, dev: 'eth0' }));
    const noWay = six ? 'no route over veth0' : 'nobody answers ARP for it on veth0';
    add('process', family, 'bound to veth0', () => ({ op: 'imds', to, port: 80, dev: 'veth0' }), by(noWay));
    add('net_raw', family, 'a packet by a raw socket bound to eth0', (mark) => ({
      op: 'raw',
      to,
      dev: 'eth0',
      packets: [packet(mark)],
    }));
    add('net_raw', family, 'a connection set up by frames on eth0', (_, n) => ({
      ...send(toRouter(tcp(ends, [20000 + n, 80], ['syn']))),
      hear: tcp({ from: to, to: own }, [80, 20000 + n], []).subarray(six ? 8 : 12, six ? 44 : 24),
    }));
    add('net_raw', family, 'a frame of UDP on eth0', (mark) => send(toRouter(packet(mark))));
    add('net_raw', family, 'a frame of ICMP on eth0', (mark) => send(toRouter(echo(ends, mark))));
    add('net_raw', family, 'a frame of a protocol nobody speaks on eth0', (mark) =>
      send(toRouter(ip(ends, 253, Buffer.from(mark)))),
    );
    add('net_raw', family, 'fragments on eth0', (mark) =>
      send(...fragments(ends, [4242, 80], mark).map((one) => toRouter(one))),
    );
    add('net_raw', family, 'a frame to everybody on eth0', (mark) =>
      send(ether({ from: eniMac, to: BROADCAST }, packet(mark))),
    );
    add(
      'net_raw',
      family,
      'a frame with a VLAN tag on eth0',
      (mark) => send(tagged({ from: eniMac, to: router.mac }, packet(mark))),
      {},
      [{ frame: 'vpc' }],
    );
    add(
      'net_raw',
      family,
      'a frame with a tag of priority alone on eth0',
      (mark) => send(tagged({ from: eniMac, to: router.mac }, packet(mark), 0xe000)),
      {},
      [{ frame: 'vpc' }],
    );
    add(
      'net_raw',
      family,
      'a frame with a provider tag (802.1ad) on eth0',
      (mark) => send(tagged({ from: eniMac, to: router.mac }, packet(mark), 7, 0x88a8)),
      {},
      [{ frame: 'vpc' }],
    );
    add(
      'net_raw',
      family,
      'a frame of a type nobody uses on eth0',
      (mark) => send(toRouter(packet(mark), 0x88b5)),
      {},
      [{ frame: 'vpc' }],
    );
    add(
      'net_raw',
      family,
      'a frame of UDP on veth0',
      (mark) => ({
        op: 'frames',
        dev: 'veth0',
        frames: [ether({ from: a.vethMac, to: a.nodeMac }, packet(mark))],
      }),
      by('chain imds_guard on the node'),
    );
    for (const [name, number] of [
      ['IPv4 in', protocol.ipip],
      ['IPv6 in', protocol.ipv6],
      ['GRE in', protocol.gre],
    ] as const)
      add('net_raw', family, `${name} a packet to it on eth0`, (mark) =>
        send(toRouter(ip(ends, number, packet(mark)))),
      );
    // A mark is 32 bits that whoever has NET_RAW may set (socket(7)).
    for (const value of [0x40, 0x1000, 0xffffffff])
      add(
        'net_raw',
        family,
        `a frame on eth0 with mark 0x${value.toString(16)}`,
        (mark) => ({ ...send(toRouter(packet(mark))), mark: value }) as Operation,
      );
    add(
      'net_raw',
      family,
      'who has its address, on eth0',
      (mark) =>
        send(
          six
            ? ether(
                { from: eniMac, to: multicastMac(solicitedNode(to)) },
                neighbour('solicitation', { from: own, to: solicitedNode(to) }, to, eniMac, mark),
              )
            : ether(
                { from: eniMac, to: BROADCAST },
                arp(
                  'request',
                  { mac: eniMac, address: own },
                  { mac: '00:00:00:00:00:00', address: to },
                  mark,
                ),
              ),
        ),
      {},
      [{ frame: 'vpc' }],
    );

    const via = six ? `fe80:ec2::1 dev eth0` : `${router.ip4} dev eth0`;
    const mask = six ? 128 : 32;
    add('net_admin', family, 'a route over eth0', () => ({ op: 'imds', to, port: 80 }), {
      before: [`ip route replace ${to}/${mask} via ${via}`],
      after: [
        `ip route del ${to}/${mask} via ${via}`,
        `ip route replace unreachable ${to}/${mask} proto 140`,
      ],
    });
    add('net_admin', family, 'a route over eth0 without the router', () => ({ op: 'imds', to, port: 80 }), {
      before: [`ip route replace ${to}/${mask} dev eth0`],
      after: [`ip route del ${to}/${mask} dev eth0`, `ip route replace unreachable ${to}/${mask} proto 140`],
    });
    const node = six ? 'fe80::1' : f.one.ip4;
    add('net_admin', family, 'a route over veth0', () => ({ op: 'imds', to, port: 80 }), {
      ...by('chain imds_guard on the node'),
      before: [`ip route replace ${to}/${mask} via ${node} dev veth0`],
      after: [
        `ip route del ${to}/${mask} via ${node} dev veth0`,
        `ip route replace unreachable ${to}/${mask} proto 140`,
      ],
    });
    for (const mark of [0x40, 0x1000])
      add(
        'net_admin',
        family,
        `a route over veth0 and mark 0x${mark.toString(16)}`,
        () => ({ op: 'imds', to, port: 80, mark }),
        {
          ...by('chain imds_guard on the node'),
          before: [`ip route replace ${to}/${mask} via ${node} dev veth0`],
          after: [
            `ip route del ${to}/${mask} via ${node} dev veth0`,
            `ip route replace unreachable ${to}/${mask} proto 140`,
          ],
        },
      );
    add(
      'net_admin',
      family,
      "a route over eth0, and the pod's own rules removed",
      () => ({ op: 'imds', to, port: 80 }),
      {
        from: 'd',
        before: ['nft flush ruleset', `ip route replace ${to}/${mask} via ${via}`],
      },
    );
    add(
      'net_admin',
      family,
      'a second ipvlan on eth0, with an address of the pool',
      () => ({ op: 'imds', to, port: 80, dev: 'eth9' }),
      {
        from: 'd',
        ipvlan: true,
        before: [
          'ip link add link eth0 name eth9 type ipvlan mode l2',
          'ip link set eth9 up',
          ...(six
            ? [`ip address add ${f.free.ip6}/80 dev eth9 nodad`]
            : [`ip address add ${f.free.ip4}/20 dev eth9`]),
          `ip route replace ${to}/${mask} dev eth9`,
        ],
        after: ['ip link del eth9'],
      },
    );
  }

  add('net_raw', 4, 'a connection set up by frames on eth0, to its end', () => ({
    op: 'imds_by_frames',
    dev: 'eth0',
    from: a.ip4,
    to: imds.ip4,
    ether: ether({ from: eniMac, to: router.mac }, Buffer.alloc(46), 0x0800).subarray(0, 14),
  }));
  add(
    'net_raw',
    4,
    'a source route to it by way of the router (LSRR), on eth0',
    (mark) => ({
      op: 'frames',
      dev: 'eth0',
      frames: [
        ether(
          { from: eniMac, to: router.mac },
          udp({ from: a.ip4, to: router.ip4 }, [4242, 80], mark, { options: sourceRoute(imds.ip4) }),
        ),
      ],
    }),
    by('routers heed no source route'),
    [{ frame: 'vpc', to: imds.ip4 }],
  );
  add(
    'net_raw',
    4,
    'a source route to it by way of the node (LSRR), on veth0',
    (mark) => ({
      op: 'frames',
      dev: 'veth0',
      frames: [
        ether(
          { from: a.vethMac, to: a.nodeMac },
          udp({ from: a.ip4, to: f.one.ip4 }, [4242, 80], mark, { options: sourceRoute(imds.ip4) }),
        ),
      ],
    }),
    by('the kernel heeds no source route'),
  );
  add('net_raw', 4, 'its frame with options, on eth0', (mark) => ({
    op: 'frames',
    dev: 'eth0',
    frames: [
      ether(
        { from: eniMac, to: router.mac },
        udp({ from: a.ip4, to: imds.ip4 }, [4242, 80], mark, { options: sourceRoute(f.far.ip4) }),
      ),
    ],
  }));
  add(
    'net_admin',
    4,
    'bound to eth0, without a reverse-path filter in the pod',
    () => ({ op: 'imds', to: imds.ip4, port: 80, dev: 'eth0' }),
    {
      before: ['echo 0 >/proc/sys/net/ipv4/conf/eth0/rp_filter'],
      after: ['echo 1 >/proc/sys/net/ipv4/conf/eth0/rp_filter'],
    },
  );
  add(
    'net_admin',
    4,
    'after a redirect in the name of the node, which it believes',
    () => ({ op: 'imds', to: imds.ip4, port: 80 }),
    {
      ...route,
      before: [
        'echo 1 >/proc/sys/net/ipv4/conf/all/accept_redirects; echo 0 >/proc/sys/net/ipv4/conf/eth0/rp_filter',
        frameByShell(
          'eth0',
          ether(
            { from: eniMac, to: eniMac },
            redirect(
              { from: f.one.ip4, to: a.ip4 },
              router.ip4,
              udp({ from: a.ip4, to: imds.ip4 }, [4242, 80], 'x'),
            ),
          ),
        ),
      ],
      after: [
        'echo 0 >/proc/sys/net/ipv4/conf/all/accept_redirects; echo 1 >/proc/sys/net/ipv4/conf/eth0/rp_filter',
      ],
    },
  );
  if (a.ip6 !== undefined) {
    add(
      'process',
      6,
      'IPv4-mapped',
      () => ({ op: 'imds', to: `::ffff:${imds.ip4}`, port: 80 }),
      route,
      reaches(imds.ip4),
    );
    add(
      'process',
      6,
      'IPv4-mapped, UDP bound to eth0',
      () => ({ op: 'udp', to: `::ffff:${imds.ip4}`, port: 80, dev: 'eth0' }),
      {},
      reaches(imds.ip4),
    );
    add(
      'net_raw',
      6,
      'IPv4-mapped on the wire',
      (mark) => ({
        op: 'frames',
        dev: 'eth0',
        frames: [
          ether(
            { from: eniMac, to: router.mac },
            udp({ from: a.ip6 ?? '', to: `::ffff:${imds.ip4}` }, [4242, 80], mark),
          ),
        ],
      }),
      by('nobody translates: the VPC has no such address'),
      [{ frame: 'vpc', to: imds.ip4 }],
    );
    for (const [name, to] of [
      ['NAT64', '64:ff9b::a9fe:a9fe'],
      ['6to4', '2002:a9fe:a9fe::1'],
      ['ISATAP', 'fe80::5efe:a9fe:a9fe'],
    ] as const)
      add(
        'process',
        6,
        `as ${name} writes its address`,
        () => ({ op: 'imds', to, port: 80, dev: 'eth0' }),
        by('nobody translates: what is in the VPC is no IMDS'),
        ['answer', { frame: 'vpc', to: imds.ip4 }],
      );
    for (const number of [protocol.ipip, protocol.ipv6, protocol.gre])
      add(
        'net_raw',
        6,
        `protocol ${number} to the node, with a packet to it inside, on veth0`,
        (mark) => ({
          op: 'frames',
          dev: 'veth0',
          frames: [
            ether(
              { from: a.vethMac, to: a.nodeMac },
              ip(
                { from: a.ip4, to: f.one.ip4 },
                number,
                number === protocol.ipv6
                  ? udp({ from: a.ip6 ?? '', to: imds.ip6 }, [4242, 80], mark)
                  : udp({ from: a.ip4, to: imds.ip4 }, [4242, 80], mark),
              ),
            ),
          ],
        }),
        by('the node has no tunnel that is up'),
      );
  }

  // By way of Services, whose endpoint an attacker with rights in the API chose, or who made them by mistake.
  const stages = ['iptables', 'ipvs', 'nftables'] as const;
  for (const stage of stages) {
    const forwards = stage === 'ipvs' ? { stage } : { ...by('chain imds_guard on the node'), stage };
    add(
      'process',
      4,
      `a Service that points there, ${stage}`,
      () => ({ op: 'imds', to: f.services.imds, port: 80 }),
      forwards,
    );
    add(
      'process',
      4,
      `a NodePort of its node that points there, ${stage}`,
      () => ({ op: 'imds', to: f.one.ip4, port: 30099 }),
      forwards,
    );
    add(
      'process',
      4,
      `a NodePort of another node that points there, ${stage}`,
      () => ({ op: 'imds', to: f.two.ip4, port: 30099 }),
      { stage },
    );
    if (a.ip6 !== undefined && stage !== 'iptables')
      add(
        'process',
        6,
        `a Service that points there, ${stage}`,
        () => ({ op: 'imds', to: f.services6.imds, port: 80 }),
        { ...by('chain imds_guard on the node'), stage },
      );
  }
  return rows;
}

/** A frame sent by a command, before the attempt itself. */
function frameByShell(dev: string, frame: Buffer): string {
  return `python3 -c 'import socket; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("${dev}", 0)); s.send(bytes.fromhex("${frame.toString('hex')}"))'`;
}

// ---- the link: ARP, neighbour discovery, routers, DHCP

function neighbours(f: Field): Attempt[] {
  const { a, b, far, router, eniMac } = f;
  const rows: Attempt[] = [];
  const add = (
    as: Attacker,
    family: 4 | 6,
    what: string,
    frame: (mark: string, evil: string) => Buffer,
    signs: Sign[],
    rest: Rest = {},
  ) =>
    rows.push({
      what,
      as,
      family,
      expected: 'refused',
      signs,
      ...rest,
      operation: (mark, n) => ({ op: 'frames', dev: 'eth0', frames: [frame(mark, evilMac(n))] }),
    });
  const nobody = '00:00:00:00:00:00';
  const atB: Sign[] = [{ frame: 'b' }, { neighbour: 'b' }];
  const out: Sign[] = [{ frame: 'vpc' }];
  const both: Sign[] = [...atB, ...out];
  for (const [name, address] of [
    ['the router', router.ip4],
    ['a pod of its ENI', b.ip4],
    ['a pod of another node', far.ip4],
    ['the node', f.one.ip4],
  ] as const) {
    const victim = { mac: eniMac, address: name === 'a pod of its ENI' ? router.ip4 : b.ip4 };
    const signs = name === 'a pod of its ENI' ? out : both;
    add(
      'net_raw',
      4,
      `ARP: it is ${name}, to everybody`,
      (mark, evil) =>
        ether(
          { from: eniMac, to: BROADCAST },
          arp('request', { mac: evil, address }, { mac: nobody, address: victim.address }, mark),
        ),
      signs,
    );
    add(
      'net_raw',
      4,
      `ARP: it is ${name}, unasked (gratuitous)`,
      (mark, evil) =>
        ether(
          { from: eniMac, to: BROADCAST },
          arp('reply', { mac: evil, address }, { mac: BROADCAST, address }, mark),
        ),
      signs,
    );
    if (name !== 'a pod of its ENI')
      add(
        'net_raw',
        4,
        `ARP: it is ${name}, to a pod of its ENI`,
        (mark, evil) =>
          ether({ from: eniMac, to: eniMac }, arp('reply', { mac: evil, address }, victim, mark)),
        atB,
      );
  }
  add(
    'net_raw',
    4,
    'ARP: its own address at a MAC of its making',
    (mark, evil) =>
      ether(
        { from: eniMac, to: BROADCAST },
        arp('request', { mac: evil, address: a.ip4 }, { mac: nobody, address: router.ip4 }, mark),
      ),
    out,
  );
  add(
    'net_raw',
    4,
    'ARP in the name of a pod of its ENI, to the router',
    (mark) =>
      ether(
        { from: eniMac, to: router.mac },
        arp('reply', { mac: eniMac, address: b.ip4 }, { mac: router.mac, address: router.ip4 }, mark),
      ),
    out,
  );
  add(
    'net_raw',
    4,
    'ARP from nobody, as duplicate detection asks',
    (mark) =>
      ether(
        { from: eniMac, to: BROADCAST },
        arp('request', { mac: eniMac, address: '0.0.0.0' }, { mac: nobody, address: b.ip4 }, mark),
      ),
    both,
  );
  add(
    'net_raw',
    4,
    'a frame from a MAC of its making',
    (mark, evil) =>
      ether({ from: evil, to: router.mac }, udp({ from: a.ip4, to: far.ip4 }, [4242, PORT], mark)),
    out,
  );
  add(
    'net_raw',
    4,
    'a frame from a MAC of its making to a pod of its ENI',
    (mark, evil) => ether({ from: evil, to: eniMac }, udp({ from: a.ip4, to: b.ip4 }, [4242, PORT], mark)),
    both,
  );
  add(
    'net_raw',
    4,
    "a frame from the router's MAC to a pod of its ENI",
    (mark) => ether({ from: router.mac, to: eniMac }, udp({ from: a.ip4, to: b.ip4 }, [4242, PORT], mark)),
    both,
  );
  const anybody = { from: '0.0.0.0', to: '255.255.255.255' };
  add(
    'net_raw',
    4,
    'DHCP: a client asks',
    (mark) => ether({ from: eniMac, to: BROADCAST }, dhcp(anybody, 'discover', eniMac, mark)),
    out,
  );
  add(
    'net_raw',
    4,
    'DHCP: a client asks from its own address',
    (mark) =>
      ether({ from: eniMac, to: BROADCAST }, dhcp({ from: a.ip4, to: anybody.to }, 'discover', eniMac, mark)),
    out,
  );
  add(
    'net_raw',
    4,
    'DHCP: a server offers',
    (mark) =>
      ether({ from: eniMac, to: BROADCAST }, dhcp({ from: a.ip4, to: anybody.to }, 'offer', eniMac, mark)),
    out,
  );
  add(
    'net_raw',
    4,
    "DHCP: a server offers in the router's name",
    (mark) =>
      ether(
        { from: eniMac, to: BROADCAST },
        dhcp({ from: router.ip4, to: anybody.to }, 'offer', eniMac, mark),
      ),
    both,
  );
  rows.push(
    {
      what: "listening to a neighbour's conversation, promiscuous",
      as: 'net_admin',
      family: 4,
      expected: 'refused',
      held: 'an ipvlan is given what its own addresses are sent',
      ipvlan: true,
      before: ['ip link set eth0 promisc on'],
      after: ['ip link set eth0 promisc off'],
      operation: () => ({ op: 'listen', dev: 'eth0', hear: Buffer.from('between neighbours to b') }),
      signs: ['answer'],
    },
    {
      what: "a neighbour's live address on its own eth0",
      as: 'net_admin',
      family: 4,
      expected: 'refused',
      held: 'an ENI has each address once (ipvlan)',
      ipvlan: true,
      before: [`ip address add ${b.ip4}/32 dev eth0`],
      after: [`ip address del ${b.ip4}/32 dev eth0`],
      operation: () => ({ op: 'udp', to: far.ip4, port: PORT, from: b.ip4 }),
      signs: ['answer', { frame: 'vpc' }],
    },
    {
      what: 'a free address of the pool on its own eth0',
      as: 'net_admin',
      family: 4,
      expected: 'refused',
      before: [`ip address add ${f.free.ip4}/32 dev eth0`],
      after: [`ip address del ${f.free.ip4}/32 dev eth0`],
      operation: () => ({ op: 'udp', to: far.ip4, port: PORT, from: f.free.ip4 }),
      signs: ['answer', { frame: 'vpc' }, { heard: 'far' }],
    },
    {
      what: "a free address of the pool on its own eth0, and the pod's own rules removed",
      as: 'net_admin',
      from: 'd',
      family: 4,
      expected: 'open',
      why: 'the node tells the pods of an ENI apart by nothing that NET_ADMIN could not change; hostUsers: false or no NET_ADMIN closes it',
      before: ['nft flush ruleset', `ip address add ${f.free.ip4}/32 dev eth0`],
      after: [`ip address del ${f.free.ip4}/32 dev eth0`],
      operation: () => ({ op: 'udp', to: far.ip4, port: PORT, from: f.free.ip4 }),
      signs: ['answer', { frame: 'vpc' }, { heard: 'far' }],
      ipvlan: true,
    },
    {
      what: "ARP: it is the router, to a pod of its ENI, and the pod's own rules removed",
      as: 'net_admin',
      from: 'd',
      family: 4,
      expected: 'open',
      why: 'frames between the pods of an ENI never pass the node; hostUsers: false or no NET_ADMIN closes it',
      before: ['nft flush ruleset'],
      operation: (mark, n) => ({
        op: 'frames',
        dev: 'eth0',
        frames: [
          ether(
            { from: eniMac, to: eniMac },
            arp('reply', { mac: evilMac(n), address: router.ip4 }, { mac: eniMac, address: b.ip4 }, mark),
          ),
        ],
      }),
      signs: atB,
    },
    {
      what: "a frame as a pod of its ENI to another node, and the pod's own rules removed",
      as: 'net_admin',
      from: 'd',
      family: 4,
      expected: 'open',
      why: "the node knows which addresses an ENI has, not which of its pods sends; EC2's source check neither",
      before: ['nft flush ruleset'],
      operation: (mark) => ({
        op: 'frames',
        dev: 'eth0',
        frames: [
          ether({ from: eniMac, to: router.mac }, udp({ from: b.ip4, to: far.ip4 }, [4242, PORT], mark)),
        ],
      }),
      signs: [{ heard: 'far' }],
    },
    {
      what: "a frame as a pod of another ENI, and the pod's own rules removed",
      as: 'net_admin',
      from: 'd',
      family: 4,
      expected: 'refused',
      before: ['nft flush ruleset'],
      operation: (mark) => ({
        op: 'frames',
        dev: 'eth0',
        frames: [
          ether({ from: eniMac, to: router.mac }, udp({ from: f.c.ip4, to: far.ip4 }, [4242, PORT], mark)),
        ],
      }),
      signs: [{ frame: 'vpc' }],
    },
    {
      what: 'a frame to IMDS after eth0 was renamed',
      as: 'net_admin',
      from: 'd',
      family: 4,
      expected: 'refused',
      ipvlan: true,
      before: ['ip link set eth0 down; ip link set eth0 name eth7; ip link set eth7 up'],
      operation: (mark) => ({
        op: 'frames',
        dev: 'eth7',
        frames: [
          ether({ from: eniMac, to: router.mac }, udp({ from: a.ip4, to: f.imds.ip4 }, [4242, 80], mark)),
        ],
      }),
      signs: [{ frame: 'vpc' }],
    },
  );

  if (a.ip6 === undefined || b.ip6 === undefined || far.ip6 === undefined) return rows;
  const own6 = a.ip6;
  const router6 = 'fe80:ec2::1';
  const victim6 = b.ip6;
  const everybody = 'ff02::1';
  for (const [name, address] of [
    ['the router', router6],
    ['a pod of its ENI', victim6],
    ['a pod of another node', far.ip6],
  ] as const) {
    const signs = name === 'a pod of its ENI' ? out : both;
    add(
      'net_raw',
      6,
      `advertisement: it is ${name}, to everybody`,
      (mark, evil) =>
        ether(
          { from: eniMac, to: multicastMac(everybody) },
          neighbour('advertisement', { from: address, to: everybody }, address, evil, mark),
        ),
      signs,
    );
    add(
      'net_raw',
      6,
      `advertisement: ${name} is at a MAC of its making, from its own address`,
      (mark, evil) =>
        ether(
          { from: eniMac, to: multicastMac(everybody) },
          neighbour('advertisement', { from: own6, to: everybody }, address, evil, mark),
        ),
      signs,
    );
    if (name !== 'a pod of its ENI') {
      add(
        'net_raw',
        6,
        `advertisement: it is ${name}, to a pod of its ENI`,
        (mark, evil) =>
          ether(
            { from: eniMac, to: eniMac },
            neighbour('advertisement', { from: address, to: victim6 }, address, evil, mark),
          ),
        atB,
      );
      add(
        'net_raw',
        6,
        `solicitation in the name of ${name}, to a pod of its ENI`,
        (mark, evil) =>
          ether(
            { from: eniMac, to: eniMac },
            neighbour('solicitation', { from: address, to: victim6 }, victim6, evil, mark),
          ),
        atB,
      );
    }
  }
  const group = solicitedNode(victim6);
  add(
    'net_raw',
    6,
    "duplicate detection of a neighbour's address",
    (mark) =>
      ether(
        { from: eniMac, to: multicastMac(group) },
        neighbour('solicitation', { from: '::', to: group }, victim6, undefined, mark),
      ),
    both,
  );
  for (const [name, from] of [
    ['its own address', own6],
    ["the router's", router6],
    ['an address of its making', 'fe80::bad'],
  ] as const)
    add(
      'net_raw',
      6,
      `router advertisement from ${name}`,
      (mark, evil) =>
        ether(
          { from: eniMac, to: multicastMac(everybody) },
          routerAdvertisement({ from, to: everybody }, evil, mark),
        ),
      both,
    );
  add(
    'net_raw',
    6,
    "redirect in the router's name, to a pod of its ENI",
    (mark) =>
      ether(
        { from: eniMac, to: eniMac },
        icmp(
          { from: router6, to: victim6 },
          [137, 0],
          Buffer.alloc(4),
          Buffer.concat([Buffer.alloc(32), Buffer.from(mark)]),
        ),
      ),
    atB,
  );
  add(
    'net_raw',
    6,
    'DHCPv6: a client asks',
    (mark) =>
      ether(
        { from: eniMac, to: multicastMac('ff02::1:2') },
        udp({ from: 'fe80::bad', to: 'ff02::1:2' }, [546, 547], mark),
      ),
    out,
  );
  add(
    'net_raw',
    6,
    'DHCPv6: a server offers',
    (mark) =>
      ether(
        { from: eniMac, to: multicastMac(everybody) },
        udp({ from: 'fe80::bad', to: everybody }, [547, 546], mark),
      ),
    both,
  );
  add(
    'net_raw',
    6,
    'a frame from a MAC of its making',
    (mark, evil) =>
      ether({ from: evil, to: router.mac }, udp({ from: own6, to: far.ip6 ?? '' }, [4242, PORT], mark)),
    out,
  );
  return rows;
}

/** Of the attacker's making, with the number of the attempt in it. */
function evilMac(n: number): string {
  const [high, low] = [n >> 8, n & 255].map((byte) => byte.toString(16).padStart(2, '0'));
  return `02:de:ad:00:${high}:${low}`;
}

// ---- sources that are not the pod's

function forged(f: Field): Attempt[] {
  const { a, router, eniMac } = f;
  const rows: Attempt[] = [];
  const add = (
    as: Attacker,
    family: 4 | 6,
    what: string,
    operation: Attempt['operation'],
    signs: Sign[],
    rest: Rest = {},
  ) => rows.push({ what, as, family, expected: 'refused', operation, signs, ...rest });

  for (const family of [4, 6] as const) {
    const key = family === 4 ? 'ip4' : 'ip6';
    if (a[key] === undefined) continue;
    const sources = [
      ['its node', f.one[key]],
      ['a local address of its node', f.local[key]],
      ['a pod of its ENI', f.b[key]],
      ['a pod of another ENI', f.c[key]],
      ['a pod of another node', f.far[key]],
      ['the router', family === 4 ? router.ip4 : 'fe80:ec2::1'],
      ['somebody in the Internet', f.foreign[key]],
      ['the metadata service', f.imds[key]],
      ['a free address of its ENI', f.free[key]],
      ['nobody', family === 4 ? '0.0.0.0' : '::'],
      ['the loopback', family === 4 ? '127.0.0.1' : '::1'],
      ...(family === 4
        ? []
        : [
            ['the turn-back address', '100::1'] as const,
            ["the node's name on the link", 'fe80::1'] as const,
          ]),
    ] as const;
    const node = f.local[key];
    const far = f.far[key] ?? '';
    const internet = f.internet[key];
    for (const [name, from] of sources) {
      if (from === undefined) continue;
      const send =
        (dev: 'eth0' | 'veth0', mac: string, to: string) =>
        (mark: string): Operation => ({
          op: 'frames',
          dev,
          frames: [
            ether(
              { from: dev === 'eth0' ? eniMac : a.vethMac, to: mac },
              udp({ from, to }, [4242, PORT], mark),
            ),
          ],
        });
      add('net_raw', family, `as ${name}, out of eth0 to another node`, send('eth0', router.mac, far), [
        { frame: 'vpc', as: from },
        { heard: 'far', as: from },
      ]);
      if (name !== 'a pod of its ENI')
        add(
          'net_raw',
          family,
          `as ${name}, out of eth0 to a pod of its ENI`,
          send('eth0', eniMac, f.b[key] ?? ''),
          [
            { frame: 'b', as: from },
            { heard: 'b', as: from },
          ],
        );
      // Over veth0, with the filters that the image sets and without any.
      for (const stage of ['plain', 'loose'] as const) {
        const rest: Rest = { stage, ...vethHolds(family, stage, name) };
        const how = stage === 'loose' ? ', no reverse-path filter' : '';
        if (node !== undefined && from !== node)
          add(
            'net_raw',
            family,
            `as ${name}, over veth0 to its node${how}`,
            send('veth0', a.nodeMac, node),
            [{ heard: 'one', as: from }],
            rest,
          );
        add(
          'net_raw',
          family,
          `as ${name}, over veth0 to a pod of its node${how}`,
          send('veth0', a.nodeMac, f.c[key] ?? ''),
          [
            { frame: 'c', as: from },
            { heard: 'c', as: from },
          ],
          rest,
        );
        if (internet !== undefined && (family === 4 || f.one.ip6 !== undefined))
          add(
            'net_raw',
            family,
            `as ${name}, over veth0 to the Internet${how}`,
            send('veth0', a.nodeMac, internet),
            [{ frame: 'vpc', as: from }],
            rest,
          );
      }
    }
    // A process needs no capability for IPV6_FREEBIND, and NET_RAW is enough for IP_TRANSPARENT (ip(7), ipv6(7)).
    const stolen = f.b[key] ?? '';
    const signs: Sign[] = [{ frame: 'vpc' }, { heard: 'far' }];
    const freely = family === 4 ? by('the kernel sends from its own addresses alone') : {};
    add(
      'process',
      family,
      'as a pod of its ENI, by FREEBIND, out of eth0',
      () => ({ op: 'udp', to: far, port: PORT, from: stolen, free: true }),
      signs,
      freely,
    );
    add(
      'net_raw',
      family,
      'as a pod of its ENI, by TRANSPARENT, out of eth0',
      () => ({ op: 'udp', to: far, port: PORT, from: stolen, transparent: true }),
      signs,
    );
    add(
      'net_raw',
      family,
      'as a pod of its ENI, by a raw socket, out of eth0',
      (mark) => ({ op: 'raw', to: far, packets: [udp({ from: stolen, to: far }, [4242, PORT], mark)] }),
      signs,
    );
    if (node !== undefined && (family === 4 || f.services6.far !== undefined)) {
      const over = family === 4 ? f.one.ip4 : f.services6.far;
      const stage = 'loose' as const;
      const arrives: Sign[] = family === 4 ? [{ heard: 'one' }] : [{ frame: 'one' }];
      if (family === 4)
        add(
          'net_raw',
          family,
          'as a pod of its ENI, by TRANSPARENT, over veth0',
          () => ({ op: 'udp', to: over, port: PORT, from: stolen, transparent: true }),
          arrives,
          { stage },
        );
    }

    // Replies and errors in the name of somebody whom the node talks to: its own conversation with pod c.
    const c = f.c[key] ?? '';
    const nodes = f.one[key] ?? node;
    if (nodes !== undefined) {
      for (const stage of ['plain', 'loose'] as const) {
        const how = stage === 'loose' ? ', no reverse-path filter' : '';
        const held: Rest = {
          stage,
          ...(family === 4 && stage === 'plain' ? by("the node's reverse-path filter") : {}),
        };
        const over =
          (packet: (mark: string, n: number) => Buffer) =>
          (mark: string, n: number): Operation => ({
            op: 'frames',
            dev: 'veth0',
            frames: [ether({ from: a.vethMac, to: a.nodeMac }, packet(mark, n))],
          });
        add(
          'net_raw',
          family,
          `a pod's answer to its node, forged, over veth0${how}`,
          over((mark) => udp({ from: c, to: nodes }, [PORT, CLIENT_PORT], mark)),
          [{ heard: 'one' }],
          held,
        );
        add(
          'net_raw',
          family,
          `a reset of a connection that is none, in another pod's name, over veth0 to a pod${how}`,
          over((mark) => tcp({ from: c, to: f.b[key] ?? '' }, [PORT, 9], ['rst'], mark)),
          [{ frame: 'b' }],
          held,
        );
        add(
          'net_raw',
          family,
          `an acknowledgement of nothing, in another pod's name, over veth0 to a pod${how}`,
          over((mark) => tcp({ from: c, to: f.b[key] ?? '' }, [PORT, 9], ['ack'], mark)),
          [{ frame: 'b' }],
          held,
        );
        add(
          'net_raw',
          family,
          `"too big" in another pod's name, about the node's conversation with it, over veth0${how}`,
          over((mark) =>
            tooBig({ from: c, to: nodes }, 1280, udp({ from: nodes, to: c }, [CLIENT_PORT, PORT], mark)),
          ),
          [{ heard: 'one' }],
          { ...held, ...by('the node listens to no such error on this socket') },
        );
      }
    }
  }
  return rows;
}

/** What held a forged source on veth0 before the guard. */
function vethHolds(family: 4 | 6, stage: Stage, source: string): Rest {
  if (source === 'nobody' || source === 'the loopback')
    return by('the kernel takes no such source from a link');
  if (family === 4 && stage === 'plain') return by("the node's reverse-path filter");
  return {};
}

// ---- what comes to an ENI for nobody: an ipvlan hands it to the node itself

function stray(f: Field): Attempt[] {
  const { a, eniMac } = f;
  const rows: Attempt[] = [];
  for (const family of [4, 6] as const) {
    const key = family === 4 ? 'ip4' : 'ip6';
    const own = a[key];
    const local = f.local[key];
    if (own === undefined || local === undefined) continue;
    const add = (from: Place, what: string, operation: Attempt['operation'], signs: Sign[], rest: Rest) =>
      rows.push({ what, as: 'net_raw', family, from, expected: 'refused', operation, signs, ...rest });
    for (const stage of ['plain', 'loose'] as const) {
      const how = stage === 'loose' ? ', no reverse-path filter' : '';
      const held: Rest = {
        stage,
        ...(family === 4 && stage === 'plain' ? by("the node's reverse-path filter") : {}),
      };
      const inside =
        (to: string, port = PORT) =>
        (mark: string): Operation => ({
          op: 'frames',
          dev: 'eth0',
          frames: [ether({ from: eniMac, to: eniMac }, udp({ from: own, to }, [4242, port], mark))],
        });
      add('a', `a frame to its ENI for a port of the node${how}`, inside(local), [{ heard: 'one' }], {
        ...held,
        ipvlan: true,
      });
      const free = f.free[key];
      if (free !== undefined)
        add(
          'a',
          `a frame to its ENI for an address that no pod has${how}`,
          inside(free),
          [{ frame: 'vpc' }],
          { ...held, ipvlan: true },
        );
      const c = f.c[key];
      if (c !== undefined)
        add(
          'a',
          `a frame to its ENI for a pod of another ENI${how}`,
          inside(c),
          [{ heard: 'c' }, { frame: 'c' }],
          { ...held, ipvlan: true },
        );
      add(
        'a',
        `a frame to its ENI for the metadata service${how}`,
        inside(f.imds[key], 80),
        [{ frame: 'vpc', to: f.imds[key] }],
        { ...held, ipvlan: true },
      );
      // The VPC delivers nothing of the kind: these are for what else may write to an ENI.
      const outside =
        (from: string, to: string, mac: string) =>
        (mark: string): Operation => ({
          op: 'frames',
          dev: 'ENI',
          frames: [ether({ from: mac, to: eniMac }, udp({ from, to }, [4242, PORT], mark))],
        });
      const stranger = f.far[key] ?? '';
      add(
        'vpc',
        `from outside to the ENI, for a port of the node${how}`,
        outside(stranger, local, f.router.mac),
        [{ heard: 'one' }],
        held,
      );
      if (c !== undefined)
        add(
          'vpc',
          `from outside to the ENI, for a pod of another ENI${how}`,
          outside(stranger, c, f.router.mac),
          [{ heard: 'c' }, { frame: 'c' }],
          held,
        );
      if (free !== undefined)
        add(
          'vpc',
          `from outside to the ENI, for an address that no pod has${how}`,
          outside(stranger, free, f.router.mac),
          [{ frame: 'vpc' }],
          held,
        );
    }
    const b = f.b[key] ?? '';
    const outside =
      (from: string, mac: string) =>
      (mark: string): Operation => ({
        op: 'frames',
        dev: 'ENI',
        frames: [ether({ from: mac, to: eniMac }, udp({ from, to: b }, [4242, PORT], mark))],
      });
    add(
      'vpc',
      "from outside to a pod, with the ENI's own MAC as its source",
      outside(f.far[key] ?? '', eniMac),
      [{ frame: 'b' }, { heard: 'b' }],
      {},
    );
    add(
      'vpc',
      'from outside to a pod, as the metadata service',
      outside(f.imds[key], f.router.mac),
      [{ frame: 'b' }, { heard: 'b' }],
      {},
    );
  }
  return rows;
}

// ---- what has to go on

function ordinary(f: Field): Attempt[] {
  const rows: Attempt[] = [];
  const add = (
    from: Place,
    family: 4 | 6,
    what: string,
    operation: Operation,
    rest: Rest & { as?: Attacker } = {},
    signs: Sign[] = ['answer'],
  ) =>
    rows.push({
      what,
      as: 'process',
      family,
      from,
      expected: 'works',
      operation: () => operation,
      signs,
      ...rest,
    });
  const pods = ['a', 'b', 'c', 'far'] as const;
  for (const family of [4, 6] as const) {
    const key = family === 4 ? 'ip4' : 'ip6';
    if (f.a[key] === undefined) continue;
    for (const from of pods)
      for (const to of pods) {
        if (from === to) continue;
        for (const op of ['udp', 'tcp'] as const)
          add(from, family, `${op.toUpperCase()} from pod ${from} to pod ${to}`, {
            op,
            to: f[to][key] ?? '',
            port: PORT,
          });
      }
    add('a', family, 'ping from pod a to pod far', { op: 'ping', to: f.far[key] ?? '' }, { as: 'net_raw' });
    add('a', family, 'ping from pod a to pod b', { op: 'ping', to: f.b[key] ?? '' }, { as: 'net_raw' });
    const nodes = f.one[key];
    if (nodes !== undefined) {
      for (const op of ['udp', 'tcp'] as const) {
        add('a', family, `${op.toUpperCase()} from pod a to its node`, { op, to: nodes, port: PORT });
        add('one', family, `${op.toUpperCase()} from the node to pod a`, {
          op,
          to: f.c[key] ?? '',
          port: PORT,
        });
      }
      add('a', family, 'ping from pod a to its node', { op: 'ping', to: nodes }, { as: 'net_raw' });
      add('one', family, 'the node itself reaches IMDS', { op: 'imds', to: f.imds[key], port: 80 });
    }
    if (f.two[key] !== undefined) {
      add('a', family, 'TCP from pod a to another node', { op: 'tcp', to: f.two[key], port: PORT });
      add('two', family, 'TCP from another node to pod b', { op: 'tcp', to: f.b[key] ?? '', port: PORT });
    }
    if (f.internet[key] !== undefined) {
      for (const op of ['udp', 'tcp'] as const)
        add('a', family, `${op.toUpperCase()} from pod a to the Internet`, {
          op,
          to: f.internet[key],
          port: PORT,
        });
      add(
        'a',
        family,
        'ping from pod a to the Internet',
        { op: 'ping', to: f.internet[key] },
        { as: 'net_raw' },
      );
    }
    for (const [what, to, port] of [
      ['DNS of the VPC', family === 4 ? DNS4 : DNS6, 53],
      ['the time service', family === 4 ? TIME4 : TIME6, 123],
    ] as const) {
      add('a', family, `${what} at ${to}`, { op: 'udp', to, port });
      if (port === 53) add('a', family, `${what} at ${to}, TCP`, { op: 'tcp', to, port });
    }
  }
  if (f.local.ip4 !== undefined)
    add('a', 4, 'a DNS cache at a local address of the node', { op: 'udp', to: f.local.ip4, port: PORT });
  add('a', 4, 'a path to the Internet with a smaller MTU is noticed', {
    op: 'path_mtu',
    to: f.internet.ip4,
    port: PORT,
    size: 1350,
  });
  add('a', 4, 'a path in the VPC with a smaller MTU is noticed', {
    op: 'path_mtu',
    to: f.far.ip4,
    port: PORT,
    size: 1350,
  });
  if (f.far.ip6 !== undefined)
    add('a', 6, 'a path in the VPC with a smaller MTU is noticed', {
      op: 'path_mtu',
      to: f.far.ip6,
      port: PORT,
      size: 1350,
    });
  for (const stage of ['iptables', 'ipvs', 'nftables'] as const) {
    for (const to of ['b', 'c', 'far'] as const) {
      add(
        'a',
        4,
        `a Service whose backend is pod ${to}, ${stage}`,
        { op: 'tcp', to: f.services[to], port: 80 },
        { stage },
      );
      add(
        'one',
        4,
        `a Service whose backend is pod ${to}, from the node, ${stage}`,
        { op: 'tcp', to: f.services[to], port: 80 },
        { stage },
      );
    }
    add(
      'far',
      4,
      `NodePort, backend elsewhere, ${stage}`,
      { op: 'tcp', to: f.one.ip4, port: 30010 },
      { stage },
    );
    add('far', 4, `NodePort, policy Local, ${stage}`, { op: 'tcp', to: f.one.ip4, port: 30013 }, { stage });
    add(
      'b',
      4,
      `NodePort of its node, policy Local, ${stage}`,
      { op: 'tcp', to: f.one.ip4, port: 30013 },
      { stage },
    );
    if (f.far.ip6 !== undefined && stage !== 'iptables')
      add(
        'a',
        6,
        `a Service whose backend is pod far, ${stage}`,
        { op: 'tcp', to: f.services6.far, port: 80 },
        { stage },
      );
  }
  return rows;
}
