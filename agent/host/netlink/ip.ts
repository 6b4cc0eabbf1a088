// The lines for `ip -batch` that eniboot writes, as messages of rtnetlink: what `ip` makes of them, and nothing that
// `ip` would refuse. Only these forms are known; any other line is undefined, and goes to `ip` itself.
// Numbers are those of linux/rtnetlink.h, if_link.h, if_addr.h, neighbour.h and fib_rules.h.
import {
  ACK,
  ascii,
  attributesIn,
  CREATE,
  DUMP,
  EXCL,
  le32,
  Message,
  numberAt,
  REPLACE,
  REQUEST,
  zeroEnded,
} from './message.ts';
import { AF_INET, AF_INET6, macBytes, numberOf, type Prefix, prefixOf } from './values.ts';

export const NEW_LINK = 16;
const DEL_LINK = 17;
const GET_LINK = 18;
export const NEW_ADDRESS = 20;
export const NEW_ROUTE = 24;
export const NEW_NEIGHBOUR = 28;
export const NEW_RULE = 32;
const DEL_RULE = 33;

/** What the attributes of routes, rules, addresses and neighbours say. */
export const RTA = { dst: 1, src: 2, oif: 4, gateway: 5, prefsrc: 7, table: 15 };
export const IFA = { address: 1, local: 2 };
export const NDA = { dst: 1, lladdr: 2 };
export const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  link: 5,
  linkInfo: 18,
  afSpec: 26,
  group: 27,
  netnsFd: 28,
};
export const FRA = { dst: 1, src: 2, iif: 3, priority: 6, mark: 10, table: 15, mask: 16, protocol: 21 };
const MAIN_TABLE = 254;
/** The protocol that `ip` gives where none is said. */
const BOOT = 3;
export const UNICAST = 1;
const types: Record<string, number> = { unreachable: 7, throw: 9 };
const scopes: Record<string, number> = { global: 0, host: 254, link: 253 };

/** What a line needs to know of the moment it is sent. */
export interface Moment {
  /** Index of a device in the namespace of the line. Throws when there is none. */
  index(device: string): number;
  /** Descriptor of the pod's namespace. */
  podFd: number;
}

export type Line = (moment: Moment) => Message;

/**
 * @param netns the path that stands for the pod's namespace in the line.
 * @param inet6 as `ip -6`: the family of what names none.
 */
export function lineOf(text: string, netns: string, inet6 = false): Line | undefined {
  const words = text.split(' ');
  const [object, verb] = words;
  const rest = words.slice(2);
  if (object === 'link' && verb === 'add') return linkAdd(rest, netns);
  if (object === 'link' && verb === 'set') return linkSet(rest);
  if (object === 'link' && verb === 'del') return linkDel(rest);
  if (object === 'address' && (verb === 'add' || verb === 'replace')) return address(rest, verb);
  if (object === 'neigh' && verb === 'replace') return neighbour(rest);
  if (object === 'route' && (verb === 'add' || verb === 'replace')) return route(rest, verb, inet6);
  if (object === 'rule' && (verb === 'add' || verb === 'del')) return rule(rest, verb, inet6);
  return undefined;
}

/** Asks for a device by its name, without its counters. */
export function linkQuestion(device: string): Message {
  return linkHeader(new Message(GET_LINK, REQUEST))
    .attribute(IFLA.name, zeroEnded(device))
    .attribute(29, le32(8));
}

/** Asks for all devices, without their counters. */
export function linksQuestion(): Message {
  return linkHeader(new Message(GET_LINK, REQUEST | DUMP)).attribute(29, le32(8));
}

/** Sets the mode and flags of an ipvlan, and of all others of its ENI, to those that ADD makes it with. */
export function ipvlanReset(index: number): Message {
  const message = linkHeader(new Message(NEW_LINK, REQUEST | ACK), index);
  return message.nest(IFLA.linkInfo, () => {
    message.attribute(1, ascii('ipvlan'));
    message.nest(2, () => message.attribute(1, [0, 0]).attribute(2, [0, 0]));
  });
}

/** The group of a link that was listed. */
export function groupOf(link: Uint8Array): number {
  const bytes = attributesIn(link, 16).get(IFLA.group);
  return bytes === undefined ? 0 : numberAt(bytes);
}

/** The table of a route or rule that was listed: an attribute where it has more than eight bits. */
export function tableOf(listed: Uint8Array, attributes = attributesIn(listed, 12)): number {
  const bytes = attributes.get(RTA.table);
  return bytes === undefined ? (listed[4] ?? 0) : numberAt(bytes);
}

/** Words that come in pairs of key and value, but for flags; undefined where another word is among them. */
function pairs(words: string[], keys: string[], flags: string[] = []): Map<string, string> | undefined {
  const found = new Map<string, string>();
  for (let at = 0; at < words.length; at += 1) {
    const key = words[at] ?? '';
    if (flags.includes(key)) found.set(key, '');
    else if (keys.includes(key) && at + 1 < words.length) found.set(key, words[++at] ?? '');
    else return undefined;
  }
  return found;
}

function linkHeader(message: Message, index = 0, flags = 0, change = 0): Message {
  return message.u8(0, 0).u16(0).u32(index).u32(flags).u32(change);
}

function linkAdd(words: string[], netns: string): Line | undefined {
  const at = words.indexOf('type');
  const own = pairs(words.slice(0, at), ['link', 'name', 'address', 'mtu', 'group', 'netns']);
  if (at === -1 || own === undefined || !namespaceFits(own, netns)) return undefined;
  const [kind = '', ...of] = words.slice(at + 1);
  const fill = kindOf(kind, of, netns);
  if (fill === undefined) return undefined;
  return (moment) => {
    const message = linkHeader(new Message(NEW_LINK, REQUEST | ACK | CREATE | EXCL));
    linkAttributes(message, own, moment);
    return message.nest(IFLA.linkInfo, () => {
      message.attribute(1, ascii(kind));
      message.nest(2, () => fill(message, moment));
    });
  };
}

function kindOf(
  kind: string,
  words: string[],
  netns: string,
): ((message: Message, moment: Moment) => void) | undefined {
  const text = words.join(' ');
  if (kind === 'ipvlan' && text === 'mode l2') return (message) => message.attribute(1, [0, 0]);
  // Not of ours: what stands in for ipvlan where a kernel has none, in tests and benchmarks.
  if (kind === 'macvlan' && text === 'mode bridge') return (message) => message.attribute(1, le32(4));
  if (kind !== 'veth' || words[0] !== 'peer') return undefined;
  const peer = pairs(words.slice(1), ['name', 'address', 'mtu', 'group', 'netns']);
  if (peer === undefined || !namespaceFits(peer, netns)) return undefined;
  return (message, moment) => {
    message.nest(1, () => {
      linkHeader(message);
      linkAttributes(message, peer, moment);
    });
  };
}

function namespaceFits(of: Map<string, string>, netns: string): boolean {
  return (of.get('netns') ?? netns) === netns;
}

function linkAttributes(message: Message, of: Map<string, string>, moment: Moment): void {
  const has = (key: string, add: (value: string) => void) => {
    const value = of.get(key);
    if (value !== undefined) add(value);
  };
  has('name', (value) => message.attribute(IFLA.name, zeroEnded(value)));
  has('link', (value) => message.attribute(IFLA.link, le32(moment.index(value))));
  has('address', (value) => message.attribute(IFLA.address, macBytes(value)));
  has('mtu', (value) => message.attribute(IFLA.mtu, le32(Number(value))));
  has('group', (value) => message.attribute(IFLA.group, le32(Number(value))));
  has('netns', () => message.attribute(IFLA.netnsFd, le32(moment.podFd)));
}

function linkSet(words: string[]): Line | undefined {
  const of = pairs(words, ['dev', 'addrgenmode', 'mtu'], ['up']);
  const device = of?.get('dev');
  if (of === undefined || device === undefined) return undefined;
  const mode = of.get('addrgenmode');
  if (mode !== undefined && mode !== 'none') return undefined;
  const mtu = of.get('mtu');
  const up = of.has('up') ? 1 : 0;
  return (moment) => {
    const message = linkHeader(new Message(NEW_LINK, REQUEST | ACK), moment.index(device), up, up);
    if (mtu !== undefined) message.attribute(IFLA.mtu, le32(Number(mtu)));
    if (mode === undefined) return message;
    return message.nest(IFLA.afSpec, () => message.nest(AF_INET6, () => message.attribute(8, [1])));
  };
}

function linkDel(words: string[]): Line | undefined {
  const of = pairs(words, ['dev', 'group']);
  const device = of?.get('dev');
  const group = of?.get('group');
  if (group !== undefined) {
    return () => linkHeader(new Message(DEL_LINK, REQUEST | ACK)).attribute(IFLA.group, le32(Number(group)));
  }
  if (device === undefined) return undefined;
  return (moment) => linkHeader(new Message(DEL_LINK, REQUEST | ACK), moment.index(device));
}

function address([cidr = '', ...words]: string[], verb: string): Line | undefined {
  const of = pairs(words, ['dev'], ['nodad']);
  const device = of?.get('dev');
  if (of === undefined || device === undefined) return undefined;
  const { family, bytes, length } = prefixOf(cidr);
  const flags = verb === 'add' ? CREATE | EXCL : CREATE | REPLACE;
  return (moment) =>
    new Message(NEW_ADDRESS, REQUEST | ACK | flags)
      .u8(family, length, of.has('nodad') ? 2 : 0, scopes['global'] ?? 0)
      .u32(moment.index(device))
      .attribute(IFA.local, bytes)
      .attribute(IFA.address, bytes);
}

function neighbour([to = '', ...words]: string[]): Line | undefined {
  const of = pairs(words, ['lladdr', 'dev', 'nud']);
  const device = of?.get('dev');
  const mac = of?.get('lladdr');
  if (device === undefined || mac === undefined || of?.get('nud') !== 'permanent') return undefined;
  const { family, bytes } = prefixOf(to);
  return (moment) =>
    new Message(NEW_NEIGHBOUR, REQUEST | ACK | CREATE | REPLACE)
      .u8(family, 0)
      .u16(0)
      .u32(moment.index(device))
      .u16(0x80)
      .u8(0, 0)
      .attribute(NDA.dst, bytes)
      .attribute(NDA.lladdr, macBytes(mac));
}

function route(words: string[], verb: string, inet6: boolean): Line | undefined {
  const type = types[words[0] ?? ''];
  const [to = '', ...rest] = type === undefined ? words : words.slice(1);
  const keys = ['from', 'via', 'dev', 'scope', 'src', 'table', 'proto'];
  const of = pairs(rest, keys, ['onlink']);
  const table = numberOf(of?.get('table') ?? `${MAIN_TABLE}`);
  const protocol = numberOf(of?.get('proto') ?? `${BOOT}`);
  if (of === undefined || table === undefined || protocol === undefined) return undefined;
  const part = (key: string): Prefix | undefined => {
    const value = of.get(key);
    return value === undefined ? undefined : prefixOf(value);
  };
  const [from, via, source] = [part('from'), part('via'), part('src')];
  const target = to === 'default' ? undefined : prefixOf(to);
  const family = target?.family ?? via?.family ?? (inet6 ? AF_INET6 : AF_INET);
  const said = of.get('scope');
  const device = of.get('dev');
  // As `ip` does: what has no router is on the link, where the family knows scopes.
  const usual = type === undefined && via === undefined && family === AF_INET ? 'link' : 'global';
  const scope = scopes[said ?? usual];
  if (scope === undefined) return undefined;
  const flags = verb === 'add' ? CREATE | EXCL : CREATE | REPLACE;
  return (moment) => {
    const message = new Message(NEW_ROUTE, REQUEST | ACK | flags)
      .u8(family, target?.length ?? 0, from?.length ?? 0, 0)
      .u8(table < 256 ? table : 0, protocol, scope, type ?? UNICAST)
      .u32(of.has('onlink') ? 4 : 0);
    if (target !== undefined) message.attribute(RTA.dst, target.bytes);
    if (from !== undefined) message.attribute(RTA.src, from.bytes);
    if (via !== undefined) message.attribute(RTA.gateway, via.bytes);
    if (source !== undefined) message.attribute(RTA.prefsrc, source.bytes);
    if (table >= 256) message.attribute(RTA.table, le32(table));
    if (device !== undefined) message.attribute(RTA.oif, le32(moment.index(device)));
    return message;
  };
}

function rule(words: string[], verb: string, inet6: boolean): Line | undefined {
  const of = pairs(words, ['priority', 'iif', 'from', 'fwmark', 'lookup', 'protocol']);
  const number = (text: string | undefined) => numberOf(text ?? '');
  const priority = number(of?.get('priority'));
  const table = number(of?.get('lookup'));
  const protocol = number(of?.get('protocol'));
  if (of === undefined || priority === undefined || table === undefined || protocol === undefined)
    return undefined;
  const [mark, mask] = (of.get('fwmark') ?? '').split('/').map((one) => number(one));
  const from = of.get('from');
  const source = from === undefined ? undefined : prefixOf(from);
  const device = of.get('iif');
  const family = source?.family ?? (inet6 ? AF_INET6 : AF_INET);
  const adding = verb === 'add';
  return () => {
    const message = new Message(adding ? NEW_RULE : DEL_RULE, REQUEST | ACK | (adding ? CREATE | EXCL : 0))
      .u8(family, 0, source?.length ?? 0, 0)
      .u8(table < 256 ? table : 0, 0, 0, 1)
      .u32(0)
      .attribute(FRA.priority, le32(priority));
    if (source !== undefined) message.attribute(FRA.src, source.bytes);
    if (mark !== undefined) message.attribute(FRA.mark, le32(mark));
    if (mask !== undefined) message.attribute(FRA.mask, le32(mask));
    if (device !== undefined) message.attribute(FRA.iif, zeroEnded(device));
    if (table >= 256) message.attribute(FRA.table, le32(table));
    return message.attribute(FRA.protocol, [protocol]);
  };
}
