// Whether the pool must grow, shrink or stay as it is. Pure: computed from the state of each prefix and the configured
// limits.

import type { Owned } from './entry.ts';
import type { PrefixState } from './inventory.ts';

export interface Marks {
  /** The pool never shrinks below this number of addresses, and grows back to it. */
  target: number;
  /** The pool grows when it has fewer ready addresses than this. */
  lowWater: number;
  /**
   * The pool shrinks when it has more ready addresses than `lowWater` plus this. At least two prefixes, so that growth
   * never overshoots it.
   */
  surplus: number;
  /** Number of pods that kubelet may run. */
  maxPods: number;
}

export type Balance =
  | { kind: 'enough' }
  /** Number of addresses to ask for. */
  | { kind: 'grow'; missing: number }
  /** Prefixes to give back, which no pod uses or will need, and at most one ENI, which has no other prefixes. */
  | { kind: 'give'; prefixes: Owned[]; eniIds: string[] };

/**
 * @param prefixes of the pool, without those that are already on their way back to EC2.
 * @param eniIds pod ENIs in the order in which they are filled. They are given back from the last on; the first is
 *   never given back.
 */
export function balance(prefixes: PrefixState[], eniIds: string[], marks: Marks): Balance {
  const total = sum(prefixes, 'size');
  const ready = sum(prefixes, 'ready');
  // A full node needs no free address: no further pod can ask for one.
  const room = Math.max(0, marks.maxPods - sum(prefixes, 'leased'));
  const middle = marks.lowWater + Math.floor(marks.surplus / 2);
  const short = ready < Math.min(marks.lowWater, room) ? Math.min(middle, room) - ready : 0;
  const missing = Math.max(short, marks.target - total);
  if (missing > 0) return { kind: 'grow', missing };

  if (ready <= marks.lowWater + marks.surplus) return { kind: 'enough' };
  const given: Owned[] = [];
  const givenEnis: string[] = [];
  let left = { total, ready };
  for (const eniId of [...eniIds].reverse()) {
    const ofEni = prefixes.filter((prefix) => prefix.eniId === eniId);
    const idle = ofEni.filter((prefix) => prefix.ready === prefix.size);
    let taken = 0;
    for (const { cidr, size } of idle.reverse()) {
      if (left.total - size < marks.target || left.ready - size < middle) break;
      given.push({ eniId, cidr });
      left = { total: left.total - size, ready: left.ready - size };
      taken += 1;
    }
    // One ENI per run: detaching takes time, and the next run is minutes away.
    if (taken === ofEni.length && eniId !== eniIds[0] && givenEnis.length === 0) givenEnis.push(eniId);
  }
  return given.length === 0 && givenEnis.length === 0
    ? { kind: 'enough' }
    : { kind: 'give', prefixes: given, eniIds: givenEnis };
}

function sum(prefixes: PrefixState[], field: 'size' | 'ready' | 'leased'): number {
  return prefixes.reduce((total, prefix) => total + prefix[field], 0);
}
