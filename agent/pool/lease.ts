// Leases: which attachment has which address. Taken and given back by rename(2) alone, without a lock: of all
// that want an entry, exactly one gets it. A lease knows its owner and outlives the pod's namespace.
import { renameSync, writeFileSync } from 'node:fs';
import { Failure } from '../messages/failure.ts';
import { hasCode } from '../port/fs.ts';
import { toNumber } from './ipv4.ts';
import { type Entry, leavingRanges, listEntries, NEVER_USED, POOL_DIR } from './pool.ts';

/** Asks eniboot-refill.path for more addresses. */
const REFILL_WANTED = `${POOL_DIR}/refill-wanted`;

/** One attachment of a container: what CNI calls the pair of container ID and interface name. */
export interface Owner {
  containerId: string;
  ifName: string;
}

export interface Lease {
  address: string;
  eniId: string;
  owner: Owner;
  /** The entry it was made from, so that an attachment that failed can be undone without a trace. */
  from?: string;
}

export interface LeaseOptions {
  /** ENIs that can be used, in the order they are filled. */
  eniIds: string[];
  /** Milliseconds an address rests between two owners. */
  restMs: number;
  /** Boot-clock milliseconds. */
  nowMs: number;
  /** Below this many addresses left, a refill is asked for. */
  lowWater: number;
}

/**
 * Leases an address: from the first ENI that has one, in it from the fullest prefix, in it the one that has
 * rested longest. Rested addresses of `cooling/` are taken as they are; nobody has to move them first.
 *
 * @throws POOL_EXHAUSTED at once when none is left; a refill has been asked for by then.
 */
export function takeLease(owner: Owner, options: LeaseOptions): Lease {
  // Four directories cannot be read as one snapshot: at full churn a look misses entries that exist.
  for (let looks = 0; looks < 2; looks += 1) {
    const candidates = candidatesOf(options);
    for (let left = candidates.length; left > 0; left -= 1) {
      const entry = takeBest(candidates);
      const from = pathOf(entry);
      if (!moved(from, leasePath(entry.address, entry.eniId, owner))) continue;
      if (left - 1 < options.lowWater) askForRefill();
      return { address: entry.address, eniId: entry.eniId, owner, from };
    }
  }
  askForRefill();
  const resting = listEntries('cooling').length;
  throw new Failure(
    'POOL_EXHAUSTED',
    `no address is free on this node${resting === 0 ? '' : `; ${resting} rest after their pod is gone`}; a refill has been asked for`,
    { leased: listEntries('leased').length, resting },
  );
}

/** The lease of an attachment, if it has one. */
export function findLease(owner: Owner): Lease | undefined {
  return listLeases().find(
    (lease) => lease.owner.containerId === owner.containerId && lease.owner.ifName === owner.ifName,
  );
}

export function listLeases(): Lease[] {
  return listEntries('leased').map(({ address, eniId, rest }) => {
    // A container ID has no comma; an interface name may have one.
    const comma = rest.indexOf(',');
    return {
      address,
      eniId,
      owner: { containerId: rest.slice(0, comma), ifName: rest.slice(comma + 1) },
    };
  });
}

/** Ends a lease: the address rests from `nowMs` (boot clock) on. False when somebody else ended it before. */
export function releaseLease(lease: Lease, nowMs: number): boolean {
  const { address, eniId, owner } = lease;
  return moved(leasePath(address, eniId, owner), `${POOL_DIR}/cooling/${address},${eniId},${nowMs}`);
}

/** Undoes takeLease for an attachment that never came to be: the address is as it was before. */
export function undoLease(lease: Lease): void {
  if (lease.from !== undefined) moved(leasePath(lease.address, lease.eniId, lease.owner), lease.from);
}

interface Candidate {
  entry: Entry;
  /** Position of its ENI. */
  eni: number;
  address: number;
  /** ENI and /28 as one number: a prefix, or the single addresses that happen to lie in one. */
  prefix: number;
  /** Addresses of that prefix which nobody has. */
  unleased: number;
  stamp: number;
}

/** What can be leased now, in no order: one is wanted, and sorting hundreds costs more than the rest of an ADD's own code. */
function candidatesOf({ eniIds, restMs, nowMs }: LeaseOptions): Candidate[] {
  const all: Candidate[] = [];
  const unleased = new Map<number, number>();
  // A pod may end in a prefix that EC2 no longer has, before refill can retire the address.
  const leaving = leavingRanges();
  for (const entry of [...listEntries('free'), ...listEntries('cooling')]) {
    const eni = eniIds.indexOf(entry.eniId);
    if (eni === -1) continue;
    const address = toNumber(entry.address);
    if (leaving.some((one) => one.eniId === entry.eniId && one.first <= address && address <= one.last))
      continue;
    const prefix = eni * 2 ** 28 + Math.floor(address / 16);
    unleased.set(prefix, (unleased.get(prefix) ?? 0) + 1);
    const stamp = stampOf(entry);
    if (nowMs - stamp >= restMs) all.push({ entry, eni, address, prefix, unleased: 0, stamp });
  }
  for (const one of all) one.unleased = unleased.get(one.prefix) ?? 0;
  return all;
}

/** Takes the one that comes first out of a list that is not empty. */
function takeBest(candidates: Candidate[]): Entry {
  let best = 0;
  for (let at = 1; at < candidates.length; at += 1) {
    if (comesBefore(candidates[at] as Candidate, candidates[best] as Candidate)) best = at;
  }
  const { entry } = candidates[best] as Candidate;
  const last = candidates.pop() as Candidate;
  if (best < candidates.length) candidates[best] = last;
  return entry;
}

/** The first ENI's, of the fullest prefix, the longest rested; numbers are compared, since a collator costs milliseconds. */
function comesBefore(a: Candidate, b: Candidate): boolean {
  const order =
    a.eni - b.eni ||
    a.unleased - b.unleased ||
    a.prefix - b.prefix ||
    a.stamp - b.stamp ||
    a.address - b.address;
  return order < 0;
}

/** Boot-clock milliseconds of the release; an unreadable stamp counts as just released. */
function stampOf(entry: Entry): number {
  if (entry.rest === NEVER_USED) return Number.NEGATIVE_INFINITY;
  const stamp = Number(entry.rest);
  return entry.rest !== '' && Number.isFinite(stamp) ? stamp : Number.POSITIVE_INFINITY;
}

function pathOf(entry: Entry): string {
  return `${POOL_DIR}/${entry.state}/${entry.address},${entry.eniId},${entry.rest}`;
}

export function leasePath(address: string, eniId: string, owner: Owner): string {
  return `${POOL_DIR}/leased/${address},${eniId},${owner.containerId},${owner.ifName}`;
}

/** rename(2): true when this call did it, false when the entry was gone. */
function moved(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
}

function askForRefill(): void {
  writeFileSync(REFILL_WANTED, '');
}
