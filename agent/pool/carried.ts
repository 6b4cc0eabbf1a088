// Addresses of the pool that somebody carries who has not leased them, and who that is.
import { findCarriers } from '../host/carriers.ts';
import { podIpv6 } from '../host/ipv6.ts';
import type { NodePodEni } from '../host/node-file.ts';
import { statIfPresent } from '../port/fs.ts';
import { type Lease, listLeases } from './lease.ts';
import { noteOf } from './lease-note.ts';
import { type Entry, listEntries } from './pool.ts';

export interface Carried {
  address: string;
  eniId: string;
  /** What carries it: a path of the network namespace. */
  netns: string;
  /** `namespace/name` of the pod whose namespace that is, or its container ID; undefined where it is no pod's. */
  pod: string | undefined;
}

/**
 * @returns beside them the namespaces that could not be looked into, each with why; undefined where this runtime cannot
 *   look at all.
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
    const pods = leases.filter((one) => one.inode === inode).map(({ lease }) => lease);
    const entries = new Set(addresses.flatMap(({ mac, address }) => known.get(`${mac} ${address}`) ?? []));
    return [...entries]
      .filter((entry) => !isTheirs(entry, inode, leases))
      .map(({ address, eniId }) => ({ address, eniId, netns, pod: nameOf(pods[0]) }));
  });
  return { carried, unseen: found.unseen };
}

/** Leased to whoever this namespace was noted for; where nothing is noted nobody can tell. */
function isTheirs(
  entry: Entry,
  inode: number,
  leases: { lease: Lease; inode: number | undefined }[],
): boolean {
  const owner = leases.find(({ lease }) => lease.address === entry.address && lease.eniId === entry.eniId);
  return owner !== undefined && (owner.inode === undefined || owner.inode === inode);
}

function nameOf(lease: Lease | undefined): string | undefined {
  if (lease === undefined) return undefined;
  const pod = noteOf(lease)?.pod;
  return pod === undefined ? lease.owner.containerId : `${pod.namespace}/${pod.name}`;
}

/** Of the namespace that was noted; undefined where none was, or it is gone or nobody can look at it. */
function inodeOf(lease: Lease): number | undefined {
  const netns = noteOf(lease)?.netns;
  try {
    return netns === undefined ? undefined : statIfPresent(netns)?.ino;
  } catch {
    return undefined;
  }
}
