// The pool as a table: the state of each prefix of each ENI. Not a snapshot: pods come and go during the listing, so
// every decision that is based on it is checked again by a rename.
import { rangeOf, toNumber } from '../host/ipv4.ts';
import { type Entry, listEntries, listOwned, NEVER_USED, type Owned, type UnleasedEntry } from './entry.ts';
import { inUse } from './in-use.ts';

export interface PrefixState extends Owned {
  /** Number of addresses: 16 for a prefix, 1 for a single address. */
  size: number;
  /** Free or cooling, and rested: a pod can have it now. */
  ready: number;
  /** Free or cooling, and still resting. */
  resting: number;
  leased: number;
  /** Free or cooling, and a namespace has it without a lease, as an ADD has found lately. */
  inUse: number;
  /** On the way back to EC2. */
  retiring: number;
}

export interface RestOptions {
  /** Boot-clock milliseconds. */
  nowMs: number;
  /** Milliseconds that an address rests after its pod is gone. */
  restMs: number;
}

const NONE = { ready: 0, resting: 0, leased: 0, inUse: 0, retiring: 0 };

/** Every prefix in the pool, sorted by ENI ID and address. */
export function takeInventory(rest: RestOptions): PrefixState[] {
  const states = new Map<string, PrefixState>();
  for (const owned of listOwned()) {
    const { first, last } = rangeOf(owned.cidr);
    const state = { ...owned, size: last - first + 1, ...NONE };
    for (let address = first; address <= last; address += 1) states.set(keyOf(owned.eniId, address), state);
  }
  const count = <E extends Entry>(entries: E[], field: (entry: E) => keyof typeof NONE) => {
    for (const entry of entries) {
      const state = states.get(keyOf(entry.eniId, toNumber(entry.address)));
      if (state !== undefined) state[field(entry)] += 1;
    }
  };
  const carried = inUse(rest.nowMs);
  const unleased = (entry: UnleasedEntry) => {
    if (carried.has(`${entry.address},${entry.eniId}`)) return 'inUse';
    return hasRested(entry, rest) ? 'ready' : 'resting';
  };
  // States are counted in the order in which addresses move, so that an address that is moving is more often counted
  // twice than missed.
  count(listEntries('free'), unleased);
  count(listEntries('leased'), () => 'leased');
  count(listEntries('cooling'), unleased);
  count(listEntries('retiring'), () => 'retiring');
  return [...new Set(states.values())].sort((a, b) =>
    a.eniId === b.eniId ? rangeOf(a.cidr).first - rangeOf(b.cidr).first : a.eniId < b.eniId ? -1 : 1,
  );
}

/** Whether an unleased address has rested; false when its stamp is unreadable. */
export function hasRested({ releasedAt }: UnleasedEntry, { nowMs, restMs }: RestOptions): boolean {
  if (releasedAt === NEVER_USED) return true;
  return releasedAt !== 'unreadable' && nowMs - releasedAt >= restMs;
}

function keyOf(eniId: string, address: number): string {
  return `${eniId} ${address}`;
}
