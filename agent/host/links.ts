// Network devices and their addresses as iproute2 lists them. Devices are found by MAC and never by name: udev may rename one
// at any moment.

import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Failure } from '../messages/failure.ts';
import { lookAfresh } from '../port/exec.ts';
import { follow } from '../port/follow.ts';
import { linkIfPresent } from '../port/fs.ts';
import { must } from './command.ts';
import { parseIp, text } from './ip-json.ts';
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
  /** The device is on top of another or below others: bridge, bond, VLAN, ipvlan. */
  stacked: boolean;
  /** Bus of a real or paravirtual NIC (pci, virtio); undefined for a purely virtual device. */
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

/** All devices with their addresses. Starts one process. */
export async function listLinks(): Promise<Link[]> {
  const result = await must('KERNEL_QUERY', 'ip', ['-j', '-d', 'address', 'show']);
  const entries = parseIp(result.stdout);
  // Every namespace has a loopback device. When the kernel has not answered, `ip` lists nothing and still exits with 0.
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

/** Milliseconds between two looks without an event. */
const LOOK_MS = 1000;

/**
 * Waits until `found` is true for the devices. The kernel's link events wake it. Returns the devices, or undefined after
 * `timeoutMs`.
 */
export function waitForLinks(
  found: (links: Link[]) => boolean,
  timeoutMs: number,
): Promise<Link[] | undefined> {
  return lookAfresh(() => untilFound(found, timeoutMs));
}

async function untilFound(found: (links: Link[]) => boolean, timeoutMs: number): Promise<Link[] | undefined> {
  const before = await listLinks();
  if (found(before)) return before;
  const events = follow('ip', ['monitor', 'link'], timeoutMs);
  try {
    for (let ended = false; ; ) {
      const links = await listLinks();
      if (found(links)) return links;
      // Only after a look: the change may have come together with the end.
      if (ended) return undefined;
      // `ip monitor` does not say when it begins to listen. A change before that wakes nothing.
      ended = (await Promise.race([events.next(), delay(LOOK_MS, undefined, { ref: false })])) === 'ended';
    }
  } finally {
    events.stop();
  }
}

/** From /proc/sys, since `ip -j address` leaves the mode out. The file is absent where IPv6 is off. Mode 1 is `none`. */
function configuresItself(device: string): boolean {
  const mode = readSysctl(`net/ipv6/conf/${device}/addr_gen_mode`);
  return mode !== undefined && (mode !== '1' || readSysctl(`net/ipv6/conf/${device}/accept_ra`) !== '0');
}

/** Kernel driver of a NIC (`ena`, `virtio_net`), from sysfs; undefined for virtual devices. */
export function driverOf(device: string): string | undefined {
  const driver = linkIfPresent(`/sys/class/net/${device}/device/driver`);
  return driver === undefined ? undefined : basename(driver);
}
