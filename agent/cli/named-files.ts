// Files that a command line names: input files, and paths for results.
import { accessSync, constants, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure, messageOf } from '../messages/failure.ts';
import { readBytesIfPresent, statIfPresent } from '../port/fs.ts';

/**
 * The bytes of an input file, at most `limit` of them.
 *
 * @throws FILE_READ when it does not exist, cannot be read, or is larger.
 */
export function readInputFile(path: string, limit: number): Uint8Array {
  let bytes: Uint8Array | undefined;
  try {
    bytes = readBytesIfPresent(path, limit + 1);
  } catch (error) {
    throw new Failure('FILE_READ', `${path} cannot be read: ${messageOf(error)}`, { path }, error);
  }
  if (bytes === undefined) throw new Failure('FILE_READ', `there is no file ${path}`, { path });
  if (bytes.length <= limit) return bytes;
  throw new Failure('FILE_READ', `${path} is larger than ${limit / 1024} KiB`, { path, limit });
}

/** Called before work that later reads a file of any size. @throws FILE_READ */
export function requireFile(path: string): void {
  try {
    if (statSync(path).isFile()) return accessSync(path, constants.R_OK);
  } catch (error) {
    throw new Failure('FILE_READ', `${path} cannot be read: ${messageOf(error)}`, { path }, error);
  }
  throw new Failure('FILE_READ', `${path} is not a file`, { path });
}

/** Called before work, which may take minutes, whose result is written there. @throws FILE_WRITE */
export function requireWritable(path: string): void {
  try {
    // With a slash at the end, a path that is no folder fails too.
    accessSync(`${dirname(path)}/`, constants.W_OK);
  } catch (error) {
    throw new Failure('FILE_WRITE', `${path} cannot be written: ${messageOf(error)}`, { path }, error);
  }
  if (path.endsWith('/') || statIfPresent(path)?.isDirectory() === true)
    throw new Failure('FILE_WRITE', `${path} cannot be written: it is a folder`, { path });
}
