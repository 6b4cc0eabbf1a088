// One rollout of a modelled fleet, and what it cost.
import { beginRollout, prepare } from '../../../agent/rollout/begin.ts';
import { isFailed } from '../../../agent/rollout/judge.ts';
import { orchestrate } from '../../../agent/rollout/orchestrate.ts';
import { stepsOf } from '../../../agent/rollout/progress.ts';
import { loadSpec } from '../../../agent/rollout/spec.ts';
import { seeded } from '../../boot/kill.ts';
import { CLUSTER, createFleet, NEW, onFleetTime, operatorOf } from '../../rollout/fleet.ts';

export interface Measured {
  nodes: number;
  state: string;
  updated: number;
  failed: number;
  /** Nodes that ran the update more than once. */
  twice: number;
  commands: number;
  /** From the first call to the last, and the waits that the spec asks for among it. Virtual time. */
  simulatedSeconds: number;
  bakeSeconds: number;
  wallSeconds: number;
  memoryMb: number;
  /** Bytes. */
  largestParameter: number;
  calls: {
    all: number;
    throttled: number;
    /** Of the minutes in which there was one. */
    median: number;
    busiestMinute: number;
    byAction: Record<string, number>;
  };
  /** Seconds since the start, and nodes that were home by then. */
  course: [seconds: number, nodes: number][];
}

const ZONES = 3;

/** @param options.failing share of nodes whose update goes back by itself; never the first node of a zone. */
export async function rollOut(options: { nodes: number; seed: number; failing: number }): Promise<Measured> {
  const random = seeded(options.seed);
  const each = Math.floor(options.nodes / ZONES);
  const zones = Array.from({ length: ZONES }, (_, at) =>
    at === 0 ? options.nodes - each * (ZONES - 1) : each,
  );
  const every = Math.round(1 / options.failing);
  const fleet = createFleet({
    zones,
    behaviourOf: (node) => (node % every === every - 1 ? 'goes-back' : 'good'),
    updateMs: () => 30_000 + random() * 60_000,
  });
  const starts: { action: string; minute: number; throttled: boolean }[] = [];
  const began = fleet.scheduler.now();
  const { aws } = operatorOf(fleet, {
    random,
    onCall: ({ action, outcome }) =>
      starts.push({
        action,
        minute: Math.floor((fleet.scheduler.now() - began) / 60_000),
        throttled: outcome === 'SSM_THROTTLED',
      }),
  });
  const spec = loadSpec(
    'bench.yaml',
    `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\n`,
  );
  const wall = performance.now();
  let memory = 0;
  const course: Measured['course'] = [[0, 0]];
  let home = 0;
  const never = new AbortController().signal;
  const work = async () => {
    const owner = { who: 'bench', token: 'bench-token' };
    const record = await beginRollout(aws, fleet.clock, owner, await prepare(aws, spec));
    const progress = await orchestrate({
      aws,
      clock: fleet.clock,
      record,
      stopped: never,
      tell: (happening) => {
        memory = Math.max(memory, process.memoryUsage.rss());
        if (happening.kind !== 'home') return;
        home += happening.good + happening.failed + happening.other;
        course.push([(fleet.scheduler.now() - began) / 1000, home]);
      },
    });
    return { progress, rollout: record.rollout };
  };
  const { progress, rollout } = await onFleetTime(fleet, work());
  const minutes = new Map<number, number>();
  for (const { minute } of starts) minutes.set(minute, (minutes.get(minute) ?? 0) + 1);
  const perMinute = [...minutes.values()].sort((a, b) => a - b);
  const byAction: Record<string, number> = {};
  for (const { action } of starts) byAction[action] = (byAction[action] ?? 0) + 1;
  const values = [...fleet.ssm.parameters.values()].flat().map(({ value }) => Buffer.byteLength(value));
  return {
    nodes: options.nodes,
    state: progress.state,
    updated: progress.updated,
    failed: progress.exceptions.filter((one) => isFailed(one.outcome)).length,
    twice: fleet.nodes.filter((node) => node.runs > 1).length,
    commands: byAction['SendCommand'] ?? 0,
    simulatedSeconds: (fleet.scheduler.now() - began) / 1000,
    bakeSeconds: stepsOf(rollout, progress).reduce(
      (sum, step) => sum + (step.do === 'bake' ? step.seconds : 0),
      0,
    ),
    wallSeconds: (performance.now() - wall) / 1000,
    memoryMb: memory / 1e6,
    largestParameter: Math.max(...values),
    calls: {
      all: starts.length,
      throttled: starts.filter((one) => one.throttled).length,
      median: perMinute[Math.floor(perMinute.length / 2)] ?? 0,
      busiestMinute: perMinute.at(-1) ?? 0,
      byAction,
    },
    course,
  };
}
