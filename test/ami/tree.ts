// What two disks hold, and what differs between them.
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/** Paths, each with what a user of it could notice: type, mode, owner, contents; no times. */
function treeOf(folder: string, at = '/', found = new Map<string, string>()): Map<string, string> {
  for (const name of readdirSync(join(folder, at))) {
    const path = join(at, name);
    const full = join(folder, path);
    const entry = lstatSync(full);
    const owner = `${entry.mode.toString(8)} ${entry.uid}:${entry.gid}`;
    if (entry.isSymbolicLink()) found.set(path, `link to ${readlinkSync(full)}`);
    else if (entry.isDirectory()) treeOf(folder, path, found.set(path, owner));
    else if (entry.isFile())
      found.set(path, `${owner} ${createHash('sha256').update(readFileSync(full)).digest('hex')}`);
    // A device of numbers 0, 0: the overlay's word for a file of the base image that is gone.
    else found.set(path, `${owner} device ${entry.rdev}`);
  }
  return found;
}

/** Paths that are not the same in both, sorted, without those below `except`. */
export function differences(first: string, second: string, except: string[]): string[] {
  const [a, b] = [treeOf(first), treeOf(second)];
  return [...new Set([...a.keys(), ...b.keys()])]
    .filter((path) => a.get(path) !== b.get(path))
    .filter((path) => !except.some((one) => path === one || path.startsWith(`${one}/`)))
    .map((path) => `${path}: ${a.get(path) ?? 'absent'} | ${b.get(path) ?? 'absent'}`)
    .sort();
}
