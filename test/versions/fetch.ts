// Fetches nft and ip of other releases before the tests, which have no network. Kept for a week; without a network an older
// copy serves.
import { existsSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { unpackPackages } from '../debian.ts';
import { pointerOf, releases, toolCache } from './tools.ts';

const weekMs = 7 * 24 * 3600 * 1000;

mkdirSync(toolCache, { recursive: true });
for (const release of releases) {
  const pointer = pointerOf(release);
  if (existsSync(pointer) && Date.now() - statSync(pointer).mtimeMs < weekMs) continue;
  try {
    const key = unpackPackages(toolCache, { release, programs: ['nftables', 'iproute2'] });
    writeFileSync(`${pointer}.tmp`, `${key}\n`);
    renameSync(`${pointer}.tmp`, pointer);
    process.stdout.write(`${release}: ${key}\n`);
  } catch (error) {
    if (!existsSync(pointer)) throw error;
    process.stdout.write(`${release}: no newer packages to be had, the last ones are used\n`);
  }
}
