// The pool as a table: what each prefix of each ENI is doing. A look, not a snapshot: pods come and go while
// it is taken, so nothing is decided on it that a rename does not decide again.
import { rangeOf, toNumber } from '../host/ipv4.ts';
import { inUse } from './in-use.ts';
import { type Entry, listEntries, listOwned, NEVER_USED, type Owned } from './pool.ts';

export interface PrefixState extends Owned {
  /** Addresses in all: 16 for a prefix, 1 for a single address. */
  size: number;
  /** Free or cooling, and rested: a pod could have it now. */
  ready: number;
  /** Free or cooling, and still resting. */
  resting: number;
  leased: number;
  /** Free or cooling, and carried by somebody who has not leased it, as an ADD has found lately. */
  inUse: number;
  /** On the way back to EC2. */
  retiring: number;
}

export interface RestOptions {
  /** Boot-clock milliseconds. */
  nowMs: number;
  /** Milliseconds an address rests after its pod is gone. */
  restMs: number;
}

/** Every prefix that is in the pool, in the order of ENI IDs and addresses. */
export function takeInventory(rest: RestOptions): PrefixState[] {
  const states = new Map<string, PrefixState>();
  for (const owned of listOwned()) {
    const { first, last } = rangeOf(owned.cidr);
    const state = {
      ...owned,
      size: last - first + 1,
      ready: 0,
      resting: 0,
      leased: 0,
      inUse: 0,
      retiring: 0,
    };
    for (let address = first; address <= last; address += 1) states.set(keyOf(owned.eniId, address), state);
  }
  const count = (
    entries: Entry[],
    field: (entry: Entry) => 'ready' | 'resting' | 'leased' | 'inUse' | 'retiring',
  ) => {
    for (const entry of entries) {
      const state = states.get(keyOf(entry.eniId, toNumber(entry.address)));
      if (state !== undefined) state[field(entry)] += 1;
    }
  };
  const carried = inUse(rest.nowMs);
  const unleased = (entry: Entry) => {
    if (carried.has(`${entry.address},${entry.eniId}`)) return 'inUse';
    return hasRested(entry, rest) ? 'ready' : 'resting';
  };
  // In the order addresses move, so that one on its way is more often counted twice than missed.
  count(listEntries('free'), unleased);
  count(listEntries('leased'), () => 'leased');
  count(listEntries('cooling'), unleased);
  count(listEntries('retiring'), () => 'retiring');
  return [...new Set(states.values())].sort((a, b) =>
    a.eniId === b.eniId ? rangeOf(a.cidr).first - rangeOf(b.cidr).first : a.eniId < b.eniId ? -1 : 1,
  );
}

/** Whether an address without a pod has rested; one whose stamp cannot be read has not. */
export function hasRested(entry: Entry, { nowMs, restMs }: RestOptions): boolean {
  if (entry.rest === NEVER_USED) return true;
  return /^\d+$/.test(entry.rest) && nowMs - Number(entry.rest) >= restMs;
}

function keyOf(eniId: string, address: number): string {
  return `${eniId} ${address}`;
}
