// Fetches the programs before the tests, which have no network. Kept for a week; without a network an older copy serves.
import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { unpackPackages } from '../debian.ts';
import { cache, pointer, release } from './programs.ts';

const weekMs = 7 * 24 * 3600 * 1000;

mkdirSync(cache, { recursive: true });
if (!existsSync(pointer) || Date.now() - statSync(pointer).mtimeMs > weekMs)
  try {
    const key = unpackPackages(cache, { release, programs: ['firewalld', 'dbus'] });
    writeFileSync(`${pointer}.tmp`, `${key}\n`);
    renameSync(`${pointer}.tmp`, pointer);
  } catch (error) {
    if (!existsSync(pointer)) throw error;
    process.stdout.write(`${release}: no newer packages to be had, the last ones are used\n`);
  }
