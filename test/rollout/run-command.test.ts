// Run Command's special cases: answers that are lost, commands that run again, nodes that go away, refusals, and operators
// whose clocks are wrong. Modelled nodes, virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FleetAws } from '../../agent/aws/fleet.ts';
import { Failure, isFailure } from '../../agent/messages/failure.ts';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import type { Judgement } from '../../agent/rollout/judge.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { type Progress, resumed, takenBack, unrestored } from '../../agent/rollout/progress.ts';
import { takeRecord } from '../../agent/rollout/record.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { isOpen } from '../../agent/rollout/window.ts';
import type { GateQuestion, Orchestration } from '../../agent/rollout/work.ts';
import type { Behaviour } from '../aws/ssm/modelled-node.ts';
import {
  CLUSTER,
  createFleet,
  type Fleet,
  NEW,
  OLD,
  onFleetTime,
  operatorOf,
  SHA256,
  virtualClock,
} from './fleet.ts';

const never = new AbortController().signal;
const HOUR_MS = 3600_000;

function specOf(
  version = NEW,
  budget = 20,
  waits = 'bake: { canarySeconds: 0, shareSeconds: 0, zoneSeconds: 60 }',
) {
  return loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${version} } }
where: { cluster: ${CLUSTER} }
${waits}
budget: { zonePercent: ${budget}, fleetPercent: ${budget} }
`,
  );
}

interface Work {
  aheadMs?: number;
  version?: string;
  token?: string;
  budget?: number;
  waits?: string;
  gate?: Orchestration['gate'];
}

/** A fleet of one zone whose third node behaves in that way. */
function fleetWith(behaviour: Behaviour, count = 10): Fleet {
  return createFleet({ zones: [count], behaviourOf: (node) => (node === 2 ? behaviour : 'good') });
}

async function go(fleet: Fleet, work: Work, prepared: 'run' | 'resume' | 'rollback') {
  const { aws, clock } = operatorOf(fleet, { aheadMs: work.aheadMs ?? 0 });
  const owner = { who: 'test', token: work.token ?? 'test-token' };
  const judgements: Judgement[] = [];
  const progress = await onFleetTime(
    fleet,
    (async (): Promise<Progress> => {
      const record =
        prepared === 'run'
          ? await beginRollout(
              aws,
              clock,
              owner,
              await prepare(aws, specOf(work.version, work.budget, work.waits)),
            )
          : await takeRecord(aws, clock, owner, CLUSTER);
      const nowMs = clock.now().getTime();
      if (prepared === 'resume') await record.save(resumed(record.progress, nowMs, true));
      if (prepared === 'rollback') await record.save(takenBack(record.rollout, record.progress, nowMs));
      return orchestrate({
        aws,
        clock,
        record,
        tell: (one) => {
          if (one.kind === 'node') judgements.push(one.judgement);
        },
        stopped: never,
        ...(work.gate === undefined ? {} : { gate: work.gate }),
      });
    })(),
  );
  return { progress, judgements };
}

const third = (fleet: Fleet) => {
  const [, , node] = fleet.nodes;
  if (node === undefined) throw new Error('no third node');
  return node;
};
const running = (fleet: Fleet, version: string) =>
  fleet.nodes.filter((node) => node.version === version && !fleet.terminated.has(node.instanceId));
async function later(fleet: Fleet, ms: number) {
  await onFleetTime(fleet, fleet.clock.sleep(ms));
}

test('a node whose answer was lost counts as touched: a rollback asks it, and does not end until it is back', async () => {
  const fleet = fleetWith('mute');
  const forward = await go(fleet, {}, 'run');
  assert.is(forward.progress.state, 'done');
  assert.is(third(fleet).version, NEW);
  assert.match(
    forward.judgements.find((one) => one.instanceId === third(fleet).instanceId)?.reason ?? '',
    /is not known/,
  );
  const back = await go(fleet, {}, 'rollback');
  assert.is(back.progress.state, 'halted');
  assert.match(back.progress.why ?? '', /1 nodes could not be brought back/);
  assert.equal(running(fleet, NEW), [third(fleet)]);
  // The node is reached again, and only this node is asked.
  third(fleet).online = true;
  third(fleet).behaviour = 'good';
  const asked = fleet.nodes.map((node) => node.runs);
  const again = await go(fleet, {}, 'rollback');
  assert.is(again.progress.state, 'rolled-back');
  assert.is(running(fleet, NEW).length, 0);
  assert.equal(
    fleet.nodes.map((node, at) => node.runs - (asked[at] ?? 0)),
    fleet.nodes.map((node) => (node === third(fleet) ? 1 : 0)),
  );
});

test('an operator may end a rollback without unreachable nodes, and the record names them', async () => {
  const fleet = fleetWith('mute');
  await go(fleet, {}, 'run');
  await go(fleet, {}, 'rollback');
  const { progress } = await go(fleet, {}, 'resume');
  assert.is(progress.state, 'rolled-back');
  assert.equal(unrestored(progress), [{ zone: 0, node: 2, outcome: 'unreachable' }]);
});

/** Begins a rollout whose calls to AWS go through `through`. */
async function goThrough(fleet: Fleet, through: (aws: FleetAws) => FleetAws): Promise<Progress> {
  const operator = operatorOf(fleet);
  const aws = through(operator.aws);
  const work = async () => {
    const prepared = await prepare(aws, specOf());
    const record = await beginRollout(aws, operator.clock, { who: 'a', token: 'a' }, prepared);
    return orchestrate({ aws, clock: operator.clock, record, tell: () => {}, stopped: never });
  };
  return onFleetTime(fleet, work());
}

for (const [times, ends] of [
  [2, 'done'],
  [3, 'SSM_FAILED'],
] as const)
  test(`a command that fails to reach AWS ${times} times in a row: ${ends}`, async () => {
    const fleet = createFleet({ zones: [4] });
    let left: number = times;
    const outcome = await goThrough(fleet, (aws) => ({
      ...aws,
      async sendCommand(request) {
        if (left-- <= 0) return aws.sendCommand(request);
        throw new Failure('SSM_FAILED', 'no answer to SendCommand');
      },
    })).then(
      ({ state }) => state,
      (error: unknown) => (isFailure(error) ? error.code : String(error)),
    );
    assert.is(outcome, ends);
    assert.ok(fleet.nodes.every((node) => node.runs <= 1));
  });

test('a rollout waits for results that Run Command shows half a minute late: no node counts as unreachable or late', async () => {
  const fleet = createFleet({ zones: [4] });
  const [node] = fleet.nodes;
  if (node === undefined) throw new Error('no node');
  const shown = new Map<string, { at: number; rows: Awaited<ReturnType<FleetAws['listInvocations']>> }[]>();
  const progress = await goThrough(fleet, (aws) => ({
    ...aws,
    async sendCommand(request) {
      // The canary's agent is away for the first 105 s of the 120 s in which it has to begin.
      node.online = node.runs > 0;
      fleet.scheduler.after(105_000, () => {
        node.online = true;
      });
      return aws.sendCommand(request);
    },
    describeCommand: async () => undefined,
    async listInvocations(id) {
      const rows = await aws.listInvocations(id);
      const now = fleet.scheduler.now();
      const all = [...(shown.get(id) ?? []), { at: now, rows }];
      shown.set(id, all);
      return all.findLast(({ at }) => at <= now - 35_000)?.rows ?? [];
    },
  }));
  assert.is(progress.state, 'done', progress.why);
  assert.equal([progress.updated, progress.exceptions], [4, []]);
});

test("a resume finds the commands that were sent, also when the former operator's clock was a little ahead", async () => {
  const fleet = createFleet({ zones: [4] });
  const first = operatorOf(fleet);
  // AWS's time, as read by that process's clock.
  const ahead = virtualClock(fleet.scheduler, 2_000);
  const stop = new AbortController();
  const dies = async () => {
    const prepared = await prepare(first.aws, specOf());
    const record = await beginRollout(first.aws, ahead, { who: 'a', token: 'a' }, prepared);
    const aws: FleetAws = {
      ...first.aws,
      async sendCommand(request) {
        await first.aws.sendCommand(request);
        stop.abort();
        throw new Failure('SSM_DENIED', 'the process ends here');
      },
    };
    return orchestrate({ aws, clock: ahead, record, tell: () => {}, stopped: stop.signal });
  };
  await onFleetTime(fleet, dies()).catch(() => undefined);
  const { progress } = await go(fleet, {}, 'resume');
  assert.is(progress.state, 'done', progress.why);
  assert.equal(
    fleet.nodes.map((node) => node.runs),
    [1, 1, 1, 1],
  );
});

for (const [what, awayMs] of [
  ['after the command has expired', 20 * 60_000],
  ['hours later', 5 * HOUR_MS],
] as const)
  test(`a document that the SSM agent runs again ${what} changes nothing after a rollback`, async () => {
    const fleet = createFleet({
      zones: [10],
      behaviourOf: (node) => (node === 2 ? 'returns' : 'good'),
      awayMs: () => awayMs,
    });
    assert.is((await go(fleet, {}, 'run')).progress.state, 'done');
    await go(fleet, {}, 'rollback');
    await later(fleet, awayMs + HOUR_MS);
    assert.is((await go(fleet, {}, 'rollback')).progress.state, 'rolled-back');
    assert.equal(running(fleet, NEW), []);
    assert.equal(third(fleet).switches, []);
  });

test("a document of a rolled-back rollout is refused by the rollout's name, also before its time is over", async () => {
  const fleet = fleetWith('good');
  await go(fleet, {}, 'run');
  const sent = fleet.calls.find((call) => call.action === 'SendCommand')?.request as {
    Parameters: Record<string, string[]>;
  };
  await go(fleet, {}, 'rollback');
  const of = (name: string) => sent.Parameters[name]?.[0];
  const script = `eniboot update --action update --version ${NEW} --digests ${SHA256} --halt ${of('halt')} --wanted ${of('wanted')} --until 9999999999 --rollout ${of('rollout')}`;
  let said = '';
  third(fleet).run(script, ({ stdout }) => {
    said = stdout;
  });
  await later(fleet, HOUR_MS);
  assert.match(said, /UPDATE_NOT_WANTED/);
  assert.is(third(fleet).version, OLD);
});

test('a node goes back to the version that it ran before the rollout, not to the version in `previous`', async () => {
  const other = '1.2.0';
  const fleet = createFleet({ zones: [6] });
  fleet.publish(other);
  await go(fleet, {}, 'run');
  await go(fleet, { version: other }, 'run');
  await go(fleet, {}, 'rollback');
  assert.is(running(fleet, NEW).length, 6);
  // The version is on every node already, and one node is not healthy with it.
  const answer = third(fleet).run;
  third(fleet).run = (script, ended) =>
    answer(script, (result) =>
      ended({ ...result, stdout: result.stdout.replace('"healthy":true', '"healthy":false') }),
    );
  const again = await go(fleet, { budget: 0 }, 'run');
  assert.is(again.progress.state, 'halted', again.progress.why);
  assert.is((await go(fleet, {}, 'rollback')).progress.state, 'rolled-back');
  assert.is(running(fleet, NEW).length, 6);
  assert.is(running(fleet, other).length, 0);
});

test('a node that claims to have run the version before, although it has reported the update, has not been restored', async () => {
  const fleet = fleetWith('good');
  await go(fleet, {}, 'run');
  third(fleet).pin = undefined;
  const { progress, judgements } = await go(fleet, {}, 'rollback');
  assert.is(progress.state, 'halted');
  assert.is(judgements.find((one) => one.instanceId === third(fleet).instanceId)?.outcome, 'lied');
});

test('an operator whose clock is minutes ahead takes no valid lease, and skips no wait', async () => {
  const fleet = createFleet({ zones: [20, 20] });
  const { aws, clock } = operatorOf(fleet);
  const stop = new AbortController();
  const first = (async () => {
    const record = await beginRollout(aws, clock, { who: 'a', token: 'a' }, await prepare(aws, specOf(NEW)));
    return orchestrate({ aws, clock, record, tell: () => {}, stopped: stop.signal });
  })();
  const thief = (async () => {
    await fleet.clock.sleep(30_000);
    const other = operatorOf(fleet, { aheadMs: 5 * 60_000 });
    try {
      await takeRecord(other.aws, other.clock, { who: 'b', token: 'b' }, CLUSTER);
      return 'stolen';
    } catch (error) {
      return isFailure(error) ? error.code : String(error);
    }
  })();
  assert.is(await onFleetTime(fleet, thief), 'ROLLOUT_BUSY');
  assert.is((await onFleetTime(fleet, first)).state, 'done');

  // A bake of 60 s between the zones, continued by an operator whose clock is 4.8 minutes off.
  for (const aheadMs of [288_000, -288_000]) {
    const slow = createFleet({ zones: [2, 2] });
    const { progress } = await go(slow, { aheadMs }, 'run');
    assert.is(progress.state, 'done');
    const sends = slow.calls.filter((call) => call.action === 'SendCommand').map((call) => call.at);
    const [before = 0, after = 0] = sends.slice(-2);
    void before;
    assert.ok(Math.max(...sends.map((at, index) => at - (sends[index - 1] ?? at))) >= 60_000, `${after}`);
  }
});

const refusals: { name: string; prepare: (fleet: Fleet) => void; outcome: string; reason: RegExp }[] = [
  {
    name: 'AccessDenied',
    prepare: (fleet) => {
      third(fleet).refusal = 'AccessDenied';
    },
    outcome: 'refused',
    reason: /^AccessDenied: the sender of the command/,
  },
  {
    name: 'InvalidPlatform',
    prepare: (fleet) => {
      third(fleet).refusal = 'InvalidPlatform';
    },
    outcome: 'refused',
    reason: /^InvalidPlatform: /,
  },
];
for (const { name, prepare: spoil, outcome, reason } of refusals)
  test(`a node that Run Command refuses with ${name} is reported by that name, and stays untouched`, async () => {
    const fleet = fleetWith('good');
    spoil(fleet);
    const { progress, judgements } = await go(fleet, {}, 'run');
    assert.is(progress.state, 'done', progress.why);
    const one = judgements.find((judgement) => judgement.instanceId === third(fleet).instanceId);
    assert.is(one?.outcome, outcome);
    assert.match(one?.reason ?? '', reason);
    assert.is((await go(fleet, {}, 'rollback')).progress.state, 'rolled-back');
  });

test('a command that Run Command cancels with RateExceeded halts by that name, and a resume asks its nodes', async () => {
  const fleet = createFleet({ zones: [30] });
  fleet.ssm.limits.mostPending = 1;
  const { progress } = await go(fleet, {}, 'run');
  assert.is(progress.state, 'halted');
  assert.match(progress.why ?? '', /RateExceeded/);
  fleet.ssm.limits.mostPending = 1_000;
  assert.is((await go(fleet, {}, 'resume')).progress.state, 'done');
  assert.is(running(fleet, NEW).length, 30);
});

test('a report with an unknown result is no report', async () => {
  for (const result of ['cancelled', 'x'.repeat(1_500)]) {
    const fleet = createFleet({ zones: [8] });
    const answers = fleet.nodes.map((node) => node.run);
    for (const node of fleet.nodes) {
      const answer = node.run;
      if (node === fleet.nodes[0]) continue;
      node.run = (script, ended) =>
        answer(script, (one) =>
          ended({ ...one, stdout: one.stdout.replace('"result":"updated"', `"result":"${result}"`) }),
        );
    }
    const { progress } = await go(fleet, {}, 'run');
    assert.is(progress.state, 'halted');
    assert.ok(progress.exceptions.every((one) => one.outcome === 'silent'));
    // These nodes may run the version: all of them are asked.
    for (const [at, node] of fleet.nodes.entries()) node.run = answers[at] ?? node.run;
    assert.is((await go(fleet, {}, 'rollback')).progress.state, 'rolled-back');
    assert.is(running(fleet, NEW).length, 0);
  }
});

test('instances that EC2 ends before they are asked are no failures; those that end without an answer are', async () => {
  const fleet = createFleet({ zones: [12] });
  const ids = fleet.nodes.map((node) => node.instanceId);
  const end = (at: number) => fleet.terminated.add(ids[at] ?? '');
  const first = fleet.nodes[0];
  if (first === undefined) throw new Error('no node');
  const answer = first.run;
  first.run = (script, ended) => {
    // While the canary works: EC2 ends two later nodes, and one that ends during its update.
    end(7);
    end(9);
    return answer(script, ended);
  };
  const dying = fleet.nodes[5];
  if (dying === undefined) throw new Error('no node');
  dying.run = () => {
    end(5);
    dying.online = false;
    return () => {};
  };
  const { progress } = await go(fleet, { budget: 10 }, 'run');
  assert.equal(progress.exceptions.map(({ node, outcome }) => `${node} ${outcome}`).sort(), [
    '5 lost',
    '7 gone',
    '9 gone',
  ]);
  assert.is(progress.state, 'done', progress.why);
  // A rollback has nothing of it to bring back.
  const back = await go(fleet, {}, 'rollback');
  assert.is(back.progress.state, 'rolled-back', back.progress.why);
  assert.is(running(fleet, NEW).length, 0);
});

test('a canary that is gone proves nothing: the next one goes alone, and two in a row halt', async () => {
  for (const [gone, state] of [
    [1, 'done'],
    [2, 'halted'],
  ] as const) {
    const fleet = createFleet({ zones: [12] });
    const ids = fleet.nodes.map((node) => node.instanceId);
    let begun = false;
    const { aws, clock } = operatorOf(fleet, {
      // The next canary ends when it has just been chosen.
      onCall: ({ action }) => {
        if (begun && gone > 1 && action === 'PutParameter') fleet.terminated.add(ids[1] ?? '');
      },
    });
    const progress = await onFleetTime(
      fleet,
      (async () => {
        const record = await beginRollout(aws, clock, { who: 'a', token: 'a' }, await prepare(aws, specOf()));
        fleet.terminated.add(ids[0] ?? '');
        begun = true;
        return orchestrate({ aws, clock, record, tell: () => {}, stopped: never });
      })(),
    );
    assert.is(progress.state, state, progress.why);
    const sends = fleet.calls
      .filter((call) => call.action === 'SendCommand')
      .map((call) => (call.request as { Targets: { Values: string[] }[] }).Targets[0]?.Values.length);
    // An instance that is gone is not asked.
    assert.equal(sends.slice(0, 1), state === 'halted' ? [] : [1]);
    if (state === 'halted') assert.match(progress.why ?? '', /canaries/);
  }
});

const waits = `bake: { canarySeconds: 300, shareSeconds: 60, zoneSeconds: 300 }`;

for (const [behaviour, why] of [
  ['dies', /gate behind the wait after the canary .*the canary failed/],
  ['sickens', /gate behind the wait after the canary .*not healthy: pods/],
] as const)
  test(`a canary that ${behaviour} during the wait is found at the gate, before a second node is touched`, async () => {
    const fleet = createFleet({ zones: [60], behaviourOf: (node) => (node === 0 ? behaviour : 'good') });
    const { progress } = await go(fleet, { waits }, 'run');
    assert.is(progress.state, 'halted');
    assert.match(progress.why ?? '', why);
    assert.is(fleet.nodes.filter((node) => node.runs > 0).length, 1);
  });

test("nodes that become unhealthy after their update are counted at the zone's gate, and halt before the next zone", async () => {
  const fleet = createFleet({
    zones: [30, 40],
    behaviourOf: (node, zone) => (zone === 0 && node > 10 ? 'sickens' : 'good'),
  });
  const { progress } = await go(fleet, { waits }, 'run');
  assert.is(progress.state, 'halted');
  assert.match(progress.why ?? '', /gate behind the wait after the zone .*19 nodes failed in euw1-az1/);
  assert.is(fleet.nodes.filter((node) => node.runs > 0).length, 30);
  const back = await go(fleet, {}, 'rollback');
  assert.is(back.progress.state, 'rolled-back', back.progress.why);
  assert.is(running(fleet, NEW).length, 0);
});

test('a node whose agent does not answer is no failure, and is asked at the end of its zone', async () => {
  for (const returns of [true, false]) {
    const fleet = createFleet({ zones: [20, 20] });
    third(fleet).online = false;
    third(fleet).lastPingAt = -HOUR_MS;
    const ninth = fleet.nodes[9];
    if (ninth === undefined) throw new Error('no node');
    // For five minutes it is still shown as Online, and does not run the command.
    const timer = fleet.scheduler.after(10_000, () => {
      ninth.online = false;
    });
    void timer;
    fleet.scheduler.after(700_000, () => {
      ninth.online = returns;
      third(fleet).online = returns;
    });
    const { progress } = await go(fleet, { budget: 0, waits }, 'run');
    assert.is(progress.state, 'done', progress.why);
    assert.is(running(fleet, OLD).length, returns ? 0 : 2);
    assert.equal(
      progress.exceptions.map(({ node, outcome }) => `${node} ${outcome}`).sort(),
      returns ? ['19 deferred', '8 deferred'] : ['19 unreachable', '8 unreachable'],
    );
    assert.is(progress.updated, returns ? 40 : 38);
  }
});

test('a node that was updated at the end of its zone cannot claim to have run the version before, either', async () => {
  const fleet = createFleet({ zones: [20, 20] });
  third(fleet).online = false;
  third(fleet).lastPingAt = -HOUR_MS;
  fleet.scheduler.after(700_000, () => {
    third(fleet).online = true;
  });
  assert.is((await go(fleet, { budget: 0, waits }, 'run')).progress.state, 'done');
  third(fleet).pin = undefined;
  const { progress, judgements } = await go(fleet, {}, 'rollback');
  assert.is(judgements.find((one) => one.instanceId === third(fleet).instanceId)?.outcome, 'lied');
  assert.is(progress.state, 'halted');
});

test("an instance that comes up on the old version during its zone's update is updated, too", async () => {
  const fleet = createFleet({ zones: [20, 20] });
  fleet.ssm.put('/eniboot/bundle/euw1-az1', JSON.stringify({ version: OLD }));
  fleet.scheduler.after(200_000, () => void fleet.launch(0));
  fleet.scheduler.after(200_000, () => void fleet.launch(1));
  const { progress } = await go(fleet, { waits }, 'run');
  assert.is(progress.state, 'done', progress.why);
  assert.is(running(fleet, NEW).length, 42);
  assert.is(progress.strays, 0);
  const back = await go(fleet, {}, 'rollback');
  assert.is(back.progress.state, 'rolled-back', back.progress.why);
  assert.is(running(fleet, OLD).length, 42);
});

test('an autoscaler that replaces instances all the time does not halt the rollout, and every node ends on the version', async () => {
  const fleet = createFleet({ zones: [30, 30] });
  let at = 0;
  const churn = () => {
    if (at >= 25) return;
    const node = fleet.nodes[at * 2 + 1];
    if (node !== undefined) {
      node.online = false;
      fleet.terminated.add(node.instanceId);
      fleet.launch(fleet.zoneOf.get(node.instanceId) === 'euw1-az1' ? 0 : 1);
    }
    at += 1;
    fleet.scheduler.after(60_000, churn);
  };
  fleet.scheduler.after(5_000, churn);
  const { progress } = await go(fleet, { waits, budget: 5 }, 'run');
  assert.is(progress.state, 'done', progress.why);
  assert.is(running(fleet, OLD).length, progress.strays ?? 0);
});

test("the operator's program decides at each gate: it can halt, runs again at a resume, and can be overruled", async () => {
  const fleet = createFleet({ zones: [20, 20] });
  const asked: string[] = [];
  let passes = false;
  const gate = async ({ zoneId, after, version }: GateQuestion) => {
    asked.push(`${zoneId} ${after}`);
    assert.is(version, NEW);
    // Longer than the lease.
    await fleet.clock.sleep(400_000);
    return { passed: passes, said: 'error rate 7 %' };
  };
  const work = { waits: `${waits}\ngate: { command: [slo-holds], timeoutSeconds: 600 }`, gate };
  const first = await go(fleet, work, 'run');
  assert.is(first.progress.state, 'halted');
  assert.match(
    first.progress.why ?? '',
    /gate\.command behind the wait after the canary in euw1-az1: error rate 7 %/,
  );
  assert.is(fleet.nodes.filter((node) => node.runs > 0).length, 1);
  // A resume with --forgive passes this gate; the next gate fails again.
  const second = await go(fleet, work, 'resume');
  assert.is(second.progress.state, 'halted');
  passes = true;
  assert.is((await go(fleet, work, 'resume')).progress.state, 'done');
  assert.equal(asked, ['euw1-az1 canary', 'euw1-az1 share', 'euw1-az1 zone']);
});

test('nothing begins outside of the windows, a batch in flight finishes, and a rollback runs at any time', async () => {
  const fleet = createFleet({ zones: [20, 20] });
  // The fleet's clock begins on Thursday, 2026-01-01, at midnight UTC.
  const work = {
    waits: `${waits}
when:
  timeZone: Europe/Berlin
  windows: [{ days: [thu, fri], from: '01:00', to: '01:10' }]`,
  };
  const { progress } = await go(fleet, work, 'run');
  assert.is(progress.state, 'done');
  const begun = fleet.calls
    .filter((call) => call.action === 'SendCommand')
    .map((call) => new Date(call.at).toISOString().slice(8, 16));
  assert.ok(
    begun.every((at) => /^0[12]T00:0\d$/.test(at)),
    begun.join(' '),
  );
  assert.ok(
    begun.some((at) => at.startsWith('02')),
    'the rollout went on the day after',
  );
  await later(fleet, HOUR_MS);
  assert.is((await go(fleet, work, 'rollback')).progress.state, 'rolled-back');
});

for (const [what, at, open] of [
  ['before it', '2026-06-01T06:59:00Z', false],
  ['its first minute, in summer time', '2026-06-01T07:00:00Z', true],
  ['its last minute', '2026-06-01T13:59:00Z', true],
  ['its end', '2026-06-01T14:00:00Z', false],
  ['the same hour in winter', '2026-01-05T07:00:00Z', false],
  ['a day that is not named', '2026-06-06T10:00:00Z', false],
  ['over midnight, in the evening', '2026-06-05T20:30:00Z', true],
  ['over midnight, the morning after', '2026-06-05T23:30:00Z', true],
  ['over midnight, a day later', '2026-06-06T23:30:00Z', false],
] as const)
  test(`a window at a moment: ${what}`, () => {
    const when = {
      timeZone: 'Europe/Berlin',
      windows: [
        { days: ['mon', 'tue'] as const, from: '09:00', to: '16:00' },
        { days: ['fri'] as const, from: '22:00', to: '02:00' },
      ],
    };
    assert.is(isOpen(when, Date.parse(at)), open);
  });

test.run();
