// Whether chains of nftables are in effect: compares eniboot's request with the kernel's listing. The kernel lists an
// attribute that the request left out with its default, which is zero.
// Numbers are those of linux/netfilter/nf_tables.h.

import type { All, Conversation } from './conversation.ts';
import {
  elementsOf,
  encodeTables,
  familyNumber,
  header,
  NEW_CHAIN,
  NEW_ELEMENTS,
  NEW_RULE,
  SUBSYSTEM,
} from './encode-nft.ts';
import { attributesIn, DUMP, listIn, Message, nested, REQUEST, same, textOf, zeroEnded } from './message.ts';
import type { AddressSet, Chain, JumpedTo, RangeSet, Table, Tables } from './operation.ts';

const GET_CHAIN = SUBSYSTEM + 4;
const GET_RULE = SUBSYSTEM + 7;
const GET_ELEMENTS = SUBSYSTEM + 13;
/** Offset of the attributes: behind the header of nfnetlink. */
const ATTRIBUTES = 4;
const CHAIN = { table: 1, name: 3, hook: 4, policy: 5, type: 7 };
const HOOK = { number: 1, priority: 2, device: 3 };
const RULE = { table: 1, chain: 2, expressions: 4 };
const EXPRESSION = { name: 1, data: 2 };
const ELEMENTS = { table: 1, set: 2, list: 3, setId: 4 };
const ELEMENT = { key: 1, flags: 3 };
const VALUE = 1;
const COUNTER = { packets: 2 };
const LOOKUP = { set: 1, setId: 4 };
const NAT = { from: 3, to: 4, flags: 7 };
/** A NAT flag that the kernel sets itself: the expression has an address. */
const MAP_IPS = 1;
/** The kernel's names for sets of one rule begin with this. */
const ANONYMOUS = '__set';

type Attributes = Map<number, Uint8Array>;

/**
 * The nftables of a namespace. The kernel is asked for the tables and chains by name, and never for all that there are:
 * a pod with NET_ADMIN in its namespace may have tables of its own, of any size. @throws SystemCallError
 */
export class TableListing {
  private readonly requests: Conversation;

  constructor(requests: Conversation) {
    this.requests = requests;
  }

  /** Whether all chains are there, each with exactly its rules in their order. */
  has({ tables }: Tables): boolean {
    return tables.every((table) => table.chains.every((chain) => this.stateOf(table, chain) === 'present'));
  }

  /** Whether a named set has exactly these addresses. */
  holds(table: Table, set: AddressSet | RangeSet): boolean {
    const wanted = elementsOf(set)
      .map(({ key, ends }) => `${Buffer.from(key).toString('hex')} ${ends ? '00000001' : ''}`)
      .sort();
    return this.keys(familyNumber(table.family), table.name, set.name).join() === wanted.join();
  }

  /** The counters of the rules of a table's chains, in order: packets, or 0 for a rule without a counter. */
  packets(family: Table['family'], table: string): Map<string, number[]> {
    const found = new Map<string, number[]>();
    for (const rule of this.rules(familyNumber(family), table).whole()) {
      const attributes = attributesIn(rule, ATTRIBUTES);
      const chain = textOf(attributes.get(RULE.chain));
      const counter = expressionsOf(rule).find(({ name }) => name === 'counter');
      const value = counter?.attributes.get(COUNTER.packets) ?? new Uint8Array(8);
      found.set(chain, [...(found.get(chain) ?? []), Number(Buffer.from(value).readBigUInt64BE())]);
    }
    return found;
  }

  /** `wrong`: the chain is there, with other rules or at another hook. */
  stateOf(table: Table, chain: Chain | JumpedTo): 'present' | 'missing' | 'wrong' {
    const messages = encodeTables([{ ...table, chains: [chain] }]);
    const ofType = (type: number) =>
      messages.filter((message) => message.type === type).map((message) => message.body);
    const [wanted = new Uint8Array()] = ofType(NEW_CHAIN);
    const family = wanted[0] ?? 0;
    const here = this.chain(family, table.name, chain.name);
    if (here === undefined) return 'missing';
    const sets = ofType(NEW_ELEMENTS).map((set) => attributesIn(set, ATTRIBUTES));
    const rules = ofType(NEW_RULE).map(expressionsOf);
    const theirs = this.rules(family, table.name, chain.name, rules.length + 1)
      .whole()
      .map(expressionsOf);
    const keysIn = (set: string) => this.keys(family, table.name, set);
    const isSame =
      sameChain(attributesIn(wanted, ATTRIBUTES), here) &&
      sameList(rules, theirs, (rule, other) =>
        sameList(rule, other, (one, two) => sameExpression(one, two, sets, keysIn)),
      );
    return isSame ? 'present' : 'wrong';
  }

  private chain(family: number, table: string, name: string): Attributes | undefined {
    const found = this.requests.one(
      header(new Message(GET_CHAIN, REQUEST), family)
        .attribute(CHAIN.table, zeroEnded(table))
        .attribute(CHAIN.name, zeroEnded(name)),
    );
    return found && attributesIn(found, ATTRIBUTES);
  }

  /** @param chain all chains of the table when undefined. @param most rules that are kept. */
  private rules(family: number, table: string, chain?: string, most?: number): All<Uint8Array> {
    const question = () => {
      const ofTable = header(new Message(GET_RULE, REQUEST | DUMP), family).attribute(
        RULE.table,
        zeroEnded(table),
      );
      return chain === undefined ? ofTable : ofTable.attribute(RULE.chain, zeroEnded(chain));
    };
    // A kernel that does not know the filter lists the rules of all tables.
    return this.requests.listAll(question, most).filter((rule) => isOf(rule, table, chain));
  }

  /** The elements of a set, sorted. */
  private keys(family: number, table: string, set: string): string[] {
    const question = () =>
      header(new Message(GET_ELEMENTS, REQUEST | DUMP), family)
        .attribute(ELEMENTS.table, zeroEnded(table))
        .attribute(ELEMENTS.set, zeroEnded(set));
    return this.requests
      .listAll(question)
      .whole()
      .flatMap((part) => keysOf(attributesIn(part, ATTRIBUTES)))
      .sort();
  }
}

function isOf(rule: Uint8Array, table: string, chain: string | undefined): boolean {
  const attributes = attributesIn(rule, ATTRIBUTES);
  const isOfChain = chain === undefined || textOf(attributes.get(RULE.chain)) === chain;
  return isOfChain && textOf(attributes.get(RULE.table)) === table;
}

function sameChain(wanted: Attributes, found: Attributes): boolean {
  const [ours, theirs] = [wanted, found].map((one) => nested(one, CHAIN.hook));
  return (
    [CHAIN.policy, CHAIN.type].every((one) => same(found.get(one), wanted.get(one))) &&
    [HOOK.number, HOOK.priority, HOOK.device].every((one) => same(theirs?.get(one), ours?.get(one)))
  );
}

function sameList<T>(wanted: T[], found: T[], alike: (one: T, other: T) => boolean): boolean {
  return (
    wanted.length === found.length &&
    wanted.every((one, at) => {
      const other = found[at];
      return other !== undefined && alike(one, other);
    })
  );
}

interface Expression {
  name: string;
  attributes: Attributes;
}

function expressionsOf(rule: Uint8Array): Expression[] {
  const list = attributesIn(rule, ATTRIBUTES).get(RULE.expressions) ?? new Uint8Array();
  return listIn(list).map(([, bytes]) => {
    const expression = attributesIn(bytes);
    return {
      name: textOf(expression.get(EXPRESSION.name)),
      attributes: nested(expression, EXPRESSION.data),
    };
  });
}

/** @param sets the wanted elements of the tables' sets. @param keysIn returns the elements of a set in the kernel. */
function sameExpression(
  wanted: Expression,
  found: Expression,
  sets: Attributes[],
  keysIn: (set: string) => string[],
): boolean {
  if (wanted.name !== found.name) return false;
  // A counter's value is not part of the request.
  if (wanted.name === 'counter') return true;
  const [ours, theirs] = [new Map(wanted.attributes), new Map(found.attributes)];
  if (wanted.name === 'lookup') {
    // The elements of a named set may change while the rule stays the same.
    if (!ours.has(LOOKUP.setId)) return same(theirs.get(LOOKUP.set), ours.get(LOOKUP.set));
    const name = textOf(theirs.get(LOOKUP.set));
    const set = sets.find((one) => same(one.get(ELEMENTS.setId), ours.get(LOOKUP.setId)));
    if (!name.startsWith(ANONYMOUS) || keysOf(set).join() !== keysIn(name).join()) return false;
    // The kernel gives the set of each rule another name.
    theirs.delete(LOOKUP.set);
    ours.delete(LOOKUP.set);
    ours.delete(LOOKUP.setId);
  }
  if (wanted.name === 'nat') {
    // The kernel lists a single address as a range whose ends are equal.
    if (!same(theirs.get(NAT.to), theirs.get(NAT.from)) && theirs.has(NAT.to)) return false;
    theirs.delete(NAT.to);
    const flags = Uint8Array.from(theirs.get(NAT.flags) ?? [0, 0, 0, 0]);
    flags[3] = (flags[3] ?? 0) & ~MAP_IPS;
    theirs.set(NAT.flags, flags);
  }
  return (
    [...ours].every(([attribute, value]) => same(theirs.get(attribute), value)) &&
    [...theirs].every(([attribute, value]) => ours.has(attribute) || value.every((byte) => byte === 0))
  );
}

/** The elements in a message with their flags, sorted. */
function keysOf(message: Attributes | undefined): string[] {
  const list = message?.get(ELEMENTS.list) ?? new Uint8Array();
  return listIn(list)
    .map(([, bytes]) => {
      const element = attributesIn(bytes);
      const parts = [nested(element, ELEMENT.key).get(VALUE), element.get(ELEMENT.flags)];
      return parts.map((part) => Buffer.from(part ?? []).toString('hex')).join(' ');
    })
    .sort();
}
