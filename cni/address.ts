// Chooses the ENI of an attachment, leases one of its addresses to the attachment, and writes the lease's note.

import type { PodLimits } from '../agent/attachment/limits.ts';
import { deviceOf } from '../agent/host/devices.ts';
import type { NodeFile, NodePodEni } from '../agent/host/node-file.ts';
import { Failure } from '../agent/messages/failure.ts';
import { findLease, type Lease, orUndo, takeLease } from '../agent/pool/lease.ts';
import { noteLease } from '../agent/pool/lease-note.ts';
import { systemClock } from '../agent/port/clock.ts';
import { isOwnNamespace, ownerOf, type Variables } from './call.ts';

export interface UsableEni extends NodePodEni {
  device: string;
}

/** Number of leases that one ADD takes at most when a garbage collection at the same time ends each of them. */
const TRIES = 4;

/** @throws NETNS_GONE, NETNS_OWN */
export function requireNamespace(netns: string): void {
  const own = isOwnNamespace(netns);
  if (own === undefined)
    throw new Failure('NETNS_GONE', `${netns} is not there, or no network namespace`, { netns });
  if (own) throw new Failure('NETNS_OWN', `${netns} is the network namespace of the node`, { netns });
}

/** The pod ENIs with a device, in the order in which they are filled. @throws POD_ENI_DOWN when there is none. */
export function usableEnis(node: NodeFile): UsableEni[] {
  const usable = node.podEnis.flatMap((eni) => {
    const device = deviceOf(eni.mac);
    return device === undefined ? [] : [{ ...eni, device }];
  });
  if (usable.length > 0) return usable;
  throw new Failure('POD_ENI_DOWN', 'no pod ENI has its device', { podEnis: node.podEnis });
}

/**
 * Leases an address of one of the ENIs and writes the lease's note.
 *
 * @param passOver addresses that this ADD has tried without success.
 * @throws ALREADY_ATTACHED when this owner has a lease, POOL_EXHAUSTED, LEASE_LOST.
 */
export function takeAddress(
  variables: Variables,
  network: string,
  node: NodeFile,
  enis: UsableEni[],
  limits: PodLimits = {},
  passOver?: ReadonlySet<string>,
): { lease: Lease; eni: UsableEni } {
  const owner = ownerOf(variables);
  if (findLease(owner) !== undefined) {
    throw new Failure('ALREADY_ATTACHED', `${owner.containerId} has ${owner.ifName} already`, { ...owner });
  }
  for (let tries = 0; tries < TRIES; tries += 1) {
    const lease = takeLease(owner, {
      eniIds: enis.map((eni) => eni.eniId),
      restMs: node.restMs,
      nowMs: systemClock.bootMs(),
      lowWater: node.lowWater,
      ...(passOver === undefined ? {} : { passOver }),
    });
    const eni = enis.find((one) => one.eniId === lease.eniId);
    if (eni === undefined) throw new Failure('INTERNAL', `leased ${lease.address} of an ENI not asked for`);
    const { netns, pod } = variables;
    if (orUndo(lease, () => noteLease(lease, { netns, network, pod, limits, madeMs: systemClock.bootMs() })))
      return { lease, eni };
  }
  throw new Failure('LEASE_LOST', 'a garbage collection ends the leases of this ADD as they are made');
}
