// Whole rollouts of modelled nodes on virtual time: good ones, bad ones, halted ones, and back again.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fleetAws } from '../../agent/aws/fleet.ts';
import { watchLines } from '../../agent/cli/rollout-view.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { raiseHaltFlag } from '../../agent/rollout/halt.ts';
import { type Happening, orchestrate } from '../../agent/rollout/orchestrate.ts';
import { turnedBack } from '../../agent/rollout/progress.ts';
import { readRollout, takeRecord } from '../../agent/rollout/record.ts';
import { reportHtml, reportMarkdown } from '../../agent/rollout/report.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { CLUSTER, createFleet, type Fleet, NEW, OLD, onFleetTime, operatorOf } from './fleet.ts';

const spec = loadSpec(
  'rollout.yaml',
  `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\nbake: { zoneSeconds: 60 }\n`,
);
const owner = { who: 'test', token: 'test-token' };
const never = new AbortController().signal;

async function rollOut(fleet: Fleet, tell: (happening: Happening) => void = () => {}) {
  const { aws } = operatorOf(fleet);
  const record = await beginRollout(aws, fleet.clock, owner, await prepare(aws, spec));
  return orchestrate({ aws, clock: fleet.clock, record, tell, stopped: never });
}

async function rollBack(fleet: Fleet) {
  const { aws } = operatorOf(fleet);
  const record = await takeRecord(aws, fleet.clock, owner, CLUSTER);
  await record.save(turnedBack(record.progress, fleet.scheduler.now()));
  return orchestrate({ aws, clock: fleet.clock, record, tell: () => {}, stopped: never });
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
      if (happening.kind === 'step' && happening.step.do !== 'bake')
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

test('a version that breaks the health check is caught on its first node, and nothing else is touched', async () => {
  const fleet = createFleet({ zones: [30, 20, 25], behaviourOf: () => 'goes-back' });
  const progress = await onFleetTime(fleet, rollOut(fleet));
  assert.is(progress.state, 'halted');
  assert.match(progress.why ?? '', /the canary failed in euw1-az2/);
  assert.equal([...versions(fleet)], [OLD]);
  assert.is(fleet.nodes.filter((node) => node.runs > 0).length, 1);
  assert.is(zoneVersion(fleet, 2), undefined);
});

test('the report knows the course on a machine that has seen nothing of it', async () => {
  const fleet = createFleet({
    zones: [30, 100],
    behaviourOf: (node, zone) => (zone === 1 && node >= 40 && node < 50 ? 'goes-back' : 'good'),
  });
  await onFleetTime(fleet, rollOut(fleet));
  await onFleetTime(fleet, rollBack(fleet));
  const { aws } = operatorOf(fleet);
  const standing = await onFleetTime(fleet, readRollout(aws, CLUSTER, fleet.clock));
  const rollout = await onFleetTime(fleet, standing.rollout());
  const input = { rollout, progress: standing.progress, events: [] };
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
  assert.is([...page.matchAll(/<rect [^>]*fill="#cf222e"/g)].length, 1);
  assert.is([...page.matchAll(/<rect /g)].length, 11);
});

test('who watches sees zones, time gone and left, failures, and what is next', async () => {
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
  const lines = watchLines(record.rollout, progress, fleet.scheduler.now(), false);
  assert.match(lines[0] ?? '', /^1\.1\.0 in modelled: running, \d+ min \d+ s, about \d+ min \d+ s left$/);
  assert.match(lines[1] ?? '', /euw1-az1 +█+ +9\/10 +1 failed/);
  assert.match(lines[2] ?? '', /euw1-az2 +·+ +0\/100 +waiting/);
  assert.is(lines[3], 'next: wait 1800 s after the zone in euw1-az1');
  assert.match(lines[4] ?? '', /^ {2}went-back euw1-az1 i-\S+$/);
  const later = watchLines(record.rollout, { ...progress, state: 'done' }, fleet.scheduler.now(), false);
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

test('a raised halt flag stops it within one batch; nodes that see it are not touched', async () => {
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

test('what Systems Manager answers with becomes a code; a throttled call is tried again', async () => {
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
