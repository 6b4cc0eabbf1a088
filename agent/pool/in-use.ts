// Addresses that somebody carries who has no lease: a pod that gives its own interface more of them than it got, or a
// network namespace that outlived its pod. The kernel tells an ADD so, which leaves a note of it here: ADD then tries
// such an address last, and refill does not count on it. Only a note: the entry stays as it is, in its state.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { listIfPresent } from '../port/fs.ts';
import { POOL_DIR } from './pool.ts';

const IN_USE = `${POOL_DIR}/in-use`;

/** How long a note counts; then an ADD tries as usual and finds out. Milliseconds. */
const BELIEVED_MS = 600_000;

/** An address of an ENI. */
interface Place {
  address: string;
  eniId: string;
}

interface Note extends Place {
  /** Boot-clock milliseconds. */
  seenMs: number;
}

export function noteInUse(place: Place, nowMs: number): void {
  mkdirSync(IN_USE, { recursive: true, mode: 0o700 });
  writeFileSync(pathOf({ ...place, seenMs: nowMs }), '');
  for (const note of notes()) if (isOf(note, place) && note.seenMs < nowMs) remove(note);
}

/** The kernel has granted it to a pod. */
export function forgetInUse(place: Place): void {
  for (const note of notes()) if (isOf(note, place)) remove(note);
}

/** Removes notes that no longer count. */
export function expireInUse(nowMs: number): void {
  for (const note of notes()) if (!isBelieved(note, nowMs)) remove(note);
}

/** Keys of addresses that somebody carries, as far as is known: `address,eni`, as an entry's name begins. */
export function inUse(nowMs: number): Set<string> {
  return new Set(
    notes()
      .filter((note) => isBelieved(note, nowMs))
      .map(({ address, eniId }) => `${address},${eniId}`),
  );
}

function notes(): Note[] {
  return listIfPresent(IN_USE).map((name) => {
    const [address = '', eniId = '', seen = ''] = name.split(',');
    return { address, eniId, seenMs: Number(seen) };
  });
}

function isOf(note: Note, { address, eniId }: Place): boolean {
  return note.address === address && note.eniId === eniId;
}

function isBelieved({ seenMs }: Note, nowMs: number): boolean {
  return nowMs - seenMs < BELIEVED_MS;
}

function remove(note: Note): void {
  rmSync(pathOf(note), { force: true });
}

function pathOf({ address, eniId, seenMs }: Note): string {
  return `${IN_USE}/${address},${eniId},${seenMs}`;
}
