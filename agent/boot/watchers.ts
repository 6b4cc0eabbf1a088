// Those who follow a boot without a terminal: the status file, systemd and the journal.
import { notifySystemd } from '../host/notify.ts';
import type { Log } from '../port/log.ts';
import type { Watcher } from './sequence.ts';
import { sourcesLine, writeStatus } from './status.ts';

/** Keeps /run/eniboot/status.json current. A disk that cannot be written is found by the phase that needs it. */
export function statusFileWatcher(log: Log): Watcher {
  return {
    progress(status) {
      try {
        writeStatus(status);
      } catch (error) {
        log.warn('status file not written', { reason: String(error) });
      }
    },
  };
}

/** Tells systemd what is going on, and to go on waiting when the deadline is longer than its own time-out. */
export const systemdWatcher: Watcher = {
  async progress(status, phase) {
    // The unit's start time-out covers the defaults; a longer deadline is asked for, in microseconds.
    const more = Math.max(0, Math.ceil(status.remainingSeconds + 10)) * 1_000_000;
    await notifySystemd([`--status=${phase.name}: ${phase.state}`, `EXTEND_TIMEOUT_USEC=${more}`]);
  },
};

export function journalWatcher(log: Log): Watcher {
  return {
    progress(status, phase) {
      if (phase.state === 'running') return;
      const { name, state, attempts, ms, waitMs, changes } = phase;
      const configuration = name === 'identify' ? sourcesLine(status) : undefined;
      log.info('phase ended', {
        phase: name,
        state,
        attempts,
        ms,
        waitMs,
        changes,
        ...(configuration === undefined ? {} : { configuration }),
      });
    },
  };
}
