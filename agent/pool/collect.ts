// collect: frees leases whose pods are provably gone, and removes from the kernel what no lease accounts for.
// A lease is freed only when its link and namespace have been gone for ten minutes and every runtime then says that it
// does not know the sandbox; one that is silent frees nothing.
import { renameSync } from 'node:fs';
import { contains } from '../host/ipv4.ts';
import { listPodTraces, removePodTraces } from '../host/pod-links.ts';
import { listSandboxes } from '../host/sandboxes.ts';
import { isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { hasCode, readIfPresent, writeIfChanged } from '../port/fs.ts';
import { type Lease, leasePath, listLeases, releaseLease } from './lease.ts';
import { namespaceOf } from './lease-note.ts';
import { type Entry, listEntries, listOwned, POOL_DIR } from './pool.ts';

export interface Collected {
  /** Leases freed; their addresses rest now. */
  freed: Lease[];
  /** Leases without link and namespace, not freed, and why. */
  kept: { lease: Lease; reason: string }[];
  /** Addresses without a lease whose link or rules were removed from the kernel. */
  removed: string[];
}

/** Milliseconds a lease must have looked abandoned before it is freed. */
const SUSPICION_MS = 600_000;
/** When each suspected lease was first seen so: boot-clock milliseconds by path. */
const SUSPECTS = `${POOL_DIR}/suspects.json`;

/** The caller holds the pool's flock. */
export async function collect(clock: Clock): Promise<Collected> {
  // The leases first: a link that is missing later belongs to none that was made meanwhile.
  const leases = listLeases();
  const { links } = await listPodTraces();
  const abandoned = leases.filter((lease) => !links.has(lease.address) && namespaceOf(lease) !== 'there');
  const suspects = remember(abandoned, clock.bootMs());
  const ripe = abandoned.filter((lease) => clock.bootMs() - (suspects[keyOf(lease)] ?? 0) >= SUSPICION_MS);
  const { freed, kept } = await free(ripe, clock);
  return { freed, kept, removed: await removeOrphans(clock) };
}

async function free(ripe: Lease[], clock: Clock): Promise<Pick<Collected, 'freed' | 'kept'>> {
  const freed: Lease[] = [];
  const kept: Collected['kept'] = [];
  const known = ripe.filter((lease) => namespaceOf(lease) === 'gone');
  for (const lease of ripe)
    if (!known.includes(lease)) kept.push({ lease, reason: 'its network namespace is not known' });
  if (known.length === 0) return { freed, kept };

  const sandboxes = await listSandboxes().catch((error: unknown) => {
    if (!isFailure(error)) throw error;
    for (const lease of known) kept.push({ lease, reason: error.message });
    return undefined;
  });
  if (sandboxes === undefined) return { freed, kept };
  for (const lease of known) {
    if (sandboxes.some((sandbox) => sandbox.id === lease.owner.containerId)) {
      kept.push({ lease, reason: 'the runtime still lists its sandbox' });
    } else if (!(await removePodTraces(lease.address))) {
      kept.push({ lease, reason: 'the kernel keeps its rules or link' });
    } else if (releaseLease(lease, clock.bootMs())) {
      freed.push(lease);
    }
  }
  return { freed, kept };
}

/**
 * Removes links and rules of addresses that nobody leases. The address is taken out of circulation first: a
 * pod that gets it meanwhile would lose its own link.
 */
async function removeOrphans(clock: Clock): Promise<string[]> {
  const removed: string[] = [];
  const { all } = await listPodTraces();
  for (const address of all) {
    const claim = claimOf(address);
    if (claim === 'leased') continue;
    if (await removePodTraces(address)) removed.push(address);
    if (claim !== 'nobody')
      renameSync(pathOf(claim), pathOf({ ...claim, state: 'cooling', rest: String(clock.bootMs()) }));
  }
  return removed;
}

/** The claimed entry; `nobody` when no pod can get the address; `leased` when one has it, or may be about to. */
function claimOf(address: string): Entry | 'leased' | 'nobody' {
  const isThis = (entry: Entry) => entry.address === address;
  const leased = listEntries('leased').some(isThis);
  if (leased) return 'leased';
  for (const entry of [...listEntries('free'), ...listEntries('cooling')].filter(isThis)) {
    const claimed: Entry = { ...entry, state: 'retiring' };
    try {
      renameSync(pathOf(entry), pathOf(claimed));
      return claimed;
    } catch (error) {
      if (!hasCode(error, 'ENOENT')) throw error;
    }
  }
  if (listEntries('retiring').some(isThis)) return 'nobody';
  // An entry on its way from one state to another is seen in none of them.
  return listOwned().some((owned) => contains(owned.cidr, `${address}/32`)) ? 'leased' : 'nobody';
}

function pathOf({ state, address, eniId, rest }: Entry): string {
  return `${POOL_DIR}/${state}/${address},${eniId},${rest}`;
}

/** Brings the list of suspects up to date: those no longer abandoned are forgotten. */
function remember(abandoned: Lease[], nowMs: number): Record<string, number> {
  const before = readSuspects();
  const now = Object.fromEntries(abandoned.map((lease) => [keyOf(lease), before[keyOf(lease)] ?? nowMs]));
  if (abandoned.length > 0 || Object.keys(before).length > 0)
    writeIfChanged(SUSPECTS, JSON.stringify(now), 0o600);
  return now;
}

function readSuspects(): Record<string, number> {
  try {
    const value: unknown = JSON.parse(readIfPresent(SUSPECTS) ?? 'null');
    if (typeof value !== 'object' || value === null) return {};
    return Object.fromEntries(Object.entries(value).filter(([, since]) => typeof since === 'number'));
  } catch {
    return {};
  }
}

function keyOf({ address, eniId, owner }: Lease): string {
  return leasePath(address, eniId, owner);
}
