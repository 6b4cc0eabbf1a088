// Files that a command line names: what a command reads, and where it is to write.
import { accessSync, constants, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure } from '../messages/failure.ts';
import { readBytesIfPresent, statIfPresent } from '../port/fs.ts';

/**
 * The bytes of a file somebody named, at most `limit` of them.
 *
 * @throws FILE_READ when there is none, it cannot be read, or it is larger.
 */
export function readInputFile(path: string, limit: number): Uint8Array {
  let bytes: Uint8Array | undefined;
  try {
    bytes = readBytesIfPresent(path, limit + 1);
  } catch (error) {
    throw new Failure('FILE_READ', `${path} cannot be read: ${reasonOf(error)}`, { path }, error);
  }
  if (bytes === undefined) throw new Failure('FILE_READ', `there is no file ${path}`, { path });
  if (bytes.length <= limit) return bytes;
  throw new Failure('FILE_READ', `${path} is larger than ${limit / 1024} KiB`, { path, limit });
}

/** Before work that reads a file of any size later. @throws FILE_READ */
export function requireFile(path: string): void {
  try {
    if (statSync(path).isFile()) return accessSync(path, constants.R_OK);
  } catch (error) {
    throw new Failure('FILE_READ', `${path} cannot be read: ${reasonOf(error)}`, { path }, error);
  }
  throw new Failure('FILE_READ', `${path} is not a file`, { path });
}

/** Before work whose result goes there, which may take minutes. @throws FILE_WRITE */
export function requireWritable(path: string): void {
  try {
    // With a slash: what is no folder holds no file either.
    accessSync(`${dirname(path)}/`, constants.W_OK);
  } catch (error) {
    throw new Failure('FILE_WRITE', `${path} cannot be written: ${reasonOf(error)}`, { path }, error);
  }
  if (statIfPresent(path)?.isDirectory() === true)
    throw new Failure('FILE_WRITE', `${path} cannot be written: it is a folder`, { path });
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
