import { findLease, type Lease, releaseLease } from '../agent/pool/lease.ts';
import { notedNamespace } from '../agent/pool/lease-note.ts';
import { systemClock } from '../agent/port/clock.ts';
import { isOwnNamespace, ownerOf, type Variables } from './call.ts';
import { removeAttachment } from './kernel.ts';
import { timed } from './stopwatch.ts';

/**
 * Ends an attachment. Acts on the lease of this owner alone and never on prevResult; without a lease there is
 * nothing to do.
 */
export function del(variables: Variables): void {
  const lease = timed('lease', () => findLease(ownerOf(variables)));
  if (lease !== undefined) endLease(lease, variables.netns);
}

/** The kernel's objects first, the lease last, so that what is killed in between is repeated in full. */
export function endLease(lease: Lease, netns: string): void {
  detach(lease, netns);
  timed('lease', () => releaseLease(lease, systemClock.bootMs()));
}

/**
 * Takes away what the kernel has of a lease, in the given namespace and in the one that ADD noted, should that be
 * another: the path may lead to another pod by now. Neither needs to be there, and the node's own is neither.
 */
export function detach(lease: Lease, netns: string): void {
  const paths = new Set([netns, notedNamespace(lease) ?? '']);
  const namespaces = [...paths].filter((one) => isOwnNamespace(one) === false);
  timed('kernel', () => removeAttachment(lease.address, namespaces));
}
