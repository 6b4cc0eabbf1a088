import { existsSync, statSync } from 'node:fs';
import { Failure } from '../messages/failure.ts';
import { hasCode, readIfPresent, writeAtomic } from '../port/fs.ts';
import { must } from './command.ts';
import { RUN_DIR } from './names.ts';

export interface Digest {
  /** Lower-case hexadecimal. */
  sha256: string;
  /** Milliseconds it took; 0 when known from earlier in this boot. */
  ms: number;
}

const CACHE = `${RUN_DIR}/digests.json`;
const underWay = new Map<string, Promise<Digest>>();

/**
 * SHA-256 of a file, computed by another process so that it costs a core and not this one's time, once per
 * boot: the result is kept with the file's identity (device, inode, size, change time).
 */
export function digestOf(path: string): Promise<Digest> {
  const known = underWay.get(path);
  if (known !== undefined) return known;
  const digest = compute(path);
  underWay.set(path, digest);
  return digest;
}

async function compute(path: string): Promise<Digest> {
  const identity = identify(path);
  const cache = readCache();
  const cached = cache[identity];
  if (cached !== undefined) return { sha256: cached, ms: 0 };
  const result = await must('BAD_DIGEST', 'sha256sum', ['--', path], { timeoutMs: 60_000 });
  const sha256 = result.stdout.slice(0, 64);
  // A look at a machine on which nothing has run yet leaves nothing on it.
  if (existsSync(RUN_DIR)) writeAtomic(CACHE, JSON.stringify({ ...readCache(), [identity]: sha256 }), 0o600);
  return { sha256, ms: result.ms };
}

function identify(path: string): string {
  try {
    const stat = statSync(path, { bigint: true });
    return [path, stat.dev, stat.ino, stat.size, stat.ctimeNs].join(':');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new Failure('BAD_DIGEST', `${path} is missing`, { path });
    throw error;
  }
}

function readCache(): Record<string, string> {
  try {
    return JSON.parse(readIfPresent(CACHE) ?? '{}') as Record<string, string>;
  } catch {
    return {};
  }
}
