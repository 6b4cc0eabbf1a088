// Fetches dnf5 and RPM with what they need to run. Kept for a week; without a network an older copy serves.
import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { unpackPackages } from '../debian.ts';
import { cache, pointer, release } from './root.ts';

const programs = [
  ...['dnf5', 'rpm', 'createrepo-c', 'bash', 'dash', 'coreutils', 'sed', 'grep', 'gawk', 'tar', 'findutils'],
  ...['util-linux', 'libc-bin'],
];
const weekMs = 7 * 24 * 3600 * 1000;

mkdirSync(cache, { recursive: true });
if (!existsSync(pointer) || Date.now() - statSync(pointer).mtimeMs > weekMs)
  try {
    writeFileSync(`${pointer}.tmp`, `${unpackPackages(cache, { release, programs })}\n`);
    renameSync(`${pointer}.tmp`, pointer);
  } catch (error) {
    if (!existsSync(pointer)) throw error;
    process.stdout.write(`${release}: no newer packages to be had, the last ones are used\n`);
  }
