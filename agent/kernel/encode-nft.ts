// Tables of nftables as messages of nfnetlink, with the same expressions that `nft` generates. Numbers are those of
// linux/netfilter/nf_tables.h and nfnetlink.h.
import { AF_INET, AF_INET6, macBytes, prefixOf } from './bytes.ts';
import { ascii, be16, be32, CREATE, EXCL, le32, Message, REQUEST, zeroEnded } from './message.ts';
import type {
  AddressRange,
  AddressSet,
  Chain,
  EtherType,
  JumpedTo,
  RangeSet,
  SetChange,
  Statement,
  Table,
  TableName,
} from './operation.ts';

const APPEND = 0x800;
export const SUBSYSTEM = 10 * 256;
const BATCH_BEGIN = 16;
const BATCH_END = 17;
const NEW_TABLE = SUBSYSTEM;
const DEL_TABLE = SUBSYSTEM + 2;
export const NEW_CHAIN = SUBSYSTEM + 3;
export const NEW_RULE = SUBSYSTEM + 6;
const NEW_SET = SUBSYSTEM + 9;
export const NEW_ELEMENTS = SUBSYSTEM + 12;
const DEL_ELEMENTS = SUBSYSTEM + 14;

const INET = 1;
const families = { ip: AF_INET, inet: INET, netdev: 5 } as const;
/** The number of egress (family netdev) is that of another hook in other families. */
const hooks = { prerouting: 0, forward: 2, output: 3, postrouting: 4, egress: 1 } as const;
const priorities = {
  raw: -300,
  mangle: -150,
  'dstnat - 10': -110,
  filter: 0,
  'filter + 10': 10,
  srcnat: 100,
} as const;
/** NF_ACCEPT, NF_DROP and NFT_RETURN. */
const verdicts = { accept: 1, drop: 0, return: -5 } as const;
const JUMP = -3;
/** Flags: of a set, and of an element that ends a range. */
const INTERVAL = 4;
const INTERVAL_END = 1;
const REGISTER = 1;
const EQUAL = 0;
const DIFFERENT = 1;
const LESS = 2;
const AT_MOST = 3;
const AT_LEAST = 5;
/** What the offset of a payload counts from. */
const LINK_HEADER = 0;
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;
/** Keys of `meta`. */
const META = { protocol: 1, mark: 3, iifname: 6, oifname: 7, iiftype: 8, nfproto: 15, l4proto: 16 };
/** Keys of `ct`. */
const CT = { state: 0, direction: 1, mark: 3 };
const states = { established: 2, related: 4, new: 8 } as const;
/** NF_NAT_RANGE_PROTO_RANDOM_FULLY. */
const FULLY_RANDOM = 0x10;
const ICMPV6 = 58;
const protocols = { tcp: 6, udp: 17, sctp: 132 } as const;
/** NFT_REJECT_ICMPX_UNREACH, and its code NFT_REJECT_ICMPX_ADMIN_PROHIBITED. */
const REJECT = { type: 2, code: 3 };
/** The name that a request gives to a set of one rule: the kernel puts a number in. */
const ANONYMOUS = '__set%d';
/** Flags of a set. CHANGING: a hash whose elements may come and go. FIXED: NFT_SET_ANONYMOUS and NFT_SET_CONSTANT. */
const CHANGING = 0;
const FIXED = 3;
/** Source: linux/if_ether.h. */
const etherTypes: Record<EtherType, number[]> = { ip: [0x08, 0x00], arp: [0x08, 0x06], ip6: [0x86, 0xdd] };

export interface Transaction {
  /** The messages between begin and end, with their sequence numbers; the last one is acknowledged. */
  bytes: Uint8Array;
  last: number;
}

/** @param again removes tables of the same names first; without it a table that exists is refused. */
export function tablesTransaction(tables: readonly Table[], again: boolean): Transaction {
  return assembled(encodeTables(tables, again));
}

/** Removes a table. The kernel refuses with ENOENT when there is none. */
export function tableRemoval(table: TableName): Transaction {
  return assembled([request(DEL_TABLE, 0, table)]);
}

/** Adds elements to sets of a table and removes elements from them, all or nothing. */
export function setsTransaction(table: TableName, changes: readonly SetChange[]): Transaction {
  return assembled(
    changes.flatMap(({ name, joined, left }) => [
      ...elementMessages(DEL_ELEMENTS, table, name, writtenElements(left.map(addressElement))),
      ...elementMessages(NEW_ELEMENTS, table, name, writtenElements(joined.map(addressElement))),
    ]),
  );
}

/** The requests that make the tables, in order. */
export function encodeTables(tables: readonly Table[], again = false): Message[] {
  const messages: Message[] = [];
  let sets = 0;
  for (const table of tables) {
    const tableMessage = (flags: number) => request(NEW_TABLE, CREATE | flags, table, [2, 0]);
    if (again) messages.push(tableMessage(0), request(DEL_TABLE, 0, table), tableMessage(0));
    else messages.push(tableMessage(EXCL));
    for (const set of table.sets ?? []) {
      sets += 1;
      const flags = 'ranges' in set ? INTERVAL : CHANGING;
      messages.push(setMessage(table, set.name, sets, flags, set.family === 6 ? 16 : 4));
      messages.push(...elementMessages(NEW_ELEMENTS, table, set.name, partsOf(set)));
    }
    // The rule's own set must come before the rule that looks into it.
    const setOf = (elements: number[][]) => {
      sets += 1;
      messages.push(setMessage(table, ANONYMOUS, sets, FIXED, elements[0]?.length ?? 4));
      const parts = writtenElements(elements.map((key) => ({ key })));
      messages.push(...elementMessages(NEW_ELEMENTS, table, ANONYMOUS, parts, sets));
      return sets;
    };
    for (const chain of table.chains) {
      messages.push(chainMessage(chain, table));
      for (const rule of chain.rules) {
        const expressions = rule.flatMap((one) => expressionsOf(one, table.family === 'inet', setOf));
        messages.push(ruleMessage(expressions, table, chain.name));
      }
    }
  }
  return messages;
}

function assembled(messages: Message[]): Transaction {
  messages.at(-1)?.wantAnswer();
  const all = [batch(BATCH_BEGIN), ...messages, batch(BATCH_END)];
  const parts = all.flatMap((message, at) => [message.finish(at), message.tail]);
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let end = 0;
  for (const part of parts) {
    bytes.set(part, end);
    end += part.length;
  }
  return { bytes, last: messages.length };
}

function batch(type: number): Message {
  return header(new Message(type, REQUEST), 0, 10);
}

/** The kernel's number for a family. */
export function familyNumber(family: Table['family']): number {
  return families[family];
}

export function header(message: Message, family: number, resource = 0): Message {
  return message.u8(family, 0, resource >> 8, resource & 0xff);
}

/** A number has 32 bits in network order. A text gets a zero byte at its end. A list holds attributes. */
type Attribute = readonly [type: number, value: number | string | readonly number[] | readonly Attribute[]];

function add(message: Message, attributes: readonly Attribute[]): Message {
  for (let at = 0; at < attributes.length; at += 1) {
    const [type, value] = attributes[at] as Attribute;
    if (typeof value === 'number') message.number(type, value);
    else if (typeof value === 'string') message.attribute(type, zeroEnded(value));
    else if (isBytes(value)) message.attribute(type, value);
    else {
      const start = message.begin(type);
      add(message, value);
      message.end(start);
    }
  }
  return message;
}

function isBytes(value: readonly number[] | readonly Attribute[]): value is readonly number[] {
  return typeof value[0] === 'number';
}

/** A request about a table or an object in it. The first attribute of each such request is the table's name. */
function request(
  type: number,
  flags: number,
  { family, name }: Pick<Table, 'family' | 'name'>,
  ...attributes: Attribute[]
): Message {
  return add(header(new Message(type, REQUEST | flags), families[family]), [[1, name], ...attributes]);
}

function chainMessage(chain: Chain | JumpedTo, table: Table): Message {
  const { name } = chain;
  if (chain.hook === undefined) return request(NEW_CHAIN, CREATE, table, [3, name]);
  const { type, hook, device, priority, policy } = chain;
  const on: Attribute[] = device === undefined ? [] : [[3, device]];
  const where: Attribute = [4, [[1, hooks[hook]], [2, priorities[priority]], ...on]];
  return request(NEW_CHAIN, CREATE, table, [3, name], where, [5, verdicts[policy]], [7, type]);
}

/** An expression: its name and its attributes. */
type Expression = readonly [name: string, ...holds: Attribute[]];

function ruleMessage(expressions: Expression[], table: Table, chain: string): Message {
  const list = expressions.map(
    ([name, ...holds]): Attribute => [
      1,
      [
        [1, name],
        [2, holds],
      ],
    ],
  );
  return request(NEW_RULE, CREATE | APPEND, table, [2, chain], [4, list]);
}

/**
 * @param both the table is of family inet, which has packets of both families.
 * @param setOf makes a set for this rule and returns its number.
 */
function expressionsOf(one: Statement, both: boolean, setOf: (elements: number[][]) => number): Expression[] {
  if ('add' in one) {
    const [name, key] = one.add === 'ct mark' ? ['ct', CT.mark] : ['meta', META.mark];
    return [load(name, key), bitwise(~one.bit, one.bit), store(name, key)];
  }
  if ('snat' in one) {
    const { family, bytes } = prefixOf(one.snat);
    return [immediate(bytes), snat(family)];
  }
  if ('reject' in one) return [['reject', [1, REJECT.type], [2, [REJECT.code]]]];
  if ('verdict' in one) return [verdict(verdicts[one.verdict])];
  if ('jump' in one) return [verdict(JUMP, one.jump)];
  if ('count' in one) return [['counter']];
  if ('log' in one) return [['log', [1, be16(one.log)], [2, one.prefix]]];
  switch (one.match) {
    case 'iifname':
    case 'oifname': {
      const name = ascii(one.is);
      while (name.length < 16) name.push(0);
      return [load('meta', META[one.match]), compare(one.not ? DIFFERENT : EQUAL, name)];
    }
    case 'saddr':
    case 'daddr': {
      if ('in' in one) {
        const family = one.family === 6 ? AF_INET6 : AF_INET;
        return [...addressIn(one.match, family, both), ['lookup', [1, one.in], [2, REGISTER]]];
      }
      const [first, ...more] = (typeof one.of === 'string' ? [one.of] : one.of).map(prefixOf);
      if (first === undefined) throw new Error('a match of no address');
      const { family, bytes, length } = first;
      const loaded = addressIn(one.match, family, both);
      if (more.length > 0) {
        const id = setOf([first, ...more].map((each) => each.bytes));
        const inverted: Attribute[] = one.not ? [[5, 1]] : [];
        return [...loaded, ['lookup', [1, ANONYMOUS], [2, REGISTER], [4, id], ...inverted]];
      }
      if (length < 8 * bytes.length) loaded.push(masked(bytes.length, length));
      return [...loaded, compare(one.not ? DIFFERENT : EQUAL, bytes)];
    }
    case 'direction':
      return [load('ct', CT.direction), compare(EQUAL, [one.is === 'original' ? 0 : 1])];
    case 'state':
      return [load('ct', CT.state), bitwise(states[one.is], 0), compare(DIFFERENT, le32(0))];
    case 'ct mark':
      return [load('ct', CT.mark), bitwise(one.has, 0), compare(EQUAL, le32(one.has))];
    case 'nfproto':
      return [load('meta', META.nfproto), compare(EQUAL, [AF_INET6])];
    case 'protocol':
      return [load('meta', META.protocol), compare(EQUAL, etherTypes[one.is])];
    case 'l4proto':
      return [load('meta', META.l4proto), compare(DIFFERENT, [ICMPV6])];
    // Two adjacent fields are loaded as one payload, as `nft` does it.
    case 'frame': {
      const fields = [...macBytes(one.from), ...etherTypes[one.type]];
      const ofEthernet = [load('meta', META.iiftype), compare(EQUAL, [1, 0])];
      return [...ofEthernet, payload(LINK_HEADER, 6, 8), compare(EQUAL, fields)];
    }
    case 'arp': {
      const fields = [...macBytes(one.mac), ...bytesOf(one.address)];
      return [payload(NETWORK_HEADER, 8, 10), compare(EQUAL, fields)];
    }
    case 'icmpv6': {
      const type = between([one.type], one.upTo === undefined ? undefined : [one.upTo], one.below);
      return [...ofProtocol(ICMPV6), payload(TRANSPORT_HEADER, 0, 1), ...type];
    }
    case 'ports': {
      const last = one.first === one.last ? undefined : be16(one.last);
      const port = between(be16(one.first), last);
      return [...ofProtocol(protocols[one.protocol]), payload(TRANSPORT_HEADER, 2, 2), ...port];
    }
    case 'advertised':
      return [payload(NETWORK_HEADER, 48, 16), compare(EQUAL, bytesOf(one.is))];
    case 'rate':
      return [limitTo(one.perSecond)];
    case 'over':
      return [limitOver(one.bytesPerSecond, one.burstBytes)];
  }
}

function bytesOf(address: string): number[] {
  return prefixOf(address).bytes;
}

/** In a table of family inet a check of the packet's family comes before a check of an address. */
function addressIn(which: 'saddr' | 'daddr', family: number, both: boolean): Expression[] {
  const [source, length] = family === AF_INET6 ? [8, 16] : [12, 4];
  const offset = source + (which === 'saddr' ? 0 : length);
  const ofFamily = both ? [load('meta', META.nfproto), compare(EQUAL, [family])] : [];
  return [...ofFamily, payload(NETWORK_HEADER, offset, length)];
}

function ofProtocol(protocol: number): Expression[] {
  return [load('meta', META.l4proto), compare(EQUAL, [protocol])];
}

/**
 * Compares the loaded value with `first`, or with a range.
 *
 * @param last end of the range, included.
 * @param below compares for less than `first`.
 */
function between(first: number[], last: number[] | undefined, below = false): Expression[] {
  if (last !== undefined) return [compare(AT_LEAST, first), compare(AT_MOST, last)];
  return [compare(below ? LESS : EQUAL, first)];
}

/** Loads the value of the key into the register. */
function load(name: string, key: number): Expression {
  return [name, [2, key], [1, REGISTER]];
}

/** Stores the register as the value of the key. */
function store(name: string, key: number): Expression {
  return [name, [2, key], [name === 'ct' ? 4 : 3, REGISTER]];
}

function payload(base: number, offset: number, length: number): Expression {
  return ['payload', [1, REGISTER], [2, base], [3, offset], [4, length]];
}

function compare(op: number, value: number[]): Expression {
  return ['cmp', [1, REGISTER], [2, op], [3, [[1, value]]]];
}

/** Masks the register's 32 bits and flips those of `xor`; both in the CPU's byte order. */
function bitwise(mask: number, xor: number): Expression {
  return bitwiseBytes(le32(mask), le32(xor));
}

/** Masks an address to its network. @param length of the prefix. */
function masked(bytes: number, length: number): Expression {
  const mask = Array.from(
    { length: bytes },
    (_, at) => 256 - 2 ** (8 - Math.max(0, Math.min(8, length - 8 * at))),
  );
  const none = mask.map(() => 0);
  return bitwiseBytes(mask, none);
}

function bitwiseBytes(mask: number[], xor: number[]): Expression {
  return ['bitwise', [1, REGISTER], [2, REGISTER], [3, mask.length], [4, [[1, mask]]], [5, [[1, xor]]]];
}

function immediate(value: number[]): Expression {
  return ['immediate', [1, REGISTER], [2, [[1, value]]]];
}

/** Matches above a rate: bytes per second, and bytes of burst. The flag is NFT_LIMIT_F_INV, the type NFT_LIMIT_PKT_BYTES. */
function limitOver(rate: number, burst: number): Expression {
  const second = [...be32(0), ...be32(1)];
  return [
    'limit',
    [1, [...be32(Math.floor(rate / 2 ** 32)), ...be32(rate)]],
    [2, second],
    [3, burst],
    [4, 1],
    [5, 1],
  ];
}

/** Matches up to a rate: packets per second, with a burst of as many packets. */
function limitTo(rate: number): Expression {
  return ['limit', [1, [...be32(0), ...be32(rate)]], [2, [...be32(0), ...be32(1)]], [3, rate]];
}

/** @param chain that a jump goes to. */
function verdict(code: number, chain?: string): Expression {
  // Encoded as the kernel lists it: the inner attribute has no flag for nested attributes.
  const bytes = [8, 0, 1, 0, ...be32(code)];
  if (chain !== undefined) {
    const name = zeroEnded(chain);
    bytes.push((4 + name.length) & 255, (4 + name.length) >> 8, 2, 0, ...name);
    while ((bytes.length & 3) !== 0) bytes.push(0);
  }
  return ['immediate', [1, 0], [2, [[2, bytes]]]];
}

/** Source NAT to one address, with any port. */
function snat(family: number): Expression {
  return ['nat', [1, 0], [2, family], [3, REGISTER], [7, FULLY_RANDOM]];
}

/** @param length bytes of an element; `nft` needs it to print the type. */
function setMessage(table: Table, name: string, id: number, flags: number, length: number): Message {
  const type = length === 4 ? 7 : 8;
  return request(NEW_SET, CREATE, table, [2, name], [3, flags], [4, type], [5, length], [10, id]);
}

/** Elements in one message: an attribute holds 64 KiB at most. */
const MOST_ELEMENTS = 1000;

/** An element of a named set, as requests and listings have it. */
export interface SetElement {
  /** In network order. */
  key: number[];
  /** This element ends a range: it is the first address after it. */
  ends?: true;
}

/** A set's elements in the order in which the kernel takes them. */
export function elementsOf(set: AddressSet | RangeSet): SetElement[] {
  return 'ranges' in set ? set.ranges.flatMap(rangeElements) : set.addresses.map(addressElement);
}

function addressElement(address: string): SetElement {
  return { key: bytesOf(address) };
}

/**
 * A range is two elements. They go in ascending order, so that the kernel does not take them for overlapping ranges. A
 * range that includes the last address of all has no end element. Source: __nft_rbtree_insert in
 * net/netfilter/nft_set_rbtree.c.
 */
function rangeElements({ first, last }: AddressRange): SetElement[] {
  const behind = bytesOf(last);
  let at = behind.length - 1;
  for (; at >= 0 && behind[at] === 255; at -= 1) behind[at] = 0;
  const start = addressElement(first);
  if (at < 0) return [start];
  behind[at] = (behind[at] ?? 0) + 1;
  return [start, { key: behind, ends: true }];
}

/** @param id of a set without a name of its own. */
function elementMessages(
  type: number,
  table: Pick<Table, 'family' | 'name'>,
  set: string,
  parts: readonly Uint8Array[],
  id?: number,
): Message[] {
  const numbered: Attribute[] = id === undefined ? [] : [[4, id]];
  return parts.map((part) => request(type, CREATE, table, [2, set], ...numbered).endWith(3, part));
}

/** A cache: many pods have rules with the same ranges. */
const written = new WeakMap<readonly AddressRange[], Uint8Array[]>();

function partsOf(set: AddressSet | RangeSet): Uint8Array[] {
  if ('addresses' in set) return writtenElements(elementsOf(set));
  const parts = written.get(set.ranges) ?? writtenElements(elementsOf(set));
  written.set(set.ranges, parts);
  return parts;
}

/** Elements as attributes, one list per message. */
function writtenElements(elements: readonly SetElement[]): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < elements.length; at += MOST_ELEMENTS) {
    const list = elements.slice(at, at + MOST_ELEMENTS).map(({ key, ends }): Attribute => {
      const end: Attribute[] = ends ? [[3, INTERVAL_END]] : [];
      return [1, [[1, [[1, key]]], ...end]];
    });
    parts.push(add(new Message(0, 0), list).body);
  }
  return parts;
}
