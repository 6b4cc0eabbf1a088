// Programs of Debian that run on nodes beside eniboot, unpacked and never installed: firewalld with its D-Bus.
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { keptRoot } from '../debian.ts';

/** Of Debian. */
export const release = 'trixie';
/** The file that names the folder in use, outside the clone. */
export const pointer = join(cacheFolder('neighbours'), release);

/** Root folder of them. Throws, with the command to run, when they are not there. */
export function programsRoot(): string {
  return keptRoot(pointer, 'test/neighbours/fetch.ts');
}
