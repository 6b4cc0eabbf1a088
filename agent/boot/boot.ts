// The boot: runs the sequence of phases under one deadline and gives a verdict. A transient failure is tried again within its
// phase's budget; a permanent failure, a spent budget or the deadline ends the boot with a named code.

import { setImmediate as breathe } from 'node:timers/promises';
import type { Config } from '../config/schema.ts';
import { holdDescriptors } from '../host/descriptors.ts';
import { digestOf, rememberDigests } from '../host/digest.ts';
import { type Lock, takeLock } from '../host/lock.ts';
import { isStartedBySystemd, notifySystemd } from '../host/notify.ts';
import { Failure } from '../messages/failure.ts';
import { failureOf } from '../messages/kinds.ts';
import { POOL } from '../pool/entry.ts';
import type { Clock } from '../port/clock.ts';
import type { Log } from '../port/log.ts';
import { invocation } from '../port/runtime.ts';
import { type Context, openContext } from './context.ts';
import { converge } from './converge.ts';
import { type Deadline, openDeadline } from './deadline.ts';
import { isBooted } from './facts/booted.ts';
import type { BundleState } from './facts/bundle-state.ts';
import { configOfFiles } from './facts/config.ts';
import type { Facts } from './facts/facts.ts';
import { budgetSeconds, type Check, type Phase, type PhaseName } from './phase.ts';
import { deleteUnattached } from './phases/attach/leftovers.ts';
import { type Runner, sequence } from './sequence.ts';
import {
  failureStatus,
  type PhaseStatus,
  type Progress,
  pendingPhases,
  type Status,
  statusOf,
} from './verdict/status.ts';

/** A receiver of the boot's progress: the terminal, the journal, systemd, the status file. */
export type Watcher = (status: Status, phase: PhaseStatus) => Promise<void> | void;

export interface BootOptions {
  clock: Clock;
  log: Log;
  watchers: Watcher[];
  /**
   * `to-us`: another version began this boot and handed it over to this version. A failure is then not the verdict, since the
   * version that handed over goes on. `back`: this version handed the boot over and has it again. In both cases this version
   * finishes the boot, whatever version the zone wants.
   */
  handedOver?: 'to-us' | 'back' | undefined;
  /** What is already known of the zone's bundle; without it, install asks. */
  bundle?: BundleState | undefined;
}

export interface Outcome {
  status: Status;
  context: Context;
  /** The executable that has to finish the boot, when this node is behind its zone's version. */
  handOver?: string;
}

/**
 * Milliseconds that a run started by a person waits for another run to end. The lock of a killed run is free within moments.
 */
const LOCK_PATIENCE_MS = 5_000;

/**
 * Runs all phases. Resolves with the final status, ready or failed. Rejects only with ALREADY_RUNNING: then the run that has
 * the lock gives the verdict.
 */
export async function bootNode(options: BootOptions): Promise<Outcome> {
  const { clock, log } = options;
  const deadline = openDeadline(clock, options.handedOver === undefined && isBooted());
  const context = openContext({
    clock,
    log,
    mode: { kind: 'boot', asBooted: false, handedOver: options.handedOver !== undefined },
    onThrottled: (ms) => {
      context.phaseEndsAt += deadline.extend(ms);
    },
  });
  context.bundle = options.bundle;
  const facts: Facts = {};
  const progress: Progress = {
    ...{ context, facts, deadline },
    phases: pendingPhases(),
    degraded: new Map(),
    startedAt: clock.now(),
  };
  const runner = runnerOf(progress, options);
  let lock: Lock | undefined;
  const spare = holdDescriptors();
  try {
    // The deadline binds identify too, so the files' value counts until user data can be read.
    const early = configOfFiles()?.boot;
    if (early !== undefined) deadline.configure(early.deadlineSeconds, early.throttleExtensionSeconds);
    lock = await takeLock(POOL.lock, clock, await lockPatienceMs(clock, deadline));
    deadline.begin();
    // The executable is hashed piece by piece while this process waits for IMDS and EC2. Install asks for the digest.
    digestOf(invocation().executable).catch(() => {});
    // Every boot asks EC2. Loading the SDK now costs no time, since IMDS has yet to answer.
    import('../aws/ec2-sdk.ts').catch(() => {});
    const { staged } = await sequence(context, runner.run, (more) => {
      Object.assign(facts, more);
      if (more.node !== undefined) begin(more.node.config.boot, deadline);
    });
    // The staged version finishes this boot, under the same deadline.
    if (staged !== undefined)
      return { status: statusOf(progress, 'booting'), context, handOver: `${staged}/eniboot` };
    deadline.close();
    return { status: statusOf(progress, 'ready'), context };
  } catch (error) {
    const failure = failureOf(error);
    if (failure.code === 'ALREADY_RUNNING') throw failure;
    spare.release();
    const running = runner.running();
    running.state = 'failed';
    const leftBehind = await giveBackUnattached(context, facts);
    const status = statusOf(progress, 'failed', {
      ...failureStatus(failure, running.name),
      ...(leftBehind.length === 0 ? {} : { facts: { ...failure.facts, leftBehind } }),
    });
    if (lock !== undefined) {
      await tell(options, status, running);
      if (options.handedOver !== 'to-us') deadline.close();
    }
    return { status, context };
  } finally {
    spare.release();
    if (lock !== undefined) rememberDigests();
    lock?.release();
  }
}

/** After so many runs without a verdict in one boot, another run would most likely crash too. */
const MAX_ATTEMPTS = 10;

/**
 * Ends the boot with a verdict after MAX_ATTEMPTS runs. The limit is below systemd's (StartLimitBurst in eniboot.service), so
 * that the boot ends with a verdict and `boot.onFailure`, and not with a unit that systemd has given up. Runs after identify,
 * which reads the configured action.
 *
 * @throws CRASH_LOOP
 */
function begin(boot: Config['boot'], deadline: Deadline): void {
  deadline.configure(boot.deadlineSeconds, boot.throttleExtensionSeconds);
  if (deadline.attempts <= MAX_ATTEMPTS) return;
  throw new Failure('CRASH_LOOP', `${deadline.attempts - 1} runs of this boot have ended without a verdict`, {
    attempts: deadline.attempts,
  });
}

/**
 * A person can run the command again. systemd does not: a boot that gives up here leaves a machine without kubelet. So under
 * systemd the wait is as long as the other run may last: until its deadline, plus the time it takes to give ENIs back.
 */
async function lockPatienceMs(clock: Clock, deadline: Deadline): Promise<number> {
  if (!isStartedBySystemd()) return LOCK_PATIENCE_MS;
  const patienceMs = Math.max(0, deadline.at() - clock.bootMs()) + GIVE_BACK_MS + LOCK_PATIENCE_MS;
  // In microseconds. The boot that follows asks for more time itself.
  await notifySystemd([
    '--status=waiting for the lock',
    `EXTEND_TIMEOUT_USEC=${Math.ceil(patienceMs) * 1000}`,
  ]);
  return patienceMs;
}

/** Milliseconds to spend on giving ENIs back to EC2 after the boot has failed. */
const GIVE_BACK_MS = 5_000;

/** IDs of ENIs that could not be given back. A boot has one failure; an error here adds no second one. */
async function giveBackUnattached(context: Context, { node }: Facts): Promise<string[]> {
  if (node === undefined) return [];
  context.phaseEndsAt = context.clock.bootMs() + GIVE_BACK_MS;
  try {
    return await deleteUnattached(context, node);
  } catch (error) {
    context.log.warn('what was created was not looked for', { reason: String(error) });
    return [];
  }
}

/** Runs each phase within its budget, and tells the watchers. `running` is the phase that runs now or ran last. */
function runnerOf(progress: Progress, options: BootOptions): { run: Runner; running(): PhaseStatus } {
  const { context, phases, deadline } = progress;
  const { clock } = options;
  let [state] = phases as [PhaseStatus];
  /** The last failure after which a phase was tried again, and how often that phase had failed by then. */
  let retried: Retried | undefined;
  return { run, running: () => state };

  async function run<Observed>(phase: Phase<Observed>): Promise<Observed> {
    state = phases.find((one) => one.name === phase.name) ?? state;
    const book = bookOf(state, context);
    context.phaseEndsAt = Math.min(clock.bootMs() + budgetSeconds[phase.name] * 1000, deadline.at());
    state.state = 'running';
    let last: Failure | undefined;
    for (let tries = 0; ; tries += 1) {
      state.attempts = tries + 1;
      await tell(options, statusOf(progress, 'booting'), state);
      try {
        if (clock.bootMs() >= deadline.at()) throw last ?? pastDeadline(phase.name, retried);
        const observed = await attempt(phase, state);
        state.state = 'done';
        book();
        await tell(options, statusOf(progress, 'booting'), state);
        return observed;
      } catch (error) {
        book();
        last = failureOf(error);
        await pauseAfter(last, tries, phase.name);
        retried = { phase: phase.name, times: tries + 1, failure: last };
        phase.forget?.();
      }
    }
  }

  /** One try of one phase: observes, plans and applies until nothing is left to change, then judges the last observation. */
  async function attempt<Observed>(phase: Phase<Observed>, { name }: PhaseStatus): Promise<Observed> {
    const observed = await converge(phase, context, (changes) => {
      state.rounds.push(changes.map((change) => change.summary));
      state.changes = [...new Set(state.rounds.flat())];
    });
    await breathe();
    progress.degraded.set(name, phase.degradations?.(observed) ?? []);
    state.checks = phase.judge(observed);
    const failed = state.checks.find((check) => check.result === 'fail');
    if (failed !== undefined) throw failureOfCheck(failed);
    return observed;
  }

  /** @throws the failure when it is permanent, or when no time is left for another try */
  async function pauseAfter(failure: Failure, tries: number, phase: string): Promise<void> {
    const pause = Math.min(4_000, 250 * 2 ** tries) * (0.5 + Math.random() / 2);
    if (!failure.transient || clock.bootMs() + pause >= context.phaseEndsAt) throw failure;
    const { code, message } = failure;
    options.log.warn('phase failed, trying again', { phase, code, reason: message });
    await context.waiting(clock.sleep(pause));
  }
}

/** Adds the time from now on to the phase's status. */
function bookOf(state: PhaseStatus, context: Context): () => void {
  const started = performance.now();
  const waitedBefore = context.waitedMs();
  return () => {
    state.ms = Math.round(performance.now() - started);
    state.waitMs = Math.round(context.waitedMs() - waitedBefore);
  };
}

interface Retried {
  phase: PhaseName;
  times: number;
  failure: Failure;
}

/** @param retried what an earlier phase spent the time on, if it was tried again. */
function pastDeadline(phase: PhaseName, retried: Retried | undefined): Failure {
  const message = `the boot's deadline was over when ${phase} began`;
  if (retried === undefined) return new Failure('DEADLINE', message, { phase });
  const { times, failure } = retried;
  const before = `${retried.phase} had failed ${times} times before, the last time with ${failure.code}: ${failure.message}`;
  const earlier = { phase: retried.phase, times, code: failure.code };
  return new Failure('DEADLINE', `${message}; ${before}`, { phase, earlier });
}

function failureOfCheck(check: Check): Failure {
  return new Failure(check.code ?? 'INTERNAL', check.summary, { check: check.id, ...check.evidence });
}

async function tell(options: BootOptions, status: Status, phase: PhaseStatus): Promise<void> {
  for (const watcher of options.watchers) {
    try {
      await watcher(status, phase);
    } catch (error) {
      // For example, the disk behind standard output is full. A watcher that fails does not fail the boot.
      options.log.warn('progress not told', { reason: String(error) });
    }
  }
}
