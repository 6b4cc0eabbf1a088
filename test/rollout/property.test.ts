// time limit: 600 s
// Random fleets, faults and killed operators on virtual time. ENIBOOT_RUNS is the number of runs of each property;
// `npm run test:rollout` runs the full number.
//
// Each property was seen to fail within 300 runs with each of these faults: zones interleaved in the plan; zone budget and
// canary not checked; a batch sent before its intent is recorded, or again without a look at ListCommands; the halt flag
// ignored; failures forgotten at a take-over; a rollback of one batch too few, of all nodes, and one that leaves the zone's
// parameter; a silent and a lying node counted as updated; the history of an alarm not read.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FleetAws } from '../../agent/aws/fleet.ts';
import { Failure, isFailure } from '../../agent/messages/failure.ts';
import type { Clock } from '../../agent/port/clock.ts';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { raiseHaltFlag } from '../../agent/rollout/halt.ts';
import { isFailed } from '../../agent/rollout/judge.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { stepsForward } from '../../agent/rollout/plan.ts';
import { type Progress, type Rollout, resumed, takenBack, unrestored } from '../../agent/rollout/progress.ts';
import { LEASE_MS, type RolloutRecord, takeRecord } from '../../agent/rollout/record.ts';
import {
  findBegun,
  type List,
  type Part,
  resume,
  run,
  type Site,
  takeBack,
} from '../../agent/rollout/regions.ts';
import { allowedFailures, loadSpec, type Spec } from '../../agent/rollout/spec.ts';
import { type VirtualScheduler, virtualScheduler } from '../aws/ec2/scheduler.ts';
import type { Behaviour } from '../aws/ssm/modelled-node.ts';
import {
  CLUSTER,
  createFleet,
  type Fleet,
  Killed,
  NEW,
  OLD,
  onFleetTime,
  operatorOf,
  operatorsOf,
} from './fleet.ts';

const RUNS = Number(process.env['ENIBOOT_RUNS'] ?? 300);
/** For properties with several rollouts in each run. */
const LONG_RUNS = Number(process.env['ENIBOOT_RUNS'] ?? 100);
const never = new AbortController().signal;
/** Milliseconds in which an alarm may stay unseen: between the look before a batch and its command. */
const ALARM_MS = 40_000;
/** Properties that held, for the evidence: the number of runs, and how the rollouts ended. */
const properties: { name: string; runs: number; ends: Record<string, number> }[] = [];

function tally(name: string): (state: string) => void {
  const one = { name, runs: 0, ends: {} as Record<string, number> };
  properties.push(one);
  return (state) => {
    one.runs += 1;
    one.ends[state] = (one.ends[state] ?? 0) + 1;
  };
}

const faulty: Behaviour[] = [
  'goes-back',
  'hangs',
  'vanishes',
  'mute',
  'hostile',
  'returns',
  'reboots',
  'lies',
  'silent',
  'garbles',
  'disk-full',
  'sick',
  'unhealthy',
];

interface Case {
  zones: number[];
  /** Nodes that misbehave, in per mille. */
  rate: number;
  seed: number;
  concurrency: number;
  zonePercent: number;
  budget: number;
  /** Calls at which one operator after the other is killed, before or after the call was carried out. */
  kills: { call: number; carriedOut: boolean }[];
  /** Answers that are lost, in per mille. */
  loss: number;
  /** The virtual second at which the halt flag is raised. */
  haltAt: number | undefined;
  /** Milliseconds that the clock of each operator's machine is ahead, in order. */
  aheadMs: number[];
  /** Instances that EC2 ends: place in the fleet in per mille, and virtual second. */
  ends: { node: number; second: number }[];
  /** Instances that an autoscaler launches: zone, virtual second, and seconds until READY. */
  launches: { zone: number; second: number; bootSeconds: number }[];
  /** Minutes of each hour in which a batch may begin; undefined: all. */
  windowMinutes: number | undefined;
  /** Minutes until a node with 'returns' comes back. */
  awayMinutes: number;
  /** Number of AMIs among the nodes: each is a stratum. */
  images: number;
  /** Milliseconds until ListCommandInvocations has a command; ListCommands may show its end before. */
  listedMs: number;
  /** The virtual second at which a CloudWatch alarm goes off for a moment; undefined: no alarm is watched. */
  alarmAt: number | undefined;
}

/** An alarm keeps most rollouts from ending: two of three runs have none. */
const alarmTimes = fc.oneof(
  { weight: 2, arbitrary: fc.constant(undefined) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 6_000 }) },
);

const cases: fc.Arbitrary<Case> = fc.record({
  zones: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }),
  rate: fc.constantFrom(0, 0, 5, 20, 100, 500),
  seed: fc.integer({ min: 1, max: 1e9 }),
  concurrency: fc.constantFrom(1, 3, 10, 60),
  zonePercent: fc.constantFrom(5, 20, 100),
  budget: fc.constantFrom(0, 5, 20),
  kills: fc.array(fc.record({ call: fc.integer({ min: 1, max: 120 }), carriedOut: fc.boolean() }), {
    maxLength: 4,
  }),
  loss: fc.constantFrom(0, 0, 20),
  haltAt: fc.option(fc.integer({ min: 0, max: 3_000 }), { nil: undefined }),
  aheadMs: fc.array(fc.integer({ min: -300_000, max: 300_000 }), { minLength: 1, maxLength: 5 }),
  ends: fc.array(
    fc.record({ node: fc.integer({ min: 0, max: 999 }), second: fc.integer({ min: 0, max: 2_000 }) }),
    { maxLength: 4 },
  ),
  launches: fc.array(
    fc.record({
      zone: fc.integer({ min: 0, max: 3 }),
      second: fc.integer({ min: 0, max: 2_000 }),
      bootSeconds: fc.integer({ min: 0, max: 300 }),
    }),
    { maxLength: 4 },
  ),
  windowMinutes: fc.constantFrom(undefined, undefined, 10, 40),
  awayMinutes: fc.constantFrom(1, 5, 20, 180),
  images: fc.constantFrom(1, 1, 4),
  listedMs: fc.constantFrom(200, 5_000, 60_000),
  alarmAt: alarmTimes,
});

function specOf(one: Case): Spec {
  return loadSpec(
    'spec.yaml',
    `what: { bundle: { version: ${NEW} } }
where: { cluster: ${CLUSTER} }
steps: { concurrency: ${one.concurrency}, zonePercent: ${one.zonePercent} }
bake: { canarySeconds: 30, shareSeconds: 30, zoneSeconds: 60 }
budget: { zonePercent: ${one.budget}, fleetPercent: ${one.budget} }
${one.alarmAt === undefined ? '' : 'alarms: [errors]\n'}${windowsOf(one)}`,
  );
}

/** Windows for as many hours of a day as a spec may have. */
function windowsOf({ windowMinutes }: Case): string {
  if (windowMinutes === undefined) return '';
  const hours = Array.from({ length: 20 }, (_, at) => String(at).padStart(2, '0'));
  const windows = hours.map((hour) => `{ from: '${hour}:00', to: '${hour}:${windowMinutes}' }`);
  return `when: { timeZone: UTC, windows: [${windows.join(', ')}] }\n`;
}

function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function fleetOf(one: Case, scheduler?: VirtualScheduler): Fleet {
  const next = random(one.seed);
  const fleet = createFleet({
    zones: one.zones,
    ...(scheduler === undefined ? {} : { scheduler }),
    awayMs: () => one.awayMinutes * 60_000,
    behaviourOf: () =>
      next() * 1000 < one.rate ? (faulty[Math.floor(next() * faulty.length)] ?? 'good') : 'good',
    updateMs: () => 10_000 + Math.floor(next() * 50_000),
  });
  fleet.ssm.latency.invocationMs = one.listedMs;
  for (const [at, { instanceId }] of fleet.nodes.entries())
    fleet.imageOf.set(instanceId, `ami-0000000${at % one.images}`);
  for (const { node, second } of one.ends) {
    // Without a target no rollout can begin.
    if (fleet.nodes.length <= one.ends.length) break;
    const ended = fleet.nodes[Math.floor((node / 1000) * fleet.nodes.length)];
    fleet.scheduler.after(second * 1000, () => {
      if (ended === undefined) return;
      ended.online = false;
      fleet.terminated.add(ended.instanceId);
    });
  }
  fleet.cloudwatch.set('errors', 'OK');
  if (one.alarmAt !== undefined)
    fleet.scheduler.after(one.alarmAt * 1000, () => {
      fleet.cloudwatch.set('errors', 'ALARM');
      fleet.scheduler.after(2_000, () => fleet.cloudwatch.set('errors', 'OK'));
    });
  launchInto(fleet, one);
  return fleet;
}

function launchInto(fleet: Fleet, { launches, zones }: Case): void {
  for (const { zone, second, bootSeconds } of launches)
    fleet.scheduler.after(second * 1000, () => void fleet.launch(zone % zones.length, bootSeconds * 1000));
}

/** The zones of each fleet's rollout, with its nodes. */
const zonesOf = new WeakMap<Fleet, Rollout['zones']>();
/** When the rollout of each fleet began. */
const begunOf = new WeakMap<Fleet, number>();

type Take = (aws: FleetAws, owner: { who: string; token: string }, clock: Clock) => Promise<RolloutRecord>;

/** Runs one operator after the other, until the rollout has ended or halted. */
async function carryThrough(
  fleet: Fleet,
  one: Case,
  first: Take,
  heirs: 'take over' | 'do the same' = 'take over',
): Promise<Progress> {
  const next = random(one.seed + 7);
  let take = first;
  for (let at = 0; ; at += 1) {
    const kill = one.kills[at];
    const operator = operatorOf(fleet, {
      random: next,
      loses: () => next() * 1000 < one.loss,
      aheadMs: one.aheadMs[at % one.aheadMs.length] ?? 0,
      ...(kill === undefined ? {} : { killAt: kill }),
    });
    const owner = { who: `operator ${at}`, token: `token-${at}` };
    try {
      const work = (async () => {
        const record = await take(operator.aws, owner, operator.clock);
        zonesOf.set(fleet, record.rollout.zones);
        begunOf.set(fleet, record.rollout.startedMs);
        return orchestrate({
          aws: operator.aws,
          clock: operator.clock,
          record,
          tell: () => {},
          stopped: never,
        });
      })();
      return await Promise.race([work, operator.killed]);
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      // The next operator waits until the lease is over. One that never got the lease begins again.
      await fleet.clock.sleep(LEASE_MS + 61_000);
      if (heirs === 'do the same') continue;
      take = async (aws, newOwner, clock) => {
        try {
          const record = await takeRecord(aws, clock, newOwner, CLUSTER);
          return record;
        } catch (failure) {
          if (isFailure(failure, 'ROLLOUT_NONE')) return first(aws, newOwner, clock);
          throw failure;
        }
      };
    }
  }
}

const started =
  (spec: Spec): Take =>
  async (aws, owner, clock) => {
    const prepared = await prepare(aws, spec);
    try {
      return await beginRollout(aws, clock, owner, prepared);
    } catch (error) {
      if (!isFailure(error, 'ALARM_FIRING')) throw error;
      await clock.sleep(5_000);
      return started(spec)(aws, owner, clock);
    }
  };

const goesOn =
  (forgive: boolean): Take =>
  async (aws, owner, clock) => {
    const record = await takeRecord(aws, clock, owner, CLUSTER);
    await record.save(resumed(record.progress, clock.now().getTime(), forgive));
    return record;
  };

const takesBack: Take = async (aws, owner, clock) => {
  const record = await takeRecord(aws, clock, owner, CLUSTER);
  await record.save(takenBack(record.rollout, record.progress, clock.now().getTime()));
  return record;
};

/** What must hold after every rollout. */
function checkInvariants(fleet: Fleet, one: Case, spec: Spec, progress: Progress): void {
  // No node was switched to the new version more than once, and none was asked twice.
  for (const node of fleet.nodes) {
    assert.ok(node.switches.filter((version) => version === NEW).length <= 1, `${node.instanceId} twice`);
    assert.ok(node.runs <= 1, `${node.instanceId} was asked ${node.runs} times`);
  }
  // Never two zones at once: commands overlap only within a zone.
  const sends = fleet.calls
    .filter((call) => call.action === 'SendCommand' && call.accepted)
    .map(
      (call) =>
        call.request as {
          Targets: { Values: string[] }[];
          Comment: string;
          Parameters: { action: string[] };
        },
    );
  const order: string[] = [];
  for (const send of sends) {
    const zones = new Set(send.Targets[0]?.Values.map((id) => fleet.zoneOf.get(id)));
    assert.is(zones.size, 1, 'a command for two zones');
    const [zone = ''] = zones;
    if (order.at(-1) !== zone) order.push(zone);
  }
  assert.is(new Set(order).size, order.length, `zones came back: ${order.join(' ')}`);
  assert.is(new Set(sends.map((send) => send.Comment)).size, sends.length, 'a batch was sent twice');
  // A node without a report, with a wrong report or without an answer is no success: every updated node runs the version.
  const good = fleet.nodes.filter((node) => node.version === NEW && node.behaviour !== 'unhealthy');
  assert.ok(progress.updated + progress.already <= good.length, `${progress.updated} of ${good.length}`);
  // With any budget: when a canary failed, no other node was asked.
  if (progress.exceptions.some((one) => one.zone === 0 && one.node === 0 && isFailed(one.outcome))) {
    assert.is(progress.state, 'halted');
    // A later gate asks a canary again. One that failed there was healthy when other nodes followed.
    const updates = sends.filter(({ Parameters }) => Parameters.action[0] === 'update');
    if (!/^gate behind the wait after the (share|zone)/.test(progress.why ?? ''))
      assert.is(updates.length, 1, 'sent on behind a failed canary');
  }
  // Failures exceed the budget by no more nodes than were in flight.
  const zones = zonesOf.get(fleet) ?? [];
  for (const [at, { zoneId: zone, nodes }] of zones.entries()) {
    const size = nodes.length;
    const failed = progress.exceptions.filter(
      (exception) => exception.zone === at && isFailed(exception.outcome),
    ).length;
    const inFlight = Math.max(1, Math.min(one.concurrency, Math.floor((size * one.zonePercent) / 100)));
    assert.ok(
      failed <= allowedFailures(size, spec.budget.zonePercent) + inFlight,
      `${failed} failed in ${zone} of ${size}`,
    );
  }
  if (progress.state === 'done') {
    const home =
      progress.updated +
      progress.already +
      progress.exceptions.filter((exception) => exception.outcome !== 'deferred').length;
    assert.is(home, new Set(zones.flatMap((zone) => zone.nodes)).size);
    // Every node that still runs the old version is named.
    const named = new Set(
      progress.exceptions.map((exception) => zones[exception.zone]?.nodes[exception.node]),
    );
    const unnamed = fleet.nodes.filter(
      (node) => node.version === OLD && !fleet.terminated.has(node.instanceId) && !named.has(node.instanceId),
    );
    assert.equal([unnamed.map((node) => node.instanceId), progress.strays], [[], 0]);
  }
}

test('with any failures and killed operators: one zone at a time, within the budget, no node twice', async () => {
  const states = new Map<string, number>();
  const held = tally(
    'one zone at a time, within the budget, no node twice, halt obeyed, a silent node is no success',
  );
  await fc.assert(
    fc.asyncProperty(cases, async (one) => {
      const fleet = fleetOf(one);
      const spec = specOf(one);
      const beganMs = fleet.scheduler.now();
      if (one.haltAt !== undefined) {
        const { aws } = operatorOf(fleet);
        fleet.scheduler.after(one.haltAt * 1000, () => void raiseHaltFlag(aws, CLUSTER, 'drill'));
      }
      const haltedMs = one.haltAt === undefined ? Infinity : fleet.scheduler.now() + one.haltAt * 1000;
      const progress = await onFleetTime(fleet, carryThrough(fleet, one, started(spec)));
      states.set(progress.state, (states.get(progress.state) ?? 0) + 1);
      checkInvariants(fleet, one, spec, progress);
      // After the flag was raised (and its call had ended), at most the batch that was being sent follows.
      const late = fleet.calls.filter(
        (call) => call.action === 'SendCommand' && call.accepted && call.at > haltedMs + 2_000,
      );
      assert.ok(late.length <= Math.ceil(one.concurrency / 50), `${late.length} commands after the halt`);
      // After an alarm went off, for any time, nothing is sent, and the rollout is not done.
      const firedMs = beganMs + (one.alarmAt ?? Number.NaN) * 1000;
      if (firedMs > (begunOf.get(fleet) ?? 0)) {
        const behind = fleet.calls.filter(
          (call) => call.action === 'SendCommand' && call.accepted && call.at > firedMs + ALARM_MS,
        );
        assert.equal(behind, [], 'sent behind an alarm');
        if (progress.state === 'done') assert.ok(progress.sinceMs < firedMs + ALARM_MS, 'done past an alarm');
      }
      held(progress.state);
    }),
    {
      numRuns: RUNS,
      seed: Number(process.env['ENIBOOT_SEED'] ?? 1),
      endOnFailure: true,
      includeErrorInReport: true,
    },
  );
  assert.ok(
    (states.get('done') ?? 0) > RUNS / 20 && (states.get('halted') ?? 0) > RUNS / 20,
    JSON.stringify([...states]),
  );
});

test('a rollout that was interrupted or halted ends like one that was not', async () => {
  const held = tally('resume equals an uninterrupted run');
  await fc.assert(
    fc.asyncProperty(cases, async (drawn) => {
      // Times differ, and so do the nodes that are gone or back by then.
      const one = {
        ...drawn,
        loss: 0,
        ends: [],
        launches: [],
        windowMinutes: undefined,
        awayMinutes: 1,
        alarmAt: undefined,
      };
      // With failing nodes, a batch that a halt cuts in two may exceed the budget at another node.
      const haltAt = one.rate === 0 ? one.haltAt : undefined;
      const end = async (kills: Case['kills'], halt?: number) => {
        const fleet = fleetOf(one);
        const { aws } = operatorOf(fleet);
        if (halt !== undefined)
          fleet.scheduler.after(halt * 1000, () => void raiseHaltFlag(aws, CLUSTER, 'drill'));
        let progress = await onFleetTime(fleet, carryThrough(fleet, { ...one, kills }, started(specOf(one))));
        if (halt !== undefined && progress.state === 'halted') {
          fleet.ssm.put(`/eniboot/rollout/${CLUSTER}/halt`, '{"halted":false}');
          progress = await onFleetTime(fleet, carryThrough(fleet, { ...one, kills: [] }, goesOn(false)));
        }
        return { progress, fleet };
      };
      const [calm, rough] = [await end([]), await end(one.kills, haltAt)];
      const outcome = ({ progress, fleet }: typeof calm) => ({
        state: progress.state,
        why: progress.why,
        step: progress.step,
        updated: progress.updated,
        exceptions: progress.exceptions.map((one) => JSON.stringify(one)).sort(),
        versions: fleet.nodes.map((node) => node.version),
        zones: [...fleet.ssm.parameters]
          .filter(([name]) => name.startsWith('/eniboot/bundle/'))
          .map(([name, all]) => [name, all.at(-1)?.value]),
      });
      assert.equal(outcome(rough), outcome(calm));
      held(rough.progress.state);
    }),
    {
      numRuns: LONG_RUNS,
      seed: Number(process.env['ENIBOOT_SEED'] ?? 2),
      endOnFailure: true,
      includeErrorInReport: true,
    },
  );
});

test('a rollback restores exactly the nodes that were touched', async () => {
  const held = tally('rollback restores exactly the touched set');
  await fc.assert(
    fc.asyncProperty(cases, async (drawn) => {
      const one = { ...drawn, loss: 0 };
      const fleet = fleetOf({ ...one, rate: Math.min(one.rate, 100) });
      const spec = specOf(one);
      await onFleetTime(fleet, carryThrough(fleet, { ...one, kills: [] }, started(spec)));
      const asked = new Set(fleet.nodes.filter((node) => node.runs > 0));
      fleet.ssm.put(`/eniboot/rollout/${CLUSTER}/halt`, '{"halted":false}');
      launchInto(fleet, one);
      let progress = await onFleetTime(fleet, carryThrough(fleet, one, takesBack, 'do the same'));
      for (let again = 0; progress.state === 'halted' && again < 60; again += 1)
        progress = await onFleetTime(fleet, carryThrough(fleet, { ...one, kills: [] }, takesBack));
      // An operator gives up nodes that cannot be reached any more, by name.
      if (progress.state === 'halted')
        progress = await onFleetTime(fleet, carryThrough(fleet, { ...one, kills: [] }, goesOn(true)));
      assert.is(progress.state, 'rolled-back', overBudgetText(progress));
      // Time for agents that run a document again.
      await onFleetTime(fleet, fleet.clock.sleep(4 * 3600_000));
      const zones = zonesOf.get(fleet) ?? [];
      const given = new Set(
        unrestored(progress).map((exception) => zones[exception.zone]?.nodes[exception.node]),
      );
      const targets = new Set(zones.flatMap((zone) => zone.nodes));
      // Nodes that came up on the version by their zone's parameter are taken back, too.
      const strays = new Set(zones.flatMap((zone) => (zone.strays ? zone.nodes.slice(-zone.strays) : [])));
      const cameUp = fleet.nodes.filter(
        (node) =>
          !targets.has(node.instanceId) && node.version !== OLD && !fleet.terminated.has(node.instanceId),
      );
      assert.equal([cameUp.map((node) => node.instanceId), progress.strays], [[], 0]);
      for (const node of fleet.nodes.filter((one) => targets.has(one.instanceId))) {
        const isGone = fleet.terminated.has(node.instanceId);
        if (node.version !== OLD && !isGone && !given.has(node.instanceId))
          assert.unreachable(`${node.instanceId} (${node.behaviour}) runs ${node.version}`);
        if (!asked.has(node) && !strays.has(node.instanceId))
          assert.is(node.runs, 0, `${node.instanceId} was not touched before`);
        assert.ok(node.switches.filter((version) => version === OLD).length <= 1);
      }
      for (const [name, versions] of fleet.ssm.parameters)
        if (name.startsWith('/eniboot/bundle/')) assert.not.match(versions.at(-1)?.value ?? '', NEW);
      held(progress.state);
    }),
    {
      numRuns: LONG_RUNS,
      seed: Number(process.env['ENIBOOT_SEED'] ?? 3),
      endOnFailure: true,
      includeErrorInReport: true,
    },
  );
});

test('a small rollout whose operator is killed at any call ends like an uninterrupted one', async () => {
  const one: Case = {
    zones: [4, 3],
    rate: 0,
    seed: 5,
    concurrency: 2,
    zonePercent: 100,
    budget: 20,
    kills: [],
    loss: 0,
    haltAt: undefined,
    aheadMs: [200_000, -200_000],
    ends: [],
    launches: [],
    windowMinutes: undefined,
    awayMinutes: 5,
    images: 1,
    listedMs: 5_000,
    alarmAt: undefined,
  };
  const spec = specOf(one);
  const calm = fleetOf(one);
  const operator = operatorOf(calm);
  await onFleetTime(
    calm,
    (async () => {
      const record = await started(spec)(operator.aws, { who: 'calm', token: 'calm' }, calm.clock);
      return orchestrate({ aws: operator.aws, clock: calm.clock, record, tell: () => {}, stopped: never });
    })(),
  );
  const calls = operator.calls();
  assert.ok(
    calls >
      stepsForward(spec, [
        { planned: 3, late: 0, strays: 0, canaries: [1] },
        { planned: 4, late: 0, strays: 0, canaries: [] },
      ]).length *
        2,
  );
  for (let call = 1; call <= calls; call += 1) {
    for (const carriedOut of [false, true]) {
      const fleet = fleetOf(one);
      const progress = await onFleetTime(
        fleet,
        carryThrough(fleet, { ...one, kills: [{ call, carriedOut }] }, started(spec)),
      );
      assert.is(progress.state, 'done', `killed at call ${call}`);
      assert.is(progress.updated, 7);
      assert.ok(
        fleet.nodes.every((node) => node.runs === 1 && node.version === NEW),
        `killed at call ${call}`,
      );
    }
  }
});

/** Several Regions, and operators that carry the list forward one after the other. */
interface ListCase {
  regions: Case[];
  /** As in Case; the calls are those of all Regions together. */
  kills: Case['kills'];
  loss: number;
  aheadMs: number[];
  /** Whether the next operator takes the dead operator's lease over, or waits until it is over. */
  takesOver: boolean;
  /** The virtual second in which another operator takes the list from one that works. */
  stolenAt: number | undefined;
  /** A Region's halt flag, raised in a virtual second, before or after the Region has begun. */
  halt: { region: number; second: number } | undefined;
  /** Operators that are killed during the rollback. */
  backKills: Case['kills'];
}

const listCases: fc.Arbitrary<ListCase> = cases.chain((one) =>
  fc.record({
    regions: fc.array(
      fc
        .record({
          zones: fc.array(fc.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 2 }),
          rate: fc.constantFrom(0, 0, 0, 20, 300),
          seed: fc.integer({ min: 1, max: 1e9 }),
          budget: fc.constantFrom(5, 20),
          alarmAt: alarmTimes,
        })
        .map((region): Case => ({ ...one, ...region })),
      { minLength: 2, maxLength: 3 },
    ),
    kills: fc.array(fc.record({ call: fc.integer({ min: 1, max: 250 }), carriedOut: fc.boolean() }), {
      maxLength: 3,
    }),
    loss: fc.constant(one.loss),
    aheadMs: fc.constant(one.aheadMs),
    takesOver: fc.boolean(),
    stolenAt: fc.option(fc.integer({ min: 0, max: 1_500 }), { nil: undefined, freq: 3 }),
    halt: fc.option(
      fc.record({ region: fc.integer({ min: 0, max: 2 }), second: fc.integer({ min: 0, max: 2_000 }) }),
      { nil: undefined },
    ),
    backKills: fc.array(fc.record({ call: fc.integer({ min: 1, max: 80 }), carriedOut: fc.boolean() }), {
      maxLength: 2,
    }),
  }),
);

/** Codes that an operator may end with instead of the states of the Regions. */
const TOLD = [
  'ROLLOUT_HALTED',
  'ROLLOUT_BUSY',
  'ROLLOUT_LEASE_LOST',
  'ROLLOUT_NONE',
  'ROLLOUT_UNREACHABLE',
  'ROLLOUT_NO_TARGETS',
  'ALARM_FIRING',
] as const;

let processes = 0;

/** Runs one process after the other, each killed at its call. Returns the code that the last one ended with. */
async function conductList(
  fleets: Fleet[],
  one: ListCase,
  kills: Case['kills'],
  work: (list: List, heir: boolean) => Promise<Part[]>,
): Promise<Part[] | Failure> {
  const next = random(one.regions[0]?.seed ?? 1);
  for (let at = 0; ; at += 1) {
    const kill = kills[at];
    const reached = operatorsOf(fleets, {
      random: next,
      loses: () => next() * 1000 < one.loss,
      aheadMs: one.aheadMs[at % one.aheadMs.length] ?? 0,
      ...(kill === undefined ? {} : { killAt: kill }),
    });
    processes += 1;
    const sites = reached.map(
      ({ aws, clock }, region): Site => ({
        ...{ region: `region-${region}`, cluster: CLUSTER, aws, clock },
        spec: specOf(one.regions[region] ?? (assert.unreachable() as never)),
      }),
    );
    const list: List = {
      sites,
      owner: { who: `process ${processes}`, token: `process-${processes}` },
      stopped: never,
      carry: (site, record, haltFor) => {
        const { aws, clock } = site;
        return orchestrate({
          aws,
          clock,
          record,
          tell: () => {},
          stopped: never,
          ...(haltFor === undefined ? {} : { haltFor }),
        });
      },
    };
    try {
      return await Promise.race([work(list, at > 0), reached[0]?.killed as Promise<never>]);
    } catch (error) {
      if (error instanceof Killed) {
        if (!one.takesOver) await fleets[0]?.clock.sleep(LEASE_MS + 61_000);
        continue;
      }
      if (isFailure(error, ...TOLD)) return error;
      throw error;
    }
  }
}

/** Goes on with the Regions that have begun; `rob`: takes every lease over. */
async function goOnWith(list: List, rob: boolean): Promise<Part[]> {
  const from = new Map<Site, string>();
  for (const site of list.sites) {
    const found = await findBegun(site);
    if (rob && found?.standing.holder !== undefined) from.set(site, found.standing.holder.token);
  }
  try {
    return await resume(list, { forgive: false, from });
  } catch (error) {
    if (!isFailure(error, 'ROLLOUT_NONE')) throw error;
    return run(list);
  }
}

const forwardSends = ({ calls }: Fleet) =>
  calls.filter(
    (call) =>
      call.action === 'SendCommand' &&
      call.accepted &&
      / forward /.test((call.request as { Comment: string }).Comment),
  );

/** The state in a Region's record at a moment. A version of the record counts only if it names the version before it. */
function stateAt({ calls }: Fleet, atMs: number): string | undefined {
  const written = calls.flatMap((call) => {
    const { Name, Value } = (call.request ?? {}) as { Name?: string; Value?: string };
    const isRecord = call.action === 'PutParameter' && Name === `/eniboot/rollout/${CLUSTER}/state`;
    return isRecord && call.accepted && call.at <= atMs ? [Value ?? ''] : [];
  });
  return written
    .map((value) => JSON.parse(value) as { follows: number; progress: Progress })
    .findLast((head, before) => head.follows === before)?.progress.state;
}

test('in several Regions: none begins before the Region before it is done, and a rollback reaches all that began', async () => {
  const held = tally(
    'Regions in order, with operators killed or leases taken; after a rollback no node on the version in any',
  );
  const ends = new Set<string>();
  await fc.assert(
    fc.asyncProperty(listCases, async (one) => {
      const scheduler = virtualScheduler();
      const fleets = one.regions.map((region) => fleetOf(region, scheduler));
      const [first] = fleets as [Fleet];
      const on = <T>(work: Promise<T>) => onFleetTime(first, work);
      const { halt } = one;
      const halted = halt === undefined ? undefined : fleets[halt.region % fleets.length];
      if (halt !== undefined && halted !== undefined)
        scheduler.after(
          halt.second * 1000,
          () => void raiseHaltFlag(operatorOf(halted).aws, CLUSTER, 'drill'),
        );
      const forward = conductList(fleets, one, one.kills, (list, heir) =>
        heir ? goOnWith(list, one.takesOver) : run(list),
      );
      const thief = async () => {
        if (one.stolenAt === undefined) return;
        await first.clock.sleep(one.stolenAt * 1000);
        await conductList(fleets, one, [], (list) => goOnWith(list, true));
      };
      const [end] = await on(Promise.all([forward, thief()]));
      await on(first.clock.sleep(1_000));
      // With any code of its operators, each Region's state is in its record.
      const states = fleets.map((fleet) => stateAt(fleet, scheduler.now()) ?? 'not-begun');
      ends.add(states.join(' '));
      for (const [at, fleet] of fleets.entries()) {
        for (const node of fleet.nodes)
          assert.ok(
            node.switches.filter((version) => version === NEW).length <= 1,
            `${node.instanceId} twice`,
          );
        const [begun] = forwardSends(fleet);
        if (begun === undefined) continue;
        for (const before of fleets.slice(0, at)) {
          assert.is(stateAt(before, begun.at), 'done', `region ${at} began: ${states.join(' ')}`);
          assert.ok((forwardSends(before).at(-1)?.at ?? 0) < begun.at);
        }
      }
      if (!(end instanceof Failure) && one.stolenAt === undefined)
        assert.equal(
          end.map((part) => part.state === 'not-begun'),
          states.map((state) => state === 'not-begun'),
        );

      for (let again = 0; ; again += 1) {
        const back = await on(
          conductList(fleets, one, again === 0 ? one.backKills : [], (list) => takeBack(list)),
        );
        if (back instanceof Failure) {
          assert.is(back.code, 'ROLLOUT_BUSY');
          await on(first.clock.sleep(LEASE_MS + 61_000));
        } else if (back.every((part) => part.state === 'rolled-back' || part.state === 'not-begun')) break;
        else if (again > 40)
          // An operator gives up nodes that cannot be reached any more, Region by Region.
          for (const [at, part] of back.entries())
            if (part.state === 'halted')
              await on(
                conductList(fleets, one, [], (list) => {
                  const site = list.sites[at] as Site;
                  return resume(
                    { ...list, sites: [{ ...site, spec: undefined }] },
                    { forgive: true, from: new Map() },
                  );
                }),
              );
        assert.ok(again < 60, JSON.stringify(back));
      }
      // Time for agents that run a document again.
      await on(first.clock.sleep(4 * 3600_000));
      for (const [at, fleet] of fleets.entries()) {
        const found = await on(
          findBegun({ region: '', cluster: CLUSTER, spec: undefined, ...operatorOf(fleet) }).catch(
            () => undefined,
          ),
        );
        const { rollout, standing } = found ?? {};
        if (rollout === undefined || standing === undefined) {
          assert.ok(
            fleet.nodes.every((node) => node.runs === 0 && node.version === OLD),
            `region ${at} never began`,
          );
          continue;
        }
        assert.is(standing.progress.state, 'rolled-back');
        const given = new Set(
          unrestored(standing.progress).map(({ zone, node }) => rollout.zones[zone]?.nodes[node]),
        );
        const targets = new Set(rollout.zones.flatMap((zone) => zone.nodes));
        const left = fleet.nodes.filter(
          ({ instanceId, version }) =>
            version !== OLD && !fleet.terminated.has(instanceId) && !given.has(instanceId),
        );
        assert.equal(
          left.filter(({ instanceId }) => targets.has(instanceId)).map((node) => node.instanceId),
          [],
        );
        assert.ok(
          left.length <= (standing.progress.strays ?? 0),
          `region ${at}: ${left.length} came up on it`,
        );
        for (const [name, versions] of fleet.ssm.parameters)
          if (name.startsWith('/eniboot/bundle/')) assert.not.match(versions.at(-1)?.value ?? '', NEW);
      }
      held(states.join(' '));
    }),
    {
      numRuns: LONG_RUNS,
      seed: Number(process.env['ENIBOOT_SEED'] ?? 4),
      endOnFailure: true,
      includeErrorInReport: true,
    },
  );
  for (const wanted of [/^done( done)+$/, /halted not-begun/, /done halted/])
    assert.ok(
      [...ends].some((states) => wanted.test(states)),
      [...ends].join(', '),
    );
});

function overBudgetText(progress: Progress): string {
  return `${progress.why} ${JSON.stringify(progress.back)}`;
}

test.after(() => {
  process.stdout.write(`${JSON.stringify({ properties })}\n`);
});
test.run();
