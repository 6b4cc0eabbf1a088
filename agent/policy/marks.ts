// Which namespaces have a policy, as files. The service writes them, and ADD reads them without asking the service. They are in
// /run, so that nothing is known after a boot.
import { mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { listIfPresent, statIfPresent, writeAtomic } from '../port/fs.ts';

export const POLICY_DIR = '/run/eniboot-policy';
const NAMESPACES = join(POLICY_DIR, 'namespaces');
/** The service has listed everything once in this boot. */
const KNOWN = join(POLICY_DIR, 'known');

/**
 * Whether a pod of the namespace is closed until its rules are known. Until the service has listed everything, every pod is.
 */
export function isClosedAtFirst(namespace: string, strict: boolean): boolean {
  return strict || !wasKnown() || statIfPresent(join(NAMESPACES, namespace)) !== undefined;
}

/** Whether the service has listed everything once in this boot. */
export function wasKnown(): boolean {
  return statIfPresent(KNOWN) !== undefined;
}

/**
 * Called before pods are looked for: the look finds pods that were added earlier, and a pod that is added later finds the mark.
 */
export function markNamespaces(isolating: ReadonlySet<string>): void {
  mkdirSync(NAMESPACES, { recursive: true, mode: 0o755 });
  for (const one of isolating)
    if (statIfPresent(join(NAMESPACES, one)) === undefined) writeAtomic(join(NAMESPACES, one), '');
  if (!wasKnown()) writeAtomic(KNOWN, '');
}

/** Called once the pods have been opened. */
export function unmarkNamespaces(isolating: ReadonlySet<string>): void {
  for (const one of readdirSync(NAMESPACES))
    if (!isolating.has(one)) rmSync(join(NAMESPACES, one), { force: true });
}

/** Policies are off: the folder is as before the first start, without the counts of denied packets. */
export function forgetMarks(): void {
  for (const one of listIfPresent(POLICY_DIR))
    rmSync(join(POLICY_DIR, one), { recursive: true, force: true });
}
