// Attempts: ENIs that this boot has asked EC2 to create and has not yet seen attached. Each request is written down in full
// before it is sent. When the run is killed, the next run sends the same request with the same token and gets the same ENI,
// even when a describe does not show it yet, or when the run would now choose another subnet.
import { createHash } from 'node:crypto';
import type { CreateEni, Eni } from '../../../aws/ec2.ts';
import { RUN_DIR } from '../../../host/names.ts';
import { isCount, isObject, list, optional, shape, text } from '../../../host/shape.ts';
import { bootId } from '../../../port/clock.ts';
import { readJsonIfPresent, writeAtomic } from '../../../port/fs.ts';
import type { Attempt } from '../../change.ts';

/** An attempt, and what EC2 shows of its ENI. */
export interface OpenAttempt {
  attempt: Attempt;
  eni: Eni | undefined;
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

/** Writes the request down, with a token of its own (64 ASCII characters, the most that EC2 takes). */
export function beginAttempt(instanceId: string, wanted: Omit<CreateEni, 'clientToken'>): Attempt {
  const book = read();
  book.counter += 1;
  const seed = JSON.stringify([instanceId, bootId(), book.counter, wanted]);
  const attempt = { request: { ...wanted, clientToken: createHash('sha256').update(seed).digest('hex') } };
  write({ ...book, open: [...book.open, attempt] });
  return attempt;
}

export function noteCreated(attempt: Attempt, eniId: string, madeMs: number): void {
  const book = read();
  const open = book.open.map((one) => (sameRequest(one, attempt) ? { ...one, eniId, madeMs } : one));
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
  // The file is damaged. The request's time is in its tags, and keeps a new token apart from the old ones.
  return isBook(value) ? value : { counter: 0, open: [] };
}

/** What is needed to send the request again. */
const isRequest = shape<Pick<CreateEni, 'subnetId' | 'clientToken' | 'addresses' | 'tags'>>({
  ...{ subnetId: text(), clientToken: text(), addresses: isObject, tags: isObject },
});
const isBook = shape<Book>({
  counter: Number.isInteger,
  open: list(shape<Attempt>({ request: isRequest, eniId: optional(text()), madeMs: optional(isCount) })),
});

function write(book: Book): void {
  writeAtomic(FILE, JSON.stringify(book), 0o600);
}
