// Whether a pod's namespace has a network that another plugin made. eniboot makes a pod's first network: its default
// route, settings and rules apply to the whole namespace. So ADD refuses a pod that has a network already, whether
// eniboot is called for an additional network of Multus or after another plugin in a chain. Multus calls
// `clusterNetwork` first and the pod's other networks after it (CmdAdd in k8snetworkplumbingwg/multus-cni,
// pkg/multus/multus.go), so networks that come after eniboot never stop an ADD.
import { prefixOf } from '../kernel/bytes.ts';

export interface OwnNetwork {
  /** The pod's interface. The plugin before eniboot-ptp has made it and given it routes. */
  ifName: string;
  /** Name of the veth's end in the pod, the same in every attachment. */
  veth: string;
  /** Destinations of the attachment's routes in the main table, as CIDRs. */
  destinations: readonly string[];
  families: readonly (4 | 6)[];
}

interface Found {
  device: string;
  /** Hexadecimal digits in network order, then the prefix length. */
  destination: string;
}

/**
 * A sentence about a route of another network, about the default route if the other network has one. A route is another
 * network's when it goes by a device that eniboot did not make, or when it has no device and the same destination as
 * one of eniboot's routes. Every device that is up and has an address has a route; over IPv6, every device that is up
 * has one.
 *
 * @param route text of /proc/net/route.
 * @param route6 text of /proc/net/ipv6_route, which has the routes of all tables.
 */
export function otherNetwork(own: OwnNetwork, route: string, route6: string): string | undefined {
  const wanted = new Set(own.destinations.map(keyOf));
  const routes = own.families.flatMap((family) => (family === 4 ? routesIn(route) : routes6In(route6)));
  // When the pod's veth is there, an attachment may be too, and routes without a device may be its own. The kernel then
  // refuses a second link of this name.
  const attached = routes.some(({ device }) => device === own.veth);
  const theirs = routes.filter(({ device, destination }) =>
    // The kernel itself has an IPv6 default route without a device.
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

/** The kernel shows the device of such a route as `*` for IPv4, and as the loopback for IPv6. */
function isNowhere(device: string): boolean {
  return device === '*' || device === 'lo';
}

/** Columns: device, destination, gateway, flags, three counts, mask. Each number is in the machine's byte order. */
function routesIn(text: string): Found[] {
  return rowsOf(text).flatMap(([device = '', destination = '', , , , , , mask = '']) => {
    const bytes = /^[0-9A-F]{8}$/.test(destination) ? Buffer.from(destination, 'hex').reverse() : undefined;
    if (bytes === undefined) return [];
    const ones = Number.parseInt(mask, 16).toString(2).replaceAll('0', '').length;
    return [{ device, destination: `${bytes.toString('hex')}/${ones}` }];
  });
}

/** Columns: destination, its prefix length, source, its prefix length, router, metric, two counts, flags, device. */
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
