/** Time for the model: milliseconds since the epoch, real or virtual. */
export interface Scheduler {
  now(): number;
  /** Runs `task` once, `ms` later, unless the returned function is called first. */
  after(ms: number, task: () => void): () => void;
}

/** The wall clock. Its timers never keep the process alive. */
export const realScheduler: Scheduler = {
  now: () => Date.now(),
  after: (ms, task) => {
    const timer = setTimeout(task, ms);
    timer.unref();
    return () => clearTimeout(timer);
  },
};

export interface VirtualScheduler extends Scheduler {
  /** Runs every task due within the next `ms`, in order of time, then of scheduling. */
  advance(ms: number): void;
  /** Runs the next task and moves time to it; false when there is none. */
  step(): boolean;
  /**
   * Moves time on, whenever all running tasks wait for it, until `done`. Throws when no task is left to wait for.
   * It does not see a wait for real input or output (a socket, a child process).
   */
  run(done: () => boolean): Promise<void>;
}

interface Task {
  at: number;
  order: number;
  run: () => void;
  cancelled: boolean;
}

/** Time that only a test moves: thousands of modelled nodes run in seconds. */
export function virtualScheduler(startMs = Date.UTC(2026, 0, 1)): VirtualScheduler {
  const heap: Task[] = [];
  let now = startMs;
  let order = 0;

  function runNext(limit: number): boolean {
    for (;;) {
      const first = heap[0];
      if (first === undefined || first.at > limit) return false;
      popHeap(heap);
      if (first.cancelled) continue;
      now = Math.max(now, first.at);
      first.run();
      return true;
    }
  }

  return {
    now: () => now,
    after: (ms, run) => {
      const task: Task = { at: now + Math.max(0, ms), order: order++, run, cancelled: false };
      pushHeap(heap, task);
      return () => {
        task.cancelled = true;
      };
    },
    advance: (ms) => {
      const end = now + ms;
      while (runNext(end));
      now = end;
    },
    step: () => runNext(Number.POSITIVE_INFINITY),
    run: async (done) => {
      for (;;) {
        await new Promise(setImmediate); // every promise that can settle has settled by then
        if (done()) return;
        if (!runNext(Number.POSITIVE_INFINITY))
          throw new Error('nothing is left to wait for on virtual time');
      }
    },
  };
}

function earlier(a: Task, b: Task): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

function pushHeap(heap: Task[], task: Task): void {
  let at = heap.push(task) - 1;
  while (at > 0) {
    const parent = (at - 1) >> 1;
    if (!earlier(task, heap[parent] as Task)) break;
    heap[at] = heap[parent] as Task;
    at = parent;
  }
  heap[at] = task;
}

function popHeap(heap: Task[]): void {
  const last = heap.pop() as Task;
  if (heap.length === 0) return;
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && earlier(heap[child + 1] as Task, heap[child] as Task)) child++;
    if (!earlier(heap[child] as Task, last)) break;
    heap[at] = heap[child] as Task;
    at = child;
  }
  heap[at] = last;
}
