import { chmodSync, closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure, messageOf } from '../messages/failure.ts';
import { kindOfSystemError } from '../messages/kinds.ts';
import type { Clock } from '../port/clock.ts';
import { hasCode } from '../port/fs.ts';
import { hold } from '../port/hold.ts';

export interface Lock {
  release(): void;
}

/**
 * Takes an exclusive flock(2) on a file; waits at most `patienceMs` for the process that holds it. A child holds the
 * lock and waits for the end of its input, so the lock ends together with this process, however this process ends.
 *
 * @throws Failure ALREADY_RUNNING, TOOL_MISSING without flock(1), FILE_WRITE when the file cannot be made.
 */
export async function takeLock(path: string, clock: Clock, patienceMs: number): Promise<Lock> {
  const started = clock.bootMs();
  for (let pause = 50; ; pause = Math.min(500, pause * 1.1)) {
    const lock = await tryLock(path);
    if (lock !== undefined) return lock;
    if (clock.bootMs() - started > patienceMs) {
      throw new Failure('ALREADY_RUNNING', `another run holds ${path}`, { lock: path });
    }
    await clock.sleep(pause);
  }
}

async function tryLock(path: string): Promise<Lock | undefined> {
  try {
    mkdirSync(dirname(path), { recursive: true });
    // Mode 600, since every process that may open the file may hold the lock for ever.
    closeSync(openSync(path, 'a', 0o600));
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
    return await hold('flock', ['--nonblock', '--no-fork', path, 'sh', '-c', 'echo held && exec cat']);
  } catch (error) {
    if (hasCode(error, 'ENOENT'))
      throw new Failure('TOOL_MISSING', 'flock is not installed', { tool: 'flock' });
    const code = kindOfSystemError(error) === 'exhausted' ? 'SYSTEM_EXHAUSTED' : 'FILE_WRITE';
    throw new Failure(code, `cannot lock ${path}: ${messageOf(error)}`, { path }, error);
  }
}
