// Leases: which attachment has which address. Taken and given back by rename(2) alone, without a lock: of all
// that want an entry, exactly one gets it. A lease knows its owner and outlives the pod's namespace.
import { writeFileSync } from 'node:fs';
import { isAddress, toNumber } from '../host/ipv4.ts';
import { Failure } from '../messages/failure.ts';
import { isThere, listIfPresent } from '../port/fs.ts';
import { inUse } from './in-use.ts';
import { leavingRanges, listEntries, moved, NEVER_USED, POOL_DIR, pathOf } from './pool.ts';

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
  /** Addresses that are not to be leased: this ADD has tried them. */
  passOver?: ReadonlySet<string>;
}

/**
 * Leases an address: from the first ENI that has one, in it from the fullest prefix, in it the one that has
 * rested longest. Rested addresses of `cooling/` are taken as they are; nobody has to move them first. Those that
 * somebody is known to carry come last: whoever did so may be gone.
 *
 * @throws POOL_EXHAUSTED at once when none is left; a refill has been asked for by then.
 */
export function takeLease(owner: Owner, options: LeaseOptions): Lease {
  // Four directories cannot be read as one snapshot: at full churn a look misses entries that exist.
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
    ...(carried === 0 ? [] : [`${carried} are carried by somebody who has not leased them`]),
    'a refill has been asked for',
  ];
  throw new Failure('POOL_EXHAUSTED', why.join('; '), {
    leased: listEntries('leased').length,
    resting,
    inUse: carried,
  });
}

function take({ address, eniId, from }: Ready, owner: Owner): Lease | undefined {
  if (!isAddress(address) || !moved(from, leasePath(address, eniId, owner))) return undefined;
  return { address, eniId, owner, from };
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

/** Takes back a release of a lease whose pod turns out to live. False when it is too late. */
export function resumeLease({ address, eniId, owner }: Lease): boolean {
  return listEntries('cooling')
    .filter((entry) => entry.address === address && entry.eniId === eniId)
    .some((entry) => moved(pathOf(entry), leasePath(address, eniId, owner)));
}

/** Whether this owner has it still. */
export function isLeased({ address, eniId, owner }: Lease): boolean {
  return isThere(leasePath(address, eniId, owner));
}

/** Does what belongs to taking a lease; when it fails, the lease was never taken. */
export function orUndo<T>(lease: Lease, work: () => T): T {
  try {
    return work();
  } catch (error) {
    undoLease(lease);
    throw error;
  }
}

/** Undoes takeLease for an attachment that never came to be: the address is as it was before. */
export function undoLease(lease: Lease): void {
  if (lease.from !== undefined) moved(leasePath(lease.address, lease.eniId, lease.owner), lease.from);
}

/** The addresses of one /28 of an ENI that nobody has: a prefix, or single addresses that happen to lie in one. */
interface Group {
  /** Position of its ENI. */
  eni: number;
  /** The /28's number. */
  prefix: number;
  unleased: number;
  /** Those that have rested. */
  ready: Ready[];
}

interface Ready {
  address: string;
  eniId: string;
  /** The entry's path. */
  from: string;
  stamp: number;
  last: number;
}

/**
 * What can be leased, by /28, and beside it what somebody carries. Little is done for each entry, since an ADD reads hundreds of them before the runtime
 * has compiled anything: names are cut by hand, and only the last part of an address is made a number.
 */
function groupsOf(options: LeaseOptions): { groups: Group[]; carried: Ready[] } {
  const { eniIds, restMs, nowMs, passOver } = options;
  const groups = new Map<string, Group>();
  // A pod may end in a prefix that EC2 no longer has, before refill can retire the address.
  const leaving = leavingRanges();
  const known = inUse(nowMs);
  const carried: Ready[] = [];
  for (const state of ['free', 'cooling'] as const) {
    const folder = `${POOL_DIR}/${state}`;
    for (const name of listIfPresent(folder)) {
      const comma = name.indexOf(',');
      const second = name.indexOf(',', comma + 1);
      const eniId = name.slice(comma + 1, second);
      const eni = eniIds.indexOf(eniId);
      if (eni === -1) continue;
      const address = name.slice(0, comma);
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
      const isCarried = known.size > 0 && known.has(name.slice(0, second));
      if (!isCarried) group.unleased += 1;
      const stamp = stampOf(name.slice(second + 1));
      if (nowMs - stamp < restMs || passOver?.has(address) === true) continue;
      const ready = isCarried ? carried : group.ready;
      ready.push({ address, eniId, from: `${folder}/${name}`, stamp, last });
    }
  }
  return { groups: [...groups.values()], carried };
}

/** The first ENI's, in it the fullest. Numbers are compared, never texts: a collator's first use costs milliseconds. */
function comesBefore(a: Group, b: Group): number {
  return a.eni - b.eni || a.unleased - b.unleased || a.prefix - b.prefix;
}

function isLeaving(ranges: ReturnType<typeof leavingRanges>, eniId: string, address: string): boolean {
  if (!isAddress(address)) return true;
  const value = toNumber(address);
  return ranges.some((one) => one.eniId === eniId && one.first <= value && value <= one.last);
}

/** Boot-clock milliseconds of the release; an unreadable stamp counts as just released. */
function stampOf(text: string): number {
  if (text === NEVER_USED) return Number.NEGATIVE_INFINITY;
  const stamp = Number(text);
  return text !== '' && Number.isFinite(stamp) ? stamp : Number.POSITIVE_INFINITY;
}

export function leasePath(address: string, eniId: string, owner: Owner): string {
  return `${POOL_DIR}/leased/${address},${eniId},${owner.containerId},${owner.ifName}`;
}

function askForRefill(): void {
  writeFileSync(REFILL_WANTED, '');
}
