/** What became of a child process: the one type both exec ports return. */
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
