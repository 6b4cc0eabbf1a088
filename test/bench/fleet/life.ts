// One modelled node and one run of its agent. The context of asynchronous calls tells which of the thousands of nodes is
// running: the agent's code asks for "the file", "the device" and gets its own node's.
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Clock } from '../../../agent/port/clock.ts';
import type { VirtualScheduler } from '../../aws/index.ts';
import type { Region } from './region.ts';

/** The state of a node that outlives a run of the agent. */
export interface FleetNode {
  instanceId: string;
  /** Files the agent wrote, by path. */
  files: Map<string, string>;
  /** Prefixes in the address pool. */
  pool: { eniId: string; cidr: string }[];
}

/** One run: it may be killed at one of its EC2 calls. */
export interface Life {
  node: FleetNode;
  region: Region;
  clock: Clock;
  dead: boolean;
  /** The accepted call, counted from 1, at which the agent is killed, and whether EC2 still carries it out. */
  killAt: { call: number; carriedOut: boolean } | undefined;
  /** Calls of this run: accepted, and refused because of the throttle. */
  accepted: number;
  throttled: number;
  killed: () => void;
}

const lives = new AsyncLocalStorage<Life>();

export function inLife<T>(life: Life, run: () => Promise<T>): Promise<T> {
  return lives.run(life, run);
}

export function currentLife(): Life {
  const life = lives.getStore();
  if (life === undefined) throw new Error('modelled code ran outside a node');
  return life;
}

/** Milliseconds between power-on and the agent's start, as the boot clock shows them. */
const AGENT_STARTS_AT_MS = 8_000;

/** The boot clock of a node that started at the scheduler's present. A dead node's sleep never ends. */
export function virtualClock(scheduler: VirtualScheduler, isDead: () => boolean): Clock {
  const started = scheduler.now();
  return {
    bootMs: () => scheduler.now() - started + AGENT_STARTS_AT_MS,
    now: () => new Date(scheduler.now()),
    sleep: (ms, signal) =>
      new Promise((resolve, reject) => {
        if (signal?.aborted === true) return reject(signal.reason);
        const cancel = scheduler.after(ms, () => {
          signal?.removeEventListener('abort', abort);
          if (!isDead()) resolve();
        });
        function abort(): void {
          cancel();
          reject(signal?.reason);
        }
        signal?.addEventListener('abort', abort, { once: true });
      }),
  };
}
