// Canaries that stand for the fleet: modelled nodes of several CPUs, AMIs and instance generations, virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { planText } from '../../agent/rollout/plan-picture.ts';
import type { Progress } from '../../agent/rollout/progress.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
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

async function rollOut(fleet: Fleet, ...lines: string[]): Promise<Progress> {
  const { aws, clock } = operatorOf(fleet);
  const work = async () => {
    const record = await beginRollout(
      aws,
      clock,
      { who: 'test', token: 'test' },
      await prepare(aws, specOf(...lines)),
    );
    const stopped = new AbortController().signal;
    return orchestrate({ aws, clock, record, tell: () => {}, stopped });
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
    'of a CPU that is proven the others go together',
    ['x40y8z4a8b4'],
    [],
    ['x64 ami-00000001 m7i; arm64 ami-0000000a m7g; ami-00000002 | c5 | c7g'],
    [],
  ],
  [
    'a later zone has those that are not proven before',
    ['x40', 'x40a8z4'],
    [],
    ['x64 ami-00000001 m7i', 'arm64 ami-0000000a m7g; c5'],
    [],
  ],
  [
    'what only as many nodes have as may fail is not proven by their zone',
    ['x6y1a1', 'x40y2'],
    ['budget: { zonePercent: 20 }'],
    ['x64 ami-00000001 m7i; arm64 ami-0000000a m7g', 'ami-00000002'],
    ['ami-00000002 1'],
  ],
  [
    'what more nodes have than may fail is proven when their zone is done',
    ['x5y2a1', 'x40y2'],
    ['budget: { zonePercent: 20 }'],
    ['x64 ami-00000001 m7i; arm64 ami-0000000a m7g', ''],
    ['ami-00000002 2'],
  ],
  [
    'a small fleet does not become all canaries, and the plan says for what there is none',
    ['x2y1a1'],
    [],
    ['x64 ami-00000001 m7i'],
    ['ami-00000002 1', 'arm64 1', 'ami-0000000a 1', 'm7g 1'],
  ],
  ['more by number alone', ['x40'], ['steps: { canaries: 3 }'], ['x64 ami-00000001 m7i; - | -'], []],
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

test('the plan says what each canary stands for, and what has none', async () => {
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

test('a generation on which it fails stops at its canary, in a zone that has others proven', async () => {
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

test('agents that do not answer halt it by their own budget, also while no node has failed', async () => {
  const fleet = fleetOf(['x20', 'x20']);
  // Shown as Online when it begins; they do not take up what is sent.
  fleet.scheduler.after(20_000, () => {
    for (const node of fleet.nodes.slice(10, 16)) node.online = false;
  });
  const progress = await rollOut(fleet);
  assert.is(progress.state, 'halted');
  assert.match(progress.why ?? '', /the SSM agents of \d+ nodes in euw1-az1 do not answer, 2 may/);
});

test.run();
