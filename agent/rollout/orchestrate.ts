// Carries a rollout out, from wherever its record stands. progress.ts decides what to do next; this file does it and writes to
// the record before and after.
import { type FailureCode, isFailure } from '../messages/failure.ts';
import { alarmWatch } from './alarm-watch.ts';
import { look } from './look.ts';
import {
  type Action,
  type ActionOf,
  advanced,
  decide,
  ended,
  halted,
  type Progress,
  stepsOf,
  withWaveNoted,
} from './progress.ts';
import { intend, send } from './send.ts';
import { subjectOf } from './spec.ts';
import { LOOK_MS, nowMs, type Orchestration, readFlag, sleep, type Work } from './work.ts';
import { countBoots, findStrays, join, setZone } from './zones.ts';

/** Milliseconds between two looks at the halt flag while nothing else is done. */
const FLAG_MS = 15_000;
const SAID_NO: FailureCode[] = ['EC2_DENIED', 'EC2_REFUSED', 'SSM_DENIED', 'SSM_REFUSED'];

/**
 * Resolves to where it stands at the end: done, rolled back, halted, or still running when it was stopped. Throws
 * ROLLOUT_LEASE_LOST.
 */
export async function orchestrate(given: Orchestration): Promise<Progress> {
  const { rollout, progress } = given.record;
  const known = { ours: false, pauseMs: LOOK_MS.first, written: undefined, unseen: false };
  try {
    return await carryOn({ ...given, rollout, progress, ...known });
  } catch (error) {
    // AWS refused the call, so it has changed nothing. The operator who mends the policy need not wait for the lease to end.
    if (isFailure(error, ...SAID_NO)) await given.record.release().catch(() => undefined);
    throw error;
  }
}

async function carryOn(work: Work): Promise<Progress> {
  const { rollout, record, stopped } = work;
  const lookAtAlarms = alarmWatch(work);
  let told = -1;
  while (!stopped.aborted) {
    work.progress = withWaveNoted(rollout, record.progress);
    await lookAtAlarms();
    const flag = work.progress.stage === 'ready' ? await readFlag(work) : undefined;
    const seen = { nowMs: nowMs(work), haltFlag: flag?.why, unseen: work.unseen };
    const action = decide(rollout, work.progress, seen);
    if (action.do !== 'end' && action.do !== 'halt' && work.progress.step !== told) {
      const step = stepsOf(rollout, work.progress)[work.progress.step];
      const nodes = 'instanceIds' in action ? action.instanceIds.length : 0;
      if (step !== undefined) work.tell({ kind: 'step', step, nodes });
      told = work.progress.step;
    }
    // Each function of `parts` takes the action of its own name. The compiler cannot follow that.
    await parts[action.do](work, action as never);
    if (action.do === 'end') break;
  }
  await record.release();
  return record.progress;
}

const parts: { [Do in Action['do']]: (work: Work, action: ActionOf<Do>) => Promise<void> } = {
  end,
  halt,
  advance,
  wait,
  intend,
  send,
  look,
  ask,
  join,
  count: countBoots,
  offer: setZone,
  promote: setZone,
  restore: setZone,
};

async function wait(work: Work, { untilMs }: ActionOf<'wait'>): Promise<void> {
  await sleep(work, Math.min(untilMs - nowMs(work), FLAG_MS));
  await work.record.keep();
}

async function advance(work: Work): Promise<void> {
  await work.record.save(advanced(work.progress, nowMs(work)));
}

async function halt(work: Work, { why }: { why: string }): Promise<void> {
  await work.record.save(halted(work.progress, nowMs(work), why));
  work.tell({ kind: 'halted', why });
}

async function end(work: Work): Promise<void> {
  const { progress, record, tell } = work;
  if (progress.state !== 'running') return;
  const strays = await findStrays(work);
  await record.save(ended(progress, nowMs(work), strays.length));
  tell({ kind: 'ended', state: record.progress.state, strays });
}

/** The operator's program may take longer than a lease lasts. */
async function ask(work: Work, { zone, after }: ActionOf<'ask'>): Promise<void> {
  const { rollout, clock, record, tell } = work;
  const { gate } = rollout.spec;
  if (gate?.command === undefined || work.gate === undefined) return advance(work);
  const zoneId = rollout.zones[zone]?.zoneId ?? '';
  const asking = work.gate({
    command: gate.command,
    timeoutMs: gate.timeoutSeconds * 1000,
    rollout: rollout.id,
    version: subjectOf(rollout.spec),
    zoneId,
    after,
  });
  let answer: Awaited<typeof asking> | undefined;
  while (answer === undefined) {
    answer = await Promise.race([asking, clock.sleep(FLAG_MS).then(() => undefined)]);
    if (answer === undefined) await record.keep();
  }
  tell({ kind: 'gate', ...answer });
  if (answer.passed) return advance(work);
  await halt(work, { why: `gate.command behind the wait after the ${after} in ${zoneId}: ${answer.said}` });
}
