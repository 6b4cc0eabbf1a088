// Two Debian releases whose own systemd judges the units: between them they hold the span of versions a Fedora node may
// have. Only files are used; nothing of them is booted or installed.
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { keptRoot } from '../debian.ts';

/** trixie: systemd 257, cloud-init 25.1, NetworkManager 1.52. forky: systemd 262, cloud-init 26.2, NetworkManager 1.58. */
export const releases = ['trixie', 'forky'] as const;
export type Release = (typeof releases)[number];

/** Where the extracted packages are kept, outside the clone. */
const unitCache = cacheFolder('units');

/** The file that names the directory in use for a release. */
export function pointerOf(release: Release): string {
  return join(unitCache, release);
}

/** Root folder of a release's extracted packages. Throws, with the command to run, when they are not there. */
export function rootOf(release: Release): string {
  return keptRoot(pointerOf(release), 'test/systemd/fetch.ts');
}
