// What the build tests need from the registry: the runtime for the other CPU, checked against the lock file.
import { join } from 'node:path';
import { fetchPackage, runtimes } from '../../agent/build/npm-package.ts';

const root = join(import.meta.dirname, '../..');
for (const name of Object.values(runtimes)) await fetchPackage(name, root);
