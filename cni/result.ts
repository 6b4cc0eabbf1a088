// The result of an ADD, in the form of each version of the specification: a new result, or prevResult extended.

import { type Attachment, POD_VETH } from '../agent/attachment/attachment.ts';
import { NODE_LINK_ADDRESS6, ROUTER_ADDRESS6 } from '../agent/host/names.ts';
import { quoted, type Version, wrongConfig } from './call.ts';

export interface Interface {
  name: string;
  mac: string;
  mtu: number;
  /** Path of the interface's network namespace; absent for an interface on the node. */
  sandbox?: string;
}

interface Route {
  dst: string;
  gw: string | undefined;
}

interface Result {
  /** Absent in the result of a delegate, which makes no interfaces. */
  interfaces?: Interface[];
  ip: {
    /** With the prefix length of its subnet. */
    address: string;
    gateway: string;
    /** Index into `interfaces`. */
    interface?: number;
  };
  /** Undefined when the pod has IPv4 alone. */
  ipv6: Attachment['ipv6'];
  routes: Route[];
  /** Passed on unchecked; undefined for none. */
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

/** The interfaces of the unnumbered link, as a result lists them. */
export function linkInterfaces(a: Attachment, netns: string): Interface[] {
  return [
    { name: POD_VETH, mac: a.podMac, mtu: a.mtu, sandbox: netns },
    { name: a.hostLink, mac: a.hostMac, mtu: a.mtu },
  ];
}

/** The routes by the pod's own interface: over IPv6, all that do not go to the node. */
export function interfaceRoutes(a: Attachment): Route[] {
  return [
    ...a.routes.map((dst) => ({ dst, gw: a.router })),
    ...(a.ipv6 === undefined ? [] : [{ dst: '::/0', gw: ROUTER_ADDRESS6 }]),
  ];
}

/** The routes by veth0: all others. */
export function linkRoutes(a: Attachment): Route[] {
  return [
    { dst: DEFAULT, gw: a.nodeAddresses[0] },
    ...(a.ipv6?.serviceCidrs ?? []).map((dst) => ({ dst, gw: NODE_LINK_ADDRESS6 })),
  ];
}

/** The addresses, with prefix lengths, in a result of any version. */
export function addressesIn(prevResult: unknown): unknown[] {
  const { ips, ip4, ip6 } = (prevResult ?? {}) as Record<string, { ip?: unknown } | null | undefined>;
  if (!Array.isArray(ips)) return [ip4?.ip, ip6?.ip];
  return ips.map((one: unknown) => (one as { address?: unknown } | null)?.address);
}

/**
 * prevResult with the unnumbered link added. Interfaces are added at the end, so that existing indexes stay right.
 * eniboot's default route replaces an existing one, as it does in the pod. Unknown keys are passed on.
 *
 * @throws CNI_CONFIG when prevResult does not contain the address, or its interface index is not valid.
 */
export function extendResult(
  version: Version,
  prevResult: Record<string, unknown>,
  a: Attachment,
  netns: string,
): Record<string, unknown> {
  const address = `${a.address}/${a.prefixLength}`;
  if (!canBeWritten(prevResult)) throw wrongConfig('prevResult', 'is nested too deeply to be handed on');
  if (!addressesIn(prevResult).includes(address)) {
    throw wrongConfig('prevResult', `does not hold ${address}, which this container has leased`);
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
  for (const [at, ip] of ips.entries()) checkIndex(ip, `prevResult.ips[${at}]`, interfaces, a, netns);
  return {
    ...prevResult,
    cniVersion: version,
    interfaces: [...interfaces, ...interfacesIn(version, linkInterfaces(a, netns))],
    ips,
    routes: [...withoutDefault(prevResult['routes'] ?? [], 'prevResult.routes'), ...linkRoutes(a)],
  };
}

const DEFAULT = '0.0.0.0/0';

/** Results of 0.1.0 and 0.2.0 have one address per family and no interfaces. */
function isFirstForm(version: Version): boolean {
  return version === '0.1.0' || version === '0.2.0';
}

/** `mtu` exists since 1.1.0. */
function interfacesIn(version: Version, interfaces: Interface[]): Record<string, unknown>[] {
  return interfaces.map(({ mtu, ...rest }) => (version === '1.1.0' ? { ...rest, mtu } : rest));
}

function checkIndex(ip: unknown, path: string, interfaces: unknown[], a: Attachment, netns: string): void {
  const address = `${a.address}/${a.prefixLength}`;
  if (typeof ip !== 'object' || ip === null) throw wrongConfig(path, 'is not an object');
  const { address: theirs, interface: index } = ip as { address?: unknown; interface?: unknown };
  if (index === undefined || index === null) return;
  const target = typeof index === 'number' ? interfaces[index] : undefined;
  if (typeof target !== 'object' || target === null) {
    throw wrongConfig(
      `${path}.interface`,
      `${quoted(index)} is not the index of one of its ${interfaces.length} interfaces`,
    );
  }
  const { name, sandbox } = target as Record<string, unknown>;
  if (theirs === address && (name !== a.ifName || sandbox !== netns)) {
    throw wrongConfig(
      `${path}.interface`,
      `${address} is on ${quoted(name)}, not on the container's ${a.ifName}`,
    );
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
  throw wrongConfig(path, 'is not a list');
}
