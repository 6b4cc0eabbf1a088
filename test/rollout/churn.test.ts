// A fleet that changes during a rollout or its rollback: EC2 ends instances, and an autoscaler launches instances. Modelled
// nodes, virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { type Progress, resumed, takenBack } from '../../agent/rollout/progress.ts';
import { readRollout, takeRecord } from '../../agent/rollout/record.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { summarise } from '../../agent/rollout/summary.ts';
import type { RolloutEvent } from '../../agent/rollout/work.ts';
import type { ModelledNode } from '../aws/ssm/modelled-node.ts';
import { CLUSTER, createFleet, type Fleet, NEW, OLD, onFleetTime, operatorOf } from './fleet.ts';

const owner = { who: 'test', token: 'test-token' };
const waits = 'bake: { canarySeconds: 60, shareSeconds: 60, zoneSeconds: 60 }';

/** `verb` is the command's; `more` are further lines of the spec. */
async function go(
  fleet: Fleet,
  verb: 'run' | 'resume' | 'rollback',
  { more = '', tell = () => {} }: { more?: string; tell?: (happening: RolloutEvent) => void } = {},
): Promise<Progress> {
  const { aws, clock } = operatorOf(fleet);
  const spec = loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\n${waits}\n${more}\n`,
  );
  const work = async () => {
    const record =
      verb === 'run'
        ? await beginRollout(aws, clock, owner, await prepare(aws, spec))
        : await takeRecord(aws, clock, owner, CLUSTER);
    const nowMs = clock.now().getTime();
    if (verb === 'resume') await record.save(resumed(record.progress, nowMs, true));
    if (verb === 'rollback') await record.save(takenBack(record.rollout, record.progress, nowMs));
    return orchestrate({ aws, clock, record, tell, stopped: new AbortController().signal });
  };
  return onFleetTime(fleet, work());
}

function end(fleet: Fleet, node: ModelledNode | undefined): void {
  if (node === undefined) throw new Error('no such node');
  node.online = false;
  fleet.terminated.add(node.instanceId);
}

const living = (fleet: Fleet, version: string) =>
  fleet.nodes.filter((node) => node.version === version && !fleet.terminated.has(node.instanceId));

async function summaryOf(fleet: Fleet) {
  const { aws, clock } = operatorOf(fleet);
  const standing = await onFleetTime(fleet, readRollout(aws, CLUSTER, clock));
  return summarise(await onFleetTime(fleet, standing.rollout()), standing.progress);
}

test('a fleet that loses more nodes than a record can name goes on to its end, and back', async () => {
  const fleet = createFleet({ zones: [1_500, 1_500] });
  fleet.scheduler.after(200_000, () => {
    for (const [at, node] of fleet.nodes.entries()) if (at % 3 === 1) end(fleet, node);
  });
  const done = await go(fleet, 'run');
  assert.is(done.state, 'done', done.why);
  assert.is(living(fleet, OLD).length, 0);
  const { nodes, updated, gone, failed, zones } = await summaryOf(fleet);
  assert.is(updated + gone + failed, nodes);
  assert.is(
    zones.reduce((sum, zone) => sum + zone.updated, 0),
    updated,
  );
  assert.ok(gone > 900, `${gone}`);
  fleet.scheduler.after(200_000, () => {
    for (const [at, node] of fleet.nodes.entries()) if (at % 3 === 2) end(fleet, node);
  });
  const back = await go(fleet, 'rollback');
  assert.is(back.state, 'rolled-back', back.why);
  assert.is(living(fleet, NEW).length, 0);
  const after = await summaryOf(fleet);
  assert.equal(
    after.zones.map((zone) => [zone.updated, zone.state]),
    [
      [0, 'restored'],
      [0, 'restored'],
    ],
  );
  const sizes = [...fleet.ssm.parameters.values()].flat().map(({ value }) => value.length);
  assert.ok(Math.max(...sizes) <= 4096, `${Math.max(...sizes)} characters`);
});

test('a rollout does not wait for instances that are booting when it begins, and they run the version at its end', async () => {
  const fleet = createFleet({ zones: [6, 6] });
  for (const zone of [0, 0, 1, 1, 1]) fleet.launch(zone, 200_000);
  const done = await go(fleet, 'run');
  assert.is(done.state, 'done', done.why);
  assert.is(living(fleet, NEW).length, 17);
});

test('a rollback also takes back nodes that came up on the withdrawn version meanwhile', async () => {
  for (const before of [undefined, JSON.stringify({ version: OLD })]) {
    const fleet = createFleet({ zones: [10, 10] });
    for (const zone of before === undefined ? [] : [1, 2])
      fleet.ssm.put(`/eniboot/bundle/euw1-az${zone}`, before ?? '');
    assert.is((await go(fleet, 'run')).state, 'done');
    // One is READY before the rollback begins, one during it; one has read its zone's parameter and is READY after its end.
    fleet.launch(0);
    fleet.launch(1, 90_000);
    fleet.launch(0, 280_000);
    fleet.launch(1, 280_000);
    const told: RolloutEvent[] = [];
    const { state, why, strays } = await go(fleet, 'rollback', { tell: (one) => void told.push(one) });
    assert.is(state, 'rolled-back', why);
    assert.equal([living(fleet, NEW).length, strays], [0, 0]);
    assert.ok(fleet.nodes.every((node) => node.switches.filter((version) => version === OLD).length <= 1));
    assert.is(
      (await summaryOf(fleet)).zones.reduce((sum, zone) => sum + zone.updated, 0),
      0,
    );
  }
});

test('a rollback names an instance that it does not reach, and leaves an instance whose zone wants the version', async () => {
  const fleet = createFleet({ zones: [10, 10] });
  // The second zone had the version before the rollout.
  fleet.ssm.put('/eniboot/bundle/euw1-az2', JSON.stringify({ version: NEW }));
  await go(fleet, 'run');
  const silent = fleet.launch(0);
  silent.online = false;
  silent.lastPingAt = 0;
  const wanted = fleet.launch(1);
  const told: RolloutEvent[] = [];
  const { state, strays } = await go(fleet, 'rollback', { tell: (one) => void told.push(one) });
  assert.is(state, 'rolled-back');
  assert.is(strays, 1);
  assert.equal(told.at(-1), { kind: 'ended', state: 'rolled-back', strays: [silent.instanceId] });
  assert.equal([wanted.version, wanted.runs], [NEW, 0]);
});

test('a rollback does not end while an instance that came up on the version has not gone back', async () => {
  const fleet = createFleet({ zones: [10, 10] });
  await go(fleet, 'run');
  const stuck = fleet.launch(1);
  stuck.behaviour = 'hangs';
  const halted = await go(fleet, 'rollback');
  assert.match(halted.why ?? '', /^1 nodes failed in euw1-az2, 0 may$/);
  const gonePast = await go(fleet, 'rollback');
  assert.match(gonePast.why ?? '', /^1 nodes could not be brought back/);
  // The second rollback asks only those, and instances that came up on the version since.
  stuck.behaviour = 'good';
  const other = fleet.launch(0);
  other.version = NEW;
  fleet.verdicts.set(other.instanceId, `ready@${NEW}`);
  other.previous = { version: OLD, sha256: undefined };
  const runs = new Map(fleet.nodes.map((node) => [node, node.runs]));
  const { state, why } = await go(fleet, 'rollback');
  assert.is(state, 'rolled-back', why);
  assert.is(living(fleet, NEW).length, 0);
  const asked = fleet.nodes.filter((node) => node.runs !== runs.get(node));
  assert.equal(asked, [stuck, other]);
});

test.run();
