// NetworkManager gets its configuration as files, which are reloaded and checked. It is never restarted, since a
// restart touches the boot ENI's lease.
import { Failure } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { endingOf, succeeded } from '../port/exec-result.ts';
import { must } from './command.ts';

/**
 * nmcli itself gives up when NetworkManager does not answer, typically after 25 s. Source:
 * docs.gtk.org/gio/property.DBusProxy.g-default-timeout.html. With a shorter time the boot of a small instance would
 * fail while the instance is still starting everything else.
 */
const timeoutMs = 30_000;

/** nmcli's exit code when NetworkManager is not running. Source: nmcli(1), EXIT STATUS. */
const NOT_RUNNING = 8;

/** Devices, and whether NetworkManager leaves each alone; undefined when NetworkManager is not installed or not running. */
export async function managedDevices(): Promise<Map<string, { managed: boolean }> | undefined> {
  const result = await run('nmcli', ['--terse', '--fields', 'DEVICE,STATE', 'device', 'status'], {
    timeoutMs,
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
        // Terse output escapes colons in values; device names contain none.
        const at = line.indexOf(':');
        return [line.slice(0, at), { managed: line.slice(at + 1) !== 'unmanaged' }];
      }),
  );
}

/** Makes NetworkManager read its configuration files again. */
export async function reloadNetworkManager(): Promise<void> {
  await must('NETWORK_MANAGER', 'nmcli', ['general', 'reload', 'conf'], { timeoutMs });
}

/** Takes a device from NetworkManager at once, or gives it back, where reloading the configuration has not done so. */
export async function setManaged(device: string, managed: boolean): Promise<void> {
  const answer = managed ? 'yes' : 'no';
  await must('NETWORK_MANAGER', 'nmcli', ['device', 'set', device, 'managed', answer], { timeoutMs });
}
