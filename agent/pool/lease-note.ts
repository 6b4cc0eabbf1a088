// Which network namespace, CNI network and pod a lease was made for, and with which limits: written into the lease's
// file by ADD, read by DEL, CHECK, GC, collect and the tools. Only a note: the file's name alone says who has the address.
import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { PROBE_ID } from '../host/names.ts';
import type { Limit, PodLimits } from '../host/pod-limits.ts';
import { hasCode, isThere, readIfPresent } from '../port/fs.ts';
import { isLeased, type Lease, leasePath, type Owner } from './lease.ts';
import { claim, moved, pathOf } from './pool.ts';

/** What Kubernetes calls the pod. */
export interface PodName {
  namespace: string;
  name: string;
}

interface Note {
  netns: string;
  network: string | undefined;
  /** undefined where the runtime did not say. */
  pod: PodName | undefined;
  /** Bandwidth limits that the kernel was given; empty without any. */
  limits: PodLimits;
  /** When it was noted: boot-clock milliseconds. Long ago in the notes of versions that did not say. */
  madeMs: number;
}

type Known = Pick<Note, 'netns' | 'network' | 'madeMs'> & Partial<Note>;

/** Notes what a lease was made for. False when the lease has ended meanwhile. */
export function noteLease(lease: Lease, known: Known): boolean {
  // It may end between opening and writing.
  return (
    writeNote(leasePath(lease.address, lease.eniId, lease.owner), lease.owner.containerId, known) &&
    isLeased(lease)
  );
}

/**
 * Leases an address that no pod has to whoever cleans up after one, who writes the note first: when he is killed, the
 * lease is one of a namespace that is gone. `nobody` when no pod can get the address, `leased` when one has it.
 */
export function leaseForCleaning(address: string, owner: Owner, known: Known): Lease | 'leased' | 'nobody' {
  const entry = claim(address, (one) => {
    const path = pathOf(one);
    return writeNote(path, owner.containerId, known) && moved(path, leasePath(address, one.eniId, owner));
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
    // Not 'w', which would make an entry of its own where this one has moved.
    fd = openSync(path, 'r+');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
  try {
    ftruncateSync(fd);
    const named = pod === undefined ? '' : `${pod.namespace}/${pod.name}`;
    const lines = [containerId, netns, network, named, JSON.stringify(limits ?? {}), madeMs];
    writeSync(fd, `${lines.join('\n')}\n`);
  } finally {
    closeSync(fd);
  }
  return true;
}

/** The noted path; undefined when no note of this owner is there. */
export function notedNamespace(lease: Lease): string | undefined {
  return noteOf(lease)?.netns;
}

/** What is noted of a lease; undefined when no note of this owner is there. */
export function noteOf(lease: Lease): Note | undefined {
  const text = readIfPresent(leasePath(lease.address, lease.eniId, lease.owner));
  const [containerId, netns = '', network = '', named = '', limits, made = ''] = text?.split('\n') ?? [];
  // A file keeps the note of its last owner until the next one writes its own.
  if (containerId !== lease.owner.containerId || !/^\/[\w./:@+=,~-]+$/.test(netns)) return undefined;
  const [namespace = '', name] = named.split('/');
  return {
    netns,
    network: network === '' ? undefined : network,
    pod: name === undefined ? undefined : { namespace, name },
    limits: limitsIn(limits),
    madeMs: /^\d+$/.test(made) ? Number(made) : Number.NEGATIVE_INFINITY,
  };
}

/** Empty in a note that another version wrote, or that is damaged: they become lines for `tc` and `nft`. */
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
 * `unknown` when no note of this owner is there, or nobody can look at what is noted: then nobody may take the namespace
 * for gone.
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

/** Of a probe whose process is gone: it cannot come back for it, and no runtime knows it. */
export function isOfGoneProbe(lease: Lease): boolean {
  return lease.owner.containerId.startsWith(`${PROBE_ID}-`) && namespaceOf(lease) === 'gone';
}

/** By signal 0: a unit's sandbox hides other users' processes from /proc, not from kill(2). */
function processIs(pid: number): 'there' | 'gone' {
  try {
    process.kill(pid, 0);
    return 'there';
  } catch (error) {
    return hasCode(error, 'ESRCH') ? 'gone' : 'there';
  }
}
