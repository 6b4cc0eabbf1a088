// Pipes for a program's standard streams. By itself, the runtime gives a child sockets and a file in memory. SELinux lets the
// domains that children of container runtimes enter (nft becomes iptables_t, ip and tc ifconfig_t) use only pipes of the
// runtime. When the program starts, the kernel replaces anything else by /dev/null, and reports it nowhere
// (flush_unauthorized_files in security/selinux/hooks.c).
import { closeSync, readSync, writeSync } from 'node:fs';
import { hasCode } from './fs.ts';
import { loadCalls, SystemCallError } from './libc.ts';

/** From linux/fcntl.h and asm-generic/fcntl.h; the same on x86-64 and arm64. */
const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
const F_SETFL = 4;
const F_SETPIPE_SZ = 1031;

let loaded: ReturnType<typeof load> | undefined;

function load() {
  return loadCalls({
    pipe2: { args: ['ptr', 'i32'], returns: 'i32' },
    fcntl: { args: ['i32', 'i32', 'i32'], returns: 'i32' },
  });
}

/**
 * Calls `run` with a program's standard streams: an input that holds all of `input`, or nothing; and two pipes for its output.
 * Output that does not fit into `capacity` bytes makes the program wait, since the pipes are read only after it has ended.
 *
 * @returns the output at the end of `run`; processes that the program started may still hold the other ends.
 * @throws SystemCallError, or Node's error with EAGAIN when the input does not fit into a pipe.
 */
export function onPipes<T>(
  input: string | undefined,
  capacity: number,
  run: (stdio: ['ignore' | number, number, number]) => T,
): { result: T; stdout: Buffer; stderr: Buffer; full: boolean } {
  const open = new Set<number>();
  const close = (fd: number) => {
    if (open.delete(fd)) closeSync(fd);
  };
  const pipe = (bytes: number): Pipe => {
    const made = openPipe(bytes);
    open.add(made.reading).add(made.writing);
    return made;
  };
  try {
    let stdin: 'ignore' | number = 'ignore';
    if (input !== undefined) {
      const bytes = Buffer.from(input);
      const { reading, writing } = pipe(bytes.length);
      neverBlock(writing);
      for (let at = 0; at < bytes.length; ) at += writeSync(writing, bytes, at);
      close(writing);
      stdin = reading;
    }
    const [out, err] = [pipe(capacity), pipe(capacity)];
    for (const { reading } of [out, err]) neverBlock(reading);
    const result = run([stdin, out.writing, err.writing]);
    for (const { writing } of [out, err]) close(writing);
    const [stdout, stderr] = [out, err].map(({ reading }) => readAll(reading)) as [Buffer, Buffer];
    return { result, stdout, stderr, full: stdout.length >= out.bytes || stderr.length >= err.bytes };
  } finally {
    for (const fd of open) closeSync(fd);
  }
}

interface Pipe {
  reading: number;
  writing: number;
  /** The pipe's capacity. */
  bytes: number;
}

function openPipe(bytes: number): Pipe {
  loaded ??= load();
  const { pipe2, fcntl, errno } = loaded;
  const ends = new Int32Array(2);
  if (pipe2(new Uint8Array(ends.buffer), O_CLOEXEC) < 0) throw new SystemCallError('pipe2', errno());
  const [reading = -1, writing = -1] = ends;
  // Only root may exceed the system's limit.
  for (const size of [bytes, Math.min(bytes, MOST)]) {
    const granted = size <= USUAL ? USUAL : fcntl(reading, F_SETPIPE_SZ, size);
    if (granted > 0) return { reading, writing, bytes: granted };
  }
  return { reading, writing, bytes: USUAL };
}

/** fs.pipe-max-size, when it was not changed. Source: pipe(7). */
const MOST = 1_048_576;

/** Bytes of a pipe that was not resized. Source: pipe(7). */
const USUAL = 65_536;

function neverBlock(fd: number): void {
  loaded?.fcntl(fd, F_SETFL, O_NONBLOCK);
}

function readAll(fd: number): Buffer {
  const pieces: Buffer[] = [];
  for (;;) {
    const piece = Buffer.alloc(USUAL);
    try {
      const got = readSync(fd, piece);
      if (got === 0) return Buffer.concat(pieces);
      pieces.push(piece.subarray(0, got));
    } catch (error) {
      if (hasCode(error, 'EAGAIN')) return Buffer.concat(pieces);
      throw error;
    }
  }
}
