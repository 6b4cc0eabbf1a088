// How a prefix leaves the pool: its addresses are retired one by one, the prefix is written down as leaving, the caller
// gives it back to EC2, and then it is forgotten, its marker last. Only holders of the pool's flock call this. ADD and
// DEL run at the same time, so every step is a rename that either happened or did not, and the next run continues where
// a killed run ended.
//
//   free/, cooling/ --retire--> retiring/ --startLeaving--> with leaving/<prefix> --EC2--> forget: entries, marker
//
// While both leaving/<prefix> and the marker exist, no run brings the prefix back: EC2 may have taken it. Once the
// marker is gone, leaving/<prefix> is a reminder not to believe a describe that still shows the prefix.
import { mkdirSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { rangeOf, toNumber } from '../host/ipv4.ts';
import { hasCode } from '../port/fs.ts';
import {
  isSamePrefix,
  type Leaving,
  leavingPath,
  listEntries,
  listLeaving,
  listOwned,
  markerPath,
  moved,
  type Owned,
  POOL,
  pathOf,
  type UnleasedEntry,
} from './entry.ts';
import { hasRested, type RestOptions } from './inventory.ts';

/** Milliseconds for which a describe of EC2 may still show what EC2 has already taken back. */
export const DESCRIBE_LAG_MS = 300_000;

/** Takes a prefix out of circulation: all of its addresses, or none. False when one of them has a pod or still rests. */
export function retire(owned: Owned, rest: RestOptions): boolean {
  // When the prefix is leaving, a failed attempt here would put its addresses back where pods find them.
  if (listLeaving().some((one) => isSamePrefix(one, owned))) return false;
  for (const entry of unleasedOf(owned)) {
    if (!hasRested(entry, rest)) break;
    if (!move(entry, 'retiring')) break;
  }
  if (isRetired(owned)) return true;
  unretire(owned);
  return false;
}

/** Retires the unleased addresses of a prefix that EC2 no longer shows; its leases stay until their pods end. */
export function retireWhatIsUnleased(owned: Owned): void {
  for (const entry of unleasedOf(owned)) move(entry, 'retiring');
}

/** Puts a retired prefix back into circulation with unchanged stamps. */
export function unretire(owned: Owned): void {
  for (const entry of entriesOf(owned, 'retiring')) move(entry, 'free');
}

/** Whether every address of the prefix is retired and has rested. */
export function isReadyToLeave(owned: Owned, rest: RestOptions): boolean {
  return isRetired(owned) && entriesOf(owned, 'retiring').every((entry) => hasRested(entry, rest));
}

/** Writes down that a prefix is leaving. A prefix that is leaving as `given` cannot come back. */
export function startLeaving(owned: Owned, why: Leaving['why'], nowMs: number): void {
  mkdirSync(POOL.leaving, { recursive: true, mode: 0o700 });
  const earlier = listLeaving().find((one) => isSamePrefix(one, owned));
  const path = leavingPath({ ...owned, why, sinceMs: nowMs });
  if (earlier === undefined) writeFileSync(path, '');
  else renameSync(leavingPath(earlier), path);
}

/** Prefixes that are leaving and not gone yet. */
export function leavingPrefixes(): Leaving[] {
  const owned = listOwned();
  return listLeaving().filter((one) => owned.some((prefix) => isSamePrefix(prefix, one)));
}

/** Keeps a prefix that was only missing for a while. */
export function keepAfterAll(owned: Owned): void {
  unretire(owned);
  for (const one of listLeaving()) if (isSamePrefix(one, owned)) rmSync(leavingPath(one), { force: true });
}

/**
 * Forgets a prefix that EC2 no longer has: its addresses first, then its marker. May be repeated after a kill at any
 * moment.
 */
export function forget(owned: Owned, nowMs: number): void {
  // This comes first, also for a prefix that was only missing: once addresses are gone it cannot come back.
  startLeaving(owned, 'given', nowMs);
  for (const entry of entriesOf(owned, 'retiring')) rmSync(pathOf(entry), { force: true });
  rmSync(markerPath(owned), { force: true });
  try {
    rmdirSync(dirname(markerPath(owned)));
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTEMPTY')) throw error;
  }
}

/** Forgets prefixes that left so long ago that no describe shows them any more. */
export function expireGone(nowMs: number): void {
  for (const one of gone())
    if (nowMs - one.sinceMs >= DESCRIBE_LAG_MS) rmSync(leavingPath(one), { force: true });
}

/**
 * EC2 has just assigned these prefixes and said so in its answer (this is not a describe). They belong to the pool
 * again, however lately they left, and those that were missing are in use again.
 */
export function welcomeBack(eniId: string, cidrs: string[]): void {
  const left = gone();
  for (const one of listLeaving().filter((each) => each.eniId === eniId && cidrs.includes(each.cidr))) {
    if (one.why !== 'given') keepAfterAll(one);
    else if (left.some((each) => isSamePrefix(each, one))) rmSync(leavingPath(one), { force: true });
  }
}

function gone(): Leaving[] {
  const present = listOwned();
  return listLeaving().filter((one) => !present.some((prefix) => isSamePrefix(prefix, one)));
}

/** Prefixes with retired addresses that are not leaving: a run was killed while it retired them. */
export function halfRetired(): Owned[] {
  const leaving = listLeaving();
  const retiring = listEntries('retiring');
  return listOwned().filter(
    (owned) =>
      !leaving.some((one) => isSamePrefix(one, owned)) && retiring.some((entry) => isOf(entry, owned)),
  );
}

function isRetired(owned: Owned): boolean {
  const { first, last } = rangeOf(owned.cidr);
  // Only holders of the lock write to retiring/, so this listing is exact.
  return entriesOf(owned, 'retiring').length === last - first + 1;
}

function unleasedOf(owned: Owned): UnleasedEntry[] {
  return [...entriesOf(owned, 'free'), ...entriesOf(owned, 'cooling')];
}

function entriesOf(owned: Owned, state: UnleasedEntry['state']): UnleasedEntry[] {
  return listEntries(state).filter((entry) => isOf(entry, owned));
}

function isOf(entry: UnleasedEntry, { eniId, cidr }: Owned): boolean {
  const { first, last } = rangeOf(cidr);
  const address = toNumber(entry.address);
  return entry.eniId === eniId && first <= address && address <= last;
}

/** False when another process has moved the entry: a pod got the address, or ended. */
function move({ state, name }: UnleasedEntry, to: UnleasedEntry['state']): boolean {
  return moved(pathOf({ state, name }), pathOf({ state: to, name }));
}
