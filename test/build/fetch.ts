// What the build tests need from the registry: the runtime for the other CPU, checked against the lock file.
import { join } from 'node:path';
import { fetchPackage } from '../../agent/build/npm-package.ts';

const root = join(import.meta.dirname, '../..');
for (const name of ['@oven/bun-linux-x64', '@oven/bun-linux-aarch64']) await fetchPackage(name, root);
