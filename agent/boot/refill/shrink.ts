// shrink: gives prefixes and ENIs back to EC2. Each request to EC2 is written down first, and is forgotten here only when EC2
// no longer shows the object. What a killed run left open is finished first.
import type { Ec2 } from '../../aws/ec2.ts';
import { isFailure } from '../../messages/failure.ts';
import type { Balance } from '../../pool/balance.ts';
import { isSamePrefix, listOwned, type Owned } from '../../pool/entry.ts';
import { endLeavingEni, leavingEnis, startLeavingEni } from '../../pool/leaving-enis.ts';
import { forget, leavingPrefixes, retire, startLeaving } from '../../pool/retire.ts';
import type { Context } from '../context.ts';
import type { NodeFacts } from '../facts/facts.ts';
import { openAttempts } from '../phases/attach/attempts.ts';
import { describeUnattached, lookUp } from '../phases/attach/describe.ts';
import type { Refilled } from './reconcile.ts';

/** How long a describe may still show prefixes that EC2 has taken back; then the next run looks again. Milliseconds. */
const LAG_MS = 10_000;
/** How long a detachment may take before it is left to the next run. Milliseconds. */
const DETACH_MS = 60_000;

/**
 * Takes unused prefixes out of circulation and gives them back, with the ENI that they leave empty. @returns ENIs that are gone
 */
export async function returnToEc2(
  plan: Extract<Balance, { kind: 'give' }>,
  context: Context,
  node: NodeFacts,
  done: Refilled,
): Promise<string[]> {
  const rest = { nowMs: context.clock.bootMs(), restMs: node.config.pool.restSeconds * 1000 };
  for (const owned of plan.prefixes) {
    // A pod may have leased an address since the look from which the plan was made.
    if (retire(owned, rest)) startLeaving(owned, 'given', rest.nowMs);
  }
  for (const eniId of plan.eniIds) if (!isInUse(eniId)) startLeavingEni(eniId);
  return finishLeaving(context, node, done);
}

/** Goes on with everything that is leaving, whichever run began it. Returns the ENIs that are gone. */
export async function finishLeaving(context: Context, node: NodeFacts, done: Refilled): Promise<string[]> {
  const ec2 = await context.ec2();
  const gone: string[] = [];
  for (const eniId of leavingEnis()) {
    // A boot ran in between, found the ENI still attached and put its addresses into the pool again.
    if (isInUse(eniId)) endLeavingEni(eniId);
    else if (await returnEni(ec2, eniId, context, node)) {
      for (const owned of listOwned().filter((one) => one.eniId === eniId)) forgetOne(owned, context);
      endLeavingEni(eniId);
      gone.push(eniId);
      done.changes.push(`gave ${eniId} back to EC2`);
    } else {
      done.waiting.push(`EC2 has not let go of ${eniId} yet`);
    }
  }
  const given = leavingPrefixes().filter((one) => one.why === 'given' && !leavingEnis().includes(one.eniId));
  for (const eniId of new Set(given.map((one) => one.eniId))) {
    const ofEni = given.filter((one) => one.eniId === eniId);
    const left = await returnPrefixes(ec2, eniId, ofEni, context);
    for (const owned of ofEni.filter((one) => !left.includes(one.cidr))) {
      forgetOne(owned, context);
      done.changes.push(`gave ${owned.cidr} of ${eniId} back to EC2`);
    }
    if (left.length > 0) done.waiting.push(`EC2 still shows ${left.join(', ')} on ${eniId}`);
  }
  return gone;
}

/**
 * Deletes ENIs of this node that are attached to nothing. Such an ENI is left when a run before the last reboot was killed
 * between detaching and deleting it; the reboot removed what that run had written down.
 */
export async function deleteLeftovers(context: Context, node: NodeFacts, done: Refilled): Promise<void> {
  const ec2 = await context.ec2();
  const asked = openAttempts().map((attempt) => attempt.eniId);
  for (const { eniId } of await describeUnattached(ec2, context, node)) {
    if (asked.includes(eniId)) continue;
    if (await accepted(context.waiting(ec2.deleteEni(eniId)), context))
      done.changes.push(`deleted ${eniId}, which was attached to nothing`);
  }
}

/**
 * Whether the ENI has a prefix that is not on its way back to EC2. An ENI that EC2 does not show may still have its pods, and
 * EC2 may show it again.
 */
function isInUse(eniId: string): boolean {
  const given = leavingPrefixes().filter((one) => one.why === 'given');
  return listOwned().some((owned) => owned.eniId === eniId && !given.some((one) => isSamePrefix(one, owned)));
}

/** Detaches and deletes an ENI. True when EC2 no longer knows it. */
async function returnEni(ec2: Ec2, eniId: string, context: Context, node: NodeFacts): Promise<boolean> {
  const endsAt = Math.min(context.until(), context.clock.bootMs() + DETACH_MS);
  let asked: 'nothing' | 'detach' | 'delete' = 'nothing';
  for (let pause = 250; ; pause = Math.min(4_000, pause * 2)) {
    const eni = await lookUp(ec2, eniId, context);
    if (eni === undefined) return true;
    const { attachment } = eni;
    // The ENI was attached to another instance in the meantime, so this node must not delete it.
    if (attachment !== undefined && attachment.instanceId !== node.identity.instanceId) return true;
    if (attachment === undefined && asked !== 'delete') {
      if (await accepted(context.waiting(ec2.deleteEni(eniId)), context)) asked = 'delete';
    } else if (attachment?.status === 'attached' && asked === 'nothing') {
      if (await accepted(context.waiting(ec2.detachEni(attachment.attachmentId)), context)) asked = 'detach';
    }
    if (context.clock.bootMs() + pause >= endsAt) return false;
    await context.waiting(context.clock.sleep(pause));
  }
}

/** Returns the prefixes that EC2 still shows. */
async function returnPrefixes(ec2: Ec2, eniId: string, given: Owned[], context: Context): Promise<string[]> {
  const endsAt = Math.min(context.until(), context.clock.bootMs() + LAG_MS);
  let asked = false;
  for (let pause = 250; ; pause = Math.min(2_000, pause * 2)) {
    const eni = await lookUp(ec2, eniId, context);
    if (eni === undefined) return [];
    const shown = [...eni.prefixes, ...eni.secondaryAddresses.map((address) => `${address}/32`)];
    const left = given.map((one) => one.cidr).filter((cidr) => shown.includes(cidr));
    if (left.length === 0) return [];
    if (!asked) asked = await accepted(context.waiting(ec2.unassignAddresses(eniId, left)), context);
    if (context.clock.bootMs() + pause >= endsAt) return left;
    await context.waiting(context.clock.sleep(pause));
  }
}

/** False when EC2 refuses. What EC2 shows next tells whether that matters. */
async function accepted(call: Promise<void>, context: Context): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    if (!isFailure(error, 'EC2_REFUSED')) throw error;
    context.log.warn('EC2 refused', { reason: error.message });
    return false;
  }
}

function forgetOne(owned: Owned, context: Context): void {
  forget(owned, context.clock.bootMs());
}
