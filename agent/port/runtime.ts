import { readSync, writeSync } from 'node:fs';
import { availableParallelism, hostname } from 'node:os';
import { basename } from 'node:path';
import { Failure } from '../messages/failure.ts';
import { hasCode, readIfPresent } from './fs.ts';

/** How this process was called. Only this differs between Node and the compiled executable. */
export interface Invocation {
  /** The name by which the executable was called, which selects the program (multi-call). */
  name: string;
  /** The user's arguments. */
  args: string[];
  /** The file that is running; the executable itself when compiled. */
  executable: string;
}

declare const ENIBOOT_VERSION: string | undefined;
declare const ENIBOOT_COMMIT: string | undefined;

/** True in the compiled executable, false when Node runs the sources. */
const compiled = process.versions['bun'] !== undefined;

export function invocation(): Invocation {
  // The compiled runtime reports argv[0] as "bun" and argv[1] as a virtual path. Both runtimes put the user's arguments at
  // index 2, and both keep the called name in argv0.
  return {
    name: compiled ? basename(process.argv0) : 'eniboot',
    args: process.argv.slice(2),
    executable: process.execPath,
  };
}

/** Version and commit, put in at build time; "0.0.0-dev" when run from source. */
export function version(): { version: string; commit: string } {
  return {
    version: typeof ENIBOOT_VERSION === 'string' ? ENIBOOT_VERSION : '0.0.0-dev',
    commit: typeof ENIBOOT_COMMIT === 'string' ? ENIBOOT_COMMIT : 'unknown',
  };
}

/**
 * How many times later than usual the runtime compiles code to machine code. The executable starts with a scale that suits a
 * call of milliseconds (build.ts). A boot of a third of a second needs a fifth less CPU time with 10 than with 1.
 *
 * @param scale 1 is the runtime's own policy: for a process that stays
 */
export function setJitPolicy(scale: 1 | 10): void {
  const { Bun } = globalThis as { Bun?: { unsafe: { setJITPolicy(scale: number): void } } };
  Bun?.unsafe.setJITPolicy(scale);
}

/** A variable of the environment. */
export function environment(name: string): string | undefined {
  return process.env[name];
}

/** The kernel's host name: kubelet's default for the node's name, which it writes in lower case. */
export function hostName(): string {
  return hostname().toLowerCase();
}

/**
 * user@host, for records that people read. Not by userInfo(): it throws for a user without HOME and without an entry in passwd,
 * as in a container.
 */
export function whoami(): string {
  const user = process.env['USER'] || process.env['LOGNAME'] || `uid ${process.getuid?.()}`;
  return `${user}@${hostname()}`;
}

/** The CPU architecture, as bundles name it. */
export const architecture: 'x64' | 'arm64' = process.arch === 'arm64' ? 'arm64' : 'x64';

/** Processors that this process may use: what the scheduler and cgroups leave of the machine. */
export function processors(): number {
  return availableParallelism();
}

/** @throws NOT_ROOT: what follows changes the machine. */
export function requireRoot(command: string): void {
  if (process.geteuid?.() !== 0) throw new Failure('NOT_ROOT', `eniboot ${command} needs root`);
}

/** Standard output and error for the commands. Each text is written whole, before the process ends. */
export function standardStreams() {
  return {
    stdout: (text: string) => writeWhole(1, text),
    stderr: (text: string) => writeWhole(2, text),
    // Read only on demand: the stream behind it costs a CNI call milliseconds.
    get isTTY() {
      return process.stdout.isTTY && (process.env['NO_COLOR'] ?? '') === '';
    },
    get columns() {
      return process.stdout.columns;
    },
  };
}

/** Exit code of a command that a person stopped: 128 + SIGINT, as in a shell after Ctrl-C. */
export const INTERRUPTED = 130;

/**
 * Aborted by Ctrl-C, SIGTERM or a terminal that goes away, so that a command can tidy up. The second signal ends the process at
 * once.
 */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  const stop = () => {
    if (controller.signal.aborted) process.exit(INTERRUPTED);
    controller.abort();
  };
  // Not `once`: execa raises a signal again when no other listener is left.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, stop);
  process.on('SIGHUP', ignoresHangup() ? () => {} : stop);
  return controller.signal;
}

/**
 * A command started by nohup(1) must outlive its terminal. It needs a handler too: execa's handler ends the process when there
 * is no other.
 */
function ignoresHangup(): boolean {
  const ignored = /^SigIgn:\s*([0-9a-f]+)$/m.exec(readIfPresent('/proc/self/status') ?? '')?.[1] ?? '0';
  return (Number.parseInt(ignored.slice(-1), 16) & 1) === 1;
}

/** Standard input to its end, at most `limit` bytes: longer input is cut there. */
export function readInput(limit: number): string {
  // A buffer is filled before the next one is allocated: otherwise a writer of single bytes would cost a buffer for each byte.
  const full: Buffer[] = [];
  let piece = Buffer.alloc(65_536);
  let at = 0;
  for (let left = limit; left > 0; ) {
    let got: number;
    try {
      got = readSync(0, piece, at, Math.min(left, piece.length - at), null);
    } catch (error) {
      if (hasCode(error, 'EAGAIN')) {
        // The writer is slower than this process, and the descriptor does not block.
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
        continue;
      }
      // A closed descriptor is an empty input.
      if (hasCode(error, 'EOF', 'EBADF')) break;
      throw error;
    }
    if (got === 0) break;
    at += got;
    left -= got;
    if (at < piece.length) continue;
    full.push(piece);
    piece = Buffer.alloc(65_536);
    at = 0;
  }
  return Buffer.concat([...full, piece.subarray(0, at)]).toString('utf8');
}

/**
 * Ends the process with a code. Explicitly, because idle keep-alive connections would keep it alive. Nothing is lost, since
 * everything was written synchronously.
 */
export function finish(code: number): never {
  process.exit(code);
}

function writeWhole(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      // A write to a full pipe is tried again. A reader that went away (a closed pager) is no failure, and an error of standard
      // error cannot be reported anywhere.
      if (hasCode(error, 'EAGAIN')) continue;
      if (hasCode(error, 'EPIPE') || fd === 2) return;
      throw new Failure(
        'FILE_WRITE',
        `standard output: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
  }
}
