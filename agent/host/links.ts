// Network devices, addresses, routes and rules through iproute2: `ip -j` to look, `ip -batch` to change.
// Devices are found by MAC, never by name: udev renames them while we look.

import { basename } from 'node:path';
import { Failure } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { follow } from '../port/follow.ts';
import { linkIfPresent } from '../port/fs.ts';
import { must } from './command.ts';
import { readSysctl } from './sysctl.ts';

export interface Link {
  index: number;
  name: string;
  /** Lower case. */
  mac: string;
  mtu: number;
  up: boolean;
  carrier: boolean;
  /** Kernel kind (veth, ipvlan, bridge …); undefined for hardware. */
  kind: string | undefined;
  /** The device sits on another one or carries others: bridge, bond, VLAN, ipvlan. */
  stacked: boolean;
  /** Bus of a real or paravirtual NIC (pci, virtio); undefined for purely virtual devices. */
  bus: string | undefined;
  /** The kernel would give the device an IPv6 address by itself (link-local or autoconfigured). */
  ipv6Auto: boolean;
  addresses: LinkAddress[];
}

export interface LinkAddress {
  family: 4 | 6;
  address: string;
  prefixLength: number;
  scope: string;
  dynamic: boolean;
}

export interface Route {
  family: 4 | 6;
  destination: string;
  gateway: string | undefined;
  device: string | undefined;
  protocol: string;
}

export interface Rule {
  priority: number;
  mark: number | undefined;
  mask: number | undefined;
  table: string;
}

const STACKED_KINDS = new Set([
  'bridge',
  'bond',
  'team',
  'vlan',
  'ipvlan',
  'macvlan',
  'macvtap',
  'ipvtap',
  'vrf',
  'dummy',
]);

/** All devices with their addresses: one spawn. */
export async function listLinks(): Promise<Link[]> {
  const result = await must('KERNEL_QUERY', 'ip', ['-j', '-d', 'address', 'show']);
  const entries = parse(result.stdout);
  // Every namespace has it: where the kernel has not answered, `ip` lists nothing and ends with 0 all the same.
  if (!entries.some((entry) => entry['ifname'] === 'lo'))
    throw new Failure('KERNEL_QUERY', 'ip address show lists no device, not even lo', {
      stderr: result.stderr.trim(),
    });
  return entries.map((entry) => {
    const flags = Array.isArray(entry['flags']) ? (entry['flags'] as string[]) : [];
    const info = (entry['linkinfo'] ?? {}) as Record<string, unknown>;
    const kind = text(info['info_kind']);
    return {
      index: Number(entry['ifindex']),
      name: String(entry['ifname']),
      mac: String(entry['address'] ?? '').toLowerCase(),
      mtu: Number(entry['mtu']),
      up: flags.includes('UP'),
      carrier: flags.includes('LOWER_UP') && !flags.includes('NO-CARRIER'),
      kind,
      stacked: kind !== undefined && STACKED_KINDS.has(kind),
      bus: text(entry['parentbus']),
      ipv6Auto: configuresItself(String(entry['ifname'])),
      addresses: ((entry['addr_info'] ?? []) as Record<string, unknown>[])
        .filter((address) => address['local'] !== undefined)
        .map((address) => ({
          family: address['family'] === 'inet6' ? 6 : 4,
          address: String(address['local']),
          prefixLength: Number(address['prefixlen']),
          scope: String(address['scope']),
          dynamic: address['dynamic'] === true,
        })),
    };
  });
}

/** The main table. */
export async function listRoutes(family: 4 | 6 = 4): Promise<Route[]> {
  const result = await must('KERNEL_QUERY', 'ip', ['-j', `-${family}`, 'route', 'show', 'table', 'main']);
  return parse(result.stdout).map((entry) => ({
    family,
    destination: String(entry['dst']),
    gateway: text(entry['gateway']),
    device: text(entry['dev']),
    protocol: String(entry['protocol'] ?? ''),
  }));
}

export async function listRules(family: 4 | 6 = 4): Promise<Rule[]> {
  const result = await must('KERNEL_QUERY', 'ip', ['-j', `-${family}`, 'rule', 'show']);
  return parse(result.stdout).map((entry) => ({
    priority: Number(entry['priority']),
    mark: number(entry['fwmark']),
    mask: number(entry['fwmask']),
    table: String(entry['table'] ?? ''),
  }));
}

/** Which device and source address the kernel would use to reach an address. */
export async function routeTo(address: string): Promise<{ device: string; source: string } | undefined> {
  const result = await run('ip', ['-j', '-4', 'route', 'get', address]);
  if (result.exitCode !== 0) return undefined;
  const entry = parse(result.stdout)[0];
  if (entry === undefined) return undefined;
  return { device: String(entry['dev'] ?? ''), source: String(entry['prefsrc'] ?? '') };
}

/**
 * Applies lines of `ip` commands in one process. Not atomic: every line must be safe to repeat.
 *
 * @param family needed for rules and for flushing routes, which otherwise are IPv4's.
 */
export async function ipBatch(lines: string[], family?: 6): Promise<void> {
  if (lines.length === 0) return;
  await must('KERNEL_CHANGE', 'ip', [...(family === undefined ? [] : ['-6']), '-batch', '-'], {
    input: `${lines.join('\n')}\n`,
  });
}

/**
 * Waits until `found` is true of the devices, woken by the kernel's own link events instead of polling.
 * Returns the devices, or undefined when `timeoutMs` is over.
 */
export async function waitForLinks(
  found: (links: Link[]) => boolean,
  timeoutMs: number,
): Promise<Link[] | undefined> {
  const before = await listLinks();
  if (found(before)) return before;
  // The monitor runs before the second look, so that nothing between the two is missed.
  const events = follow('ip', ['monitor', 'link'], timeoutMs);
  try {
    for (;;) {
      const links = await listLinks();
      if (found(links)) return links;
      if ((await events.next()) === 'ended') return undefined;
    }
  } finally {
    events.stop();
  }
}

/** From /proc/sys: `ip -j address` leaves it out. Absent where IPv6 is off. Mode 1 is `none`. */
function configuresItself(device: string): boolean {
  const mode = readSysctl(`net/ipv6/conf/${device}/addr_gen_mode`);
  return mode !== undefined && (mode !== '1' || readSysctl(`net/ipv6/conf/${device}/accept_ra`) !== '0');
}

/** Kernel driver of a NIC (`ena`, `virtio_net`), from sysfs; undefined for virtual devices. */
export function driverOf(device: string): string | undefined {
  const driver = linkIfPresent(`/sys/class/net/${device}/device/driver`);
  return driver === undefined ? undefined : basename(driver);
}

function parse(json: string): Record<string, unknown>[] {
  return json.trim() === '' ? [] : (JSON.parse(json) as Record<string, unknown>[]);
}

function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}

function number(value: unknown): number | undefined {
  if (typeof value === 'number') return value;
  return typeof value === 'string' ? Number(value) : undefined;
}
