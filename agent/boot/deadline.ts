// The boot's deadline: one moment on the boot clock. It is kept in /run, so that a restart of the agent does not renew it. Only
// time lost to EC2's throttling moves it, and only up to the configured cap.
import { RUN_DIR } from '../host/names.ts';
import { isCount, shape, text } from '../host/shape.ts';
import { bootId, type Clock } from '../port/clock.ts';
import { readJsonIfPresent, writeAtomic } from '../port/fs.ts';

const FILE = `${RUN_DIR}/deadline.json`;
/** Used until the configuration is known. Seconds. */
const DEFAULT_SECONDS = 300;
const DEFAULT_EXTENSION_SECONDS = 300;

interface State {
  bootId: string;
  startedMs: number;
  extendedMs: number;
  attempts: number;
}

export interface Deadline {
  /** Boot-clock milliseconds. */
  at(): number;
  readonly startedMs: number;
  /** Runs of the agent in this boot, this one included. */
  readonly attempts: number;
  /** Writes down that this run has begun. Called only while the run holds the lock. */
  begin(): void;
  /** Called after a verdict: the next run in this boot gets a deadline of its own. */
  close(): void;
  /** Called once the configuration is known. */
  configure(seconds: number, extensionSeconds: number): void;
  /** Adds time lost to throttling; returns the milliseconds that were really added. */
  extend(ms: number): number;
}

/**
 * Continues this boot's deadline, or starts a new one. After a boot has finished, each later run starts a new deadline, whether
 * the run before it ended or was interrupted. `living`: this boot has been READY.
 */
export function openDeadline(clock: Clock, living: boolean): Deadline {
  const first = () => (living ? begun(clock) : continued(clock));
  let state = first();
  let seconds = DEFAULT_SECONDS;
  let closed = false;
  let extensionSeconds = DEFAULT_EXTENSION_SECONDS;
  const save = () => writeAtomic(FILE, JSON.stringify(state), 0o600);
  return {
    at: () => state.startedMs + seconds * 1000 + state.extendedMs,
    get startedMs() {
      return state.startedMs;
    },
    get attempts() {
      return state.attempts;
    },
    begin() {
      // Read again, since the run that held the lock until now may have given its verdict.
      state = first();
      save();
    },
    close() {
      closed = true;
      try {
        writeAtomic(FILE, '{}', 0o600);
      } catch {
        // The verdict stands. On a disk that cannot be written, a later run gets no longer deadline.
      }
    },
    configure(newSeconds, newExtension) {
      seconds = newSeconds;
      extensionSeconds = newExtension;
    },
    extend(ms) {
      // Throttling after the verdict extends no deadline, also not that of the next run.
      if (closed) return 0;
      const added = Math.max(0, Math.min(ms, extensionSeconds * 1000 - state.extendedMs));
      if (added === 0) return 0;
      state.extendedMs += added;
      save();
      return added;
    },
  };
}

function continued(clock: Clock): State {
  const known = readState();
  return known !== undefined && known.bootId === bootId()
    ? { ...known, attempts: known.attempts + 1 }
    : begun(clock);
}

function begun(clock: Clock): State {
  return { bootId: bootId(), startedMs: clock.bootMs(), extendedMs: 0, attempts: 1 };
}

function readState(): State | undefined {
  const value = readJsonIfPresent(FILE);
  return isState(value) ? value : undefined;
}

const isState = shape<State>({
  bootId: text(),
  startedMs: Number.isFinite,
  extendedMs: isCount,
  attempts: isCount,
});
