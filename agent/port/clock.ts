import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/**
 * Time as the agent sees it. Deadlines and rest times use the boot clock, which neither a step of the wall clock nor a restart
 * of the process moves. The wall clock is only for people.
 */
export interface Clock {
  /** Milliseconds since this kernel booted (10 ms resolution), suspend included. */
  bootMs(): number;
  /** Wall clock, for texts and tags. */
  now(): Date;
  /** Resolves after `ms`, or rejects with the signal's reason. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The last value read from the boot clock, and the monotonic clock at that moment. */
let last: { bootMs: number; monotonicMs: number } | undefined;

/** Without a free file descriptor, the time still goes on: the monotonic clock is added to the last value read. */
function bootMs(): number {
  try {
    last = {
      bootMs: Math.round(Number.parseFloat(readFileSync('/proc/uptime', 'utf8')) * 1000),
      monotonicMs: performance.now(),
    };
    return last.bootMs;
  } catch (error) {
    if (last === undefined) throw error;
    return Math.round(last.bootMs + performance.now() - last.monotonicMs);
  }
}

export const systemClock: Clock = {
  bootMs,
  now: () => new Date(),
  sleep: async (ms, signal) => {
    // The moment may have passed already, and the runtime warns of a negative time.
    await delay(Math.max(0, ms), undefined, signal === undefined ? {} : { signal });
  },
};

/** For the CNI path, which is synchronous: nothing else runs meanwhile. */
export function pause(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

let knownBootId: string | undefined;

/**
 * The kernel's random identifier of this boot: when it has changed, every stamp from before is void. The kernel is asked once,
 * so that the verdict of a boot that has no file descriptor left still has it.
 */
export function bootId(): string {
  knownBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return knownBootId;
}
