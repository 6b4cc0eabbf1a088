// Record and lease in one parameter: of several writers exactly one wins, and no write of the others counts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isFailure } from '../../agent/messages/failure.ts';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { advanced, alarmed, type Exception, halted, overBudget } from '../../agent/rollout/progress.ts';
import { LEASE_MS, readRollout, takeRecord } from '../../agent/rollout/record.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { CLUSTER, createFleet, type Fleet, NEW, onFleetTime, operatorOf, virtualClock } from './fleet.ts';

const spec = loadSpec('s', `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\n`);
const owner = (name: string) => ({ who: name, token: `${name.split('-')[1] ?? ''}${name}` });
const codeOf = (error: unknown) => (isFailure(error) ? error.code : String(error));

async function begun(fleet: Fleet, name: string) {
  const { aws } = operatorOf(fleet);
  return onFleetTime(
    fleet,
    (async () => beginRollout(aws, fleet.clock, owner(name), await prepare(aws, spec)))(),
  );
}

test('of ten operators that begin at once one wins, and its record stays', async () => {
  const fleet = createFleet({ zones: [3] });
  const results = await onFleetTime(
    fleet,
    Promise.all(
      Array.from({ length: 10 }, async (_, at) => {
        const { aws } = operatorOf(fleet, { apiMs: 40 + at });
        const prepared = await prepare(aws, spec);
        return beginRollout(aws, fleet.clock, owner(`operator-${at}`), prepared).then(
          () => at,
          (error: unknown) => codeOf(error),
        );
      }),
    ),
  );
  const winners = results.filter((one) => typeof one === 'number');
  assert.is(winners.length, 1, JSON.stringify(results));
  assert.ok(
    results.every((one) => typeof one === 'number' || ['ROLLOUT_LEASE_LOST', 'ROLLOUT_BUSY'].includes(one)),
  );
  const standing = await onFleetTime(fleet, readRollout(operatorOf(fleet).aws, CLUSTER, fleet.clock));
  assert.is(standing.holder?.who, `operator-${winners[0]}`);
  const plans = [...fleet.ssm.parameters.keys()].filter((name) => name.includes('/plan/'));
  assert.equal(
    plans.filter((name) => !name.includes(`/${standing.id}/`)),
    [],
    'the records of the other operators are gone',
  );
});

test('an expired lease is taken by one of many; the former holder can no longer write', async () => {
  const fleet = createFleet({ zones: [3] });
  const first = await begun(fleet, 'first');
  fleet.scheduler.advance(LEASE_MS + 61_000);
  const results = await onFleetTime(
    fleet,
    Promise.all(
      Array.from({ length: 6 }, (_, at) =>
        takeRecord(
          operatorOf(fleet, { apiMs: 30 + 7 * at }).aws,
          fleet.clock,
          owner(`heir-${at}`),
          CLUSTER,
        ).then(
          () => at,
          (error: unknown) => codeOf(error),
        ),
      ),
    ),
  );
  assert.is(results.filter((one) => typeof one === 'number').length, 1, JSON.stringify(results));
  const before = (await onFleetTime(fleet, readRollout(operatorOf(fleet).aws, CLUSTER, fleet.clock)))
    .progress;
  const late = await onFleetTime(
    fleet,
    first.save(advanced(first.progress, fleet.scheduler.now())).then(() => 'saved', codeOf),
  );
  assert.is(late, 'ROLLOUT_LEASE_LOST');
  const after = (await onFleetTime(fleet, readRollout(operatorOf(fleet).aws, CLUSTER, fleet.clock))).progress;
  assert.equal(after, before);
});

test('while the holder has the lease, no operator takes over or begins another rollout', async () => {
  const fleet = createFleet({ zones: [3] });
  await begun(fleet, 'holder');
  fleet.scheduler.advance(LEASE_MS - 1_000);
  const { aws } = operatorOf(fleet);
  const taken = takeRecord(aws, fleet.clock, owner('heir-1'), CLUSTER).then(() => 'taken', codeOf);
  assert.is(await onFleetTime(fleet, taken), 'ROLLOUT_BUSY');
  assert.is(await begun(fleet, 'second').then(() => 'begun', codeOf), 'ROLLOUT_BUSY');
});

test('a lease that is expired only by a clock some seconds ahead is not taken yet', async () => {
  const fleet = createFleet({ zones: [3] });
  await begun(fleet, 'holder');
  fleet.scheduler.advance(LEASE_MS - 3_000);
  const { aws } = operatorOf(fleet);
  // AWS's time is known to a second or two on each side.
  const ahead = virtualClock(fleet.scheduler, 5_000);
  const taken = takeRecord(aws, ahead, owner('heir-1'), CLUSTER).then(() => 'taken', codeOf);
  assert.is(await onFleetTime(fleet, taken), 'ROLLOUT_BUSY');
});

test('a lease is renewed long before it expires, and not at each look', async () => {
  const fleet = createFleet({ zones: [3] });
  const record = await begun(fleet, 'holder');
  const writes = () => fleet.ssm.parameters.get(`/eniboot/rollout/${CLUSTER}/state`)?.length ?? 0;
  const before = writes();
  for (let at = 0; at < 40; at += 1) {
    fleet.scheduler.advance(15_000);
    await onFleetTime(fleet, record.keep());
    const { heldUntilMs } = await onFleetTime(
      fleet,
      readRollout(operatorOf(fleet).aws, CLUSTER, fleet.clock),
    );
    const leftMs = heldUntilMs - fleet.scheduler.now();
    assert.ok(leftMs > LEASE_MS / 2, `${leftMs} ms are left`);
  }
  assert.ok(writes() - before <= 10, `${writes() - before} writes in ten minutes`);
});

test('a take-over goes on at once; the former operator, crashed or alive, can no longer write', async () => {
  const fleet = createFleet({ zones: [3] });
  const first = await begun(fleet, 'first');
  const { aws } = operatorOf(fleet);
  const { holder } = await onFleetTime(fleet, readRollout(aws, CLUSTER, fleet.clock));
  const heir = await onFleetTime(
    fleet,
    takeRecord(aws, fleet.clock, owner('heir-1'), CLUSTER, holder?.token),
  );
  const late = await onFleetTime(
    fleet,
    first.keep().then(() => first.save(first.progress).then(() => 'saved', codeOf)),
  );
  assert.is(late, 'ROLLOUT_LEASE_LOST');
  await onFleetTime(fleet, heir.save(advanced(heir.progress, fleet.scheduler.now())));
  // A take-over names the lease that it was shown. Another lease is not taken.
  const other = takeRecord(aws, fleet.clock, owner('heir-2'), CLUSTER, holder?.token);
  assert.is(
    await onFleetTime(
      fleet,
      other.then(() => 'taken', codeOf),
    ),
    'ROLLOUT_BUSY',
  );
});

test('a write without the lease does not disturb the holder', async () => {
  const fleet = createFleet({ zones: [3] });
  const record = await begun(fleet, 'holder');
  fleet.ssm.put(`/eniboot/rollout/${CLUSTER}/state`, 'scribble');
  fleet.ssm.put(`/eniboot/rollout/${CLUSTER}/state`, '{"schema":1,"follows":1}');
  await onFleetTime(fleet, record.save(advanced(record.progress, fleet.scheduler.now())));
  const standing = await onFleetTime(fleet, readRollout(operatorOf(fleet).aws, CLUSTER, fleet.clock));
  assert.is(standing.progress.step, 1);
  assert.is(standing.holder?.who, 'holder');
});

test('a write whose answer is lost is recognised as written', async () => {
  const fleet = createFleet({ zones: [3] });
  const { aws } = operatorOf(fleet);
  const prepared = await onFleetTime(fleet, prepare(aws, spec));
  let lost = 0;
  const shaky = operatorOf(fleet, { loses: (action) => action === 'PutParameter' && ++lost % 2 === 1 });
  const record = await onFleetTime(fleet, beginRollout(shaky.aws, fleet.clock, owner('shaky'), prepared));
  for (let step = 0; step < 5; step += 1)
    await onFleetTime(fleet, record.save(advanced(record.progress, fleet.scheduler.now())));
  const standing = await onFleetTime(fleet, readRollout(aws, CLUSTER, fleet.clock));
  assert.is(standing.progress.step, 5);
});

test('20,000 nodes, 400 failures and a fleet that ran the version already fit into a parameter', async () => {
  const fleet = createFleet({ zones: [10_000, 10_000] });
  const record = await begun(fleet, 'large');
  const exceptions = Array.from({ length: 400 }, (_, at) => ({
    zone: at % 2,
    node: Math.floor(at * 23),
    outcome: at % 3 === 0 ? ('undelivered' as const) : ('went-back' as const),
  }));
  const sorted = (list: Exception[]) => [...list].sort((a, b) => a.zone - b.zone || a.node - b.node);
  const there = [0, 1].map(() => Array.from({ length: 5_000 }, (_, at) => 2 * at + 1));
  const why = 'x'.repeat(2_000);
  const full = { ...record.progress, exceptions, there, forgiven: 150 };
  await onFleetTime(fleet, record.save(halted(alarmed(full, why, 0), 0, why)));
  const standing = await onFleetTime(fleet, readRollout(operatorOf(fleet).aws, CLUSTER, fleet.clock));
  const { exceptions: stored, forgiven } = standing.progress;
  assert.is(forgiven, 150);
  assert.equal(sorted(stored.slice(0, 150)), sorted(exceptions.slice(0, 150)));
  assert.equal(sorted(stored), sorted(exceptions));
  assert.equal(standing.progress.there, there);
  assert.equal(await onFleetTime(fleet, standing.rollout()), JSON.parse(JSON.stringify(record.rollout)));
});

test('a record that was deleted or overwritten is reported as damaged, and a new rollout can begin', async () => {
  for (const harm of ['deleted', 'overwritten', 'plan']) {
    const fleet = createFleet({ zones: [3] });
    const record = await begun(fleet, 'first');
    const state = `/eniboot/rollout/${CLUSTER}/state`;
    const { aws } = operatorOf(fleet);
    if (harm === 'deleted') await onFleetTime(fleet, aws.deleteParameters([state]));
    if (harm === 'overwritten') {
      await onFleetTime(fleet, aws.deleteParameters([state]));
      fleet.scheduler.advance(30_000);
      fleet.ssm.put(state, 'scribble');
    }
    if (harm === 'deleted') {
      const saved = record.save(advanced(record.progress, fleet.scheduler.now())).then(() => 'saved', codeOf);
      assert.is(await onFleetTime(fleet, saved), 'ROLLOUT_DAMAGED');
    }
    if (harm === 'plan') {
      const plan = [...fleet.ssm.parameters.keys()].filter((name) => name.includes('/plan/'));
      await onFleetTime(fleet, aws.deleteParameters(plan));
    }
    fleet.scheduler.advance(LEASE_MS + 61_000);
    const taken = takeRecord(aws, fleet.clock, owner('heir-1'), CLUSTER).then(() => 'taken', codeOf);
    assert.is(await onFleetTime(fleet, taken), 'ROLLOUT_DAMAGED', harm);
    // The remedy of the failure says to delete the parameter.
    await onFleetTime(fleet, aws.deleteParameters([state]));
    assert.is((await begun(fleet, 'second')).progress.state, 'running');
  }
});

test('a rollout with many forgiven halts has to be rolled back before its record is full', async () => {
  const fleet = createFleet({ zones: [2_000] });
  const { rollout, progress } = await begun(fleet, 'stubborn');
  const failed = (count: number) =>
    Array.from({ length: count }, (_, node) => ({ zone: 0, node: node + 1, outcome: 'late' as const }));
  const why = (count: number) =>
    overBudget(rollout, { ...progress, exceptions: failed(count), forgiven: count });
  assert.is(why(700), undefined);
  assert.match(why(800) ?? '', /take it back/);
});

test.run();
