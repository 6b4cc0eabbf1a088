// Leases: which attachment has which address. A lease is taken and given back by rename(2) alone, without a lock: when
// several callers want an entry, exactly one gets it. A lease names its owner and outlives the pod's namespace.
import { writeFileSync } from 'node:fs';
import { isAddress, toNumber } from '../host/ipv4.ts';
import { Failure } from '../messages/failure.ts';
import { isThere } from '../port/fs.ts';
import {
  entryName,
  leasePath,
  listEntries,
  moved,
  NEVER_USED,
  namesIn,
  type Owner,
  type Place,
  POOL,
  pathOf,
  splitName,
  stampOf,
} from './entry.ts';
import { inUse } from './in-use.ts';
import { leavingRanges } from './prefixes.ts';

export interface Lease extends Place {
  owner: Owner;
  /** The entry that became this lease, so that an attachment that failed can be undone completely. */
  from?: string;
}

export interface LeaseOptions {
  /** Usable ENIs, in the order in which they are filled. */
  eniIds: string[];
  /** Milliseconds that an address rests between two owners. */
  restMs: number;
  /** Boot-clock milliseconds. */
  nowMs: number;
  /** A refill is requested when fewer addresses than this are left. */
  lowWater: number;
  /** Addresses that must not be leased: this ADD has tried them. */
  passOver?: ReadonlySet<string>;
}

/**
 * Leases an address: of the first ENI that has one, of that ENI's fullest prefix, the address that has rested longest.
 * Rested addresses in `cooling/` are leased directly; no process has to move them to `free/` first. Addresses that are
 * known to be in use come last: they may be free again by now.
 *
 * @throws POOL_EXHAUSTED at once when no address is left; a refill has been requested by then.
 */
export function takeLease(owner: Owner, options: LeaseOptions): Lease {
  // Four directories cannot be read as one snapshot: when many pods come and go, one listing misses entries that exist.
  for (let looks = 0; looks < 2; looks += 1) {
    const { groups, carried } = groupsOf(options);
    let left = groups.reduce((sum, group) => sum + group.ready.length, 0);
    for (const { ready } of groups.sort(comesBefore)) {
      for (const entry of ready.sort((a, b) => a.stamp - b.stamp || a.last - b.last)) {
        left -= 1;
        const lease = take(entry, owner);
        if (lease === undefined) continue;
        if (left < options.lowWater) orUndo(lease, askForRefill);
        return lease;
      }
    }
    for (const entry of carried) {
      const lease = take(entry, owner);
      if (lease === undefined) continue;
      orUndo(lease, askForRefill);
      return lease;
    }
  }
  askForRefill();
  const resting = listEntries('cooling').length;
  const carried = inUse(options.nowMs).size;
  const why = [
    'no address is free on this node',
    ...(resting === 0 ? [] : [`${resting} rest after their pod is gone`]),
    ...(carried === 0 ? [] : [`${carried} are carried without a lease`]),
    'a refill has been asked for',
  ];
  const leased = listEntries('leased').length;
  throw new Failure('POOL_EXHAUSTED', why.join('; '), { leased, resting, inUse: carried });
}

function take({ address, eniId, from }: Ready, owner: Owner): Lease | undefined {
  if (!isAddress(address) || !moved(from, leasePath({ address, eniId, owner }))) return undefined;
  return { address, eniId, owner, from };
}

/** The lease of an attachment; undefined when it has none. */
export function findLease(owner: Owner): Lease | undefined {
  return listLeases().find(
    (lease) => lease.owner.containerId === owner.containerId && lease.owner.ifName === owner.ifName,
  );
}

export function listLeases(): Lease[] {
  return listEntries('leased').map(({ address, eniId, owner }) => ({ address, eniId, owner }));
}

/** Ends a lease: the address rests from `nowMs` (boot clock) on. False when the lease had ended already. */
export function releaseLease(lease: Lease, nowMs: number): boolean {
  return moved(leasePath(lease), pathOf({ state: 'cooling', name: entryName(lease, nowMs) }));
}

/** Undoes releaseLease for a pod that turns out to be alive. False when it is too late. */
export function resumeLease(lease: Lease): boolean {
  return listEntries('cooling')
    .filter((entry) => entry.address === lease.address && entry.eniId === lease.eniId)
    .some((entry) => moved(pathOf(entry), leasePath(lease)));
}

/** Whether the owner still has the lease. */
export function isLeased(lease: Lease): boolean {
  return isThere(leasePath(lease));
}

/** Runs the work that belongs to taking a lease. When it fails, the lease is undone. */
export function orUndo<T>(lease: Lease, work: () => T): T {
  try {
    return work();
  } catch (error) {
    undoLease(lease);
    throw error;
  }
}

/** Undoes takeLease for an attachment that was not made: the address is again as it was before. */
export function undoLease(lease: Lease): void {
  if (lease.from !== undefined) moved(leasePath(lease), lease.from);
}

/** The unleased addresses in one /28 of an ENI: a prefix, or single addresses in the same /28. */
interface Group {
  /** Position of the ENI in `eniIds`. */
  eni: number;
  /** Number of the /28. */
  prefix: number;
  unleased: number;
  /** The addresses that have rested. */
  ready: Ready[];
}

interface Ready {
  address: string;
  eniId: string;
  /** Path of the entry. */
  from: string;
  stamp: number;
  last: number;
}

/**
 * The leasable addresses by /28, and separately those that are known to be in use. An ADD reads hundreds of entries, so
 * each costs little: only the last part of an address becomes a number.
 */
function groupsOf(options: LeaseOptions): { groups: Group[]; carried: Ready[] } {
  const { eniIds, restMs, nowMs, passOver } = options;
  const groups = new Map<string, Group>();
  // A pod may end in a prefix that EC2 no longer has, before refill can retire the address.
  const leaving = leavingRanges();
  const known = inUse(nowMs);
  const carried: Ready[] = [];
  for (const state of ['free', 'cooling'] as const) {
    for (const name of namesIn(state)) {
      const parts = splitName(name);
      const eni = parts === undefined ? -1 : eniIds.indexOf(parts.eniId);
      if (parts === undefined || eni === -1) continue;
      const { address, eniId } = parts;
      const dot = address.lastIndexOf('.');
      const last = Number(address.slice(dot + 1));
      if (!Number.isInteger(last)) continue;
      const key = `${eni},${address.slice(0, dot)},${last >> 4}`;
      let group = groups.get(key);
      if (group === undefined) {
        if (!isAddress(address)) continue;
        group = { eni, prefix: Math.floor(toNumber(address) / 16), unleased: 0, ready: [] };
        groups.set(key, group);
      }
      if (leaving.length > 0 && isLeaving(leaving, eniId, address)) continue;
      const isCarried = known.size > 0 && known.has(`${address},${eniId}`);
      if (!isCarried) group.unleased += 1;
      const releasedAt = stampOf(parts.rest);
      if (releasedAt === 'unreadable') continue;
      const stamp = releasedAt === NEVER_USED ? Number.NEGATIVE_INFINITY : releasedAt;
      if (nowMs - stamp < restMs || passOver?.has(address) === true) continue;
      const ready = isCarried ? carried : group.ready;
      ready.push({ address, eniId, from: pathOf({ state, name }), stamp, last });
    }
  }
  return { groups: [...groups.values()], carried };
}

/**
 * Sorts by ENI, then the fullest group first. It compares numbers only: the first use of a collator for texts costs
 * milliseconds.
 */
function comesBefore(a: Group, b: Group): number {
  return a.eni - b.eni || a.unleased - b.unleased || a.prefix - b.prefix;
}

function isLeaving(ranges: ReturnType<typeof leavingRanges>, eniId: string, address: string): boolean {
  if (!isAddress(address)) return true;
  const value = toNumber(address);
  return ranges.some((one) => one.eniId === eniId && one.first <= value && value <= one.last);
}

function askForRefill(): void {
  writeFileSync(POOL.refillWanted, '');
}
