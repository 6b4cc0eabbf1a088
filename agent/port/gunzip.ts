import { createReadStream } from 'node:fs';
import { createGunzip, gunzipSync } from 'node:zlib';

/**
 * Unpacks gzip. A kilobyte of it can hold a megabyte. Throws when the bytes are not gzip, or unpack to more than `maxBytes`.
 */
export function gunzip(bytes: Uint8Array, maxBytes: number): Buffer {
  // zlib takes no limit below 1.
  return gunzipSync(bytes, { maxOutputLength: Math.max(1, maxBytes) });
}

/** The file is not gzip, or is cut off. */
export class GunzipError extends Error {}

/** The unpacked bytes of a gzipped file, piece by piece. The caller counts them, and ends the unpacking by leaving the loop. */
export async function* gunzipFile(path: string): AsyncGenerator<Buffer> {
  const packed = createReadStream(path);
  const plain = createGunzip({ chunkSize: 256 * 1024 });
  packed.on('error', (error) => plain.destroy(error));
  plain.on('error', () => {
    // The loop throws the error.
  });
  try {
    for await (const piece of packed.pipe(plain)) yield piece as Buffer;
  } catch (error) {
    // zlib's own codes begin with Z_; all others are the disk's.
    if (error instanceof Error && 'code' in error && String(error.code).startsWith('Z_'))
      throw new GunzipError(error.message, { cause: error });
    throw error;
  } finally {
    packed.destroy();
    plain.destroy();
  }
}
