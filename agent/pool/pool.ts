// The address pool: the file system is the database and rename(2) is the transaction. One empty file per
// address, in the directory that names its state; the file's name holds the rest, so that one rename is the
// whole change and exactly one caller wins. Callers here hold the pool's flock (boot, refill, collect);
// the CNI path needs none.
import { closeSync, mkdirSync, openSync, renameSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { contains, isAddress, isCidr, rangeOf, toAddress } from '../host/ipv4.ts';
import { RUN_DIR } from '../host/names.ts';
import { hasCode, listIfPresent } from '../port/fs.ts';

export const POOL_DIR = `${RUN_DIR}/pool`;
/** The flock that boot, refill and collect take. */
export const POOL_LOCK = `${POOL_DIR}/lock`;

/** Prefixes on their way back to EC2, and those that have just arrived there: give-back.ts. */
export const LEAVING = `${POOL_DIR}/leaving`;

/** The stamp of an address that EC2 has just given and no pod has had: it need not rest. */
export const NEVER_USED = 'new';

type State = 'free' | 'leased' | 'cooling' | 'retiring';

/** What an entry's name says. */
export interface Entry {
  state: State;
  address: string;
  eniId: string;
  /** Everything after address and ENI: a release stamp (boot-clock ms, or NEVER_USED), or container ID and interface. */
  rest: string;
}

/** A prefix (/28) or single address (/32) that is in the pool, with the ENI it belongs to. */
export interface Owned {
  eniId: string;
  cidr: string;
}

export function listOwned(): Owned[] {
  return listMarkers().filter(({ cidr }) => isCidr(cidr));
}

function listMarkers(): Owned[] {
  return listIfPresent(`${POOL_DIR}/owned`).flatMap((eniId) =>
    listIfPresent(`${POOL_DIR}/owned/${eniId}`).map((name) => ({ eniId, cidr: name.replace('-', '/') })),
  );
}

/** Files and folders of the pool that eniboot makes, beside the entries of the states. */
const KNOWN = ['lock', 'owned', 'adding', 'leaving', 'leaving-enis', 'in-use', '.laying-out'];
const KNOWN_FILES = ['refill-wanted', 'refill.json', 'suspects.json'];
const STATES = ['free', 'leased', 'cooling', 'retiring'] as const satisfies State[];

/** Paths in the pool's folder that are nobody's: an editor's, somebody's notes, an address that was mistyped. */
export function strays(): string[] {
  const isOurs = (name: string) =>
    [...KNOWN, ...KNOWN_FILES, ...STATES].includes(name) ||
    // What writes a file whole has it under such a name for a moment.
    KNOWN_FILES.some((file) => name.startsWith(`.${file}.`) && name.endsWith('.tmp'));
  return [
    ...listIfPresent(POOL_DIR).filter((name) => !isOurs(name)),
    ...STATES.flatMap((state) =>
      listIfPresent(`${POOL_DIR}/${state}`)
        .filter((name) => entryOf(state, name) === undefined)
        .map((name) => `${state}/${name}`),
    ),
    ...listMarkers()
      .filter(({ cidr }) => !isCidr(cidr))
      .map(({ eniId, cidr }) => `owned/${eniId}/${cidr.replace('/', '-')}`),
  ].map((name) => `${POOL_DIR}/${name}`);
}

/** CIDRs of the whole pool, for the egress table. */
export function ownedCidrs(): string[] {
  return listOwned().map((owned) => owned.cidr);
}

/** Files that are no entries (an editor's, somebody's notes) are nobody's address. */
export function listEntries(state: State): Entry[] {
  return listIfPresent(`${POOL_DIR}/${state}`).flatMap((name) => entryOf(state, name) ?? []);
}

function entryOf(state: State, name: string): Entry | undefined {
  const [address = '', eniId = '', ...rest] = name.split(',');
  return isAddress(address) && rest.length > 0 ? { state, address, eniId, rest: rest.join(',') } : undefined;
}

/**
 * Brings a prefix's addresses into the pool, once: a marker made with O_EXCL says it is in. The entries are
 * laid out in a temporary directory, renamed whole to `adding/`, and moved one by one to `free/`, so that a
 * run killed anywhere is finished by the next call and never lays an address out twice.
 *
 * @param releasedAt boot-clock milliseconds the addresses count as released at: 0 for those found at boot,
 *   NEVER_USED for those asked for just now.
 * @returns false when it may not enter.
 */
export function addToPool(owned: Owned, releasedAt: number | typeof NEVER_USED): boolean {
  for (const state of ['free', 'leased', 'cooling', 'retiring', 'adding']) {
    mkdirSync(`${POOL_DIR}/${state}`, { recursive: true, mode: 0o700 });
  }
  const name = owned.cidr.replace('/', '-');
  const marker = `${POOL_DIR}/owned/${owned.eniId}/${name}`;
  const adding = `${POOL_DIR}/adding/${name}`;
  const unfinished = listIfPresent(`${POOL_DIR}/adding`).includes(name);
  if (!unfinished) {
    if (!mayEnter(owned)) return false;
    layOut(owned, releasedAt, adding);
  }
  const isNew = mark(marker);
  release(adding);
  return isNew;
}

/**
 * Whether a prefix that EC2 shows can be brought in: it is not in the pool, under this ENI or another, and has not left
 * it so lately that who shows it may be wrong.
 */
export function mayEnter(owned: Owned): boolean {
  const name = owned.cidr.replace('/', '-');
  if (listIfPresent(`${POOL_DIR}/owned/${owned.eniId}`).includes(name)) return false;
  if (listIfPresent(LEAVING).some((leaving) => leaving.startsWith(`${name},${owned.eniId},`))) return false;
  return heldElsewhere(owned) === undefined;
}

/**
 * The marker of another ENI that still has addresses of this prefix. Somebody has moved the prefix in EC2, and pods
 * may still use it where it was: an address that is in the pool twice would go to two pods.
 */
export function heldElsewhere({ eniId, cidr }: Owned): Owned | undefined {
  return listOwned().find(
    (one) => one.eniId !== eniId && (contains(one.cidr, cidr) || contains(cidr, one.cidr)),
  );
}

/** Finishes what a killed run began to add, also where EC2 no longer has the prefix. */
export function finishAdding(): void {
  const owned = listOwned();
  for (const name of listIfPresent(`${POOL_DIR}/adding`)) {
    const adding = `${POOL_DIR}/adding/${name}`;
    // Without its marker nothing of it was in use: whoever finds the prefix adds it again.
    if (owned.some((one) => one.cidr === name.replace('-', '/'))) release(adding);
    else rmSync(adding, { recursive: true });
  }
}

/**
 * Takes an address that no pod has out of circulation: whoever removes what the kernel has of it would otherwise take
 * it from a pod that gets the address meanwhile.
 *
 * @param move moves the entry; false when somebody else was faster.
 * @returns the entry it was; `nobody` when no pod can get the address; `leased` when one has it, or may be about to.
 */
export function claim(address: string, move: (entry: Entry) => boolean): Entry | 'leased' | 'nobody' {
  const isThis = (entry: Entry) => entry.address === address;
  if (listEntries('leased').some(isThis)) return 'leased';
  const entries = [...listEntries('free'), ...listEntries('cooling')];
  const moved = entries.filter(isThis).find(move);
  if (moved !== undefined) return moved;
  if (listEntries('retiring').some(isThis)) return 'nobody';
  // An entry on its way from one state to another is seen in none of them.
  return listOwned().some((owned) => contains(owned.cidr, `${address}/32`)) ? 'leased' : 'nobody';
}

/** rename(2): true when this call did it, false when the entry was gone. */
export function moved(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}

export function pathOf({ state, address, eniId, rest }: Entry): string {
  return `${POOL_DIR}/${state}/${address},${eniId},${rest}`;
}

/** Addresses of prefixes on their way back to EC2: nobody may lease them. */
export function leavingRanges(): { eniId: string; first: number; last: number }[] {
  return listIfPresent(LEAVING).flatMap((name) => {
    const [prefix = '', eniId = ''] = name.split(',');
    const cidr = prefix.replace('-', '/');
    return isCidr(cidr) ? [{ eniId, ...rangeOf(cidr) }] : [];
  });
}

/** Addresses of the pool that have been given out or rest; the ENI's other addresses are free. */
export function countStates(): Record<State, number> {
  const count = (state: State) => listIfPresent(`${POOL_DIR}/${state}`).length;
  return {
    free: count('free'),
    leased: count('leased'),
    cooling: count('cooling'),
    retiring: count('retiring'),
  };
}

function layOut(owned: Owned, releasedAt: number | typeof NEVER_USED, adding: string): void {
  const temporary = `${POOL_DIR}/.laying-out`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { mode: 0o700 });
  const { first, last } = rangeOf(owned.cidr);
  for (let address = first; address <= last; address += 1) {
    writeFileSync(`${temporary}/${toAddress(address)},${owned.eniId},${releasedAt}`, '');
  }
  renameSync(temporary, adding);
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
