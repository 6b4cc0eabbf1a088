// Counting without a daemon. Each process appends a line for what it has done, and a timer adds up the lines from time
// to time. When the file of lines has grown, it is renamed, so that it stays small; a writer may then still have the
// old file open. The totals, and how far each file has been read, are one text that a rename replaces: a fold that is
// killed at any moment has counted either all that it read or none of it.
import { closeSync, constants, fstatSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import {
  isThere,
  listIfPresent,
  readIfPresent,
  readJsonIfPresent,
  statIfPresent,
  writeAtomic,
} from '../port/fs.ts';
import { RUN_DIR } from './names.ts';
import { isObject } from './shape.ts';

const LINES = 'tally';
const STATE = 'tally.json';
/** When the file of lines has more bytes than this, a new file is begun: some 3,000 lines. */
const ROTATE = 256 * 1024;
/** No line is appended to a file of this size: no timer adds up the lines, and the memory belongs to pods. */
const FULL = 4 * 1024 * 1024;
/**
 * A writer writes right after it has opened the file. After so many milliseconds no writer has a renamed file open any
 * more.
 */
const QUIET_MS = 60_000;
/** Attempts of a reader. A fold takes a moment, and runs about once a minute. */
const TRIES = 5;

/**
 * Notes one event: a line of at most 4,000 bytes, in one write. The notes are for statistics, so an error here does not
 * concern the caller.
 */
export function note(line: string, folder = RUN_DIR): void {
  try {
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT;
    const fd = openSync(`${folder}/${LINES}`, flags, 0o600);
    try {
      if (fstatSync(fd).size < FULL) writeSync(fd, `${line}\n`);
    } finally {
      closeSync(fd);
    }
  } catch {
    // No boot has made the folder yet, or its file system is full.
  }
}

interface State<Totals> {
  /** The number that the file of lines gets when it is renamed. */
  current: number;
  /** Bytes that have been added up, by number of the file. A lower number without an entry is finished. */
  read: Record<string, number>;
  totals: Totals;
}

/**
 * Adds up the lines since the last fold, and returns the totals since this boot. Each line is counted once. The caller
 * holds a lock, so that only one fold runs at a time. When the state is damaged, the totals begin again with the lines
 * that exist.
 */
export function fold<Totals>(
  empty: Totals,
  add: (totals: Totals, line: string) => void,
  folder = RUN_DIR,
): Totals {
  const state = added(folder, empty, add);
  const pathOf = (number: number) => lines(folder, state, number);
  for (const number of Object.keys(state.read).map(Number))
    if (number !== state.current && isQuiet(pathOf(number))) delete state.read[number];
  writeAtomic(`${folder}/${STATE}`, JSON.stringify(state), 0o600);
  for (const number of renamedFiles(folder)) {
    if (number < state.current && state.read[number] === undefined)
      rmSync(`${folder}/${LINES}.${number}`, { force: true });
  }
  if ((state.read[state.current] ?? 0) > ROTATE)
    renameSync(pathOf(state.current), `${folder}/${LINES}.${state.current}`);
  return state.totals;
}

/**
 * The totals since this boot, without writing anything. A fold at the same time may rename a file between two reads; in
 * that case everything is read again.
 */
export function tallied<Totals>(
  empty: Totals,
  add: (totals: Totals, line: string) => void,
  folder = RUN_DIR,
): Totals {
  const looks = () => JSON.stringify([readIfPresent(`${folder}/${STATE}`), renamedFiles(folder)]);
  for (let tries = 1; ; tries += 1) {
    const before = looks();
    const { totals } = added(folder, structuredClone(empty), add);
    if (looks() === before || tries === TRIES) return totals;
  }
}

/** The totals with all lines that have not been added up yet. */
function added<Totals>(
  folder: string,
  empty: Totals,
  add: (totals: Totals, line: string) => void,
): State<Totals> {
  const state = readState(folder, empty);
  if (isThere(`${folder}/${LINES}.${state.current}`)) {
    state.current += 1;
    state.read[state.current] = 0;
  }
  for (const number of Object.keys(state.read).map(Number)) {
    const text = readFrom(lines(folder, state, number), state.read[number] ?? 0);
    const whole = text.subarray(0, text.lastIndexOf(10) + 1);
    for (const line of whole.toString('utf8').split('\n')) if (line !== '') add(state.totals, line);
    state.read[number] = (state.read[number] ?? 0) + whole.length;
  }
  return state;
}

function lines(folder: string, { current }: { current: number }, number: number): string {
  return number === current ? `${folder}/${LINES}` : `${folder}/${LINES}.${number}`;
}

function readState<Totals>(folder: string, empty: Totals): State<Totals> {
  // The state is absent before the first fold. A damaged state is treated as absent.
  const state = (readJsonIfPresent(`${folder}/${STATE}`) ?? {}) as Partial<State<Totals>>;
  const { current: at, read, totals } = state;
  if (Number.isInteger(at) && isObject(read) && isObject(totals)) return state as State<Totals>;
  const numbers = renamedFiles(folder);
  const current = Math.max(-1, ...numbers) + 1;
  return {
    current,
    read: Object.fromEntries([...numbers, current].map((number) => [number, 0])),
    totals: empty,
  };
}

function renamedFiles(folder: string): number[] {
  return listIfPresent(folder).flatMap((name) => {
    const number = /^tally\.(\d+)$/.exec(name)?.[1];
    return number === undefined ? [] : [Number(number)];
  });
}

function readFrom(path: string, offset: number): Buffer {
  if (!isThere(path)) return Buffer.alloc(0);
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(Math.max(0, fstatSync(fd).size - offset));
    let at = 0;
    for (let got = -1; got !== 0 && at < bytes.length; at += got)
      got = readSync(fd, bytes, at, bytes.length - at, offset + at);
    return bytes.subarray(0, at);
  } finally {
    closeSync(fd);
  }
}

/** The file has been neither renamed nor written to for QUIET_MS. */
function isQuiet(path: string): boolean {
  const stat = statIfPresent(path);
  return stat === undefined || Date.now() - stat.ctimeMs > QUIET_MS;
}
