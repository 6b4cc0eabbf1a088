// Which network namespaces have addresses on a pod ENI. Every ipvlan of an ENI has the ENI's MAC, and the kernel lets
// any process with NET_ADMIN in its namespace add addresses to an ipvlan. Reads only.

import { inPod } from '../kernel/execute.ts';
import { messageOf } from '../messages/failure.ts';
import { isThere, listIfPresent, statIfPresent } from '../port/fs.ts';
import { hasLibc } from '../port/libc.ts';

/** A namespace that has at least one address on a device with one of the MACs. */
export interface Carrier {
  /** A path that leads to the namespace. */
  netns: string;
  /** The namespace's number, which is the same for all paths that lead to it. */
  inode: number;
  /** Addresses of both families as the kernel prints them, each with the MAC of its device. */
  addresses: { address: string; mac: string }[];
}

/** Where container runtimes mount the namespaces of their pods. */
const MOUNTED = '/run/netns';

/**
 * Looks into the namespaces of `ip netns` and of every process. It does not find a namespace that only an open
 * descriptor or a mount elsewhere keeps alive.
 *
 * @param macs lower case.
 * @returns the carriers, and in `unseen` the namespaces that it could not look into, each with the reason; undefined
 *   when this runtime has no netlink.
 */
export function findCarriers(
  macs: ReadonlySet<string>,
): { carriers: Carrier[]; unseen: string[] } | undefined {
  if (!hasLibc()) return undefined;
  const carriers: Carrier[] = [];
  const unseen: string[] = [];
  const seen = new Set([statIfPresent('/proc/self/ns/net')?.ino]);
  for (const netns of namespacePaths()) {
    try {
      const inode = statIfPresent(netns)?.ino;
      if (inode === undefined || seen.has(inode)) continue;
      const addresses = addressesIn(netns, macs);
      seen.add(inode);
      if (addresses.length > 0) carriers.push({ netns, inode, addresses });
    } catch (error) {
      const process = /^\/proc\/\d+/.exec(netns)?.[0];
      // The path of a process that has ended in the meantime is gone. While a process is ending, opening its path fails
      // with other errors.
      if (process !== undefined && !isThere(process)) continue;
      unseen.push(`${netns}: ${messageOf(error)}`);
    }
  }
  return { carriers, unseen };
}

function namespacePaths(): string[] {
  const processes = listIfPresent('/proc').filter((name) => /^\d+$/.test(name));
  return [
    ...listIfPresent(MOUNTED).map((name) => `${MOUNTED}/${name}`),
    ...processes.map((process) => `/proc/${process}/ns/net`),
  ];
}

function addressesIn(netns: string, macs: ReadonlySet<string>): Carrier['addresses'] {
  return inPod(netns, (kernel) => {
    const listing = kernel.listing('pod');
    return listing
      .links()
      .filter(({ mac }) => macs.has(mac))
      .flatMap(({ index, mac }) => listing.addressesOn(index).map((address) => ({ address, mac })));
  });
}
