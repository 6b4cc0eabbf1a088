// How many files run at once: one for each processor, and more while those leave processors idle.
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';

/** Files at once however little they wait. More than two have not been tried without waiting. */
const AT_LEAST = Math.min(2, availableParallelism());
/** Files at once however little they compute: each has a sandbox, servers and machines of its own. */
const AT_MOST = 8;
/** Share of the processors that must be idle for one file more: a third of one of two. */
const IDLE = 0.15;
/** The same beside files that bound time: the new file then finds most of a processor idle. And files at once there. */
const IDLE_BOUNDED = 0.4;
const AT_MOST_BOUNDED = AT_LEAST + 1;
/** Bytes of memory that must be available for one file more. */
const MEMORY = 2 * 2 ** 30;
/** Milliseconds between two looks. A file that has just started shows in the next one. */
const LOOK_MS = 1500;

export interface Load {
  /** Files that run. */
  running: number;
  /** Share of the processors that nothing but low priority has used since the last look, 0 to 1. */
  idle: number;
  /** Bytes. */
  available: number;
  /** The next file bounds time, or one that runs does. */
  bounded: boolean;
}

/** Whether a file more may start than there are processors for. */
export function leavesRoom({ running, idle, available, bounded }: Load): boolean {
  const [atMost, least] = bounded ? [AT_MOST_BOUNDED, IDLE_BOUNDED] : [AT_MOST, IDLE];
  return running < atMost && idle >= least && available >= MEMORY;
}

/**
 * Runs `job` for each item, in order, and ends when the last job has.
 *
 * @param isRoom asked now and then whether one more may start beside those that run.
 */
export async function runPaced<T>(
  items: readonly T[],
  job: (item: T) => Promise<unknown>,
  isRoom: (running: readonly T[], next: T) => boolean,
): Promise<void> {
  const waiting = [...items];
  const running = new Map<T, Promise<unknown>>();
  const startNext = () => {
    const item = waiting.shift() as T;
    running.set(
      item,
      job(item).finally(() => running.delete(item)),
    );
  };
  let look = delay(LOOK_MS, 'look');
  while (waiting.length > 0) {
    if (running.size < AT_LEAST) startNext();
    else if ((await Promise.race([look, ...running.values()])) === 'look') {
      if (isRoom([...running.keys()], waiting[0] as T)) startNext();
      look = delay(LOOK_MS, 'look');
    }
  }
  await Promise.all(running.values());
}

/** Looks at the machine each time that it is asked whether so many files leave room for one more. */
export function watchMachine(): (running: number, bounded: boolean) => boolean {
  let before = processors();
  return (running, bounded) => {
    const now = processors();
    const idle = (now.idle - before.idle) / Math.max(1, now.all - before.all);
    before = now;
    return leavesRoom({ running, idle, available: availableMemory(), bounded });
  };
}

/** Ticks of all processors since the machine has started. Source: proc_stat(5). */
function processors(): { idle: number; all: number } {
  const [, ...words] = readFileSync('/proc/stat', 'utf8').split('\n', 1)[0]?.split(/\s+/) ?? [];
  const [user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0, steal = 0] =
    words.map(Number);
  return { idle: nice + idle + iowait, all: user + nice + system + idle + iowait + irq + softirq + steal };
}

function availableMemory(): number {
  return Number(/^MemAvailable: +(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1]) * 1024;
}
