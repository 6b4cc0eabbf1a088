// NetworkManager is told by configuration, reloaded and checked; never restarted, since a restart touches
// the boot ENI's lease.
import { Failure } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { endingOf, succeeded } from '../port/exec-result.ts';
import { must } from './command.ts';

/** nmcli's exit code without a NetworkManager to ask. Source: nmcli(1), EXIT STATUS. */
const NOT_RUNNING = 8;

/** Devices and whether NetworkManager leaves them alone; undefined when it is not there or not running. */
export async function managedDevices(): Promise<Map<string, { managed: boolean }> | undefined> {
  const result = await run('nmcli', ['--terse', '--fields', 'DEVICE,STATE', 'device', 'status'], {
    timeoutMs: 5_000,
  });
  if (result.missing || result.exitCode === NOT_RUNNING) return undefined;
  if (!succeeded(result)) {
    const said = result.stderr.trim();
    const reason = said === '' ? endingOf(result) : said;
    throw new Failure('NETWORK_MANAGER', `NetworkManager does not tell what it manages: ${reason}`, {
      exitCode: result.exitCode,
      reason,
    });
  }
  return new Map(
    result.stdout
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => {
        // Terse output escapes colons inside values; device names have none.
        const at = line.indexOf(':');
        return [line.slice(0, at), { managed: line.slice(at + 1) !== 'unmanaged' }];
      }),
  );
}

/** Makes NetworkManager read its configuration files again. */
export async function reloadNetworkManager(): Promise<void> {
  await must('NETWORK_MANAGER', 'nmcli', ['general', 'reload', 'conf'], { timeoutMs: 5_000 });
}

/** Takes a device from NetworkManager at once, or gives it to it, where the reloaded configuration has not done so. */
export async function setManaged(device: string, managed: boolean): Promise<void> {
  const answer = managed ? 'yes' : 'no';
  await must('NETWORK_MANAGER', 'nmcli', ['device', 'set', device, 'managed', answer], { timeoutMs: 5_000 });
}
