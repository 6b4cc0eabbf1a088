// What the service counts, kept in a file for metrics and `eniboot check`: packets that policies have denied, and tables that it
// had to write again. The sums go on when a table is made anew and when the service restarts.
import { join } from 'node:path';
import * as v from 'valibot';
import { readJsonIfPresent, secondsSinceWritten, writeAtomic } from '../port/fs.ts';
import { POLICY_DIR } from './marks.ts';
import type { Direction } from './objects.ts';

const FILE = join(POLICY_DIR, 'counts.json');
/** Each policy is a series of the metrics. All policies beyond this number share one name. */
const MOST_POLICIES = 100;
const OTHERS = 'others';

const savedSchema = v.object({
  totals: v.record(v.string(), v.number()),
  seen: v.record(v.string(), v.number()),
  pods: v.object({ isolated: v.number(), open: v.number(), pending: v.number() }),
  /** Tables that were written again since another program had changed them. `where`: the last of them; `atMs`: of the boot clock. */
  putBack: v.optional(
    v.object({ times: v.number(), last: v.optional(v.object({ where: v.string(), atMs: v.number() })) }),
    { times: 0 },
  ),
});
type Saved = v.InferOutput<typeof savedSchema>;

export interface Counts {
  /** The present value of one of the kernel's counters. @param policy the policy that isolates the pod. */
  denied(counter: string, policy: string, direction: Direction, packets: number): void;
  /** Counters whose names begin with this are at 0 again, or gone. */
  forget(counters: string): void;
  putBack(where: string, atMs: number): void;
  save(pods: Saved['pods']): void;
}

/** Continues the counts that were saved in this boot. */
export function createCounts(): Counts {
  const saved = readCounts();
  const totals = new Map(Object.entries(saved?.totals ?? {}));
  const seen = new Map(Object.entries(saved?.seen ?? {}));
  let putBack: Saved['putBack'] = saved?.putBack ?? { times: 0 };
  return {
    denied(counter, policy, direction, packets) {
      const before = seen.get(counter) ?? 0;
      seen.set(counter, packets);
      // A counter that is lower than before was made anew by another program.
      const more = packets < before ? packets : packets - before;
      if (more === 0) return;
      const key = `${direction} ${policy}`;
      const name = totals.has(key) || totals.size < MOST_POLICIES ? key : `${direction} ${OTHERS}`;
      totals.set(name, (totals.get(name) ?? 0) + more);
    },
    forget(counters) {
      for (const one of seen.keys()) if (one.startsWith(counters)) seen.delete(one);
    },
    putBack(where, atMs) {
      putBack = { times: putBack.times + 1, last: { where, atMs } };
    },
    save: (pods) =>
      writeAtomic(
        FILE,
        JSON.stringify({ totals: Object.fromEntries(totals), seen: Object.fromEntries(seen), pods, putBack }),
      ),
  };
}

/** The saved counts of the service; undefined when it has saved none in this boot. */
export function readCounts(): Saved | undefined {
  const read = v.safeParse(savedSchema, readJsonIfPresent(FILE));
  return read.success ? read.output : undefined;
}

/** Seconds since the service has saved its counts. */
export function countsAge(): number {
  return secondsSinceWritten(FILE);
}

/** The denied packets in `totals`, by policy and direction. */
export function deniedBy({ totals }: Saved): { policy: string; direction: string; packets: number }[] {
  return Object.entries(totals).map(([key, packets]) => {
    const [direction = '', policy = ''] = key.split(' ');
    return { policy, direction, packets };
  });
}
