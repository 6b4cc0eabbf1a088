// What this boot has asked EC2 to create and has not yet seen attached. Each request is written down in full
// before it is sent: a killed run's successor sends the same one, with the same token, and gets the same ENI,
// also while a describe does not show it yet and when it would by now choose another subnet.
import { createHash } from 'node:crypto';
import type { CreateEni } from '../aws/ec2.ts';
import { RUN_DIR } from '../host/names.ts';
import { bootId } from '../port/clock.ts';
import { readJsonIfPresent, writeAtomic } from '../port/fs.ts';

export interface Attempt {
  request: CreateEni;
  /** Once EC2 has answered. */
  eniId?: string;
}

interface Book {
  /** Requests begun in this boot. */
  counter: number;
  open: Attempt[];
}

const FILE = `${RUN_DIR}/attach.json`;

export function openAttempts(): Attempt[] {
  return read().open;
}

/** Writes the request down, with a token of its own (64 ASCII characters, the most EC2 takes). */
export function beginAttempt(instanceId: string, wanted: Omit<CreateEni, 'clientToken'>): Attempt {
  const book = read();
  book.counter += 1;
  const text = JSON.stringify([instanceId, bootId(), book.counter, wanted]);
  const attempt = { request: { ...wanted, clientToken: createHash('sha256').update(text).digest('hex') } };
  write({ ...book, open: [...book.open, attempt] });
  return attempt;
}

export function noteCreated(attempt: Attempt, eniId: string): void {
  const book = read();
  const open = book.open.map((one) => (sameRequest(one, attempt) ? { ...one, eniId } : one));
  write({ ...book, open });
}

/** The attempt is over: refused, attached and seen, or given back. */
export function closeAttempt(attempt: Attempt): void {
  const book = read();
  write({ ...book, open: book.open.filter((one) => !sameRequest(one, attempt)) });
}

function sameRequest(one: Attempt, other: Attempt): boolean {
  return one.request.clientToken === other.request.clientToken;
}

function read(): Book {
  const value = readJsonIfPresent(FILE);
  // Damaged: the request's time in its tags keeps a new token apart from the old ones.
  return isBook(value) ? value : { counter: 0, open: [] };
}

function isBook(value: unknown): value is Book {
  const { counter, open } = (value ?? {}) as Record<keyof Book, unknown>;
  return Number.isInteger(counter) && Array.isArray(open) && open.every(isAttempt);
}

/** What is needed to send the request again. */
function isAttempt(value: unknown): value is Attempt {
  const { request, eniId } = (value ?? {}) as Record<keyof Attempt, unknown>;
  const { subnetId, clientToken, addresses, tags } = (request ?? {}) as Record<keyof CreateEni, unknown>;
  return (
    [subnetId, clientToken, eniId ?? ''].every((one) => typeof one === 'string') &&
    [addresses, tags].every((one) => typeof one === 'object' && one !== null)
  );
}

function write(book: Book): void {
  writeAtomic(FILE, JSON.stringify(book), 0o600);
}
