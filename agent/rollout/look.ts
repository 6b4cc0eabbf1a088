// A batch in flight: what became of each of its nodes, once all have answered or are late.
import type { Invocation } from '../aws/fleet.ts';
import { partsOf } from '../aws/paging.ts';
import { commandMs, NODES_PER_COMMAND } from './document.ts';
import { asGone, isFailed, isGood, isUnheard, type Judgement, judge, type Over } from './judge.ts';
import type { Batch, Gate } from './plan.ts';
import { type ActionOf, alarmed, halted, judged, type Progress } from './progress.ts';
import { isWatched } from './send.ts';
import { counterLimits, subjectOf } from './spec.ts';
import { withStandIns } from './stand-in.ts';
import { goneOf, LOOK_MS, nowMs, readFlag, sleep, type Work } from './work.ts';

/** Milliseconds for a report to arrive after the node's own time is over. */
const REPORT_MS = 60_000;
const ENDED = new Set(['Success', 'Cancelled', 'Failed', 'TimedOut']);

/** Reads the batch's commands; once all of its nodes are judged, records the judgements. */
export async function look(work: Work, { batch, instanceIds }: ActionOf<'look'>): Promise<void> {
  const { progress, record, tell } = work;
  const alarms: string[] = [];
  let judgements: Judgement[] = [];
  for (const [at, part] of partsOf(instanceIds, NODES_PER_COMMAND).entries())
    judgements.push(...(await lookAt(work, batch, part, progress.commands[at] ?? '', alarms)));
  tell({ kind: 'look', home: judgements.length, of: instanceIds.length });
  if (judgements.length < instanceIds.length) {
    await record.keep();
    await sleep(work, work.pauseMs);
    work.pauseMs = Math.min(LOOK_MS.longest, work.pauseMs * 1.3);
    return;
  }
  judgements = await withoutGone(work, judgements);
  judgements = await withoutStubborn(work, batch, judgements);
  if (batch.do === 'update') judgements = judgements.map((one) => checked(work, one, batch));
  const next = await afterAll(work, batch, judgements, alarms);
  await record.save(next);
  for (const judgement of judgements) tell({ kind: 'node', judgement });
  tell({ kind: 'home', ...count(judgements) });
  if (next.state === 'halted') tell({ kind: 'halted', why: next.why ?? '' });
}

/** `alarms`: those that cancelled a command of the batch, by Run Command's account. */
async function afterAll(
  work: Work,
  batch: Batch | Gate,
  judgements: readonly Judgement[],
  [alarm]: readonly string[],
): Promise<Progress> {
  const { aws, rollout, progress } = work;
  const now = nowMs(work);
  const home = judged(rollout, progress, batch, judgements, now);
  const next = await withStandIns(aws, rollout, home, batch, judgements, now);
  if (alarm === undefined) return next;
  const told = next.alarmed === undefined ? alarmed(next, `the alarm ${alarm} went off`, now) : next;
  return halted(told, now, told.alarmed?.why ?? '');
}

/**
 * Judgements of those nodes of one command that have an end, and of all its nodes once it has expired. Adds to `alarms` those
 * that Run Command reports for it.
 */
async function lookAt(
  work: Work,
  batch: Batch | Gate,
  part: string[],
  commandId: string,
  alarms: string[],
): Promise<Judgement[]> {
  if (commandId === '') return part.map(neverSent);
  const { aws, rollout, progress } = work;
  const { spec } = rollout;
  const outMs = nowMs(work) - progress.sinceMs - REPORT_MS;
  const late = outMs >= commandMs(spec);
  // A command that a node has not begun by then will not begin there.
  const undelivered = outMs >= spec.node.deliverySeconds * 1000;
  const expected = {
    direction: progress.direction,
    version: subjectOf(spec),
    digests: rollout.digests,
    warnings: spec.node.warnings,
    limits: batch.do === 'gate' ? counterLimits(spec) : undefined,
  };
  const judgeAll = (invocations: Invocation[], over?: Over) => {
    const byNode = new Map(invocations.map((one) => [one.instanceId, one]));
    return part.flatMap((node) => judge(node, byNode.get(node), expected, over, undelivered) ?? []);
  };
  const invocations = await aws.listInvocations(commandId);
  const found = judgeAll(invocations);
  const rest = part.length - found.length;
  const all = rest === 0;
  // Nodes without an invocation: once the command has ended, this means that it did not target them.
  const unknown = part.length - invocations.length;
  const watched = spec.alarm !== undefined && isWatched(batch, progress);
  if (all ? !watched : !late && rest !== unknown) return found;
  if (!all && late) await aws.cancelCommand(commandId);
  const command = await aws.describeCommand(commandId);
  alarms.push(...(command?.alarms ?? []));
  // Only the listed command tells whether an alarm has cancelled it.
  if (all && !late && command === undefined && found.some((one) => one.outcome === 'cancelled')) return [];
  if (all || !(late || ENDED.has(command?.status ?? ''))) return found;
  // Invocations that were read before the command had ended may be older than its end.
  const last = await aws.listInvocations(commandId);
  const ends = judgeAll(last, late ? 'late' : endOf(command));
  if (last.length >= (command?.targets ?? part.length)) return ends;
  // ListCommandInvocations may lag behind ListCommands ("eventual consistency model"): a node that is not listed yet may have
  // been updated.
  const reason = 'Run Command has not listed it: what the node did is not known';
  return late
    ? ends.map((one) => (one.outcome === 'missing' ? { ...one, outcome: 'late', reason } : one))
    : ends.filter((one) => one.outcome !== 'missing');
}

function endOf(command: { status: string; details: string } | undefined): Over {
  if (command?.details === 'RateExceeded') return 'rate-exceeded';
  return command?.status === 'Cancelled' ? 'cancelled' : 'ended';
}

/** A node without a report may be gone: EC2 is asked for it. */
async function withoutGone(work: Work, judgements: Judgement[]): Promise<Judgement[]> {
  const silent = judgements.filter((one) => isUnheard(one.outcome)).map((one) => one.instanceId);
  if (silent.length === 0) return judgements;
  const gone = await goneOf(work, silent);
  return judgements.map((one) => (gone.has(one.instanceId) ? asGone(one, work.progress.direction) : one));
}

/**
 * A node that saw the halt flag is asked again. One that says so once more while the flag is down would stop the rollout, and its
 * rollback, for ever: it has failed. A question of a gate does not depend on the flag.
 */
async function withoutStubborn(
  work: Work,
  batch: Batch | Gate,
  judgements: Judgement[],
): Promise<Judgement[]> {
  const first = batch.do === 'update' && (work.progress.left?.round ?? 0) === 0;
  if (first || !judgements.some((one) => one.outcome === 'held')) return judgements;
  if (batch.do === 'update' && (await readFlag(work)) !== undefined) return judgements;
  return judgements.map((one) =>
    one.outcome === 'held'
      ? {
          ...one,
          outcome: 'untouched',
          reason: `it says that the halt flag is up, and it is down: ${one.reason}`,
        }
      : one,
  );
}

/** A node that has reported the update cannot have run the version before it. */
function checked({ rollout, progress }: Work, judgement: Judgement, batch: Batch): Judgement {
  const { instanceId, there } = judgement;
  if (progress.direction === 'forward' || batch.kind === 'stray' || there !== true) return judgement;
  const node = rollout.zones[batch.zone]?.nodes.indexOf(instanceId, batch.from);
  if (progress.exceptions.some((one) => one.zone === batch.zone && one.node === node)) return judgement;
  const reason = 'it keeps the version as one that it ran before, but has reported the update to it';
  return { instanceId, outcome: 'lied', reason };
}

function neverSent(instanceId: string): Judgement {
  return { instanceId, outcome: 'unsent', reason: 'it was halted before this node' };
}

function count(judgements: Judgement[]): { good: number; failed: number; other: number } {
  const good = judgements.filter((one) => isGood(one.outcome)).length;
  const failed = judgements.filter((one) => isFailed(one.outcome)).length;
  return { good, failed, other: judgements.length - good - failed };
}
