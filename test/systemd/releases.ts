// Two Debian releases whose own systemd judges the units: they enclose the versions that a Fedora node may have. Only their files
// are used; no release is booted or installed.
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { keptRoot } from '../debian.ts';

/** trixie: systemd 257, cloud-init 25.1, NetworkManager 1.52. forky: systemd 262, cloud-init 26.2, NetworkManager 1.58. */
export const releases = ['trixie', 'forky'] as const;
export type Release = (typeof releases)[number];

/** The folder of the extracted packages, outside the clone. */
const unitCache = cacheFolder('units');

/** The file that names the directory in use for a release. */
export function pointerOf(release: Release): string {
  return join(unitCache, release);
}

/** Root folder of a release's extracted packages. Throws, with the command to run, when it does not exist. */
export function rootOf(release: Release): string {
  return keptRoot(pointerOf(release), 'test/systemd/fetch.ts');
}
