// Whether what an ADD has asked for is in effect: each request beside what the kernel lists. An object counts as there
// only where all that the request says of it stands in the list, and nothing that would narrow it or turn it aside.
// Numbers are those of linux/rtnetlink.h, if_link.h, neighbour.h and fib_rules.h.

import { IFLA, type Line, linksQuestion } from './ip.ts';
import { attributesIn, DUMP, Message, REQUEST } from './message.ts';
import type { Routing } from './requests.ts';
import { AF_INET, AF_INET6, macBytes } from './values.ts';

/** Headers of the four, in bytes; their requests have the number of the list's answers. */
const kinds = {
  address: { answer: 20, header: 8 },
  route: { answer: 24, header: 12 },
  neighbour: { answer: 28, header: 12 },
  rule: { answer: 32, header: 12 },
} as const;
type Kind = keyof typeof kinds;

/** A link as it should be; what is undefined may be anything. */
export interface WantedLink {
  name: string;
  mac: string | undefined;
  mtu: number | undefined;
  group: number;
  /** The kind of one whose kind says where its packets go. */
  kind: string | undefined;
  /** Index, in the node's namespace, of the device it is a part of. */
  master: number | undefined;
}

/** What a namespace has, asked for once, as it is needed. */
export class Listing {
  private readonly routing: Routing;
  private readonly lists = new Map<Kind, Listed[]>();
  private links: Map<string, Uint8Array> | undefined;

  constructor(routing: Routing) {
    this.routing = routing;
  }

  /** Index of a device, 0 where there is none. */
  index(device: string): number {
    const link = this.linkOf(device);
    return link === undefined ? 0 : numberAt(link, 4);
  }

  /** Up, and all that is wanted of it. */
  hasLink({ name, mac, mtu, group, kind, master }: WantedLink): boolean {
    const link = this.linkOf(name);
    if (link === undefined || (numberAt(link, 8) & 1) === 0) return false;
    const has = attributesIn(link, 16);
    const number = (attribute: number) => {
      const bytes = has.get(attribute);
      return bytes === undefined ? 0 : numberAt(bytes, 0);
    };
    return (
      (mac === undefined || same(has.get(IFLA.address), macBytes(mac))) &&
      (mtu === undefined || number(IFLA.mtu) === mtu) &&
      number(IFLA.group) === group &&
      (kind === undefined || kindOf(has.get(IFLA.linkInfo)) === kind) &&
      (master === undefined || number(IFLA.link) === master)
    );
  }

  /** Whether what this line makes is there: an address, a route, a neighbour or a rule. */
  has(line: Line): boolean {
    const request = Uint8Array.from(line({ index: (device) => this.index(device), podFd: -1 }).finish(0));
    const number = (request[4] ?? 0) + 256 * (request[5] ?? 0);
    const kind = (Object.keys(kinds) as Kind[]).find((one) => kinds[one].answer === number);
    if (kind === undefined) return false;
    const wanted = listed(request.subarray(16), kind);
    return this.list(kind).some((found) => fits[kind](wanted, found));
  }

  private linkOf(name: string): Uint8Array | undefined {
    this.links ??= new Map(
      this.all(() => linksQuestion()).map((link) => [textOf(attributesIn(link, 16).get(IFLA.name)), link]),
    );
    return this.links.get(name);
  }

  private list(kind: Kind): Listed[] {
    const known = this.lists.get(kind);
    if (known !== undefined) return known;
    const { answer, header } = kinds[kind];
    const found = [AF_INET, AF_INET6].flatMap((family) => {
      const question = () => {
        const message = new Message(answer + 2, REQUEST | DUMP).u8(family);
        for (let at = 1; at < header; at += 1) message.u8(0);
        return message;
      };
      // A kernel without IPv6 may answer with all that it has.
      return this.all(question)
        .filter((one) => one[0] === family)
        .map((one) => listed(one, kind));
    });
    this.lists.set(kind, found);
    return found;
  }

  /** Asks again where things changed meanwhile; in the end, what was seen is enough to find what is there. */
  private all(question: () => Message): Uint8Array[] {
    for (let left = 5; ; left -= 1) {
      const { found, interrupted } = this.routing.list(question());
      if (!interrupted || left === 0) return found;
    }
  }
}

/** A message of one of the four kinds. */
interface Listed {
  header: Uint8Array;
  has: Map<number, Uint8Array>;
}

function listed(bytes: Uint8Array, kind: Kind): Listed {
  return { header: bytes, has: attributesIn(bytes, kinds[kind].header) };
}

/** Whether what was found is what was wanted. */
const fits: Record<Kind, (wanted: Listed, found: Listed) => boolean> = {
  // Family and length, then the device. An IPv6 address has no other that is its own.
  address: (wanted, found) =>
    sameAt(wanted, found, [0, 1, 4, 5, 6, 7]) &&
    alike(wanted, found, wanted.header[0] === AF_INET ? [1, 2] : [1]),
  // All but the flags, and the table, which is an attribute as well. Of a route to everywhere no destination is listed,
  // and of one to nowhere IPv6 lists a device.
  route: (wanted, found) =>
    sameAt(wanted, found, [0, 1, 2, 3, 5, 6, 7]) &&
    tableOf(wanted) === tableOf(found) &&
    alike(wanted, found, [RTA.src, RTA.gateway, RTA.prefsrc, RTA.multipath, RTA.via]) &&
    (wanted.header[1] === 0 || alike(wanted, found, [RTA.dst])) &&
    (wanted.header[7] !== UNICAST || alike(wanted, found, [RTA.oif])),
  neighbour: (wanted, found) =>
    sameAt(wanted, found, [0, 4, 5, 6, 7]) &&
    (numberAt(found.header, 8) & PERMANENT) !== 0 &&
    alike(wanted, found, [1, 2]),
  // Neither inverted, nor of an interface that is not there, nor narrowed by what no rule of ours says.
  rule: (wanted, found) =>
    sameAt(wanted, found, [0, 1, 2, 3, 7]) &&
    tableOf(wanted) === tableOf(found) &&
    (numberAt(found.header, 8) & UNFIT) === 0 &&
    alike(wanted, found, [FRA.dst, FRA.src, FRA.iif, FRA.priority, FRA.mark, FRA.mask]) &&
    [...found.has.keys()].every((one) => Object.values(FRA).includes(one)),
};

const UNICAST = 1;
const PERMANENT = 0x80;
const RTA = { dst: 1, src: 2, oif: 4, gateway: 5, prefsrc: 7, multipath: 9, via: 18 };
/** With `suppress`, which is listed of every rule. */
const FRA = {
  dst: 1,
  src: 2,
  iif: 3,
  priority: 6,
  mark: 10,
  suppress: 14,
  table: 15,
  mask: 16,
  protocol: 21,
};
const UNFIT = 0x2 | 0x8;
/** Of routes and rules alike. */
const TABLE = 15;

function tableOf({ header, has }: Listed): number {
  const bytes = has.get(TABLE);
  return bytes === undefined ? (header[4] ?? 0) : numberAt(bytes, 0);
}

/** Each of these attributes is there in both and the same, or in none. */
function alike(wanted: Listed, found: Listed, attributes: number[]): boolean {
  return attributes.every((one) => {
    const [want, have] = [wanted.has.get(one), found.has.get(one)];
    return want === undefined || have === undefined ? want === have : same(have, want);
  });
}

function sameAt(wanted: Listed, found: Listed, places: number[]): boolean {
  return places.every((at) => wanted.header[at] === found.header[at]);
}

export function same(one: Uint8Array | undefined, other: ArrayLike<number>): boolean {
  return one !== undefined && one.length === other.length && one.every((byte, at) => byte === other[at]);
}

function numberAt(bytes: Uint8Array, at: number): number {
  return new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);
}

function kindOf(info: Uint8Array | undefined): string {
  return info === undefined ? '' : textOf(attributesIn(info).get(1));
}

/** Up to its zero. */
export function textOf(bytes: Uint8Array | undefined): string {
  if (bytes === undefined) return '';
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
}
