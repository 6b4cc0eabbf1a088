import { findLease, type Lease, releaseLease } from '../agent/pool/lease.ts';
import { notedNamespace } from '../agent/pool/lease-note.ts';
import { systemClock } from '../agent/port/clock.ts';
import { isOwnNamespace, ownerOf, type Variables } from './call.ts';
import { removeAttachment } from './kernel.ts';
import { timed } from './stopwatch.ts';

/** Ends an attachment. Uses only the lease of this owner and never prevResult. Without a lease there is nothing to do. */
export function del(variables: Variables): void {
  const lease = timed('lease', () => findLease(ownerOf(variables)));
  if (lease !== undefined) endLease(lease, variables.netns);
}

/**
 * Removes the kernel's objects first and ends the lease last, so that a DEL that was killed in between can be repeated
 * in full.
 */
export function endLease(lease: Lease, netns: string): void {
  detach(lease, netns);
  timed('lease', () => releaseLease(lease, systemClock.bootMs()));
}

/**
 * Removes the kernel's objects of a lease in the given namespace and, when ADD noted another one, in that as well: the
 * path may lead to another pod by now. The namespaces need not exist. The node's own namespace is never used.
 */
export function detach(lease: Lease, netns: string): void {
  const paths = new Set([netns, notedNamespace(lease) ?? '']);
  const namespaces = [...paths].filter((one) => isOwnNamespace(one) === false);
  timed('kernel', () => removeAttachment(lease.address, namespaces));
}
