// Compares the pool's markers with what EC2 shows. A prefix that EC2 no longer shows is taken out of circulation at once, and
// forgotten when a later look agrees; if EC2 shows it again, it stays. attach adds new prefixes.

import { isSamePrefix, listOwned } from '../../pool/entry.ts';
import type { RestOptions } from '../../pool/inventory.ts';
import {
  DESCRIBE_LAG_MS,
  forget,
  isReadyToLeave,
  keepAfterAll,
  leavingPrefixes,
  retireWhatIsUnleased,
  startLeaving,
} from '../../pool/retire.ts';
import type { PodEni } from '../facts/facts.ts';

export interface Refilled {
  /** The changes made, in words. */
  changes: string[];
  /** What is wanted and has to wait, and for what. */
  waiting: string[];
}

/** Milliseconds. One describe may be older than the assignment of the prefix; two describes this far apart may not. */
const BELIEF_MS = 60_000;

/** @param pods what EC2 shows now */
export function reconcile(
  pods: readonly Pick<PodEni, 'eniId' | 'cidrs'>[],
  rest: RestOptions,
  done: Refilled,
): void {
  const shown = new Set(pods.flatMap((pod) => pod.cidrs.map((cidr) => `${pod.eniId} ${cidr}`)));
  const { nowMs } = rest;
  const leaving = leavingPrefixes();
  for (const owned of listOwned()) {
    const mark = leaving.find((one) => isSamePrefix(one, owned));
    if (mark?.why === 'given') continue;
    const name = `${owned.cidr} of ${owned.eniId}`;
    if (shown.has(`${owned.eniId} ${owned.cidr}`)) {
      if (mark === undefined) continue;
      if (mark.why === 'shown' && nowMs - mark.sinceMs >= DESCRIBE_LAG_MS) {
        keepAfterAll(owned);
        done.changes.push(`EC2 shows ${name} again: back in use`);
        continue;
      }
      // One of the two looks is out of date, and it is not known which until a later look agrees with one.
      if (mark.why === 'missing') startLeaving(owned, 'shown', nowMs);
      done.waiting.push(`${name} is shown by EC2 again and is back in use when it stays so`);
      continue;
    }
    if (mark === undefined)
      done.changes.push(`EC2 does not show ${name}: no pod gets its addresses any more`);
    if (mark?.why !== 'missing') startLeaving(owned, 'missing', nowMs);
    retireWhatIsUnleased(owned);
    const believed = mark?.why === 'missing' && nowMs - mark.sinceMs >= BELIEF_MS;
    if (believed && isReadyToLeave(owned, rest)) {
      forget(owned, nowMs);
      done.changes.push(`${name} has left the pool: EC2 does not show it`);
    } else {
      done.waiting.push(
        `${name} is not EC2's any more and leaves when its pods have ended and its addresses rested`,
      );
    }
  }
}
