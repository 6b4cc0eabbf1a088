// Compares the pool's markers with what EC2 shows. A prefix EC2 no longer shows is taken out of circulation at
// once and forgotten when a later look agrees; one it shows again stays. New ones are added by attach.
import {
  DESCRIBE_LAG_MS,
  forget,
  isReadyToLeave,
  leavingPrefixes,
  retireWhatIsUnleased,
  startLeaving,
  stay,
} from '../pool/give-back.ts';
import { listOwned } from '../pool/pool.ts';
import type { Boot } from './phase.ts';

export interface Refilled {
  /** What was done, in words. */
  changes: string[];
  /** What is wanted and has to wait, and for what. */
  waiting: string[];
}

/** One describe may come from before the prefix was assigned; two so far apart may not. Milliseconds. */
const BELIEF_MS = 60_000;

/** `boot.pods` is what EC2 shows now. */
export function reconcile(boot: Boot, done: Refilled): void {
  const shown = new Set(boot.pods.flatMap((pod) => pod.cidrs.map((cidr) => `${pod.eniId} ${cidr}`)));
  const nowMs = boot.clock.bootMs();
  const leaving = leavingPrefixes();
  for (const owned of listOwned()) {
    const mark = leaving.find((one) => one.eniId === owned.eniId && one.cidr === owned.cidr);
    if (mark?.why === 'given') continue;
    const name = `${owned.cidr} of ${owned.eniId}`;
    if (shown.has(`${owned.eniId} ${owned.cidr}`)) {
      if (mark === undefined) continue;
      if (mark.why === 'shown' && nowMs - mark.sinceMs >= DESCRIBE_LAG_MS) {
        stay(owned);
        done.changes.push(`EC2 shows ${name} again: back in use`);
        continue;
      }
      // One of the two looks is out of date, and until then nobody knows which.
      if (mark.why === 'missing') startLeaving(owned, 'shown', nowMs);
      done.waiting.push(`${name} is shown by EC2 again and is back in use when it stays so`);
      continue;
    }
    if (mark === undefined)
      done.changes.push(`EC2 does not show ${name}: no pod gets its addresses any more`);
    if (mark?.why !== 'missing') startLeaving(owned, 'missing', nowMs);
    retireWhatIsUnleased(owned);
    const believed = mark?.why === 'missing' && nowMs - mark.sinceMs >= BELIEF_MS;
    if (believed && isReadyToLeave(owned, { nowMs, restMs: boot.config.pool.restSeconds * 1000 })) {
      forget(owned, nowMs);
      done.changes.push(`${name} has left the pool: EC2 does not show it`);
    } else {
      done.waiting.push(
        `${name} is not EC2's any more and leaves when its pods have ended and its addresses rested`,
      );
    }
  }
}
