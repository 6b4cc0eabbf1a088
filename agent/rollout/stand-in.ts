// A canary that is gone or cannot be reached proves nothing: a node with its strata takes its place and goes before all others.
import type { FleetAws } from '../aws/fleet.ts';
import type { Judgement } from './judge.ts';
import { type Batch, type Gate, reportedVersion } from './plan.ts';
import { halted, type Progress, putStandIn, type Rollout, type StandIn, stepsOf } from './progress.ts';
import { subjectOf, targetTags } from './spec.ts';
import { type PlacedInstance, standInsFor } from './strata.ts';

/** Stand-ins of a rollout: the record has to fit into one parameter. */
const MOST_STAND_INS = 20;
/** Nodes that are looked up at most to find one whose SSM agent answers. */
const CANDIDATES = 50;

/**
 * The progress after canaries that are gone, of a batch or of the wait that a gate ends. Puts stand-ins into `rollout`. Halts
 * when the canary that is gone was a stand-in itself. Unchanged when no canary is gone or no node can stand in.
 */
export async function withStandIns(
  aws: FleetAws,
  rollout: Rollout,
  progress: Progress,
  batch: Batch | Gate,
  judgements: readonly Judgement[],
  nowMs: number,
): Promise<Progress> {
  if (progress.direction === 'back' || progress.state === 'halted' || !isOfCanaries(batch)) return progress;
  let next = progress;
  // A gate judges a canary that it cannot reach as failed.
  const proveNothing = batch.do === 'gate' ? ['gone'] : ['gone', 'unreachable'];
  for (const { instanceId } of judgements.filter((one) => proveNothing.includes(one.outcome))) {
    const zone = rollout.zones[batch.zone];
    const standsFor = zone?.stands?.[zone.nodes.indexOf(instanceId)] ?? [];
    if (zone === undefined || standsFor.length === 0) continue;
    const standIns = next.standIns ?? [];
    if (standIns.some((one) => one.instanceId === instanceId)) {
      const what = standsFor.join(', ');
      return halted(
        next,
        nowMs,
        `2 canaries in a row that stand for ${what} in ${zone.zoneId} are gone or do not answer`,
      );
    }
    const other = await findStandIn(aws, rollout, batch.zone, standsFor);
    if (other === undefined || standIns.length >= MOST_STAND_INS) continue;
    const standIn = { zone: batch.zone, instanceId: other, standsFor, ...placeBehind(zone.canaries, batch) };
    putStandIn(rollout, standIn);
    next = { ...next, standIns: [...standIns, standIn] };
    if (batch.do === 'gate') next = backTo(rollout, next, standIn, nowMs);
  }
  return next;
}

function isOfCanaries(batch: Batch | Gate): boolean {
  return batch.do === 'gate' ? batch.after === 'canary' : batch.kind === 'canary';
}

/** The place after the canaries of the same batch; at a gate, after all canaries. */
function placeBehind(canaries: readonly number[], batch: Batch | Gate): Pick<StandIn, 'to' | 'batches'> {
  let to = 0;
  for (const [at, count] of canaries.entries()) {
    to += count;
    if (to >= batch.to) return { to, batches: at + 1 };
  }
  return { to, batches: canaries.length };
}

/** Goes back from the gate to the batch of the stand-in; the wait and its gate then follow once more. */
function backTo(rollout: Rollout, progress: Progress, { zone, to }: StandIn, sinceMs: number): Progress {
  const step = stepsOf(rollout, progress).findIndex(
    (one) => one.do === 'update' && one.zone === zone && one.from === to,
  );
  return { ...progress, step, stage: 'ready', sinceMs, commands: [], left: undefined };
}

async function findStandIn(
  aws: FleetAws,
  { spec, zones }: Rollout,
  at: number,
  standsFor: readonly string[],
): Promise<string | undefined> {
  const { zoneId, nodes = [], canaries = [] } = zones[at] ?? {};
  const instances = new Map(
    (await aws.describeInstances(targetTags(spec), { zoneId })).map((one) => [one.instanceId, one]),
  );
  const able = nodes
    .slice(canaries.reduce((sum, count) => sum + count, 0))
    .flatMap((node) => instances.get(node) ?? [])
    .filter((one) => reportedVersion(one) !== subjectOf(spec));
  const candidates = standInsFor(standsFor, able as PlacedInstance[])
    .slice(0, CANDIDATES)
    .map((one) => one.instanceId);
  const online = new Set(await aws.findOnline(candidates));
  return candidates.find((node) => online.has(node));
}
