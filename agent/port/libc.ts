// Calls of the C library for which JavaScript has no function, through the foreign calls of the compiled runtime. Node has no
// foreign calls, so code that speaks to a kernel runs only in the compiled runtime.
import { constants } from 'node:os';

type Call = (...args: (number | Uint8Array)[]) => number;

/** Types as the runtime names them: i32, u32, ptr. */
type Signatures = Record<string, { args: string[]; returns: string }>;

/**
 * The internals of the module bun:ffi. The module itself takes half a millisecond to load, for conversions of arguments that
 * eniboot does not use. undefined in another runtime, or if a later version of this one moves it.
 */
interface ForeignCalls {
  dlopen(path: string, calls: object): { symbols: Record<string, Call> };
  read: { i32(pointer: number, offset: number): number };
}

function foreignCalls(): ForeignCalls | undefined {
  return (globalThis as { Bun?: { FFI?: ForeignCalls } }).Bun?.FFI;
}

/** Whether this runtime can call the C library: the compiled executable can. */
export function hasLibc(): boolean {
  return foreignCalls() !== undefined;
}

/** Why this runtime cannot call the C library; undefined when it can. A test call is made. */
export function foreignCallsProblem(): string | undefined {
  try {
    const { getpid } = loadCalls({ getpid: { args: [], returns: 'i32' } });
    const pid = getpid();
    return pid === process.pid ? undefined : `getpid() answered ${pid}, not ${process.pid}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** Loads only the calls that are needed, since each costs time to load. */
export function loadCalls<Names extends string>(
  signatures: Record<Names, Signatures[string]>,
): Record<Names, Call> & { errno(): number } {
  const calls = foreignCalls();
  if (calls === undefined) throw new NoForeignCalls('this runtime calls no C library');
  const { __errno_location: location, ...rest } = openLibc(calls, signatures);
  return {
    ...(rest as Record<Names, Call>),
    errno: () => calls.read.i32((location as Call)(), 0),
  };
}

function openLibc(calls: ForeignCalls, signatures: Signatures): Record<string, Call> {
  const all = { ...signatures, __errno_location: { args: [], returns: 'ptr' } };
  try {
    return calls.dlopen('libc.so.6', all).symbols;
  } catch (error) {
    throw new NoForeignCalls(error instanceof Error ? error.message : String(error));
  }
}

/** This runtime, or the permissions of this process, allow no call of the C library. */
export class NoForeignCalls extends Error {}

/** A call of the C library that failed. */
export class SystemCallError extends Error {
  /** The call's name. */
  readonly call: string;
  readonly errno: number;
  /** The name of the error, in the form of Node's own errors. */
  readonly code: string | undefined;
  constructor(call: string, errno: number) {
    super(`${call}: errno ${errno}`);
    this.call = call;
    this.errno = errno;
    this.code = Object.entries(constants.errno).find(([, number]) => number === errno)?.[0];
  }
}

/** A system call that failed, made through this module or by Node; any other error is a defect. */
export function isSystemError(error: unknown): error is Error & { errno?: number } {
  return error instanceof SystemCallError || (error instanceof Error && 'syscall' in error);
}
