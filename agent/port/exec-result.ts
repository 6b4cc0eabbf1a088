import { Failure } from '../messages/failure.ts';
import { bounds } from './bounds.ts';

/** What became of a child process: the type that both exec ports return. */
export interface ExecResult {
  command: string[];
  /** null when the process did not exit by itself (signal, time-out, never started). */
  exitCode: number | null;
  signal: string | null;
  /** The program itself was not found. */
  missing: boolean;
  stdout: string;
  stderr: string;
  timedOut: boolean;
  /** The program printed more than any program may (bounds.programBytes) and was killed for it; its output is not whole. */
  overflowed?: boolean;
  /** The system's error code when the program could not be started, such as EMFILE. */
  errno?: string | undefined;
  /** Wall time in milliseconds. */
  ms: number;
}

export interface ExecOptions {
  /** Text for the child's standard input; without it the input is /dev/null. */
  input?: string;
  /** Milliseconds until the child is killed; default 10,000. */
  timeoutMs?: number;
  /** Added to the environment. */
  env?: Record<string, string>;
  signal?: AbortSignal;
}

export function succeeded(result: ExecResult): boolean {
  return result.exitCode === 0;
}

/** How the process ended, for a person. */
export function endingOf(result: ExecResult): string {
  if (result.missing) return 'is not installed';
  if (result.timedOut) return 'ran out of time';
  if (result.overflowed === true) return `said more than ${bounds.programBytes} bytes`;
  if (result.errno !== undefined) return `was not started (${result.errno})`;
  return `exit ${result.exitCode ?? result.signal}`;
}

/** Why there is no answer of the program at all, whatever it was asked; undefined when it ended by itself. */
export function notRun(result: ExecResult): Failure | undefined {
  const [file = ''] = result.command;
  if (result.missing) return new Failure('TOOL_MISSING', `${file} is not installed`, { tool: file });
  if (result.errno !== undefined && OUT_OF_PROCESSES.has(result.errno))
    return new Failure('SYSTEM_EXHAUSTED', `${file} ${endingOf(result)}`, { errno: result.errno });
  return undefined;
}

/** Errors of fork(2) and pipe(2) when the system has no more processes or descriptors to give. */
const OUT_OF_PROCESSES = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EAGAIN']);
