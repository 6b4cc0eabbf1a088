// Canaries for each stratum: modelled nodes of several CPUs, AMIs and instance generations, virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { planText } from '../../agent/rollout/plan-picture.ts';
import type { Progress } from '../../agent/rollout/progress.ts';
import { readRollout } from '../../agent/rollout/record.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import type { RolloutEvent } from '../../agent/rollout/work.ts';
import { CLUSTER, createFleet, type Fleet, NEW, OLD, onFleetTime, operatorOf } from './fleet.ts';

const specOf = (...lines: string[]) =>
  loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${NEW} } }
where: { cluster: ${CLUSTER} }
bake: { canarySeconds: 30, shareSeconds: 0, zoneSeconds: 60 }
${lines.join('\n')}
`,
  );

/** A node's letters: its CPU, AMI and instance type. */
const KINDS: Record<string, [arch: string, image: string, type: string]> = {
  x: ['x86_64', 'ami-00000001', 'm7i.large'],
  y: ['x86_64', 'ami-00000002', 'm7i.large'],
  z: ['x86_64', 'ami-00000001', 'c5.large'],
  a: ['arm64', 'ami-0000000a', 'm7g.large'],
  b: ['arm64', 'ami-0000000a', 'c7g.xlarge'],
};

/** Zones by letter and number of nodes: `x100a10`. `bad`: the letters whose nodes go back. */
function fleetOf(zones: string[], bad = ''): Fleet {
  const kinds = zones.map((zone) =>
    [...zone.matchAll(/([a-z])(\d+)/g)].flatMap(([, kind = '', count]) =>
      Array.from({ length: Number(count) }, () => kind),
    ),
  );
  const fleet = createFleet({
    zones: kinds.map((zone) => zone.length),
    behaviourOf: (node, zone) => (bad.includes(kinds[zone]?.[node] ?? '-') ? 'goes-back' : 'good'),
  });
  for (const [at, kind] of kinds.flat().entries()) {
    const id = fleet.nodes[at]?.instanceId ?? '';
    const [arch, image, type] = KINDS[kind] ?? ['', '', ''];
    fleet.cpuOf.set(id, arch);
    fleet.imageOf.set(id, image);
    fleet.typeOf.set(id, type);
  }
  const archive = (cpu: string) => ({ url: `https://bundles.example/${cpu}.tar.gz`, sha256: 'a'.repeat(64) });
  fleet.ssm.put(
    `/eniboot/releases/${NEW}`,
    JSON.stringify({ version: NEW, x64: archive('x64'), arm64: archive('arm64') }),
  );
  return fleet;
}

async function planOf(fleet: Fleet, ...lines: string[]) {
  return onFleetTime(fleet, prepare(operatorOf(fleet).aws, specOf(...lines)));
}

async function rollOut(
  fleet: Fleet,
  { lines = [], tell = () => {} }: { lines?: string[]; tell?: (happening: RolloutEvent) => void } = {},
): Promise<Progress> {
  const { aws, clock } = operatorOf(fleet);
  const work = async () => {
    const record = await beginRollout(
      aws,
      clock,
      { who: 'test', token: 'test' },
      await prepare(aws, specOf(...lines)),
    );
    const stopped = new AbortController().signal;
    const progress = await orchestrate({ aws, clock, record, tell, stopped });
    // A process that goes on from the record gets the same zones as this process.
    const standing = await readRollout(aws, CLUSTER, clock);
    const recorded = JSON.stringify((await standing.rollout()).zones);
    assert.is(recorded, JSON.stringify(record.rollout.zones));
    return progress;
  };
  return onFleetTime(fleet, work());
}

const touched = (fleet: Fleet) => fleet.nodes.filter((node) => node.runs > 0).length;

// Zones, spec lines, and the canaries of each zone as batches (`x64 ami-00000001 m7i | arm64 …`; `;` between batches).
const plans: [name: string, zones: string[], lines: string[], canaries: string[], uncovered: string[]][] = [
  ['one kind has one canary', ['x40', 'x60'], [], ['x64 ami-00000001 m7i', ''], []],
  [
    'each CPU has its own, one after the other',
    ['x40a8'],
    [],
    ['x64 ami-00000001 m7i; arm64 ami-0000000a m7g'],
    [],
  ],
  [
    'further strata of a proven CPU go together',
    ['x40y8z4a8b4'],
    [],
    ['x64 ami-00000001 m7i; arm64 ami-0000000a m7g; ami-00000002 | c5 | c7g'],
    [],
  ],
  [
    'a later zone has canaries for strata that are not proven yet',
    ['x40', 'x40a8z4'],
    [],
    ['x64 ami-00000001 m7i', 'arm64 ami-0000000a m7g; c5'],
    [],
  ],
  [
    'a stratum with no more nodes than may fail is not proven by its zone',
    ['x6y1a1', 'x40y2'],
    ['budget: { zonePercent: 20 }'],
    ['x64 ami-00000001 m7i; arm64 ami-0000000a m7g', 'ami-00000002'],
    ['ami-00000002 1'],
  ],
  [
    'a stratum with more nodes than may fail is proven when its zone is done',
    ['x5y2a1', 'x40y2'],
    ['budget: { zonePercent: 20 }'],
    ['x64 ami-00000001 m7i; arm64 ami-0000000a m7g', ''],
    ['ami-00000002 2'],
  ],
  [
    'a small fleet does not become all canaries, and the plan names strata without one',
    ['x2y1a1'],
    [],
    ['x64 ami-00000001 m7i'],
    ['ami-00000002 1', 'arm64 1', 'ami-0000000a 1', 'm7g 1'],
  ],
  ['more canaries by number alone', ['x40'], ['steps: { canaries: 3 }'], ['x64 ami-00000001 m7i; - | -'], []],
  ['without strata', ['x40a8', 'x40a9'], ['steps: { stratify: false, canaries: 2 }'], ['-; -', ''], []],
];
for (const [name, zones, lines, expected, uncovered] of plans)
  test(`canaries: ${name}`, async () => {
    const { zones: planned, notes } = await planOf(fleetOf(zones), ...lines);
    const shown = planned.map(({ zoneId, nodes, canaries }) => {
      const own = notes.canaries.filter((one) => one.zoneId === zoneId);
      assert.equal(
        own.map((one) => one.instanceId),
        nodes.slice(0, own.length),
      );
      let at = 0;
      return canaries
        .map((count) => {
          at += count;
          return own
            .slice(at - count, at)
            .map((one) => one.standsFor.join(' ') || '-')
            .join(' | ');
        })
        .join('; ');
    });
    assert.equal(shown, expected);
    assert.equal(
      notes.uncovered.map((one) => `${one.stratum} ${one.nodes}`),
      uncovered,
    );
  });

test("the plan names each canary's stratum, and strata without a canary", async () => {
  const text = planText(await planOf(fleetOf(['x2y1a1'])));
  assert.match(text, /^canary i-\S+ in euw1-az1 stands for x64, ami-00000001, m7i$/m);
  assert.match(text, /^no canary in euw1-az1 stands for arm64, which 1 of its nodes has$/m);
});

test('a bad arm64 archive behind an x64 canary fails one node, in its own zone and in a later one', async () => {
  for (const zones of [['x250a250'], ['x100', 'x250a250']]) {
    const fleet = fleetOf(zones, 'ab');
    const progress = await rollOut(fleet);
    assert.is(progress.state, 'halted');
    assert.match(progress.why ?? '', new RegExp(`the canary failed in euw1-az${zones.length}`));
    assert.is(progress.exceptions.length, 1);
    assert.is(touched(fleet), zones.length === 1 ? 2 : 101);
  }
});

test('a version that fails on one instance generation stops at its canary, in a zone with proven strata', async () => {
  const fleet = fleetOf(['x100', 'x100y50z50'], 'z');
  const progress = await rollOut(fleet);
  assert.is(progress.state, 'halted');
  assert.is(progress.exceptions.length, 1);
  assert.is(touched(fleet), 102);
});

test('a mixed fleet is rolled out to its end', async () => {
  const fleet = fleetOf(['x20a5', 'y20b8', 'z3']);
  const progress = await rollOut(fleet);
  assert.is(progress.state, 'done', progress.why);
  assert.is(fleet.nodes.filter((node) => node.version === OLD).length, 0);
});

/** EC2 ends the first living node of this CPU that runs this version. */
function endNode(fleet: Fleet, cpu: string, version: string): void {
  const node = fleet.nodes.find(
    (one) =>
      fleet.cpuOf.get(one.instanceId) === cpu &&
      one.version === version &&
      !fleet.terminated.has(one.instanceId),
  );
  assert.ok(node, `a node of ${cpu} that runs ${version}`);
  node.online = false;
  fleet.terminated.add(node.instanceId);
}

/** The nodes of each command, as letters of their CPUs. */
const sent = (fleet: Fleet) =>
  fleet.calls
    .filter((call) => call.action === 'SendCommand')
    .map((call) => call.request as { Targets: { Values: string[] }[]; Parameters: { action: string[] } })
    .filter(({ Parameters }) => Parameters.action[0] === 'update')
    .map(({ Targets }) =>
      (Targets[0]?.Values ?? []).map((id) => (fleet.cpuOf.get(id) === 'arm64' ? 'a' : 'x')).join(''),
    );

test('a later canary that is gone before it is asked is replaced by one of its own stratum, which goes alone', async () => {
  for (const [bad, zones] of [
    ['', ['x30a10']],
    ['a', ['x30a10']],
    ['a', ['x10', 'x30a10']],
  ] as const) {
    const fleet = fleetOf([...zones], bad);
    let ended = false;
    const progress = await rollOut(fleet, {
      tell: (one) => {
        // The arm64 canary ends while the x64 canary is at work, or during the zone before.
        if (one.kind === 'sent' && !ended) endNode(fleet, 'arm64', OLD);
        ended ||= one.kind === 'sent';
      },
    });
    assert.is(progress.state, bad === '' ? 'done' : 'halted', progress.why);
    const withArm = sent(fleet).filter((nodes) => nodes.includes('a'));
    assert.is(withArm[0], 'a', sent(fleet).join(' '));
    if (bad === '') continue;
    assert.is(withArm.length, 1, 'no other arm64 node was asked');
    assert.match(progress.why ?? '', /the canary failed/);
  }
});

test('a later canary that is gone by its gate is replaced, and the wait and its gate follow once more', async () => {
  const fleet = fleetOf(['x30a10']);
  const steps: string[] = [];
  let ended = false;
  const progress = await rollOut(fleet, {
    tell: (one) => {
      if (one.kind !== 'step') return;
      steps.push(one.step.do === 'update' ? one.step.kind : one.step.do);
      if (one.step.do === 'bake' && !ended) endNode(fleet, 'arm64', NEW);
      ended ||= one.step.do === 'bake';
    },
  });
  assert.is(progress.state, 'done', progress.why);
  assert.equal(steps.slice(0, 7), ['canary', 'canary', 'bake', 'gate', 'canary', 'bake', 'gate']);
  assert.equal(sent(fleet).slice(0, 3), ['x', 'a', 'a']);
  assert.is(progress.updated + progress.exceptions.length, 40);
  assert.is(fleet.nodes.filter((node) => node.version === OLD && node.online).length, 0);
});

test('a canary that EC2 ends before its gate reaches it is gone, and has not failed', async () => {
  const fleet = fleetOf(['x12']);
  let gates = 0;
  let asked = false;
  const progress = await rollOut(fleet, {
    tell: (one) => {
      if (one.kind === 'step') asked = one.step.do === 'gate';
      if (one.kind === 'sent' && asked && gates++ === 0) endNode(fleet, 'x86_64', NEW);
    },
  });
  assert.is(progress.state, 'done', progress.why);
  assert.equal(sent(fleet).slice(0, 2), ['x', 'x']);
  assert.equal(
    progress.exceptions.map((one) => one.outcome),
    ['gone'],
  );
});

test('two canaries of one stratum that are gone in a row halt; without another node of the stratum the rollout goes on', async () => {
  const twice = fleetOf(['x30a10']);
  let bakes = 0;
  const progress = await rollOut(twice, {
    tell: (one) => {
      if (one.kind === 'step' && one.step.do === 'bake' && bakes++ < 2) endNode(twice, 'arm64', NEW);
    },
  });
  assert.is(progress.state, 'halted');
  assert.match(progress.why ?? '', /2 canaries in a row that stand for arm64, .* in euw1-az1 are gone/);
  assert.equal(sent(twice), ['x', 'a', 'a']);

  const none = fleetOf(['x30a1']);
  none.scheduler.after(20_000, () => endNode(none, 'arm64', OLD));
  const alone = await rollOut(none);
  assert.is(alone.state, 'done', alone.why);
  assert.is(alone.updated, 30);
  assert.is(alone.standIns, undefined, 'a node of another stratum does not stand in');
});

test('agents that do not answer halt by a budget of their own, also while no node has failed', async () => {
  const fleet = fleetOf(['x20', 'x20']);
  // Shown as Online when the rollout begins; afterwards they do not run commands.
  fleet.scheduler.after(20_000, () => {
    for (const node of fleet.nodes.slice(10, 16)) node.online = false;
  });
  const progress = await rollOut(fleet);
  assert.is(progress.state, 'halted');
  assert.match(progress.why ?? '', /the SSM agents of \d+ nodes in euw1-az1 do not answer, 2 may/);
});

test.run();
