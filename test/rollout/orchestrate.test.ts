// Whole rollouts of modelled nodes on virtual time: good ones, bad ones, halts and rollbacks.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type FleetAws, fleetAws } from '../../agent/aws/fleet.ts';
import { rolloutView, watchLines } from '../../agent/cli/rollout-view.ts';
import { Failure, isFailure } from '../../agent/messages/failure.ts';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { ensureDocument } from '../../agent/rollout/document.ts';
import { lowerHaltFlag, raiseHaltFlag } from '../../agent/rollout/halt.ts';
import { openMirror } from '../../agent/rollout/mirror.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { intended, resumed, takenBack } from '../../agent/rollout/progress.ts';
import { readRollout, takeRecord } from '../../agent/rollout/record.ts';
import { reportHtml, reportMarkdown } from '../../agent/rollout/report.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { summarise } from '../../agent/rollout/summary.ts';
import type { RolloutEvent } from '../../agent/rollout/work.ts';
import { CLUSTER, createFleet, type Fleet, NEW, OLD, onFleetTime, operatorOf, SHA256 } from './fleet.ts';

const text = `what: { bundle: { version: ${NEW} } }\nbake: { zoneSeconds: 60 }\n`;
const spec = loadSpec('rollout.yaml', `${text}where: { cluster: ${CLUSTER} }\n`);
const owner = { who: 'test', token: 'test-token' };
const never = new AbortController().signal;

async function rollOut(fleet: Fleet, tell: (happening: RolloutEvent) => void = () => {}) {
  const { aws } = operatorOf(fleet);
  const record = await beginRollout(aws, fleet.clock, owner, await prepare(aws, spec));
  return orchestrate({ aws, clock: fleet.clock, record, tell, stopped: never });
}

async function rollBack(fleet: Fleet, tell: (happening: RolloutEvent) => void = () => {}) {
  const { aws } = operatorOf(fleet);
  const record = await takeRecord(aws, fleet.clock, owner, CLUSTER);
  await record.save(takenBack(record.rollout, record.progress, fleet.scheduler.now()));
  return orchestrate({ aws, clock: fleet.clock, record, tell, stopped: never });
}

const versions = (fleet: Fleet) => new Set(fleet.nodes.map((node) => node.version));
const zoneVersion = (fleet: Fleet, zone: number) =>
  (
    JSON.parse(fleet.ssm.parameters.get(`/eniboot/bundle/euw1-az${zone}`)?.at(-1)?.value ?? '{}') as {
      version?: string;
    }
  ).version;

test('a good version reaches every node, once, one zone after the other', async () => {
  const fleet = createFleet({ zones: [30, 20, 25] });
  const zones: string[] = [];
  const progress = await onFleetTime(
    fleet,
    rollOut(fleet, (happening) => {
      if (happening.kind === 'step' && ['update', 'promote'].includes(happening.step.do))
        zones.push(`${happening.step.do} ${happening.step.zone}`);
    }),
  );
  assert.is(progress.state, 'done');
  assert.is(progress.updated, 75);
  assert.equal([...versions(fleet)], [NEW]);
  assert.ok(fleet.nodes.every((node) => node.runs === 1));
  assert.equal(
    [...new Set(zones)],
    ['update 0', 'promote 0', 'update 1', 'promote 1', 'update 2', 'promote 2'],
  );
  assert.equal(
    [1, 2, 3].map((zone) => zoneVersion(fleet, zone)),
    [NEW, NEW, NEW],
  );
});

test('a version that breaks the health check is caught on its first node, and no other node is touched', async () => {
  const fleet = createFleet({ zones: [30, 20, 25], behaviourOf: () => 'goes-back' });
  const progress = await onFleetTime(fleet, rollOut(fleet));
  assert.is(progress.state, 'halted');
  assert.match(progress.why ?? '', /the canary failed in euw1-az2/);
  assert.equal([...versions(fleet)], [OLD]);
  assert.is(fleet.nodes.filter((node) => node.runs > 0).length, 1);
  assert.is(zoneVersion(fleet, 2), undefined);
});

test('a machine that has no events of a rollout reports its course from the record', async () => {
  const fleet = createFleet({
    zones: [30, 100],
    behaviourOf: (node, zone) => (zone === 1 && node >= 40 && node < 50 ? 'goes-back' : 'good'),
  });
  await onFleetTime(fleet, rollOut(fleet));
  await onFleetTime(fleet, rollBack(fleet));
  const { aws } = operatorOf(fleet);
  const standing = await onFleetTime(fleet, readRollout(aws, CLUSTER, fleet.clock));
  const rollout = await onFleetTime(fleet, standing.rollout());
  const input = [{ region: 'eu-west-1', rollout, progress: standing.progress, events: [] }];
  const course = reportMarkdown(input).split('## Course\n')[1] ?? '';
  assert.equal(
    [...course.matchAll(/^- \S+ \S+Z {2}(.*)$/gm)].map((match) => match[1]),
    [
      'euw1-az1: canary',
      'euw1-az1: wait after canary',
      'euw1-az1: share',
      'euw1-az1: wait after share',
      'euw1-az1: rest',
      'euw1-az1: wait after zone',
      'euw1-az2: rest, 10 failed',
      'euw1-az2: rest, back',
      'euw1-az1: rest, back',
      'euw1-az1: share, back',
      'euw1-az1: canary, back',
    ],
  );
  const times = [...course.matchAll(/^- (\S+ \S+)Z/gm)].map((match) => match[1] ?? '');
  assert.equal(times, [...times].sort());
  const page = reportHtml(input);
  assert.is([...page.matchAll(/<rect class="bad"/g)].length, 1);
  assert.is([...page.matchAll(/<rect /g)].length, 11);
});

test('a watch shows zones, elapsed and remaining time, failures, and the next step', async () => {
  const fleet = createFleet({ zones: [10, 100], behaviourOf: (node) => (node === 7 ? 'goes-back' : 'good') });
  const { aws } = operatorOf(fleet);
  const lenient = loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\nbudget: { zonePercent: 20, fleetPercent: 10 }\n`,
  );
  const stop = new AbortController();
  const record = await onFleetTime(
    fleet,
    (async () => beginRollout(aws, fleet.clock, owner, await prepare(aws, lenient)))(),
  );
  const progress = await onFleetTime(
    fleet,
    orchestrate({
      aws,
      clock: fleet.clock,
      record,
      stopped: stop.signal,
      tell: (one) => {
        if (one.kind === 'step' && one.step.do === 'promote') stop.abort();
      },
    }),
  );
  const lines = watchLines(record.rollout, progress, 'test', fleet.scheduler.now(), false);
  assert.match(lines[0] ?? '', /^1\.1\.0 in modelled: running, \d+ min \d+ s, about \d+ min \d+ s left$/);
  assert.match(lines[1] ?? '', /euw1-az1 +█+ +9\/10 +1 failed/);
  assert.match(lines[2] ?? '', /euw1-az2 +·+ +0\/100 +waiting/);
  assert.is(lines[3], 'next: wait 1800 s after the zone in euw1-az1');
  assert.match(lines[4] ?? '', /^ {2}went-back euw1-az1 i-\S+$/);
  const later = watchLines(
    record.rollout,
    { ...progress, state: 'done' },
    undefined,
    fleet.scheduler.now(),
    false,
  );
  assert.not.match(later[0] ?? '', /left/);
});

test('a rollback brings back the nodes that were touched, and no others', async () => {
  const fleet = createFleet({
    zones: [100, 100],
    behaviourOf: (node, zone) => (zone === 1 && node >= 40 && node < 50 ? 'goes-back' : 'good'),
  });
  fleet.ssm.put('/eniboot/bundle/euw1-az1', JSON.stringify({ version: OLD }));
  const progress = await onFleetTime(fleet, rollOut(fleet));
  assert.is(progress.state, 'halted', progress.why);
  assert.is(zoneVersion(fleet, 1), NEW);
  const touched = new Set(fleet.nodes.filter((node) => node.runs > 0).map((node) => node.instanceId));
  assert.is(touched.size, 160);
  const back = await onFleetTime(fleet, rollBack(fleet));
  assert.is(back.state, 'rolled-back');
  assert.equal([...versions(fleet)], [OLD]);
  assert.is(zoneVersion(fleet, 1), OLD);
  assert.is(back.back?.restored, 150);
  for (const node of fleet.nodes) assert.is(node.runs > 0, touched.has(node.instanceId));
});

test("a report without the node's own ID is a refusal, not a wrong report", async () => {
  const fleet = createFleet({ zones: [1] });
  const [node] = fleet.nodes;
  if (node === undefined) throw new Error('no node');
  const refusal = {
    ...{
      eniboot: 'update',
      schema: 1,
      node: '',
      result: 'untouched',
      version: OLD,
      from: OLD,
      healthy: false,
    },
    ...{ failing: [], warnings: 0, code: 'IMDS_UNREACHABLE', message: 'no answer', seconds: 1 },
  };
  node.run = (_, ended) => (
    ended({ exitCode: 1, stdout: `${JSON.stringify(refusal)}\n`, stderr: '' }), () => {}
  );
  const reasons: string[] = [];
  const progress = await onFleetTime(
    fleet,
    rollOut(fleet, (one) => one.kind === 'node' && reasons.push(one.judgement.reason)),
  );
  assert.equal(progress.exceptions, [{ zone: 0, node: 0, outcome: 'untouched' }]);
  assert.equal(reasons, ['IMDS_UNREACHABLE: no answer']);
});

test('an operator whose clock is behind takes a batch over without waiting for its own clock', async () => {
  const fleet = createFleet({ zones: [1] });
  const { aws } = operatorOf(fleet);
  const record = await onFleetTime(
    fleet,
    (async () => beginRollout(aws, fleet.clock, owner, await prepare(aws, spec)))(),
  );
  await onFleetTime(fleet, record.save(intended(record.progress, fleet.scheduler.now() + 3_600_000)));
  const begun = fleet.scheduler.now();
  const stop = new AbortController();
  await onFleetTime(
    fleet,
    orchestrate({
      aws,
      clock: fleet.clock,
      record,
      tell: (one) => one.kind === 'sent' && stop.abort(),
      stopped: stop.signal,
    }),
  );
  assert.ok(fleet.scheduler.now() - begun < 60_000, `${fleet.scheduler.now() - begun} ms`);
});

test('a rollout names instances that came up on the old version while it ran', async () => {
  const fleet = createFleet({ zones: [3, 3] });
  const told: RolloutEvent[] = [];
  for (const [at, verdict] of [`ready@${OLD}`, `ready@${NEW}`, 'failed:NO_ROUTE@1.0.0'].entries())
    fleet.scheduler.after(120_000, () =>
      fleet.launched.push({
        instanceId: `i-0younger${at}`,
        imageId: 'ami-00000001',
        zoneId: 'euw1-az2',
        launchedMs: fleet.scheduler.now(),
        state: 'running',
        verdict,
      }),
    );
  const done = await onFleetTime(
    fleet,
    rollOut(fleet, (happening) => void told.push(happening)),
  );
  assert.equal(told.at(-1), { kind: 'ended', state: 'done', strays: ['i-0younger0'] });
  assert.is(done.strays, 1);
});

test('a watch tells when no operator works on the rollout any more', async () => {
  const fleet = createFleet({ zones: [3] });
  const { aws } = operatorOf(fleet);
  const { rollout, progress } = await onFleetTime(
    fleet,
    (async () => beginRollout(aws, fleet.clock, owner, await prepare(aws, spec)))(),
  );
  const seenWith = (holder: string | undefined) =>
    watchLines(rollout, progress, holder, fleet.scheduler.now(), false).join('\n');
  assert.match(seenWith(undefined), /no process works on it: `rollout resume` goes on/);
  assert.not.match(seenWith('an operator'), /no process works/);
});

test('a rollback writes the parameters of the zones that were reached again, also of a zone whose parameter was unchanged', async () => {
  const fleet = createFleet({
    zones: [4, 6, 8],
    behaviourOf: (node, zone) => (zone === 1 && node === 3 ? 'goes-back' : 'good'),
  });
  const old = JSON.stringify({ version: OLD });
  for (const zone of [1, 2, 3]) fleet.ssm.put(`/eniboot/bundle/euw1-az${zone}`, old);
  assert.is((await onFleetTime(fleet, rollOut(fleet))).state, 'halted');
  await onFleetTime(fleet, rollBack(fleet));
  const told = [1, 2, 3].map((zone) => {
    const last = fleet.ssm.parameters.get(`/eniboot/bundle/euw1-az${zone}`)?.at(-1);
    return [last?.value, last?.version];
  });
  assert.equal(told, [
    [old, 3],
    [old, 2],
    [old, 1],
  ]);
});

test('a rollback names instances that came up on the version meanwhile and cannot be asked', async () => {
  const fleet = createFleet({ zones: [3, 3] });
  await onFleetTime(fleet, rollOut(fleet));
  for (const [at, verdict] of [`ready@${NEW}`, `ready@${NEW}`, `ready@${OLD}`, undefined].entries())
    fleet.launched.push({
      instanceId: `i-0younger${at}`,
      imageId: 'ami-00000001',
      zoneId: 'euw1-az1',
      launchedMs: fleet.scheduler.now(),
      state: 'running',
      verdict,
    });
  const told: RolloutEvent[] = [];
  await onFleetTime(
    fleet,
    rollBack(fleet, (happening) => void told.push(happening)),
  );
  const strays = ['i-0younger0', 'i-0younger1'];
  assert.equal(told.at(-1), { kind: 'ended', state: 'rolled-back', strays });
  const standing = await onFleetTime(fleet, readRollout(operatorOf(fleet).aws, CLUSTER, fleet.clock));
  const rollout = await onFleetTime(fleet, standing.rollout());
  const report = reportMarkdown([{ region: 'eu-west-1', rollout, progress: standing.progress, events: [] }]);
  assert.match(
    report,
    /Taken back: 6 nodes run again what they ran before\. 2 instances that came up meanwhile still run 1\.1\.0, and their SSM agents/,
  );
  assert.match(
    watchLines(rollout, standing.progress, undefined, fleet.scheduler.now(), false).join('\n'),
    /^2 instances that came up meanwhile still run 1\.1\.0, and .* do not answer: reboot or replace them/m,
  );
});

test('after a rollback the next rollout waits out the rest of the parameters that it has deleted', async () => {
  const fleet = createFleet({ zones: [3, 3] });
  await onFleetTime(fleet, rollOut(fleet));
  await onFleetTime(fleet, rollBack(fleet));
  assert.is(fleet.ssm.parameters.has('/eniboot/bundle/euw1-az1'), false);
  assert.is((await onFleetTime(fleet, rollOut(fleet))).state, 'done');
  assert.is(zoneVersion(fleet, 1), NEW);
});

test('a rollback does not touch nodes that ran the version before the rollout', async () => {
  const fleet = createFleet({ zones: [30, 40] });
  const before = fleet.nodes.filter((_, at) => at % 7 < 3);
  for (const node of before) {
    node.previous = { version: OLD, sha256: undefined };
    Object.assign(node, { version: NEW, sha256: SHA256 });
  }
  const done = await onFleetTime(fleet, rollOut(fleet));
  assert.equal([done.state, done.already, done.updated], ['done', before.length, 70 - before.length]);
  const back = await onFleetTime(fleet, rollBack(fleet));
  assert.equal([back.state, back.back?.restored], ['rolled-back', 70 - before.length]);
  for (const node of fleet.nodes) assert.is(node.version, before.includes(node) ? NEW : OLD);
  const { zones } = await onFleetTime(fleet, summaryOf(fleet));
  assert.is(
    zones.reduce((sum, zone) => sum + zone.updated, 0),
    before.length,
  );
});

test('a node that this rollout has updated is brought back, also when it reported so only to a second question', async () => {
  const fleet = createFleet({ zones: [1] });
  const [node] = fleet.nodes;
  // Its agent ran the script a second time, and the first report was lost.
  const run = node?.run;
  if (node === undefined || run === undefined) throw new Error('no node');
  node.run = (script, ended) => run(script, () => run(script, ended));
  assert.is((await onFleetTime(fleet, rollOut(fleet))).updated, 1);
  assert.is((await onFleetTime(fleet, rollBack(fleet))).state, 'rolled-back');
  assert.is(node.version, OLD);
});

test('a raised halt flag stops the rollout within one batch; nodes that see the flag are not touched', async () => {
  const fleet = createFleet({ zones: [50, 50] });
  const { aws } = operatorOf(fleet);
  let after = 0;
  const progress = await onFleetTime(
    fleet,
    rollOut(fleet, (happening) => {
      if (happening.kind === 'sent' && ++after === 3) void raiseHaltFlag(aws, CLUSTER, 'smoke in the hall');
    }),
  );
  assert.is(progress.state, 'halted');
  assert.is(progress.why, 'smoke in the hall');
  assert.is(after, 3);
});

/** Does the same as `rollout resume`. */
async function goOn(fleet: Fleet, forgive = false) {
  const { aws } = operatorOf(fleet);
  const record = await takeRecord(aws, fleet.clock, owner, CLUSTER);
  await lowerHaltFlag(aws, CLUSTER);
  await record.save(resumed(record.progress, fleet.scheduler.now(), forgive));
  return orchestrate({ aws, clock: fleet.clock, record, tell: () => {}, stopped: never });
}

test('a node is not taken for missing because its command ended between two looks', async () => {
  const fleet = createFleet({ zones: [4] });
  const { aws } = operatorOf(fleet);
  const listed = new Set<string>();
  const slow: FleetAws = {
    ...aws,
    // A command's rows are listed a moment after it was sent; a throttled call is answered a minute later.
    listInvocations: async (id) => (listed.has(id) ? aws.listInvocations(id) : (listed.add(id), [])),
    describeCommand: async (id) => {
      await fleet.clock.sleep(60_000);
      return aws.describeCommand(id);
    },
  };
  const progress = await onFleetTime(
    fleet,
    (async () => {
      const record = await beginRollout(slow, fleet.clock, owner, await prepare(slow, spec));
      return orchestrate({ aws: slow, clock: fleet.clock, record, tell: () => {}, stopped: never });
    })(),
  );
  assert.is(progress.state, 'done', progress.why);
  assert.is(progress.updated, 4);
});

test('no other operator gets the lease while the commands of a batch are sent, however long that takes', async () => {
  const fleet = createFleet({ zones: [200] });
  const { aws } = operatorOf(fleet);
  const slow: FleetAws = {
    ...aws,
    sendCommand: async (request) => {
      await fleet.clock.sleep(100_000);
      return aws.sendCommand(request);
    },
  };
  const wide = loadSpec(
    's',
    `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\nsteps: { concurrency: 200, zonePercent: 100 }\n`,
  );
  const taken: string[] = [];
  const heir = async () => {
    for (let at = 0; at < 60; at += 1) {
      await fleet.clock.sleep(20_000);
      await takeRecord(operatorOf(fleet).aws, fleet.clock, { who: 'heir', token: 'heir' }, CLUSTER).then(
        () => taken.push(`after ${at * 20} s`),
        (error: unknown) => assert.ok(isFailure(error, 'ROLLOUT_BUSY'), String(error)),
      );
    }
  };
  const work = (async () => {
    const record = await beginRollout(slow, fleet.clock, owner, await prepare(slow, wide));
    const watched = heir();
    const stop = new AbortController();
    const ended = orchestrate({
      aws: slow,
      clock: fleet.clock,
      record,
      tell: () => {},
      stopped: stop.signal,
    });
    await watched;
    stop.abort();
    return ended;
  })();
  await onFleetTime(fleet, work);
  assert.equal(taken, []);
});

test('a halt flag of the longest value halts the rollout, too', async () => {
  const fleet = createFleet({ zones: [3] });
  await onFleetTime(fleet, raiseHaltFlag(operatorOf(fleet).aws, CLUSTER, 'x'.repeat(8_000)));
  const progress = await onFleetTime(fleet, rollOut(fleet));
  assert.is(progress.state, 'halted');
});

test('a canary that saw the halt flag proves nothing: after a resume it is asked again, before any other node', async () => {
  const fleet = createFleet({ zones: [30, 40], behaviourOf: () => 'goes-back' });
  const { aws } = operatorOf(fleet);
  const halted = await onFleetTime(
    fleet,
    rollOut(fleet, (happening) => {
      if (happening.kind === 'sent') void raiseHaltFlag(aws, CLUSTER, 'wait for me');
    }),
  );
  assert.is(halted.why, 'wait for me');
  assert.equal([...versions(fleet)], [OLD]);
  const resumedTo = await onFleetTime(fleet, goOn(fleet));
  assert.match(resumedTo.why ?? '', /the canary failed/);
  assert.is(fleet.nodes.filter((node) => node.runs > 0).length, 1);
});

test('after a failed canary is forgiven, one more node has to prove the version before any batch', async () => {
  for (const [behaviour, state, asked] of [
    ['goes-back', 'halted', 2],
    ['good', 'done', 70],
  ] as const) {
    const fleet = createFleet({
      zones: [30, 40],
      behaviourOf: (node, zone) => (zone === 0 && node === 0 ? 'sick' : behaviour),
    });
    assert.match((await onFleetTime(fleet, rollOut(fleet))).why ?? '', /the canary failed/);
    const end = await onFleetTime(fleet, goOn(fleet, true));
    assert.is(end.state, state, end.why);
    assert.is(fleet.nodes.filter((node) => node.runs > 0).length, asked);
    assert.ok(fleet.nodes.every((node) => node.runs <= 1));
    if (state === 'halted') assert.match(end.why ?? '', /the canary failed in euw1-az1/);
    else assert.is(end.updated, 69);
  }
});

test('nodes whose command an alarm has cancelled are asked again after a resume, a canary before any other', async () => {
  const alarmed = loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\nalarm: smoke\n`,
  );
  for (const [behaviour, ending] of [
    ['good', /^done$/],
    ['goes-back', /^the canary failed/],
  ] as const) {
    const fleet = createFleet({ zones: [20, 20], behaviourOf: () => behaviour });
    fleet.cloudwatch.set('smoke', 'OK');
    const { aws } = operatorOf(fleet);
    const record = await onFleetTime(
      fleet,
      (async () => beginRollout(aws, fleet.clock, owner, await prepare(aws, alarmed)))(),
    );
    const halted = await onFleetTime(
      fleet,
      orchestrate({
        aws,
        clock: fleet.clock,
        record,
        tell: (one) => {
          if (one.kind === 'sent') fleet.cloudwatch.set('smoke', 'ALARM');
        },
        stopped: never,
      }),
    );
    assert.match(halted.why ?? '', /^the alarm smoke went off/);
    fleet.cloudwatch.set('smoke', 'OK');
    const end = await onFleetTime(fleet, goOn(fleet));
    assert.match(end.why ?? end.state, ending);
    assert.is(fleet.nodes.filter((node) => node.runs > 0).length, behaviour === 'good' ? 40 : 1);
  }
});

test('a command that an alarm has cancelled before it had nodes leaves its nodes to be asked, too', async () => {
  const fleet = createFleet({ zones: [4] });
  const { aws } = operatorOf(fleet);
  let alarm = true;
  const early: FleetAws = {
    ...aws,
    listInvocations: async (id) => (alarm ? [] : aws.listInvocations(id)),
    describeCommand: async (id) =>
      alarm
        ? { commandId: id, comment: '', status: 'Cancelled', details: '', alarms: ['smoke'] }
        : aws.describeCommand(id),
  };
  const record = await onFleetTime(
    fleet,
    (async () => beginRollout(early, fleet.clock, owner, await prepare(early, spec)))(),
  );
  const work = { aws: early, clock: fleet.clock, record, tell: () => {}, stopped: never };
  const halted = await onFleetTime(fleet, orchestrate(work));
  assert.equal([halted.why, halted.exceptions], ['the alarm smoke went off', []]);
  alarm = false;
  assert.is((await onFleetTime(fleet, goOn(fleet))).state, 'done');
});

test('a node whose late command the operator cancels has failed', async () => {
  const fleet = createFleet({ zones: [1], behaviourOf: () => 'hangs' });
  const { aws } = operatorOf(fleet);
  // The script on this node does not end by itself: the operator ends it.
  const endless: FleetAws = {
    ...aws,
    listInvocations: async (id) =>
      (await aws.listInvocations(id)).map((one) =>
        one.status === 'TimedOut'
          ? {
              ...one,
              status: fleet.calls.some((call) => call.action === 'CancelCommand')
                ? 'Cancelled'
                : 'InProgress',
              details: 'Cancelled',
            }
          : one,
      ),
  };
  const progress = await onFleetTime(
    fleet,
    (async () => {
      const record = await beginRollout(endless, fleet.clock, owner, await prepare(endless, spec));
      return orchestrate({ aws: endless, clock: fleet.clock, record, tell: () => {}, stopped: never });
    })(),
  );
  assert.match(progress.why ?? '', /the canary failed/);
  assert.equal(
    progress.exceptions.map((one) => one.outcome),
    ['late'],
  );
});

test('nodes that a halt has passed over are asked after a resume, in a rollout and in a rollback', async () => {
  const fleet = createFleet({ zones: [60, 60], updateMs: () => 60_000 });
  const { aws } = operatorOf(fleet);
  // These nodes are late in a batch: they read the flag that was raised while the first nodes worked.
  const late = fleet.nodes.filter((_, at) => at % 3 === 0);
  const raiseAt = (sending: number) => {
    let sends = 0;
    return (happening: RolloutEvent) => {
      if (happening.kind !== 'sent' || ++sends !== sending) return;
      for (const node of late) node.run = delayed(fleet, node.run);
      fleet.scheduler.after(5_000, () => void raiseHaltFlag(aws, CLUSTER, 'drill'));
    };
  };
  const halted = await onFleetTime(fleet, rollOut(fleet, raiseAt(5)));
  assert.is(halted.state, 'halted');
  const before = halted.updated;
  const shown = await onFleetTime(fleet, summaryOf(fleet));
  assert.is(
    shown.zones.reduce((sum, zone) => sum + zone.updated, 0),
    before,
  );
  assert.ok(shown.passedOver > 0);
  assert.is(shown.failed, 0);
  const done = await onFleetTime(fleet, goOn(fleet));
  assert.is(done.state, 'done', done.why);
  assert.ok(before < 60);
  assert.is(done.updated, 120);
  assert.equal([...versions(fleet)], [NEW]);

  const record = await onFleetTime(fleet, takeRecord(aws, fleet.clock, owner, CLUSTER));
  await onFleetTime(fleet, record.save(takenBack(record.rollout, record.progress, fleet.scheduler.now())));
  const back = await onFleetTime(
    fleet,
    orchestrate({ aws, clock: fleet.clock, record, tell: raiseAt(2), stopped: never }),
  );
  assert.is(back.state, 'halted');
  const halfway = await onFleetTime(fleet, summaryOf(fleet));
  assert.is(
    halfway.zones.reduce((sum, zone) => sum + zone.updated, 0),
    fleet.nodes.filter((node) => node.version === NEW).length,
  );
  const ended = await onFleetTime(fleet, goOn(fleet));
  assert.is(ended.state, 'rolled-back', ended.why);
  assert.is(ended.back?.restored, 120);
  assert.equal([...versions(fleet)], [OLD]);
});

async function summaryOf(fleet: Fleet) {
  const standing = await readRollout(operatorOf(fleet).aws, CLUSTER, fleet.clock);
  return summarise(await standing.rollout(), standing.progress);
}

function delayed(fleet: Fleet, run: Fleet['nodes'][number]['run']): Fleet['nodes'][number]['run'] {
  return (script, ended) => {
    let stop = () => {};
    const cancel = fleet.scheduler.after(10_000, () => {
      stop = run(script, ended);
    });
    return () => {
      cancel();
      stop();
    };
  };
}

test('a rollout does not begin beside an unfinished one, nor with more unreachable nodes than may fail', async () => {
  const fleet = createFleet({ zones: [10] });
  const { aws } = operatorOf(fleet);
  const attempt = async () => {
    try {
      await beginRollout(aws, fleet.clock, { who: 'other', token: 'other' }, await prepare(aws, spec));
    } catch (error) {
      return isFailure(error) ? error.code : String(error);
    }
    return 'begun';
  };
  for (const node of fleet.nodes.slice(0, 2)) node.online = false;
  fleet.scheduler.advance(10 * 60_000);
  assert.is(await onFleetTime(fleet, attempt()), 'ROLLOUT_UNREACHABLE');
  for (const node of fleet.nodes) node.online = true;
  assert.is(await onFleetTime(fleet, attempt()), 'begun');
  assert.is(await onFleetTime(fleet, attempt()), 'ROLLOUT_BUSY');
});

test('the document is waited for until it is Active, also when another operator has just written it', async () => {
  for (const before of [undefined, 'other contents', 'ours']) {
    const fleet = createFleet({ zones: [3] });
    fleet.ssm.latency.documentMs = 20_000;
    if (before === 'ours') await onFleetTime(fleet, ensureDocument(operatorOf(fleet).aws, fleet.clock));
    if (before === 'other contents')
      fleet.ssm.send('CreateDocument', {
        Name: 'eniboot-update',
        Content: '{"schemaVersion":"2.2","mainSteps":[{}]}',
      });
    assert.is((await onFleetTime(fleet, rollOut(fleet))).state, 'done', before);
    assert.ok(fleet.calls.every((call) => call.action !== 'SendCommand' || call.accepted));
  }
});

test('an existing document with the same contents needs no permission to write; its contents are compared before it is pinned', async () => {
  const fleet = createFleet({ zones: [3] });
  const { aws } = operatorOf(fleet);
  const attempt = (using: FleetAws) =>
    onFleetTime(
      fleet,
      ensureDocument(using, fleet.clock).then(
        ({ version }) => `version ${version}`,
        (error: unknown) => (isFailure(error) ? `${error.code}: ${error.message}` : String(error)),
      ),
    );
  const denied = () => Promise.reject(new Failure('SSM_DENIED', 'no'));
  const mayNotWrite: FleetAws = { ...aws, createDocument: denied, updateDocument: denied };
  assert.match(await attempt(mayNotWrite), /^SSM_DENIED/);
  assert.is(await attempt(aws), 'version 1');
  assert.is(await attempt(mayNotWrite), 'version 1');
  // AWS may lay the JSON out like this.
  const ours = fleet.ssm.send('GetDocument', { Name: 'eniboot-update' }) as { Content: string };
  const write = (Content: string) =>
    fleet.ssm.send('UpdateDocument', { Name: 'eniboot-update', Content, DocumentVersion: '$LATEST' });
  write(JSON.stringify(JSON.parse(ours.Content)));
  assert.is(await attempt(mayNotWrite), 'version 2');
  write('{"schemaVersion":"2.2","mainSteps":[{}]}');
  const duplicate: FleetAws = { ...aws, updateDocument: async () => undefined };
  assert.match(await attempt(duplicate), /^ROLLOUT_DOCUMENT_UNUSABLE: version 3 .* has other contents/);
  // Another operator has made the document first.
  let first = true;
  const late: FleetAws = {
    ...aws,
    describeDocument: async (...args) => {
      if (!first) return aws.describeDocument(...args);
      first = false;
      return undefined;
    },
  };
  assert.match(await attempt(late), /^ROLLOUT_DOCUMENT_UNUSABLE: version 3 .* has other contents/);
  assert.is(await attempt(aws), 'version 4');
});

test('a document that does not become Active ends the rollout before anything is written', async () => {
  const fleet = createFleet({ zones: [3] });
  const { aws } = operatorOf(fleet);
  const code = (using: FleetAws) =>
    onFleetTime(
      fleet,
      prepare(aws, spec)
        .then((prepared) => beginRollout(using, fleet.clock, owner, prepared))
        .then(
          () => 'begun',
          (error: unknown) => (isFailure(error) ? `${error.code}: ${error.message}` : String(error)),
        ),
    );
  fleet.ssm.latency.documentMs = 3_600_000;
  assert.match(await code(aws), /^ROLLOUT_DOCUMENT_UNUSABLE: .* is Creating$/);
  const failed: FleetAws = {
    ...aws,
    describeDocument: async (...args) => {
      const described = await aws.describeDocument(...args);
      return described && { ...described, status: 'Failed', reason: 'no such plugin' };
    },
  };
  assert.match(await code(failed), /^ROLLOUT_DOCUMENT_UNUSABLE: .* is Failed: no such plugin$/);
  assert.equal([...fleet.ssm.parameters.keys()], [`/eniboot/releases/${NEW}`]);
});

test('a release without an archive, or without one for a CPU of the fleet, is refused before anything is written', async () => {
  const fleet = createFleet({ zones: [3, 3] });
  const { aws } = operatorOf(fleet);
  const refused = () =>
    onFleetTime(
      fleet,
      prepare(aws, spec).then(
        () => 'prepared',
        (error: unknown) => (isFailure(error) ? `${error.code} ${error.message}` : String(error)),
      ),
    );
  const [node] = fleet.nodes;
  fleet.cpuOf.set(node?.instanceId ?? '', 'arm64');
  assert.match(await refused(), /^RELEASE_UNKNOWN .*not published for arm64, the CPU of 1 nodes/);
  fleet.cpuOf.clear();
  assert.is(await refused(), 'prepared');
  for (const text of ['garbage', JSON.stringify({ version: NEW, x64: { url: 'file:///x' } })]) {
    fleet.ssm.put(`/eniboot/releases/${NEW}`, text);
    assert.match(await refused(), /^RELEASE_UNKNOWN .*names no archive/, text);
  }
});

test('an instance whose zone EC2 does not tell ends the rollout before anything is written', async () => {
  for (const chosen of [
    spec,
    loadSpec('rollout.yaml', `${text}where: { cluster: ${CLUSTER}, zones: [euw1-az1] }\n`),
  ]) {
    const fleet = createFleet({ zones: [3, 3] });
    const { aws } = operatorOf(fleet);
    const begin = () =>
      onFleetTime(
        fleet,
        prepare(aws, chosen)
          .then((prepared) => beginRollout(aws, fleet.clock, owner, prepared))
          .then(
            () => 'begun',
            (error: unknown) => (isFailure(error) ? `${error.code} ${error.message}` : String(error)),
          ),
      );
    const [{ instanceId } = { instanceId: '' }] = fleet.nodes;
    fleet.zoneless.add(instanceId);
    assert.match(await begin(), new RegExp(`^INSTANCE_ZONE_UNKNOWN .*${instanceId}`));
    assert.equal([...fleet.ssm.parameters.keys()], [`/eniboot/releases/${NEW}`]);
    assert.ok(fleet.calls.every(({ mutating }) => !mutating));
    fleet.zoneless.clear();
    assert.is(await begin(), 'begun');
  }
});

test('a view of any width stays in its place: no line of it wraps', async () => {
  const fleet = createFleet({ zones: [10, 100], behaviourOf: (node) => (node === 7 ? 'goes-back' : 'good') });
  const { aws } = operatorOf(fleet);
  const record = await onFleetTime(
    fleet,
    (async () => beginRollout(aws, fleet.clock, owner, await prepare(aws, spec)))(),
  );
  let text = '';
  const io = { stdout: (piece: string) => void (text += piece), stderr: () => {}, isTTY: true, columns: 50 };
  const view = rolloutView(record.rollout, record.progress, io, () => fleet.scheduler.now());
  const judgement = { instanceId: 'i-0', outcome: 'went-back' as const, reason: 'because '.repeat(20) };
  view.show({ kind: 'node', judgement, atMs: 0 }, record.progress);
  view.stop();
  assert.match(text, /because/);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what they are.
  for (const line of text.replace(/\u001b\[\d*[A-Za-z]/g, '').split('\n')) assert.ok(line.length <= 50, line);
});

test('a disk that cannot be written to costs the events, not the rollout', async () => {
  const fleet = createFleet({ zones: [1] });
  const { aws } = operatorOf(fleet);
  const record = await onFleetTime(
    fleet,
    (async () => beginRollout(aws, fleet.clock, owner, await prepare(aws, spec)))(),
  );
  process.env['XDG_STATE_HOME'] = '/dev/null/below';
  const warnings: string[] = [];
  const mirror = openMirror(record.rollout, (warning) => void warnings.push(warning));
  for (const at of [1, 2]) mirror.note({ kind: 'look', home: 0, of: 1 }, record.progress, at);
  delete process.env['XDG_STATE_HOME'];
  assert.is(warnings.length, 1);
  assert.match(warnings[0] ?? '', /events are no longer noted/);
});

test('an answer of Systems Manager becomes a code; a throttled call is tried again', async () => {
  const codeOf = async (name: string) => {
    const error = Object.assign(new Error('x'), { name, $metadata: { httpStatusCode: 400 } });
    const fleet = createFleet({ zones: [1] });
    const patience = { clock: fleet.clock, until: () => 0, onThrottled: () => {}, onCall: () => {} };
    const failed: unknown = await fleetAws(() => Promise.reject(error), patience)
      .writeParameter('/p', 'x')
      .catch((one: unknown) => one);
    return isFailure(failed) ? [failed.code, failed.transient] : failed;
  };
  assert.equal(await codeOf('ThrottlingException'), ['SSM_THROTTLED', true]);
  assert.equal(await codeOf('InvalidKeyId'), ['SSM_REFUSED', false]);
  assert.equal(await codeOf('AccessDeniedException'), ['SSM_DENIED', false]);
  assert.equal(await codeOf('InternalServerError'), ['SSM_FAILED', true]);
  const fleet = createFleet({ zones: [1] });
  const { aws } = operatorOf(fleet);
  for (let at = 0; at < 10; at += 1)
    assert.is(await onFleetTime(fleet, aws.writeParameter('/p', `${at}`)), at + 1);
});

test.run();
