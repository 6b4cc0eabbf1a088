// The contents of two disks, and their differences.
import { createHash } from 'node:crypto';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

/** Paths, each with the attributes that a user could notice: type, mode, owner, contents; no times. */
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
    // A device with number 0, 0 marks a deleted file of the base image (overlay whiteout).
    else found.set(path, `${owner} device ${entry.rdev}`);
  }
  return found;
}

/** Paths that differ, sorted, without those below `except`. */
export function differences(first: string, second: string, except: string[]): string[] {
  const [a, b] = [treeOf(first), treeOf(second)];
  return [...new Set([...a.keys(), ...b.keys()])]
    .filter((path) => a.get(path) !== b.get(path))
    .filter((path) => !except.some((one) => path === one || path.startsWith(`${one}/`)))
    .map((path) => `${path}: ${a.get(path) ?? 'absent'} | ${b.get(path) ?? 'absent'}`)
    .sort();
}
