// A context with short time limits: for plan, check and other commands that only read, and for repair, which changes only this
// machine.
import { systemClock } from '../port/clock.ts';
import { createLog } from '../port/log.ts';
import { type Context, openContext } from './context.ts';

/** Seconds that a run may wait for IMDS and EC2 in all. */
const PATIENCE_SECONDS = 20;

/** @param asBooted use the booted configuration */
export function patientContext(kind: 'look' | 'repair', asBooted: boolean): Context {
  const log = createLog({ level: 'error', form: 'text' });
  const context = openContext({ clock: systemClock, log, mode: { kind, asBooted } });
  context.phaseEndsAt = systemClock.bootMs() + PATIENCE_SECONDS * 1000;
  return context;
}
