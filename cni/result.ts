// The result of an ADD in the form of each version of the specification: a new one, or prevResult extended.

import { type Attachment, POD_VETH } from '../agent/host/attachment.ts';
import { NODE_LINK_ADDRESS6, ROUTER_ADDRESS6 } from '../agent/host/names.ts';
import { Failure } from '../agent/messages/failure.ts';
import { quoted, type Version } from './call.ts';

export interface Interface {
  name: string;
  mac: string;
  mtu: number;
  /** Path of its network namespace; absent on the node. */
  sandbox?: string;
}

interface Route {
  dst: string;
  gw: string | undefined;
}

interface Result {
  /** Absent in the result of a delegate, which makes none. */
  interfaces?: Interface[];
  ip: {
    /** With the length of its subnet. */
    address: string;
    gateway: string;
    /** Index into `interfaces`. */
    interface?: number;
  };
  /** Undefined where the pod has IPv4 alone. */
  ipv6: Attachment['ipv6'];
  routes: Route[];
  /** Handed through unchecked; undefined for none. */
  dns: unknown;
}

export function renderResult(version: Version, result: Result): Record<string, unknown> {
  const { interfaces, ip, ipv6, routes } = result;
  const dns = result.dns === undefined ? {} : { dns: result.dns };
  if (isFirstForm(version)) {
    const [of4, of6] = [routes.filter((one) => !isIpv6(one)), routes.filter(isIpv6)];
    const ip4 = { ip: ip.address, gateway: ip.gateway, routes: of4 };
    const six = ipv6 === undefined ? {} : { ip6: { ip: text6(ipv6), gateway: ROUTER_ADDRESS6, routes: of6 } };
    return { cniVersion: version, ip4, ...six, ...dns };
  }
  const family = (which: '4' | '6') => (version === '1.0.0' || version === '1.1.0' ? {} : { version: which });
  return {
    cniVersion: version,
    ...(interfaces === undefined ? {} : { interfaces: interfacesIn(version, interfaces) }),
    ips: [
      { ...family('4'), ...ip },
      ...(ipv6 === undefined
        ? []
        : [{ ...family('6'), ...ip, address: text6(ipv6), gateway: ROUTER_ADDRESS6 }]),
    ],
    routes,
    ...dns,
  };
}

function text6({ address, prefixLength }: NonNullable<Attachment['ipv6']>): string {
  return `${address}/${prefixLength}`;
}

function isIpv6({ dst }: Route): boolean {
  return dst.includes(':');
}

/** The interfaces, addresses and routes of the whole attachment's two links, as a result lists them. */
export function linkInterfaces(a: Attachment, netns: string): Interface[] {
  return [
    { name: POD_VETH, mac: a.podMac, mtu: a.mtu, sandbox: netns },
    { name: a.hostLink, mac: a.hostMac, mtu: a.mtu },
  ];
}

/** The pod's routes by its interface: all of IPv6 that is not the node's. */
export function interfaceRoutes(a: Attachment): Route[] {
  return [
    ...a.routes.map((dst) => ({ dst, gw: a.router })),
    ...(a.ipv6 === undefined ? [] : [{ dst: '::/0', gw: ROUTER_ADDRESS6 }]),
  ];
}

/** Everything else goes by veth0. */
export function linkRoutes(a: Attachment): Route[] {
  return [
    { dst: DEFAULT, gw: a.nodeAddresses[0] },
    ...(a.ipv6?.serviceCidrs ?? []).map((dst) => ({ dst, gw: NODE_LINK_ADDRESS6 })),
  ];
}

/** Addresses, with their lengths, that a result of any version lists. */
export function addressesIn(prevResult: unknown): unknown[] {
  const { ips, ip4, ip6 } = (prevResult ?? {}) as Record<string, { ip?: unknown } | null | undefined>;
  if (!Array.isArray(ips)) return [ip4?.ip, ip6?.ip];
  return ips.map((one: unknown) => (one as { address?: unknown } | null)?.address);
}

/**
 * prevResult with the unnumbered link added. Interfaces come last, so that each index that is there stays right;
 * our default route takes the place of another, as it does in the pod. Keys we do not know are handed on.
 *
 * @throws CNI_CONFIG when it does not hold the address, or its interface index leads nowhere.
 */
export function extendResult(
  version: Version,
  prevResult: Record<string, unknown>,
  a: Attachment,
  netns: string,
): Record<string, unknown> {
  const address = `${a.address}/${a.prefixLength}`;
  if (!canBeWritten(prevResult)) throw wrong('prevResult', 'is nested too deeply to be handed on');
  if (!addressesIn(prevResult).includes(address)) {
    throw wrong('prevResult', `does not hold ${address}, which this container has leased`);
  }
  if (isFirstForm(version)) {
    const ip4 = prevResult['ip4'] as Record<string, unknown>;
    const ip6 = prevResult['ip6'] as Record<string, unknown> | undefined;
    const added = linkRoutes(a);
    const routes = [
      ...withoutDefault(ip4['routes'], 'prevResult.ip4.routes'),
      ...added.filter((one) => !isIpv6(one)),
    ];
    const extended = { ...prevResult, cniVersion: version, ip4: { ...ip4, routes } };
    if (a.ipv6 === undefined) return extended;
    const routes6 = [...listAt(ip6?.['routes'] ?? [], 'prevResult.ip6.routes'), ...added.filter(isIpv6)];
    return { ...extended, ip6: { ...ip6, routes: routes6 } };
  }
  const interfaces = listAt(prevResult['interfaces'] ?? [], 'prevResult.interfaces');
  const ips = listAt(prevResult['ips'], 'prevResult.ips');
  for (const [at, ip] of ips.entries())
    checkIndex(ip, `prevResult.ips[${at}]`, address, interfaces, a.ifName, netns);
  return {
    ...prevResult,
    cniVersion: version,
    interfaces: [...interfaces, ...interfacesIn(version, linkInterfaces(a, netns))],
    ips,
    routes: [...withoutDefault(prevResult['routes'] ?? [], 'prevResult.routes'), ...linkRoutes(a)],
  };
}

const DEFAULT = '0.0.0.0/0';

/** Results of 0.1.0 and 0.2.0 have one address and no interfaces. */
function isFirstForm(version: Version): boolean {
  return version === '0.1.0' || version === '0.2.0';
}

/** `mtu` came with 1.1.0. */
function interfacesIn(version: Version, interfaces: Interface[]): Record<string, unknown>[] {
  return interfaces.map(({ mtu, ...rest }) => (version === '1.1.0' ? { ...rest, mtu } : rest));
}

function checkIndex(
  ip: unknown,
  path: string,
  address: string,
  interfaces: unknown[],
  ifName: string,
  netns: string,
): void {
  if (typeof ip !== 'object' || ip === null) throw wrong(path, 'is not an object');
  const { address: theirs, interface: index } = ip as { address?: unknown; interface?: unknown };
  if (index === undefined || index === null) return;
  const target = typeof index === 'number' ? interfaces[index] : undefined;
  if (typeof target !== 'object' || target === null) {
    throw wrong(
      `${path}.interface`,
      `${quoted(index)} is not the index of one of its ${interfaces.length} interfaces`,
    );
  }
  const { name, sandbox } = target as Record<string, unknown>;
  if (theirs === address && (name !== ifName || sandbox !== netns)) {
    throw wrong(`${path}.interface`, `${address} is on ${quoted(name)}, not on the container's ${ifName}`);
  }
}

function canBeWritten(value: unknown): boolean {
  try {
    JSON.stringify(value);
    return true;
  } catch {
    return false;
  }
}

function withoutDefault(routes: unknown, path: string): unknown[] {
  return listAt(routes ?? [], path).filter((route) => (route as { dst?: unknown } | null)?.dst !== DEFAULT);
}

function listAt(value: unknown, path: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw wrong(path, 'is not a list');
}

function wrong(path: string, what: string): Failure {
  return new Failure('CNI_CONFIG', `${path}: ${what}`, { path });
}
