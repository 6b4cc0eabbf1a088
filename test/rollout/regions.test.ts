// time limit: 300 s
// A version in several Regions: modelled fleets that share one virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FleetAws } from '../../agent/aws/fleet.ts';
import { silenceOf } from '../../agent/cli/operator.ts';
import type { ConfigProblem } from '../../agent/config/problem.ts';
import { Failure, isFailure } from '../../agent/messages/failure.ts';
import { raiseHaltFlag, readHaltFlag } from '../../agent/rollout/halt.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { LEASE_MS, readRollout } from '../../agent/rollout/record.ts';
import {
  abandonAll,
  findBegun,
  type List,
  type Part,
  planAll,
  resume,
  run,
  type Site,
  takeBack,
} from '../../agent/rollout/regions.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { loadSpecs } from '../../agent/rollout/spec-list.ts';
import { virtualScheduler } from '../aws/ec2/scheduler.ts';
import type { Behaviour, ModelledNode } from '../aws/ssm/modelled-node.ts';
import { CLUSTER, createFleet, type Fleet, NEW, OLD, onFleetTime, operatorsOf } from './fleet.ts';

const none = (): never => {
  throw new Error('there is no such Region');
};
const REGIONS = ['eu-west-1', 'us-east-1', 'ap-south-1'];
const ON = { forgive: false, from: new Map() };

/** Makes so many Regions, with two zones of nodes each. `behaviours`: of the nodes in a Region's first zone, in order. */
function fleetsOf(count: number, behaviours: Record<number, Behaviour[]> = {}): Fleet[] {
  const scheduler = virtualScheduler();
  return Array.from({ length: count }, (_, at) =>
    createFleet({
      zones: [4, 6],
      scheduler,
      behaviourOf: (node, zone) => (zone === 0 ? behaviours[at]?.[node] : undefined) ?? 'good',
    }),
  );
}

const specIn = (region: string, version = NEW) =>
  loadSpec(
    `${region}.yaml`,
    `what: { bundle: { version: ${version} } }
where: { cluster: ${CLUSTER}, region: ${region} }
bake: { canarySeconds: 30, shareSeconds: 30, zoneSeconds: 60 }
budget: { zonePercent: 20, fleetPercent: 20 }
`,
  );

let operators = 0;

/** The list, run by one operator. `changes`: what happens beside it. */
function listOf(fleets: Fleet[], changes: Partial<List> & { version?: string } = {}): List {
  operators += 1;
  const reached = operatorsOf(fleets);
  const { version, ...others } = changes;
  return {
    sites: fleets.map((_, at): Site => {
      const region = REGIONS[at] ?? '';
      const { aws, clock } = reached[at] ?? none();
      return { region, cluster: CLUSTER, spec: specIn(region, version), aws, clock };
    }),
    owner: { who: `operator ${operators}`, token: `token-${operators}` },
    stopped: new AbortController().signal,
    carry: ({ aws, clock }, record, haltFor) =>
      orchestrate({
        aws,
        clock,
        record,
        tell: () => {},
        stopped: others.stopped ?? new AbortController().signal,
        ...(haltFor === undefined ? {} : { haltFor }),
      }),
    ...others,
  };
}

const on = async <T>(fleets: Fleet[], work: Promise<T>): Promise<T> => onFleetTime(fleets[0] ?? none(), work);
const states = (parts: readonly Part[]) => parts.map((part) => part.state);
const commands = (fleet: Fleet) =>
  fleet.calls.filter((call) => call.action === 'SendCommand' && call.accepted).map((call) => call.at);
const versions = (fleet: Fleet) => [...new Set(fleet.nodes.map((node) => node.version))];
const changed = (fleet: Fleet) => fleet.calls.filter((call) => call.mutating && call.accepted);

async function failureOf(work: Promise<unknown>): Promise<Failure> {
  try {
    await work;
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error('the work did not fail');
}

/** The calls of the process that works there, with `act` run right before a call. */
function before(aws: FleetAws, method: keyof FleetAws, name: string, act: () => Promise<unknown>): FleetAws {
  let acted = false;
  return {
    ...aws,
    [method]: async (...args: unknown[]) => {
      if (!acted && args[0] === name) {
        acted = true;
        await act();
      }
      return (aws[method] as (...all: unknown[]) => Promise<unknown>)(...args);
    },
  };
}

const STATE = `/eniboot/rollout/${CLUSTER}/state`;

test('Regions follow each other: the next begins when the Region before is done', async () => {
  const fleets = fleetsOf(3);
  const parts = await on(fleets, run(listOf(fleets)));
  assert.equal(states(parts), ['done', 'done', 'done']);
  for (const [at, fleet] of fleets.entries()) {
    assert.equal(versions(fleet), [NEW]);
    const next = fleets[at + 1];
    if (next !== undefined) assert.ok(Math.max(...commands(fleet)) < Math.min(...commands(next)));
  }
});

function lose(node: ModelledNode): void {
  node.online = false;
  // The last ping is long ago, or the node would still be shown as Online.
  node.lastPingAt = 0;
}

const refusals: [name: string, code: string, says: RegExp, (third: Fleet) => unknown][] = [
  [
    'the version is not published there',
    'RELEASE_UNKNOWN',
    /^in ap-south-1: version 1\.1\.0 is not published/,
    (third) => third.ssm.parameters.delete(`/eniboot/releases/${NEW}`),
  ],
  [
    'another archive is published there under that version',
    'RELEASE_DIFFERS',
    /^in ap-south-1: the x64 archive of 1\.1\.0 has SHA-256 b+ here, and a+ in the first Region/,
    (third) => third.publish(NEW, 'b'.repeat(64)),
  ],
  [
    'more nodes are unreachable than may be',
    'ROLLOUT_UNREACHABLE',
    /^in ap-south-1: 4 nodes in euw1-az1 are unreachable/,
    (third) => {
      for (const node of third.nodes.slice(0, 4)) lose(node);
    },
  ],
  [
    'the Region has no node',
    'ROLLOUT_NO_TARGETS',
    /^in ap-south-1: no running instance/,
    (third) => {
      for (const node of third.nodes) third.terminated.add(node.instanceId);
    },
  ],
];
for (const [name, code, says, prepareThird] of refusals)
  test(`nothing begins in any Region when the third would be refused: ${name}`, async () => {
    const fleets = fleetsOf(3);
    const [, , third = none()] = fleets;
    prepareThird(third);
    const failure = await on(fleets, failureOf(run(listOf(fleets))));
    assert.is(failure.code, code);
    assert.match(failure.message, says);
    for (const fleet of fleets) assert.equal(changed(fleet), []);
  });

test('a Region in which another version is under way refuses the whole list', async () => {
  const fleets = fleetsOf(2, { 1: ['goes-back'] });
  const [, second = none()] = fleets;
  second.publish('1.0.5');
  const alone = listOf(fleets, { version: '1.0.5' });
  const parts = await on(fleets, run({ ...alone, sites: alone.sites.slice(1) }));
  assert.equal(states(parts), ['halted']);
  const failure = await on(fleets, failureOf(run(listOf(fleets))));
  assert.is(failure.code, 'ROLLOUT_BUSY');
  assert.match(failure.message, /^in us-east-1: rollout .* it is halted/);
  assert.equal(changed(fleets[0] ?? none()), []);
});

test('another archive that is published under the version during the first Region stops the next', async () => {
  const fleets = fleetsOf(2);
  const list = listOf(fleets);
  const failure = await on(
    fleets,
    failureOf(
      run({
        ...list,
        carry: async (site, record) => {
          fleets[1]?.publish(NEW, 'c'.repeat(64));
          return list.carry(site, record);
        },
      }),
    ),
  );
  assert.is(failure.code, 'RELEASE_DIFFERS');
  assert.match(failure.message, /^in us-east-1: .*; not begun: us-east-1$/);
});

test('a halt in one Region keeps the next from beginning, and a resume goes on from there', async () => {
  const fleets = fleetsOf(3, { 1: ['goes-back'] });
  const parts = await on(fleets, run(listOf(fleets)));
  assert.equal(states(parts), ['done', 'halted', 'not-begun']);
  assert.match(parts[1]?.why ?? '', /canary failed/);
  assert.equal(commands(fleets[2] ?? none()), []);
  const stuck = await on(fleets, failureOf(resume(listOf(fleets), ON)));
  assert.is(stuck.code, 'ROLLOUT_HALTED');
  assert.match(stuck.message, /^in us-east-1: it would halt again at once: .*; not begun: ap-south-1$/);
  const ids = async () =>
    Promise.all(listOf(fleets).sites.map(async (site) => (await findBegun(site))?.rollout.id));
  const [first, second] = await on(fleets, ids());
  const on1 = commands(fleets[0] ?? none()).length;
  const resumedParts = await on(fleets, resume(listOf(fleets), { ...ON, forgive: true }));
  assert.equal(states(resumedParts), ['done', 'done', 'done']);
  assert.equal((await on(fleets, ids())).slice(0, 2), [first, second]);
  // Nodes of a Region that is done are not asked again.
  assert.is(commands(fleets[0] ?? none()).length, on1);
});

test('a halt in a Region that is done keeps the next from beginning, until a resume', async () => {
  const fleets = fleetsOf(2);
  const list = listOf(fleets);
  const halting: List = {
    ...list,
    carry: async (site, record) => {
      const progress = await list.carry(site, record);
      await raiseHaltFlag(site.aws, CLUSTER, 'drill');
      return progress;
    },
  };
  const failure = await on(fleets, failureOf(run(halting)));
  assert.is(failure.code, 'ROLLOUT_HALTED');
  assert.match(
    failure.message,
    /^in us-east-1: modelled was halted in eu-west-1: drill; not begun: us-east-1$/,
  );
  assert.equal(changed(fleets[1] ?? none()), []);
  assert.equal(states(await on(fleets, resume(listOf(fleets), ON))), ['done', 'done']);
});

test('a halt flag that is raised in a Region before it begins halts it before its first node', async () => {
  const fleets = fleetsOf(2);
  const list = listOf(fleets);
  const [, site = none()] = list.sites;
  await on(fleets, raiseHaltFlag(site.aws, CLUSTER, 'drill'));
  const parts = await on(fleets, run(list));
  assert.equal(states(parts), ['done', 'halted']);
  assert.equal(commands(fleets[1] ?? none()), []);
});

test('an operator that is stopped in one Region begins no other', async () => {
  for (const when of ['under way', 'done']) {
    const fleets = fleetsOf(2);
    const stop = new AbortController();
    const list = listOf(fleets, { stopped: stop.signal });
    const parts = await on(
      fleets,
      run({
        ...list,
        carry: async (site, record) => {
          if (when === 'under way') fleets[0]?.scheduler.after(40_000, () => stop.abort());
          const progress = await list.carry(site, record);
          stop.abort();
          return progress;
        },
      }),
    );
    assert.equal(states(parts), [when === 'done' ? 'done' : 'running', 'not-begun']);
    assert.equal(changed(fleets[1] ?? none()), []);
    assert.equal(states(await on(fleets, resume(listOf(fleets), ON))), ['done', 'done']);
  }
});

test('a lease that is lost in one Region keeps the next from beginning', async () => {
  const fleets = fleetsOf(2);
  const list = listOf(fleets);
  const heir = listOf(fleets);
  const work = run(list);
  fleets[0]?.scheduler.after(60_000, () => {
    const [site = none()] = heir.sites;
    const from = new Map([[site, list.owner.token]]);
    void resume({ ...heir, sites: [site] }, { forgive: false, from });
  });
  const failure = await on(fleets, failureOf(work));
  assert.is(failure.code, 'ROLLOUT_LEASE_LOST');
  assert.match(failure.message, /; not begun: us-east-1$/);
  assert.equal(changed(fleets[1] ?? none()), []);
});

test('a resume refuses another order, a list that was rolled back, and a list that never began', async () => {
  const fleets = fleetsOf(2, { 1: ['goes-back'] });
  assert.is((await on(fleets, failureOf(resume(listOf(fleets), ON)))).code, 'ROLLOUT_NONE');
  const alone = listOf(fleets);
  await on(fleets, run({ ...alone, sites: alone.sites.slice(1) }));
  const mixed = await on(fleets, failureOf(resume(listOf(fleets), ON)));
  assert.is(mixed.code, 'USAGE');
  assert.match(mixed.message, /us-east-1 has begun and eu-west-1, which stands before it, has not/);
  await on(fleets, takeBack({ ...alone, sites: alone.sites.slice(1) }));
  const back = await on(fleets, failureOf(resume({ ...listOf(fleets), sites: alone.sites.slice(1) }, ON)));
  assert.is(back.code, 'ROLLOUT_BUSY');
  assert.match(back.message, /in us-east-1: rollout .* of 1\.1\.0 has been taken back/);
  assert.equal(commands(fleets[0] ?? none()), []);
});

test('a rollback goes in reverse, and does not touch Regions that never began', async () => {
  const fleets = fleetsOf(3, { 1: ['good', 'good', 'good', 'goes-back'] });
  const [first = none(), second = none(), third = none()] = fleets;
  const stop = new AbortController();
  const list = listOf(fleets, { stopped: stop.signal });
  fleets[0]?.scheduler.after(500_000, () => stop.abort());
  assert.equal(states(await on(fleets, run(list))), ['done', 'running', 'not-begun']);
  const from = [commands(first).length, commands(second).length];
  const parts = await on(fleets, takeBack(listOf(fleets)));
  assert.equal(states(parts), ['rolled-back', 'rolled-back', 'not-begun']);
  for (const fleet of fleets) assert.equal(versions(fleet), [OLD]);
  assert.ok(Math.max(...commands(second)) < Math.min(...commands(first).slice(from[0])));
  assert.equal(commands(third), []);
  // A second rollback has nothing to do.
  assert.equal(states(await on(fleets, takeBack(listOf(fleets)))), [
    'rolled-back',
    'rolled-back',
    'not-begun',
  ]);
});

test('a rollback lowers the flags that halted the list, and no other flag', async () => {
  const fleets = fleetsOf(3, { 2: ['goes-back'] });
  const [, , third = none()] = fleets;
  third.publish('1.0.5');
  const other = listOf(fleets, { version: '1.0.5' });
  const list = listOf(fleets);
  await on(fleets, run({ ...list, sites: list.sites.slice(0, 1) }));
  await on(fleets, run({ ...other, sites: other.sites.slice(2) }));
  for (const { aws } of list.sites) await on(fleets, raiseHaltFlag(aws, CLUSTER, 'drill'));
  const before = commands(third).length;
  const parts = await on(fleets, takeBack(list));
  assert.equal(states(parts), ['rolled-back', 'not-begun', 'not-begun']);
  const flags = await on(fleets, Promise.all(list.sites.map(({ aws }) => readHaltFlag(aws, CLUSTER))));
  assert.equal(
    flags.map((flag) => flag?.why),
    [undefined, undefined, 'drill'],
  );
  assert.is(commands(third).length, before);
});

test('a node that cannot be brought back does not keep another Region from going back', async () => {
  const fleets = fleetsOf(2);
  await on(fleets, run(listOf(fleets)));
  const [, second = none()] = fleets;
  const dead = second.nodes.at(-1) ?? none();
  dead.behaviour = 'hangs';
  const parts = await on(fleets, takeBack(listOf(fleets)));
  assert.equal(states(parts), ['rolled-back', 'halted']);
  assert.match(parts[1]?.why ?? '', /1 nodes could not be brought back/);
  assert.equal(versions(fleets[0] ?? none()), [OLD]);
});

test('a rollback that is halted in one Region does not go on in another', async () => {
  const fleets = fleetsOf(2);
  await on(fleets, run(listOf(fleets)));
  const list = listOf(fleets);
  const work = takeBack(list);
  fleets[0]?.scheduler.after(20_000, () => void raiseHaltFlag(list.sites[1]?.aws ?? none(), CLUSTER, 'no'));
  assert.equal(states(await on(fleets, work)), ['done', 'halted']);
  assert.equal(versions(fleets[0] ?? none()), [NEW]);
});

test('a rollback of a list on which an operator works changes nothing', async () => {
  const fleets = fleetsOf(2);
  const list = listOf(fleets);
  const work = run(list);
  const tried = (async () => {
    const { clock } = fleets[0] ?? none();
    await clock.sleep(60_000);
    return failureOf(takeBack(listOf(fleets)));
  })();
  const failure = await on(fleets, tried);
  assert.is(failure.code, 'ROLLOUT_BUSY');
  assert.match(failure.message, /in eu-west-1: its lease lasts until/);
  assert.equal(states(await on(fleets, work)), ['done', 'done']);
});

test('a Region that begins during the rollback of the Region before it touches no node', async () => {
  const fleets = fleetsOf(2);
  const list = listOf(fleets);
  const [first = none(), second = none()] = list.sites;
  // Right before its record is written, between the two looks at the other Regions.
  const aws = before(second.aws, 'writeParameter', STATE, () => takeBack(listOf(fleets)));
  const failure = await on(fleets, failureOf(run({ ...list, sites: [first, { ...second, aws }] })));
  assert.is(failure.code, 'ROLLOUT_HALTED');
  assert.match(failure.message, /in us-east-1: in eu-west-1 rollout .* is rolled-back/);
  assert.equal(commands(fleets[1] ?? none()), []);
  const standing = await on(fleets, readRollout(second.aws, CLUSTER, second.clock));
  assert.is(standing.progress.state, 'halted');
  assert.is(standing.holder, undefined);
});

test('a rollback finds the Region that began while it went back', async () => {
  const fleets = fleetsOf(2);
  const list = listOf(fleets);
  const taking = listOf(fleets);
  const [site = none(), other = none()] = taking.sites;
  let running: Promise<unknown> | undefined;
  await on(fleets, run({ ...list, sites: list.sites.slice(0, 1) }));
  // After its look at the second Region, before it writes into the record of the first.
  const aws = before(site.aws, 'writeParameter', STATE, async () => {
    running = resume(list, ON);
    while ((await findBegun(other)) === undefined) await other.clock.sleep(100);
  });
  const failure = await on(fleets, failureOf(takeBack({ ...taking, sites: [{ ...site, aws }, other] })));
  assert.is(failure.code, 'ROLLOUT_BUSY');
  assert.match(failure.message, /in us-east-1: rollout .* has begun meanwhile/);
  await on(fleets, running ?? none());
});

test('a resume after a crash begins the Regions that the dead operator did not reach', async () => {
  const fleets = fleetsOf(3);
  const list = listOf(fleets);
  const dead = operatorsOf(fleets, { killAt: { call: 150, carriedOut: true } });
  const doomed: List = {
    ...list,
    sites: list.sites.map((site, at) => ({ ...site, ...(dead[at] ?? none()) })),
  };
  await on(
    fleets,
    failureOf(Promise.race([run(doomed), dead[0]?.killed])).catch(() => {}),
  );
  const heir = listOf(fleets);
  const begun = await on(fleets, Promise.all(heir.sites.map(findBegun)));
  assert.ok(begun.some((one) => one?.standing.holder !== undefined));
  const busy = await on(fleets, failureOf(resume(heir, ON)));
  assert.is(busy.code, 'ROLLOUT_BUSY');
  await on(fleets, (fleets[0] ?? none()).clock.sleep(LEASE_MS + 61_000));
  assert.equal(states(await on(fleets, resume(heir, ON))), ['done', 'done', 'done']);
  for (const fleet of fleets) assert.ok(fleet.nodes.every((node) => node.runs === 1 && node.version === NEW));
});

test('a list is abandoned in its present state: Regions that are done stay done, Regions that never began stay so', async () => {
  const fleets = fleetsOf(3, { 1: ['goes-back'] });
  await on(fleets, run(listOf(fleets)));
  assert.equal(states(await on(fleets, abandonAll(listOf(fleets)))), ['done', 'abandoned', 'not-begun']);
  assert.equal(commands(fleets[2] ?? none()), []);
  const refused = await on(fleets, failureOf(resume(listOf(fleets), ON)));
  assert.match(refused.message, /in us-east-1: rollout .* was abandoned/);
});

test('a corrected version replaces the halted one, in its Region and in those that never began', async () => {
  const fleets = fleetsOf(3, { 1: ['goes-back'] });
  for (const fleet of fleets) fleet.publish('1.1.1');
  await on(fleets, run(listOf(fleets)));
  for (const node of fleets[1]?.nodes ?? []) node.behaviour = 'good';
  const mended = listOf(fleets, { version: '1.1.1' });
  assert.is((await on(fleets, failureOf(run(mended)))).code, 'ROLLOUT_BUSY');
  const id = (await on(fleets, findBegun(listOf(fleets).sites[1] ?? none())))?.rollout.id;
  assert.equal(states(await on(fleets, run(mended, id))), ['done', 'done', 'done']);
  for (const fleet of fleets) assert.equal(versions(fleet), ['1.1.1']);
});

test('the plan of a list has the plan of each Region, and the problems that `run` would refuse', async () => {
  const fleets = fleetsOf(2);
  for (const node of fleets[1]?.nodes.slice(0, 4) ?? []) lose(node);
  const planned = await on(fleets, planAll(listOf(fleets).sites));
  assert.equal(
    planned.map(({ refusals }) => refusals.map((one) => one.code)),
    [[], ['ROLLOUT_UNREACHABLE']],
  );
  for (const fleet of fleets) assert.equal(changed(fleet), []);
});

const specs = (...texts: string[]) => {
  try {
    return loadSpecs(texts.map((content, at) => ({ source: `${at}.yaml`, content: Buffer.from(content) })));
  } catch (error) {
    if (!isFailure(error, 'SPEC_INVALID')) throw error;
    return (error.facts['problems'] as ConfigProblem[]).map(
      ({ source, line, path, problem }) => `${source}:${line} ${path} ${problem}`,
    );
  }
};
const good = (region: string, version = NEW, cluster = CLUSTER) =>
  `what:\n  bundle:\n    version: ${version}\nwhere:\n  cluster: ${cluster}\n  region: ${region}\n`;
const image = (region: string, id: string) =>
  `what:\n  image:\n    id: ${id}\nwhere:\n  cluster: ${CLUSTER}\n  region: ${region}\n`;

test('specs that do not make a list are refused, each with its place', () => {
  assert.is(specs(good('eu-west-1'), good('us-east-1')).length, 2);
  assert.is(specs(good('eu-west-1'), good('eu-west-1', NEW, 'other')).length, 2);
  // An AMI has another ID in each Region.
  assert.is(specs(image('eu-west-1', 'ami-00000001'), image('us-east-1', 'ami-00000002')).length, 2);
  assert.equal(specs(good('eu-west-1'), good('us-east-1'), good('eu-west-1')), [
    `2.yaml:6 where.region and where.cluster ${CLUSTER} are those of 0.yaml`,
  ]);
  assert.equal(specs(good('eu-west-1'), good('us-east-1', '1.1.1')), [
    '1.yaml:3 what.bundle.version is not 1.1.0, the version in 0.yaml',
  ]);
  assert.equal(specs(good('eu-west-1'), image('us-east-1', 'ami-00000001')), [
    '1.yaml:2 what.image is another kind of thing than in 0.yaml',
  ]);
  assert.equal(specs(good('eu-west-1').replace(/.*region.*\n/, ''), good('nowhere')), [
    '1.yaml:6 where.region is not a Region',
  ]);
  assert.equal(specs(good('eu-west-1').replace(/.*region.*\n/, ''), good('us-east-1')), [
    '0.yaml:4 where.region is missing: with several specs each names its Region',
  ]);
  assert.equal(specs('what: 1\n', 'where: { cluster: [] }\n').length > 1, true);
});

test('a connection that was idle for hours waits as long as a new one; one in use counts from its last answer', () => {
  let now = 0;
  const silence = silenceOf({ bootMs: () => now }, 150_000);
  silence.asked();
  now = 20_000;
  silence.answered();
  now = 80_000;
  silence.asked();
  assert.is(silence.until(), 170_000);
  now = 140_000;
  silence.asked();
  assert.is(silence.until(), 170_000);
  silence.answered();
  now = 7_200_000;
  silence.asked();
  assert.is(silence.until(), 7_350_000);
});

test.run();
