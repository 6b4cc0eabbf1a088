// What a rollout says of its nodes at its end is so, whatever they and Run Command answered. Modelled nodes, virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { type Progress, resumed, takenBack } from '../../agent/rollout/progress.ts';
import { takeRecord } from '../../agent/rollout/record.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import type { ModelledNode } from '../aws/ssm/modelled-node.ts';
import { CLUSTER, createFleet, type Fleet, NEW, OLD, onFleetTime, operatorOf } from './fleet.ts';

const owner = { who: 'test', token: 'test-token' };
const WAITS = 'bake: { canarySeconds: 60, shareSeconds: 60, zoneSeconds: 300 }';

/** `verb` is the command's; `more` are further lines of the spec. */
async function go(fleet: Fleet, verb: 'run' | 'rollback' | 'forgive', more = WAITS): Promise<Progress> {
  const { aws, clock } = operatorOf(fleet);
  const spec = loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${NEW} } }\nwhere: { cluster: ${CLUSTER} }\n${more}\n`,
  );
  const work = async () => {
    const record =
      verb === 'run'
        ? await beginRollout(aws, clock, owner, await prepare(aws, spec))
        : await takeRecord(aws, clock, owner, CLUSTER);
    const nowMs = clock.now().getTime();
    if (verb !== 'run') fleet.ssm.put(`/eniboot/rollout/${CLUSTER}/halt`, '{"halted":false}');
    if (verb === 'forgive') await record.save(resumed(record.progress, nowMs, true));
    if (verb === 'rollback') await record.save(takenBack(record.rollout, record.progress, nowMs));
    return orchestrate({ aws, clock, record, tell: () => {}, stopped: new AbortController().signal });
  };
  return onFleetTime(fleet, work());
}

const at = (fleet: Fleet, place: number) => fleet.nodes[place] ?? (assert.unreachable() as never);
const running = (fleet: Fleet, version: string) =>
  fleet.nodes.filter((node) => node.version === version).map((node) => node.instanceId);

/** As a boot without a pin: the node comes up on the version that its zone's parameter names. */
function reboot(fleet: Fleet, node: ModelledNode, zone: number): void {
  const said = fleet.ssm.parameters.get(`/eniboot/bundle/euw1-az${zone + 1}`)?.at(-1)?.value;
  const { version } = JSON.parse(said ?? '{}') as { version: string };
  if (version !== node.version) {
    node.previous = { version: node.version, sha256: node.sha256 };
    Object.assign(node, { version, sha256: 'a'.repeat(64) });
  }
  node.online = true;
  fleet.verdicts.set(node.instanceId, `ready@${version}`);
}

for (const [how, behaviour, behindMs] of [
  ['unreachable, reboots in the wait of its zone', 'good', 100_000],
  ['unreachable, reboots when its zone is done', 'good', 400_000],
  ['went back, reboots when its zone names the version', 'goes-back', 400_000],
] as const)
  test(`a rollback takes back a node that it has not touched and that booted on the version: ${how}`, async () => {
    const fleet = createFleet({ zones: [10, 20] });
    for (const { instanceId } of fleet.nodes) fleet.verdicts.set(instanceId, `ready@${OLD}`);
    for (const zone of [1, 2])
      fleet.ssm.put(`/eniboot/bundle/euw1-az${zone}`, JSON.stringify({ version: OLD }));
    const node = at(fleet, 7);
    node.behaviour = behaviour;
    node.online = behaviour !== 'good';
    const watch = () => {
      const said = fleet.ssm.parameters.get('/eniboot/bundle/euw1-az1')?.at(-1)?.value ?? '';
      if (said.includes(NEW)) fleet.scheduler.after(behindMs, () => reboot(fleet, node, 0));
      else fleet.scheduler.after(1_000, watch);
    };
    watch();
    const done = await go(fleet, 'run', `${WAITS}\nbudget: { zonePercent: 10, fleetPercent: 10 }`);
    assert.equal([done.state, node.version], ['done', NEW]);
    const { state, strays } = await go(fleet, 'rollback');
    assert.equal([state, strays, running(fleet, NEW)], ['rolled-back', 0, []]);
  });

test('a rollback goes through a fleet in which no SSM agent answers any more, and again when they answer', async () => {
  const more =
    'steps: { concurrency: 200, zonePercent: 100 }\nbake: { canarySeconds: 0, shareSeconds: 0, zoneSeconds: 0 }';
  const fleet = createFleet({ zones: [1_600, 1_600] });
  assert.is((await go(fleet, 'run', more)).state, 'done');
  for (const node of fleet.nodes) node.online = false;
  assert.match((await go(fleet, 'rollback', more)).why ?? '', /^3200 nodes could not be brought back/);
  for (const node of fleet.nodes) node.online = true;
  assert.equal([(await go(fleet, 'rollback', more)).state, running(fleet, NEW)], ['rolled-back', []]);
});

test('a node that reports the halt flag and runs the new version is taken back', async () => {
  const fleet = createFleet({ zones: [10, 10] });
  const node = at(fleet, 4);
  const run = node.run.bind(node);
  // The node has switched; before its report is sent, its agent is started again, and runs the document again.
  node.run = (script, ended) =>
    run(script, (result) => {
      if (!script.includes('--action update')) return ended(result);
      fleet.ssm.put(`/eniboot/rollout/${CLUSTER}/halt`, '{"halted":true,"why":"drill"}');
      fleet.scheduler.after(5_000, () => run(script, ended));
    });
  const { state, exceptions } = await go(fleet, 'run');
  assert.equal([state, exceptions.map((one) => one.outcome)], ['halted', ['failed']]);
  assert.is((await go(fleet, 'rollback')).state, 'rolled-back');
  assert.equal(running(fleet, NEW), []);
});

test('a node that reports a halt flag which is down does not keep the others on the version', async () => {
  const fleet = createFleet({ zones: [10, 10] });
  assert.is((await go(fleet, 'run')).state, 'done');
  const node = at(fleet, 15);
  node.run = (_, ended) => {
    const report = { eniboot: 'update', schema: 1, node: node.instanceId, result: 'untouched', version: NEW };
    const rest = { healthy: true, failing: [], warnings: 0, code: 'UPDATE_HALTED', message: 'no' };
    return fleet.scheduler.after(1_000, () =>
      ended({ exitCode: 1, stdout: `${JSON.stringify({ ...report, ...rest })}\n`, stderr: '' }),
    );
  };
  const whys: (string | undefined)[] = [];
  for (let again = 0; again < 3; again += 1) whys.push((await go(fleet, 'rollback')).why);
  assert.match(whys.at(-1) ?? '', /^1 nodes could not be brought back/);
  assert.equal(running(fleet, NEW), [node.instanceId]);
  assert.is((await go(fleet, 'forgive')).state, 'rolled-back');
});

test('an invocation that is listed late is not taken for one that never was', async () => {
  const fleet = createFleet({ zones: [10, 10], updateMs: () => 15_000 });
  fleet.ssm.latency.invocationMs = 60_000;
  const done = await go(fleet, 'run');
  assert.equal([done.state, done.exceptions], ['done', []]);
  fleet.ssm.latency.invocationMs = 1e9;
  const halted = await go(fleet, 'rollback');
  assert.is(halted.state, 'halted');
  assert.is(halted.back?.exceptions[0]?.outcome, 'late');
});

test('a canary that does not answer is replaced: the nodes that it stands for do not go without one', async () => {
  for (const lastPingAt of [undefined, 0]) {
    const fleet = createFleet({ zones: [40, 200] });
    const archive = (sha256: string) => ({ url: 'https://bundles.example/a.tar.gz', sha256 });
    const release = { version: NEW, x64: archive('a'.repeat(64)), arm64: archive('b'.repeat(64)) };
    fleet.ssm.put(`/eniboot/releases/${NEW}`, JSON.stringify(release));
    const second = fleet.nodes.slice(40);
    for (const node of second) {
      fleet.cpuOf.set(node.instanceId, 'arm64');
      node.behaviour = 'goes-back';
    }
    fleet.scheduler.after(30_000, () => {
      const canary = at(fleet, 40);
      canary.online = false;
      canary.lastPingAt = lastPingAt ?? canary.lastPingAt;
    });
    const { why } = await go(fleet, 'run', `${WAITS}\nsteps: { zonePercent: 100 }`);
    assert.is(why, 'the canary failed in euw1-az2');
    assert.is(second.filter((node) => node.switches.length > 0).length, 1);
  }
});

test.run();
