// The wall clock of AWS. Leases and waits of a rollout concern several machines, so they follow one clock: every answer of AWS
// carries its time. The clock of a machine may be minutes off.
import type { Clock } from '../port/clock.ts';

export interface AwsClock extends Clock {
  /** Notes the `Date` header of an answer; `sentMs`: when the request was sent, by the machine's own wall clock. */
  learn(date: string | undefined, sentMs: number): void;
}

/** The header counts whole seconds (RFC 9110, 6.6.1): a smaller difference means nothing. */
const RESOLUTION_MS = 1_000;

/** The clock is `local` until the first answer. */
export function awsClock(local: Clock): AwsClock {
  let offsetMs = 0;
  const localMs = () => local.now().getTime();
  return {
    ...local,
    now: () => new Date(localMs() + offsetMs),
    learn(date, sentMs) {
      const saidMs = Date.parse(date ?? '');
      if (Number.isNaN(saidMs)) return;
      const seenMs = saidMs + RESOLUTION_MS / 2 - (sentMs + localMs()) / 2;
      if (Math.abs(seenMs - offsetMs) > RESOLUTION_MS) offsetMs = seenMs;
    },
  };
}
