// Looking without touching: plan and check use the phases' eyes, never their hands.
import { systemClock } from '../port/clock.ts';
import { createLog } from '../port/log.ts';
import type { Phase } from './phase.ts';
import { phases } from './sequence.ts';
import { openSession, type Session } from './session.ts';

/** Seconds a look may wait for IMDS and EC2 in all. */
const PATIENCE_SECONDS = 20;

/** Opens a session of limited patience for something that only reads. */
export async function looking<T>(
  look: (session: Session, phases: readonly Phase<any, any>[]) => Promise<T>,
): Promise<T> {
  const session = openSession({
    clock: systemClock,
    log: createLog({ level: 'error', form: 'text' }),
    counted: false,
    onThrottled: () => {},
  });
  session.phaseEndsAt = systemClock.bootMs() + PATIENCE_SECONDS * 1000;
  return look(session, phases);
}
