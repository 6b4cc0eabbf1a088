// Debian's programs that run on nodes beside eniboot, unpacked and never installed: firewalld with its D-Bus.
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { keptRoot } from '../debian.ts';

/** The Debian release. */
export const release = 'trixie';
/** The file that names the folder in use, outside the clone. */
export const pointer = join(cacheFolder('neighbours'), release);

/** Root folder of the programs. Throws, with the command that fetches them, when it does not exist. */
export function programsRoot(): string {
  return keptRoot(pointer, 'test/neighbours/fetch.ts');
}
