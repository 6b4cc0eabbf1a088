import { hasHostLink, listHostLinks } from '../agent/host/devices.ts';
import { addressOfHostLink } from '../agent/host/pod-link-name.ts';
import { Failure, messageOf } from '../agent/messages/failure.ts';
import { type Lease, listLeases, resumeLease } from '../agent/pool/lease.ts';
import { namespaceOf, noteOf } from '../agent/pool/lease-note.ts';
import { pause, systemClock } from '../agent/port/clock.ts';
import { type Configuration, wrongConfig } from './call.ts';
import { removeOrphan } from './lost.ts';

/** The key in which libcni sends the attachments to keep (SPEC 1.1.0, "GC"). */
const VALID = 'cni.dev/valid-attachments';
/** A second key with the same list, which libcni also sends; it is from before the specification was final. */
const VALID_BEFORE = 'cni.dev/attachments';

/** Milliseconds that an ADD of another network may take between its lease and its note on a busy machine. */
const UNNOTED_MS = 2_000;

/**
 * Milliseconds by which a list of valid attachments may be older than its GC. The specification forbids a runtime to
 * call ADD during its GC, but two runtimes on one node do not know each other. A runtime that was killed and cleans up
 * at its start comes later than this (cri-o and containerd start again after 10 s and 5 s by their units).
 */
const LIST_AGE_MS = 5_000;

/**
 * Ends every lease of this network that is not among the valid attachments, as far as the called plugin ends leases,
 * and removes host links without a lease. It goes on after an error and reports all errors at the end. It leaves alone
 * what was made after the list, in a namespace that lives. The list must be there: an absent list does not mean no
 * attachments. A list that is null does mean none: libcni writes an empty list as null, and cri-o passes an empty one
 * when it starts on a node without sandboxes.
 */
export function collectGarbage(configuration: Configuration, end: (lease: Lease) => void): void {
  const { raw, name } = configuration;
  const listedMs = systemClock.bootMs() - LIST_AGE_MS;
  const keep = new Set(readValid(VALID in raw ? raw[VALID] : raw[VALID_BEFORE]));
  // Links are listed before leases: an ADD takes the lease first, so a link that was listed has its lease by then.
  const links = listHostLinks();
  const leases = listLeases();
  const problems: string[] = [];
  const attempt = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      problems.push(messageOf(error));
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
 * An ADD that was stopped for long may make its links at this moment. The ADD looks for its lease after making the
 * links, and this GC looks for the links after ending the lease, so at least the later of the two sees what the other
 * has done.
 */
function endUnlessMade(lease: Lease, end: (lease: Lease) => void): void {
  end(lease);
  if (hasHostLink(lease.address)) resumeLease(lease);
}

/**
 * Whether a killed ADD left the lease before it made anything. The list is of one network, and other networks share the
 * pool; a lease without a note may be any network's. A lease that has a host link lost its note in some other way.
 */
function wasNeverNoted(lease: Lease): boolean {
  return noteOf(lease) === undefined && !hasHostLink(lease.address);
}

function readValid(value: unknown): string[] {
  if (value === null) return [];
  if (!Array.isArray(value)) throw wrongConfig(VALID, 'is not the list of attachments to keep');
  return value.map((one: unknown) => {
    const { containerID, ifname } = (one ?? {}) as Record<string, unknown>;
    if (typeof containerID === 'string' && typeof ifname === 'string') return `${containerID} ${ifname}`;
    throw wrongConfig(VALID, 'an entry lacks containerID or ifname');
  });
}
