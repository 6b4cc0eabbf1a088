// shrink: prefixes and ENIs go back to EC2. Whatever is asked of EC2 is written down first, and is only
// forgotten here when EC2 no longer shows it; what a killed run left open is finished first.
import type { Ec2 } from '../aws/ec2.ts';
import { isFailure } from '../messages/failure.ts';
import type { Balance } from '../pool/balance.ts';
import { forget, leavingPrefixes, retire, startLeaving } from '../pool/give-back.ts';
import { endLeavingEni, leavingEnis, startLeavingEni } from '../pool/leaving-enis.ts';
import { listOwned, type Owned } from '../pool/pool.ts';
import { describeUnattached, lookUp } from './attach-apply.ts';
import { openAttempts } from './attach-attempts.ts';
import { refreshTables } from './egress.ts';
import { type Boot, nodeOf } from './phase.ts';
import type { Refilled } from './reconcile.ts';

/** How long a describe may go on showing prefixes that EC2 has taken; the next run looks again. Milliseconds. */
const LAG_MS = 10_000;
/** How long a detachment may take before it is left to the next run. Milliseconds. */
const DETACH_MS = 60_000;

/** Takes prefixes nobody uses out of circulation and gives them back, with the ENI they leave empty. */
export async function giveAway(
  plan: Extract<Balance, { kind: 'give' }>,
  boot: Boot,
  done: Refilled,
): Promise<void> {
  const rest = { nowMs: boot.clock.bootMs(), restMs: boot.config.pool.restSeconds * 1000 };
  for (const owned of plan.prefixes) {
    // A pod may have come since the look the plan was made from.
    if (retire(owned, rest)) startLeaving(owned, 'given', rest.nowMs);
  }
  for (const eniId of plan.eniIds) if (!isInUse(eniId)) startLeavingEni(eniId);
  await finishLeaving(boot, done);
}

/** Goes on with everything that is leaving, whichever run began it. Returns the ENIs that are gone. */
export async function finishLeaving(boot: Boot, done: Refilled): Promise<string[]> {
  const ec2 = await boot.ec2();
  const gone: string[] = [];
  for (const eniId of leavingEnis()) {
    // A boot ran in between, found it still attached and put its addresses into the pool again.
    if (isInUse(eniId)) endLeavingEni(eniId);
    else if (await returnEni(ec2, eniId, boot)) {
      for (const owned of listOwned().filter((one) => one.eniId === eniId)) forgetOne(owned, boot);
      endLeavingEni(eniId);
      gone.push(eniId);
      boot.pods = boot.pods.filter((pod) => pod.eniId !== eniId);
      done.changes.push(`gave ${eniId} back to EC2`);
    } else {
      done.waiting.push(`EC2 has not let go of ${eniId} yet`);
    }
  }
  const given = leavingPrefixes().filter((one) => one.why === 'given' && !leavingEnis().includes(one.eniId));
  for (const eniId of new Set(given.map((one) => one.eniId))) {
    const ofEni = given.filter((one) => one.eniId === eniId);
    const left = await returnPrefixes(ec2, eniId, ofEni, boot);
    for (const owned of ofEni.filter((one) => !left.includes(one.cidr))) {
      forgetOne(owned, boot);
      done.changes.push(`gave ${owned.cidr} of ${eniId} back to EC2`);
    }
    if (left.length > 0) done.waiting.push(`EC2 still shows ${left.join(', ')} on ${eniId}`);
  }
  await refreshTables(boot, listOwned());
  return gone;
}

/**
 * Deletes ENIs of this node that are attached to nothing: a run before the last reboot was killed between
 * detaching and deleting one, and what it had written down went with the boot.
 */
export async function deleteLeftovers(boot: Boot, done: Refilled): Promise<void> {
  const ec2 = await boot.ec2();
  const asked = openAttempts().map((attempt) => attempt.eniId);
  for (const { eniId } of await describeUnattached(ec2, boot)) {
    if (asked.includes(eniId)) continue;
    if (await accepted(boot.waiting(ec2.deleteEni(eniId)), boot))
      done.changes.push(`deleted ${eniId}, which was attached to nothing`);
  }
}

/**
 * An ENI with a prefix that is not on its way back. One that EC2 does not show may still have its pods, and EC2 may show
 * it again.
 */
function isInUse(eniId: string): boolean {
  const given = leavingPrefixes().filter((one) => one.why === 'given');
  return listOwned().some((owned) => owned.eniId === eniId && !given.some((one) => isSame(one, owned)));
}

/** Detaches and deletes an ENI. True when EC2 no longer knows it. */
async function returnEni(ec2: Ec2, eniId: string, boot: Boot): Promise<boolean> {
  const endsAt = Math.min(boot.until(), boot.clock.bootMs() + DETACH_MS);
  let asked: 'nothing' | 'detach' | 'delete' = 'nothing';
  for (let pause = 250; ; pause = Math.min(4_000, pause * 2)) {
    const eni = await lookUp(ec2, eniId, boot);
    if (eni === undefined) return true;
    const { attachment } = eni;
    // Somebody has attached it to another instance: it is no longer ours to delete.
    if (attachment !== undefined && attachment.instanceId !== nodeOf(boot).identity.instanceId) return true;
    if (attachment === undefined && asked !== 'delete') {
      if (await accepted(boot.waiting(ec2.deleteEni(eniId)), boot)) asked = 'delete';
    } else if (attachment?.status === 'attached' && asked === 'nothing') {
      if (await accepted(boot.waiting(ec2.detachEni(attachment.attachmentId)), boot)) asked = 'detach';
    }
    if (boot.clock.bootMs() + pause >= endsAt) return false;
    await boot.waiting(boot.clock.sleep(pause));
  }
}

/** Returns those that EC2 still shows. */
async function returnPrefixes(ec2: Ec2, eniId: string, given: Owned[], boot: Boot): Promise<string[]> {
  const endsAt = Math.min(boot.until(), boot.clock.bootMs() + LAG_MS);
  let asked = false;
  for (let pause = 250; ; pause = Math.min(2_000, pause * 2)) {
    const eni = await lookUp(ec2, eniId, boot);
    if (eni === undefined) return [];
    const shown = [...eni.prefixes, ...eni.secondaryAddresses.map((address) => `${address}/32`)];
    const left = given.map((one) => one.cidr).filter((cidr) => shown.includes(cidr));
    if (left.length === 0) return [];
    if (!asked) asked = await accepted(boot.waiting(ec2.unassignAddresses(eniId, left)), boot);
    if (boot.clock.bootMs() + pause >= endsAt) return left;
    await boot.waiting(boot.clock.sleep(pause));
  }
}

/** False when EC2 refuses: what it shows next tells whether that matters. */
async function accepted(call: Promise<void>, boot: Boot): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    if (!isFailure(error, 'EC2_REFUSED')) throw error;
    boot.log.warn('EC2 refused', { reason: error.message });
    return false;
  }
}

function forgetOne(owned: Owned, boot: Boot): void {
  forget(owned, boot.clock.bootMs());
}

function isSame(a: Owned, b: Owned): boolean {
  return a.eniId === b.eniId && a.cidr === b.cidr;
}
