// The pool's format on disk: which files and folders there are, and what their names mean. No other file knows it. Each
// address is an empty file in the folder that stands for its state. The file's name holds all other data, so that one
// rename(2) is the whole change. Names are split by `indexOf`: an ADD reads hundreds of them before the runtime has
// compiled any code.
import { renameSync } from 'node:fs';
import { isAddress, isCidr } from '../host/ipv4.ts';
import { RUN_DIR } from '../host/names.ts';
import { hasCode, listIfPresent } from '../port/fs.ts';

export const POOL_DIR = `${RUN_DIR}/pool`;

/** Files and folders of the pool, other than those of the states. */
export const POOL = {
  /** The flock of boot, refill and collect. */
  lock: `${POOL_DIR}/lock`,
  /** `owned/<ENI>/<prefix>`: a marker for each prefix in the pool. */
  owned: `${POOL_DIR}/owned`,
  /** `adding/<prefix>/`: entries on their way to `free`. */
  adding: `${POOL_DIR}/adding`,
  layingOut: `${POOL_DIR}/.laying-out`,
  leased: `${POOL_DIR}/leased`,
  /** Prefixes on their way back to EC2, and those that have left lately: retire.ts. */
  leaving: `${POOL_DIR}/leaving`,
  leavingEnis: `${POOL_DIR}/leaving-enis`,
  inUse: `${POOL_DIR}/in-use`,
  /** Makes eniboot-refill.path start a refill. */
  refillWanted: `${POOL_DIR}/refill-wanted`,
  /** What refill keeps about its last runs. */
  refillPast: `${POOL_DIR}/refill.json`,
  /** When each suspected lease was first suspected: boot-clock milliseconds by path. */
  suspects: `${POOL_DIR}/suspects.json`,
} as const;

const STATES = ['free', 'leased', 'cooling', 'retiring'] as const;
export type State = (typeof STATES)[number];

/** The stamp of an address that EC2 has just given and that no pod has had: it need not rest. */
export const NEVER_USED = 'new';

/** One attachment of a container: CNI identifies it by container ID and interface name. */
export interface Owner {
  containerId: string;
  ifName: string;
}

/** An address, and the ENI to which it belongs. */
export interface Place {
  address: string;
  eniId: string;
}

interface Named extends Place {
  /** Name of the entry's file. */
  name: string;
}

export interface LeasedEntry extends Named {
  state: 'leased';
  owner: Owner;
}

export interface UnleasedEntry extends Named {
  state: Exclude<State, 'leased'>;
  /** Boot-clock milliseconds. An address with an unreadable stamp is not leased and does not leave the pool. */
  releasedAt: number | typeof NEVER_USED | 'unreadable';
}

export type Entry = LeasedEntry | UnleasedEntry;
type EntryOf<S extends State> = S extends 'leased' ? LeasedEntry : UnleasedEntry;

/** A prefix (/28) or single address (/32) in the pool, and the ENI to which it belongs. */
export interface Owned {
  eniId: string;
  cidr: string;
}

/** A prefix that EC2 is asked to take back, may have taken back, or did not show. */
export interface Leaving extends Owned {
  /**
   * `given`: eniboot gives it back; EC2 is asked to take it. `missing`: EC2 does not show the prefix although eniboot
   * has not given it back. `shown`: the prefix was missing, and EC2 shows it again.
   */
  why: 'given' | 'missing' | 'shown';
  /** Boot-clock milliseconds at which this state began, or ended. */
  sinceMs: number;
}

/** The entries of a state. Other files (an editor's, a person's notes) are skipped. */
export function listEntries<S extends State>(state: S): EntryOf<S>[] {
  return namesIn(state).flatMap((name) => (entryOf(state, name) as EntryOf<S> | undefined) ?? []);
}

/** Names of a state's files, including files that are not entries. */
export function namesIn(state: State): string[] {
  return listIfPresent(`${POOL_DIR}/${state}`);
}

function entryOf(state: State, name: string): Entry | undefined {
  const parts = splitName(name);
  if (parts === undefined || !isAddress(parts.address)) return undefined;
  const { address, eniId, rest } = parts;
  if (state !== 'leased') return { state, name, address, eniId, releasedAt: stampOf(rest) };
  // A container ID contains no comma; an interface name may contain one.
  const comma = rest.indexOf(',');
  if (comma === -1) return undefined;
  return {
    ...{ state, name, address, eniId },
    owner: { containerId: rest.slice(0, comma), ifName: rest.slice(comma + 1) },
  };
}

/** The parts of the name of an entry or a note; undefined for a name of another form. The address is not checked. */
export function splitName(name: string): { address: string; eniId: string; rest: string } | undefined {
  const comma = name.indexOf(',');
  const second = name.indexOf(',', comma + 1);
  if (comma === -1 || second === -1) return undefined;
  return {
    address: name.slice(0, comma),
    eniId: name.slice(comma + 1, second),
    rest: name.slice(second + 1),
  };
}

/** The stamp at the end of an unleased entry's name. */
export function stampOf(text: string): UnleasedEntry['releasedAt'] {
  if (text === NEVER_USED) return text;
  const stamp = Number(text);
  return /^\d+$/.test(text) && Number.isSafeInteger(stamp) ? stamp : 'unreadable';
}

/** @param last boot-clock milliseconds, or the owner. */
export function entryName({ address, eniId }: Place, last: number | typeof NEVER_USED | Owner): string {
  return `${address},${eniId},${typeof last === 'object' ? `${last.containerId},${last.ifName}` : last}`;
}

export function pathOf({ state, name }: Pick<Entry, 'state' | 'name'>): string {
  return `${POOL_DIR}/${state}/${name}`;
}

export function leasePath(lease: Place & { owner: Owner }): string {
  return pathOf({ state: 'leased', name: entryName(lease, lease.owner) });
}

/** rename(2): true when this call moved the file, false when the file was gone. */
export function moved(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}

export function isSamePrefix(a: Owned, b: Owned): boolean {
  return a.eniId === b.eniId && a.cidr === b.cidr;
}

export function listOwned(): Owned[] {
  return listMarkers().filter(({ cidr }) => isCidr(cidr));
}

function listMarkers(): Owned[] {
  return listIfPresent(POOL.owned).flatMap((eniId) =>
    listIfPresent(`${POOL.owned}/${eniId}`).map((name) => ({ eniId, cidr: cidrOf(name) })),
  );
}

export function markerPath({ eniId, cidr }: Owned): string {
  return `${POOL.owned}/${eniId}/${prefixName(cidr)}`;
}

export function listLeaving(): Leaving[] {
  return listIfPresent(POOL.leaving).flatMap((name) => {
    const [prefix = '', eniId = '', why = '', since = ''] = name.split(',');
    const cidr = cidrOf(prefix);
    if (!isCidr(cidr)) return [];
    return [
      { cidr, eniId, why: why === 'missing' || why === 'shown' ? why : 'given', sinceMs: Number(since) },
    ];
  });
}

export function leavingPath({ cidr, eniId, why, sinceMs }: Leaving): string {
  return `${POOL.leaving}/${prefixName(cidr)},${eniId},${why},${sinceMs}`;
}

/** File name of a prefix: of its marker, and of its folder below `adding`. */
export function prefixName(cidr: string): string {
  return cidr.replace('/', '-');
}

export function cidrOf(name: string): string {
  return name.replace('-', '/');
}

/**
 * Paths in the pool's folder that do not belong to it: an editor's files, a person's notes, an address that was
 * mistyped.
 */
export function strays(): string[] {
  const known = [...Object.values(POOL).map((path) => path.slice(POOL_DIR.length + 1)), ...STATES];
  const isOurs = (name: string) =>
    known.includes(name) ||
    // Temporary names of files that are written whole and then renamed.
    known.some((one) => name.startsWith(`.${one}.`) && name.endsWith('.tmp'));
  return [
    ...listIfPresent(POOL_DIR)
      .filter((name) => !isOurs(name))
      .map((name) => `${POOL_DIR}/${name}`),
    ...STATES.flatMap((state) =>
      namesIn(state)
        .filter((name) => entryOf(state, name) === undefined)
        .map((name) => pathOf({ state, name })),
    ),
    ...listMarkers()
      .filter(({ cidr }) => !isCidr(cidr))
      .map(markerPath),
  ];
}
