// Which route a packet takes, by all policy rules and all tables, and whether another program made that route. Pure,
// from the output of `ip -j rule` and `ip -j route show table all`: `ip route get` names the route, but not the rule
// that led to it.
import ipaddr from 'ipaddr.js';
import { ROUTE_PROTOCOL } from '../names.ts';

/** A rule or a route, with the field names of iproute2's JSON. */
export type Told = Record<string, unknown>;

export interface Tables {
  rules: Told[];
  routes: Told[];
}

export interface Question {
  source: string;
  destination: string;
  /** The device by which the packet comes in; undefined for a packet that the node itself sends. */
  iif: string | undefined;
  mark: number;
}

/** The result: a route of a table, and the rule that led to it. Without a route, the rule itself refuses the packet. */
export interface Decision {
  rule: Told;
  route: Told | undefined;
  device: string | undefined;
}

/**
 * What the kernel decides: rules by priority, in each table the longest prefix (fib_rules_lookup in
 * net/core/fib_rules.c). A rule with a condition that cannot be checked here (ports, users, a type of service) is
 * skipped.
 */
export function decide({ rules, routes }: Tables, question: Question): Decision | undefined {
  const ordered = [...rules].sort((a, b) => Number(a['priority']) - Number(b['priority']));
  let from = 0;
  for (const rule of ordered) {
    if (Number(rule['priority']) < from || !matches(rule, question)) continue;
    if (typeof rule['goto'] === 'number') {
      from = rule['goto'];
      continue;
    }
    const action = rule['action'];
    if (action === 'unreachable' || action === 'prohibit' || action === 'blackhole')
      return { rule, route: undefined, device: undefined };
    const route = rule['table'] === undefined ? undefined : longest(routes, rule, question.destination);
    if (route === undefined) continue;
    return { rule, route, device: typeof route['dev'] === 'string' ? route['dev'] : undefined };
  }
  return undefined;
}

/** Whether neither the kernel nor eniboot made the rule. */
export function isForeignRule(rule: Told): boolean {
  const own = rule['protocol'] === String(ROUTE_PROTOCOL) || rule['protocol'] === ROUTE_PROTOCOL;
  const first = rule['priority'] === 0 && rule['table'] === 'local';
  const last =
    (rule['priority'] === 32_766 && rule['table'] === 'main') ||
    (rule['priority'] === 32_767 && rule['table'] === 'default');
  return !own && !first && !last;
}

/** The rule or route as `ip rule` and `ip route` write it. */
export function ruleText(rule: Told): string {
  const prefix = (address: unknown, length: unknown) =>
    length === undefined ? String(address) : `${address}/${length}`;
  const words = [
    ...(rule['not'] === null ? ['not'] : []),
    `from ${prefix(rule['src'] ?? 'all', rule['srclen'])}`,
    ...(rule['dst'] === undefined ? [] : [`to ${prefix(rule['dst'], rule['dstlen'])}`]),
    ...(rule['iif'] === undefined ? [] : [`iif ${rule['iif']}`]),
    ...(rule['oif'] === undefined ? [] : [`oif ${rule['oif']}`]),
    ...(rule['fwmark'] === undefined ? [] : [`fwmark ${prefix(rule['fwmark'], rule['fwmask'])}`]),
    ...(rule['table'] === undefined ? [String(rule['action'] ?? '')] : [`lookup ${rule['table']}`]),
    ...(rule['suppress_prefixlen'] === undefined
      ? []
      : [`suppress_prefixlength ${rule['suppress_prefixlen']}`]),
  ];
  return `${rule['priority']}: ${words.join(' ')}`;
}

export function routeText(route: Told): string {
  const words = [
    ...(route['type'] === undefined ? [] : [String(route['type'])]),
    String(route['dst']),
    ...(route['gateway'] === undefined ? [] : [`via ${route['gateway']}`]),
    ...(route['dev'] === undefined ? [] : [`dev ${route['dev']}`]),
  ];
  return words.join(' ');
}

/** The table's number, or `main`, which `ip` leaves out. */
export function tableOf(route: Told): string {
  return String(route['table'] ?? 'main');
}

/** Conditions of rules on fields that are not known for a packet here. */
const UNTOLD = ['oif', 'tos', 'ipproto', 'sport', 'dport', 'uid_start', 'tun_id', 'l3mdev'];

function matches(rule: Told, { source, destination, iif, mark }: Question): boolean {
  if (UNTOLD.some((field) => field in rule)) return false;
  const holds =
    isIn(source, rule['src'], rule['srclen']) &&
    isIn(destination, rule['dst'], rule['dstlen']) &&
    (rule['iif'] === undefined || rule['iif'] === (iif ?? 'lo')) &&
    markHolds(rule, mark);
  return holds !== 'not' in rule;
}

function markHolds(rule: Told, mark: number): boolean {
  if (rule['fwmark'] === undefined) return true;
  const mask = Number(rule['fwmask'] ?? 0xff_ff_ff_ff);
  return (mark & mask) >>> 0 === Number(rule['fwmark']) >>> 0;
}

function isIn(address: string, prefix: unknown, length: unknown): boolean {
  if (prefix === undefined || prefix === 'all' || prefix === 'default') return true;
  const cidr = String(prefix).includes('/') || length === undefined ? String(prefix) : `${prefix}/${length}`;
  return lengthOfMatch(address, cidr) !== undefined;
}

/** The prefix length, or undefined when the address is not in the CIDR. */
function lengthOfMatch(address: string, cidr: string): number | undefined {
  if (cidr === 'default') return 0;
  const [base = '', length] = cidr.split('/');
  if (!ipaddr.isValid(base) || !ipaddr.isValid(address)) return undefined;
  const [a, b] = [ipaddr.parse(address), ipaddr.parse(base)];
  const bits = length === undefined ? (b.kind() === 'ipv4' ? 32 : 128) : Number(length);
  if (a.kind() !== b.kind()) return undefined;
  const inside =
    b.kind() === 'ipv4'
      ? (a as ipaddr.IPv4).match(b as ipaddr.IPv4, bits)
      : (a as ipaddr.IPv6).match(b as ipaddr.IPv6, bits);
  return inside ? bits : undefined;
}

/**
 * The route of the rule's table with the longest prefix and, among several, the lowest metric; undefined when that is a
 * throw route or the rule suppresses it.
 */
function longest(routes: Told[], rule: Told, destination: string): Told | undefined {
  const found = routes
    .filter((route) => tableOf(route) === String(rule['table']) && route['type'] !== 'broadcast')
    .flatMap((route) => {
      const bits = lengthOfMatch(destination, String(route['dst']));
      return bits === undefined ? [] : [{ route, bits, metric: Number(route['metric'] ?? 0) }];
    })
    .sort((a, b) => b.bits - a.bits || a.metric - b.metric)[0];
  if (found === undefined || found.route['type'] === 'throw') return undefined;
  const suppressed = rule['suppress_prefixlen'];
  return typeof suppressed === 'number' && found.bits <= suppressed ? undefined : found.route;
}

/** Whether `outer` contains all of `inner`; both are CIDRs or single addresses. */
export function covers(outer: string, inner: string): boolean {
  const [base = '', length = '128'] = inner.split('/');
  const bits = lengthOfMatch(base, outer);
  return bits !== undefined && bits <= Number(length);
}
