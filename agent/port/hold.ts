import { spawn } from 'node:child_process';

/**
 * Starts a child that stands for something held: it says one line when it has it and ends when its input
 * does. Resolves to undefined when it ends without a word.
 */
export function hold(file: string, args: string[]): Promise<{ release: () => void } | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'ignore'] });
    child.on('error', reject);
    child.on('close', () => resolve(undefined));
    child.stdout.once('data', () => {
      child.unref();
      resolve({ release: () => child.stdin.end() });
    });
  });
}
