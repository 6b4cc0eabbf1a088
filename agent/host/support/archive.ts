// A gzipped tar archive (ustar) in memory: files with a fixed owner and mode, in the given order.
import { gzipSync } from 'node:zlib';

export interface ArchiveFile {
  /** At most 100 bytes. */
  name: string;
  bytes: Uint8Array;
}

const BLOCK = 512;

/** @param seconds modification time of every file, in seconds since 1970. */
export function tarGz(files: ArchiveFile[], seconds: number): Uint8Array {
  const blocks = files.flatMap(({ name, bytes }) => [
    header(name, bytes.length, seconds),
    bytes,
    Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK),
  ]);
  return gzipSync(Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]));
}

/** A header of POSIX.1-1988 ustar. Numbers are octal text; for the checksum its own field counts as blanks. */
function header(name: string, size: number, seconds: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, digits: number) => `${value.toString(8).padStart(digits, '0')}\0`;
  block.write(name, 0, 100);
  block.write(octal(0o600, 7), 100);
  block.write(octal(0, 7), 108);
  block.write(octal(0, 7), 116);
  block.write(octal(size, 11), 124);
  block.write(octal(seconds, 11), 136);
  block.write(' '.repeat(8), 148);
  block.write('0', 156);
  block.write('ustar\x0000', 257, 'latin1');
  const sum = block.reduce((total, byte) => total + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return block;
}
