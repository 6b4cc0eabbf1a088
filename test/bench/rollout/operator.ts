// The operator's process: the product's own orchestrator with the AWS SDK, against an endpoint on this machine, without TLS. Its
// CPU time and memory are only its own. Its clock is the simulation's: it asks the parent process to sleep.

import { fleetAws } from '../../../agent/aws/fleet.ts';
import { createSend } from '../../../agent/aws/fleet-sdk.ts';
import type { Clock } from '../../../agent/port/clock.ts';
import { beginRollout, prepare } from '../../../agent/rollout/begin.ts';
import { orchestrate } from '../../../agent/rollout/orchestrate.ts';
import type { Progress, Rollout } from '../../../agent/rollout/progress.ts';
import { loadSpec } from '../../../agent/rollout/spec.ts';
import type { RolloutEvent } from '../../../agent/rollout/work.ts';
import { seeded } from '../../boot/kill.ts';

/** Messages to the parent. The answer to a sleep is the time at its end, in milliseconds since the epoch. */
export type FromOperator =
  | { sleepMs: number }
  | { home: RolloutEvent & { kind: 'home' } }
  | { ended: { progress: Progress; zones: Rollout['zones']; processorSeconds: number; memoryMb: number } };

const [specText = '', seed = '1'] = process.argv.slice(2);
const tell = (message: FromOperator) => void process.send?.(message);

let nowMs = 0;
let wake = () => {};
// The handler also keeps the process alive until the parent has read its result.
process.on('message', (endMs: number) => {
  nowMs = Math.max(nowMs, endMs);
  wake();
});
/** Learns the time from AWS's answers, which have it to the second. */
const learn = (date: string | undefined) => {
  nowMs = Math.max(nowMs, Date.parse(date ?? '') || 0);
};
const clock: Clock = {
  bootMs: () => nowMs,
  now: () => new Date(nowMs),
  sleep: (sleepMs) =>
    new Promise((resolve) => {
      wake = resolve;
      tell({ sleepMs });
    }),
};

const aws = fleetAws(await createSend(undefined, learn), {
  clock,
  until: () => Number.POSITIVE_INFINITY,
  onThrottled: () => {},
  onCall: () => {},
  random: seeded(Number(seed)),
});
const prepared = await prepare(aws, loadSpec('bench.yaml', specText));
const record = await beginRollout(aws, clock, { who: 'bench', token: 'bench-token' }, prepared);
const progress = await orchestrate({
  aws,
  clock,
  record,
  stopped: new AbortController().signal,
  tell: (happening) => {
    if (happening.kind === 'home') tell({ home: happening });
  },
});
const { userCPUTime, systemCPUTime, maxRSS } = process.resourceUsage();
tell({
  ended: {
    progress,
    zones: record.rollout.zones,
    processorSeconds: (userCPUTime + systemCPUTime) / 1e6,
    memoryMb: (maxRSS * 1024) / 1e6,
  },
});
