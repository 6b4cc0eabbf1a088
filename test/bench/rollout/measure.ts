// Measures one rollout of a modelled fleet whose instances change meanwhile.
import { fork } from 'node:child_process';
import { join } from 'node:path';
import { fetchPackage, runtimes } from '../../../agent/build/npm-package.ts';
import { isFailed } from '../../../agent/rollout/judge.ts';
import { type Rollout, stepsOf } from '../../../agent/rollout/progress.ts';
import { loadSpec } from '../../../agent/rollout/spec.ts';
import { summarise } from '../../../agent/rollout/summary.ts';
import { defaultBucket } from '../../aws/ec2/ec2.ts';
import type { BucketSize } from '../../aws/ec2/throttle.ts';
import type { ApiCall } from '../../aws/index.ts';
import { defaultSsmBucket } from '../../aws/ssm/ssm.ts';
import { seeded } from '../../boot/kill.ts';
import { CLUSTER, createFleet, type Fleet, NEW } from '../../rollout/fleet.ts';
import { passTime, serveFleet } from './endpoint.ts';
import type { FromOperator } from './operator.ts';

/** Calls of one action, compared with the stand-in's limit. */
export interface ActionCalls {
  all: number;
  throttled: number;
  /** Accepted calls. */
  busiestMinute: number;
  /** Calls a minute that the stand-in accepts after the burst is used up. */
  allowedAMinute: number;
}

export interface Measured {
  nodes: number;
  state: string;
  /** Instances that were launched and ended during the rollout. */
  launched: number;
  terminated: number;
  updated: number;
  failed: number;
  /** Nodes that EC2 ended before they were asked. */
  gone: number;
  /** Nodes that ran the update more than once. */
  twice: number;
  /** Living nodes that run another version at the end, and are not named as an exception. */
  missed: number;
  commands: number;
  /** From the first call to the last, including the waits of the spec. Virtual time. */
  simulatedSeconds: number;
  bakeSeconds: number;
  /** The operator's own process: CPU time (user and system), and its largest resident set. */
  processorSeconds: number;
  memoryMb: number;
  /** Bytes. */
  largestParameter: number;
  calls: {
    all: number;
    throttled: number;
    /** Of the minutes that have calls. */
    median: number;
    busiestMinute: number;
    byAction: Record<string, ActionCalls>;
  };
  /** Seconds since the start, and the nodes that had finished by then. */
  course: [seconds: number, nodes: number][];
}

const ZONES = 3;
const HOUR_MS = 3_600_000;
/** Milliseconds from an instance's launch to its SSM agent's first answer and its READY: between this and twice this. */
const BOOT_MS = 40_000;

export interface Churning {
  nodes: number;
  seed: number;
  /** Share of nodes whose update goes back by itself; never the first node of a zone. */
  failing: number;
  /** Share of the fleet that EC2 ends in an hour; an autoscaler replaces each of them. */
  churn: number;
}

export async function rollOut(options: Churning): Promise<Measured> {
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
  const began = fleet.scheduler.now();
  const churned = churn(fleet, options, random);
  const course: Measured['course'] = [[0, 0]];
  let home = 0;
  const ended = await operate(fleet, options.seed, ({ good, failed, other }) => {
    home += good + failed + other;
    course.push([(fleet.scheduler.now() - began) / 1000, home]);
  });
  const { progress } = ended;
  const rollout = { spec, zones: ended.zones } as Rollout;
  const named = new Set(progress.exceptions.map((one) => ended.zones[one.zone]?.nodes[one.node]));
  const living = fleet.nodes.filter((node) => !fleet.terminated.has(node.instanceId));
  const values = [...fleet.ssm.parameters.values()].flat().map(({ value }) => Buffer.byteLength(value));
  return {
    nodes: options.nodes,
    state: progress.state,
    ...churned,
    updated: progress.updated,
    failed: progress.exceptions.filter((one) => isFailed(one.outcome)).length,
    gone: summarise(rollout, progress).gone,
    twice: fleet.nodes.filter((node) => node.runs > 1).length,
    missed: living.filter((node) => node.version !== NEW && !named.has(node.instanceId)).length,
    commands: fleet.calls.filter((call) => call.action === 'SendCommand' && call.accepted).length,
    simulatedSeconds: (fleet.scheduler.now() - began) / 1000,
    bakeSeconds: stepsOf(rollout, progress).reduce(
      (sum, step) => sum + (step.do === 'bake' ? step.seconds : 0),
      0,
    ),
    processorSeconds: ended.processorSeconds,
    memoryMb: ended.memoryMb,
    largestParameter: Math.max(...values),
    calls: callsOf(fleet.calls, began),
    course,
  };
}

const specText = `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\n`;
const spec = loadSpec('bench.yaml', specText);

/** Ends one random node after the other, and launches another in the same zone, which comes up a little later. */
function churn(fleet: Fleet, { nodes, churn: share }: Churning, random: () => number) {
  const counts = { launched: 0, terminated: 0 };
  const pauseMs = () => (-Math.log(1 - random()) * HOUR_MS) / (nodes * share);
  const next = () => {
    const node = fleet.nodes[Math.floor(random() * fleet.nodes.length)];
    if (node !== undefined && !fleet.terminated.has(node.instanceId)) {
      node.online = false;
      fleet.terminated.add(node.instanceId);
      counts.terminated += 1;
      const zone = Number(fleet.zoneOf.get(node.instanceId)?.slice(-1)) - 1;
      fleet.launch(zone, BOOT_MS * (1 + random()));
      counts.launched += 1;
    }
    fleet.scheduler.after(pauseMs(), next);
  };
  if (share > 0) fleet.scheduler.after(pauseMs(), next);
  return counts;
}

const root = join(import.meta.dirname, '../../..');

/** The operator's process, in the shipped runtime, from its start to its end. */
async function operate(
  fleet: Fleet,
  seed: number,
  onHome: (batch: { good: number; failed: number; other: number }) => void,
): Promise<Extract<FromOperator, { ended: object }>['ended']> {
  const { url, stop } = await serveFleet(fleet);
  const runtime = await fetchPackage(process.arch === 'arm64' ? runtimes.arm64 : runtimes.x64, root);
  const child = fork(join(import.meta.dirname, 'operator.ts'), [specText, String(seed)], {
    execPath: join(runtime, 'bin/bun'),
    execArgv: [],
    serialization: 'json',
    env: {
      PATH: process.env['PATH'] ?? '',
      AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE',
      AWS_SECRET_ACCESS_KEY: 'only-for-the-benchmark',
      AWS_REGION: 'eu-west-1',
      AWS_ENDPOINT_URL: url,
    },
  });
  try {
    return await new Promise((resolve, reject) => {
      child.on('message', (message: FromOperator) => {
        if ('sleepMs' in message)
          passTime(fleet, message.sleepMs).then(() => child.send(fleet.scheduler.now()), reject);
        else if ('home' in message) onHome(message.home);
        else resolve(message.ended);
      });
      child.on('exit', (code, signal) =>
        reject(new Error(`the operator's process ended: ${signal ?? code}`)),
      );
    });
  } finally {
    child.kill();
    stop();
  }
}

function callsOf(calls: readonly ApiCall[], began: number): Measured['calls'] {
  const actions = [...new Set(calls.map((call) => call.action))].sort();
  const perMinute = minutesOf(calls, began);
  return {
    all: calls.length,
    throttled: calls.filter(isThrottled).length,
    median: perMinute[Math.floor(perMinute.length / 2)] ?? 0,
    busiestMinute: perMinute.at(-1) ?? 0,
    byAction: Object.fromEntries(
      actions.map((action) => {
        const own = calls.filter((call) => call.action === action);
        const bucket: BucketSize =
          own[0]?.service === 'ec2' ? defaultBucket(action) : defaultSsmBucket(action);
        return [
          action,
          {
            all: own.length,
            throttled: own.filter(isThrottled).length,
            busiestMinute:
              minutesOf(
                own.filter((call) => !isThrottled(call)),
                began,
              ).at(-1) ?? 0,
            allowedAMinute: bucket.refill * 60,
          },
        ];
      }),
    ),
  };
}

function isThrottled({ error }: ApiCall): boolean {
  return error === 'ThrottlingException' || error === 'RequestLimitExceeded';
}

/** The numbers of calls of each minute that has some, in ascending order. */
function minutesOf(calls: readonly ApiCall[], began: number): number[] {
  const minutes = new Map<number, number>();
  for (const { at } of calls) {
    const minute = Math.floor((at - began) / 60_000);
    minutes.set(minute, (minutes.get(minute) ?? 0) + 1);
  }
  return [...minutes.values()].sort((a, b) => a - b);
}
