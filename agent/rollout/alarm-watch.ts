// Whether an alarm has gone off since a rollout began, even if it is over by now. CloudWatch returns the states of a hundred
// alarms in one call, but the history of one alarm only: the history is read only of alarms whose state has changed.
import type { AlarmState } from '../aws/alarms.ts';
import { type FailureCode, isFailure } from '../messages/failure.ts';
import { alarmed } from './progress.ts';
import { watchedAlarms } from './spec.ts';
import type { Work } from './work.ts';

type Sight =
  | { kind: 'clear' }
  /** The rollout halts once the batch in flight is judged. `seenMs`: what goes off from then on has not been reported yet. */
  | { kind: 'fired'; why: string; seenMs: number }
  /** CloudWatch does not answer: no step may begin. */
  | { kind: 'unseen'; why: string };

/** Milliseconds after which the states are read again: while a batch is in flight, and before a step begins. */
const FRESH_MS = { out: 15_000, ready: 1_000 };
/** Milliseconds for which CloudWatch may fail to answer before the rollout halts. */
const UNSEEN_MS = 300_000;
/** Milliseconds after which a change of state is sure to be in the history: an assumption, AWS gives no figure. */
const LAG_MS = 60_000;
/** Alarms that one message names. */
const NAMED = 3;

interface Fired {
  why: string;
  /** Milliseconds since the epoch; undefined where CloudWatch gives no time. */
  atMs: number | undefined;
}

/** CloudWatch refuses, or its answer cannot be used. */
const BLINDING: FailureCode[] = [
  'CLOUDWATCH_FAILED',
  'CLOUDWATCH_DENIED',
  'CLOUDWATCH_THROTTLED',
  'CLOUDWATCH_REFUSED',
];

/**
 * Reads the alarms while they count and records what has gone off. A rollback does not read them: an alarm may be its reason.
 */
export function alarmWatch(work: Work): () => Promise<void> {
  const { rollout, record, tell, haltFor } = work;
  const names = watchedAlarms(rollout.spec);
  const watch = watchAlarms(work, names);
  return async () => {
    const { progress } = work;
    if (names.length === 0 || haltFor !== undefined || progress.state !== 'running') return;
    if (progress.back !== undefined || progress.alarmed !== undefined) return;
    const freshMs = progress.stage === 'ready' ? FRESH_MS.ready : FRESH_MS.out;
    const sight = await watch(progress.watchedFromMs ?? rollout.startedMs, freshMs);
    if (sight.kind === 'unseen' && !work.unseen) tell({ kind: 'alarm', seen: false, why: sight.why });
    work.unseen = sight.kind === 'unseen';
    if (sight.kind !== 'fired') return;
    tell({ kind: 'alarm', seen: true, why: sight.why });
    await record.save(alarmed(progress, sight.why, sight.seenMs));
    work.progress = record.progress;
  };
}

/**
 * Whether one of the alarms has gone off since a time, milliseconds since the epoch. A successful look is not repeated within
 * `freshMs`.
 */
function watchAlarms({ aws, clock, record }: Work, names: readonly string[]) {
  /** When the last successful look began, by the boot clock; before the first one `begunMs` counts instead. */
  let lookedMs: number | undefined;
  const begunMs = clock.bootMs();
  /** By alarm, the time of its last change of state, where the history since then holds no ALARM. */
  const harmless = new Map<string, number>();

  return async (sinceMs: number, freshMs: number): Promise<Sight> => {
    const startedMs = clock.bootMs();
    if (lookedMs !== undefined && startedMs - lookedMs < freshMs) return { kind: 'clear' };
    const nowMs = clock.now().getTime();
    try {
      const fired = await findFired(sinceMs);
      lookedMs = startedMs;
      if (fired.length === 0) return { kind: 'clear' };
      // CloudWatch's clock may be ahead of the clock used here, and the look itself takes time.
      const seenMs = Math.max(nowMs, ...fired.map(({ atMs = 0 }) => atMs + 1));
      return { kind: 'fired', why: sentence(fired), seenMs };
    } catch (error) {
      if (!isFailure(error, ...BLINDING)) throw error;
      const unseenMs = clock.bootMs() - (lookedMs ?? begunMs);
      const why = `the alarms could not be read for ${Math.round(unseenMs / 1000)} s: ${error.code}: ${error.message}`;
      return unseenMs < UNSEEN_MS ? { kind: 'unseen', why } : { kind: 'fired', why, seenMs: sinceMs };
    }
  };

  async function findFired(sinceMs: number): Promise<Fired[]> {
    // There may be hundreds of calls, which take longer than a lease.
    await record.keep();
    const states = new Map((await aws.describeAlarms(names)).map((one) => [one.name, one]));
    const fired: Fired[] = [];
    for (const name of names) {
      const one = await lookAt(name, states.get(name), sinceMs);
      if (one !== undefined) fired.push(one);
    }
    return fired;
  }

  async function lookAt(
    name: string,
    alarm: AlarmState | undefined,
    sinceMs: number,
  ): Promise<Fired | undefined> {
    if (alarm === undefined) return { why: `the alarm ${name} no longer exists`, atMs: undefined };
    const { state, reason, changedMs } = alarm;
    if (state === 'ALARM') return wentOff(name, changedMs, reason);
    if (changedMs !== undefined && (changedMs < sinceMs || harmless.get(name) === changedMs))
      return undefined;
    await record.keep();
    const event = await aws.firstAlarm(name, sinceMs);
    if (event !== undefined) {
      const { why, atMs } = wentOff(name, event.atMs, event.reason);
      return { why: `${why} (it is ${state} again)`, atMs };
    }
    if (changedMs !== undefined && clock.now().getTime() - changedMs > LAG_MS) harmless.set(name, changedMs);
    return undefined;
  }
}

function wentOff(name: string, atMs: number | undefined, reason: string): Fired {
  const at = atMs === undefined ? '' : ` at ${new Date(atMs).toISOString().slice(0, 19)}Z`;
  return { why: `the alarm ${name} went off${at}: ${reason}`, atMs };
}

function sentence(fired: readonly Fired[]): string {
  const more = fired.length - NAMED;
  const named = fired.slice(0, NAMED).map(({ why }) => why);
  return `${named.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}
