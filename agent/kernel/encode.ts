// Operations as messages of rtnetlink, the same that `ip` sends. Numbers are those of linux/rtnetlink.h, if_link.h,
// if_addr.h, neighbour.h and fib_rules.h.
import { ROUTE_PROTOCOL } from '../host/names.ts';
import { AF_INET, AF_INET6, macBytes, prefixOf } from './bytes.ts';
import {
  ACK,
  ascii,
  attributesIn,
  CREATE,
  DUMP,
  EXCL,
  le32,
  Message,
  numberIn,
  REPLACE,
  REQUEST,
  zeroEnded,
} from './message.ts';
import type {
  Address,
  IfThere,
  Ipvlan,
  KernelOperation,
  LinkEnd,
  Neighbour,
  Route,
  Rule,
  TableName,
  Veth,
} from './operation.ts';

export const NEW_LINK = 16;
const DEL_LINK = 17;
const GET_LINK = 18;
export const NEW_ADDRESS = 20;
export const NEW_ROUTE = 24;
const DEL_ROUTE = 25;
export const NEW_NEIGHBOUR = 28;
export const NEW_RULE = 32;
const DEL_RULE = 33;

/** Types of the attributes of routes, rules, addresses and neighbours. */
export const RTA = { dst: 1, src: 2, oif: 4, gateway: 5, prefsrc: 7, table: 15 };
export const IFA = { address: 1, local: 2 };
export const NDA = { dst: 1, lladdr: 2 };
export const IFLA = {
  address: 1,
  name: 3,
  mtu: 4,
  link: 5,
  linkInfo: 18,
  afSpec: 26,
  group: 27,
  netnsFd: 28,
};
export const FRA = { dst: 1, src: 2, iif: 3, priority: 6, mark: 10, table: 15, mask: 16, protocol: 21 };
export const MAIN_TABLE = 254;
export const UNICAST = 1;
export const routeTypes = { unreachable: 7, throw: 9 } as const;
const GLOBAL_SCOPE = 0;
const LINK_SCOPE = 253;

/** What a message contains that is known only when it is sent. */
export interface Bindings {
  /** Index of a device in the namespace that the message goes to. Throws when there is no such device. */
  index(device: string): number;
  /** Descriptor of the pod's namespace. */
  podFd: number;
}

/** The objects that one message of rtnetlink makes. */
export type RoutingObject = Ipvlan | Veth | Address | Neighbour | Route | Rule;
export type RoutingOperation =
  | { do: 'make'; what: RoutingObject; ifThere: IfThere }
  | Extract<KernelOperation, { do: 'set' }>
  | { do: 'remove'; what: Exclude<Extract<KernelOperation, { do: 'remove' }>['what'], TableName> };

export function encode(operation: RoutingOperation, bindings: Bindings): Message {
  switch (operation.do) {
    case 'make':
      return encodeObject(
        operation.what,
        CREATE | (operation.ifThere === 'replace' ? REPLACE : EXCL),
        bindings,
      );
    case 'set':
      return linkSet(operation, bindings);
    case 'remove': {
      const { what } = operation;
      if (what.kind === 'rule') return rule(what, DEL_RULE, 0);
      if (what.kind === 'route') return route(what, DEL_ROUTE, 0, bindings);
      if (what.kind === 'found route') return routeRemoval(what.bytes);
      if (what.kind === 'device') return linkHeader(request(DEL_LINK), bindings.index(what.device));
      return linkHeader(request(DEL_LINK)).attribute(IFLA.group, le32(what.group));
    }
  }
}

/** @param flags of the request that makes the object. */
export function encodeObject(what: RoutingObject, flags: number, bindings: Bindings): Message {
  switch (what.kind) {
    case 'ipvlan': {
      const message = linkEnd(request(NEW_LINK, flags), what.end, bindings, what.parent);
      return linkInfo(message, 'ipvlan', () => message.attribute(1, [0, 0]));
    }
    case 'veth': {
      const message = linkEnd(request(NEW_LINK, flags), what.end, bindings);
      return linkInfo(message, 'veth', () => message.nest(1, () => linkEnd(message, what.peer, bindings)));
    }
    case 'address':
      return address(what, flags, bindings);
    case 'neighbour':
      return neighbour(what, flags, bindings);
    case 'route':
      return route(what, NEW_ROUTE, flags, bindings);
    case 'rule':
      return rule(what, NEW_RULE, flags);
  }
}

/** The request that removes a route, from the kernel's listing of it. */
export function routeRemoval(found: Uint8Array): Message {
  return request(DEL_ROUTE).u8(...found);
}

/** The request that lists one device by its name, without its counters. */
export function linkQuestion(device: string): Message {
  return linkHeader(new Message(GET_LINK, REQUEST))
    .attribute(IFLA.name, zeroEnded(device))
    .attribute(29, le32(8));
}

/** The request that lists all devices, without their counters. */
export function linksQuestion(): Message {
  return linkHeader(new Message(GET_LINK, REQUEST | DUMP)).attribute(29, le32(8));
}

/** The group of a listed link. */
export function groupOf(listed: Uint8Array): number {
  return numberIn(attributesIn(listed, 16), IFLA.group) ?? 0;
}

/** The table of a listed route or rule. A number of more than eight bits is in an attribute. */
export function tableOf(listed: Uint8Array, attributes = attributesIn(listed, 12)): number {
  return numberIn(attributes, RTA.table) ?? listed[4] ?? 0;
}

/** A message that the kernel answers. */
function request(type: number, flags = 0): Message {
  return new Message(type, REQUEST | ACK | flags);
}

function linkHeader(message: Message, index = 0, flags = 0, change = 0): Message {
  return message.u8(0, 0).u16(0).u32(index).u32(flags).u32(change);
}

function linkEnd(
  message: Message,
  { name, mac, mtu, group, inPod }: LinkEnd,
  bindings: Bindings,
  parent?: string,
): Message {
  linkHeader(message).attribute(IFLA.name, zeroEnded(name));
  if (parent !== undefined) message.attribute(IFLA.link, le32(bindings.index(parent)));
  if (mac !== undefined) message.attribute(IFLA.address, macBytes(mac));
  if (mtu !== undefined) message.attribute(IFLA.mtu, le32(mtu));
  if (group !== undefined) message.attribute(IFLA.group, le32(group));
  if (inPod === true) message.attribute(IFLA.netnsFd, le32(bindings.podFd));
  return message;
}

/** The kind of a device, and the attributes that only this kind has. */
function linkInfo(message: Message, kind: string, fill: () => void): Message {
  return message.nest(IFLA.linkInfo, () => message.attribute(1, ascii(kind)).nest(2, fill));
}

function linkSet(
  { device, up, mtu, generatesAddress, ipvlan }: Extract<KernelOperation, { do: 'set' }>,
  bindings: Bindings,
): Message {
  const flags = up === true ? 1 : 0;
  const message = linkHeader(request(NEW_LINK), bindings.index(device), flags, flags);
  if (mtu !== undefined) message.attribute(IFLA.mtu, le32(mtu));
  if (ipvlan !== undefined)
    linkInfo(message, 'ipvlan', () => message.attribute(1, [0, 0]).attribute(2, [0, 0]));
  if (generatesAddress === false)
    message.nest(IFLA.afSpec, () => message.nest(AF_INET6, () => message.attribute(8, [1])));
  return message;
}

function address(
  { device, address: text, prefixLength, unchecked }: Address,
  flags: number,
  bindings: Bindings,
): Message {
  const { family, bytes } = prefixOf(text);
  return request(NEW_ADDRESS, flags)
    .u8(family, prefixLength, unchecked === true ? 2 : 0, GLOBAL_SCOPE)
    .u32(bindings.index(device))
    .attribute(IFA.local, bytes)
    .attribute(IFA.address, bytes);
}

function neighbour({ device, address: to, mac }: Neighbour, flags: number, bindings: Bindings): Message {
  const { family, bytes } = prefixOf(to);
  return request(NEW_NEIGHBOUR, flags)
    .u8(family, 0)
    .u16(0)
    .u32(bindings.index(device))
    .u16(0x80)
    .u8(0, 0)
    .attribute(NDA.dst, bytes)
    .attribute(NDA.lladdr, macBytes(mac));
}

/** @param kind NEW_ROUTE or DEL_ROUTE. */
function route(
  { to, type, from, via, onlink, device, source, table = MAIN_TABLE }: Route,
  kind: number,
  flags: number,
  bindings: Bindings,
): Message {
  const target = to === 'default' ? undefined : prefixOf(to);
  const sources = from === undefined ? undefined : prefixOf(from);
  const router = via === undefined ? undefined : prefixOf(via);
  const family = target?.family ?? router?.family ?? AF_INET;
  // As `ip` does it: the scope of an IPv4 route without a router is the link. IPv6 routes have no scope.
  const onLink = type === undefined && via === undefined && family === AF_INET;
  const message = request(kind, flags)
    .u8(family, target?.length ?? 0, sources?.length ?? 0, 0)
    .u8(table < 256 ? table : 0, ROUTE_PROTOCOL, onLink ? LINK_SCOPE : GLOBAL_SCOPE)
    .u8(type === undefined ? UNICAST : routeTypes[type])
    .u32(onlink === true ? 4 : 0);
  if (target !== undefined) message.attribute(RTA.dst, target.bytes);
  if (sources !== undefined) message.attribute(RTA.src, sources.bytes);
  if (router !== undefined) message.attribute(RTA.gateway, router.bytes);
  if (source !== undefined) message.attribute(RTA.prefsrc, prefixOf(source).bytes);
  if (table >= 256) message.attribute(RTA.table, le32(table));
  if (device !== undefined) message.attribute(RTA.oif, le32(bindings.index(device)));
  return message;
}

export function tableNumber(table: number | 'main'): number {
  return table === 'main' ? MAIN_TABLE : table;
}

function rule({ family, priority, iif, from, mark, ...rest }: Rule, type: number, flags: number): Message {
  const table = tableNumber(rest.table);
  const source = from === undefined ? undefined : prefixOf(from);
  const message = request(type, flags)
    .u8(family === 6 ? AF_INET6 : AF_INET, 0, source?.length ?? 0, 0)
    .u8(table < 256 ? table : 0, 0, 0, 1)
    .u32(0)
    .attribute(FRA.priority, le32(priority));
  if (source !== undefined) message.attribute(FRA.src, source.bytes);
  if (mark !== undefined) message.attribute(FRA.mark, le32(mark)).attribute(FRA.mask, le32(mark));
  if (iif !== undefined) message.attribute(FRA.iif, zeroEnded(iif));
  if (table >= 256) message.attribute(FRA.table, le32(table));
  return message.attribute(FRA.protocol, [ROUTE_PROTOCOL]);
}
