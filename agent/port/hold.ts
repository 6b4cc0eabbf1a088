import { spawn } from 'node:child_process';
import { bounds } from './bounds.ts';

/** Milliseconds within which a child must say that it holds the thing: long for a shell, even when everything is slow. */
const PATIENCE_MS = 10_000;

/**
 * Starts a child that holds something, for example a lock. It prints one line when it holds it, and ends when its input ends.
 * Resolves to undefined when the child ends without output and with exit code 1: another process holds it. Rejects when the
 * child cannot be started (code ENOENT), ends in another way, or is killed because it prints nothing for `patienceMs`: a line
 * that a full disk or a stopped process keeps back never comes.
 */
export function hold(
  file: string,
  args: string[],
  patienceMs = PATIENCE_MS,
): Promise<{ release: () => void; pid: number } | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      for (const stream of child.stdio ?? []) stream?.destroy();
      reject(new Error(`${file} said nothing for ${patienceMs / 1000} s`));
    }, patienceMs);
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(error);
    });
    let said = '';
    // Without a free descriptor there are no streams, and the error comes a moment later.
    child.stderr?.on('data', (chunk: Buffer) => {
      if (said.length < bounds.holderBytes) said += chunk.toString().slice(0, bounds.holderBytes);
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code === 1) resolve(undefined);
      else reject(new Error(`${file} ended with ${code}: ${said.trim()}`));
    });
    child.stdout?.once('data', () => {
      clearTimeout(timer);
      child.unref();
      resolve({
        pid: child.pid ?? 0,
        release() {
          child.stdin?.end();
          // A stopped child would not see the end of its input.
          child.kill('SIGKILL');
        },
      });
    });
  });
}
