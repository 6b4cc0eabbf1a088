// Child processes for the CNI path. Synchronous, since a plugin call does one step after another, and an event loop with execa
// costs more than the whole call may take. The result has the same type as in exec.ts.
import type { SpawnSyncReturns } from 'node:child_process';
import { bounds } from './bounds.ts';
import type { ExecOptions, ExecResult } from './exec-result.ts';
import { hasCode } from './fs.ts';
import { hasLibc } from './libc.ts';
import { onPipes } from './pipe.ts';

/**
 * Runs one program to its end; a non-zero exit is a result, not an exception. Never goes through a shell. The time-out (default
 * 10 s) ends the program with SIGKILL; processes that it started may live on.
 */
export function runSync(file: string, args: string[], options: Omit<ExecOptions, 'signal'> = {}): ExecResult {
  // Loaded by the first call: most plugin calls start no program.
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const started = performance.now();
  const settings = {
    timeout: options.timeoutMs ?? 10_000,
    killSignal: 'SIGKILL' as const,
    env: { ...process.env, LC_ALL: 'C.UTF-8', ...options.env },
  };
  const byOwn = () => withOwn(options.input, (own) => spawnSync(file, args, { ...settings, ...own }));
  let ran = false;
  const byPipes = () =>
    onPipes(options.input, bounds.programBytes, (stdio) => {
      ran = true;
      return spawnSync(file, args, { ...settings, stdio });
    });
  const said = (): Output => {
    if (!hasLibc()) return byOwn();
    try {
      return byPipes();
    } catch (error) {
      // No pipe is free, or no memory for foreign calls. The runtime's own streams are tried: their error says what the program
      // could not get.
      if (ran) throw error;
      return byOwn();
    }
  };
  const { result, stdout, stderr, full } = said();
  // A program that has filled the pipe waits for a reader until its time is over.
  const overflowed = full || hasCode(result.error, 'ENOBUFS');
  return {
    command: [file, ...args],
    exitCode: overflowed ? null : result.status,
    signal: result.signal,
    missing: hasCode(result.error, 'ENOENT'),
    stdout: stdout.toString(),
    stderr: stderr.toString(),
    timedOut: !overflowed && hasCode(result.error, 'ETIMEDOUT'),
    overflowed,
    errno:
      result.status === null && result.signal === null
        ? (result.error as NodeJS.ErrnoException | undefined)?.code
        : undefined,
    ms: performance.now() - started,
  };
}

interface Output {
  result: Pick<SpawnSyncReturns<Buffer>, 'status' | 'signal' | 'error'>;
  stdout: Buffer;
  stderr: Buffer;
  /** The output filled the pipe, so there may have been more. */
  full: boolean;
}

/** Uses the runtime's own streams. */
function withOwn(
  input: string | undefined,
  run: (own: { stdio: ('ignore' | 'pipe')[]; input?: string; maxBuffer: number }) => SpawnSyncReturns<Buffer>,
): Output {
  const result = run({
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(input === undefined ? {} : { input }),
    maxBuffer: bounds.programBytes,
  });
  const [stdout, stderr] = [result.stdout, result.stderr].map((said) => said ?? Buffer.alloc(0)) as [
    Buffer,
    Buffer,
  ];
  return { result, stdout, stderr, full: false };
}
