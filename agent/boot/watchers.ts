// Watchers of a boot without a terminal: the status file, systemd and the journal.
import { notifySystemd } from '../host/notify.ts';
import type { Log } from '../port/log.ts';
import type { Watcher } from './boot.ts';
import { sourcesLine, writeStatus } from './verdict/status.ts';

/** Keeps /run/eniboot/status.json current. A disk that cannot be written is reported by the phase that needs it. */
export function statusFileWatcher(log: Log): Watcher {
  return (status) => {
    try {
      writeStatus(status);
    } catch (error) {
      log.warn('status file not written', { reason: String(error) });
    }
  };
}

/** Tells systemd the state of the boot, and to wait longer when the deadline is longer than systemd's own time-out. */
export const systemdWatcher: Watcher = async (status, phase) => {
  // The unit's start time-out covers the defaults. For a longer deadline, more time is asked for, in microseconds.
  const more = Math.max(0, Math.ceil(status.remainingSeconds + 10)) * 1_000_000;
  await notifySystemd([`--status=${phase.name}: ${phase.state}`, `EXTEND_TIMEOUT_USEC=${more}`]);
};

export function journalWatcher(log: Log): Watcher {
  return (status, phase) => {
    if (phase.state === 'running') return;
    const { name, state, attempts, ms, waitMs, changes } = phase;
    const sources = name === 'identify' ? sourcesLine(status) : undefined;
    const configuration = sources === undefined ? {} : { configuration: sources };
    log.info('phase ended', { phase: name, state, attempts, ms, waitMs, changes, ...configuration });
  };
}
