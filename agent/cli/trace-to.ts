// Where a packet to one address goes, by the kernel's own answers: `ip route get` in the pod and on the node, and the egress
// table's verdict.
import ipaddr from 'ipaddr.js';
import { type Attachment, POD_VETH } from '../attachment/attachment.ts';
import { contains, rangeOf } from '../host/ipv4.ts';
import { IMDS_ADDRESS, IMDS_ADDRESS6, NFT_TABLE } from '../host/names.ts';
import { lookUp } from '../host/nft.ts';
import { run } from '../port/exec.ts';
import type { Seen, Step, WayName } from './trace-paths.ts';

/** The path by which a destination is meant to be reached. An IPv6 destination has the form that the kernel prints. */
export function wayTo(to: string, a: Attachment, serviceCidrs: string[]): WayName {
  if (isIpv6(to)) return wayTo6(to, a);
  const host = `${to}/32`;
  if (a.nodeAddresses.includes(to)) return 'node';
  if (to === IMDS_ADDRESS) return 'imds';
  if (serviceCidrs.some((cidr) => contains(cidr, host))) return 'service';
  const route = longest(to, [...a.routes, ...a.egressRoutes]);
  if (contains(subnetOf(a), host) && (route === undefined || !contains(subnetOf(a), route))) return 'vpc';
  if (route === undefined) return 'internet';
  return a.egressRoutes.includes(route) ? 'internet' : 'vpc';
}

function wayTo6(to: string, { ipv6 }: Attachment): WayName {
  if (ipv6?.nodeAddresses.includes(to) === true) return 'node6';
  if (to === IMDS_ADDRESS6) return 'imds6';
  return ipv6?.serviceCidrs.some((cidr) => contains6(cidr, to)) === true ? 'service6' : 'out6';
}

function contains6(cidr: string, address: string): boolean {
  return ipaddr.IPv6.parse(address).match(ipaddr.IPv6.parseCIDR(cidr));
}

/** Selects the pod's route that a packet to `to` takes; the default route only when no other matches. */
export function carrierOf(to: string, a: Attachment): (destination: string) => boolean {
  const six = isIpv6(to);
  const single = six ? [...(a.ipv6?.nodeAddresses ?? []), IMDS_ADDRESS6] : [...a.nodeAddresses, IMDS_ADDRESS];
  const carrier = single.includes(to)
    ? `${to}/${six ? 128 : 32}`
    : six
      ? (a.ipv6?.serviceCidrs.find((cidr) => contains6(cidr, to)) ?? '::/0')
      : (longest(to, [...a.routes, ...a.egressRoutes]) ?? 'default');
  return (destination) => destination === carrier;
}

function longest(to: string, cidrs: string[]): string | undefined {
  const size = (cidr: string) => rangeOf(cidr).last - rangeOf(cidr).first;
  return cidrs.filter((cidr) => contains(cidr, `${to}/32`)).sort((one, other) => size(one) - size(other))[0];
}

function subnetOf(a: Attachment): string {
  return `${a.address}/${a.prefixLength}`;
}

/** The kernel's decisions as steps: a step is wrong when the packet would go another way. */
export async function decisionsOf(to: string, way: WayName, seen: Seen, netns: string): Promise<Step[]> {
  const { attachment: a } = seen;
  const refused = way === 'imds6' || (way === 'imds' && !a.allowImds);
  const byEni = way === 'vpc' || way === 'out6' || way === 'imds6';
  const inPod = await routeGet(['nsenter', `--net=${netns}`, '--'], [to]);
  const decisions = [decision('pod', to, inPod, refused ? undefined : byEni ? a.ifName : POD_VETH)];
  if (way === 'internet' || (way === 'imds' && a.allowImds)) {
    const onNode = await routeGet([], [to, 'from', a.address, 'iif', a.hostLink]);
    const bootDevice = seen.node.get('bootDevice')?.text.split(' ')[0];
    decisions.push(decision('node', to, onNode, bootDevice), verdict(to, await lookUp('actions4', to), a));
  }
  const own = isIpv6(to) ? a.ipv6?.address : a.address;
  if (!byEni && !refused && own !== undefined)
    decisions.push(decision('node', own, await routeGet([], [own]), a.hostLink));
  return decisions;
}

interface Decision {
  device: string | undefined;
  said: string;
}

async function routeGet(entering: string[], args: string[]): Promise<Decision> {
  const [file = '', ...rest] = [
    ...entering,
    'ip',
    '-j',
    isIpv6(args[0] ?? '') ? '-6' : '-4',
    'route',
    'get',
    ...args,
  ];
  const result = await run(file, rest);
  try {
    const [route] = JSON.parse(result.stdout) as Record<string, unknown>[];
    const words = (['gateway', 'dev', 'prefsrc', 'table'] as const).flatMap((field) =>
      route?.[field] === undefined ? [] : `${LABELS[field]} ${String(route[field])}`,
    );
    return { device: String(route?.['dev'] ?? ''), said: words.join(' ') };
  } catch {
    const said = result.stderr.trim().split('\n').at(-1) ?? '';
    return { device: undefined, said: said.replace('RTNETLINK answers: ', '') };
  }
}

const LABELS = { gateway: 'via', dev: 'dev', prefsrc: 'src', table: 'table' } as const;

/** `wanted` undefined: the kernel should refuse the packet. */
function decision(
  where: 'pod' | 'node',
  to: string,
  { device, said }: Decision,
  wanted: string | undefined,
): Step {
  const text = `route get ${to}: ${said}`;
  if (device === wanted) return { where, what: 'decision', text, state: 'present' };
  return {
    where,
    what: 'decision',
    text,
    state: 'wrong',
    found: wanted === undefined ? 'it should be refused' : `it should leave by ${wanted}`,
    remedy:
      'see what is missing above; else `ip rule` and `ip route show table all` there for a route of another program',
  };
}

function verdict(to: string, found: string | undefined, a: Attachment): Step {
  const [node = ''] = a.nodeAddresses;
  const words: Record<string, string> = {
    return: 'no NAT',
    'goto keep_port': `source NAT to ${node}, its port kept where it is free`,
  };
  const said =
    found === undefined ? `source NAT to ${node}, any port` : (words[found.trim()] ?? found.trim());
  return {
    where: 'node',
    what: 'verdict',
    text: `actions4 of table inet ${NFT_TABLE} for ${to}: ${said}`,
    state: 'present',
  };
}

/**
 * The address of one host, neither multicast nor loopback, in the form that the kernel prints; undefined for any other text.
 */
export function hostOf(text: string): string | undefined {
  if (isIpv6(text)) {
    if (!ipaddr.IPv6.isValid(text)) return undefined;
    const address = ipaddr.IPv6.parse(text);
    const ranges = ['multicast', 'loopback', 'unspecified', 'linkLocal', 'ipv4Mapped'];
    return ranges.includes(address.range()) ? undefined : address.toRFC5952String();
  }
  if (!/^\d{1,3}(?:\.\d{1,3}){3}$/.test(text)) return undefined;
  const parts = text.split('.').map(Number);
  const [first = 0] = parts;
  const one = parts.every((part) => part <= 255) && first > 0 && first < 224 && first !== 127;
  return one ? text : undefined;
}

function isIpv6(address: string): boolean {
  return address.includes(':');
}
