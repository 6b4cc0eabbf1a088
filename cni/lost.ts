// Leases that ended under their pod, and what the kernel has of an address that no lease accounts for.
import { Failure } from '../agent/messages/failure.ts';
import { isLeased, type Lease, releaseLease } from '../agent/pool/lease.ts';
import { leaseForCleaning } from '../agent/pool/lease-note.ts';
import { systemClock } from '../agent/port/clock.ts';
import { removeAttachment, removePodSide } from './kernel.ts';

/**
 * Looks once more whether the address is still this pod's, when its network stands. A garbage collection that saw the
 * lease and no links of it has ended it, and sees what this ADD has made meanwhile only when this comes later.
 *
 * @throws LEASE_LOST; the pod has nothing of the attachment then.
 */
export function requireLease(lease: Lease, netns: string, network: string): void {
  if (isLeased(lease)) return;
  removePodSide(lease.address, netns);
  removeOrphan(lease.address, network);
  throw new Failure('LEASE_LOST', `a garbage collection ended the lease of ${lease.address}`, {
    address: lease.address,
  });
}

/**
 * Removes from the node what is left of an address, unless it is leased. It is leased meanwhile, or an ADD that takes
 * the address would lose what it makes.
 */
export function removeOrphan(address: string, network: string): void {
  const owner = { containerId: `cleaner-${process.pid}`, ifName: 'none' };
  const lease = leaseForCleaning(address, owner, {
    netns: `/proc/${process.pid}/ns/net`,
    network,
    madeMs: systemClock.bootMs(),
  });
  if (lease === 'leased') return;
  removeAttachment(address, []);
  if (lease !== 'nobody') releaseLease(lease, systemClock.bootMs());
}
