// refill: brings the pool back between its marks. Markers are first compared with EC2. Then the pool grows in the way of
// attach, or unused prefixes and an unused ENI go back. When a run is killed, the next one finishes its work.
import { rmSync } from 'node:fs';
import type { Eni } from '../../aws/ec2.ts';
import { readEni } from '../../aws/metadata.ts';
import { takeLock } from '../../host/lock.ts';
import { earlierNodeFile, NODE_FILE } from '../../host/node-file.ts';
import { Failure, isFailure } from '../../messages/failure.ts';
import { type Balance, balance } from '../../pool/balance.ts';
import { isSamePrefix, listOwned, POOL } from '../../pool/entry.ts';
import { type RestOptions, takeInventory } from '../../pool/inventory.ts';
import { leavingEnis } from '../../pool/leaving-enis.ts';
import { finishAdding, heldElsewhere, ownedCidrs } from '../../pool/prefixes.ts';
import { expireGone, halfRetired, leavingPrefixes, unretire } from '../../pool/retire.ts';
import { type Clock, systemClock } from '../../port/clock.ts';
import { readIfPresent, readJsonIfPresent, writeAtomic } from '../../port/fs.ts';
import { createLog } from '../../port/log.ts';
import { apply } from '../apply.ts';
import { planFiles } from '../change.ts';
import { forgetEnis } from '../cloud.ts';
import { type Context, openContext } from '../context.ts';
import { converge } from '../converge.ts';
import { requireBooted } from '../facts/booted.ts';
import { capacityOf, targetOf } from '../facts/capacity.ts';
import type { Attached, NodeFacts, PodEni } from '../facts/facts.ts';
import { attach, sizeInPool } from '../phases/attach/attach.ts';
import { enisFile, recallEnis } from '../phases/attach/known-enis.ts';
import { observePodEnis } from '../phases/attach/pod-enis.ts';
import { observeVpc } from '../phases/egress/vpc.ts';
import { identify } from '../phases/identify.ts';
import { nodeFile } from '../phases/node-file.ts';
import { refreshNodeMetrics } from '../verdict/metrics.ts';
import { type Refilled, reconcile } from './reconcile.ts';
import { deleteLeftovers, finishLeaving, returnToEc2 } from './shrink.ts';

/** Boot, repair or collect may have the lock. */
const LOCK_PATIENCE_MS = 30_000;
/** The time of one run in all. Repair and boot wait for the lock meanwhile. */
const RUN_MS = 90_000;
/** A run that fails for a passing reason within this time tries once more. */
const RETRY_WITHIN_MS = 8_000;
const RETRY_PAUSE_MS = 500;
/** How often markers are compared with EC2 without another reason: less than the timer's interval. */
const RECONCILE_MS = 240_000;

/**
 * @throws NOT_BOOTED when this boot has not become READY; ALREADY_RUNNING; EC2's failures, after which only what EC2 confirmed
 * has changed.
 */
export async function refill(): Promise<Refilled> {
  // Removed first: a plugin that finds the pool low from here on needs another run, since this run may not see it.
  rmSync(POOL.refillWanted, { force: true });
  requireBooted('its pool is filled by boot');
  const lock = await takeLock(POOL.lock, systemClock, LOCK_PATIENCE_MS);
  const log = createLog({ level: 'error', form: 'text' });
  try {
    const context = openContext({ clock: systemClock, log, mode: { kind: 'refill', asBooted: true } });
    context.phaseEndsAt = systemClock.bootMs() + RUN_MS;
    const { node } = await identify(context).observe();
    return await refillNode(context, node);
  } finally {
    // Written after every run, also a failed one. A metrics file that cannot be written does not fail the run.
    const reason = await refreshNodeMetrics();
    if (reason !== undefined) log.error('could not write metrics', { reason });
    lock.release();
  }
}

async function refillNode(context: Context, node: NodeFacts): Promise<Refilled> {
  const { clock, cloud } = context;
  const done: Refilled = { changes: [], waiting: [] };
  const nowMs = clock.bootMs();
  for (const owned of halfRetired()) unretire(owned);
  finishAdding();
  expireGone(nowMs);
  const past = readMemory();
  const before = { pods: [], capacity: capacityOf(node.limits, node.config.pods, 0) };
  const wanted = balanceOf(context, node, before);
  const isDue = nowMs - (past.reconciledMs ?? Number.NEGATIVE_INFINITY) >= RECONCILE_MS;
  const isUntold = !isPluginTold() && nowMs >= past.notBeforeMs;
  if (wanted.kind === 'enough' && !isUnfinished() && !isDue && !isUntold) return done;
  if (wanted.kind === 'grow' && nowMs < past.notBeforeMs) {
    const seconds = Math.ceil((past.notBeforeMs - nowMs) / 1000);
    return {
      ...done,
      waiting: [`EC2 assigned nothing lately: the next request is in ${seconds} s at the earliest`],
    };
  }
  let attached: Attached;
  try {
    const first = past.reconciledMs === undefined;
    attached = await bringBetweenMarks(context, node, first, done).catch(async (error: unknown) => {
      // An answer may have been lost on its way: only another look shows what EC2 has done.
      const early = clock.bootMs() - nowMs < RETRY_WITHIN_MS;
      if (!isFailure(error) || !error.transient || !early) throw error;
      await context.waiting(clock.sleep(RETRY_PAUSE_MS));
      forgetEnis(cloud);
      cloud.vpcCidrs = undefined;
      return bringBetweenMarks(context, node, first, done);
    });
  } catch (error) {
    writeMemory(past, true, clock);
    throw error;
  }
  const short = balanceOf(context, node, attached).kind === 'grow';
  if (short) done.waiting.push('EC2 gives this node no more addresses now');
  writeMemory({ ...past, reconciledMs: nowMs }, short, clock);
  return done;
}

/** The work of a run: looks at what EC2 shows, then changes it as wanted. */
async function bringBetweenMarks(
  context: Context,
  node: NodeFacts,
  first: boolean,
  done: Refilled,
): Promise<Attached> {
  // Reads the VPC's CIDRs, which the egress table needs, and keeps them for repair. Repair does the rest.
  const { cidrs, note } = await observeVpc(context, node);
  await apply(planFiles(note), context);
  const gone: string[] = [];
  const view = (attached: readonly Eni[]) => without(gone, attached);
  /** Does what attach does, with this many addresses as target. With a target of 1 it only adds what EC2 shows. */
  const fill = async (target: number) => {
    const before = new Set(ownedCidrs());
    const phase = attach(context, node, { cidrs, publicAddress: undefined }, { target, view });
    const { seen, pods, capacity } = await converge(phase, context);
    for (const { eniId, cidr } of listOwned())
      if (!before.has(cidr)) done.changes.push(`added ${cidr} of ${eniId}`);
    return { pods, capacity, present: sizeInPool(seen.attached ?? []) };
  };

  const shown = await observePodEnis(context, node, view);
  if (shown.silence !== undefined)
    throw new Failure('EC2_UNAVAILABLE', 'EC2 does not answer: the pool stays as it is', {
      reason: shown.silence.message,
    });
  reconcile(shown.pods, restOf(context, node), done);
  if (isUnfinished()) {
    gone.push(...(await finishLeaving(context, node, done)));
    forgetEnis(context.cloud);
  }
  let filled = await fill(1);
  const wanted = balanceOf(context, node, filled);
  if (wanted.kind === 'grow') filled = await fill(filled.present + wanted.missing);
  if (wanted.kind === 'give') {
    gone.push(...(await returnToEc2(wanted, context, node, done)));
    filled = await fill(1);
  }
  tellWhatIsHeld(filled.pods, done);
  if (first) await deleteLeftovers(context, node, done);
  await tellPlugin(context, node, cidrs, filled.pods);
  return filled;
}

function tellWhatIsHeld(pods: readonly PodEni[], done: Refilled): void {
  for (const { eniId, cidrs } of pods) {
    for (const cidr of cidrs) {
      const held = heldElsewhere({ eniId, cidr });
      if (held === undefined) continue;
      done.waiting.push(`${cidr} now belongs to ${eniId} and is used there once it has left ${held.eniId}`);
    }
  }
}

/**
 * A describe may still show an ENI that is gone, and it shows an ENI as attached that is about to be detached. Neither gets
 * addresses, and the run does not wait for their devices.
 */
function without(gone: readonly string[], attached: readonly Eni[]): Eni[] {
  const leaving = leavingEnis();
  return attached
    .filter((eni) => !gone.includes(eni.eniId))
    .map((eni) =>
      eni.attachment !== undefined && leaving.includes(eni.eniId)
        ? { ...eni, attachment: { ...eni.attachment, status: 'detaching' } }
        : eni,
    );
}

/** The CNI plugin must know an ENI before it can use its addresses, and need not know it once they are gone. */
async function tellPlugin(
  context: Context,
  node: NodeFacts,
  vpcCidrs: readonly string[],
  attached: readonly PodEni[],
): Promise<void> {
  const leaving = leavingEnis();
  const pods: PodEni[] = [];
  for (const pod of attached.filter(({ eniId }) => !leaving.includes(eniId)))
    pods.push({ ...pod, subnetCidr: pod.subnetCidr || (await subnetCidrOf(pod, context, node)) });
  const { instanceId } = node.identity;
  const foreign = recallEnis(instanceId)?.foreign ?? [];
  const enis = enisFile(instanceId, { pods: pods.map((pod) => pod.eniId), foreign });
  const told = { path: NODE_FILE, text: nodeFile(node, vpcCidrs, pods), found: readIfPresent(NODE_FILE) };
  await apply(planFiles([enis, told]), context);
}

/** From EC2 while IMDS does not know a new ENI: until then, no pod could use the pool's addresses of that ENI. */
async function subnetCidrOf({ mac, subnetId }: PodEni, context: Context, node: NodeFacts): Promise<string> {
  const known = await context.waiting(readEni(context.imds, mac, false));
  if (known !== undefined) return known.subnetCidr;
  const ec2 = await context.ec2();
  const [subnet] = await context.waiting(ec2.describeSubnets(node.bootEni.vpcId, { ids: [subnetId] }));
  return subnet?.cidr ?? '';
}

function restOf({ clock }: Context, { config }: NodeFacts): RestOptions {
  return { nowMs: clock.bootMs(), restMs: config.pool.restSeconds * 1000 };
}

function balanceOf(context: Context, node: NodeFacts, { pods, capacity }: Attached): Balance {
  const { pool } = node.config;
  const leaving = leavingPrefixes();
  const all = takeInventory(restOf(context, node));
  const prefixes = all.filter((prefix) => !leaving.some((one) => isSamePrefix(one, prefix)));
  const known = pods.length > 0 ? pods.map((pod) => pod.eniId) : prefixes.map((one) => one.eniId);
  return balance(prefixes, [...new Set(known)], {
    target: targetOf(pool, capacity),
    lowWater: pool.lowWater,
    surplus: pool.surplus,
    maxPods: capacity.maxPods,
  });
}

function isUnfinished(): boolean {
  return leavingPrefixes().length > 0 || leavingEnis().length > 0;
}

/** False after a run that was killed between the pool and the plugin: no pod can use the addresses of that ENI. */
function isPluginTold(): boolean {
  const told = earlierNodeFile()?.podEnis ?? [];
  const leaving = leavingEnis();
  return listOwned().every(({ eniId }) => leaving.includes(eniId) || told.some((pod) => pod.eniId === eniId));
}

interface RefillMemory {
  /** Boot-clock milliseconds of the last comparison with EC2; absent before the first in this boot. */
  reconciledMs?: number;
  /** Before this moment EC2 is not asked to grow the pool, since it could not or did not answer. */
  notBeforeMs: number;
  /** Milliseconds of that pause; it doubles as long as EC2 gives nothing. */
  pauseMs: number;
}

const FIRST_PAUSE_MS = 15_000;
const LONGEST_PAUSE_MS = 300_000;

function readMemory(): RefillMemory {
  return {
    notBeforeMs: 0,
    pauseMs: 0,
    ...(readJsonIfPresent(POOL.refillPast) as Partial<RefillMemory> | null | undefined),
  };
}

function writeMemory(before: RefillMemory, failed: boolean, clock: Clock): void {
  const nowMs = clock.bootMs();
  const pauseMs = failed ? Math.min(LONGEST_PAUSE_MS, Math.max(FIRST_PAUSE_MS, before.pauseMs * 2)) : 0;
  const past: RefillMemory = { ...before, notBeforeMs: nowMs + pauseMs, pauseMs };
  writeAtomic(POOL.refillPast, JSON.stringify(past), 0o600);
}
