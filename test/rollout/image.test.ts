// time limit: 120 s
// The rollout of an AMI on virtual time: labels that move zone by zone, and an autoscaling group in each zone that launches
// the AMI of its label. Its instances report as the agent does: a verdict in a tag, or no verdict.
//
// These tests were seen to fail with each of these faults: boots not waited for, late or vanished instances not counted, silent
// ones counted as READY, a failed canary treated as any other node, a label not moved back, failures not forgiven.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isFailure } from '../../agent/messages/failure.ts';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { raiseHaltFlag } from '../../agent/rollout/halt.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { planText } from '../../agent/rollout/plan-picture.ts';
import { type Progress, type Rollout, resumed, takenBack } from '../../agent/rollout/progress.ts';
import { LEASE_MS, readRollout, takeRecord } from '../../agent/rollout/record.ts';
import { reportHtml, reportMarkdown } from '../../agent/rollout/report.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { exceptionsOf, summarise } from '../../agent/rollout/summary.ts';
import type { RolloutEvent } from '../../agent/rollout/work.ts';
import { CLUSTER, createFleet, type Fleet, Killed, onFleetTime, operatorOf } from './fleet.ts';

const OLD = 'ami-0aaaaaaaa';
const NEW = 'ami-0bbbbbbbb';
const owner = { who: 'test', token: 'test-token' };
const never = new AbortController().signal;
const parameter = (zoneId: string) => `/eniboot/image/x86_64/${zoneId}`;

function specOf(...more: string[]) {
  return loadSpec(
    'image.yaml',
    [
      `what: { image: { id: ${NEW} } }`,
      `where: { cluster: ${CLUSTER} }`,
      'bake: { canarySeconds: 30, zoneSeconds: 60 }',
      'boot: { verdictSeconds: 300, waitSeconds: 7200 }',
      ...more,
      '',
    ].join('\n'),
  );
}

type Fate = 'ready' | 'failed' | 'silent' | 'vanishes' | 'untagged';

/** Zones whose stable AMI is the old one. A group in each replaces its instances when the label moves. */
function fleetOf(
  zones: number[],
  fateOf: (zone: number, at: number) => Fate = () => 'ready',
  replaced: readonly number[] = zones,
): Fleet {
  const fleet = createFleet({ zones });
  for (const [at, count] of replaced.entries()) {
    const zoneId = `euw1-az${at + 1}`;
    const name = parameter(zoneId);
    fleet.ssm.put(name, OLD);
    fleet.ssm.send('LabelParameterVersion', { Name: name, ParameterVersion: 1, Labels: ['stable'] });
    let made = 0;
    const launch = () => {
      const fate = fateOf(at, made);
      const one: Fleet['launched'][number] = {
        instanceId: `i-${at}${String(made++).padStart(16, '0')}`,
        imageId: NEW,
        zoneId,
        launchedMs: fleet.scheduler.now(),
        state: 'running',
        verdict: undefined,
      };
      fleet.launched.push(one);
      fleet.scheduler.after(40_000, () => {
        if (fate === 'untagged') {
          fleet.zoneOf.set(one.instanceId, zoneId);
          fleet.ssm.nodes.set(one.instanceId, {
            instanceId: one.instanceId,
            online: true,
            lastPingAt: fleet.scheduler.now(),
            run: () => () => {},
          });
        }
        if (fate === 'vanishes') one.state = 'terminated';
        if (fate === 'ready') one.verdict = 'ready@1.1.0';
        if (fate === 'failed') one.verdict = 'failed:POD_ENI_DOWN@1.1.0';
      });
    };
    const tick = () => {
      if (label(fleet, zoneId, 'stable') === NEW && made < count) launch();
      else if (label(fleet, zoneId, 'candidate') === NEW && made === 0) launch();
      fleet.scheduler.after(15_000, tick);
    };
    fleet.scheduler.after(5_000, tick);
  }
  return fleet;
}

function label(fleet: Fleet, zoneId: string, name: string): string | undefined {
  return fleet.ssm.parameters.get(parameter(zoneId))?.find((version) => version.labels.has(name))?.value;
}

async function rollOut(fleet: Fleet, spec = specOf(), tell: (happening: RolloutEvent) => void = () => {}) {
  const { aws } = operatorOf(fleet);
  const record = await beginRollout(aws, fleet.clock, owner, await prepare(aws, spec));
  return orchestrate({ aws, clock: fleet.clock, record, tell, stopped: never });
}

async function goOn(fleet: Fleet, change: (rollout: Rollout, progress: Progress, nowMs: number) => Progress) {
  const { aws } = operatorOf(fleet);
  const record = await takeRecord(aws, fleet.clock, owner, CLUSTER);
  await record.save(change(record.rollout, record.progress, fleet.scheduler.now()));
  return orchestrate({ aws, clock: fleet.clock, record, tell: () => {}, stopped: never });
}

const stable = (fleet: Fleet, zones: number) =>
  Array.from({ length: zones }, (_, at) => label(fleet, `euw1-az${at + 1}`, 'stable'));

test('an AMI without a passed boot test is refused before anything is written', async () => {
  const fleet = fleetOf([2]);
  fleet.untested.add(NEW);
  const before = [...fleet.ssm.parameters.keys()];
  const { aws } = operatorOf(fleet);
  await onFleetTime(
    fleet,
    prepare(aws, specOf()).then(
      () => assert.unreachable(),
      (error: unknown) => assert.ok(isFailure(error, 'IMAGE_UNTESTED'), String(error)),
    ),
  );
  assert.equal([...fleet.ssm.parameters.keys()], before);
});

test('a good AMI becomes stable zone by zone, each after the zone before is READY on it', async () => {
  const fleet = fleetOf([6, 4, 5]);
  const course: string[] = [];
  const progress = await onFleetTime(
    fleet,
    rollOut(fleet, specOf(), (happening) => {
      if (happening.kind !== 'step' || happening.step.do === 'bake') return;
      course.push(
        `${happening.step.do} ${happening.step.zone}: ${stable(fleet, 3).filter((id) => id === NEW).length}`,
      );
    }),
  );
  assert.is(progress.state, 'done', progress.why);
  assert.equal(progress.boots?.ready, [4, 5, 6]);
  assert.equal(stable(fleet, 3), [NEW, NEW, NEW]);
  assert.is(label(fleet, 'euw1-az1', 'previous'), OLD);
  assert.equal(course, [
    'offer 0: 0',
    'boots 0: 0',
    'promote 0: 0',
    'boots 0: 1',
    'promote 1: 1',
    'boots 1: 2',
    'promote 2: 2',
    'boots 2: 3',
  ]);
});

for (const [fate, reason] of [
  ['failed', /failed:POD_ENI_DOWN/],
  ['silent', /no verdict within 300 s$/],
  ['untagged', /no verdict within 300 s, though its SSM agent answers: `eniboot status` there says whether/],
  ['vanishes', /terminated without a verdict/],
] as const) {
  test(`a canary that ${fate === 'silent' ? 'stays silent' : fate === 'untagged' ? 'could not tag itself' : fate} halts the rollout before any zone's label moves`, async () => {
    const fleet = fleetOf([6, 4, 5], () => fate);
    const progress = await onFleetTime(fleet, rollOut(fleet));
    assert.is(progress.state, 'halted');
    assert.match(progress.why ?? '', /^the canary i-\S+ failed in euw1-az2/);
    assert.match(progress.why ?? '', reason);
    assert.equal(stable(fleet, 3), [OLD, OLD, OLD]);
    assert.is(fleet.launched.length, 1);
    await onFleetTime(fleet, goOn(fleet, takenBack));
    assert.is(label(fleet, 'euw1-az2', 'candidate'), undefined);
  });
}

test('more failures than the budget halt the rollout in their zone; after a rollback every label is where it was', async () => {
  const fleet = fleetOf([10, 10, 10], (zone, at) => (zone === 1 && at >= 3 ? 'failed' : 'ready'));
  const halted = await onFleetTime(
    fleet,
    rollOut(fleet, specOf('budget: { zonePercent: 20, fleetPercent: 10 }')),
  );
  assert.is(halted.state, 'halted');
  assert.match(halted.why ?? '', /3 nodes failed in euw1-az2, 2 may/);
  assert.equal(stable(fleet, 3), [NEW, NEW, OLD]);
  const { aws } = operatorOf(fleet);
  const { rollout, progress } = await onFleetTime(
    fleet,
    (async () => {
      const standing = await readRollout(aws, CLUSTER, fleet.clock);
      return { rollout: await standing.rollout(), progress: standing.progress };
    })(),
  );
  assert.equal(progress, { ...halted, back: undefined }, 'the record has the decision');
  assert.equal(
    summarise(rollout, progress).zones.map((zone) => [zone.zoneId, zone.state, zone.updated, zone.failed]),
    [
      ['euw1-az1', 'done', 10, 0],
      ['euw1-az2', 'halted', 3, 3],
      ['euw1-az3', 'waiting', 0, 0],
    ],
  );
  assert.is(exceptionsOf(rollout, progress).length, 3);
  const report = [{ region: 'eu-west-1', rollout, progress, events: [] }];
  assert.match(reportMarkdown(report), /\| failed \| failed:POD_ENI_DOWN@1\.1\.0 \|/);
  assert.match(reportHtml(report), /failed:POD_ENI_DOWN@1\.1\.0/);
  assert.is((await onFleetTime(fleet, goOn(fleet, takenBack))).state, 'rolled-back');
  assert.equal(stable(fleet, 3), [OLD, OLD, OLD]);
  assert.equal(
    [1, 2, 3].map((zone) => label(fleet, `euw1-az${zone}`, 'candidate')),
    [undefined, undefined, undefined],
  );
});

test('instances that ran the AMI before the rollout count as READY: no group launches them again', async () => {
  const fleet = fleetOf([4]);
  for (const at of [0, 1, 2])
    fleet.launched.push({
      instanceId: `i-0before${at}`,
      imageId: NEW,
      zoneId: 'euw1-az1',
      launchedMs: fleet.scheduler.now() - 86_400_000,
      state: 'running',
      verdict: 'ready@1.1.0',
    });
  const progress = await onFleetTime(fleet, rollOut(fleet));
  assert.is(progress.state, 'done', progress.why);
  assert.equal(progress.boots?.ready, [7]);
});

test('an instance without a zone ID counts when it has failed, and proves nothing when it is READY', async () => {
  const canary = 'i-00000000000000000';
  for (const fate of ['failed', 'ready'] as const) {
    const fleet = fleetOf([4], () => fate);
    const progress = await onFleetTime(
      fleet,
      rollOut(fleet, specOf(), () => fleet.zoneless.add(canary)),
    );
    assert.is(progress.state, 'halted', fate);
    assert.match(progress.why ?? '', fate === 'failed' ? `the canary ${canary} failed` : /^0 of 1 nodes/);
    assert.equal(stable(fleet, 1), [OLD]);
  }
});

test('a zone that has shrunk is done when its remaining instances run the AMI', async () => {
  const fleet = fleetOf([5, 8], () => 'ready', [5, 6]);
  fleet.scheduler.after(1_000_000, () => {
    for (const node of fleet.nodes) fleet.terminated.add(node.instanceId);
  });
  const progress = await onFleetTime(fleet, rollOut(fleet));
  assert.is(progress.state, 'done', progress.why);
  assert.equal(progress.boots?.ready, [5, 6]);
});

test('an alarm also halts the rollout of an AMI: while it waits for boots, and after the last zone', async () => {
  const spec = specOf('alarms: [errors]');
  for (const [step, second] of [
    ['boots 0', OLD],
    ['bake 1', NEW],
  ] as const) {
    const fleet = fleetOf([10, 10]);
    fleet.cloudwatch.set('errors', 'OK');
    const progress = await onFleetTime(
      fleet,
      rollOut(fleet, spec, (one) => {
        if (one.kind !== 'step' || `${one.step.do} ${one.step.zone}` !== step) return;
        fleet.scheduler.after(10_000, () => {
          fleet.cloudwatch.set('errors', 'ALARM');
          fleet.cloudwatch.set('errors', 'OK');
        });
      }),
    );
    assert.is(progress.state, 'halted', step);
    assert.match(progress.why ?? '', /^the alarm errors went off/);
    assert.is(stable(fleet, 2)[1], second, step);
  }
});

test('the halt flag is obeyed, also during the wait for boots; forgiven failures no longer count', async () => {
  const fleet = fleetOf([10, 10], (zone, at) => (zone === 0 && at === 4 ? 'failed' : 'ready'));
  const { aws } = operatorOf(fleet);
  fleet.scheduler.after(110_000, () => void raiseHaltFlag(aws, CLUSTER, 'drill'));
  const flagged = await onFleetTime(fleet, rollOut(fleet));
  assert.is(flagged.why, 'drill');
  assert.equal(stable(fleet, 2), [NEW, OLD]);
  fleet.ssm.put(`/eniboot/rollout/${CLUSTER}/halt`, '{"halted":false}');
  const halted = await onFleetTime(
    fleet,
    goOn(fleet, (_, progress, now) => resumed(progress, now, false)),
  );
  assert.match(halted.why ?? '', /1 nodes failed in euw1-az1, 0 may/);
  // The group replaces the instance that failed.
  const replaced = fleet.launched.filter((one) => one.verdict?.startsWith('failed') === true);
  assert.is(replaced.length, 1);
  fleet.launched.push(
    ...replaced.map((one) => ({ ...one, instanceId: 'i-0replaced', verdict: 'ready@1.1.0' })),
  );
  const done = await onFleetTime(
    fleet,
    goOn(fleet, (_, progress, now) => resumed(progress, now, true)),
  );
  assert.is(done.state, 'done', done.why);
});

test('an AMI that does not exist is refused by EC2 and gets no label; an AMI that no group launches halts the rollout', async () => {
  const missing = fleetOf([3]);
  const spec = loadSpec('s', `what: { image: { id: ami-00000000 } }\nwhere: { cluster: ${CLUSTER} }\n`);
  const code = await onFleetTime(missing, rollOut(missing, spec)).catch((error: unknown) =>
    isFailure(error) ? error.code : String(error),
  );
  assert.is(code, 'IMAGE_NOT_CONFIRMED');
  assert.equal(stable(missing, 1), [OLD]);
  const idle = createFleet({ zones: [3] });
  const progress = await onFleetTime(idle, rollOut(idle));
  assert.match(progress.why ?? '', /^0 of 1 nodes of euw1-az1 have booted from the image within 7200 s$/);
});

test('the plan names canary and zones', async () => {
  const fleet = fleetOf([6, 4]);
  const text = planText(await onFleetTime(fleet, prepare(operatorOf(fleet).aws, specOf())));
  assert.match(text, new RegExp(`^${NEW} to 10 nodes in 2 zones`));
  assert.match(text, /euw1-az2 +canary +1 +1 +1 \(25 % of the zone\)/);
});

test('an operator killed at any call never leaves two zones begun, and the rollout ends like an uninterrupted one', async () => {
  const fates: Fate[] = ['ready', 'ready', 'ready', 'failed', 'silent', 'vanishes'];
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 1, max: 8 }), { minLength: 1, maxLength: 3 }),
      fc.integer({ min: 0, max: 1e6 }),
      fc.boolean(),
      fc.array(fc.tuple(fc.integer({ min: 1, max: 60 }), fc.boolean()), { maxLength: 3 }),
      async (zones, seed, good, kills) => {
        const fateOf = (zone: number, at: number): Fate =>
          good ? 'ready' : (fates[(seed + zone * 31 + at * 17) % fates.length] ?? 'ready');
        const end = async (killed: typeof kills) => {
          const fleet = fleetOf(zones, fateOf);
          const progress = await onFleetTime(fleet, throughKills(fleet, killed));
          // A zone is promoted only when all nodes of the zone before are READY.
          const promoted = stable(fleet, zones.length).filter((id) => id === NEW).length;
          const full = progress.boots?.ready.filter((ready, at) => {
            const sizes = [...zones].sort((a, b) => a - b);
            return ready >= (sizes[at] ?? 0);
          }).length;
          assert.ok(promoted <= (full ?? 0) + 1, `${promoted} promoted, ${full} full`);
          const failed = progress.boots?.failed.length ?? 0;
          if (failed > 0) assert.is(progress.state, 'halted');
          return { state: progress.state, step: progress.step, stable: stable(fleet, zones.length) };
        };
        assert.equal(await end(kills), await end([]));
      },
    ),
    { numRuns: Number(process.env['ENIBOOT_RUNS'] ?? 100), seed: 4, endOnFailure: true },
  );
});

async function throughKills(fleet: Fleet, kills: [call: number, carriedOut: boolean][]): Promise<Progress> {
  for (let at = 0; ; at += 1) {
    const kill = kills[at];
    const operator = operatorOf(
      fleet,
      kill === undefined ? {} : { killAt: { call: kill[0], carriedOut: kill[1] } },
    );
    const work = (async () => {
      const me = { who: `operator ${at}`, token: `token-${at}` };
      const begin = async () =>
        beginRollout(operator.aws, fleet.clock, me, await prepare(operator.aws, specOf()));
      const record =
        at === 0
          ? await begin()
          : await takeRecord(operator.aws, fleet.clock, me, CLUSTER).catch((error: unknown) => {
              if (isFailure(error, 'ROLLOUT_NONE')) return begin();
              throw error;
            });
      return orchestrate({ aws: operator.aws, clock: fleet.clock, record, tell: () => {}, stopped: never });
    })();
    try {
      return await Promise.race([work, operator.killed]);
    } catch (error) {
      if (!(error instanceof Killed)) throw error;
      await fleet.clock.sleep(LEASE_MS + 61_000);
    }
  }
}

test.run();
