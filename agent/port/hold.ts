import { spawn } from 'node:child_process';
import { bounds } from './bounds.ts';

/**
 * Starts a child that stands for something held: it says one line when it has it and ends when its input
 * does. Resolves to undefined when it ends without a word and with exit code 1: somebody else has it. Rejects
 * when it cannot be started (code ENOENT) or ends in another way.
 */
export function hold(file: string, args: string[]): Promise<{ release: () => void } | undefined> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    child.on('error', reject);
    let said = '';
    // Without a descriptor left there are no streams, and the error comes a moment later.
    child.stderr?.on('data', (chunk: Buffer) => {
      if (said.length < bounds.holderBytes) said += chunk.toString().slice(0, bounds.holderBytes);
    });
    child.on('close', (code) => {
      if (code === 1) resolve(undefined);
      else reject(new Error(`${file} ended with ${code}: ${said.trim()}`));
    });
    child.stdout?.once('data', () => {
      child.unref();
      resolve({ release: () => child.stdin.end() });
    });
  });
}
