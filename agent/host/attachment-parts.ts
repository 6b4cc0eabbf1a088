// The objects of an attachment, read from the very lines that make them: what ADD gives to `ip` is the one
// description of an attachment, so that whoever looks at one cannot expect anything else. Pure.
import { Failure } from '../messages/failure.ts';
import {
  type Attachment,
  hostLines,
  POD_VETH,
  podGuard,
  podLines,
  podLines6,
  podSysctls,
  podTable,
  podTable6,
} from './attachment.ts';
import { NFT_TABLE } from './names.ts';
import { limitLines, shownRate } from './pod-limits.ts';

export type Side = 'node' | 'pod';

/** One object, and what its line says of it. Values are as `ip -j` shows them. */
export type Part = {
  side: Side;
  /** For people. */
  text: string;
  /** The command that makes this object alone, where there is one. */
  command?: string;
} & (
  | {
      kind: 'link';
      name: string;
      mac: string | undefined;
      mtu: number | undefined;
      group: string;
      type: string;
      /** The device of the node that an ipvlan is a part of. */
      master: string | undefined;
    }
  | { kind: 'address'; device: string; address: string; prefixLength: number }
  | {
      kind: 'route';
      destination: string;
      /** unicast, unreachable, throw … */
      type: string;
      gateway: string | undefined;
      device: string | undefined;
      source: string | undefined;
      /** Source addresses the route is for. */
      from: string | undefined;
      table: string;
    }
  | { kind: 'neighbour'; address: string; mac: string; device: string }
  | {
      kind: 'rule';
      family: 4 | 6;
      priority: number;
      from: string;
      iif: string | undefined;
      mark: string | undefined;
      table: string;
    }
  | { kind: 'setting'; path: string; value: string }
  | { kind: 'chain'; name: string }
  /** Delays what leaves a device above so many bytes per second. */
  | { kind: 'limit'; device: string; bytesPerSecond: number }
);

export type PartOf<Kind extends Part['kind']> = Extract<Part, { kind: Kind }>;

/** What an attachment is made for, beside its own facts. */
export interface Place {
  /** Path of the pod's network namespace. */
  netns: string;
  /** Device of the pod ENI, and its MAC, which an ipvlan shares; undefined where another plugin made the pod's interface. */
  eni: { device: string; mac: string } | undefined;
  /** The kernel has IPv6. */
  ipv6: boolean;
}

/** The lines of each side that make an attachment in that place, but for IPv6 inside the pod. */
export function linesOf(a: Attachment, { netns, eni, ipv6 }: Place): Record<Side, string[]> {
  return {
    node: hostLines(a, netns, eni?.device, ipv6),
    pod: podLines(a, eni !== undefined, ipv6),
  };
}

/** All objects of an attachment, the node's first, each in the order in which it is made. */
export function partsOf(a: Attachment, place: Place): Part[] {
  const entering = `nsenter --net=${place.netns} `;
  const lines = linesOf(a, place);
  const node = lines.node.flatMap((line) => partsOfLine(line, 'node', place, ''));
  const pod = lines.pod.flatMap((line) => partsOfLine(line, 'pod', place, entering));
  // ADD makes all tables, also where the pod's IPv6 is off.
  const chains = [
    ...chainsIn(podTable(a), 'ip'),
    ...chainsIn(podTable6(a), 'inet'),
    ...chainsIn(podGuard(a), 'netdev'),
  ];
  const settings = podSysctls(a).map(
    ([path, value]): Part => ({
      side: 'pod',
      kind: 'setting',
      path,
      value,
      text: `${path} = ${value}`,
      command: `${entering}sysctl -w ${path}=${value}`,
    }),
  );
  const { egress } = a.limits ?? {};
  const limits = limitLines(a.limits ?? {}, [a.ifName, POD_VETH]).map(
    (line): Part => ({
      side: 'pod',
      kind: 'limit',
      device: line.split(' ')[3] ?? '',
      bytesPerSecond: egress === undefined ? 0 : shownRate(egress),
      text: line.replace(/^qdisc replace dev /, ''),
      command: `${entering}tc ${line}`,
    }),
  );
  return [...node, ...pod, ...settings, ...chains, ...limits];
}

/** What IPv6 adds inside the pod where that has it on. */
export function parts6Of(a: Attachment, place: Place): Part[] {
  const entering = `nsenter --net=${place.netns} `;
  return podLines6(a).flatMap((line) => partsOfLine(`-6 ${line}`, 'pod', place, entering));
}

function chainsIn(table: string, family: string): Part[] {
  return [...table.matchAll(/^ *chain (\S+) \{$/gm)].map(
    ([, name = '']): Part => ({
      side: 'pod',
      kind: 'chain',
      name,
      text: `${name} of table ${family} ${NFT_TABLE}`,
    }),
  );
}

/** Lines that only say more of a link which another line makes; `up` and the like are looked at with it. */
export const ADDS_TO_A_LINK =
  /^(?:link set dev \S+ (?:up|addrgenmode none)|address flush dev \S+ scope link)$/;

/** The objects one line makes. A line of a form that nobody can look for afterwards is a defect. */
function partsOfLine(line: string, side: Side, place: Place, entering: string): Part[] {
  if (ADDS_TO_A_LINK.test(line)) return [];
  const words = line.replace(/^-[46] /, '').split(' ');
  const [object = '', verb = '', ...rest] = words;
  const common = {
    side,
    text: rest.join(' ').replace(/ (?:proto|protocol) \d+\b| nud permanent\b/g, ''),
    command: `${entering}ip ${line}`,
  };
  const after = (word: string) => {
    const at = rest.indexOf(word);
    return at === -1 ? undefined : rest[at + 1];
  };
  if (object === 'link' && verb === 'add') return linksOf(rest, after, place);
  if (object === 'address' && verb === 'replace') {
    const [address = '', length = ''] = (rest[0] ?? '').split('/');
    const device = after('dev') ?? '';
    return [{ ...common, kind: 'address', device, address, prefixLength: Number(length) }];
  }
  if (object === 'neigh' && verb === 'replace') {
    const [address = ''] = rest;
    const device = after('dev') ?? '';
    return [{ ...common, kind: 'neighbour', address, mac: after('lladdr') ?? '', device }];
  }
  if (object === 'route' && verb === 'replace') {
    const typed = ROUTE_TYPES.includes(rest[0] ?? '');
    return [
      {
        ...common,
        kind: 'route',
        type: typed ? (rest[0] ?? '') : 'unicast',
        destination: shown(rest[typed ? 1 : 0] ?? ''),
        gateway: after('via'),
        device: after('dev'),
        source: after('src'),
        from: after('from')?.replace(/\/128$/, ''),
        table: after('table') ?? 'main',
      },
    ];
  }
  if (object === 'rule' && verb === 'add') {
    return [
      {
        ...common,
        kind: 'rule',
        family: line.startsWith('-6 ') ? 6 : 4,
        priority: Number(after('priority')),
        from: after('from') ?? 'all',
        iif: after('iif'),
        mark: after('fwmark'),
        table: after('lookup') ?? '',
      },
    ];
  }
  throw new Failure('INTERNAL', `no way to look for what this line makes: ip ${line}`, { line });
}

const ROUTE_TYPES = ['unreachable', 'throw', 'blackhole', 'prohibit'];

/** A link, and the peer a veth is made with. Where `netns` stands, the link before it goes into the pod. */
function linksOf(words: string[], after: (word: string) => string | undefined, place: Place): Part[] {
  const type = after('type') ?? '';
  const peerAt = words.indexOf('peer');
  const ends = peerAt === -1 ? [words] : [words.slice(0, peerAt), words.slice(peerAt)];
  return ends.map((end): Part => {
    const of = (word: string) => (end.includes(word) ? end[end.indexOf(word) + 1] : undefined);
    const name = of('name') ?? '';
    return {
      side: end.includes('netns') ? 'pod' : 'node',
      kind: 'link',
      text: type === 'ipvlan' ? `${name}: ipvlan on ${of('link')}` : `${name}: ${type}`,
      name,
      mac: of('address') ?? (type === 'ipvlan' ? place.eni?.mac : undefined),
      mtu: end.includes('mtu') ? Number(of('mtu')) : undefined,
      group: of('group') ?? 'default',
      type,
      master: of('link'),
    };
  });
}

/** `ip -j` leaves out the length of a single address, and has a word for everything. */
function shown(cidr: string): string {
  if (cidr === '0.0.0.0/0' || cidr === '::/0') return 'default';
  return cidr.replace(cidr.includes(':') ? /\/128$/ : /\/32$/, '');
}
