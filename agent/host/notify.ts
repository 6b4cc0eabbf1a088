import { run } from '../port/exec.ts';
import { environment } from '../port/runtime.ts';

/**
 * Tells systemd about readiness and progress, when it listens. Through systemd-notify, since the shipped
 * runtime has no unix datagram sockets. A lost notification is not a failure of the boot.
 */
export async function notifySystemd(assignments: string[]): Promise<void> {
  if (environment('NOTIFY_SOCKET') === undefined) return;
  await run('systemd-notify', ['--', ...assignments], { timeoutMs: 5_000 });
}
