// The installed versions: a folder each, and two links among them. A switch is one rename of a link.
import { rmSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { isVersion } from '../aws/release.ts';
import { takeLock } from '../host/lock.ts';
import { LIBEXEC_DIR } from '../host/names.ts';
import { isFailure } from '../messages/failure.ts';
import { POOL_LOCK } from '../pool/pool.ts';
import { systemClock } from '../port/clock.ts';
import { linkAtomic, linkIfPresent, listIfPresent } from '../port/fs.ts';
import type { Log } from '../port/log.ts';
import { invocation } from '../port/runtime.ts';

export const PLUGIN_DIR = '/opt/cni/bin';
export const CURRENT = `${LIBEXEC_DIR}/current`;
export const PREVIOUS = `${LIBEXEC_DIR}/previous`;
/** Where a version is unpacked before it appears under its own name. */
export const STAGING = `${LIBEXEC_DIR}/.staging`;
/** Whoever adds or removes a version holds it; the pool's lock is for switching, and is not held through a download. */
export const VERSIONS_LOCK = '/run/eniboot/versions.lock';

export interface Links {
  current: string | undefined;
  previous: string | undefined;
}

export function readLinks(): Links {
  return { current: linkIfPresent(CURRENT), previous: linkIfPresent(PREVIOUS) };
}

/** Puts both links back to what readLinks() found; one that was not there goes. */
export function restoreLinks(links: Links): void {
  for (const [path, target] of [
    [CURRENT, links.current],
    [PREVIOUS, links.previous],
  ] as const) {
    if (target === linkIfPresent(path)) continue;
    if (target === undefined) rmSync(path, { force: true });
    else linkAtomic(path, target);
  }
}

/** The folder of the running version; its manifest lies beside the executable. */
export function runningFolder(): string {
  return dirname(invocation().executable);
}

/** An update has just released both locks: each is free a moment later, when the child that stood for it has ended. */
const LOCK_PATIENCE_MS = 1_000;

/**
 * Removes versions that nothing leads to any more, and what a killed run left half staged. Never the running one,
 * nor one a link points at. Left to the next boot while another run has one of the locks.
 */
export async function collectVersions(log: Log): Promise<void> {
  const locks: { release: () => void }[] = [];
  try {
    // The pool's too: a boot beside this one may run a version that nothing leads to yet.
    for (const path of [VERSIONS_LOCK, POOL_LOCK])
      locks.push(await takeLock(path, systemClock, LOCK_PATIENCE_MS));
  } catch (error) {
    for (const lock of locks) lock.release();
    if (!isFailure(error)) throw error;
    return;
  }
  try {
    const kept = inUse();
    for (const name of listIfPresent(LIBEXEC_DIR)) {
      const path = `${LIBEXEC_DIR}/${name}`;
      if (path !== STAGING && (!isVersion(name) || kept.has(path))) continue;
      try {
        rmSync(path, { recursive: true, force: true });
        log.info('version removed', { path });
      } catch (error) {
        log.warn('version not removed', { path, reason: String(error) });
      }
    }
  } finally {
    for (const lock of locks) lock.release();
  }
}

/** Folders of the running version and of every version a link here or among the plugins points into. */
function inUse(): Set<string> {
  const folders = [runningFolder()];
  for (const directory of [LIBEXEC_DIR, PLUGIN_DIR]) {
    for (const name of listIfPresent(directory)) {
      const target = linkIfPresent(`${directory}/${name}`);
      if (target === undefined) continue;
      const path = resolve(directory, target);
      if (path.startsWith(`${LIBEXEC_DIR}/`))
        folders.push(`${LIBEXEC_DIR}/${path.slice(LIBEXEC_DIR.length + 1).split('/')[0]}`);
    }
  }
  return new Set(folders);
}
