// Child processes for the agent and the CLI, through execa. The CNI path uses exec-sync.ts instead: loading execa costs more
// than a whole plugin call may take.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Readable } from 'node:stream';
import { bounds } from './bounds.ts';
import type { ExecOptions, ExecResult } from './exec-result.ts';
import { runSync } from './exec-sync.ts';

/** Milliseconds to wait for the last output of a killed child. */
const OUTPUT_MS = 500;

/** Results of the programs of one look, by command line. */
const looks = new AsyncLocalStorage<Map<string, Promise<ExecResult>> | undefined>();

/** Within `look`, a program runs once with the same arguments, environment and time-out: parts that look together see the same state of the machine. */
export function lookOnce<T>(look: () => Promise<T>): Promise<T> {
  return looks.run(new Map(), look);
}

/** Within `read`, every call runs its program, also inside `lookOnce`: for a caller that waits for a change. */
export function lookAfresh<T>(read: () => Promise<T>): Promise<T> {
  return looks.run(undefined, read);
}

/**
 * Runs one program to its end and reports what happened; a non-zero exit is a result, not an exception. Never goes through a
 * shell. The time-out (default 10 s) ends the program with SIGKILL; processes that it started may live on, and are not waited
 * for.
 */
export function run(file: string, args: string[], options: ExecOptions = {}): Promise<ExecResult> {
  const seen = looks.getStore();
  if (seen === undefined || options.input !== undefined || options.signal !== undefined)
    return runNow(file, args, options);
  const line = JSON.stringify([file, args, options.env, options.timeoutMs]);
  const result = seen.get(line) ?? runNow(file, args, options);
  seen.set(line, result);
  return result;
}

async function runNow(file: string, args: string[], options: ExecOptions): Promise<ExecResult> {
  const { execa } = await import('execa');
  const begun = performance.now();
  const timeoutMs = options.timeoutMs ?? 10_000;
  const child = started(() =>
    execa(file, args, {
      ...(options.input === undefined ? { stdin: 'ignore' as const } : { input: options.input }),
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
      reject: false,
      // Collected here: execa quotes the whole output in the message of a failure, which takes 20 s for 32 MB.
      buffer: false,
      env: { LC_ALL: 'C.UTF-8', ...options.env },
      ...(options.signal === undefined ? {} : { cancelSignal: options.signal }),
    }),
  );
  // The synchronous port can say why the program was not started.
  if (child === undefined) return runSync(file, args, options);
  let left: number = bounds.programBytes;
  let overflowed = false;
  const collect = (stream: Readable): Buffer[] => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => {
      left -= chunk.length;
      if (left >= 0) return void chunks.push(chunk);
      overflowed = true;
      child.kill();
    });
    return chunks;
  };
  const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
  // execa waits for the end of the output, which a process that the child started may hold open for ever.
  const timer = setTimeout(() => {
    child.stdout.destroy();
    child.stderr.destroy();
  }, timeoutMs + OUTPUT_MS);
  const result = await child;
  clearTimeout(timer);
  return {
    command: [file, ...args],
    // Output that was cut off must not come with an exit code, which would say that it is whole.
    exitCode: overflowed ? null : (result.exitCode ?? null),
    signal: result.signal ?? null,
    missing: result.code === 'ENOENT',
    stdout: Buffer.concat(stdout).toString('utf8'),
    stderr: Buffer.concat(stderr).toString('utf8'),
    timedOut: result.timedOut,
    overflowed,
    // execa also sets a code for its own reasons.
    errno: result.exitCode === undefined && result.signal === undefined ? result.code : undefined,
    ms: performance.now() - begun,
  };
}

/**
 * Undefined when the system has no free descriptor for a child. In the compiled runtime, execa cannot replace the missing
 * child, and throws a TypeError that does not name the cause.
 */
function started<Child>(start: () => Child): Child | undefined {
  try {
    return start();
  } catch {
    return undefined;
  }
}
