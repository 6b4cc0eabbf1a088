// The tables for a pod's namespace, written for `nft`, as messages of nfnetlink: the expressions that `nft` itself
// makes of them. Only these statements are known; any other text is undefined, and goes to `nft`.
// Numbers are those of linux/netfilter/nf_tables.h and nfnetlink.h.
import { ascii, be32, CREATE, EXCL, le32, Message, REQUEST, zeroEnded } from './message.ts';
import { AF_INET, AF_INET6, macBytes, numberOf, prefixOf } from './values.ts';

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

const INET = 1;
const NETDEV = 5;
const families = { ip: AF_INET, ip6: AF_INET6, inet: INET, netdev: NETDEV } as const;
/** A family whose tables pods have. */
export type Family = keyof typeof families;
const hooks: Record<string, number> = { prerouting: 0, input: 1, forward: 2, output: 3, postrouting: 4 };
/** Of a table of family netdev. */
const EGRESS = 1;
const policies: Record<string, number> = { accept: 1, drop: 0 };
const priorities: Record<string, number> = { raw: -300, mangle: -150, dstnat: -100, filter: 0, srcnat: 100 };
const REGISTER = 1;
const EQUAL = 0;
const DIFFERENT = 1;
const LESS = 2;
/** Where the offset of a payload counts from. */
const LINK_HEADER = 0;
const NETWORK_HEADER = 1;
const TRANSPORT_HEADER = 2;
/** Keys of meta. */
const META = { protocol: 1, mark: 3, iifname: 6, oifname: 7, iiftype: 8, nfproto: 15, l4proto: 16 };
const ICMPV6 = 58;
/** linux/if_ether.h. */
const etherTypes: Record<string, number[]> = { ip: [0x08, 0x00], arp: [0x08, 0x06], ip6: [0x86, 0xdd] };

/** One after the other of a transaction. */
type Step = (next: { setId(): number }) => Message[];

export interface Transaction {
  /** The messages between begin and end, with their sequence numbers; the last one is acknowledged. */
  bytes: Uint8Array;
  last: number;
}

/** @param replacing deletes tables of the same names first; otherwise they must not exist. */
export function transactionOf(text: string, replacing: boolean): Transaction | undefined {
  const messages = messagesOf(text, replacing);
  return messages === undefined ? undefined : assembled(messages);
}

/** What the text asks for, one request after the other. */
export function messagesOf(text: string, replacing = false): Message[] | undefined {
  const steps = stepsOf(text, replacing);
  if (steps === undefined) return undefined;
  let sets = 0;
  const next = { setId: () => ++sets };
  return steps.flatMap((step) => step(next));
}

/** Takes a table away; refused with ENOENT where there is none. */
export function tableRemoval(family: Family, name: string): Transaction {
  return assembled([removalOf({ family: families[family], name })]);
}

function assembled(messages: Message[]): Transaction {
  messages.at(-1)?.wantAnswer();
  const all = [batch(BATCH_BEGIN), ...messages, batch(BATCH_END)];
  const parts = all.map((message, at) => message.finish(at));
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

export function header(message: Message, family: number, resource = 0): Message {
  return message.u8(family, 0, resource >> 8, resource & 0xff);
}

function stepsOf(text: string, replacing: boolean): Step[] | undefined {
  const steps: Step[] = [];
  let table: { family: number; name: string } | undefined;
  let chain: string | undefined;
  for (const line of text.split('\n')) {
    const words = line.trim().split(' ');
    const [first = '', second = '', third = ''] = words;
    if (first === '') continue;
    if (first === '}') {
      if (chain !== undefined) chain = undefined;
      else table = undefined;
    } else if (first === 'table' && words[3] === '{') {
      if (!Object.hasOwn(families, second)) return undefined;
      table = { family: families[second as Family], name: third };
      steps.push(...tableSteps(table, replacing));
    } else if (table === undefined) return undefined;
    else if (first === 'chain' && third === '{') chain = second;
    else if (chain === undefined) return undefined;
    else {
      const step = first === 'type' ? hookOf(words, table, chain) : ruleOf(words, table, chain);
      if (step === undefined) return undefined;
      steps.push(step);
    }
  }
  return steps;
}

interface Table {
  family: number;
  name: string;
}

function tableSteps({ family, name }: Table, replacing: boolean): Step[] {
  const make = (flags: number) => () => [
    header(new Message(NEW_TABLE, REQUEST | CREATE | flags), family)
      .attribute(1, zeroEnded(name))
      .attribute(2, be32(0)),
  ];
  const remove = () => [removalOf({ family, name })];
  return replacing ? [make(0), remove, make(0)] : [make(EXCL)];
}

function removalOf({ family, name }: Table): Message {
  return header(new Message(DEL_TABLE, REQUEST), family).attribute(1, zeroEnded(name));
}

/** `type T hook H priority P; policy Q;`, in family netdev with `device "D"` behind the hook. */
function hookOf(words: string[], { family, name }: Table, chain: string): Step | undefined {
  const netdev = family === NETDEV;
  const [, type = '', , hook = ''] = words;
  const device = netdev ? words[5] : undefined;
  const [, priority = '', , policy = ''] = words.slice(netdev ? 6 : 4);
  const number = netdev && hook === 'egress' ? EGRESS : hooks[hook];
  const [level, verdict] = [priorities[priority.slice(0, -1)], policies[policy.slice(0, -1)]];
  if (number === undefined || level === undefined || verdict === undefined) return undefined;
  const on = netdev ? ` device ${device}` : '';
  if (words.join(' ') !== `type ${type} hook ${hook}${on} priority ${priority} policy ${policy}`)
    return undefined;
  return () => {
    const message = header(new Message(NEW_CHAIN, REQUEST | CREATE), family)
      .attribute(1, zeroEnded(name))
      .attribute(3, zeroEnded(chain));
    message.nest(4, () => {
      message.attribute(1, be32(number)).attribute(2, be32(level));
      if (device !== undefined) message.attribute(3, zeroEnded(device.slice(1, -1)));
    });
    return [message.attribute(5, be32(verdict)).attribute(7, zeroEnded(type))];
  };
}

/** An expression: its name and what it holds. */
type Expression = [name: string, fill: (message: Message) => void];

interface Set {
  id: number;
  elements: number[][];
}

/** Undefined for a rule of another form. */
function ruleOf(words: string[], table: Table, chain: string): Step | undefined {
  const expressions: Expression[] = [];
  const sets: Set[] = [];
  let at = 0;
  const take = (): string => words[at++] ?? '';
  const eat = (word: string): boolean => {
    if (words[at] !== word) return false;
    at += 1;
    return true;
  };
  const mark = (): number | undefined => numberOf(take());
  while (at < words.length) {
    const first = take();
    switch (first) {
      case 'iifname':
      case 'oifname': {
        const quoted = take();
        if (!quoted.startsWith('"')) return undefined;
        const name = ascii(quoted.slice(1, -1));
        while (name.length < 16) name.push(0);
        expressions.push(load('meta', 2, 1, META[first]), compare(EQUAL, name));
        break;
      }
      case 'ip':
      case 'ip6': {
        const source = eat('saddr');
        if (!source && !eat('daddr')) return undefined;
        const six = first === 'ip6';
        const op = eat('!=') ? DIFFERENT : EQUAL;
        const values: number[][] = [];
        if (eat('{')) {
          for (let word = take(); word !== '}'; word = take()) {
            if (word === '') return undefined;
            values.push(prefixOf(word.endsWith(',') ? word.slice(0, -1) : word).bytes);
          }
        } else values.push(prefixOf(take()).bytes);
        const [only] = values;
        if (only === undefined) return undefined;
        // In a table of both families an address is looked for in packets of its own only.
        if (table.family === INET) expressions.push(...ofFamily(six ? AF_INET6 : AF_INET));
        const length = six ? 16 : 4;
        expressions.push(payload(NETWORK_HEADER, (six ? 8 : 12) + (source ? 0 : length), length));
        if (values.length === 1) expressions.push(compare(op, only));
        else {
          const set = { id: 0, elements: values };
          sets.push(set);
          expressions.push(lookup(set, op === DIFFERENT));
        }
        break;
      }
      case 'ct': {
        const key = take();
        if (key === 'direction') {
          const direction = ['original', 'reply'].indexOf(take());
          if (direction === -1) return undefined;
          expressions.push(load('ct', 2, 1, 1), compare(EQUAL, [direction]));
        } else if (key === 'state') {
          if (!eat('new')) return undefined;
          expressions.push(load('ct', 2, 1, 0), bitwise(8, 0), compare(DIFFERENT, le32(0)));
        } else if (key !== 'mark') return undefined;
        else if (eat('set')) {
          const value = eat('ct') && eat('mark') && eat('or') ? mark() : undefined;
          if (value === undefined) return undefined;
          expressions.push(load('ct', 2, 1, 3), bitwise(~value, value), load('ct', 2, 4, 3));
        } else {
          const mask = eat('and') ? mark() : undefined;
          const value = eat('==') ? mark() : undefined;
          if (mask === undefined || value === undefined) return undefined;
          expressions.push(load('ct', 2, 1, 3), bitwise(mask, 0), compare(EQUAL, le32(value)));
        }
        break;
      }
      case 'meta': {
        if (eat('nfproto')) {
          if (!eat('ipv6')) return undefined;
          expressions.push(...ofFamily(AF_INET6));
          break;
        }
        if (eat('protocol')) {
          const type = etherTypes[take()];
          if (type === undefined) return undefined;
          expressions.push(load('meta', 2, 1, META.protocol), compare(EQUAL, type));
          break;
        }
        if (eat('l4proto')) {
          if (!eat('!=') || !eat('ipv6-icmp')) return undefined;
          expressions.push(load('meta', 2, 1, META.l4proto), compare(DIFFERENT, [ICMPV6]));
          break;
        }
        const set = eat('mark') && eat('set') && eat('meta') && eat('mark') && eat('or');
        const value = set ? mark() : undefined;
        if (value === undefined) return undefined;
        expressions.push(
          load('meta', 2, 1, META.mark),
          bitwise(~value, value),
          load('meta', 2, 3, META.mark),
        );
        break;
      }
      // Two fields side by side are one payload, as `nft` makes it.
      case 'ether': {
        const mac = eat('saddr') ? macBytes(take()) : undefined;
        const type = eat('ether') && eat('type') ? etherTypes[take()] : undefined;
        if (mac === undefined || type === undefined) return undefined;
        expressions.push(load('meta', 2, 1, META.iiftype), compare(EQUAL, [1, 0]));
        expressions.push(payload(LINK_HEADER, 6, 8), compare(EQUAL, [...mac, ...type]));
        break;
      }
      case 'arp': {
        const mac = eat('saddr') && eat('ether') ? macBytes(take()) : undefined;
        const address = eat('arp') && eat('saddr') && eat('ip') ? prefixOf(take()).bytes : undefined;
        if (mac === undefined || address === undefined) return undefined;
        expressions.push(payload(NETWORK_HEADER, 8, 10), compare(EQUAL, [...mac, ...address]));
        break;
      }
      case 'icmpv6': {
        const op = eat('type') && eat('<') ? LESS : EQUAL;
        const type = numberOf(take());
        if (type === undefined) return undefined;
        expressions.push(load('meta', 2, 1, META.l4proto), compare(EQUAL, [ICMPV6]));
        expressions.push(payload(TRANSPORT_HEADER, 0, 1), compare(op, [type]));
        break;
      }
      // The target of a neighbour advertisement that no extension header precedes.
      case '@nh,384,128': {
        const target = Buffer.from(take().slice(2), 'hex');
        if (target.length !== 16) return undefined;
        expressions.push(payload(NETWORK_HEADER, 48, 16), compare(EQUAL, [...target]));
        break;
      }
      case 'limit': {
        if (!eat('rate') || !eat('over')) return undefined;
        // In 64 bits: an ENI may carry more than 2^32 bytes a second.
        const rate = Number(take());
        const burst = eat('bytes/second') && eat('burst') ? numberOf(take()) : undefined;
        if (!Number.isSafeInteger(rate) || burst === undefined || !eat('bytes')) return undefined;
        expressions.push(limitOver(rate, burst));
        break;
      }
      case 'counter':
        expressions.push(['counter', () => {}]);
        break;
      case 'accept':
      case 'drop':
        expressions.push(verdict(first === 'accept' ? 1 : 0));
        break;
      case 'snat': {
        if (!(eat('ip') || eat('ip6')) || !eat('to')) return undefined;
        const { family, bytes } = prefixOf(take());
        expressions.push(immediate(bytes), snat(family, eat('fully-random') ? 0x10 : 0));
        break;
      }
      default:
        return undefined;
    }
  }
  return (next) => {
    const made = sets.flatMap((set) => {
      set.id = next.setId();
      return setMessages(set, table);
    });
    const message = header(new Message(NEW_RULE, REQUEST | CREATE | APPEND), table.family)
      .attribute(1, zeroEnded(table.name))
      .attribute(2, zeroEnded(chain));
    message.nest(4, () => {
      for (const [name, fill] of expressions) {
        message.nest(1, () => {
          message.attribute(1, zeroEnded(name));
          message.nest(2, () => fill(message));
        });
      }
    });
    return [...made, message];
  };
}

/** Loads what the key names into the register, or with the other attribute stores the register there. */
function load(name: string, keyAt: number, registerAt: number, key: number): Expression {
  return [name, (message) => message.attribute(keyAt, be32(key)).attribute(registerAt, be32(REGISTER))];
}

function ofFamily(family: number): Expression[] {
  return [load('meta', 2, 1, META.nfproto), compare(EQUAL, [family])];
}

function payload(base: number, offset: number, length: number): Expression {
  return [
    'payload',
    (message) =>
      message
        .attribute(1, be32(REGISTER))
        .attribute(2, be32(base))
        .attribute(3, be32(offset))
        .attribute(4, be32(length)),
  ];
}

function compare(op: number, value: number[]): Expression {
  return [
    'cmp',
    (message) =>
      message
        .attribute(1, be32(REGISTER))
        .attribute(2, be32(op))
        .nest(3, () => message.attribute(1, value)),
  ];
}

function bitwise(mask: number, xor: number): Expression {
  return [
    'bitwise',
    (message) =>
      message
        .attribute(1, be32(REGISTER))
        .attribute(2, be32(REGISTER))
        .attribute(3, be32(4))
        .nest(4, () => message.attribute(1, le32(mask)))
        .nest(5, () => message.attribute(1, le32(xor))),
  ];
}

function lookup(set: Set, inverted: boolean): Expression {
  return [
    'lookup',
    (message) => {
      message.attribute(1, zeroEnded('__set%d')).attribute(2, be32(REGISTER)).attribute(4, be32(set.id));
      if (inverted) message.attribute(5, be32(1));
    },
  ];
}

function immediate(value: number[]): Expression {
  return [
    'immediate',
    (message) => message.attribute(1, be32(REGISTER)).nest(2, () => message.attribute(1, value)),
  ];
}

/** Bytes a second, and bytes at once; `over` is NFT_LIMIT_F_INV, and bytes are NFT_LIMIT_PKT_BYTES. */
function limitOver(rate: number, burst: number): Expression {
  return [
    'limit',
    (message) =>
      message
        .attribute(1, [...be32(Math.floor(rate / 2 ** 32)), ...be32(rate)])
        // A second.
        .attribute(2, [...be32(0), ...be32(1)])
        .attribute(3, be32(burst))
        .attribute(4, be32(1))
        .attribute(5, be32(1)),
  ];
}

/** NF_DROP or NF_ACCEPT. */
function verdict(code: number): Expression {
  // Written as the kernel lists it, without the flag of a nested attribute inside.
  const bytes = [8, 0, 1, 0, ...be32(code)];
  return ['immediate', (message) => message.attribute(1, be32(0)).nest(2, () => message.attribute(2, bytes))];
}

function snat(family: number, flags: number): Expression {
  return [
    'nat',
    (message) => {
      message.attribute(1, be32(0)).attribute(2, be32(family)).attribute(3, be32(REGISTER));
      if (flags !== 0) message.attribute(7, be32(flags));
    },
  ];
}

function setMessages({ id, elements }: Set, { family, name }: Table): Message[] {
  const length = elements[0]?.length ?? 4;
  const set = header(new Message(NEW_SET, REQUEST | CREATE), family)
    .attribute(1, zeroEnded(name))
    .attribute(2, zeroEnded('__set%d'))
    .attribute(3, be32(3))
    // The type tells `nft` how to print it.
    .attribute(4, be32(length === 4 ? 7 : 8))
    .attribute(5, be32(length))
    .attribute(10, be32(id));
  const list = header(new Message(NEW_ELEMENTS, REQUEST | CREATE), family)
    .attribute(1, zeroEnded(name))
    .attribute(2, zeroEnded('__set%d'))
    .attribute(4, be32(id));
  list.nest(3, () => {
    for (const element of elements) list.nest(1, () => list.nest(1, () => list.attribute(1, element)));
  });
  return [set, list];
}
