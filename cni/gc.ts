import { hasHostLink, listHostLinks } from '../agent/host/devices.ts';
import { addressOfHostLink } from '../agent/host/pod-link-name.ts';
import { Failure } from '../agent/messages/failure.ts';
import { type Lease, listLeases, resumeLease } from '../agent/pool/lease.ts';
import { namespaceOf, noteOf } from '../agent/pool/lease-note.ts';
import { pause, systemClock } from '../agent/port/clock.ts';
import type { Configuration } from './call.ts';
import { removeOrphan } from './lost.ts';

/** Where libcni puts the attachments to keep (SPEC 1.1.0, "GC"). */
const VALID = 'cni.dev/valid-attachments';
/** The name that libcni sends beside it, from before the specification settled. */
const VALID_BEFORE = 'cni.dev/attachments';

/** Milliseconds that an ADD of another network, on a busy machine, has between its lease and its note. */
const UNNOTED_MS = 2_000;

/**
 * Milliseconds that a list of valid attachments may be older than the GC it comes with. The specification forbids a
 * runtime to call ADD meanwhile, and two runtimes on one node know nothing of each other. A runtime that was killed and
 * cleans up when it starts comes later than this (cri-o and containerd by their units: 10 s, 5 s).
 */
const LIST_AGE_MS = 5_000;

/**
 * Ends, in the way of the plugin that is asked, every lease of this network that is not among the valid
 * attachments, and removes host links without a lease. Goes on after an error and reports all of them at the end.
 * Leaves alone what was made since the list, in a namespace that lives. The list must be there: an absent one does not mean none. One that is null does: so libcni writes an empty list, as
 * cri-o gives it when it starts on a node without sandboxes.
 */
export function collectGarbage(configuration: Configuration, end: (lease: Lease) => void): void {
  const { raw, name } = configuration;
  const listedMs = systemClock.bootMs() - LIST_AGE_MS;
  const keep = new Set(readValid(VALID in raw ? raw[VALID] : raw[VALID_BEFORE]));
  // Links before leases: an ADD leases first, so a link that is seen has its lease by then.
  const links = listHostLinks();
  const leases = listLeases();
  const problems: string[] = [];
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      problems.push(error instanceof Error ? error.message : String(error));
    }
  };
  const unnoted: Lease[] = [];
  for (const lease of leases) {
    if (keep.has(`${lease.owner.containerId} ${lease.owner.ifName}`)) continue;
    attempt(() => {
      const note = noteOf(lease);
      if (note === undefined) unnoted.push(lease);
      else if (note.network === name && (note.madeMs <= listedMs || namespaceOf(lease) === 'gone'))
        endUnlessMade(lease, end);
    });
  }
  const leased = new Set(leases.map((lease) => lease.address));
  for (const link of links) {
    const address = addressOfHostLink(link);
    if (address !== undefined && !leased.has(address)) attempt(() => removeOrphan(address, name));
  }
  if (unnoted.length > 0) pause(UNNOTED_MS);
  for (const lease of unnoted) {
    attempt(() => {
      if (wasNeverNoted(lease)) endUnlessMade(lease, end);
    });
  }
  if (problems.length > 0) throw new Failure('KERNEL_CHANGE', problems.join('; '), { problems });
}

/**
 * An ADD that was stopped for long may make its links between the two. It then looks for its lease, and here its links
 * are looked for when the lease is gone: whoever comes second sees what the other has done.
 */
function endUnlessMade(lease: Lease, end: (lease: Lease) => void): void {
  end(lease);
  if (hasHostLink(lease.address)) resumeLease(lease);
}

/**
 * The list is of one network; others share the pool. A lease that stays without a note is what a killed ADD left before
 * it made anything: any network's, unless it has a link, and so lost its note in some other way.
 */
function wasNeverNoted(lease: Lease): boolean {
  return noteOf(lease) === undefined && !hasHostLink(lease.address);
}

function readValid(value: unknown): string[] {
  if (value === null) return [];
  if (!Array.isArray(value)) {
    throw new Failure('CNI_CONFIG', `${VALID}: is not the list of attachments to keep`, { path: VALID });
  }
  return value.map((one: unknown) => {
    const { containerID, ifname } = (one ?? {}) as Record<string, unknown>;
    if (typeof containerID === 'string' && typeof ifname === 'string') return `${containerID} ${ifname}`;
    throw new Failure('CNI_CONFIG', `${VALID}: an entry lacks containerID or ifname`, { path: VALID });
  });
}
