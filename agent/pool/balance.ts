// Whether the pool is to grow, to shrink or to stay: pure, from what each prefix is doing and the configured marks.
import type { PrefixState } from './inventory.ts';
import type { Owned } from './pool.ts';

export interface Marks {
  /** Addresses the pool never shrinks below, and is brought back to. */
  target: number;
  /** With fewer ready addresses than this, the pool grows. */
  lowWater: number;
  /** With more ready addresses than `lowWater` and this, it shrinks. At least two prefixes: growth never overshoots it. */
  surplus: number;
  /** Pods kubelet may run. */
  maxPods: number;
}

export type Balance =
  | { kind: 'enough' }
  /** So many addresses are missing. */
  | { kind: 'grow'; missing: number }
  /** Prefixes nobody uses and nobody will miss, and at most one ENI, which holds nothing else. */
  | { kind: 'give'; prefixes: Owned[]; eniIds: string[] };

/**
 * @param prefixes those that stay in the pool: without the ones already on their way back to EC2.
 * @param eniIds pod ENIs in the order they are filled; given back from the last on, never the first.
 */
export function balance(prefixes: PrefixState[], eniIds: string[], marks: Marks): Balance {
  const total = sum(prefixes, 'size');
  const ready = sum(prefixes, 'ready');
  // A full node needs no free address: nobody is left to ask for one.
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
    // One ENI a run: a detachment takes its time, and the next run is minutes away.
    if (taken === ofEni.length && eniId !== eniIds[0] && givenEnis.length === 0) givenEnis.push(eniId);
  }
  return given.length === 0 && givenEnis.length === 0
    ? { kind: 'enough' }
    : { kind: 'give', prefixes: given, eniIds: givenEnis };
}

function sum(prefixes: PrefixState[], field: 'size' | 'ready' | 'leased'): number {
  return prefixes.reduce((total, prefix) => total + prefix[field], 0);
}
