// Counting without a daemon: whoever has done something appends a line, and now and then a timer adds the lines up.
// The file of lines is renamed when it has grown, so that it stays small; one writer may then still hold the old
// one. What has been added up, and how far in which file, is one text, replaced by a rename: a fold that is killed
// anywhere has either counted all it read or nothing of it.
import { closeSync, constants, fstatSync, openSync, readSync, renameSync, rmSync, writeSync } from 'node:fs';
import { isThere, listIfPresent, readJsonIfPresent, statIfPresent, writeAtomic } from '../port/fs.ts';
import { RUN_DIR } from './names.ts';

const LINES = 'tally';
const STATE = 'tally.json';
/** Bytes of lines above which the file is changed for a new one: some 3,000 lines. */
const ROTATE = 256 * 1024;
/** Nothing is noted in a file of this size: nobody adds up, and memory is for pods. */
const FULL = 4 * 1024 * 1024;
/** A writer opens and writes at once; milliseconds after which none has a renamed file open any more. */
const QUIET_MS = 60_000;

/**
 * Notes one thing that was done: a line of at most 4,000 bytes, in one write. What is noted is for statistics, so
 * nothing that goes wrong here concerns the caller.
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
  /** The number the file of lines gets when it is renamed. */
  current: number;
  /** Bytes that have been added up, by number of the file; a lower number without an entry is done with. */
  read: Record<string, number>;
  totals: Totals;
}

/**
 * Adds up what was noted since the last time, and returns the totals since this boot, which no line enters twice.
 * One fold at a time: the caller holds a lock. A damaged state begins anew with the lines there are.
 */
export function fold<Totals>(
  empty: Totals,
  add: (totals: Totals, line: string) => void,
  folder = RUN_DIR,
): Totals {
  const pathOf = (number: number) =>
    number === state.current ? `${folder}/${LINES}` : `${folder}/${LINES}.${number}`;
  const state = readState(folder, empty);
  if (isThere(`${folder}/${LINES}.${state.current}`)) {
    state.current += 1;
    state.read[state.current] = 0;
  }
  for (const number of Object.keys(state.read).map(Number)) {
    const path = pathOf(number);
    const text = readFrom(path, state.read[number] ?? 0);
    const whole = text.subarray(0, text.lastIndexOf(10) + 1);
    for (const line of whole.toString('utf8').split('\n')) if (line !== '') add(state.totals, line);
    state.read[number] = (state.read[number] ?? 0) + whole.length;
    if (number !== state.current && isQuiet(path)) delete state.read[number];
  }
  writeAtomic(`${folder}/${STATE}`, JSON.stringify(state), 0o600);
  for (const number of renamedFiles(folder)) {
    if (number < state.current && state.read[number] === undefined)
      rmSync(`${folder}/${LINES}.${number}`, { force: true });
  }
  if ((state.read[state.current] ?? 0) > ROTATE)
    renameSync(pathOf(state.current), `${folder}/${LINES}.${state.current}`);
  return state.totals;
}

function readState<Totals>(folder: string, empty: Totals): State<Totals> {
  // Absent before the first fold; damaged, it is as good as absent.
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

/** Neither renamed nor written to for a while. */
function isQuiet(path: string): boolean {
  const stat = statIfPresent(path);
  return stat === undefined || Date.now() - stat.ctimeMs > QUIET_MS;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null;
}
