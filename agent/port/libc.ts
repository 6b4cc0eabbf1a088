// Calls of the C library that JavaScript has none for, through the compiled runtime's own foreign calls. Node has none.
import { constants } from 'node:os';

type Call = (...args: (number | Uint8Array)[]) => number;

/** Types as the runtime names them: i32, u32, ptr. */
type Signatures = Record<string, { args: string[]; returns: string }>;

/**
 * What the module bun:ffi is made of: the module itself, which fits arguments we do not have, takes half a millisecond
 * to load. undefined in another runtime, or should this one move it.
 */
interface ForeignCalls {
  dlopen(path: string, calls: object): { symbols: Record<string, Call> };
  read: { i32(pointer: number, offset: number): number };
}

function foreignCalls(): ForeignCalls | undefined {
  return (globalThis as { Bun?: { FFI?: ForeignCalls } }).Bun?.FFI;
}

/** Whether this runtime can do it: the compiled executable can. */
export function hasLibc(): boolean {
  return foreignCalls() !== undefined;
}

/** Each one costs time to load: only those that are needed. */
export function loadCalls<Names extends string>(
  signatures: Record<Names, Signatures[string]>,
): Record<Names, Call> & { errno(): number } {
  const calls = foreignCalls();
  if (calls === undefined) throw new Error('this runtime calls no C library');
  const { symbols } = calls.dlopen('libc.so.6', {
    ...signatures,
    __errno_location: { args: [], returns: 'ptr' },
  });
  const { __errno_location: location, ...rest } = symbols as Record<string, Call>;
  return {
    ...(rest as Record<Names, Call>),
    errno: () => calls.read.i32((location as Call)(), 0),
  };
}

/** A call of the C library that failed. */
export class SystemCallError extends Error {
  readonly errno: number;
  /** Its name, as Node's own errors have it. */
  readonly code: string | undefined;
  constructor(call: string, errno: number) {
    super(`${call}: errno ${errno}`);
    this.errno = errno;
    this.code = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0];
  }
}
