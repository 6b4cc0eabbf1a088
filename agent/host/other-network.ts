// Whether a pod's namespace has a network that another plugin made. eniboot is a pod's first network: its default route,
// its settings and its rules are for all of the namespace. So ADD leaves one alone that has a network already: as Multus'
// additional network, or behind another's. Multus calls `clusterNetwork` first and the pod's further networks after it
// (CmdAdd in k8snetworkplumbingwg/multus-cni, pkg/multus/multus.go), so what comes after eniboot is never in its way.
import { prefixOf } from './netlink/values.ts';

export interface OwnNetwork {
  /** The pod's interface, which the plugin before eniboot-ptp has made and given routes. */
  ifName: string;
  /** Name of the link that every attachment has. */
  veth: string;
  /** Destinations of the attachment's routes in the main table, as CIDRs. */
  destinations: readonly string[];
  families: readonly (4 | 6)[];
}

interface Found {
  device: string;
  /** Hexadecimal digits in network order, and the prefix's length. */
  destination: string;
}

/**
 * A sentence about a route of another network, the default one if there is one: by a device that is not ours, or without a
 * device to where ours would lead. Every device that is up and has an address has a route, and over IPv6 every one that is up.
 *
 * @param route text of /proc/net/route. @param route6 of /proc/net/ipv6_route, which has the routes of all tables.
 */
export function otherNetwork(own: OwnNetwork, route: string, route6: string): string | undefined {
  const wanted = new Set(own.destinations.map(keyOf));
  const routes = own.families.flatMap((family) => (family === 4 ? routesIn(route) : routes6In(route6)));
  // Then routes to nowhere may be those of an attachment, and the kernel refuses a second link of this name.
  const attached = routes.some(({ device }) => device === own.veth);
  const theirs = routes.filter(({ device, destination }) =>
    // The kernel itself has a route to nowhere over IPv6, for everything.
    isNowhere(device)
      ? !attached && wanted.has(destination) && !(isDefault(destination) && isIpv6(destination))
      : device !== own.ifName && device !== own.veth,
  );
  const found = theirs.find(({ destination }) => isDefault(destination)) ?? theirs[0];
  if (found === undefined) return undefined;
  const { device, destination } = found;
  const what = isDefault(destination) ? 'a default route' : `a route to ${shown(destination)}`;
  const family = isIpv6(destination) ? ' of IPv6' : '';
  return `it has ${what}${family} by ${isNowhere(device) ? 'no device' : device}`;
}

/** IPv4 shows no device for it, IPv6 the loopback. */
function isNowhere(device: string): boolean {
  return device === '*' || device === 'lo';
}

/** Columns: device, destination, gateway, flags, three counts, mask. A number's bytes are in the machine's order. */
function routesIn(text: string): Found[] {
  return rowsOf(text).flatMap(([device = '', destination = '', , , , , , mask = '']) => {
    const bytes = /^[0-9A-F]{8}$/.test(destination) ? Buffer.from(destination, 'hex').reverse() : undefined;
    if (bytes === undefined) return [];
    const ones = Number.parseInt(mask, 16).toString(2).replaceAll('0', '').length;
    return [{ device, destination: `${bytes.toString('hex')}/${ones}` }];
  });
}

/** Columns: destination, its length, source, its length, router, metric, two counts, flags, device. */
function routes6In(text: string): Found[] {
  return rowsOf(text).flatMap(([destination = '', length = '', , , , , , , , device = '']) =>
    destination.length === 32
      ? [{ device, destination: `${destination}/${Number.parseInt(length, 16)}` }]
      : [],
  );
}

function rowsOf(text: string): string[][] {
  return text.split('\n').map((line) => line.trim().split(/\s+/));
}

function keyOf(cidr: string): string {
  const { bytes, length } = prefixOf(cidr);
  return `${Buffer.from(bytes).toString('hex')}/${length}`;
}

function isDefault(destination: string): boolean {
  return /^0+\/0$/.test(destination);
}

function isIpv6(destination: string): boolean {
  return destination.indexOf('/') === 32;
}

function shown(destination: string): string {
  const [digits = '', length] = destination.split('/');
  const text = !isIpv6(destination)
    ? [...Buffer.from(digits, 'hex')].join('.')
    : (digits.match(/.{4}/g) ?? []).map((group) => group.replace(/^0{1,3}/, '')).join(':');
  return `${text}/${length}`;
}
