// repair: re-asserts on a running node what a boot set up, from IMDS, /run and the kernel alone.
import { takeLock } from '../host/lock.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { POOL_LOCK } from '../pool/pool.ts';
import { systemClock } from '../port/clock.ts';
import { run } from '../port/exec.ts';
import { looking } from './look.ts';
import { isRelease } from './ready.ts';
import { readStatus } from './status.ts';

/** Phases whose changes stay on this machine. */
const LOCAL = new Set(['identify', 'reserve', 'egress', 'attach', 'install', 'kubelet', 'ready']);

/** A refill may be waiting for EC2 under the lock; the timer would rather wait than fail. */
const LOCK_PATIENCE_MS = 45_000;

export interface Repaired {
  changes: string[];
  failures: { phase: string; code: string; message: string }[];
}

/** @throws NOT_BOOTED when this boot has no READY verdict; ALREADY_RUNNING. */
export async function repair(): Promise<Repaired> {
  if (readStatus()?.verdict !== 'ready')
    throw new Failure('NOT_BOOTED', 'this boot has no READY verdict to repair towards');
  const lock = await takeLock(POOL_LOCK, systemClock, LOCK_PATIENCE_MS);
  try {
    return await looking(async (session, phases) => {
      const repaired: Repaired = { changes: [], failures: [] };
      session.localOnly = true;
      for (const phase of phases) {
        if (!LOCAL.has(phase.name)) continue;
        try {
          const observed = await phase.observe(session);
          const changes = phase.plan(observed, session);
          if (changes.length > 0) await phase.apply(changes, observed, session);
          repaired.changes.push(...changes.map((change) => change.summary));
          // The warm pool let the instance go: nobody else starts kubelet after boot.
          if (changes.some(isRelease)) await run('systemctl', ['start', '--no-block', 'kubelet.service']);
        } catch (error) {
          if (!isFailure(error)) throw error;
          repaired.failures.push({ phase: phase.name, code: error.code, message: error.message });
          if (phase.name === 'identify') break;
        }
      }
      return repaired;
    });
  } finally {
    lock.release();
  }
}
