// The boot, from identify to ready, under one deadline. A transient failure is tried again inside its
// phase's budget; a permanent one, an empty budget or the deadline ends the boot with a named code.
import { setImmediate as breathe } from 'node:timers/promises';
import { digestOf, rememberDigests } from '../host/digest.ts';
import { takeLock } from '../host/lock.ts';
import { isStartedBySystemd, notifySystemd } from '../host/notify.ts';
import { Failure } from '../messages/failure.ts';
import { failureOf } from '../messages/kinds.ts';
import { POOL_LOCK } from '../pool/pool.ts';
import type { Clock } from '../port/clock.ts';
import type { Log } from '../port/log.ts';
import { invocation } from '../port/runtime.ts';
import { attach } from './attach.ts';
import { giveBack } from './attach-apply.ts';
import { isBooted } from './booted.ts';
import type { BundleState } from './bundle.ts';
import { type Deadline, openDeadline } from './deadline.ts';
import { egress } from './egress.ts';
import { followBootDevice, identify } from './identify.ts';
import { install } from './install.ts';
import { kubelet } from './kubelet.ts';
import { configOfFiles } from './node-config.ts';
import type { Change, Check, Phase, PhaseName } from './phase.ts';
import { ready } from './ready.ts';
import { reserve } from './reserve.ts';
import { openSession, type Session } from './session.ts';
import {
  failureStatus,
  type PhaseStatus,
  type Progress,
  pendingPhases,
  type Status,
  statusOf,
} from './status.ts';
import { verify } from './verify.ts';

export const phases: readonly Phase<any, any>[] = [
  identify,
  reserve,
  egress,
  attach,
  install,
  kubelet,
  verify,
  ready,
];

/** Who is told how the boot goes: the terminal, the journal, systemd, the status file. */
export interface Watcher {
  progress(status: Status, phase: PhaseStatus): Promise<void> | void;
}

export interface SequenceOptions {
  clock: Clock;
  log: Log;
  watchers: Watcher[];
  /**
   * Another version began this boot and handed it to us: a failure is not the verdict, the other one goes on.
   * Or it is back with us, who had handed it over. Either way it is finished here, whatever the zone wants.
   */
  handedOver?: 'to-us' | 'back' | undefined;
  /** What is known of the zone's bundle already; without it install asks. */
  bundle?: BundleState | undefined;
}

export interface Outcome {
  status: Status;
  session: Session;
  /** The executable that has to finish the boot: this node was behind its zone's version. */
  handOver?: string;
}

/** Milliseconds a person waits for another run to end: a killed one's lock goes within moments. */
const LOCK_PATIENCE_MS = 5_000;

/**
 * Runs all phases. Resolves with the final status, ready or failed; rejects only with ALREADY_RUNNING: that
 * other run gives the verdict.
 */
export async function runSequence(options: SequenceOptions): Promise<Outcome> {
  const { clock } = options;
  const deadline = openDeadline(clock, options.handedOver === undefined && isBooted());
  const session = openSession({
    clock,
    log: options.log,
    handedOver: options.handedOver !== undefined,
    counted: true,
    onThrottled: (ms) => {
      session.phaseEndsAt += deadline.extend(ms);
    },
  });
  session.bundle = options.bundle;
  const budgets = Object.fromEntries(phases.map((phase) => [phase.name, phase.budgetSeconds]));
  const list = pendingPhases(budgets as Record<PhaseName, number>);
  const progress: Progress = {
    session,
    phases: list,
    startedAt: clock.now(),
    get attempts() {
      return deadline.attempts;
    },
    get deadlineMs() {
      return deadline.at();
    },
    get startedMs() {
      return deadline.startedMs;
    },
  };
  let running = list[0] as PhaseStatus;
  let lock: { release: () => void } | undefined;
  try {
    // Identify itself is bound by it, so what the files say of it counts before user data can be read.
    const early = configOfFiles()?.boot;
    if (early !== undefined) deadline.configure(early.deadlineSeconds, early.throttleExtensionSeconds);
    lock = await takeLock(POOL_LOCK, clock, await lockPatienceMs(clock, deadline));
    deadline.begin();
    // Read ahead and hashed by another process while this one waits for IMDS and EC2; install asks for it.
    digestOf(invocation().executable).catch(() => {});
    // Every boot asks EC2; loading the SDK now costs the time in which IMDS answers.
    import('../aws/ec2-sdk.ts').catch(() => {});
    for (const [at, phase] of phases.entries()) {
      running = list[at] as PhaseStatus;
      await runPhase(phase, running, progress, deadline, options);
      if (phase.name === 'install') rememberDigests();
      if (phase.name === 'identify') refuseCrashLoop(deadline);
      const staged = phase.name === 'install' ? session.bundle?.staged : undefined;
      // The other version finishes this boot, under the same deadline.
      if (staged !== undefined)
        return { status: statusOf(progress, 'booting'), session, handOver: `${staged}/eniboot` };
    }
    deadline.close();
    return { status: statusOf(progress, 'ready'), session };
  } catch (error) {
    const failure = failureOf(error);
    if (failure.code === 'ALREADY_RUNNING') throw failure;
    running.state = 'failed';
    const leftBehind = await giveBackUnattached(session);
    const status = statusOf(progress, 'failed', {
      ...failureStatus(failure, running.name),
      ...(leftBehind.length === 0 ? {} : { facts: { ...failure.facts, leftBehind } }),
    });
    if (lock !== undefined) {
      await tell(options, status, running);
      if (options.handedOver !== 'to-us') deadline.close();
    }
    return { status, session };
  } finally {
    lock?.release();
  }
}

/** Runs without a verdict, in one boot, after which another one would only be one more crash. */
const MAX_ATTEMPTS = 10;

/**
 * Below what systemd allows (StartLimitBurst in eniboot.service), so that the last word is a verdict and what
 * the operator wants done on failure, not a unit that systemd has given up. After identify, which tells what to act on.
 *
 * @throws CRASH_LOOP
 */
function refuseCrashLoop(deadline: Deadline): void {
  if (deadline.attempts <= MAX_ATTEMPTS) return;
  throw new Failure('CRASH_LOOP', `${deadline.attempts - 1} runs of this boot have ended without a verdict`, {
    attempts: deadline.attempts,
  });
}

/**
 * A person can call again; systemd does not: a boot that gives up here leaves a machine without kubelet. It waits for as
 * long as the other run may last, with its own deadline and the tidying up after it.
 */
async function lockPatienceMs(clock: Clock, deadline: Deadline): Promise<number> {
  if (!isStartedBySystemd()) return LOCK_PATIENCE_MS;
  const patienceMs = Math.max(0, deadline.at() - clock.bootMs()) + GIVE_BACK_MS + LOCK_PATIENCE_MS;
  // In microseconds; the boot after it asks for more by itself.
  await notifySystemd([
    '--status=waiting for the lock',
    `EXTEND_TIMEOUT_USEC=${Math.ceil(patienceMs) * 1000}`,
  ]);
  return patienceMs;
}

/** Milliseconds to spend on tidying up in EC2 after the boot has failed. */
const GIVE_BACK_MS = 5_000;

/** IDs of ENIs that could not be given back. A failed boot has one failure: this adds none. */
async function giveBackUnattached(session: Session): Promise<string[]> {
  if (session.node === undefined) return [];
  session.phaseEndsAt = session.clock.bootMs() + GIVE_BACK_MS;
  try {
    return await giveBack(session);
  } catch (error) {
    session.log.warn('what was created was not looked for', { reason: String(error) });
    return [];
  }
}

async function runPhase(
  phase: Phase<unknown, Change>,
  state: PhaseStatus,
  progress: Progress,
  deadline: Deadline,
  options: SequenceOptions,
): Promise<void> {
  const { session } = progress;
  const started = performance.now();
  const waitedBefore = session.waitedMs();
  session.phaseEndsAt = Math.min(options.clock.bootMs() + phase.budgetSeconds * 1000, deadline.at());
  state.state = 'running';
  let last: Failure | undefined;
  for (let tries = 0; ; tries += 1) {
    state.attempts = tries + 1;
    await tell(options, statusOf(progress, 'booting'), state);
    try {
      if (options.clock.bootMs() >= deadline.at()) {
        throw (
          last ??
          new Failure('DEADLINE', `the boot's deadline was over when ${phase.name} began`, {
            phase: phase.name,
          })
        );
      }
      await attempt(phase, state, session);
      state.state = 'done';
      book();
      await tell(options, statusOf(progress, 'booting'), state);
      if (phase.name === 'identify') {
        const { boot } = session.config;
        deadline.configure(boot.deadlineSeconds, boot.throttleExtensionSeconds);
      }
      return;
    } catch (error) {
      book();
      const failure = failureOf(error);
      last = failure;
      const pause = Math.min(4_000, 250 * 2 ** tries) * (0.5 + Math.random() / 2);
      if (!failure.transient || options.clock.bootMs() + pause >= session.phaseEndsAt) throw failure;
      options.log.warn('phase failed, trying again', {
        phase: phase.name,
        code: failure.code,
        reason: failure.message,
      });
      await session.waiting(options.clock.sleep(pause));
      await mend(phase, session);
    }
  }

  function book(): void {
    state.ms = Math.round(performance.now() - started);
    state.waitMs = Math.round(session.waitedMs() - waitedBefore);
  }
}

/** Before another try. What stands in the way of mending is what that will find. */
async function mend(phase: Phase<unknown, Change>, session: Session): Promise<void> {
  try {
    await followBootDevice(session);
    await phase.mend?.(session);
  } catch (error) {
    session.log.warn('not mended', { phase: phase.name, reason: String(error) });
  }
}

/** One try at one phase: what is there, what is missing, do it, and look whether it holds. */
async function attempt(phase: Phase<unknown, Change>, state: PhaseStatus, session: Session): Promise<void> {
  const observed = await phase.observe(session);
  const changes = phase.plan(observed, session);
  state.changes = [...new Set([...state.changes, ...changes.map((change) => change.summary)])];
  await phase.apply(changes, observed, session);
  await breathe();
  state.checks = await phase.verify(session);
  const failed = state.checks.find((check) => check.result === 'fail');
  if (failed !== undefined) throw failureOfCheck(failed);
}

function failureOfCheck(check: Check): Failure {
  return new Failure(check.code ?? 'INTERNAL', check.summary, { check: check.id, ...check.evidence });
}

async function tell(options: SequenceOptions, status: Status, phase: PhaseStatus): Promise<void> {
  for (const watcher of options.watchers) {
    try {
      await watcher.progress(status, phase);
    } catch (error) {
      // A full disk behind standard output, say: whoever cannot listen has no say in the boot.
      options.log.warn('progress not told', { reason: String(error) });
    }
  }
}
