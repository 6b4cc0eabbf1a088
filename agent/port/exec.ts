// Child processes for the agent and the CLI, through execa. The CNI path uses exec-sync.ts instead:
// loading execa costs more than a whole plugin call may take.
import type { ExecOptions, ExecResult } from './exec-result.ts';

/**
 * Runs one program to its end and reports what happened; a non-zero exit is a result, not an exception.
 * Never goes through a shell. The time-out (default 10 s) ends it with SIGKILL; what it had started may live on.
 */
export async function run(file: string, args: string[], options: ExecOptions = {}): Promise<ExecResult> {
  const { execa } = await import('execa');
  const started = performance.now();
  const result = await execa(file, args, {
    ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
    timeout: options.timeoutMs ?? 10_000,
    killSignal: 'SIGKILL',
    reject: false,
    maxBuffer: 32 * 1024 * 1024,
    stripFinalNewline: false,
    env: { LC_ALL: 'C.UTF-8', ...options.env },
    ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
  });
  return {
    command: [file, ...args],
    exitCode: result.exitCode ?? null,
    signal: result.signal ?? null,
    missing: result.code === 'ENOENT',
    stdout: result.stdout ?? '',
    stderr: result.stderr ?? '',
    timedOut: result.timedOut,
    ms: performance.now() - started,
  };
}
