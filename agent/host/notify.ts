import { run } from '../port/exec.ts';
import { isThere } from '../port/fs.ts';
import { environment } from '../port/runtime.ts';

/** Whether systemd started this process as a unit that reports its readiness. */
export function isStartedBySystemd(): boolean {
  return environment('NOTIFY_SOCKET') !== undefined;
}

/** Whether this machine was booted with systemd: sd_booted(3). */
export function hasSystemd(): boolean {
  return isThere('/run/systemd/system');
}

/**
 * Tells systemd about readiness and progress, when systemd listens: options of systemd-notify (`--ready`,
 * `--status=…`), then assignments of sd_notify(3). Uses systemd-notify, since the shipped runtime has no unix datagram
 * sockets. A lost notification does not fail the boot.
 */
export async function notifySystemd(words: string[]): Promise<void> {
  if (!isStartedBySystemd()) return;
  // No `--` before the words: systemd-notify sends the words after it unchanged, and systemd has no field called
  // --ready.
  await run('systemd-notify', words, { timeoutMs: 5_000 });
}
