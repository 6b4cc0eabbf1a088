// The boot's deadline: one moment on the boot clock, kept in /run so that a restart of the agent does not
// renew it, moved only by time lost to EC2's throttling and only up to the configured cap.
import { RUN_DIR } from '../host/names.ts';
import { bootId, type Clock } from '../port/clock.ts';
import { readJsonIfPresent, writeAtomic } from '../port/fs.ts';

const FILE = `${RUN_DIR}/deadline.json`;
/** Before the configuration is known. Seconds. */
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
  /** Writes down that this run has begun: not before it holds the lock. */
  begin(): void;
  /** After a verdict: the next run in this boot has a deadline of its own. */
  close(): void;
  /** Once the configuration is known. */
  configure(seconds: number, extensionSeconds: number): void;
  /** Adds time lost to throttling; returns the milliseconds really added. */
  extend(ms: number): number;
}

/**
 * Continues this boot's deadline, or starts one: a finished boot's later runs start a new one, whether the one before it
 * came to its end or was interrupted. `living`: this boot has been READY.
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
      // Again, since the run that held the lock until now may have given its verdict.
      state = first();
      save();
    },
    close() {
      closed = true;
      try {
        writeAtomic(FILE, '{}', 0o600);
      } catch {
        // The verdict stands; on a disk that takes nothing, a later run has no longer deadline.
      }
    },
    configure(newSeconds, newExtension) {
      seconds = newSeconds;
      extensionSeconds = newExtension;
    },
    extend(ms) {
      // What is throttled after the verdict concerns no deadline, least of all the next run's.
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
  const value = (readJsonIfPresent(FILE) ?? {}) as Partial<Record<keyof State, unknown>>;
  const { bootId: boot, startedMs, extendedMs, attempts } = value;
  if (typeof boot !== 'string' || typeof startedMs !== 'number') return undefined;
  if (typeof extendedMs !== 'number' || typeof attempts !== 'number') return undefined;
  return { bootId: boot, startedMs, extendedMs, attempts };
}
