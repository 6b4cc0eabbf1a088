import { chmodSync, closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { Failure } from '../messages/failure.ts';
import { kindOfSystemError } from '../messages/kinds.ts';
import type { Clock } from '../port/clock.ts';
import { hasCode } from '../port/fs.ts';
import { hold } from '../port/hold.ts';

/**
 * Takes an exclusive flock(2) on a file, waiting at most `patienceMs` for whoever has it. The lock lives in a
 * child that waits for its input to end, so it is gone the moment this process is, however it ends.
 *
 * @throws Failure ALREADY_RUNNING, TOOL_MISSING without flock(1), FILE_WRITE when the file cannot be made.
 */
export async function takeLock(
  path: string,
  clock: Clock,
  patienceMs: number,
): Promise<{ release: () => void }> {
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

async function tryLock(path: string): Promise<{ release: () => void } | undefined> {
  try {
    mkdirSync(dirname(path), { recursive: true });
    // Whoever may open it may hold it for ever.
    closeSync(openSync(path, 'a', 0o600));
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
    return await hold('flock', ['--nonblock', '--no-fork', path, 'sh', '-c', 'echo held && exec cat']);
  } catch (error) {
    if (hasCode(error, 'ENOENT'))
      throw new Failure('TOOL_MISSING', 'flock is not installed', { tool: 'flock' });
    const reason = error instanceof Error ? error.message : String(error);
    const code = kindOfSystemError(error) === 'exhausted' ? 'SYSTEM_EXHAUSTED' : 'FILE_WRITE';
    throw new Failure(code, `cannot lock ${path}: ${reason}`, { path }, error);
  }
}
