// Files, read and written whole or not at all. Synchronous throughout, because boot is sequential and the CNI path must not
// start the runtime's thread pool. Only ENOENT and ENOTDIR mean that a file is absent. After any other error this is unknown,
// and the error is thrown: code that took a pod's namespace for gone because the kernel refused a look at it would give the
// pod's address to another pod.
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  symlinkSync,
  watch,
  writeSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';

/** Type guard for Node's system errors. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  return typeof error === 'object' && error !== null && 'code' in error && codes.includes(String(error.code));
}

/**
 * SHA-256 of a file in hexadecimal, and the milliseconds of processor time that it took. The file is read in pieces into one
 * buffer, so that other work need not wait, and little memory is used.
 */
export async function sha256Of(path: string, signal?: AbortSignal): Promise<{ sha256: string; ms: number }> {
  const { createHash } = await import('node:crypto');
  const { open } = await import('node:fs/promises');
  const hash = createHash('sha256');
  const piece = Buffer.alloc(1024 * 1024);
  let ms = 0;
  const file = await open(path);
  try {
    for (;;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(piece, 0, piece.length, null);
      if (bytesRead === 0) return { sha256: hash.digest('hex'), ms };
      const started = performance.now();
      hash.update(piece.subarray(0, bytesRead));
      ms += performance.now() - started;
    }
  } finally {
    await file.close();
  }
}

/** The file's text, or undefined when it does not exist. Other errors are thrown. */
export function readIfPresent(path: string): string | undefined {
  return ifPresent(() => readFileSync(path, 'utf8'));
}

/** The file's JSON; undefined when the file does not exist, or does not hold JSON. Other errors are thrown. */
export function readJsonIfPresent(path: string): unknown {
  const text = readIfPresent(path);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The stat of the path's target, or undefined when there is none. Other errors are thrown. */
export function statIfPresent(path: string): Stats | undefined {
  return ifPresent(() => statSync(path));
}

/** The target of a link, not followed further; undefined when the path is absent or is no link. */
export function linkIfPresent(path: string): string | undefined {
  return ifPresent(() => (lstatSync(path).isSymbolicLink() ? readlinkSync(path) : undefined));
}

/** Whether a path leads to something. Throws when this cannot be told. */
export function isThere(path: string): boolean {
  return statIfPresent(path) !== undefined;
}

/** Seconds since the file was written, by the wall clock and never less than 0; 0 when it does not exist. */
export function secondsSinceWritten(path: string): number {
  const written = statIfPresent(path)?.mtimeMs ?? Date.now();
  return Math.max(0, (Date.now() - written) / 1000);
}

/** The names in a directory, sorted; an absent directory is empty. */
export function listIfPresent(path: string): string[] {
  return ifPresent(() => readdirSync(path).sort()) ?? [];
}

function ifPresent<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}

/**
 * Writes a file so that a reader, a crash or a full disk sees either the old text or the new one: temporary file in the same
 * directory, fsync, rename, fsync of the directory.
 */
export function writeAtomic(path: string, text: string | Uint8Array, mode = 0o644): void {
  const directory = dirname(path);
  mkdirSync(directory, { recursive: true });
  const temporary = join(directory, `.${basename(path)}.${process.pid}.tmp`);
  removeHalfWritten(directory, basename(path));
  try {
    const fd = openSync(temporary, 'w', mode);
    try {
      const bytes = typeof text === 'string' ? Buffer.from(text) : text;
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      fchmodSync(fd, mode);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
    syncDirectory(directory);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}

/**
 * Removes temporary files that a killed run left, of one file or of all in a folder. Some programs read every file of a folder
 * that eniboot writes to, whatever its name.
 */
export function removeHalfWritten(directory: string, file?: string): void {
  for (const name of listIfPresent(directory)) {
    const [, of, pid] = /^\.(.+)\.(\d+)\.tmp$/.exec(name) ?? [];
    if (of === undefined || (file !== undefined && of !== file)) continue;
    if (!isAlive(Number(pid))) rmSync(join(directory, name), { force: true });
  }
}

/** Whether this same program runs with that process number. Numbers are used again soon; in a container, at once. */
function isAlive(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`) === readlinkSync('/proc/self/exe');
  } catch (error) {
    return !hasCode(error, 'ENOENT', 'ESRCH');
  }
}

/**
 * Writes a file that must not exist yet, whole or not at all. Safe in a folder that other users can write to: an existing file
 * or link is neither followed nor replaced. Throws EEXIST.
 */
export function writeNew(path: string, bytes: Uint8Array, mode: number): void {
  const temporary = join(dirname(path), `.${basename(path)}.${crypto.randomUUID()}.tmp`);
  const fd = openSync(temporary, 'wx', mode);
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
    fchmodSync(fd, mode);
    fsyncSync(fd);
    // Unlike a rename, a link fails when the name is taken.
    linkSync(temporary, path);
  } finally {
    closeSync(fd);
    rmSync(temporary, { force: true });
  }
  syncDirectory(dirname(path));
}

/** Makes a folder and the folders above it. `mode` says whether it is for root alone or for all users. */
export function makeFolder(path: string, mode: number): void {
  mkdirSync(path, { recursive: true, mode });
}

/** Writes only when text or mode differ; returns true when it wrote. */
export function writeIfChanged(path: string, text: string, mode = 0o644): boolean {
  if (readIfPresent(path) === text && ((statIfPresent(path)?.mode ?? 0) & 0o777) === mode) return false;
  writeAtomic(path, text, mode);
  return true;
}

/** Makes a rename in this directory durable. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * The file's bytes, at most `limit` of them (so that /dev/zero ends too), or undefined when the file does not exist. Other
 * errors are thrown.
 */
export function readBytesIfPresent(path: string, limit: number): Uint8Array | undefined {
  const fd = ifPresent(() => openSync(path, 'r'));
  if (fd === undefined) return undefined;
  try {
    const bytes = Buffer.alloc(limit);
    let at = 0;
    for (let got = -1; got !== 0 && at < limit; at += got) got = readSync(fd, bytes, at, limit - at, null);
    return bytes.subarray(0, at);
  } finally {
    closeSync(fd);
  }
}

/** Points a link at a target by one rename, and replaces whatever was at the path before, except a directory. */
export function linkAtomic(path: string, target: string): void {
  const directory = dirname(path);
  mkdirSync(directory, { recursive: true });
  const temporary = join(directory, `.${basename(path)}.${process.pid}.tmp`);
  removeHalfWritten(directory, basename(path));
  rmSync(temporary, { force: true });
  symlinkSync(target, temporary);
  renameSync(temporary, path);
  syncDirectory(directory);
}

/**
 * Calls `changed` when something below a folder comes or goes. A folder that cannot be watched is not an error: `changed` is
 * then never called. @returns a function that ends the watch.
 */
export function watchFolder(path: string, changed: () => void): () => void {
  try {
    const watcher = watch(path, changed);
    watcher.on('error', () => watcher.close());
    return () => watcher.close();
  } catch {
    return () => undefined;
  }
}
