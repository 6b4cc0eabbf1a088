import { spawnSync } from 'node:child_process';

/** Runs a program of the test's own set-up and returns its output; throws the output with any exit code but 0. */
export function must(command: string[], timeoutMs = 120_000): string {
  const [file = '', ...args] = command;
  const result = spawnSync(file, args, { encoding: 'utf8', timeout: timeoutMs, maxBuffer: 64 * 1024 * 1024 });
  if (result.status === 0) return result.stdout;
  const reason = result.error?.message ?? `exit code ${result.status}`;
  throw new Error(`${command.join(' ')}: ${reason}\n${(result.stderr ?? '').slice(-4000)}`);
}
