// Addresses of the pool that a network namespace has on an interface without a lease, and which namespace that is.
import { findCarriers } from '../attachment/carriers.ts';
import { podIpv6 } from '../host/ipv6.ts';
import type { NodePodEni } from '../host/node-file.ts';
import { statIfPresent } from '../port/fs.ts';
import { type Entry, listEntries } from './entry.ts';
import { type Lease, listLeases } from './lease.ts';
import { noteOf, podOf } from './lease-note.ts';

export interface Carried {
  address: string;
  eniId: string;
  /** A path of the network namespace that has the address. */
  netns: string;
  /** The pod to which the namespace belongs; undefined when it is no pod's. */
  pod: string | undefined;
}

/**
 * Looks into every network namespace that it can enter for addresses of the pool's ENIs.
 *
 * @returns the addresses, and in `unseen` the namespaces that could not be looked into, each with the reason; undefined
 *   when this runtime cannot look into namespaces.
 */
export function listCarried(podEnis: NodePodEni[]): { carried: Carried[]; unseen: string[] } | undefined {
  const found = findCarriers(new Set(podEnis.map((eni) => eni.mac)));
  if (found === undefined) return undefined;
  const leases = listLeases().map((lease) => ({ lease, inode: inodeOf(lease) }));
  const known = new Map<string, Entry>();
  for (const eni of podEnis) {
    for (const state of ['free', 'leased', 'cooling', 'retiring'] as const) {
      for (const entry of listEntries(state).filter((one) => one.eniId === eni.eniId)) {
        known.set(`${eni.mac} ${entry.address}`, entry);
        if (eni.ipv6Prefix !== undefined)
          known.set(`${eni.mac} ${podIpv6(eni.ipv6Prefix, entry.address)}`, entry);
      }
    }
  }
  const carried = found.carriers.flatMap(({ netns, inode, addresses }) => {
    const lease = leases.find((one) => one.inode === inode)?.lease;
    const pod = lease && podOf(lease);
    const entries = new Set(addresses.flatMap(({ mac, address }) => known.get(`${mac} ${address}`) ?? []));
    return [...entries]
      .filter((entry) => !isTheirs(entry, inode, leases))
      .map(({ address, eniId }) => ({ address, eniId, netns, pod }));
  });
  return { carried, unseen: found.unseen };
}

/**
 * Whether the address is leased to this namespace. A lease without a noted namespace counts as this one's, since its
 * namespace is unknown.
 */
function isTheirs(
  entry: Entry,
  inode: number,
  leases: { lease: Lease; inode: number | undefined }[],
): boolean {
  const owner = leases.find(({ lease }) => lease.address === entry.address && lease.eniId === entry.eniId);
  return owner !== undefined && (owner.inode === undefined || owner.inode === inode);
}

/** The inode of the lease's noted namespace; undefined when no namespace is noted, or it is gone or cannot be looked at. */
function inodeOf(lease: Lease): number | undefined {
  const netns = noteOf(lease)?.netns;
  try {
    return netns === undefined ? undefined : statIfPresent(netns)?.ino;
  } catch {
    return undefined;
  }
}
