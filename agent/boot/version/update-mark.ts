// The mark of an update that has switched and is not judged yet: the version and links it began from. It outlives a crash and a
// reboot.
import { rmSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import { LIBEXEC_DIR, STATE_DIR } from '../../host/names.ts';
import { isFailure } from '../../messages/failure.ts';
import { isThere, listIfPresent, readJsonIfPresent, syncDirectory, writeAtomic } from '../../port/fs.ts';
import { checkFiles, readManifest } from './manifest.ts';
import { type Links, restoreLinks, runningFolder } from './versions.ts';

interface Mark {
  from: string;
  to: string;
  /** The rollout that asked; undefined for an operator. */
  rollout: string | undefined;
  links: Links;
}

export function readMark(instanceId: string): Mark | undefined {
  return (readJsonIfPresent(markOf(instanceId)) as Mark | null | undefined) ?? undefined;
}

/**
 * After a reboot in the middle of an update, when the running version was switched to and was not judged: puts the links back
 * and resolves to the executable of the version before. undefined when no update was interrupted, or when that version is no
 * longer intact.
 */
export async function takeBackUnjudged(): Promise<string | undefined> {
  const running = basename(runningFolder());
  for (const instanceId of listIfPresent(STATE_DIR)) {
    const mark = readMark(instanceId);
    if (mark?.to !== running || mark.from === running) continue;
    const folder = `${LIBEXEC_DIR}/${mark.from}`;
    try {
      await checkFiles(folder, readManifest(folder));
    } catch (error) {
      if (isFailure(error)) return undefined;
      throw error;
    }
    restoreLinks(mark.links);
    forget(instanceId);
    return `${folder}/eniboot`;
  }
  return undefined;
}

/** The removal is on the disk when this returns: after a power cut the mark would take a judged version back. */
export function forget(instanceId: string): void {
  const path = markOf(instanceId);
  if (!isThere(path)) return;
  rmSync(path, { force: true });
  syncDirectory(dirname(path));
}

export function writeMark(instanceId: string, mark: Mark): void {
  writeAtomic(markOf(instanceId), `${JSON.stringify(mark)}\n`);
}

function markOf(instanceId: string): string {
  return `${STATE_DIR}/${instanceId}/update.json`;
}
