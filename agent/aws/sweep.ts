// Deletes pod ENIs whose instances are gone. An ENI must be seen twice and have a minimum age, the number of deletions is
// limited, and each ENI is read again right before.

import { isFailure } from '../messages/failure.ts';
import type { Ec2, Eni } from './ec2.ts';
import { partsOf } from './paging.ts';
import { ownerOf, planSweep, type SweepItem, type SweepOptions } from './sweep-plan.ts';
import { CLUSTER_TAG, POD_ROLE, ROLE_TAG, SWEEP_SEEN_TAG } from './tags.ts';

/** Instances in one call. EC2 takes 200 values in a filter. Source: EC2 user guide, "Filter resources". */
const INSTANCES_PER_CALL = 100;
/** EC2's codes for: the ENI is attached. */
const IN_USE = ['InvalidNetworkInterface.InUse', 'InvalidParameterValue', 'OperationNotPermitted'];

export interface SweepResult {
  item: SweepItem;
  outcome: 'deleted' | 'marked' | 'kept' | 'failed';
  /** Why the ENI was kept, or why the deletion failed. */
  why?: string;
}

/** What a sweep would do now. Reads only. Throws when EC2 refuses or does not answer. */
export async function lookForLeftovers(ec2: Ec2, options: SweepOptions): Promise<SweepItem[]> {
  const tags = {
    [ROLE_TAG]: POD_ROLE,
    ...(options.cluster === undefined ? {} : { [CLUSTER_TAG]: options.cluster }),
  };
  const enis = await ec2.describeEnis({ tags, status: 'available' });
  return planSweep(enis, await liveOwners(ec2, enis), options, new Date());
}

/**
 * Carries a plan out, one ENI at a time, and reports each result at once. Stops between two ENIs when the signal comes. Throws
 * when EC2 denies a call or does not answer: the remaining calls would fail in the same way.
 */
export async function carryOut(
  ec2: Ec2,
  items: SweepItem[],
  stopped: AbortSignal,
  tell: (result: SweepResult) => void,
): Promise<void> {
  for (const item of items) {
    if (stopped.aborted) return;
    if (item.action === 'mark') tell(await mark(ec2, item));
    if (item.action === 'delete') tell(await remove(ec2, item));
  }
}

async function liveOwners(ec2: Ec2, enis: Eni[]): Promise<Set<string>> {
  const owners = [...new Set(enis.flatMap((eni) => ownerOf(eni) ?? []))];
  const live = new Set<string>();
  for (const part of partsOf(owners, INSTANCES_PER_CALL))
    for (const id of await ec2.describeLiveInstances(part)) live.add(id);
  return live;
}

async function mark(ec2: Ec2, item: SweepItem): Promise<SweepResult> {
  return attempt(item, async () => {
    await ec2.createTags(item.eniId, { [SWEEP_SEEN_TAG]: new Date().toISOString() });
    return { item, outcome: 'marked' };
  });
}

async function remove(ec2: Ec2, item: SweepItem): Promise<SweepResult> {
  return attempt(item, async () => {
    const live = await ec2.describeLiveInstances([item.instanceId]);
    if (live.length > 0) return { item, outcome: 'kept', why: 'its instance exists after all' };
    await ec2.deleteEni(item.eniId);
    return { item, outcome: 'deleted' };
  });
}

async function attempt(item: SweepItem, act: () => Promise<SweepResult>): Promise<SweepResult> {
  try {
    return await act();
  } catch (error) {
    if (!isFailure(error, 'EC2_REFUSED')) throw error;
    const code = String(error.facts['ec2Code']);
    // Another process deleted it, or an earlier call of this process whose answer was lost.
    if (code === 'InvalidNetworkInterfaceID.NotFound' || code === 'InvalidID')
      return { item, outcome: item.action === 'delete' ? 'deleted' : 'kept', why: 'gone already' };
    if (item.action === 'delete' && IN_USE.includes(code))
      return { item, outcome: 'kept', why: 'attached meanwhile' };
    return { item, outcome: 'failed', why: error.message };
  }
}
