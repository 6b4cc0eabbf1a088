import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { hold } from '../port/hold.ts';

/**
 * Takes an exclusive flock(2) on a file; undefined when somebody else has it. The lock lives in a child
 * that waits for its input to end, so it is gone the moment this process is, however it ends.
 */
export async function takeLock(path: string): Promise<{ release: () => void } | undefined> {
  mkdirSync(dirname(path), { recursive: true });
  return hold('flock', ['--nonblock', '--no-fork', path, 'sh', '-c', 'echo held; exec cat']);
}
