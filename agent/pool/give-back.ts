// How a prefix leaves the pool: retired address by address, written down as leaving, taken from EC2 by the
// caller, and forgotten, marker last. Only holders of the pool's flock call this; ADD and DEL go on meanwhile,
// so every step is a rename that either happened or did not, and a killed run's successor goes on from there.
//
//   free/, cooling/ --retire--> retiring/ --startLeaving--> with leaving/<prefix> --EC2--> forget: entries, marker
//
// While leaving/<prefix> stands and the marker too, nothing brings the prefix back: EC2 may have taken it. When
// the marker is gone it is a reminder not to believe a describe that still shows the prefix.
import { mkdirSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { rangeOf, toNumber } from '../host/ipv4.ts';
import { hasCode, listIfPresent } from '../port/fs.ts';
import { hasRested, type RestOptions } from './inventory.ts';
import {
  type Entry,
  pathOf as entryPath,
  LEAVING,
  listEntries,
  listOwned,
  moved,
  type Owned,
  POOL_DIR,
} from './pool.ts';

/** How long a describe of EC2 may show what EC2 has already taken. Milliseconds. */
export const DESCRIBE_LAG_MS = 300_000;

/** A prefix that EC2 is asked to take, may have taken, or was seen without. */
interface Leaving extends Owned {
  /**
   * `given`: by us; EC2 is asked to take it. `missing`: EC2 does not show it, and nobody has asked it to take it.
   * `shown`: it was missing and EC2 shows it again.
   */
  why: 'given' | 'missing' | 'shown';
  /** Boot-clock milliseconds at which it began, or ended. */
  sinceMs: number;
}

/**
 * Takes a prefix out of circulation: all of its addresses, or none. False when one of them has a pod or still
 * rests.
 */
export function retire(owned: Owned, rest: RestOptions): boolean {
  // Putting one that is leaving back where pods find it would be the worst of answers.
  if (listLeaving().some((one) => same(one, owned))) return false;
  for (const entry of unleasedOf(owned)) {
    if (!hasRested(entry, rest)) break;
    if (!move(entry, 'retiring')) break;
  }
  if (isRetired(owned)) return true;
  unretire(owned);
  return false;
}

/** Takes what can be taken of a prefix that EC2 no longer shows; its leases stay until their pods end. */
export function retireWhatIsUnleased(owned: Owned): void {
  for (const entry of unleasedOf(owned)) move(entry, 'retiring');
}

/** Puts a retired prefix back into circulation; its stamps are as they were. */
export function unretire(owned: Owned): void {
  for (const entry of entriesOf(owned, 'retiring')) move(entry, 'free');
}

/** Every address of the prefix is retired, and has rested. */
export function isReadyToLeave(owned: Owned, rest: RestOptions): boolean {
  return isRetired(owned) && entriesOf(owned, 'retiring').every((entry) => hasRested(entry, rest));
}

/** Writes down that a prefix is leaving. From a `given` one there is no way back. */
export function startLeaving(owned: Owned, why: Leaving['why'], nowMs: number): void {
  mkdirSync(LEAVING, { recursive: true, mode: 0o700 });
  const earlier = listLeaving().find((one) => same(one, owned));
  const path = pathOf({ ...owned, why, sinceMs: nowMs });
  if (earlier === undefined) writeFileSync(path, '');
  else renameSync(pathOf(earlier), path);
}

/** Prefixes that are leaving and not gone yet. */
export function leavingPrefixes(): Leaving[] {
  const owned = listOwned();
  return listLeaving().filter((one) => owned.some((prefix) => same(prefix, one)));
}

/** A prefix that had only been missing for a while stays. */
export function stay(owned: Owned): void {
  unretire(owned);
  for (const one of listLeaving()) if (same(one, owned)) rmSync(pathOf(one), { force: true });
}

/** EC2 no longer has it: its addresses go, then its marker. Safe to repeat after a kill anywhere. */
export function forget(owned: Owned, nowMs: number): void {
  // First of all, for one that was only missing too: once addresses are gone there is no way back.
  startLeaving(owned, 'given', nowMs);
  for (const entry of entriesOf(owned, 'retiring')) rmSync(entryPath(entry), { force: true });
  rmSync(`${POOL_DIR}/owned/${owned.eniId}/${owned.cidr.replace('/', '-')}`, { force: true });
  try {
    rmdirSync(`${POOL_DIR}/owned/${owned.eniId}`);
  } catch (error) {
    if (!hasCode(error, 'ENOENT', 'ENOTEMPTY')) throw error;
  }
}

/** Forgets prefixes that left so long ago that every describe knows it by now. */
export function expireGone(nowMs: number): void {
  for (const one of gone()) if (nowMs - one.sinceMs >= DESCRIBE_LAG_MS) rmSync(pathOf(one), { force: true });
}

/**
 * EC2 has just given these in an answer, no describe: they are the pool's again, however lately they left, and
 * those it had lost are in use again.
 */
export function welcomeBack(eniId: string, cidrs: string[]): void {
  const left = gone();
  for (const one of listLeaving().filter((each) => each.eniId === eniId && cidrs.includes(each.cidr))) {
    if (one.why !== 'given') stay(one);
    else if (left.some((each) => same(each, one))) rmSync(pathOf(one), { force: true });
  }
}

function gone(): Leaving[] {
  const present = listOwned();
  return listLeaving().filter((one) => !present.some((prefix) => same(prefix, one)));
}

/** Prefixes with retired addresses that are not leaving: a run was killed while it retired them. */
export function halfRetired(): Owned[] {
  const leaving = listLeaving();
  const retiring = listEntries('retiring');
  return listOwned().filter(
    (owned) => !leaving.some((one) => same(one, owned)) && retiring.some((entry) => isOf(entry, owned)),
  );
}

function isRetired(owned: Owned): boolean {
  const { first, last } = rangeOf(owned.cidr);
  // Only holders of the lock write to retiring/, so this listing is exact.
  return entriesOf(owned, 'retiring').length === last - first + 1;
}

function unleasedOf(owned: Owned): Entry[] {
  return [...entriesOf(owned, 'free'), ...entriesOf(owned, 'cooling')];
}

function entriesOf(owned: Owned, state: Entry['state']): Entry[] {
  return listEntries(state).filter((entry) => isOf(entry, owned));
}

function isOf(entry: Entry, { eniId, cidr }: Owned): boolean {
  const { first, last } = rangeOf(cidr);
  const address = toNumber(entry.address);
  return entry.eniId === eniId && first <= address && address <= last;
}

/** False when somebody else has moved it: a pod got it, or ended. */
function move(entry: Entry, state: Entry['state']): boolean {
  return moved(entryPath(entry), entryPath({ ...entry, state }));
}

function listLeaving(): Leaving[] {
  return listIfPresent(LEAVING).map((name) => {
    const [prefix = '', eniId = '', why = '', since = ''] = name.split(',');
    return {
      cidr: prefix.replace('-', '/'),
      eniId,
      why: why === 'missing' || why === 'shown' ? why : 'given',
      sinceMs: Number(since),
    };
  });
}

function pathOf({ cidr, eniId, why, sinceMs }: Leaving): string {
  return `${LEAVING}/${cidr.replace('/', '-')},${eniId},${why},${sinceMs}`;
}

function same(a: Owned, b: Owned): boolean {
  return a.eniId === b.eniId && a.cidr === b.cidr;
}
