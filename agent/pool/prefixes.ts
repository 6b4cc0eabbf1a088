// How prefixes come into the address pool, and how an address is taken out of circulation. The file system is the
// database and rename(2) is the transaction (entry.ts). Callers of this file hold the pool's flock (boot, refill,
// collect); the CNI path needs no lock.
import { closeSync, mkdirSync, openSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { contains, rangeOf, toAddress } from '../host/ipv4.ts';
import { hasCode, listIfPresent } from '../port/fs.ts';
import {
  cidrOf,
  entryName,
  isSamePrefix,
  listEntries,
  listLeaving,
  listOwned,
  markerPath,
  NEVER_USED,
  namesIn,
  type Owned,
  POOL,
  POOL_DIR,
  prefixName,
  type State,
  type UnleasedEntry,
} from './entry.ts';

/** CIDRs of the whole pool, for the egress table. */
export function ownedCidrs(): string[] {
  return listOwned().map((owned) => owned.cidr);
}

/**
 * Brings a prefix's addresses into the pool exactly once: a marker that is made with O_EXCL says that the prefix is in.
 * The entries are made in a temporary directory, which is renamed as a whole to `adding/`; then they are moved one by
 * one to `free/`. When a run is killed at any moment, the next call finishes its work and never makes an address twice.
 *
 * @param releasedAt boot-clock milliseconds at which the addresses count as released: 0 for addresses that were found
 *   at boot, NEVER_USED for addresses that were just requested.
 * @returns false when the prefix may not enter.
 */
export function addToPool(owned: Owned, releasedAt: number | typeof NEVER_USED): boolean {
  for (const state of ['free', 'leased', 'cooling', 'retiring', 'adding']) {
    mkdirSync(`${POOL_DIR}/${state}`, { recursive: true, mode: 0o700 });
  }
  const name = prefixName(owned.cidr);
  const adding = `${POOL.adding}/${name}`;
  const unfinished = listIfPresent(POOL.adding).includes(name);
  if (!unfinished) {
    if (!mayEnter(owned)) return false;
    layOut(owned, releasedAt, adding);
  }
  const isNew = mark(markerPath(owned));
  release(adding);
  return isNew;
}

/**
 * Whether a prefix that EC2 shows may be brought in. It must not be in the pool, under this ENI or another, and it must
 * not have left the pool so lately that EC2's answer may be out of date.
 */
export function mayEnter(owned: Owned): boolean {
  const isIt = (one: Owned) => isSamePrefix(one, owned);
  if (listOwned().some(isIt) || listLeaving().some(isIt)) return false;
  return heldElsewhere(owned) === undefined;
}

/**
 * The marker of another ENI that still has addresses of this prefix. In that case the prefix was moved in EC2, and pods
 * may still use it on the other ENI: an address that is in the pool twice would go to two pods.
 */
export function heldElsewhere({ eniId, cidr }: Owned): Owned | undefined {
  return listOwned().find(
    (one) => one.eniId !== eniId && (contains(one.cidr, cidr) || contains(cidr, one.cidr)),
  );
}

/** Whether a killed run has left work for finishAdding. */
export function isAdding(): boolean {
  return listIfPresent(`${POOL_DIR}/adding`).length > 0;
}

/** Finishes what a killed run began to add, also when EC2 no longer has the prefix. */
export function finishAdding(): void {
  const owned = listOwned();
  for (const name of listIfPresent(POOL.adding)) {
    const adding = `${POOL.adding}/${name}`;
    // Without its marker no address of the prefix was in use. A later run that finds the prefix in EC2 adds it again.
    if (owned.some((one) => one.cidr === cidrOf(name))) release(adding);
    else rmSync(adding, { recursive: true });
  }
}

/**
 * Takes an address that no pod has out of circulation, so that no pod gets it while the caller removes the kernel's
 * objects of this address.
 *
 * @param move moves the entry; false when another process has moved it first.
 * @returns the entry before the move; `leased` when a pod has the address, or may be about to get it; `absent`
 *   when the pool has no entry of it that a pod can get.
 */
export function claim(
  address: string,
  move: (entry: UnleasedEntry) => boolean,
): UnleasedEntry | 'leased' | 'absent' {
  const isThis = (entry: { address: string }) => entry.address === address;
  if (listEntries('leased').some(isThis)) return 'leased';
  const entries = [...listEntries('free'), ...listEntries('cooling')];
  const moved = entries.filter(isThis).find(move);
  if (moved !== undefined) return moved;
  if (listEntries('retiring').some(isThis)) return 'absent';
  // An entry that is being moved from one state to another may be missing in both listings.
  return listOwned().some((owned) => contains(owned.cidr, `${address}/32`)) ? 'leased' : 'absent';
}

/** Addresses of prefixes on their way back to EC2: they must not be leased. */
export function leavingRanges(): { eniId: string; first: number; last: number }[] {
  return listLeaving().map(({ eniId, cidr }) => ({ eniId, ...rangeOf(cidr) }));
}

/** Number of the pool's addresses in each state. */
export function countStates(): Record<State, number> {
  const count = (state: State) => namesIn(state).length;
  return {
    free: count('free'),
    leased: count('leased'),
    cooling: count('cooling'),
    retiring: count('retiring'),
  };
}

function layOut(owned: Owned, releasedAt: number | typeof NEVER_USED, adding: string): void {
  rmSync(POOL.layingOut, { recursive: true, force: true });
  mkdirSync(POOL.layingOut, { mode: 0o700 });
  const { first, last } = rangeOf(owned.cidr);
  for (let address = first; address <= last; address += 1) {
    const place = { address: toAddress(address), eniId: owned.eniId };
    writeFileSync(`${POOL.layingOut}/${entryName(place, releasedAt)}`, '');
  }
  renameSync(POOL.layingOut, adding);
}

function release(adding: string): void {
  for (const entry of listIfPresent(adding)) renameSync(join(adding, entry), `${POOL_DIR}/free/${entry}`);
  rmdirSync(adding);
}

/** True when this call made the marker. */
function mark(marker: string): boolean {
  mkdirSync(dirname(marker), { recursive: true, mode: 0o700 });
  try {
    closeSync(openSync(marker, 'wx', 0o600));
    return true;
  } catch (error) {
    if (hasCode(error, 'EEXIST')) return false;
    throw error;
  }
}
