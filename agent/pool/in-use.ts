// Addresses that a network namespace has without a lease: a pod added them to its own interface, or a namespace has
// outlived its pod. The kernel refuses such an address to an ADD, and the ADD leaves a note here. Later ADDs try the
// address last, and refill does not count it as available. It is only a note: the entry keeps its state.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { listIfPresent } from '../port/fs.ts';
import { entryName, type Place, POOL, splitName } from './entry.ts';

/** Milliseconds for which a note counts. After that an ADD tries the address as usual. */
const BELIEVED_MS = 600_000;

interface Note extends Place {
  /** Boot-clock milliseconds. */
  seenMs: number;
}

export function noteInUse(place: Place, nowMs: number): void {
  mkdirSync(POOL.inUse, { recursive: true, mode: 0o700 });
  writeFileSync(pathOf({ ...place, seenMs: nowMs }), '');
  for (const note of notes()) if (isOf(note, place) && note.seenMs < nowMs) remove(note);
}

/** Removes the note: the kernel has let a pod have the address. */
export function forgetInUse(place: Place): void {
  for (const note of notes()) if (isOf(note, place)) remove(note);
}

/** Removes notes that no longer count. */
export function expireInUse(nowMs: number): void {
  for (const note of notes()) if (!isBelieved(note, nowMs)) remove(note);
}

/** Keys of the addresses that are known to be in use: `address,eni`, which is how an entry's name begins. */
export function inUse(nowMs: number): Set<string> {
  return new Set(
    notes()
      .filter((note) => isBelieved(note, nowMs))
      .map(({ address, eniId }) => `${address},${eniId}`),
  );
}

function notes(): Note[] {
  return listIfPresent(POOL.inUse).flatMap((name) => {
    const parts = splitName(name);
    return parts === undefined
      ? []
      : [{ address: parts.address, eniId: parts.eniId, seenMs: Number(parts.rest) }];
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

function pathOf(note: Note): string {
  return `${POOL.inUse}/${entryName(note, note.seenMs)}`;
}
