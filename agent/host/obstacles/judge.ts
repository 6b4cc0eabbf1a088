// What a set of rules does to one packet. Pure. Each match has one of three results: it holds, it does not hold, or it
// is unknown here (a rate, a set that another program keeps elsewhere, a match of iptables that nft's JSON does not
// describe). A judgement is called certain only when it depends on no unknown match. A drop that depends on an unknown
// match is not reported: most such rules drop INVALID packets and floods.
import ipaddr from 'ipaddr.js';
import type { Hook, Journey, Packet } from './packet.ts';
import { covers } from './routing.ts';
import { type Chain, type Expression, keyOf, type Rule, type Ruleset } from './ruleset.ts';

/** What a base chain does to a packet that it does not let pass. */
export interface Blocked {
  chain: Chain;
  hook: Hook;
  /** The chain's policy, a rule, or a program for which packets are queued. */
  by: 'policy' | 'rule' | 'queue';
  /** The rule, and the chain that contains it. */
  rule?: { text: string; chain: string };
  /** false: earlier rules with unknown matches may let the packet pass. */
  certain: boolean;
}

/**
 * The first base chain on the packet's way that certainly stops it, else the first that may stop it; undefined when all
 * let it pass.
 */
export function judge(ruleset: Ruleset, journey: Journey): Blocked | undefined {
  const carried = { mark: journey.packet.mark, ctMark: journey.packet.ctMark };
  let uncertain: Blocked | undefined;
  for (const hook of journey.hooks)
    for (const chain of chainsAt(ruleset, hook, journey.packet)) {
      const packet = { ...packetAt(journey, hook, chain.base?.priority ?? 0), ...carried };
      const walk = new Walk(ruleset, chain, packet);
      const blocked = walk.outcome(hook);
      Object.assign(carried, walk.marks());
      if (blocked?.certain === true) return blocked;
      uncertain ??= blocked;
    }
  return uncertain;
}

function chainsAt({ chains }: Ruleset, hook: Hook, { family, iif, oif }: Packet): Chain[] {
  const device = hook === 'ingress' ? iif : oif;
  const families = [family === 4 ? 'ip' : 'ip6', 'inet'];
  return chains
    .filter(({ base, ...chain }) => {
      if (base?.hook !== hook) return false;
      if (hook === 'ingress' || hook === 'egress')
        return ['netdev', 'inet'].includes(chain.family) && base.devices.includes(device ?? '');
      return families.includes(chain.family);
    })
    .sort((a, b) => (a.base?.priority ?? 0) - (b.base?.priority ?? 0));
}

/**
 * Priorities of NAT (enum nf_ip_hook_priorities). A chain with the same priority still sees the packet before its
 * translation.
 */
const DSTNAT = -100;
const SRCNAT = 100;

function packetAt({ packet, before, after }: Journey, hook: Hook, priority: number): Packet {
  const early = hook === 'ingress' || (hook === 'prerouting' && priority <= DSTNAT);
  const late = hook === 'egress' || (hook === 'postrouting' && priority > SRCNAT);
  // A packet has a device only at some hooks: the outgoing device is not known before routing.
  const devices = {
    ...(hook === 'ingress' || hook === 'prerouting' || hook === 'input' ? { oif: undefined } : {}),
    ...(hook === 'output' || hook === 'egress' ? { iif: undefined } : {}),
  };
  return { ...packet, ...(early ? before : {}), ...(late ? after : {}), ...devices };
}

/** The kernel allows no deeper chains of jumps (NFT_JUMP_STACK_SIZE in net/netfilter/nf_tables.h). */
const DEEPEST = 16;

/** Where a packet goes from a rule: to the next rule, to a final verdict, or to the end of the chain. */
type Goes = 'on' | 'ends' | 'out';

/** Targets of iptables that nft's JSON names, with the names that nftables has for the same. */
const TARGETS: Record<string, string> = {
  REJECT: 'reject',
  TARPIT: 'drop',
  SNAT: 'snat',
  MASQUERADE: 'masquerade',
  DNAT: 'dnat',
  REDIRECT: 'redirect',
  NETMAP: 'dnat',
  NFQUEUE: 'queue',
};

/** A packet's way through one base chain and the chains to which that jumps. */
class Walk {
  private readonly ruleset: Ruleset;
  private readonly base: Chain;
  private readonly packet: Packet;
  /** Some rule or the policy may accept the packet. */
  private accepts = false;
  private readonly drops: Pick<Blocked, 'by' | 'rule'>[] = [];

  constructor(ruleset: Ruleset, base: Chain, packet: Packet) {
    this.ruleset = ruleset;
    this.base = base;
    this.packet = { ...packet };
  }

  marks(): Pick<Packet, 'mark' | 'ctMark'> {
    return { mark: this.packet.mark, ctMark: this.packet.ctMark };
  }

  outcome(hook: Hook): Blocked | undefined {
    if (this.through(this.base, true, 0)) {
      if (this.base.base?.policy === 'drop') this.drops.push({ by: 'policy' });
      else this.accepts = true;
    }
    const [drop] = this.drops;
    return drop === undefined ? undefined : { ...drop, chain: this.base, hook, certain: !this.accepts };
  }

  /**
   * @param sure the packet certainly reaches this chain.
   * @returns whether the packet may reach the chain's end.
   */
  private through(chain: Chain, sure: boolean, depth: number): boolean {
    let mayFall = false;
    for (const rule of chain.rules) {
      const { held, goes } = this.ask(rule, chain, sure, depth);
      if (goes === 'out' && held === true) return true;
      if (goes === 'ends' && held === true) return mayFall;
      if (goes === 'out') mayFall = true;
    }
    return true;
  }

  /** `held` is undefined when it is unknown whether the rule matches this packet. */
  private ask(
    rule: Rule,
    chain: Chain,
    sure: boolean,
    depth: number,
  ): { held: boolean | undefined; goes: Goes } {
    let held: true | undefined = true;
    for (const expression of rule.expressions) {
      const one = this.holds(expression);
      if (one === false) return { held: false, goes: 'on' };
      if (one === undefined) held = undefined;
      const certain = sure && held === true;
      this.mangle(expression, certain);
      const goes = this.verdict(expression, rule, chain, certain, depth);
      if (goes !== 'on') return { held, goes };
    }
    return { held, goes: 'on' };
  }

  private verdict(expression: Expression, rule: Rule, chain: Chain, sure: boolean, depth: number): Goes {
    const [kind = ''] = Object.keys(expression);
    if (kind === 'vmap') return this.verdictMap(expression['vmap'], rule, chain, sure, depth);
    switch (kind === 'xt' ? targetOf(expression['xt']) : kind) {
      case 'accept':
      case 'snat':
      case 'dnat':
      case 'masquerade':
      case 'redirect':
        this.accepts = true;
        return 'ends';
      case 'queue':
        this.accepts = true;
        if (sure) this.drops.push({ by: 'queue', rule: { text: rule.text, chain: chain.name } });
        return 'ends';
      case 'drop':
      case 'reject':
      case 'fwd':
        // A drop that depends on an unknown match is left out.
        if (sure) this.drops.push({ by: 'rule', rule: { text: rule.text, chain: chain.name } });
        return 'ends';
      case 'return':
        return 'out';
      case 'jump':
      case 'goto': {
        const { target } = expression[kind] as { target: string };
        const falls = this.into(target, chain, sure, depth);
        if (!falls) return 'ends';
        return kind === 'goto' ? 'out' : 'on';
      }
      default:
        return 'on';
    }
  }

  private into(target: string, { by, family, table }: Chain, sure: boolean, depth: number): boolean {
    const next = this.ruleset.chains.find(
      (one) => one.by === by && one.family === family && one.table === table && one.name === target,
    );
    return next === undefined || depth >= DEEPEST || this.through(next, sure, depth + 1);
  }

  private verdictMap(value: unknown, rule: Rule, chain: Chain, sure: boolean, depth: number): Goes {
    const { key, data } = value as { key: unknown; data: unknown };
    for (const [element, verdict] of this.elementsOf(data, chain) as [unknown, Expression][]) {
      const one = this.equals(key, element, chain);
      if (one === true) return this.verdict(verdict, rule, chain, sure, depth);
      if (one === undefined) this.verdict(verdict, rule, chain, false, depth);
    }
    return 'on';
  }

  private elementsOf(data: unknown, chain: Chain): unknown[] {
    if (typeof data === 'string' && data.startsWith('@'))
      return this.ruleset.sets.get(keyOf(chain, data.slice(1))) ?? [];
    const { set } = (data ?? {}) as { set?: unknown };
    return Array.isArray(set) ? set : set === undefined ? [] : [set];
  }

  /** Whether a match holds. For any other statement it returns true, so that the next statement is looked at. */
  private holds(expression: Expression): boolean | undefined {
    if ('any' in expression) return this.holdsAny(expression);
    if ('match' in expression) {
      const { op, left, right } = expression['match'] as { op: string; left: unknown; right: unknown };
      return this.compare(op, left, right);
    }
    const { xt } = expression as { xt?: { type?: string; name?: string } | null };
    if (xt !== undefined) {
      // nft before 1.0.6 writes null here.
      if (xt === null) return undefined;
      return xt.type === 'match' && xt.name !== 'comment' ? undefined : true;
    }
    const untold = ['limit', 'quota', 'ct count', 'connlimit', 'last'];
    return untold.some((one) => one in expression) ? undefined : true;
  }

  private holdsAny(expression: Expression): boolean | undefined {
    const { any, not } = expression as { any: Expression[]; not: boolean };
    const each = any.map((one) => this.holds(one));
    const found = each.includes(true) ? true : each.includes(undefined) ? undefined : false;
    return found === undefined ? undefined : found !== not;
  }

  private compare(op: string, left: unknown, right: unknown): boolean | undefined {
    const isConcat = typeof left === 'object' && left !== null && 'concat' in left;
    const value = isConcat ? undefined : this.valueOf(left);
    if (value === 'none') return false;
    if (value === undefined && !isConcat) return undefined;
    const wanted = value !== undefined && 'names' in value ? value : undefined;
    if (wanted !== undefined && !isSetLike(right)) {
      // Flags, and numbers that have names.
      const number = numberOf(right, wanted.names);
      if (number === undefined) return rangeHolds(op, wanted.number, right);
      return COMPARES[op]?.(wanted.number, number);
    }
    const same = this.isOneOf(left, right, this.base);
    return same === undefined ? undefined : same !== (op === '!=' || op === '!');
  }

  private isOneOf(left: unknown, right: unknown, chain: Chain): boolean | undefined {
    if (!isSetLike(right)) return this.equals(left, right, chain);
    const each = this.elementsOf(right, chain).map((one) => this.equals(left, one, chain));
    return each.includes(true) ? true : each.includes(undefined) ? undefined : false;
  }

  /** Compares with one element of a set, or with a single value. */
  private equals(left: unknown, element: unknown, chain: Chain): boolean | undefined {
    const bare = (element as { elem?: { val: unknown } } | null)?.elem?.val ?? element;
    const parts = (left as { concat?: unknown[] } | null)?.concat;
    if (parts !== undefined) {
      const wanted = (bare as { concat?: unknown[] } | null)?.concat ?? [];
      const each = parts.map((part, at) => this.equals(part, wanted[at], chain));
      return each.includes(false) ? false : each.includes(undefined) ? undefined : true;
    }
    const value = this.valueOf(left);
    if (value === 'none') return false;
    return value === undefined ? undefined : valueIs(value, bare);
  }

  private valueOf(left: unknown): Value | 'none' | undefined {
    const { packet } = this;
    const [[kind, detail] = ['', undefined]] = Object.entries((left ?? {}) as Record<string, any>);
    switch (kind) {
      case 'meta':
      case 'ct':
        return FIELDS[`${kind} ${detail.key}`]?.(packet);
      case 'payload':
        return payloadOf(packet, detail);
      case 'fib':
        return fibOf(packet, detail);
      case '&':
      case '|':
      case '^':
        return this.combined(kind, detail as unknown[]);
      default:
        return undefined;
    }
  }

  private combined(operator: '&' | '|' | '^', operands: unknown[]): Value | 'none' | undefined {
    const [first, ...rest] = operands;
    const value = typeof first === 'number' ? numbered(first) : this.valueOf(first);
    if (value === 'none' || value === undefined) return value;
    if (!('number' in value)) return undefined;
    let { number } = value;
    for (const operand of rest) {
      const other = numberOf(operand, value.names);
      if (other === undefined) return undefined;
      number = (operator === '&' ? number & other : operator === '|' ? number | other : number ^ other) >>> 0;
    }
    return { number, names: value.names };
  }

  private mangle(expression: Expression, sure: boolean): void {
    const { xt } = expression as { xt?: { type?: string; name?: string } | null };
    if (xt?.type === 'target' && xt.name?.endsWith('MARK') === true) this.packet.mark = undefined;
    if (!('mangle' in expression)) return;
    const { key, value } = expression['mangle'] as { key: Record<string, any>; value: unknown };
    const field = key['meta']?.key === 'mark' ? 'mark' : key['ct']?.key === 'mark' ? 'ctMark' : undefined;
    if (field === undefined) return;
    const next =
      typeof value === 'number' ? numbered(value) : value === undefined ? undefined : this.valueOf(value);
    const known = sure && typeof next === 'object' && 'number' in next ? next.number : undefined;
    this.packet[field] = known;
  }
}

/** Text, or a number some of whose values have names. */
type Value = { text: string } | { number: number; names: Record<string, number> };

const PROTOCOLS = { icmp: 1, tcp: 6, udp: 17, 'ipv6-icmp': 58, icmpv6: 58, sctp: 132 };
const TCP_FLAGS = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32, ecn: 64, cwr: 128 };
/** As bits: NF_CT_STATE_BIT in linux/netfilter/nf_conntrack_common.h. */
const STATES = { invalid: 1, established: 2, related: 4, new: 8, untracked: 64 };
/** enum ip_conntrack_status in the same file. */
const STATUSES = {
  expected: 1,
  'seen-reply': 2,
  assured: 4,
  confirmed: 8,
  snat: 16,
  dnat: 32,
  dying: 512,
};

function targetOf(xt: unknown): string {
  const { type, name } = (xt ?? {}) as { type?: string; name?: string };
  return type === 'target' ? (TARGETS[name ?? ''] ?? '') : '';
}

function numbered(number: number, names: Record<string, number> = {}): Value {
  return { number, names };
}

/** `none`: the packet does not have this field, so no match with it holds. */
function worded(text: string | undefined): Value | 'none' {
  return text === undefined ? 'none' : { text };
}

/** The packet's fields by the names of nftables; a name that is not here is an unknown match. */
const FIELDS: Record<string, (packet: Packet) => Value | 'none' | undefined> = {
  'meta iifname': ({ iif }) => worded(iif),
  'meta iif': ({ iif }) => worded(iif),
  'meta oifname': ({ oif }) => worded(oif),
  'meta oif': ({ oif }) => worded(oif),
  'meta l4proto': ({ protocol }) => numbered(PROTOCOLS[protocol], PROTOCOLS),
  'meta nfproto': ({ family }) => worded(family === 4 ? 'ipv4' : 'ipv6'),
  'meta protocol': ({ family }) => worded(family === 4 ? 'ip' : 'ip6'),
  'meta mark': ({ mark }) => (mark === undefined ? undefined : numbered(mark)),
  'meta pkttype': () => worded('host'),
  'ct state': ({ state }) => numbered(STATES[state], STATES),
  'ct status': ({ state, dnat, snat }) => {
    const seen = state === 'established' ? STATUSES['seen-reply'] | STATUSES.confirmed : 0;
    const translated = (dnat ? STATUSES.dnat : 0) | (snat ? STATUSES.snat : 0);
    return numbered(seen | translated, STATUSES);
  },
  'ct mark': ({ ctMark }) => (ctMark === undefined ? undefined : numbered(ctMark)),
  'ct direction': ({ direction }) => worded(direction),
  'ct helper': () => 'none',
};

const COMPARES: Record<string, (a: number, b: number) => boolean> = {
  '==': (a, b) => a === b,
  '!=': (a, b) => a !== b,
  in: (a, b) => (a & b) !== 0,
  '!': (a, b) => (a & b) === 0,
  '<': (a, b) => a < b,
  '>': (a, b) => a > b,
  '<=': (a, b) => a <= b,
  '>=': (a, b) => a >= b,
};

function payloadOf(
  packet: Packet,
  { protocol, field }: { protocol?: string; field?: string },
): Value | 'none' | undefined {
  switch (protocol) {
    case 'ip':
    case 'ip6':
      if (protocol !== (packet.family === 4 ? 'ip' : 'ip6')) return 'none';
      if (field === 'saddr') return worded(packet.source);
      if (field === 'daddr') return worded(packet.destination);
      return field === 'protocol' || field === 'nexthdr'
        ? numbered(PROTOCOLS[packet.protocol], PROTOCOLS)
        : undefined;
    case 'ether':
      return field === 'type' ? worded(packet.family === 4 ? 'ip' : 'ip6') : undefined;
    case 'th':
    case 'tcp':
    case 'udp':
      if (protocol !== 'th' && protocol !== packet.protocol) return 'none';
      if (field === 'sport' || field === 'dport') return numbered(packet[field]);
      if (field !== 'flags') return undefined;
      return numbered(packet.state === 'new' ? TCP_FLAGS.syn : TCP_FLAGS.ack, TCP_FLAGS);
    case undefined:
      return undefined;
    default:
      // A field of another protocol's header, which this packet does not have.
      return 'none';
  }
}

/**
 * There always is a route to a pod's address by the device from which its packets come, so the reverse path check
 * passes.
 */
function fibOf(
  packet: Packet,
  { result, flags }: { result?: string; flags?: string | string[] },
): Value | undefined {
  const asked = [flags].flat();
  if (result !== 'type') return { number: 1, names: {} };
  const address = asked.includes('saddr') ? packet.source : packet.destination;
  return { text: packet.local.includes(address) ? 'local' : 'unicast' };
}

function isSetLike(right: unknown): boolean {
  if (typeof right === 'string') return right.startsWith('@');
  return typeof right === 'object' && right !== null && 'set' in right;
}

function rangeHolds(op: string, number: number, right: unknown): boolean | undefined {
  const { range } = (right ?? {}) as { range?: unknown[] };
  if (range === undefined) return undefined;
  const [first, last] = range.map(Number);
  const inside = number >= (first ?? 0) && number <= (last ?? 0);
  return op === '!=' ? !inside : inside;
}

/** A number, a name of one, a list of flags, or a combination of flags. */
function numberOf(right: unknown, names: Record<string, number>): number | undefined {
  if (typeof right === 'number') return right;
  if (typeof right === 'boolean') return Number(right);
  if (typeof right === 'string') return names[right];
  const list = Array.isArray(right) ? right : (right as { '|'?: unknown[] } | null)?.['|'];
  if (!Array.isArray(list)) return undefined;
  let all = 0;
  for (const one of list) {
    const number = numberOf(one, names);
    if (number === undefined) return undefined;
    all |= number;
  }
  return all;
}

function valueIs(value: Value, wanted: unknown): boolean | undefined {
  if (!('text' in value)) {
    const number = numberOf(wanted, value.names);
    return number === undefined ? rangeHolds('==', value.number, wanted) : value.number === number;
  }
  const { text } = value;
  if (/[.:]/.test(text) && ipaddr.isValid(text)) return addressIs(text, wanted);
  if (typeof wanted !== 'string') return undefined;
  return wanted.endsWith('*') ? text.startsWith(wanted.slice(0, -1)) : text === wanted;
}

/** Whether the address is in a prefix or range, or is the given address; false for an address of another family. */
function addressIs(value: string, wanted: unknown): boolean | undefined {
  const address = ipaddr.parse(value);
  const { prefix, range } = (typeof wanted === 'object' && wanted !== null ? wanted : {}) as {
    prefix?: { addr: string; len: number };
    range?: string[];
  };
  if (prefix !== undefined)
    return ipaddr.isValid(prefix.addr) ? covers(`${prefix.addr}/${prefix.len}`, value) : undefined;
  const texts = range ?? [wanted];
  if (!texts.every((text) => typeof text === 'string' && ipaddr.isValid(text))) return undefined;
  const [first, last = first] = texts.map((text) => ipaddr.parse(String(text)));
  if (first === undefined || last === undefined || first.kind() !== address.kind()) return false;
  const bytes = address.toByteArray();
  return compareBytes(bytes, first.toByteArray()) >= 0 && compareBytes(bytes, last.toByteArray()) <= 0;
}

function compareBytes(a: number[], b: number[]): number {
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return (a[at] ?? 0) - (b[at] ?? 0);
  return 0;
}
