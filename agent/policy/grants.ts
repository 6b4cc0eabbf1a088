// A grant as chains, rules and sets of a table: pure.
import type { AddressSet, JumpedTo, RangeSet, Statement } from '../kernel/operation.ts';
import type { Grant, Member, PortRange } from './decide.ts';

const accept: Statement = { verdict: 'accept' };
const count: Statement = { count: true };

/** The members of a grant to which a port applies, and their set. */
interface MemberSet extends AddressSet {
  /** Absent: the set of the peers. */
  named?: { protocol: PortRange['protocol']; port: number };
}

type NamedPort = NonNullable<MemberSet['named']>;

export function setsOf(grant: Grant, of: ReadonlyMap<string, Member>): (AddressSet | RangeSet)[] {
  return [...memberSetsOf(grant, of), ...blockSetsOf(grant)];
}

/** The sets of both families always exist, empty or not, so that a new member is only one more element. */
function memberSetsOf({ rule, members, named }: Grant, of: ReadonlyMap<string, Member>): MemberSet[] {
  const found: MemberSet[] = [];
  const add = (port?: NamedPort) => {
    const addresses = [...of].filter(([, member]) => isInSet(member, port)).map(([address]) => address);
    for (const family of [4, 6] as const)
      found.push({
        family,
        name: setName(rule, family, port),
        addresses: addresses.filter((one) => one.includes(':') === (family === 6)),
        ...(port && { named: port }),
      });
  };
  if (members) add();
  if (named) for (const port of namedOf(of)) add(port);
  return found;
}

/** The ranges of blocks change only when the rule changes. */
function blockSetsOf({ rule, blocks }: Grant): RangeSet[] {
  return ([4, 6] as const)
    .map((family) => ({ name: nameOf(`b${family}`, rule), family, ranges: blocks.ranges[family] }))
    .filter(({ ranges }) => ranges.length > 0);
}

/** Whether a member is in a rule's set of peers, or in the set of a named port's number. */
export function isInSet({ peer, named }: Member, port: NamedPort | undefined): boolean {
  if (port === undefined) return peer;
  return named.some((one) => one.protocol === port.protocol && one.port === port.port);
}

/** The named ports of the members, each once, in a stable order. */
export function namedOf(members: ReadonlyMap<string, Member>): NamedPort[] {
  const found = new Map<string, NamedPort>();
  for (const { named } of members.values())
    for (const one of named) found.set(`${one.protocol} ${one.port}`, one);
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
}

/**
 * Packets that no policy is about. Of a connection that was let through in the other direction, only the replies: a packet in
 * the connection's own direction is judged each time, so that a change applies to existing connections.
 */
export const alwaysThrough: Statement[][] = [
  [{ match: 'direction', is: 'reply' }, { match: 'state', is: 'established' }, accept],
  [{ match: 'state', is: 'related' }, accept],
  // IPv6 finds neighbours, routers and multicast groups by these messages (RFC 4861, RFC 2710, RFC 3810). Without them it stops
  // when the neighbour's entry expires.
  [{ match: 'icmpv6', type: 130, upTo: 136 }, accept],
  [{ match: 'icmpv6', type: 143 }, accept],
];

export function throughFor(addresses: readonly string[], match: 'saddr' | 'daddr'): Statement[][] {
  return addresses.map((of) => [{ match, of }, accept]);
}

/** @param scope part of the chain's name, for a table in which grants of one rule differ. */
export function grantChains(grant: Grant, scope = ''): JumpedTo[] {
  if (!hasChain(grant)) return [];
  const rules = (grant.ports ?? []).map((one) => [portsOf(one), count, accept]);
  return [{ name: nameOf(`p${scope}`, grant.rule), rules }];
}

export function grantRules(
  grant: Grant,
  match: 'saddr' | 'daddr',
  members: ReadonlyMap<string, Member>,
  scope = '',
): Statement[][] {
  const to = through(grant, scope);
  const inSet = ({ name, family }: AddressSet | RangeSet): Statement => ({ match, in: name, family });
  const sets = memberSetsOf(grant, members);
  return [
    ...(grant.anyPeer ? [to] : []),
    ...sets.filter(({ named }) => named === undefined).map((set) => [inSet(set), ...to]),
    ...blockSetsOf(grant).map((set) => [inSet(set), ...to]),
    ...sets.flatMap((set): Statement[][] => {
      if (set.named === undefined) return [];
      const { protocol, port } = set.named;
      return [[inSet(set), portsOf({ protocol, first: port, last: port }), count, accept]];
    }),
  ];
}

/** Through the chain of its ports, or for all ports. */
function through(grant: Grant, scope: string): Statement[] {
  return hasChain(grant) ? [{ jump: nameOf(`p${scope}`, grant.rule) }] : [count, accept];
}

const hasChain = ({ ports = [] }: Grant) => ports.length > 0;

const protocols = { TCP: 'tcp', UDP: 'udp', SCTP: 'sctp' } as const;

function portsOf({ protocol, first, last }: PortRange): Statement {
  return { match: 'ports', protocol: protocols[protocol], first, last };
}

export function setName(rule: string, family: 4 | 6, named?: NamedPort): string {
  return nameOf(named === undefined ? `m${family}` : `n${family}-${named.protocol}-${named.port}`, rule);
}

/** nft's names hold 255 bytes, and begin with a letter; namespace and name of a policy may be longer together. */
const MOST = 200;

function nameOf(kind: string, rule: string): string {
  const name = `${kind}/${rule.replaceAll(' ', '/')}`;
  if (name.length <= MOST) return name;
  return `${name.slice(0, MOST - 17)}-${hashOf(name)}`;
}

/** Loaded on use: an ADD makes a table without grants and does not need it. */
function hashOf(text: string): string {
  const { createHash } = process.getBuiltinModule('node:crypto');
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
