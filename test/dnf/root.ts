// The newest dnf5 and RPM in reach, unpacked and never installed: Fedora's own packages are not reachable from here.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';

/** Where unpacked packages are kept, outside the clone. */
export const cache = cacheFolder('dnf');
/** Of Debian; dnf 5.4 and RPM 6.1. */
export const release = 'forky';
/** The file that names the folder in use. */
export const pointer = join(cache, release);

/** Root folder of them. Throws, with the command to run, when they are not there. */
export function debianRoot(): string {
  if (!existsSync(pointer))
    throw new Error(`dnf5 is not in ${cache}: run \`node test/dnf/fetch.ts\` with a network`);
  return join(cache, readFileSync(pointer, 'utf8').trim());
}
