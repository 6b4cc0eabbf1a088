// The newest dnf5 and RPM in reach, unpacked and never installed: Fedora's own packages are not reachable from here.
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { keptRoot } from '../debian.ts';

/** Of Debian; dnf 5.4 and RPM 6.1. */
export const release = 'forky';
/** The file that names the folder in use, outside the clone. */
export const pointer = join(cacheFolder('dnf'), release);

/** Root folder of them. Throws, with the command to run, when they are not there. */
export const debianRoot = () => keptRoot(pointer, 'test/dnf/fetch.ts');
