// The installed versions: a folder for each, and two links. A switch is one rename of a link.
import { rmSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { isVersion } from '../../aws/release.ts';
import { type Lock, takeLock } from '../../host/lock.ts';
import { LIBEXEC_DIR } from '../../host/names.ts';
import { isFailure } from '../../messages/failure.ts';
import { POOL } from '../../pool/entry.ts';
import { systemClock } from '../../port/clock.ts';
import { linkAtomic, linkIfPresent, listIfPresent } from '../../port/fs.ts';
import type { Log } from '../../port/log.ts';
import { invocation } from '../../port/runtime.ts';

export const PLUGIN_DIR = '/opt/cni/bin';
export const CURRENT = `${LIBEXEC_DIR}/current`;
export const PREVIOUS = `${LIBEXEC_DIR}/previous`;
/** Where a version is unpacked before it appears under its own name. */
export const STAGING = `${LIBEXEC_DIR}/.staging`;
/** Held by a process that adds or removes a version. The pool's lock is for switching, and is not held during a download. */
export const VERSIONS_LOCK = '/run/eniboot/versions.lock';

export interface Links {
  current: string | undefined;
  previous: string | undefined;
}

export function readLinks(): Links {
  return { current: linkIfPresent(CURRENT), previous: linkIfPresent(PREVIOUS) };
}

/** Puts both links back to what readLinks() found. A link that was absent then is removed. */
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

/** An update may just have released both locks. Each is free a moment later, when the child process that held it has ended. */
const LOCK_PATIENCE_MS = 1_000;

/**
 * Removes versions to which nothing leads any more, and what a killed run left half staged. Never removes the running version,
 * nor one to which a link points. While another run has one of the locks, this is left to the next boot.
 */
export async function collectVersions(log: Log): Promise<void> {
  const locks: Lock[] = [];
  try {
    // The pool's lock too: a boot at the same time may run a version to which nothing leads yet.
    for (const path of [VERSIONS_LOCK, POOL.lock])
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

/** Folders of the running version and of every version to which a version link or a plugin link points. */
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
