// Thousands of nodes boot at once on virtual time. Each runs the agent's own boot: bootNode with the real egress and attach
// phases, retries, deadline, EC2 module and verdict; stand-ins.ts has the rest.
import { mock } from 'node:test';
import { createOperatorEc2 } from '../../../agent/aws/ec2-sdk.ts';
import { carryOut, lookForLeftovers } from '../../../agent/aws/sweep.ts';
import { REST_MINUTES } from '../../../agent/aws/sweep-plan.ts';
import { INSTANCE_TAG } from '../../../agent/aws/tags.ts';
import { bootNode as runBoot } from '../../../agent/boot/boot.ts';
import { publish } from '../../../agent/boot/verdict/verdict.ts';
import { loadConfig } from '../../../agent/config/load.ts';
import { terminateInstances } from '../../aws/ec2/actions/instances.ts';
import { virtualScheduler } from '../../aws/index.ts';
import { type FleetNode, inLife, type Life, virtualClock } from './life.ts';
import { useConfig } from './phases.ts';
import { createRegion, type Region } from './region.ts';

export interface FleetOptions {
  nodes: number;
  seed: number;
  bucket: { capacity: number; refill: number } | undefined;
  /** boot.throttleExtensionSeconds of every node. */
  extensionSeconds: number;
  /** Share of answers that are lost; share of nodes whose agent is killed or whose instance is terminated during the boot. */
  lossRate: number;
  killRate: number;
}

export interface FleetResult {
  nodes: number;
  ready: number;
  degraded: number;
  /** Nodes by failure code. */
  failed: Record<string, number>;
  /** Agents that were killed and run again; instances that were terminated during the boot. */
  rerun: number;
  terminated: number;
  /** Seconds of virtual time at which each node was READY, in order. */
  readyAt: number[];
  /** Seconds that the busiest bucket needs for the accepted calls; per action. */
  bound: { action: string; seconds: number; calls: number }[];
  accepted: Record<string, number>;
  throttled: Record<string, number>;
  /** Retries after throttled calls in each node's run. */
  retries: number[];
  mutatingPerNode: number[];
  /** Number of pod ENIs, by outcome. */
  enis: {
    attached: number;
    surplus: number;
    unattachedOfLiving: number;
    leftByDead: number;
    afterSweep: number;
  };
  wallSeconds: number;
  peakBytes: number;
}

export async function simulate(options: FleetOptions): Promise<FleetResult> {
  const begun = performance.now();
  // Half a million refusals, each an error, and no code reads their stacks.
  Error.stackTraceLimit = 0;
  const random = generator(options.seed);
  // The agent's jitter is Math.random. It is seeded here, so that a run can be repeated.
  const mathRandom = Math.random;
  Math.random = random;
  const scheduler = virtualScheduler();
  const started = scheduler.now();
  const region = createRegion(scheduler, { bucket: options.bucket, lossRate: options.lossRate, random });
  useConfig(configOf(options.extensionSeconds));
  const result: FleetResult = {
    nodes: options.nodes,
    ready: 0,
    degraded: 0,
    failed: {},
    rerun: 0,
    terminated: 0,
    readyAt: [],
    bound: [],
    accepted: {},
    throttled: {},
    retries: [],
    mutatingPerNode: [],
    enis: { attached: 0, surplus: 0, unattachedOfLiving: 0, leftByDead: 0, afterSweep: 0 },
    wallSeconds: 0,
    peakBytes: 0,
  };
  const fleet = { open: options.nodes };

  function start(node: FleetNode, killAt: Life['killAt']): void {
    const life: Life = {
      node,
      region,
      clock: virtualClock(scheduler, () => life.dead),
      dead: false,
      killAt,
      accepted: 0,
      throttled: 0,
      killed: () => afterKill(node),
    };
    void inLife(life, () => bootNode(life));
  }

  async function bootNode(life: Life): Promise<void> {
    const { status, context } = await runBoot({ clock: life.clock, log: silent, watchers: [] });
    // Promises of a killed agent may still settle: they give no verdict.
    if (life.dead) return;
    result.retries.push(life.throttled);
    result.mutatingPerNode.push(status.cloud.ec2Mutating);
    if (status.verdict === 'ready') {
      result.ready += 1;
      result.readyAt.push((scheduler.now() - started) / 1000);
      if (status.degraded.length > 0) result.degraded += 1;
    } else {
      const code = status.failure?.code ?? 'none';
      // A defect of the agent or of a stand-in: the numbers that follow would mean nothing.
      if (code === 'INTERNAL')
        throw new Error(`${status.failure?.message}\n${String(status.failure?.facts['stack'])}`);
      result.failed[code] = (result.failed[code] ?? 0) + 1;
    }
    life.killAt = undefined;
    await publish(status, context);
    fleet.open -= 1;
  }

  /** systemd starts half of the killed agents again; the instances of the other half are terminated. */
  function afterKill(node: FleetNode): void {
    if (random() < 0.5) {
      result.rerun += 1;
      scheduler.after(5_000, () => start(node, undefined));
    } else {
      result.terminated += 1;
      fleet.open -= 1;
      // Terminated by the owner of the instance, whose calls do not count here.
      terminateInstances(region.ec2.world, { InstanceIds: [node.instanceId] });
    }
  }

  for (let at = 0; at < options.nodes; at += 1) {
    const dies = random() < options.killRate;
    const killAt = dies ? { call: 1 + Math.floor(random() * 11), carriedOut: random() < 0.5 } : undefined;
    start({ instanceId: region.launch(), files: new Map(), pool: [] }, killAt);
  }
  while (fleet.open > 0) {
    // Everything that is possible at this moment happens before time moves on.
    await new Promise((resolve) => setImmediate(resolve));
    scheduler.step();
  }
  while (scheduler.step());
  result.accepted = Object.fromEntries(region.accepted);
  result.throttled = Object.fromEntries(region.throttled);
  result.bound = boundOf(region);
  await countEnis(region, result);
  Math.random = mathRandom;
  result.readyAt.sort((a, b) => a - b);
  result.peakBytes = process.resourceUsage().maxRSS * 1024;
  result.wallSeconds = (performance.now() - begun) / 1000;
  return result;
}

/** Seconds in which a bucket can give the tokens that were taken: (calls − capacity) / refill, for each action. */
function boundOf(region: Region): FleetResult['bound'] {
  return [...region.accepted]
    .map(([action, calls]) => {
      const { capacity, refill } = region.bucketOf(action);
      return { action, calls, seconds: Math.max(0, calls - capacity) / refill };
    })
    .sort((a, b) => b.seconds - a.seconds);
}

/** Counts the ENIs that are left, and lets the real `eni sweep` delete those of terminated instances. */
async function countEnis(region: Region, result: FleetResult): Promise<void> {
  const { world } = region.ec2;
  const perInstance = new Map<string, number>();
  const podEnis = () => [...world.enis.values()].filter((eni) => eni.tags.has(INSTANCE_TAG));
  const isGone = (id: string | undefined) => world.instances.get(id ?? '')?.state !== 'running';
  for (const eni of podEnis()) {
    if (eni.attachment !== undefined) {
      const { instanceId } = eni.attachment;
      perInstance.set(instanceId, (perInstance.get(instanceId) ?? 0) + 1);
    } else if (isGone(eni.tags.get(INSTANCE_TAG))) result.enis.leftByDead += 1;
    else result.enis.unattachedOfLiving += 1;
  }
  result.enis.attached = [...perInstance.values()].reduce((sum, count) => sum + count, 0);
  result.enis.surplus = [...perInstance.values()].reduce((sum, count) => sum + count - 1, 0);

  const operator: Life = {
    node: { instanceId: '', files: new Map(), pool: [] },
    region: { ...region, lossRate: 0 },
    clock: virtualClock(region.scheduler, () => false),
    dead: false,
    killAt: undefined,
    accepted: 0,
    throttled: 0,
    killed: () => {},
  };
  mock.timers.enable({ apis: ['Date'], now: region.scheduler.now() + 3_600_000 });
  const sweep = { done: false };
  const sweeping = inLife(operator, async () => {
    const { ec2 } = await createOperatorEc2(undefined);
    const sweepOptions = { cluster: 'fleet', minAgeMinutes: 30, max: 1_000 };
    for (const wait of [0, REST_MINUTES + 1]) {
      mock.timers.setTime(Date.now() + wait * 60_000);
      const items = await lookForLeftovers(ec2, sweepOptions);
      await carryOut(ec2, items, new AbortController().signal, () => {});
    }
  }).finally(() => {
    sweep.done = true;
  });
  while (!sweep.done) {
    await new Promise((resolve) => setImmediate(resolve));
    region.scheduler.step();
  }
  await sweeping;
  mock.timers.reset();
  result.enis.afterSweep = podEnis().filter((eni) => eni.attachment === undefined).length;
}

function configOf(extensionSeconds: number) {
  const text = `cluster: fleet
pods:
  subnets:
    tags: { eniboot: pods }
boot:
  throttleExtensionSeconds: ${extensionSeconds}
`;
  return loadConfig([{ name: 'fleet', content: text }]).config;
}

const nothing = () => silent;
const silent = { debug: nothing, info: nothing, warn: nothing, error: nothing } as never;

/** mulberry32: small, fast, good enough for jitter. */
function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
