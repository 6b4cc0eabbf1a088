import { gunzipSync } from 'node:zlib';

/** Unpacks gzip: a kilobyte of it can hold a megabyte. Throws when it is none, or unpacks to more than `maxBytes`. */
export function gunzip(bytes: Uint8Array, maxBytes: number): Buffer {
  // zlib takes no limit below 1.
  return gunzipSync(bytes, { maxOutputLength: Math.max(1, maxBytes) });
}
