// collect: frees leases whose pods are provably gone, and removes from the kernel what no lease accounts for.
// A lease is freed only when its link and namespace have been gone for ten minutes and every runtime then says that it
// does not know the sandbox; one that is silent frees nothing. A probe's lease is freed as soon as its process is gone.
import { renameSync } from 'node:fs';
import { listPodTraces, removePodTraces } from '../host/pod-links.ts';
import { listSandboxes } from '../host/sandboxes.ts';
import { isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { readJsonIfPresent, writeIfChanged } from '../port/fs.ts';
import { expireInUse } from './in-use.ts';
import { type Lease, leasePath, listLeases, releaseLease } from './lease.ts';
import { isOfGoneProbe, namespaceOf } from './lease-note.ts';
import { claim, type Entry, moved, POOL_DIR, pathOf } from './pool.ts';

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
  const ripe = abandoned.filter(
    (lease) => isOfGoneProbe(lease) || clock.bootMs() - (suspects[keyOf(lease)] ?? 0) >= SUSPICION_MS,
  );
  const { freed, kept } = await free(ripe, clock);
  expireInUse(clock.bootMs());
  return { freed, kept, removed: await removeOrphans(clock) };
}

async function free(ripe: Lease[], clock: Clock): Promise<Pick<Collected, 'freed' | 'kept'>> {
  const freed: Lease[] = [];
  const kept: Collected['kept'] = [];
  const known = ripe.filter((lease) => namespaceOf(lease) === 'gone');
  for (const lease of ripe)
    if (!known.includes(lease))
      kept.push({ lease, reason: 'its network namespace is not known, or cannot be looked at' });
  // No runtime has anything to say about a probe.
  const probes = known.filter(isOfGoneProbe);
  const pods = known.filter((lease) => !probes.includes(lease));
  for (const lease of probes) await end(lease);
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
    else await end(lease);
  }
  return { freed, kept };

  async function end(lease: Lease): Promise<void> {
    if (!(await removePodTraces(lease.address)))
      kept.push({ lease, reason: 'the kernel keeps its rules or link' });
    else if (releaseLease(lease, clock.bootMs())) freed.push(lease);
  }
}

/**
 * Removes links and rules of addresses that nobody leases. The address is taken out of circulation first: a
 * pod that gets it meanwhile would lose its own link.
 */
async function removeOrphans(clock: Clock): Promise<string[]> {
  const removed: string[] = [];
  const { all } = await listPodTraces();
  for (const address of all) {
    const retired = (entry: Entry): Entry => ({ ...entry, state: 'retiring' });
    const entry = claim(address, (one) => moved(pathOf(one), pathOf(retired(one))));
    if (entry === 'leased') continue;
    if (await removePodTraces(address)) removed.push(address);
    if (entry !== 'nobody')
      renameSync(
        pathOf(retired(entry)),
        pathOf({ ...entry, state: 'cooling', rest: String(clock.bootMs()) }),
      );
  }
  return removed;
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
  const value = readJsonIfPresent(SUSPECTS);
  if (typeof value !== 'object' || value === null) return {};
  return Object.fromEntries(Object.entries(value).filter(([, since]) => typeof since === 'number'));
}

function keyOf({ address, eniId, owner }: Lease): string {
  return leasePath(address, eniId, owner);
}
