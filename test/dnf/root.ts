// The newest available dnf5 and RPM, unpacked and never installed: Fedora's own packages are not available here.
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { keptRoot } from '../debian.ts';

/** The Debian release; dnf 5.4 and RPM 6.1. */
export const release = 'forky';
/** The file that names the folder in use, outside the clone. */
export const pointer = join(cacheFolder('dnf'), release);

/** Root folder of the packages. Throws, with the command to run, when it does not exist. */
export const debianRoot = () => keptRoot(pointer, 'test/dnf/fetch.ts');
