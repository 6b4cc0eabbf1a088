// The files that a kill -9 leaves at any point between two changes of the file system, without the cost of a process: from the nth
// change on, every call that would change something throws, also in clean-up code.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

export class Crash extends Error {}

const changing = [
  'renameSync',
  'rmSync',
  'rmdirSync',
  'mkdirSync',
  'writeFileSync',
  'writeSync',
  'ftruncateSync',
  'openSync',
] as const;

type Hook = (call: string, path: string) => void;
let before: Hook | undefined;

/** Sets a function that is called before every change; returns the former one. */
export function beforeChanges(hook: Hook | undefined): Hook | undefined {
  const earlier = before;
  before = hook;
  return earlier;
}

/** Reports a change that is not of a file: of the kernel, or of EC2. */
export function change(call: string, path: string): void {
  before?.(call, path);
}

type Callable = (...args: unknown[]) => unknown;
const table = fs as unknown as Record<string, Callable>;
for (const name of changing) {
  const real = table[name] as Callable;
  table[name] = (...args: unknown[]) => {
    const reads = name === 'openSync' && (args[1] === undefined || args[1] === 'r');
    if (!reads) before?.(name, String(args[0]));
    return real(...args);
  };
}
syncBuiltinESMExports();

/** Runs the work and crashes it before its nth change (from 1). False when it ended before. */
export function crashed(at: number, work: () => void): boolean {
  let changes = 0;
  before = () => {
    changes += 1;
    if (changes >= at) throw new Crash();
  };
  try {
    work();
    return false;
  } catch (error) {
    if (error instanceof Crash) return true;
    throw error;
  } finally {
    before = undefined;
  }
}

/** Runs the work, and `other` before the work's nth change. False when the work ended before. */
export function interrupted(at: number, other: () => void, work: () => void): boolean {
  let changes = 0;
  before = () => {
    changes += 1;
    if (changes !== at) return;
    const mine = before;
    before = undefined;
    other();
    before = mine;
  };
  try {
    work();
    return changes >= at;
  } finally {
    before = undefined;
  }
}
