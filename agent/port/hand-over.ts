import { spawn } from 'node:child_process';

/**
 * Runs another executable in this one's place: same streams, same group, its exit code. A signal counts as
 * 128 + 9: whatever ended it, it did not finish.
 */
export function runInPlace(file: string, args: string[], env: Record<string, string>): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(file, args, { stdio: 'inherit', env: { ...process.env, ...env } });
    child.on('error', () => resolve(127));
    child.on('close', (code) => resolve(code ?? 137));
  });
}
