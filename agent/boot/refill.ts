// refill: brings the pool back between its marks. Markers are first compared with EC2; then the pool grows as
// attach makes it, or prefixes and an ENI nobody needs go back. A run killed anywhere is finished by the next.
import { rmSync } from 'node:fs';
import type { Eni } from '../aws/ec2.ts';
import { readEni } from '../aws/metadata.ts';
import { takeLock } from '../host/lock.ts';
import { NODE_FILE } from '../host/node-file.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { type Balance, balance } from '../pool/balance.ts';
import { expireGone, halfRetired, leavingPrefixes, unretire } from '../pool/give-back.ts';
import { takeInventory } from '../pool/inventory.ts';
import { leavingEnis } from '../pool/leaving-enis.ts';
import { finishAdding, heldElsewhere, listOwned, ownedCidrs, POOL_DIR, POOL_LOCK } from '../pool/pool.ts';
import { systemClock } from '../port/clock.ts';
import { readJsonIfPresent, writeAtomic, writeIfChanged } from '../port/fs.ts';
import { createLog } from '../port/log.ts';
import { attach, capacityOf, targetOf } from './attach.ts';
import { describeUnattached } from './attach-apply.ts';
import { podEnisOf, poolSizeOf } from './attach-plan.ts';
import { requireBooted } from './booted.ts';
import { egress } from './egress.ts';
import { identify } from './identify.ts';
import { recallEnis, rememberEnis } from './known-enis.ts';
import { refreshNodeMetrics } from './metrics.ts';
import { nodeFile } from './node-facts.ts';
import { type Boot, nodeOf, type PodEni } from './phase.ts';
import { type Refilled, reconcile } from './reconcile.ts';
import { openSession } from './session.ts';
import { deleteLeftovers, finishLeaving, giveAway } from './shrink.ts';

/** Set by an ADD that finds the pool low; eniboot-refill.path watches it. */
const REFILL_WANTED = `${POOL_DIR}/refill-wanted`;
/** Boot, repair or collect may have the lock. */
const LOCK_PATIENCE_MS = 30_000;
/** One run's time in all: repair and boot wait for the lock meanwhile. */
const RUN_MS = 90_000;
/** A run that fails for a passing reason within this time tries once more. */
const RETRY_WITHIN_MS = 8_000;
const RETRY_PAUSE_MS = 500;
/** How often markers are compared with EC2 when nothing else calls for it: less than the timer's interval. */
const RECONCILE_MS = 240_000;

/**
 * @throws NOT_BOOTED when this boot has not become READY; ALREADY_RUNNING; EC2's failures: nothing that EC2 did
 * not confirm has changed then.
 */
export async function refill(): Promise<Refilled> {
  // First of all: who finds the pool low from here on is not served by what this run has seen.
  rmSync(REFILL_WANTED, { force: true });
  requireBooted('its pool is filled by boot');
  const lock = await takeLock(POOL_LOCK, systemClock, LOCK_PATIENCE_MS);
  const log = createLog({ level: 'error', form: 'text' });
  try {
    const session = openSession({
      clock: systemClock,
      log,
      counted: true,
      onThrottled: () => {},
    });
    session.phaseEndsAt = systemClock.bootMs() + RUN_MS;
    session.asBooted = true;
    await identify.observe(session);
    return await refillNode(session);
  } finally {
    // Whatever came of the run; a text that cannot be written is no reason to fail it.
    const reason = await refreshNodeMetrics();
    if (reason !== undefined) log.error('could not write metrics', { reason });
    lock.release();
  }
}

async function refillNode(boot: Boot): Promise<Refilled> {
  const done: Refilled = { changes: [], waiting: [] };
  const nowMs = boot.clock.bootMs();
  for (const owned of halfRetired()) unretire(owned);
  finishAdding();
  expireGone(nowMs);
  const past = readPast();
  const wanted = balanceOf(boot);
  if (
    wanted.kind === 'enough' &&
    !isUnfinished() &&
    nowMs - (past.reconciledMs ?? Number.NEGATIVE_INFINITY) < RECONCILE_MS
  )
    return done;
  if (wanted.kind === 'grow' && nowMs < past.notBeforeMs) {
    const seconds = Math.ceil((past.notBeforeMs - nowMs) / 1000);
    return {
      ...done,
      waiting: [`EC2 assigned nothing lately: the next request is in ${seconds} s at the earliest`],
    };
  }
  try {
    const first = past.reconciledMs === undefined;
    await level(boot, first, done).catch(async (error: unknown) => {
      // An answer that was lost on its way: only another look tells what EC2 has done.
      const early = boot.clock.bootMs() - nowMs < RETRY_WITHIN_MS;
      if (!isFailure(error) || !error.transient || !early) throw error;
      await boot.waiting(boot.clock.sleep(RETRY_PAUSE_MS));
      await level(boot, first, done);
    });
  } catch (error) {
    writePast(past, true, boot);
    throw error;
  }
  const short = balanceOf(boot).kind === 'grow';
  if (short) done.waiting.push('EC2 gives this node no more addresses now');
  writePast({ ...past, reconciledMs: nowMs }, short, boot);
  return done;
}

/** The run proper: what EC2 shows first, then what is wanted of it. */
async function level(boot: Boot, first: boolean, done: Refilled): Promise<void> {
  // It completes the VPC's CIDRs, which the egress table is made of, and keeps them for repair; the rest is repair's.
  await egress.apply([], await egress.observe(boot), boot);
  const attached = await observeEc2(boot, []);
  reconcile(boot, done);
  const gone = isUnfinished() ? await finishLeaving(boot, done) : [];
  await fill(without(gone, attached), 0, boot, done);
  const wanted = balanceOf(boot);
  if (wanted.kind === 'grow') await fill(await observeEc2(boot, gone), wanted.missing, boot, done);
  if (wanted.kind === 'give') await giveAway(wanted, boot, done);
  for (const { eniId, cidrs } of boot.pods) {
    for (const cidr of cidrs) {
      const held = heldElsewhere({ eniId, cidr });
      if (held === undefined) continue;
      done.waiting.push(`${cidr} now belongs to ${eniId} and is used there once it has left ${held.eniId}`);
    }
  }
  if (first) await deleteLeftovers(boot, done);
  await tellPlugin(boot);
}

/** Everything attached but the ENIs this run has seen go. Sets boot.pods to those of ours that stay. */
async function observeEc2(boot: Boot, gone: string[]): Promise<Eni[]> {
  const { attached } = await attach.observe(boot);
  if (attached === undefined)
    throw new Failure('EC2_UNAVAILABLE', 'EC2 does not answer: the pool stays as it is', {
      reasons: boot.degradations,
    });
  const left = without(gone, attached);
  const stay = podEnisOf(left).map((eni) => eni.eniId);
  boot.pods = boot.pods.filter((pod) => stay.includes(pod.eniId));
  return left;
}

/**
 * A describe may still show an ENI that is gone, and shows one as attached that is about to be detached: neither
 * gets addresses, and nobody waits for its device.
 */
function without(gone: string[], attached: Eni[]): Eni[] {
  const leaving = leavingEnis();
  return attached
    .filter((eni) => !gone.includes(eni.eniId))
    .map((eni) =>
      eni.attachment !== undefined && leaving.includes(eni.eniId)
        ? { ...eni, attachment: { ...eni.attachment, status: 'detaching' } }
        : eni,
    );
}

/** What attach does, with so many more addresses as its target; with none more, it only adds what EC2 shows. */
async function fill(attached: Eni[], missing: number, boot: Boot, done: Refilled): Promise<void> {
  const { config } = boot;
  const before = new Set(ownedCidrs());
  const present = podEnisOf(attached).reduce((sum, eni) => sum + poolSizeOf(eni), 0);
  const target = Math.max(1, present + missing);
  const unattached = missing > 0 ? await describeUnattached(await boot.ec2(), boot) : [];
  boot.config = { ...config, pods: { ...config.pods, max: target }, pool: { ...config.pool, target } };
  try {
    await attach.apply([], { attached, unattached, links: [], routes: [] }, boot);
  } finally {
    boot.config = config;
  }
  for (const { eniId, cidr } of listOwned())
    if (!before.has(cidr)) done.changes.push(`added ${cidr} of ${eniId}`);
}

/** The CNI plugin must know an ENI before it can use its addresses, and need not once they are gone. */
async function tellPlugin(boot: Boot): Promise<void> {
  const leaving = leavingEnis();
  boot.pods = boot.pods.filter((pod) => !leaving.includes(pod.eniId));
  for (const pod of boot.pods) if (pod.subnetCidr === '') pod.subnetCidr = await subnetCidrOf(pod, boot);
  rememberEnis(nodeOf(boot).identity.instanceId, {
    pods: boot.pods.map((pod) => pod.eniId),
    foreign: recallEnis(nodeOf(boot).identity.instanceId)?.foreign ?? [],
  });
  writeIfChanged(NODE_FILE, nodeFile(boot));
}

/** From EC2 as long as IMDS does not know a new ENI: until then no pod could use what the pool has of it. */
async function subnetCidrOf({ mac, subnetId }: PodEni, boot: Boot): Promise<string> {
  const known = await boot.waiting(readEni(boot.imds, mac, false));
  if (known !== undefined) return known.subnetCidr;
  const ec2 = await boot.ec2();
  const [subnet] = await boot.waiting(ec2.describeSubnets(nodeOf(boot).bootEni.vpcId, { ids: [subnetId] }));
  return subnet?.cidr ?? '';
}

function balanceOf(boot: Boot): Balance {
  const { pool } = boot.config;
  const leaving = leavingPrefixes();
  const prefixes = takeInventory({
    nowMs: boot.clock.bootMs(),
    restMs: pool.restSeconds * 1000,
  }).filter((prefix) => !leaving.some((one) => one.eniId === prefix.eniId && one.cidr === prefix.cidr));
  const known = boot.pods.length > 0 ? boot.pods.map((pod) => pod.eniId) : prefixes.map((one) => one.eniId);
  return balance(prefixes, [...new Set(known)], {
    target: targetOf(boot),
    lowWater: pool.lowWater,
    surplus: pool.surplus,
    maxPods: capacityOf(boot).maxPods,
  });
}

function isUnfinished(): boolean {
  return leavingPrefixes().length > 0 || leavingEnis().length > 0;
}

interface Past {
  /** Boot-clock milliseconds of the last comparison with EC2; absent before the first of this boot. */
  reconciledMs?: number;
  /** EC2 is not asked to grow the pool before: it could not, or did not answer. */
  notBeforeMs: number;
  /** Milliseconds of that pause; it doubles as long as nothing comes. */
  pauseMs: number;
}

const PAST = `${POOL_DIR}/refill.json`;
const FIRST_PAUSE_MS = 15_000;
const LONGEST_PAUSE_MS = 300_000;

function readPast(): Past {
  return { notBeforeMs: 0, pauseMs: 0, ...(readJsonIfPresent(PAST) as Partial<Past> | null | undefined) };
}

function writePast(before: Past, failed: boolean, boot: Boot): void {
  const nowMs = boot.clock.bootMs();
  const pauseMs = failed ? Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, before.pauseMs * 2)) : 0;
  const past: Past = { ...before, notBeforeMs: nowMs + pauseMs, pauseMs };
  writeAtomic(PAST, JSON.stringify(past), 0o600);
}
