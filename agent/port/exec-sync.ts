// Child processes for the CNI path: synchronous, since a plugin call is one straight line and an event loop
// with execa costs more than the whole call may take. The result is the same type as exec.ts returns.
import { bounds } from './bounds.ts';
import type { ExecOptions, ExecResult } from './exec-result.ts';
import { hasCode } from './fs.ts';

/**
 * Runs one program to its end; a non-zero exit is a result, not an exception. Never goes through a shell. The
 * time-out (default 10 s) ends it with SIGKILL; what it had started may live on.
 */
export function runSync(file: string, args: string[], options: Omit<ExecOptions, 'signal'> = {}): ExecResult {
  // Loaded by the first call: most plugin calls make none.
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const started = performance.now();
  const result = spawnSync(file, args, {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(options.input === undefined ? {} : { input: options.input }),
    timeout: options.timeoutMs ?? 10_000,
    killSignal: 'SIGKILL',
    maxBuffer: bounds.programBytes,
    env: { ...process.env, LC_ALL: 'C.UTF-8', ...options.env },
  });
  const overflowed = hasCode(result.error, 'ENOBUFS');
  return {
    command: [file, ...args],
    exitCode: overflowed ? null : result.status,
    signal: result.signal,
    missing: hasCode(result.error, 'ENOENT'),
    stdout: result.stdout?.toString() ?? '',
    stderr: result.stderr?.toString() ?? '',
    timedOut: hasCode(result.error, 'ETIMEDOUT'),
    overflowed,
    errno:
      result.status === null && result.signal === null
        ? (result.error as NodeJS.ErrnoException | undefined)?.code
        : undefined,
    ms: performance.now() - started,
  };
}
