import { findLease, releaseLease } from '../agent/pool/lease.ts';
import { systemClock } from '../agent/port/clock.ts';
import { isOwnNamespace, ownerOf, type Variables } from './call.ts';
import { removeAttachment } from './kernel.ts';

/**
 * Ends an attachment: the kernel's objects first, the lease last, so that a DEL killed in between is repeated
 * in full. Acts on the lease of this owner alone and never on prevResult; without a lease there is nothing to
 * do. The namespace may be gone, or be the node's own by a runtime's mistake: then only the node's side is left.
 */
export function del(variables: Variables): void {
  const lease = findLease(ownerOf(variables));
  if (lease === undefined) return;
  const enter = isOwnNamespace(variables.netns) === false;
  removeAttachment(lease.address, enter ? variables.netns : undefined);
  releaseLease(lease, systemClock.bootMs());
}
