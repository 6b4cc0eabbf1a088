// Leases that ended while their pods were running, and the kernel's objects of an address without a lease.
import { Failure } from '../agent/messages/failure.ts';
import { isLeased, type Lease, releaseLease } from '../agent/pool/lease.ts';
import { leaseForCleaning } from '../agent/pool/lease-note.ts';
import { systemClock } from '../agent/port/clock.ts';
import { removeAttachment, removePodSide } from './kernel.ts';

/**
 * Checks once more, after the network is made, whether the address is still this pod's. A garbage collection that saw
 * the lease and no links has ended the lease. It sees the links that this ADD has made only when it looks after they
 * were made.
 *
 * @throws LEASE_LOST; nothing of the attachment is left in the pod then.
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
 * Removes from the node what is left of an address, unless the address is leased. The address is leased during the
 * removal; otherwise an ADD that takes it could lose what it makes.
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
  if (lease !== 'absent') releaseLease(lease, systemClock.bootMs());
}
