// Commands that look at a fleet without a rollout: exclusions, problems that `run` would refuse, downgrades, and the version of
// each node. Modelled nodes, virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isOlder } from '../../agent/aws/release.ts';
import { failureLines, failureObject } from '../../agent/cli/failure-text.ts';
import { Failure } from '../../agent/messages/failure.ts';
import { beginRollout, prepare, refusalsOf } from '../../agent/rollout/begin.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { planText } from '../../agent/rollout/plan-picture.ts';
import { type Progress, takenBack } from '../../agent/rollout/progress.ts';
import { takeRecord } from '../../agent/rollout/record.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { isAdrift, verifyFleet, verifyText } from '../../agent/rollout/verify.ts';
import type { ModelledNode } from '../aws/ssm/modelled-node.ts';
import { CLUSTER, createFleet, type Fleet, NEW, OLD, onFleetTime, operatorOf } from './fleet.ts';

const owner = { who: 'test', token: 'test' };
const specOf = (version = NEW, where = '', ...lines: string[]) =>
  loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${version} } }
where: { cluster: ${CLUSTER}${where} }
bake: { canarySeconds: 30, shareSeconds: 0, zoneSeconds: 60 }
${lines.join('\n')}
`,
  );

async function rollOut(fleet: Fleet, spec = specOf()): Promise<Progress> {
  const { aws, clock } = operatorOf(fleet);
  const work = async () => {
    const record = await beginRollout(aws, clock, owner, await prepare(aws, spec));
    return orchestrate({ aws, clock, record, tell: () => {}, stopped: new AbortController().signal });
  };
  return onFleetTime(fleet, work());
}

async function takeBack(fleet: Fleet): Promise<Progress> {
  const { aws, clock } = operatorOf(fleet);
  const work = async () => {
    const record = await takeRecord(aws, clock, owner, CLUSTER);
    await record.save(takenBack(record.rollout, record.progress, clock.now().getTime()));
    return orchestrate({ aws, clock, record, tell: () => {}, stopped: new AbortController().signal });
  };
  return onFleetTime(fleet, work());
}

const idOf = (fleet: Fleet, at: number) => fleet.nodes[at]?.instanceId ?? '';
const nodeOf = (fleet: Fleet, at: number) => {
  const node = fleet.nodes[at];
  if (node === undefined) throw new Error(`no node ${at}`);
  return node;
};
/** Makes the agent silent for so long that SSM shows it as lost. */
function away(node: ModelledNode): void {
  node.online = false;
  node.lastPingAt = -3600_000;
}
const verify = (fleet: Fleet) => {
  const { aws, clock } = operatorOf(fleet);
  return onFleetTime(fleet, verifyFleet(aws, clock, CLUSTER));
};

test('excluded instances are neither updated nor added later, by ID and by tag', async () => {
  const fleet = createFleet({ zones: [10, 10] });
  fleet.tagsOf.set(idOf(fleet, 12), { hold: 'yes' });
  fleet.tagsOf.set(idOf(fleet, 13), { hold: 'no' });
  fleet.scheduler.after(100_000, () => {
    fleet.tagsOf.set(fleet.launch(0).instanceId, { hold: 'yes' });
    fleet.launch(0);
  });
  const spec = specOf(NEW, `, exclude: { instances: [${idOf(fleet, 0)}], tags: { hold: 'yes' } }`);
  const { notes } = await onFleetTime(fleet, prepare(operatorOf(fleet).aws, spec));
  assert.equal(notes.excluded, [idOf(fleet, 0), idOf(fleet, 12)]);
  const progress = await rollOut(fleet, spec);
  assert.is(progress.state, 'done', progress.why);
  assert.equal(
    fleet.nodes.flatMap((node, at) => (node.version === OLD ? [at] : [])),
    [0, 12, 20],
  );
  const verified = await verify(fleet);
  assert.equal(verified.excluded.length, 3);
  assert.not(isAdrift(verified), verifyText(verified));
});

test('a plan names the problems that run would refuse, and their instances', async () => {
  const fleet = createFleet({ zones: [20] });
  const plan = async () => {
    const { aws, clock } = operatorOf(fleet);
    return onFleetTime(
      fleet,
      prepare(aws, specOf()).then((prepared) => refusalsOf(aws, clock, prepared)),
    );
  };
  assert.equal(await plan(), []);
  for (const at of [3, 4, 5]) away(nodeOf(fleet, at));
  const before = fleet.calls.filter((call) => call.mutating).length;
  const [refusal] = await plan();
  assert.is(fleet.calls.filter((call) => call.mutating).length, before);
  assert.ok(refusal instanceof Failure);
  assert.is(refusal.code, 'ROLLOUT_UNREACHABLE');
  assert.match(failureLines(failureObject(refusal)).join('\n'), new RegExp(`instances: .*${idOf(fleet, 4)}`));
  for (const at of [3, 4, 5]) nodeOf(fleet, at).online = true;
  nodeOf(fleet, 0).behaviour = 'goes-back';
  assert.is((await rollOut(fleet)).state, 'halted');
  assert.equal(
    (await plan()).map((one) => one.code),
    ['ROLLOUT_BUSY'],
  );
});

test("an older version is marked in the plan, by the parameter and by the nodes' reports", async () => {
  const fleet = createFleet({ zones: [4, 5, 6] });
  fleet.ssm.put('/eniboot/bundle/euw1-az1', JSON.stringify({ version: '1.10.0' }));
  fleet.ssm.put('/eniboot/bundle/euw1-az2', JSON.stringify({ version: OLD }));
  fleet.verdicts.set(idOf(fleet, 5), 'ready@1.2.0');
  const prepared = await onFleetTime(fleet, prepare(operatorOf(fleet).aws, specOf()));
  assert.equal(prepared.notes.downgrades, [
    { zoneId: 'euw1-az1', from: '1.10.0', nodes: 0 },
    { zoneId: 'euw1-az2', from: '1.2.0', nodes: 1 },
  ]);
  assert.match(planText(prepared), /^DOWNGRADE in euw1-az1: from 1\.10\.0/m);
});

for (const [version, than, newer] of [
  ['1.10.0', '1.9.0', true],
  ['1.9.0', '1.10.0', false],
  ['1.2.3', '1.2.3', false],
  ['2.0.0-rc1', '1.9.9', true],
  ['1.2.3-rc1', '1.2.3', false],
] as const)
  test(`${version} is ${newer ? '' : 'not '}newer than ${than}`, () => {
    assert.is(isOlder(than, version), newer);
  });

const drifts: [name: string, spoil: (fleet: Fleet) => void, drift: string, reason: RegExp][] = [
  ['another version', (fleet) => void (nodeOf(fleet, 2).version = OLD), 'version', /parameter names 1\.1\.0/],
  [
    'another archive of the version',
    (fleet) => void (nodeOf(fleet, 2).sha256 = 'b'.repeat(64)),
    'archive',
    /SHA-256 b+/,
  ],
  ['ill health', (fleet) => void (nodeOf(fleet, 2).healthy = false), 'unhealthy', /pods/],
  ['an agent away', (fleet) => away(nodeOf(fleet, 2)), 'unreachable', /./],
  ['no answer', (fleet) => void (nodeOf(fleet, 2).run = () => () => {}), 'silent', /./],
  [
    'a failed boot',
    (fleet) => {
      away(nodeOf(fleet, 2));
      fleet.verdicts.set(idOf(fleet, 2), 'failed:SUBNETS_FULL@1.1.0');
    },
    'failed',
    /SUBNETS_FULL/,
  ],
];
for (const [name, spoil, drift, reason] of drifts)
  test(`verify finds ${name}, and nothing else`, async () => {
    const fleet = createFleet({ zones: [4, 60] });
    await rollOut(fleet);
    const good = await verify(fleet);
    assert.not(isAdrift(good), verifyText(good));
    assert.equal(
      good.zones.map((zone) => zone.versions),
      [{ [NEW]: 4 }, { [NEW]: 60 }],
    );
    spoil(fleet);
    const verified = await verify(fleet);
    assert.ok(isAdrift(verified));
    const found = verified.nodes.filter((one) => one.drift !== undefined);
    assert.equal(
      found.map((one) => `${one.instanceId} ${one.drift}`),
      [`${idOf(fleet, 2)} ${drift}`],
    );
    assert.match(found[0]?.reason ?? '', reason);
    assert.match(verifyText(verified), new RegExp(`${drift}  ${idOf(fleet, 2)}`));
  });

test("verify finds a parameter that differs from the rollout's, and a rollout that has not ended", async () => {
  const fleet = createFleet({ zones: [4, 5] });
  await rollOut(fleet);
  fleet.ssm.put('/eniboot/bundle/euw1-az2', JSON.stringify({ version: OLD }));
  const verified = await verify(fleet);
  assert.match(verified.zones[1]?.drift ?? '', /\(done\) has left 1\.1\.0/);
  assert.is(verified.nodes.filter((one) => one.drift === 'version').length, 5);

  const halted = createFleet({ zones: [4, 5], behaviourOf: () => 'goes-back' });
  await rollOut(halted);
  assert.ok(isAdrift(await verify(halted)));
});

test('verify changes nothing on a node, and handles a cluster without a rollout', async () => {
  const fleet = createFleet({ zones: [4] });
  const verified = await verify(fleet);
  assert.not(isAdrift(verified), verifyText(verified));
  assert.is(verified.zones[0]?.named, undefined);
  assert.is(
    fleet.nodes.every((node) => node.runs === 0 && node.version === OLD),
    true,
  );
});

test('rollouts that fail without a promotion do not use up the versions of a parameter', async () => {
  const fleet = createFleet({ zones: [2] });
  await rollOut(fleet);
  fleet.publish('1.2.0');
  assert.is((await rollOut(fleet, specOf('1.2.0'))).state, 'done');
  assert.ok(fleet.ssm.parameters.get('/eniboot/bundle/euw1-az1')?.some((one) => one.labels.has('previous')));
  fleet.publish('1.3.0');
  for (let round = 0; round < 105; round += 1) {
    nodeOf(fleet, 0).behaviour = 'goes-back';
    assert.is((await rollOut(fleet, specOf('1.3.0'))).state, 'halted');
    assert.is((await takeBack(fleet)).state, 'rolled-back');
  }
  const versions = fleet.ssm.parameters.get('/eniboot/bundle/euw1-az1') ?? [];
  assert.ok(versions.at(-1)?.labels.has('stable'));
});

test.run();
