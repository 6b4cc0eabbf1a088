// What must hold of the pool's files at any moment, after a kill at any point.
import { readdirSync, rmSync } from 'node:fs';
import { rangeOf, toAddress } from '../../agent/host/ipv4.ts';
import { listOwned, POOL_DIR } from '../../agent/pool/entry.ts';

const states = ['free', 'leased', 'cooling', 'retiring'] as const;

export function emptyPool(): void {
  rmSync(POOL_DIR, { recursive: true, force: true });
}

/** Names of entries by state, with those that are still being added. */
export function listing(): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  for (const state of states) found[state] = list(`${POOL_DIR}/${state}`);
  found['adding'] = list(`${POOL_DIR}/adding`).flatMap((prefix) => list(`${POOL_DIR}/adding/${prefix}`));
  found['leaving'] = list(`${POOL_DIR}/leaving`);
  found['owned'] = listOwned().map((owned) => `${owned.cidr} ${owned.eniId}`);
  return found;
}

/** A sentence for each violation; empty when all holds. `quiet`: no program works in the pool, so nothing may be half done. */
export function violations(quiet: boolean): string[] {
  const now = listing();
  const wrong: string[] = [];
  const places = new Map<string, string[]>();
  for (const state of [...states, 'adding']) {
    for (const name of now[state] ?? []) {
      const [address = '', eniId = ''] = name.split(',');
      const key = `${address} ${eniId}`;
      places.set(key, [...(places.get(key) ?? []), state]);
    }
  }
  for (const [key, found] of places) if (found.length > 1) wrong.push(`${key} is in ${found.join(' and ')}`);
  const leaving = (now['leaving'] ?? []).map((name) =>
    name.split(',').slice(0, 2).join(' ').replace('-', '/'),
  );
  const covered = new Set<string>();
  for (const { cidr, eniId } of listOwned()) {
    const { first, last } = rangeOf(cidr);
    const missing: string[] = [];
    for (let address = first; address <= last; address += 1) {
      const key = `${toAddress(address)} ${eniId}`;
      covered.add(key);
      if (!places.has(key)) missing.push(toAddress(address));
    }
    if (missing.length > 0 && !leaving.includes(`${cidr} ${eniId}`))
      wrong.push(`${cidr} lacks ${missing.join(', ')}`);
    if (quiet && leaving.includes(`${cidr} ${eniId}`)) wrong.push(`${cidr} is still leaving`);
  }
  for (const [key, found] of places)
    if (!covered.has(key) && !found.includes('adding')) wrong.push(`${key} (${found}) has no marker`);
  if (quiet && (now['adding'] ?? []).length > 0) wrong.push(`still adding ${now['adding']}`);
  return wrong;
}

function list(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}
