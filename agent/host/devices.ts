// Devices of the node as /sys shows them, read without a process.

import { listIfPresent, readIfPresent } from '../port/fs.ts';
import { POD_LINK_PREFIX } from './names.ts';
import { hostLinkOf } from './pod-link-name.ts';

const SYS_NET = '/sys/class/net';

/** The device with a pod ENI's MAC, found by looking at every device that is not a pod's link. */
export function deviceOf(mac: string): string | undefined {
  return listIfPresent(SYS_NET).find(
    (name) => !name.startsWith(POD_LINK_PREFIX) && macOf(name) === mac && !isStacked(name),
  );
}

/** The device's current name: udev and people rename devices while they are in use. The old name when the device is gone. */
export function deviceName({ index, name }: { index: number; name: string }): string {
  const isIt = (one: string) => readIfPresent(`${SYS_NET}/${one}/ifindex`)?.trim() === `${index}`;
  return isIt(name) ? name : (listIfPresent(SYS_NET).find(isIt) ?? name);
}

/**
 * Whether the device is on top of another, whose MAC it may have: a VLAN, a bridge, an ipvlan that another program made
 * on the node.
 */
function isStacked(device: string): boolean {
  return listIfPresent(`${SYS_NET}/${device}`).some((name) => name.startsWith('lower_'));
}

/** Whether the device is administratively up: IFF_UP is bit 0. */
export function isUp(device: string): boolean {
  return (Number(readIfPresent(`${SYS_NET}/${device}/flags`) ?? '0') & 1) === 1;
}

/** Lower case; undefined when there is no such device. */
function macOf(device: string): string | undefined {
  return readIfPresent(`${SYS_NET}/${device}/address`)?.trim().toLowerCase();
}

export function mtuOf(device: string): number | undefined {
  const mtu = readIfPresent(`${SYS_NET}/${device}/mtu`);
  return mtu === undefined ? undefined : Number(mtu);
}

export function hasHostLink(address: string): boolean {
  return macOf(hostLinkOf(address)) !== undefined;
}

export function listHostLinks(): string[] {
  return listIfPresent(SYS_NET).filter((name) => name.startsWith(POD_LINK_PREFIX));
}
