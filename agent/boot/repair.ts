// repair: re-asserts on a running node what a boot set up, and what holds its pods to their own addresses, from IMDS,
// /run and the kernel alone.
import { rememberDigests } from '../host/digest.ts';
import { takeLock } from '../host/lock.ts';
import { RUN_DIR } from '../host/names.ts';
import { Failure } from '../messages/failure.ts';
import { failureOf } from '../messages/kinds.ts';
import { POOL_LOCK } from '../pool/pool.ts';
import { systemClock } from '../port/clock.ts';
import { removeHalfWritten } from '../port/fs.ts';
import { requireBooted } from './booted.ts';
import { looking } from './look.ts';
import type { PhaseName } from './phase.ts';
import { driftText, podDrifts } from './pods.ts';
import { startIfDue } from './ready.ts';

/** Phases whose changes stay on this machine. */
const LOCAL = new Set<PhaseName>(['identify', 'reserve', 'egress', 'attach', 'install', 'kubelet', 'ready']);
/** Their eyes see for others: these without them would write down less than there is. */
const SEEN_BY = new Set<PhaseName>(['egress', 'attach']);
const NEEDS_SIGHT = new Set<PhaseName>(['attach', 'kubelet', 'ready']);

/** A refill may be waiting for EC2 under the lock; the timer would rather wait than fail. */
const LOCK_PATIENCE_MS = 45_000;

export interface Repaired {
  changes: string[];
  failures: { phase: string; code: string; message: string; remedy: string }[];
}

/** @throws NOT_BOOTED when this boot has not become READY; ALREADY_RUNNING. */
export async function repair(): Promise<Repaired> {
  requireBooted('there is nothing to repair towards');
  const lock = await takeLock(POOL_LOCK, systemClock, LOCK_PATIENCE_MS);
  // Those of files that are as they should be, and so are not written again.
  removeHalfWritten(RUN_DIR);
  try {
    return await looking(async (session, phases) => {
      const repaired: Repaired = { changes: [], failures: [] };
      const failed = (phase: PhaseName | 'pods', error: unknown) => {
        const { code, message, remedy } = failureOf(error);
        repaired.failures.push({ phase, code, message, remedy });
      };
      session.localOnly = true;
      session.asBooted = true;
      let sighted = true;
      for (const phase of phases) {
        if (!LOCAL.has(phase.name) || (!sighted && NEEDS_SIGHT.has(phase.name))) continue;
        let seen = false;
        try {
          const observed = await phase.observe(session);
          seen = true;
          const changes = phase.plan(observed, session);
          if (changes.length > 0) await phase.apply(changes, observed, session);
          repaired.changes.push(...changes.map((change) => change.summary));
        } catch (error) {
          failed(phase.name, error);
          if (phase.name === 'identify') return repaired;
          if (!seen && SEEN_BY.has(phase.name)) sighted = false;
        }
      }
      try {
        const { found, problems } = podDrifts(true);
        repaired.changes.push(...driftText(found).map((text) => `${text}: put back`));
        if (problems.length > 0) throw new Failure('KERNEL_CHANGE', problems.join('; '), { problems });
      } catch (error) {
        failed('pods', error);
      }
      rememberDigests();
      // The warm pool let the instance go: nobody else starts kubelet after boot.
      await startIfDue().catch((error: unknown) => failed('ready', error));
      return repaired;
    });
  } finally {
    lock.release();
  }
}
