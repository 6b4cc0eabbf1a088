// The network namespace, CNI network, pod and bandwidth limits of a lease. ADD writes them into the lease's file; DEL,
// CHECK, GC, collect and the tools read them. It is only a note: the file's name alone says who has the address.
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import type { Limit, PodLimits } from '../attachment/limits.ts';
import { PROBE_ID } from '../host/names.ts';
import { hasCode, isThere, readIfPresent } from '../port/fs.ts';
import { leasePath, moved, type Owner, pathOf } from './entry.ts';
import { isLeased, type Lease } from './lease.ts';
import { claim } from './prefixes.ts';

/** The pod in Kubernetes. */
export interface PodName {
  namespace: string;
  name: string;
  /** As the runtime tells it. Absent when it tells none, and in notes of versions that did not write it. */
  uid?: string;
}

interface Note {
  netns: string;
  network: string | undefined;
  /** undefined when the runtime did not name the pod. */
  pod: PodName | undefined;
  /** Bandwidth limits that ADD has set in the kernel; empty when there are none. */
  limits: PodLimits;
  /** Boot-clock milliseconds of the note. A note of a version that did not write the time counts as old. */
  madeMs: number;
}

type Known = Pick<Note, 'netns' | 'network' | 'madeMs'> & Partial<Note>;

/** Writes the note of a lease. False when the lease has ended in the meantime. */
export function noteLease(lease: Lease, known: Known): boolean {
  // The lease may end between opening and writing.
  return writeNote(leasePath(lease), lease.owner.containerId, known) && isLeased(lease);
}

/**
 * Leases an address that no pod has to a process that cleans up after a pod. The note is written first: when the
 * process is killed, the lease's namespace is one that is gone. `leased` when a pod has the address; `absent` when the
 * pool has no entry of it that a pod can get.
 */
export function leaseForCleaning(address: string, owner: Owner, known: Known): Lease | 'leased' | 'absent' {
  const entry = claim(address, (one) => {
    const path = pathOf(one);
    return writeNote(path, owner.containerId, known) && moved(path, leasePath({ ...one, owner }));
  });
  return typeof entry === 'string' ? entry : { address, eniId: entry.eniId, owner };
}

/** False when the file is gone. */
function writeNote(
  path: string,
  containerId: string,
  { netns, network, pod, limits, madeMs }: Known,
): boolean {
  let fd: number;
  try {
    // Not 'w', which would create a new entry where this one has been moved away.
    fd = openSync(path, 'r+');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
  try {
    ftruncateSync(fd);
    const named = pod === undefined ? '' : `${pod.namespace}/${pod.name}`;
    const lines = [containerId, netns, network, named, JSON.stringify(limits ?? {}), madeMs, pod?.uid];
    writeSync(fd, `${lines.join('\n')}\n`);
  } finally {
    closeSync(fd);
  }
  return true;
}

/** The noted path of the namespace; undefined when there is no note of this owner. */
export function notedNamespace(lease: Lease): string | undefined {
  return noteOf(lease)?.netns;
}

/** The note of a lease; undefined when there is no note of this owner. */
export function noteOf(lease: Lease): Note | undefined {
  const text = readIfPresent(leasePath(lease));
  const [containerId, netns = '', network = '', named = '', limits, made = '', uid = ''] =
    text?.split('\n') ?? [];
  // A file keeps the note of its last owner until the next owner writes its own.
  if (containerId !== lease.owner.containerId || !/^\/[\w./:@+=,~-]+$/.test(netns)) return undefined;
  const [namespace = '', name] = named.split('/');
  return {
    netns,
    network: network === '' ? undefined : network,
    pod: name === undefined ? undefined : { namespace, name, ...(uid !== '' && { uid }) },
    limits: limitsIn(limits),
    madeMs: /^\d+$/.test(made) ? Number(made) : Number.NEGATIVE_INFINITY,
  };
}

/** `NAMESPACE/NAME`, or the container's ID when the runtime has not named the pod. */
export function podOf(lease: Lease): string {
  const pod = noteOf(lease)?.pod;
  return pod === undefined ? lease.owner.containerId : `${pod.namespace}/${pod.name}`;
}

/** Empty when another version wrote the note or the note is damaged: limits become lines for `tc` and `nft`. */
function limitsIn(text: string | undefined): PodLimits {
  try {
    const { ingress, egress } = JSON.parse(text ?? '') as Record<keyof PodLimits, unknown>;
    return { ...(isLimit(ingress) ? { ingress } : {}), ...(isLimit(egress) ? { egress } : {}) };
  } catch {
    return {};
  }
}

function isLimit(value: unknown): value is Limit {
  const { bitsPerSecond, burstBytes } = (value ?? {}) as Record<keyof Limit, unknown>;
  return [bitsPerSecond, burstBytes].every((one) => Number.isInteger(one) && Number(one) > 0);
}

/**
 * `unknown` when there is no note of this owner or the noted path cannot be looked at. The caller must then not treat
 * the namespace as gone.
 */
export function namespaceOf(lease: Lease): 'there' | 'gone' | 'unknown' {
  const path = notedNamespace(lease);
  if (path === undefined) return 'unknown';
  const process = /^\/proc\/(\d+)\//.exec(path)?.[1];
  return process === undefined ? pathIs(path) : processIs(Number(process));
}

function pathIs(path: string): 'there' | 'gone' | 'unknown' {
  try {
    return isThere(path) ? 'there' : 'gone';
  } catch {
    return 'unknown';
  }
}

/**
 * Whether the lease belongs to a probe whose process is gone. The process will not end the lease, and no runtime knows
 * it.
 */
export function isOfGoneProbe(lease: Lease): boolean {
  return lease.owner.containerId.startsWith(`${PROBE_ID}-`) && namespaceOf(lease) === 'gone';
}

/** Uses signal 0: a unit's sandbox hides other users' processes in /proc, but not from kill(2). */
function processIs(pid: number): 'there' | 'gone' {
  try {
    process.kill(pid, 0);
    return 'there';
  } catch (error) {
    return hasCode(error, 'ESRCH') ? 'gone' : 'there';
  }
}
