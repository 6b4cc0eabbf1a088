// collect frees leases whose pods are provably gone, and removes from the kernel the objects of addresses without a
// lease. A lease is freed only when its link and namespace have been gone for ten minutes and every runtime then says
// that it does not know the sandbox. When a runtime does not answer, no such lease is freed. A probe's lease is freed
// as soon as its process is gone.
import { renameSync } from 'node:fs';
import { listPodTraces, removePodTraces } from '../attachment/remains.ts';
import { listSandboxes } from '../host/sandboxes.ts';
import { isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { readJsonIfPresent, writeIfChanged } from '../port/fs.ts';
import { entryName, leasePath, moved, POOL, pathOf } from './entry.ts';
import { expireInUse } from './in-use.ts';
import { type Lease, listLeases, releaseLease } from './lease.ts';
import { isOfGoneProbe, namespaceOf } from './lease-note.ts';
import { claim } from './prefixes.ts';

export interface Collected {
  /** Leases that were freed; their addresses rest now. */
  freed: Lease[];
  /** Leases without link and namespace that were not freed, each with the reason. */
  kept: { lease: Lease; reason: string }[];
  /** Addresses without a lease whose link or rules were removed from the kernel. */
  removed: string[];
}

/** Milliseconds for which a lease must look abandoned before it is freed. */
const SUSPICION_MS = 600_000;

/** The caller holds the pool's flock. */
export async function collect(clock: Clock): Promise<Collected> {
  // Leases are listed before links: a link that is missing later then belongs to no lease that was made in between.
  const leases = listLeases();
  const { links } = listPodTraces();
  const abandoned = leases.filter((lease) => !links.has(lease.address) && namespaceOf(lease) !== 'there');
  const suspects = remember(abandoned, clock.bootMs());
  const ripe = abandoned.filter(
    (lease) => isOfGoneProbe(lease) || clock.bootMs() - (suspects[leasePath(lease)] ?? 0) >= SUSPICION_MS,
  );
  const { freed, kept } = await free(ripe, clock);
  expireInUse(clock.bootMs());
  return { freed, kept, removed: removeOrphans(clock) };
}

async function free(ripe: Lease[], clock: Clock): Promise<Pick<Collected, 'freed' | 'kept'>> {
  const freed: Lease[] = [];
  const kept: Collected['kept'] = [];
  const known = ripe.filter((lease) => namespaceOf(lease) === 'gone');
  for (const lease of ripe)
    if (!known.includes(lease))
      kept.push({ lease, reason: 'its network namespace is not known, or cannot be looked at' });
  // Runtimes do not know probes.
  const probes = known.filter(isOfGoneProbe);
  const pods = known.filter((lease) => !probes.includes(lease));
  for (const lease of probes) end(lease);
  if (pods.length === 0) return { freed, kept };

  const sandboxes = await listSandboxes().catch((error: unknown) => {
    if (!isFailure(error)) throw error;
    for (const lease of pods) kept.push({ lease, reason: error.message });
    return undefined;
  });
  if (sandboxes === undefined) return { freed, kept };
  for (const lease of pods) {
    if (sandboxes.some((sandbox) => sandbox.id === lease.owner.containerId))
      kept.push({ lease, reason: 'the runtime still lists its sandbox' });
    else end(lease);
  }
  return { freed, kept };

  function end(lease: Lease): void {
    if (!removePodTraces(lease.address)) kept.push({ lease, reason: 'the kernel keeps its rules or link' });
    else if (releaseLease(lease, clock.bootMs())) freed.push(lease);
  }
}

/**
 * Removes links and rules of addresses without a lease. The address is first taken out of circulation: a pod that got
 * it at that moment would lose its own link.
 */
function removeOrphans(clock: Clock): string[] {
  const removed: string[] = [];
  const { all } = listPodTraces();
  for (const address of all) {
    const retired = (name: string) => pathOf({ state: 'retiring', name });
    const entry = claim(address, (one) => moved(pathOf(one), retired(one.name)));
    if (entry === 'leased') continue;
    if (removePodTraces(address)) removed.push(address);
    if (entry !== 'absent')
      renameSync(retired(entry.name), pathOf({ state: 'cooling', name: entryName(entry, clock.bootMs()) }));
  }
  return removed;
}

/** Updates the list of suspects; leases that no longer look abandoned are dropped from it. */
function remember(abandoned: Lease[], nowMs: number): Record<string, number> {
  const before = readSuspects();
  const now = Object.fromEntries(
    abandoned.map((lease) => [leasePath(lease), before[leasePath(lease)] ?? nowMs]),
  );
  if (abandoned.length > 0 || Object.keys(before).length > 0)
    writeIfChanged(POOL.suspects, JSON.stringify(now), 0o600);
  return now;
}

function readSuspects(): Record<string, number> {
  const value = readJsonIfPresent(POOL.suspects);
  if (typeof value !== 'object' || value === null) return {};
  return Object.fromEntries(Object.entries(value).filter(([, since]) => typeof since === 'number'));
}
