// Programs of Debian that run on nodes beside eniboot, unpacked and never installed: firewalld with its D-Bus.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';

/** Where unpacked packages are kept, outside the clone. */
export const cache = cacheFolder('neighbours');
/** Of Debian. */
export const release = 'trixie';
/** The file that names the folder in use. */
export const pointer = join(cache, release);

/** Root folder of them. Throws, with the command to run, when they are not there. */
export function programsRoot(): string {
  if (!existsSync(pointer))
    throw new Error(`firewalld is not in ${cache}: run \`node test/neighbours/fetch.ts\` with a network`);
  return join(cache, readFileSync(pointer, 'utf8').trim());
}
