// All rules of a network namespace as data, whichever program wrote them: the rules of nftables, and of iptables in
// both of its forms, translated into nftables' JSON so that one judge reads both. Pure.
import { NFT_TABLE, POLICY_TABLE } from '../names.ts';
import { entriesOf } from '../nft-listing.ts';
import type { Hook } from './packet.ts';

/**
 * A statement of nftables' JSON (libnftables-json(5)). This module adds `any`, which holds when one of its matches
 * holds.
 */
export type Expression = Record<string, unknown>;

export interface Rule {
  expressions: Expression[];
  /** The rule as its owner writes it, or how to find it. */
  text: string;
}

export interface Chain {
  family: string;
  table: string;
  name: string;
  /** `nft`, or the program that shows the chain when nft does not. */
  by: 'nft' | 'iptables-legacy';
  rules: Rule[];
  /** For a base chain only: its hook. */
  base?: { hook: Hook; priority: number; policy: 'accept' | 'drop'; devices: string[] };
}

export interface Ruleset {
  chains: Chain[];
  /** Elements of sets and maps by family, table and name. */
  sets: Map<string, unknown[]>;
}

/** The key of a chain, a set or a map in its table. */
export function keyOf({ family, table }: { family?: string; table?: string }, name: string): string {
  return `${family} ${table} ${name}`;
}

/** The rules in the output of `nft -j list ruleset`, without eniboot's own tables. */
export function rulesetOf(json: string): Ruleset {
  const chains = new Map<string, Chain>();
  const sets: Ruleset['sets'] = new Map();
  const entries = entriesOf(json).filter((entry) => !isOwn(entry));
  for (const { chain, set, map } of entries as Record<string, Record<string, any> | undefined>[]) {
    if (chain !== undefined) chains.set(keyOf(chain, chain['name']), toChain(chain));
    const elements = set ?? map;
    if (elements !== undefined) sets.set(keyOf(elements, elements['name']), elements['elem'] ?? []);
  }
  for (const { rule } of entries as { rule?: Record<string, any> }[]) {
    const chain = rule === undefined ? undefined : chains.get(keyOf(rule, rule['chain']));
    if (rule === undefined || chain === undefined) continue;
    const comment = typeof rule['comment'] === 'string' ? ` (${rule['comment']})` : '';
    chain.rules.push({
      expressions: (rule['expr'] ?? []) as Expression[],
      text: `the rule with handle ${rule['handle']}${comment}`,
    });
  }
  return { chains: [...chains.values()], sets };
}

function isOwn(entry: Record<string, unknown>): boolean {
  const [object] = Object.values(entry) as Record<string, unknown>[];
  const [family, table] = [object?.['family'], object?.['table']];
  return (
    (table === NFT_TABLE && (family === 'inet' || family === 'netdev')) ||
    (table === POLICY_TABLE && family === 'inet')
  );
}

function toChain(chain: Record<string, any>): Chain {
  const { family, table, name, hook, prio, policy, dev } = chain;
  const plain: Chain = { family, table, name, by: 'nft', rules: [] };
  if (hook === undefined) return plain;
  const devices = dev === undefined ? [] : [dev].flat();
  return {
    ...plain,
    base: { hook, priority: Number(prio), policy: policy === 'drop' ? 'drop' : 'accept', devices },
  };
}

/**
 * The tables of a family with matches or targets of iptables (of iptables-nft), which nft's JSON names without
 * describing them.
 */
export function untoldTables({ chains }: Ruleset, family: 'ip' | 'ip6'): Set<string> {
  const untold = (rule: Rule) => rule.expressions.some((one) => 'xt' in one);
  return new Set(
    chains.filter((one) => one.family === family && one.rules.some(untold)).map((one) => one.table),
  );
}

/** The same rules, with `chains` instead of the chains of the same tables. */
export function withChains(ruleset: Ruleset, chains: Chain[]): Ruleset {
  const told = new Set(chains.map((one) => `${one.by} ${one.family} ${one.table}`));
  const kept = ruleset.chains.filter((one) => !told.has(`${one.by} ${one.family} ${one.table}`));
  return { ...ruleset, chains: [...kept, ...chains] };
}

/** Priorities of iptables' built-in chains (linux/netfilter_ipv4.h, enum nf_ip_hook_priorities). */
const PRIORITIES: Record<string, number> = { raw: -300, mangle: -150, filter: 0, security: 50 };
const HOOKS: Record<string, Hook> = {
  PREROUTING: 'prerouting',
  INPUT: 'input',
  FORWARD: 'forward',
  OUTPUT: 'output',
  POSTROUTING: 'postrouting',
};

/** The chains in the output of iptables-save or ip6tables-save. */
export function chainsOfSave(text: string, family: 'ip' | 'ip6', by: Chain['by']): Chain[] {
  const chains = new Map<string, Chain>();
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    else if (line.startsWith(':')) {
      const [name = '', policy = ''] = line.slice(1).split(' ');
      chains.set(`${table} ${name}`, builtIn({ family, table, name, by, rules: [] }, policy));
    } else if (/^(?:\[\d+:\d+\] )?-A /.test(line)) {
      const words = wordsOf(line.replace(/^\[\d+:\d+\] /, ''));
      const [, name = ''] = words;
      const isChain = (target: string) => chains.has(`${table} ${target}`);
      chains
        .get(`${table} ${name}`)
        ?.rules.push({ expressions: translate(words.slice(2), family, isChain), text: `\`${line}\`` });
    }
  }
  return [...chains.values()];
}

function builtIn(chain: Chain, policy: string): Chain {
  const hook = HOOKS[chain.name];
  if (policy === '-' || hook === undefined) return chain;
  const nat = hook === 'prerouting' || hook === 'output' ? -100 : 100;
  const priority = chain.table === 'nat' ? nat : (PRIORITIES[chain.table] ?? 0);
  return {
    ...chain,
    base: { hook, priority, policy: policy === 'DROP' ? 'drop' : 'accept', devices: [] },
  };
}

/** The words of a line; a quoted text with spaces is one word. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
}

/** One rule of iptables-save as expressions. An unsupported option becomes an unknown match. */
function translate(
  words: string[],
  family: 'ip' | 'ip6',
  isChain: (target: string) => boolean,
): Expression[] {
  const expressions: Expression[] = [];
  let module = '';
  for (let at = 0; at < words.length; ) {
    const not = words[at] === '!';
    if (not) at += 1;
    const option = words[at] ?? '';
    at += 1;
    if (option === '-j' || option === '-g') {
      const target = words[at] ?? '';
      return [...expressions, ...verdictOf(target, option === '-g', words.slice(at + 1), isChain)];
    }
    const values: string[] = [];
    while (at < words.length && !/^(?:!$|-)/.test(words[at] ?? '')) {
      values.push(words[at] ?? '');
      at += 1;
    }
    const [value = ''] = values;
    if (option === '-m') module = value;
    else if (option !== '--comment')
      expressions.push(matchOf(option, values, not, module, family) ?? untold(module));
  }
  return expressions;
}

function untold(name: string): Expression {
  return { xt: { type: 'match', name } };
}

function match(left: Expression, right: unknown, not: boolean, op = '=='): Expression {
  return { match: { op: not ? (op === 'in' ? '!' : '!=') : op, left, right } };
}

function matchOf(
  option: string,
  [value = '', second = '']: string[],
  not: boolean,
  module: string,
  family: 'ip' | 'ip6',
): Expression | undefined {
  const payload = (protocol: string, field: string) => ({ payload: { protocol, field } });
  const list = value.split(',');
  switch (option) {
    case '-s':
    case '-d':
      return match(payload(family, option === '-s' ? 'saddr' : 'daddr'), prefixOf(value), not);
    case '-i':
    case '-o': {
      const key = option === '-i' ? 'iifname' : 'oifname';
      return match({ meta: { key } }, value.replace(/\+$/, '*'), not);
    }
    case '-p':
      return match({ meta: { key: 'l4proto' } }, /^\d+$/.test(value) ? Number(value) : value, not);
    case '--dport':
    case '--sport':
      return match(payload('th', option.slice(2)), portsOf(value), not);
    case '--dports':
    case '--sports':
      return match(payload('th', option.slice(2, -1)), { set: list.map(portsOf) }, not);
    case '--ctstate':
    case '--state':
      return statesOf(list, not);
    case '--ctdir':
      return match({ ct: { key: 'direction' } }, value.toLowerCase(), not);
    case '--mark': {
      const [wanted = 0, mask] = value.split('/').map(Number);
      const mark = module === 'connmark' ? { ct: { key: 'mark' } } : { meta: { key: 'mark' } };
      return match(mask === undefined ? mark : { '&': [mark, mask] }, wanted, not);
    }
    case '--src-type':
    case '--dst-type': {
      const types = list.map((one) => one.toLowerCase());
      const flags = [option === '--src-type' ? 'saddr' : 'daddr'];
      return match({ fib: { result: 'type', flags } }, { set: types }, not);
    }
    case '--src-range':
    case '--dst-range': {
      const address = payload(family, option === '--src-range' ? 'saddr' : 'daddr');
      return match(address, { range: value.split('-') }, not);
    }
    case '--tcp-flags': {
      const set = second === 'NONE' ? 0 : flagsOf(second);
      return match({ '&': [payload('tcp', 'flags'), flagsOf(value)] }, set, not);
    }
    // Matches frames that a bridge forwards. Pods' packets are routed.
    case '--physdev-is-bridged':
    case '--physdev-in':
    case '--physdev-out':
      return match({ meta: { key: 'nfproto' } }, 'bridge', not);
    default:
      return undefined;
  }
}

function prefixOf(value: string): unknown {
  const [addr = '', length] = value.split('/');
  return length === undefined ? addr : { prefix: { addr, len: Number(length) } };
}

function portsOf(value: string): unknown {
  const [first = '', last] = value.split(':');
  return last === undefined ? Number(first) : { range: [Number(first), Number(last)] };
}

function flagsOf(value: string): string[] {
  return value === 'ALL'
    ? ['fin', 'syn', 'rst', 'psh', 'ack', 'urg']
    : value.split(',').map((flag) => flag.toLowerCase());
}

/** DNAT and SNAT are states in iptables, and flags of a connection in nftables. */
function statesOf(list: string[], not: boolean): Expression {
  const translated = (one: string) => one === 'DNAT' || one === 'SNAT';
  const named = (wanted: string[]) => wanted.map((one) => one.toLowerCase());
  const ways = [
    { left: { ct: { key: 'state' } }, right: named(list.filter((one) => !translated(one))) },
    { left: { ct: { key: 'status' } }, right: named(list.filter(translated)) },
  ].filter(({ right }) => right.length > 0);
  return { any: ways.map(({ left, right }) => ({ match: { op: 'in', left, right } })), not };
}

/** Targets that end the packet's way through the table. */
const ENDS: Record<string, Expression> = {
  ACCEPT: { accept: null },
  DROP: { drop: null },
  TARPIT: { drop: null },
  REJECT: { reject: null },
  RETURN: { return: null },
  QUEUE: { queue: null },
  NFQUEUE: { queue: null },
};
/** Targets of NAT; no rule of the chain after them is applied. */
const TRANSLATES = new Set(['SNAT', 'MASQUERADE', 'DNAT', 'REDIRECT', 'NETMAP', 'TPROXY']);

function verdictOf(
  target: string,
  goes: boolean,
  options: string[],
  isChain: (target: string) => boolean,
): Expression[] {
  if (ENDS[target] !== undefined) return [ENDS[target]];
  if (isChain(target)) return [goes ? { goto: { target } } : { jump: { target } }];
  if (TRANSLATES.has(target)) return [{ accept: null }];
  if (target === 'MARK') return [{ mangle: { key: { meta: { key: 'mark' } }, value: newMark(options) } }];
  if (target === 'CONNMARK' && options.includes('--restore-mark'))
    return [{ mangle: { key: { meta: { key: 'mark' } }, value: undefined } }];
  if (target === 'CONNMARK') return [{ mangle: { key: { ct: { key: 'mark' } }, value: undefined } }];
  return [];
}

/** `--set-xmark value/mask` clears the bits of the mask and flips those of the value (iptables-extensions(8)). */
function newMark([option = '', text = '']: string[]): unknown {
  const mark = { meta: { key: 'mark' } };
  const [value = 0, mask = 0xff_ff_ff_ff] = text.split('/').map(Number);
  if (option === '--or-mark') return { '|': [mark, value] };
  if (option === '--and-mark') return { '&': [mark, value] };
  if (option !== '--set-mark' && option !== '--set-xmark') return undefined;
  if (mask === 0xff_ff_ff_ff) return value;
  // `--set-mark` also clears the bits of the value.
  const cleared = { '&': [mark, ~(option === '--set-mark' ? mask | value : mask) >>> 0] };
  return { [option === '--set-mark' ? '|' : '^']: [cleared, value] };
}
