// Whether the tables of a text for nftables are in effect: what eniboot has asked for beside what the kernel lists. The
// kernel lists an expression with all that it was made of, and with what was left to it, which is then nothing but zeros.
// Numbers are those of linux/netfilter/nf_tables.h.

import { attributesIn, DUMP, listIn, Message, REQUEST, zeroEnded } from './message.ts';
import { header, messagesOf, NEW_CHAIN, NEW_ELEMENTS, NEW_RULE, SUBSYSTEM } from './nft.ts';
import type { Routing } from './requests.ts';
import { same, textOf } from './verify.ts';

const GET_CHAIN = SUBSYSTEM + 4;
const GET_RULE = SUBSYSTEM + 7;
const GET_ELEMENTS = SUBSYSTEM + 13;
/** After the header of nfnetlink. */
const ATTRIBUTES = 4;
const CHAIN = { table: 1, name: 3, hook: 4, policy: 5, type: 7 };
const RULE = { table: 1, chain: 2, expressions: 4 };
const ELEMENTS = { table: 1, set: 2, list: 3, setId: 4 };
const LOOKUP = { set: 1, setId: 4 };
const NAT = { end: 4, flags: 7 };
/** Of a NAT's flags: it has a range of addresses. */
const MAP_IPS = 1;

type Attributes = Map<number, Uint8Array>;

/** All chains of the text are there with its rules, in its order and no others. False also where its form is not known. */
export function hasTables(netfilter: Routing, text: string): boolean {
  const messages = messagesOf(text)?.map((message) => Uint8Array.from(message.finish(0)));
  if (messages === undefined) return false;
  const found = new Netfilter(netfilter);
  const ofType = (type: number) =>
    messages
      .filter((message) => (message[4] ?? 0) + 256 * (message[5] ?? 0) === type)
      .map((message) => message.subarray(16));
  const rules = ofType(NEW_RULE);
  const sets = ofType(NEW_ELEMENTS);
  return ofType(NEW_CHAIN).every((chain) => {
    const [family = 0, wanted] = [chain[0], attributesIn(chain, ATTRIBUTES)];
    const [table, name] = [textOf(wanted.get(CHAIN.table)), textOf(wanted.get(CHAIN.name))];
    const here = found.chain(family, table, name);
    if (here === undefined || !sameChain(wanted, here)) return false;
    const ours = rules.filter((rule) => rule[0] === family && isOf(rule, table, name));
    const theirs = found.rules(family, table, name);
    const setsHere = sets.filter((set) => set[0] === family).map((set) => attributesIn(set, ATTRIBUTES));
    return ours.length === theirs.length && ours.every((rule, at) => sameRule(rule, theirs[at], setsHere));

    function sameRule(rule: Uint8Array, other: Uint8Array | undefined, wantedSets: Attributes[]): boolean {
      const [one, two] = [rule, other].map((each) => expressionsOf(each));
      if (one === undefined || two === undefined || one.length !== two.length) return false;
      return one.every((expression, at) => sameExpression(expression, two[at], wantedSets, family, table));
    }
  });

  function sameExpression(
    wanted: Expression,
    there: Expression | undefined,
    wantedSets: Attributes[],
    family: number,
    table: string,
  ): boolean {
    if (there === undefined || wanted.name !== there.name) return false;
    const [ours, theirs] = [new Map(wanted.has), new Map(there.has)];
    if (wanted.name === 'lookup') {
      // A set without a name: what is in it counts.
      const set = wantedSets.find((one) => same(one.get(ELEMENTS.setId), ours.get(LOOKUP.setId) ?? []));
      const elements = found.elements(family, table, textOf(theirs.get(LOOKUP.set)));
      if (keysOf(set).join() !== elements.join()) return false;
      for (const attribute of [LOOKUP.set, LOOKUP.setId]) {
        ours.delete(attribute);
        theirs.delete(attribute);
      }
    }
    if (wanted.name === 'nat') {
      // The kernel notes that there is an address, and where the range of that one address ends.
      theirs.delete(NAT.end);
      const [low = 0, ...rest] = [...(theirs.get(NAT.flags) ?? [0, 0, 0, 0])].reverse();
      theirs.set(NAT.flags, Uint8Array.from([low & ~MAP_IPS, ...rest].reverse()));
    }
    return (
      [...ours].every(([attribute, value]) => same(theirs.get(attribute), value)) &&
      [...theirs].every(([attribute, value]) => ours.has(attribute) || value.every((byte) => byte === 0))
    );
  }
}

/** The netfilter half of a namespace: what there is, asked for once. */
class Netfilter {
  private readonly socket: Routing;
  private readonly lists = new Map<string, Uint8Array[]>();

  constructor(socket: Routing) {
    this.socket = socket;
  }

  chain(family: number, table: string, name: string): Attributes | undefined {
    return this.list(GET_CHAIN, family)
      .map((chain) => attributesIn(chain, ATTRIBUTES))
      .find((chain) => textOf(chain.get(CHAIN.table)) === table && textOf(chain.get(CHAIN.name)) === name);
  }

  rules(family: number, table: string, chain: string): Uint8Array[] {
    return this.list(GET_RULE, family).filter((rule) => isOf(rule, table, chain));
  }

  /** The keys in a set, sorted. */
  elements(family: number, table: string, set: string): string[] {
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

  /** Nothing where things went on changing: it is not what was asked for then. */
  private ask(question: () => Message): Uint8Array[] {
    for (let left = 5; left > 0; left -= 1) {
      const { found, interrupted } = this.socket.list(question());
      if (!interrupted) return found;
    }
    return [];
  }
}

function isOf(rule: Uint8Array, table: string, chain: string): boolean {
  const has = attributesIn(rule, ATTRIBUTES);
  return textOf(has.get(RULE.table)) === table && textOf(has.get(RULE.chain)) === chain;
}

function sameChain(wanted: Attributes, found: Attributes): boolean {
  const [ours, theirs] = [wanted, found].map((one) => attributesIn(one.get(CHAIN.hook) ?? new Uint8Array()));
  return (
    [CHAIN.policy, CHAIN.type].every((one) => same(found.get(one), wanted.get(one) ?? [])) &&
    // Its number and its priority.
    [1, 2].every((one) => same(theirs?.get(one), ours?.get(one) ?? []))
  );
}

interface Expression {
  name: string;
  has: Attributes;
}

function expressionsOf(rule: Uint8Array | undefined): Expression[] | undefined {
  const list = rule === undefined ? undefined : attributesIn(rule, ATTRIBUTES).get(RULE.expressions);
  return list === undefined
    ? undefined
    : listIn(list).map(([, expression]) => {
        const [name, data] = [attributesIn(expression).get(1), attributesIn(expression).get(2)];
        return { name: textOf(name), has: attributesIn(data ?? new Uint8Array()) };
      });
}

/** Of the elements in a message, sorted. */
function keysOf(message: Attributes | undefined): string[] {
  const list = message?.get(ELEMENTS.list);
  if (list === undefined) return [];
  return listIn(list)
    .map(([, element]) => attributesIn(attributesIn(element).get(1) ?? new Uint8Array()).get(1))
    .map((key) => Buffer.from(key ?? new Uint8Array()).toString('hex'))
    .sort();
}
