// Which network namespace, CNI network and pod a lease was made for, and with which limits: written into the lease's
// file by ADD, read by DEL, CHECK, GC, collect and the tools. Only a note: the file's name alone says who has the address.
import { closeSync, existsSync, ftruncateSync, openSync, statSync, writeSync } from 'node:fs';
import type { Limit, PodLimits } from '../host/pod-limits.ts';
import { hasCode, readIfPresent } from '../port/fs.ts';
import { type Lease, leasePath } from './lease.ts';

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
}

/** Notes what a lease was made for. False when the lease has ended meanwhile. */
export function noteLease(
  lease: Lease,
  { netns, network, pod, limits }: Pick<Note, 'netns' | 'network'> & Partial<Note>,
): boolean {
  let fd: number;
  try {
    // Not 'w', which would make a lease of its own where this one has ended.
    fd = openSync(leasePath(lease.address, lease.eniId, lease.owner), 'r+');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false;
    throw error;
  }
  try {
    ftruncateSync(fd);
    const named = pod === undefined ? '' : `${pod.namespace}/${pod.name}`;
    const lines = [lease.owner.containerId, netns, network, named, JSON.stringify(limits ?? {})];
    writeSync(fd, `${lines.join('\n')}\n`);
  } finally {
    closeSync(fd);
  }
  // It may have ended between opening and writing.
  return existsSync(leasePath(lease.address, lease.eniId, lease.owner));
}

/** The noted path; undefined when no note of this owner is there. */
export function notedNamespace(lease: Lease): string | undefined {
  return noteOf(lease)?.netns;
}

/** What is noted of a lease; undefined when no note of this owner is there. */
export function noteOf(lease: Lease): Note | undefined {
  const text = readIfPresent(leasePath(lease.address, lease.eniId, lease.owner));
  const [containerId, netns = '', network = '', named = '', limits] = text?.split('\n') ?? [];
  // A file keeps the note of its last owner until the next one writes its own.
  if (containerId !== lease.owner.containerId || !/^\/[\w./:@+=,~-]+$/.test(netns)) return undefined;
  const [namespace = '', name] = named.split('/');
  return {
    netns,
    network: network === '' ? undefined : network,
    pod: name === undefined ? undefined : { namespace, name },
    limits: limitsIn(limits),
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

/** `unknown` when no note of this owner is there: then nobody may take the namespace for gone. */
export function namespaceOf(lease: Lease): 'there' | 'gone' | 'unknown' {
  const path = notedNamespace(lease);
  if (path === undefined) return 'unknown';
  const process = /^\/proc\/(\d+)\//.exec(path)?.[1];
  return process === undefined ? pathIs(path) : processIs(Number(process));
}

function pathIs(path: string): 'there' | 'gone' {
  try {
    statSync(path);
    return 'there';
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return 'gone';
    throw error;
  }
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
