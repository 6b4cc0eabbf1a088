import { statSync } from 'node:fs';
import { readJsonIfPresent, sha256Of, writeAtomic } from '../port/fs.ts';
import { RUN_DIR } from './names.ts';

export interface Digest {
  /** Lower-case hexadecimal. */
  sha256: string;
  /** Milliseconds that the computation took; 0 when the digest was known from earlier in this boot. */
  ms: number;
}

const CACHE = `${RUN_DIR}/digests.json`;
/** Digests by file identity that this process has computed and not written to the cache yet. */
const computed = new Map<string, string>();
const underWay = new Map<string, Promise<Digest>>();

/**
 * SHA-256 of a file, read and hashed piece by piece between other work. The runtime's own code takes a fifth of the
 * time of a sha256sum without processor support. Writes nothing: see rememberDigests.
 */
export function digestOf(path: string): Promise<Digest> {
  const known = underWay.get(path);
  if (known !== undefined) return known;
  const digest = compute(path).catch((error: unknown) => {
    // The next call computes it again.
    underWay.delete(path);
    throw error;
  });
  underWay.set(path, digest);
  return digest;
}

/**
 * Writes the computed digests to the cache, each with its file's identity (device, inode, size, change time), so that a
 * file is hashed once per boot. For callers that may write. When the cache cannot be written, the next program takes
 * longer; nothing else follows.
 */
export function rememberDigests(): void {
  if (computed.size === 0) return;
  try {
    writeAtomic(CACHE, JSON.stringify({ ...readCache(), ...Object.fromEntries(computed) }), 0o600);
    computed.clear();
  } catch {
    // The next program computes the digests again.
  }
}

async function compute(path: string): Promise<Digest> {
  const identity = identify(path);
  const cache = readCache();
  const cached = cache[identity];
  if (cached !== undefined) return { sha256: cached, ms: 0 };
  const { sha256, ms } = await sha256Of(path);
  computed.set(identity, sha256);
  return { sha256, ms };
}

function identify(path: string): string {
  const stat = statSync(path, { bigint: true });
  return [path, stat.dev, stat.ino, stat.size, stat.ctimeNs].join(':');
}

function readCache(): Record<string, string> {
  const value = readJsonIfPresent(CACHE);
  return typeof value === 'object' && value !== null ? (value as Record<string, string>) : {};
}
