// repair: restores on a running node what a boot set up, and the guards that hold pods to their own addresses. It uses only
// IMDS, /run and the kernel.
import { dirname } from 'node:path';
import { rememberDigests } from '../host/digest.ts';
import { takeLock } from '../host/lock.ts';
import { RUN_DIR } from '../host/names.ts';
import { Failure } from '../messages/failure.ts';
import { failureOf } from '../messages/kinds.ts';
import { POOL } from '../pool/entry.ts';
import { systemClock } from '../port/clock.ts';
import { removeHalfWritten } from '../port/fs.ts';
import { driftText, podDrifts } from './checks/pods.ts';
import { converge } from './converge.ts';
import { requireBooted } from './facts/booted.ts';
import { patientContext } from './look.ts';
import type { Phase } from './phase.ts';
import { BOOTSTRAP_KUBECONFIG } from './phases/join.ts';
import { startIfDue } from './phases/ready.ts';
import { sequence } from './sequence.ts';

/** A refill may be waiting for EC2 while it holds the lock. A repair of the timer should wait rather than fail. */
const LOCK_PATIENCE_MS = 45_000;

export interface Repaired {
  changes: string[];
  failures: {
    phase: string;
    code: string;
    message: string;
    remedy: string;
    facts: Record<string, unknown>;
  }[];
}

/** @throws NOT_BOOTED when this boot has not become READY; ALREADY_RUNNING. */
export async function repair(): Promise<Repaired> {
  requireBooted('there is nothing to repair towards');
  const lock = await takeLock(POOL.lock, systemClock, LOCK_PATIENCE_MS);
  // Also the temporary files beside files that are as they should be, which are not written again.
  removeHalfWritten(RUN_DIR);
  // These hold a token.
  removeHalfWritten(dirname(BOOTSTRAP_KUBECONFIG));
  try {
    return await repairNode();
  } finally {
    lock.release();
  }
}

async function repairNode(): Promise<Repaired> {
  const context = patientContext('repair', true);
  const repaired: Repaired = { changes: [], failures: [] };
  const attempt = async (phase: string, work: () => unknown) => {
    try {
      await work();
    } catch (error) {
      const { code, message, remedy, facts } = failureOf(error);
      repaired.failures.push({ phase, code, message, remedy, facts });
    }
  };

  /** Later phases use what was observed, even when a change failed. */
  async function run<Observed>(phase: Phase<Observed>): Promise<Observed | undefined> {
    if (phase.plan === undefined) return undefined;
    let seen: Observed | undefined;
    const watched = { ...phase, observe: async () => (seen = await phase.observe()) };
    await attempt(phase.name, async () => {
      const made: string[] = [];
      await converge(watched, context, (changes) => made.push(...changes.map((change) => change.summary)));
      repaired.changes.push(...made);
    });
    return seen;
  }

  const { node } = await sequence(context, run);
  if (node === undefined) return repaired;
  await attempt('pods', () => {
    const { found, problems } = podDrifts(true);
    repaired.changes.push(...driftText(found).map((text) => `${text}: put back`));
    if (problems.length > 0) throw new Failure('KERNEL_CHANGE', problems.join('; '), { problems });
  });
  rememberDigests();
  // The warm pool has released the instance. After boot, no other program starts kubelet.
  await attempt('ready', startIfDue);
  return repaired;
}
