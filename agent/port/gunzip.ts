import { createReadStream } from 'node:fs';
import { createGunzip, gunzipSync } from 'node:zlib';

/** Unpacks gzip: a kilobyte of it can hold a megabyte. Throws when it is none, or unpacks to more than `maxBytes`. */
export function gunzip(bytes: Uint8Array, maxBytes: number): Buffer {
  // zlib takes no limit below 1.
  return gunzipSync(bytes, { maxOutputLength: Math.max(1, maxBytes) });
}

/** The error of a file that is no gzip, or only half of one. */
export class GunzipError extends Error {}

/** What a gzipped file unpacks to, piece by piece: whoever takes them counts, and ends it by leaving the loop. */
export async function* gunzipFile(path: string): AsyncGenerator<Buffer> {
  const packed = createReadStream(path);
  const plain = createGunzip({ chunkSize: 256 * 1024 });
  packed.on('error', (error) => plain.destroy(error));
  plain.on('error', () => {
    // The loop throws it.
  });
  try {
    for await (const piece of packed.pipe(plain)) yield piece as Buffer;
  } catch (error) {
    // zlib's own codes begin so; all others are the disk's.
    if (error instanceof Error && 'code' in error && String(error.code).startsWith('Z_'))
      throw new GunzipError(error.message, { cause: error });
    throw error;
  } finally {
    packed.destroy();
    plain.destroy();
  }
}
