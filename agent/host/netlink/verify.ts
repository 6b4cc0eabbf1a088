// Whether what an ADD has asked for is in effect: each request beside what the kernel lists. Present is what has all that
// the request says; a rule must also not be narrowed by more. Numbers are those of linux/rtnetlink.h, neighbour.h and
// fib_rules.h.
import {
  FRA,
  groupOf,
  IFA,
  IFLA,
  type Line,
  linksQuestion,
  NDA,
  NEW_ADDRESS,
  NEW_NEIGHBOUR,
  NEW_ROUTE,
  NEW_RULE,
  RTA,
  tableOf,
  UNICAST,
} from './ip.ts';
import { attributesIn, DUMP, Message, numberAt, REQUEST, same, textOf } from './message.ts';
import type { Routing } from './requests.ts';
import { AF_INET, AF_INET6, macBytes } from './values.ts';

/**
 * `type`: RTM_NEW…, which both the request that makes one and each that is listed carry. `header`: bytes of ifaddrmsg,
 * rtmsg, ndmsg, fib_rule_hdr.
 */
const kinds = {
  address: { type: NEW_ADDRESS, header: 8 },
  route: { type: NEW_ROUTE, header: 12 },
  neighbour: { type: NEW_NEIGHBOUR, header: 12 },
  rule: { type: NEW_RULE, header: 12 },
} as const;
type Kind = keyof typeof kinds;

/** A link as it should be; what is undefined may be anything. */
export interface WantedLink {
  name: string;
  mac: string | undefined;
  mtu: number | undefined;
  group: number;
  /** The kind of one whose kind says where its packets go. An ipvlan has the mode that ADD gave it, too. */
  kind: string | undefined;
  /** Index, in the node's namespace, of the device it is a part of. */
  master: number | undefined;
}

/** What a namespace has, asked for once, as it is needed. */
export class Listing {
  private readonly routing: Routing;
  private readonly lists = new Map<string, Listed[]>();
  private links: Map<string, Uint8Array> | undefined;
  private buckets: Uint8Array[] | undefined;

  constructor(routing: Routing) {
    this.routing = routing;
  }

  /** Index of a device, 0 where there is none. */
  index(device: string): number {
    const link = this.linkOf(device);
    return link === undefined ? 0 : numberAt(link, 4);
  }

  /** Mode and flags of an ipvlan; undefined where the device is none. */
  port(device: string): string | undefined {
    const link = this.linkOf(device);
    return link === undefined ? undefined : ipvlanPort(link);
  }

  /** Of a device; 0 where there is none. */
  mtu(device: string): number {
    const link = this.linkOf(device);
    const bytes = link === undefined ? undefined : attributesIn(link, 16).get(IFLA.mtu);
    return bytes === undefined ? 0 : numberAt(bytes);
  }

  /** Up, and all that is wanted of it. */
  hasLink({ name, mac, mtu, group, kind, master }: WantedLink): boolean {
    const link = this.linkOf(name);
    if (link === undefined || (numberAt(link, 8) & 1) === 0) return false;
    const attributes = attributesIn(link, 16);
    const number = (attribute: number) => {
      const bytes = attributes.get(attribute);
      return bytes === undefined ? 0 : numberAt(bytes);
    };
    return (
      (mac === undefined || same(attributes.get(IFLA.address), macBytes(mac))) &&
      (mtu === undefined || number(IFLA.mtu) === mtu) &&
      groupOf(link) === group &&
      (kind === undefined || isOfKind(attributes.get(IFLA.linkInfo), kind)) &&
      (master === undefined || number(IFLA.link) === master)
    );
  }

  /** Whether what this line makes is there: an address, a route, a neighbour or a rule. */
  has(line: Line): boolean {
    const request = line({ index: (device) => this.index(device), podFd: -1 });
    const kind = (Object.keys(kinds) as Kind[]).find((one) => kinds[one].type === request.type);
    if (kind === undefined) return false;
    const wanted = new Listed(request.body, kind);
    return this.list(kind, wanted.bytes[0] ?? 0).some((found) => fits[kind](wanted, found));
  }

  /** Whether a route of others leads where this one would, whatever way it takes. */
  isTaken(line: Line, protocol: number): boolean {
    const { type, body } = line({ index: (device) => this.index(device), podFd: -1 });
    if (type !== NEW_ROUTE) return false;
    const wanted = new Listed(body, 'route');
    return this.list('route', body[0] ?? 0).some(
      (found) =>
        found.bytes[5] !== protocol &&
        found.table === wanted.table &&
        sameAt(wanted, found, [1, 2]) &&
        (wanted.bytes[1] === 0 || alike(wanted, found, [RTA.dst])),
    );
  }

  /** Routes of a protocol in a table that none of these lines makes, but for default ones. As they are listed. */
  routesBeside(lines: Line[], protocol: number, table: number): Uint8Array[] {
    const moment = { index: (device: string) => this.index(device), podFd: -1 };
    const wanted = lines
      .map((line) => line(moment))
      .filter(({ type }) => type === NEW_ROUTE)
      .map(({ body }) => new Listed(body, 'route'));
    return [AF_INET, AF_INET6]
      .flatMap((family) => this.list('route', family))
      .filter(
        (found) =>
          found.bytes[5] === protocol &&
          found.bytes[1] !== 0 &&
          found.table === table &&
          !wanted.some((one) => fits.route(one, found)),
      )
      .map(({ bytes }) => bytes);
  }

  /** Whether what leaves by a device waits in a token bucket of so many bytes a second, as `tc` shows them. */
  hasBucket(device: string, bytesPerSecond: number): boolean {
    const index = this.index(device);
    return this.qdiscs().some(
      (one) => numberAt(one, 4) === index && numberAt(one, 12) === ROOT && bucketRate(one) === bytesPerSecond,
    );
  }

  private qdiscs(): Uint8Array[] {
    this.buckets ??= this.routing.listWhole(() => {
      const message = new Message(GET_QDISC, REQUEST | DUMP);
      for (let at = 0; at < TCMSG; at += 1) message.u8(0);
      return message;
    }).found;
    return this.buckets;
  }

  private linkOf(name: string): Uint8Array | undefined {
    this.links ??= new Map(
      this.routing
        .listWhole(linksQuestion)
        .found.map((link) => [textOf(attributesIn(link, 16).get(IFLA.name)), link]),
    );
    return this.links.get(name);
  }

  private list(kind: Kind, family: number): Listed[] {
    const key = `${kind} ${family}`;
    const known = this.lists.get(key);
    if (known !== undefined) return known;
    const { type, header } = kinds[kind];
    const question = () => {
      const message = new Message(type + 2, REQUEST | DUMP).u8(family);
      for (let at = 1; at < header; at += 1) message.u8(0);
      return message;
    };
    const found = this.routing
      .listWhole(question)
      // A kernel without IPv6 may answer with all that it has.
      .found.filter((one) => one[0] === family)
      .map((one) => new Listed(one, kind));
    this.lists.set(key, found);
    return found;
  }
}

/** A message of one of the four kinds. A node has a thousand, and most are told apart by their first bytes. */
class Listed {
  readonly bytes: Uint8Array;
  private readonly kind: Kind;
  private parsed: Map<number, Uint8Array> | undefined;

  constructor(bytes: Uint8Array, kind: Kind) {
    this.bytes = bytes;
    this.kind = kind;
  }

  get attributes(): Map<number, Uint8Array> {
    this.parsed ??= attributesIn(this.bytes, kinds[this.kind].header);
    return this.parsed;
  }

  /** Of a route or a rule. */
  get table(): number {
    return tableOf(this.bytes, this.attributes);
  }

  /** A number of four bytes; undefined where there is no such attribute. */
  number(attribute: number): number | undefined {
    const bytes = this.attributes.get(attribute);
    return bytes === undefined ? undefined : numberAt(bytes);
  }
}

/** Whether what was found is what was wanted. */
const fits: Record<Kind, (wanted: Listed, found: Listed) => boolean> = {
  // Family and length, then the device. IPv6 lists an address as IFA_ADDRESS; IFA_LOCAL is there only beside a peer.
  address: (wanted, found) =>
    sameAt(wanted, found, [0, 1, 4, 5, 6, 7]) &&
    alike(wanted, found, [IFA.address]) &&
    (wanted.bytes[0] === AF_INET
      ? alike(wanted, found, [IFA.local])
      : found.attributes.get(IFA.local) === undefined),
  // All but who made it, the flags, and the table, which is an attribute as well. Of a route to everywhere no
  // destination is listed, and of one to nowhere IPv6 lists a device.
  route: (wanted, found) =>
    sameAt(wanted, found, [0, 1, 2, 3, 6, 7]) &&
    wanted.table === found.table &&
    alike(wanted, found, [RTA.src, RTA.gateway, RTA.prefsrc, ...ELSEWHERE]) &&
    (wanted.bytes[1] === 0 || alike(wanted, found, [RTA.dst])) &&
    (wanted.bytes[7] !== UNICAST || alike(wanted, found, [RTA.oif])),
  neighbour: (wanted, found) =>
    sameAt(wanted, found, [0, 4, 5, 6, 7]) &&
    (numberAt(found.bytes, 8) & PERMANENT) !== 0 &&
    alike(wanted, found, [NDA.dst, NDA.lladdr]),
  // Neither inverted, nor of an interface that is not there, nor narrowed by what no rule of ours says.
  rule: (wanted, found) =>
    sameAt(wanted, found, [0, 1, 2, 3, 7]) &&
    wanted.table === found.table &&
    (numberAt(found.bytes, 8) & UNFIT) === 0 &&
    alike(wanted, found, [FRA.dst, FRA.src, FRA.iif, FRA.priority, FRA.mark, FRA.mask]) &&
    (found.number(SUPPRESS) ?? SUPPRESS_NONE) === SUPPRESS_NONE &&
    [...found.attributes.keys()].every((one) => one === SUPPRESS || Object.values(FRA).includes(one)),
};

const GET_QDISC = 38;
/** Bytes of tcmsg: family, index, handle, parent, info. Source: linux/rtnetlink.h. */
const TCMSG = 20;
/** TC_H_ROOT. */
const ROOT = 0xffffffff;
/** TCA_KIND, TCA_OPTIONS; TCA_TBF_PARMS, TCA_TBF_RATE64. Source: linux/pkt_sched.h. */
const QDISC = { kind: 1, options: 2 };
const BUCKET = { parameters: 1, rate64: 4 };

/** Undefined for a queue that is no token bucket. */
function bucketRate(qdisc: Uint8Array): number | undefined {
  const attributes = attributesIn(qdisc, TCMSG);
  if (textOf(attributes.get(QDISC.kind)) !== 'tbf') return undefined;
  const options = attributesIn(attributes.get(QDISC.options) ?? new Uint8Array());
  const rate64 = options.get(BUCKET.rate64);
  if (rate64 !== undefined) return numberAt(rate64) + numberAt(rate64, 4) * 2 ** 32;
  // tc_tbf_qopt begins with tc_ratespec, whose last four bytes of twelve are the rate.
  const parameters = options.get(BUCKET.parameters);
  return parameters === undefined ? undefined : numberAt(parameters, 8);
}

const PERMANENT = 0x80;
/** RTA_MULTIPATH, RTA_VIA, RTA_ENCAP: of a route that goes another way. */
const ELSEWHERE = [9, 18, 22];
/** FRA_SUPPRESS_PREFIXLEN, which is listed of every rule. */
const SUPPRESS = 14;
const SUPPRESS_NONE = 0xffffffff;
/** FIB_RULE_INVERT, FIB_RULE_IIF_DETACHED. */
const UNFIT = 0x2 | 0x8;

/** Each of these attributes is there in both and the same, or in none. */
function alike(wanted: Listed, found: Listed, attributes: number[]): boolean {
  return attributes.every((one) => {
    const [want, have] = [wanted.attributes.get(one), found.attributes.get(one)];
    return want === undefined || have === undefined ? want === have : same(have, want);
  });
}

function sameAt(wanted: Listed, found: Listed, places: number[]): boolean {
  return places.every((at) => wanted.bytes[at] === found.bytes[at]);
}

/** An ipvlan also as it was made: its mode and flags are those of all links of its ENI. */
function isOfKind(info: Uint8Array | undefined, kind: string): boolean {
  const attributes = attributesIn(info ?? new Uint8Array());
  if (textOf(attributes.get(INFO.kind)) !== kind) return false;
  return kind !== 'ipvlan' || portOf(attributes) === IPVLAN_L2;
}

/** Mode and flags of the ENI's ipvlans, in the words of `ip`; undefined where the link is none. */
function ipvlanPort(link: Uint8Array): string | undefined {
  const info = attributesIn(attributesIn(link, 16).get(IFLA.linkInfo) ?? new Uint8Array());
  return textOf(info.get(INFO.kind)) === 'ipvlan' ? portOf(info) : undefined;
}

/** As ADD makes an ipvlan. */
export const IPVLAN_L2 = 'l2 bridge';
const INFO = { kind: 1, data: 2 };
/** linux/if_link.h: IFLA_IPVLAN_MODE and IFLA_IPVLAN_FLAGS, of 16 bits each. */
const IPVLAN = { mode: 1, flags: 2 };

function portOf(info: Map<number, Uint8Array>): string {
  const data = attributesIn(info.get(INFO.data) ?? new Uint8Array());
  const number = (attribute: number) => data.get(attribute)?.[0] ?? 0;
  const mode = ['l2', 'l3', 'l3s'][number(IPVLAN.mode)] ?? 'unknown';
  return `${mode} ${['bridge', 'private', 'vepa'][number(IPVLAN.flags)] ?? 'unknown'}`;
}
