// Whether the tables of a text for nftables are in effect: what eniboot has asked for beside what the kernel lists.
// Attributes that a request left out are listed with their default, which is zero.
// Numbers are those of linux/netfilter/nf_tables.h.
import { attributesIn, DUMP, listIn, Message, REQUEST, same, textOf, zeroEnded } from './message.ts';
import { header, messagesOf, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, SUBSYSTEM } from './nft.ts';
import type { Routing } from './requests.ts';

const GET_CHAIN = SUBSYSTEM + 4;
const GET_RULE = SUBSYSTEM + 7;
const GET_ELEMENTS = SUBSYSTEM + 13;
/** After the header of nfnetlink. */
const ATTRIBUTES = 4;
const CHAIN = { table: 1, name: 3, hook: 4, policy: 5, type: 7 };
const HOOK = { number: 1, priority: 2, device: 3 };
const RULE = { table: 1, chain: 2, expressions: 4 };
const EXPRESSION = { name: 1, data: 2 };
const ELEMENTS = { table: 1, set: 2, list: 3, setId: 4 };
const ELEMENT = { key: 1, flags: 3 };
const VALUE = 1;
const LOOKUP = { set: 1, setId: 4 };
const NAT = { from: 3, to: 4, flags: 7 };
/** Of a NAT's flags: there is an address. The kernel sets it. */
const MAP_IPS = 1;
/** How the kernel names a set that is one rule's own. */
const ANONYMOUS = '__set';

type Attributes = Map<number, Uint8Array>;

/** All chains of the text are there with its rules, in its order and no others. False also where its form is not known. */
export function hasTables(netfilter: Routing, text: string): boolean {
  const messages = messagesOf(text);
  if (messages === undefined) return false;
  const found = new Netfilter(netfilter);
  const ofType = (type: number) =>
    messages.filter((message) => message.type === type).map((message) => message.body);
  const rules = ofType(NEW_RULE);
  const sets = ofType(NEW_ELEMENTS).map((set) => attributesIn(set, ATTRIBUTES));
  return ofType(NEW_CHAIN).every((chain) => {
    const [family = 0, wanted] = [chain[0], attributesIn(chain, ATTRIBUTES)];
    const [table, name] = [textOf(wanted.get(CHAIN.table)), textOf(wanted.get(CHAIN.name))];
    const here = found.chain(family, table, name);
    if (here === undefined || !sameChain(wanted, here)) return false;
    const ours = rules.filter((rule) => rule[0] === family && isOf(rule, table, name)).map(expressionsOf);
    const theirs = found.rules(family, table, name).map(expressionsOf);
    const keysIn = (set: string) => found.keys(family, table, set);
    return sameList(ours, theirs, (rule, other) =>
      sameList(rule, other, (one, two) => sameExpression(one, two, sets, keysIn)),
    );
  });
}

/** The netfilter half of a namespace: what there is, asked for once. */
class Netfilter {
  private readonly requests: Routing;
  private readonly lists = new Map<string, Uint8Array[]>();

  constructor(requests: Routing) {
    this.requests = requests;
  }

  chain(family: number, table: string, name: string): Attributes | undefined {
    return this.list(GET_CHAIN, family)
      .map((chain) => attributesIn(chain, ATTRIBUTES))
      .find((chain) => textOf(chain.get(CHAIN.table)) === table && textOf(chain.get(CHAIN.name)) === name);
  }

  rules(family: number, table: string, chain: string): Uint8Array[] {
    return this.list(GET_RULE, family).filter((rule) => isOf(rule, table, chain));
  }

  /** What is in a set, sorted. */
  keys(family: number, table: string, set: string): string[] {
    const question = () =>
      header(new Message(GET_ELEMENTS, REQUEST | DUMP), family)
        .attribute(ELEMENTS.table, zeroEnded(table))
        .attribute(ELEMENTS.set, zeroEnded(set));
    return this.ask(question)
      .flatMap((part) => keysOf(attributesIn(part, ATTRIBUTES)))
      .sort();
  }

  private list(type: number, family: number): Uint8Array[] {
    const key = `${type} ${family}`;
    const known = this.lists.get(key);
    if (known !== undefined) return known;
    const found = this.ask(() => header(new Message(type, REQUEST | DUMP), family));
    this.lists.set(key, found);
    return found;
  }

  /** Nothing where it is not all: then it is not what was asked for. */
  private ask(question: () => Message): Uint8Array[] {
    const { found, whole } = this.requests.listWhole(question);
    return whole ? found : [];
  }
}

function isOf(rule: Uint8Array, table: string, chain: string): boolean {
  const attributes = attributesIn(rule, ATTRIBUTES);
  return textOf(attributes.get(RULE.table)) === table && textOf(attributes.get(RULE.chain)) === chain;
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

/** @param sets what is wanted in the sets of the text. @param keysIn what is in a set that is there. */
function sameExpression(
  wanted: Expression,
  found: Expression,
  sets: Attributes[],
  keysIn: (set: string) => string[],
): boolean {
  if (wanted.name !== found.name) return false;
  // What it has counted is nobody's request.
  if (wanted.name === 'counter') return true;
  const [ours, theirs] = [new Map(wanted.attributes), new Map(found.attributes)];
  if (wanted.name === 'lookup') {
    const name = textOf(theirs.get(LOOKUP.set));
    const set = sets.find((one) => same(one.get(ELEMENTS.setId), ours.get(LOOKUP.setId)));
    if (!name.startsWith(ANONYMOUS) || keysOf(set).join() !== keysIn(name).join()) return false;
    // It has another name for each rule.
    theirs.delete(LOOKUP.set);
    ours.delete(LOOKUP.set);
    ours.delete(LOOKUP.setId);
  }
  if (wanted.name === 'nat') {
    // One address is a range that ends where it begins.
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

/** Of the elements in a message, with their flags, sorted. */
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

function nested(attributes: Attributes, attribute: number): Attributes {
  return attributesIn(attributes.get(attribute) ?? new Uint8Array());
}
