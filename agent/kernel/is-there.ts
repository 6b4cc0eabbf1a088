// Whether objects are there: compares the request that makes an object with the kernel's listing. An object is present
// when it has everything that the request says; a rule must also have no further conditions. Numbers are those of
// linux/rtnetlink.h, neighbour.h and fib_rules.h.
import { toAddress } from '../host/ipv4.ts';
import { ipv6FromBytes } from '../host/ipv6.ts';
import { ROUTE_PROTOCOL } from '../host/names.ts';
import { AF_INET, AF_INET6, macText } from './bytes.ts';
import type { All, Conversation } from './conversation.ts';
import {
  encodeObject,
  FRA,
  groupOf,
  IFA,
  IFLA,
  linksQuestion,
  MAIN_TABLE,
  NDA,
  NEW_ADDRESS,
  NEW_NEIGHBOUR,
  NEW_ROUTE,
  NEW_RULE,
  RTA,
  routeTypes,
  tableOf,
  UNICAST,
} from './encode.ts';
import { attributesIn, DUMP, Message, nested, numberAt, numberIn, REQUEST, same, textOf } from './message.ts';
import type { Address, FoundRoute, Neighbour, Route, Rule } from './operation.ts';
import { routeText } from './render.ts';

/**
 * `type`: RTM_NEW…, the type of both the request that makes an object and of each listed object. `header`: size in
 * bytes of ifaddrmsg, rtmsg, ndmsg, fib_rule_hdr.
 */
const kinds = {
  address: { type: NEW_ADDRESS, header: 8 },
  route: { type: NEW_ROUTE, header: 12 },
  neighbour: { type: NEW_NEIGHBOUR, header: 12 },
  rule: { type: NEW_RULE, header: 12 },
} as const;
type Kind = keyof typeof kinds;

/** The objects that a listing can be asked for. */
export type Listable = Address | Neighbour | Route | Rule;

/** A device in the kernel's listing. */
export interface ListedLink {
  index: number;
  name: string;
  up: boolean;
  mac: string;
  mtu: number;
  group: number;
  /** ipvlan, veth …; empty for a device without a kind. */
  kind: string;
  /**
   * For an ipvlan the index of the device below it; for a veth the index of its other end, which may be in another
   * namespace. 0: none.
   */
  parent: number;
  /** The ID by which this namespace knows the one that `parent` is in; undefined when it is in this namespace. */
  parentNamespace: number | undefined;
  /** Mode and flags of an ipvlan, which all ipvlans of its ENI share. */
  port: string | undefined;
}

/** The mode and flags with which ADD makes an ipvlan. */
export const IPVLAN_L2 = 'l2 bridge';

/**
 * The objects of a namespace. Each listing is requested once, when it is first needed.
 *
 * @throws SystemCallError when the kernel refuses it.
 */
export class Listing {
  private readonly conversation: Conversation;
  private readonly lists = new Map<string, All<Listed>>();
  private known: All<ListedLink> | undefined;
  private queues: All<Uint8Array> | undefined;

  constructor(conversation: Conversation) {
    this.conversation = conversation;
  }

  links(): readonly ListedLink[] {
    return this.listed().whole();
  }

  /** The devices that were seen; some may be missing when devices came and went meanwhile. */
  seenLinks(): readonly ListedLink[] {
    return this.listed().seen;
  }

  /** The veth whose other end has this index. */
  vethTo(index: number): ListedLink | undefined {
    return this.listed().find(({ kind, parent }) => kind === 'veth' && parent === index);
  }

  /** @param by name or index of the device. */
  link(by: string | number): ListedLink | undefined {
    return this.listed().find(({ name, index }) => by === name || by === index);
  }

  has(what: Listable): boolean {
    const { kind } = what;
    const wanted = this.wanted(what);
    return this.list(kind, wanted.family).find((found) => fits[kind](wanted, found)) !== undefined;
  }

  /** What is there in the place of an object, in words; undefined when nothing is. */
  instead(what: Listable): string | undefined {
    const wanted = this.wanted(what);
    const other = this.list(what.kind, wanted.family).find((found) => isInPlace[what.kind](wanted, found));
    if (other === undefined) return undefined;
    switch (what.kind) {
      case 'address':
        return `its prefix length is ${other.bytes[1]}`;
      case 'neighbour':
        return `its MAC is ${macText(other.attributes.get(NDA.lladdr))}`;
      case 'route':
        return `it is ${this.routeText(other)}`;
      case 'rule':
        return `it looks up table ${other.table === MAIN_TABLE ? 'main' : other.table}`;
    }
  }

  /** Whether a route that eniboot did not make has the same destination, by any device or router. */
  isTaken(route: Route): boolean {
    const wanted = this.wanted(route);
    const other = this.list('route', wanted.family).find(
      (found) => found.bytes[5] !== ROUTE_PROTOCOL && leadsWhere(wanted, found),
    );
    return other !== undefined;
  }

  /** eniboot's routes in a table that are not among `routes`, without default routes. @param table main when undefined. */
  routesBeside(routes: Route[], table = MAIN_TABLE): FoundRoute[] {
    const wanted = routes.map((route) => this.wanted(route));
    return [AF_INET, AF_INET6]
      .flatMap((family) => this.list('route', family).seen)
      .filter(
        (found) =>
          found.bytes[5] === ROUTE_PROTOCOL &&
          found.bytes[1] !== 0 &&
          found.table === table &&
          !wanted.some((one) => fits.route(one, found)),
      )
      .map((found) => ({ kind: 'found route', to: destinationOf(found), bytes: found.bytes }));
  }

  /** eniboot's rules with the fields that removal needs; their other conditions are left out. */
  ownRules(): Rule[] {
    return this.list('rule', AF_INET)
      .seen.filter((found) => found.attributes.get(FRA.protocol)?.[0] === ROUTE_PROTOCOL)
      .map((found) => ({
        ...{ kind: 'rule', family: 4, priority: found.number(FRA.priority) ?? 0 },
        table: found.table,
      }));
  }

  /** The addresses of a device, of both families. */
  addressesOn(index: number): string[] {
    return [AF_INET, AF_INET6]
      .flatMap((family) => this.list('address', family).whole())
      .filter((one) => numberAt(one.bytes, 4) === index)
      .flatMap(({ attributes }) => {
        // IPv6 lists IFA_LOCAL only when the address has a peer (linux/if_addr.h).
        const bytes = attributes.get(IFA.local) ?? attributes.get(IFA.address);
        return bytes === undefined ? [] : addressText(bytes);
      });
  }

  /** Rate in bytes per second of the token bucket on a device's outgoing packets; undefined when there is none. */
  bucketRate(device: string): number | undefined {
    const index = this.link(device)?.index;
    this.queues ??= this.conversation.listAll(() => new Message(GET_QDISC, REQUEST | DUMP).zeros(TCMSG));
    const root = this.queues.find((one) => numberAt(one, 4) === index && numberAt(one, 12) === ROOT);
    return root === undefined ? undefined : bucketRate(root);
  }

  private listed(): All<ListedLink> {
    this.known ??= this.conversation.listAll(linksQuestion).map(decodeLink);
    return this.known;
  }

  /** The request that makes the object, for comparison. A device that does not exist has index 0. */
  private wanted(what: Listable): Listed {
    const bindings = { index: (device: string) => this.link(device)?.index ?? 0, podFd: -1 };
    return new Listed(encodeObject(what, 0, bindings).body, what.kind);
  }

  private list(kind: Kind, family: number): All<Listed> {
    const key = `${kind} ${family}`;
    const known = this.lists.get(key);
    if (known !== undefined) return known;
    const { type, header } = kinds[kind];
    const found = this.conversation
      .listAll(() => new Message(type + 2, REQUEST | DUMP).u8(family).zeros(header - 1))
      // A kernel without IPv6 may answer an IPv6 dump with objects of other families.
      .filter((one) => one[0] === family)
      .map((one) => new Listed(one, kind));
    this.lists.set(key, found);
    return found;
  }

  private routeText(route: Listed): string {
    const address = (attribute: number) => {
      const bytes = route.attributes.get(attribute);
      return bytes && addressText(bytes);
    };
    const index = route.number(RTA.oif);
    const types = Object.entries(routeTypes) as [keyof typeof routeTypes, number][];
    return routeText({
      type: types.find(([, number]) => number === route.bytes[7])?.[0],
      to: route.bytes[1] === 0 ? 'default' : destinationOf(route).replace(/\/(?:32|128)$/, ''),
      via: address(RTA.gateway),
      device: index === undefined ? undefined : this.link(index)?.name,
      source: address(RTA.prefsrc),
    });
  }
}

/**
 * A message of one of the four kinds. A node has a thousand of them, and the first bytes are enough to tell most of
 * them apart.
 */
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

  get family(): number {
    return this.bytes[0] ?? 0;
  }

  /** The table of a route or a rule. */
  get table(): number {
    return tableOf(this.bytes, this.attributes);
  }

  /** The value of a four-byte attribute; undefined when there is no such attribute. */
  number(attribute: number): number | undefined {
    return numberIn(this.attributes, attribute);
  }
}

type Beside = (wanted: Listed, found: Listed) => boolean;

/** Whether the found object occupies the place of the wanted one. */
const isInPlace: Record<Kind, Beside> = {
  address: (wanted, found) => sameAt(wanted, found, [0, 4, 5, 6, 7]) && alike(wanted, found, [IFA.address]),
  route: (wanted, found) => leadsWhere(wanted, found) && alike(wanted, found, [RTA.src]),
  neighbour: (wanted, found) =>
    sameAt(wanted, found, [0, 4, 5, 6, 7]) &&
    (numberAt(found.bytes, 8) & PERMANENT) !== 0 &&
    alike(wanted, found, [NDA.dst]),
  // The rule is not inverted, its interface exists, and it has no condition that eniboot's rules never have.
  rule: (wanted, found) =>
    sameAt(wanted, found, [0, 1, 2, 3, 7]) &&
    (numberAt(found.bytes, 8) & UNFIT) === 0 &&
    alike(wanted, found, [FRA.dst, FRA.src, FRA.iif, FRA.priority, FRA.mark, FRA.mask]) &&
    (found.number(SUPPRESS) ?? SUPPRESS_NONE) === SUPPRESS_NONE &&
    [...found.attributes.keys()].every((one) => one === SUPPRESS || Object.values(FRA).includes(one)),
};

/** Whether the found object is the wanted one. */
const fits: Record<Kind, Beside> = {
  // IPv6 lists an address as IFA_ADDRESS. IFA_LOCAL is there only when the address has a peer.
  address: (wanted, found) =>
    isInPlace.address(wanted, found) &&
    sameAt(wanted, found, [1]) &&
    (wanted.family === AF_INET
      ? alike(wanted, found, [IFA.local])
      : found.attributes.get(IFA.local) === undefined),
  // Compares everything but protocol, scope and flags. For an unreachable route IPv6 lists a device, so the device is
  // compared for unicast routes only.
  route: (wanted, found) =>
    isInPlace.route(wanted, found) &&
    sameAt(wanted, found, [3, 7]) &&
    alike(wanted, found, [RTA.gateway, ...ELSEWHERE]) &&
    // For a route without a source address the kernel uses the only address there is.
    (!found.attributes.has(RTA.prefsrc) || alike(wanted, found, [RTA.prefsrc])) &&
    (wanted.bytes[7] !== UNICAST || alike(wanted, found, [RTA.oif])),
  neighbour: (wanted, found) => isInPlace.neighbour(wanted, found) && alike(wanted, found, [NDA.lladdr]),
  rule: (wanted, found) => isInPlace.rule(wanted, found) && wanted.table === found.table,
};

/** Whether two routes have the same table and destination. The kernel lists no destination attribute for a default route. */
function leadsWhere(wanted: Listed, found: Listed): boolean {
  return (
    found.table === wanted.table &&
    sameAt(wanted, found, [0, 1, 2]) &&
    (wanted.bytes[1] === 0 || alike(wanted, found, [RTA.dst]))
  );
}

const GET_QDISC = 38;
/** Size of tcmsg in bytes: family, index, handle, parent, info. Source: linux/rtnetlink.h. */
const TCMSG = 20;
/** TC_H_ROOT. */
const ROOT = 0xffffffff;
/** TCA_KIND, TCA_OPTIONS; TCA_TBF_PARMS, TCA_TBF_RATE64. Source: linux/pkt_sched.h. */
const QDISC = { kind: 1, options: 2 };
const BUCKET = { parameters: 1, rate64: 4 };

/** Undefined for a queue that is not a token bucket. */
function bucketRate(qdisc: Uint8Array): number | undefined {
  const attributes = attributesIn(qdisc, TCMSG);
  if (textOf(attributes.get(QDISC.kind)) !== 'tbf') return undefined;
  const options = nested(attributes, QDISC.options);
  const rate64 = options.get(BUCKET.rate64);
  if (rate64 !== undefined) return numberAt(rate64) + numberAt(rate64, 4) * 2 ** 32;
  // tc_tbf_qopt begins with tc_ratespec, which has twelve bytes; the last four are the rate.
  const parameters = options.get(BUCKET.parameters);
  return parameters === undefined ? undefined : numberAt(parameters, 8);
}

const PERMANENT = 0x80;
/** RTA_MULTIPATH, RTA_VIA, RTA_ENCAP: attributes of a route that takes another way. */
const ELSEWHERE = [9, 18, 22];
/** FRA_SUPPRESS_PREFIXLEN: the kernel lists it for every rule. */
const SUPPRESS = 14;
const SUPPRESS_NONE = 0xffffffff;
/** FIB_RULE_INVERT, FIB_RULE_IIF_DETACHED. */
const UNFIT = 0x2 | 0x8;

/** The destination as a CIDR. */
function destinationOf(route: Listed): string {
  const length = route.family === AF_INET6 ? 16 : 4;
  return `${addressText(route.attributes.get(RTA.dst) ?? new Uint8Array(length))}/${route.bytes[1]}`;
}

function addressText(bytes: Uint8Array): string {
  if (bytes.length === 16) return ipv6FromBytes(bytes);
  return toAddress(new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0));
}

/** Whether each of the attributes has the same value in both, or is in neither. */
function alike(wanted: Listed, found: Listed, attributes: number[]): boolean {
  return attributes.every((one) => {
    const [want, have] = [wanted.attributes.get(one), found.attributes.get(one)];
    return want === undefined || have === undefined ? want === have : same(have, want);
  });
}

function sameAt(wanted: Listed, found: Listed, places: number[]): boolean {
  return places.every((at) => wanted.bytes[at] === found.bytes[at]);
}

function decodeLink(bytes: Uint8Array): ListedLink {
  const attributes = attributesIn(bytes, 16);
  const number = (attribute: number) => numberIn(attributes, attribute) ?? 0;
  const info = nested(attributes, IFLA.linkInfo);
  const kind = textOf(info.get(INFO.kind));
  return {
    index: numberAt(bytes, 4),
    name: textOf(attributes.get(IFLA.name)),
    up: (numberAt(bytes, 8) & 1) !== 0,
    mac: macText(attributes.get(IFLA.address)),
    mtu: number(IFLA.mtu),
    group: groupOf(bytes),
    kind,
    parent: number(IFLA.link),
    parentNamespace: numberIn(attributes, LINK_NETNSID),
    port: kind === 'ipvlan' ? portOf(info) : undefined,
  };
}

/** IFLA_LINK_NETNSID. */
const LINK_NETNSID = 37;
const INFO = { kind: 1, data: 2 };
/** linux/if_link.h: IFLA_IPVLAN_MODE and IFLA_IPVLAN_FLAGS, of 16 bits each. */
const IPVLAN = { mode: 1, flags: 2 };

/** Mode and flags in the words of `ip`. */
function portOf(info: Map<number, Uint8Array>): string {
  const data = nested(info, INFO.data);
  const number = (attribute: number) => data.get(attribute)?.[0] ?? 0;
  const mode = ['l2', 'l3', 'l3s'][number(IPVLAN.mode)] ?? 'unknown';
  return `${mode} ${['bridge', 'private', 'vepa'][number(IPVLAN.flags)] ?? 'unknown'}`;
}
