// Rollouts with CloudWatch alarms: an alarm that goes off halts the rollout, also when it is OK again before the next look. While
// the alarms cannot be read nothing begins. Modelled nodes, virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fleetAws } from '../../agent/aws/fleet.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { beginRollout, prepare, refusalsOf } from '../../agent/rollout/begin.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { planText } from '../../agent/rollout/plan-picture.ts';
import { intended, type Progress, resumed, takenBack } from '../../agent/rollout/progress.ts';
import { LEASE_MS, readRollout, takeRecord } from '../../agent/rollout/record.ts';
import { reportHtml, reportMarkdown } from '../../agent/rollout/report.ts';
import { loadSpec, type Spec } from '../../agent/rollout/spec.ts';
import { alarmLines, summarise } from '../../agent/rollout/summary.ts';
import type { RolloutEvent } from '../../agent/rollout/work.ts';
import { AwsError } from '../aws/ec2/errors.ts';
import {
  CLUSTER,
  createFleet,
  type Fleet,
  Killed,
  NEW,
  OLD,
  type OperatorOptions,
  onFleetTime,
  operatorOf,
} from './fleet.ts';

const never = new AbortController().signal;
const BAKES = 'bake: { canarySeconds: 300, shareSeconds: 60, zoneSeconds: 300 }';

function specOf(...lines: string[]): Spec {
  return loadSpec(
    'rollout.yaml',
    [`what: { bundle: { version: ${NEW} } }`, `where: { cluster: ${CLUSTER} }`, BAKES, ...lines, ''].join(
      '\n',
    ),
  );
}

/** Two zones, with alarms that are OK. */
function fleetWith(...alarms: string[]): Fleet {
  const fleet = createFleet({ zones: [10, 20] });
  for (const name of alarms) fleet.cloudwatch.set(name, 'OK');
  return fleet;
}

interface Work {
  spec?: Spec;
  tell?: (happening: RolloutEvent) => void;
  options?: OperatorOptions;
  token?: string;
}

async function work(fleet: Fleet, what: 'run' | 'resume' | 'forgive' | 'rollback' | 'takeover', asked: Work) {
  const { aws, clock, killed } = operatorOf(fleet, asked.options);
  const token = asked.token ?? 'token';
  const all = async (): Promise<Progress> => {
    const owner = { who: 'test', token };
    const record =
      what === 'run'
        ? await beginRollout(aws, clock, owner, await prepare(aws, asked.spec ?? specOf('alarms: [errors]')))
        : await takeRecord(aws, clock, owner, CLUSTER);
    const nowMs = clock.now().getTime();
    if (what === 'resume' || what === 'forgive')
      await record.save(resumed(record.progress, nowMs, what === 'forgive'));
    if (what === 'rollback') await record.save(takenBack(record.rollout, record.progress, nowMs));
    return orchestrate({ aws, clock, record, tell: asked.tell ?? (() => {}), stopped: never });
  };
  return onFleetTime(fleet, Promise.race([all(), killed]));
}

const touched = (fleet: Fleet) => fleet.nodes.filter((node) => node.runs > 0).length;
const on = (fleet: Fleet, version: string) => fleet.nodes.filter((node) => node.version === version).length;
const sends = (fleet: Fleet) => fleet.calls.filter((call) => call.action === 'SendCommand' && call.accepted);

/** Sets an alarm to ALARM so long after a step of that kind has begun, and back to OK so much later; `undefined`: it stays. */
function firesAfter(
  fleet: Fleet,
  name: string,
  step: (happening: RolloutEvent) => boolean,
  afterMs: number,
  lastsMs?: number,
) {
  let done = false;
  return (happening: RolloutEvent) => {
    if (done || !step(happening)) return;
    done = true;
    fleet.scheduler.after(afterMs, () => {
      fleet.cloudwatch.set(name, 'ALARM', 'Threshold Crossed: 7 %');
      if (lastsMs !== undefined) fleet.scheduler.after(lastsMs, () => fleet.cloudwatch.set(name, 'OK'));
    });
  };
}
const isBake = (after: string, zone: number) => (one: RolloutEvent) =>
  one.kind === 'step' && one.step.do === 'bake' && one.step.after === after && one.step.zone === zone;

test('a rollout goes on while alarms are OK or have no data', async () => {
  const fleet = fleetWith('errors');
  fleet.cloudwatch.addComposite('young');
  const progress = await work(fleet, 'run', { spec: specOf('alarms: [errors, young]') });
  assert.is(progress.state, 'done', progress.why);
  assert.is(on(fleet, NEW), 30);
});

test('an alarm that goes off in a wait halts before a second node is touched, and the halt names alarm, time and reason', async () => {
  const fleet = fleetWith('errors');
  const at = isBake('canary', 0);
  const progress = await work(fleet, 'run', { tell: firesAfter(fleet, 'errors', at, 100_000) });
  assert.is(progress.state, 'halted');
  assert.match(
    progress.why ?? '',
    /^the alarm errors went off at 2026-01-01T00:\d\d:\d\dZ: Threshold Crossed: 7 %$/,
  );
  assert.is(touched(fleet), 1);
});

test('an alarm that goes off and is OK again between two looks halts as well', async () => {
  const fleet = fleetWith('errors');
  const at = isBake('canary', 0);
  const progress = await work(fleet, 'run', { tell: firesAfter(fleet, 'errors', at, 100_000, 2_000) });
  assert.is(progress.state, 'halted');
  assert.match(
    progress.why ?? '',
    /the alarm errors went off at .*: Threshold Crossed: 7 % \(it is OK again\)/,
  );
  assert.is(touched(fleet), 1);
});

test('an alarm in the last second of a wait halts, too', async () => {
  const fleet = fleetWith('errors');
  const at = isBake('canary', 0);
  const progress = await work(fleet, 'run', { tell: firesAfter(fleet, 'errors', at, 299_000, 500) });
  assert.is(progress.state, 'halted');
  assert.is(touched(fleet), 1);
});

test('after the last batch a wait follows, and an alarm in it halts', async () => {
  for (const lastsMs of [undefined, 2_000]) {
    const fleet = fleetWith('errors');
    const tell = firesAfter(fleet, 'errors', isBake('zone', 1), 200_000, lastsMs);
    const progress = await work(fleet, 'run', { tell });
    assert.is(progress.state, 'halted');
    assert.match(progress.why ?? '', /^the alarm errors went off/);
    assert.is(on(fleet, NEW), 30);
    assert.is((await work(fleet, 'rollback', {})).state, 'rolled-back');
    assert.is(on(fleet, OLD), 30);
  }
});

test('when an alarm goes off during a batch, the batch ends and nothing else begins', async () => {
  const fleet = fleetWith('errors');
  const inZone = (zone: number) => (one: RolloutEvent) =>
    one.kind === 'step' && one.step.do === 'update' && one.step.kind === 'rest' && one.step.zone === zone;
  const progress = await work(fleet, 'run', { tell: firesAfter(fleet, 'errors', inZone(0), 5_000, 1_000) });
  assert.is(progress.state, 'halted');
  assert.is(progress.updated, on(fleet, NEW));
  assert.ok(touched(fleet) < 10, `${touched(fleet)} nodes`);
  assert.is(touched(fleet), on(fleet, NEW));
});

test('an alarm that is in ALARM, or does not exist, refuses the start, and the plan tells so', async () => {
  const fleet = fleetWith('errors', 'latency');
  const { aws, clock } = operatorOf(fleet);
  const refused = async (spec: Spec) => {
    const prepared = await onFleetTime(fleet, prepare(aws, spec));
    const [refusal] = await onFleetTime(fleet, refusalsOf(aws, clock, prepared));
    const thrown = await work(fleet, 'run', { spec }).catch((error: unknown) => error);
    assert.ok(isFailure(thrown), 'it is refused');
    assert.equal([refusal?.code, refusal?.message], [thrown.code, thrown.message]);
    return { said: `${thrown.code}: ${thrown.message}`, plan: planText(prepared) };
  };
  const unknown = await refused(specOf('alarm: errors', 'alarms: [latency, Latency]'));
  assert.is(unknown.said, 'ALARM_UNKNOWN: 1 of 3 alarms do not exist: Latency');
  assert.match(unknown.plan, /^watches 2 alarms in state OK \(errors, latency\)$/m);
  assert.match(unknown.plan, /^watches 1 alarm in state none \(Latency\), which CloudWatch does not know/m);
  fleet.cloudwatch.set('latency', 'ALARM', 'p99 is 3 s');
  const firing = await refused(specOf('alarms: [errors, latency]'));
  assert.is(firing.said, 'ALARM_FIRING: 1 of 2 alarms are in ALARM: latency: p99 is 3 s');
  assert.match(firing.plan, /^watches 1 alarm in state ALARM \(latency\): `run` is refused$/m);
  const written = fleet.calls.filter((call) => call.mutating);
  assert.equal(written, []);
});

test('a composite alarm is watched like any other, in state and in history', async () => {
  for (const lastsMs of [undefined, 2_000]) {
    const fleet = fleetWith();
    fleet.cloudwatch.addComposite('all');
    fleet.cloudwatch.set('all', 'OK');
    const tell = firesAfter(fleet, 'all', isBake('canary', 0), 100_000, lastsMs);
    const progress = await work(fleet, 'run', { spec: specOf('alarms: [all]'), tell });
    assert.match(progress.why ?? '', /^the alarm all went off at /);
    assert.is(touched(fleet), 1);
  }
});

test("of 250 alarms the last one is seen, and they are read in pages within CloudWatch's limits", async () => {
  const names = Array.from({ length: 250 }, (_, at) => `alarm-${String(at).padStart(3, '0')}`);
  const fleet = fleetWith(...names);
  const tell = firesAfter(fleet, 'alarm-249', isBake('zone', 0), 100_000, 2_000);
  const progress = await work(fleet, 'run', { spec: specOf(`alarms: [${names.join(', ')}]`), tell });
  assert.match(progress.why ?? '', /^the alarm alarm-249 went off/);
  assert.is(touched(fleet), 10);
  const reads = fleet.calls.filter((call) => call.service === 'cloudwatch');
  const throttled = reads.filter((call) => !call.accepted);
  assert.ok(throttled.length < reads.length / 100, `${throttled.length} of ${reads.length} are throttled`);
  // Only the history of alarms whose state has changed is read.
  assert.ok(reads.filter((call) => call.action === 'DescribeAlarmHistory').length < 5);
});

test('when many alarms change at once, all are read, also while CloudWatch throttles', async () => {
  const names = Array.from({ length: 40 }, (_, at) => `alarm-${at}`);
  const fleet = fleetWith(...names);
  const quiet = (one: RolloutEvent) => {
    if (!isBake('canary', 0)(one)) return;
    for (const name of names) fleet.cloudwatch.set(name, 'INSUFFICIENT_DATA', 'no data');
    fleet.scheduler.after(30_000, () => {
      for (const name of names) fleet.cloudwatch.set(name, 'OK');
    });
  };
  const progress = await work(fleet, 'run', { spec: specOf(`alarms: [${names.join(', ')}]`), tell: quiet });
  assert.is(progress.state, 'done', progress.why);
  // The history of an alarm is not read again once its changes are known to be harmless.
  const histories = fleet.calls.filter((call) => call.action === 'DescribeAlarmHistory' && call.accepted);
  assert.ok(histories.length < 40 * 10, `${histories.length} reads`);
});

test('while CloudWatch throttles nothing begins; after five minutes the rollout halts', async () => {
  for (const [seconds, state] of [
    [200, 'done'],
    [700, 'halted'],
  ] as const) {
    const fleet = fleetWith('errors');
    const happenings: RolloutEvent[] = [];
    let untilMs = 0;
    const progress = await work(fleet, 'run', {
      options: {
        refuses: (action) =>
          action === 'DescribeAlarms' && fleet.scheduler.now() < untilMs
            ? new AwsError('ThrottlingException', 'Rate exceeded')
            : undefined,
      },
      tell: (one) => {
        happenings.push(one);
        // From the end of the wait.
        if (untilMs === 0 && isBake('canary', 0)(one)) {
          fleet.scheduler.after(295_000, () => {
            untilMs = fleet.scheduler.now() + seconds * 1000;
          });
        }
      },
    });
    assert.is(progress.state, state, progress.why);
    const told = happenings.filter((one) => one.kind === 'alarm');
    assert.match(told[0]?.why ?? '', /^the alarms could not be read for \d+ s: CLOUDWATCH_THROTTLED: /);
    const late = sends(fleet).filter((call) => call.at < untilMs && call.at > untilMs - seconds * 1000);
    assert.equal(late, [], 'nothing was sent while the alarms could not be read');
    if (state === 'done') continue;
    assert.match(progress.why ?? '', /^the alarms could not be read for 3\d\d s: CLOUDWATCH_THROTTLED: /);
    assert.is(touched(fleet), 1);
    fleet.scheduler.advance(600_000);
    assert.is((await work(fleet, 'resume', {})).state, 'done');
  }
});

test('without the permission to read alarms nothing begins; when it is withdrawn later, the rollout halts', async () => {
  const fleet = fleetWith('errors');
  for (const action of ['DescribeAlarms', 'DescribeAlarmHistory']) {
    fleet.denied.add(action);
    // DescribeAlarmHistory is called only when an alarm has changed.
    const tell = firesAfter(fleet, 'errors', isBake('canary', 0), 100_000, 2_000);
    const end = await work(fleet, 'run', { tell }).catch((error: unknown) => error);
    fleet.denied.delete(action);
    if (action === 'DescribeAlarms') {
      assert.ok(isFailure(end, 'CLOUDWATCH_DENIED'), String(end));
      assert.match((end as Error).message, /may not call DescribeAlarms/);
      assert.is(fleet.calls.filter((call) => call.mutating).length, 0);
    } else {
      assert.match(
        (end as Progress).why ?? '',
        /CLOUDWATCH_DENIED: this role may not call DescribeAlarmHistory/,
      );
      assert.is(touched(fleet), 1);
    }
  }
});

test('while the alarms cannot be read, a zone is not promoted either', async () => {
  const fleet = fleetWith('errors');
  let blind = false;
  let promoted: boolean | undefined;
  const parameter = () => fleet.ssm.parameters.get('/eniboot/bundle/euw1-az1') !== undefined;
  const progress = await work(fleet, 'run', {
    options: {
      refuses: (action) =>
        action === 'DescribeAlarms' && blind
          ? new AwsError('ThrottlingException', 'Rate exceeded')
          : undefined,
    },
    tell: (one) => {
      // The last batch of the first zone.
      if (one.kind !== 'step' || one.step.do !== 'update' || one.step.zone !== 0 || one.step.to !== 10)
        return;
      blind = true;
      fleet.scheduler.after(200_000, () => {
        promoted = parameter();
        blind = false;
      });
    },
  });
  assert.is(promoted, false);
  assert.is(progress.state, 'done', progress.why);
  assert.ok(parameter());
});

test("an alarm's change is found after any number of other changes", async () => {
  const fleet = fleetWith('errors');
  const progress = await work(fleet, 'run', {
    tell: (one) => {
      if (!isBake('canary', 0)(one)) return;
      // All changes are between two looks.
      for (let at = 0; at < 250; at += 1)
        fleet.cloudwatch.set('errors', at % 2 === 0 ? 'INSUFFICIENT_DATA' : 'OK');
      fleet.cloudwatch.set('errors', 'ALARM', 'at last');
      fleet.cloudwatch.set('errors', 'OK');
    },
  });
  assert.match(progress.why ?? '', /: at last \(it is OK again\)$/);
});

test('an alarm that is deleted during the rollout halts it', async () => {
  const fleet = fleetWith('errors');
  const progress = await work(fleet, 'run', {
    tell: (one) => {
      if (isBake('canary', 0)(one)) fleet.cloudwatch.remove('errors');
    },
  });
  assert.is(progress.why, 'the alarm errors no longer exists');
  assert.is(touched(fleet), 1);
});

test('an alarm that goes off and is over while no operator runs halts the operator that goes on', async () => {
  for (const stage of ['bake', 'intended', 'sent'] as const) {
    const fleet = fleetWith('errors');
    let calls = 0;
    // A run without a kill finds the number of the last call.
    const dies = (one: RolloutEvent) =>
      stage === 'bake'
        ? isBake('canary', 0)(one)
        : one.kind === 'step' && one.step.do === 'update' && one.step.kind === 'rest';
    const measured = fleetWith('errors');
    const operator = operatorOf(measured);
    await onFleetTime(
      measured,
      (async () => {
        const { aws, clock } = operator;
        const record = await beginRollout(
          aws,
          clock,
          { who: 'test', token: 'token' },
          await prepare(aws, specOf('alarms: [errors]')),
        );
        const tell = (one: RolloutEvent) => {
          if (calls === 0 && dies(one)) calls = operator.calls();
        };
        return orchestrate({ aws, clock, record, tell, stopped: never });
      })(),
    );
    // Calls after the begin of the step: two for presence and intent, and the command. The declaration was written before.
    const more = { bake: 3, intended: 2, sent: 3 }[stage];
    const killed = await work(fleet, 'run', {
      options: { killAt: { call: calls + more, carriedOut: true } },
    }).catch((error: unknown) => error);
    assert.instance(killed, Killed);
    fleet.cloudwatch.set('errors', 'ALARM', 'while no operator ran');
    fleet.scheduler.advance(2_000);
    fleet.cloudwatch.set('errors', 'OK');
    await onFleetTime(fleet, fleet.clock.sleep(LEASE_MS + 61_000));
    const { aws, clock } = operatorOf(fleet);
    const left = await onFleetTime(fleet, readRollout(aws, CLUSTER, clock));
    assert.is(left.progress.stage, stage === 'bake' ? 'ready' : 'intended');
    const before = sends(fleet).length;
    assert.is(before, { bake: 1, intended: 2, sent: 3 }[stage]);
    const progress = await work(fleet, 'takeover', { token: 'heir' });
    assert.is(progress.state, 'halted', stage);
    assert.match(progress.why ?? '', /^the alarm errors went off at .*: while no operator ran/, stage);
    assert.is(sends(fleet).length, before, `${stage}: nothing more is sent`);
  }
});

test("a dead operator's intended batch is not sent after an alarm, and a resume sends it", async () => {
  const fleet = fleetWith('errors');
  const { aws, clock } = operatorOf(fleet);
  await onFleetTime(
    fleet,
    (async () => {
      const record = await beginRollout(
        aws,
        clock,
        { who: 'test', token: 'dead' },
        await prepare(aws, specOf('alarms: [errors]')),
      );
      await record.save(intended(record.progress, clock.now().getTime()));
      await record.release();
    })(),
  );
  fleet.cloudwatch.set('errors', 'ALARM');
  const progress = await work(fleet, 'takeover', { token: 'heir' });
  assert.match(progress.why ?? '', /^the alarm errors went off/);
  assert.is(sends(fleet).length, 0);
  fleet.cloudwatch.set('errors', 'OK');
  assert.is((await work(fleet, 'resume', {})).state, 'done');
});

test('a resume goes on when the alarm is over; an alarm during the halt counts, unless it is forgiven', async () => {
  const fleet = fleetWith('errors');
  const tell = firesAfter(fleet, 'errors', isBake('canary', 0), 100_000);
  assert.is((await work(fleet, 'run', { tell })).state, 'halted');
  // It is still in ALARM, and forgiving does not change that.
  for (const how of ['resume', 'forgive'] as const) {
    assert.match((await work(fleet, how, {})).why ?? '', /^the alarm errors went off/);
    assert.is(touched(fleet), 1);
  }
  fleet.cloudwatch.set('errors', 'OK');
  await onFleetTime(fleet, fleet.clock.sleep(600_000));
  fleet.cloudwatch.set('errors', 'ALARM', 'once more');
  await onFleetTime(fleet, fleet.clock.sleep(60_000));
  fleet.cloudwatch.set('errors', 'OK');
  const again = await work(fleet, 'resume', {});
  assert.match(again.why ?? '', /once more \(it is OK again\)/);
  assert.is(touched(fleet), 1);
  assert.is((await work(fleet, 'forgive', {})).state, 'done');
});

test('an alarm that goes off during a look is reported once, and does not halt a resume again', async () => {
  const fleet = fleetWith('errors');
  let fires = false;
  const options: OperatorOptions = {
    apiMs: 2_000,
    refuses: (action) => {
      if (fires && action === 'DescribeAlarms') fleet.cloudwatch.set('errors', 'ALARM', 'meanwhile');
      return undefined;
    },
  };
  const tell = (one: RolloutEvent) => {
    fires ||= isBake('canary', 0)(one);
  };
  assert.match((await work(fleet, 'run', { options, tell })).why ?? '', /meanwhile$/);
  fleet.cloudwatch.set('errors', 'OK');
  assert.is((await work(fleet, 'resume', {})).state, 'done');
});

test('an alarm does not stop a rollback, and commands that only ask nodes carry no alarm', async () => {
  const fleet = fleetWith('smoke');
  const tell = firesAfter(fleet, 'smoke', isBake('zone', 0), 100_000);
  const spec = specOf('alarm: smoke');
  assert.is((await work(fleet, 'run', { spec, tell })).state, 'halted');
  assert.is((await work(fleet, 'rollback', {})).state, 'rolled-back');
  assert.is(on(fleet, OLD), 30);
  const along = sends(fleet).map((call) => {
    const { AlarmConfiguration, Parameters } = call.request as {
      AlarmConfiguration?: { Alarms: { Name: string }[] };
      Parameters: { action: string[] };
    };
    return `${Parameters.action[0]} ${AlarmConfiguration?.Alarms.map((one) => one.Name).join() ?? '-'}`;
  });
  assert.equal([...new Set(along)].sort(), ['check -', 'rollback -', 'update smoke']);
});

test('of several alarms only `alarm` is sent with a command, because AWS accepts one', async () => {
  const fleet = fleetWith('a', 'b', 'c');
  await work(fleet, 'run', { spec: specOf('alarm: b', 'alarms: [a, c]') });
  for (const call of sends(fleet)) {
    const { AlarmConfiguration, Parameters } = call.request as {
      AlarmConfiguration?: object;
      Parameters: { action: string[] };
    };
    if (Parameters.action[0] === 'update')
      assert.equal(AlarmConfiguration, { IgnorePollAlarmFailure: false, Alarms: [{ Name: 'b' }] });
  }
});

for (const [what, answer, code] of [
  ['a refusal', new AwsError('InvalidNextToken', 'no'), 'CLOUDWATCH_REFUSED'],
  ['an error of CloudWatch', new AwsError('InternalServiceError', 'later', 500), 'CLOUDWATCH_FAILED'],
  [
    'a change that names no state',
    { Timestamp: new Date(1), HistorySummary: 'Changed' },
    'CLOUDWATCH_FAILED',
  ],
  ['a change without a time', { HistorySummary: 'Alarm updated from OK to ALARM' }, 'CLOUDWATCH_FAILED'],
  [
    'a change without HistoryData',
    { Timestamp: new Date(1), HistorySummary: 'Alarm updated from OK to ALARM' },
    'ALARM',
  ],
] as const)
  test(`an answer of CloudWatch becomes a code: ${what}`, async () => {
    const fleet = fleetWith('errors');
    const send = async () => {
      if (!(answer instanceof AwsError)) return { AlarmHistoryItems: [answer] };
      throw Object.assign(new Error(answer.message), {
        name: answer.code,
        $metadata: { httpStatusCode: answer.status },
      });
    };
    const aws = fleetAws(send, {
      clock: fleet.clock,
      until: () => Number.POSITIVE_INFINITY,
      onThrottled: () => {},
      onCall: () => {},
    });
    const end = await onFleetTime(fleet, aws.firstAlarm('errors', 0)).catch((error: unknown) => error);
    if (code === 'ALARM')
      assert.equal(end, { atMs: 1, reason: 'Alarm updated from OK to ALARM', state: 'ALARM' });
    else assert.ok(isFailure(end, code), String(end));
  });

test('status and report show the alarms as a gate, with those that have gone off', async () => {
  const fleet = fleetWith('err|ors');
  const happenings: RolloutEvent[] = [];
  const fires = firesAfter(fleet, 'err|ors', isBake('canary', 0), 100_000, 2_000);
  const progress = await work(fleet, 'run', {
    spec: specOf('alarms: ["err|ors"]'),
    tell: (one) => {
      fires(one);
      happenings.push(one);
    },
  });
  const { aws, clock } = operatorOf(fleet);
  const record = await onFleetTime(fleet, takeRecord(aws, clock, { who: 'test', token: 'token' }, CLUSTER));
  const { rollout } = record;
  const [line = ''] = alarmLines(summarise(rollout, progress));
  assert.match(line, /^gate: 1 alarm \(err\|ors\), since 2026-01-01T00:00Z: the alarm err\|ors went off at /);
  const events = happenings.map((one, at) => ({ ...one, atMs: rollout.startedMs + at }));
  const part = { region: 'eu-west-1', rollout, progress, events };
  const markdown = reportMarkdown([part]);
  const row =
    /^\| all \| from the beginning on \| 1 alarm \(err\\\|ors\) \| stopped it \| the alarm err\\\|ors went off at .* \|$/m;
  assert.match(markdown, row);
  // Without the events the record has it.
  assert.match(reportMarkdown([{ ...part, events: [] }]), row);
  assert.match(markdown, /^- \S+ \S+Z {2}the alarm err\\\|ors went off at /m);
  assert.match(
    reportHtml([part]),
    /<td>1 alarm \(err\|ors\)<\/td><td>stopped it<\/td><td>the alarm err\|ors went off /,
  );
  // A rollback watches no alarm, and does not claim that none has gone off.
  const back = takenBack(rollout, progress, progress.sinceMs);
  assert.equal(alarmLines(summarise(rollout, back)), ['gate: 1 alarm (err|ors): the way back watches none']);
  assert.match(reportMarkdown([{ ...part, progress: back }]), row);
  assert.not.match(reportMarkdown([{ ...part, progress: back, events: [] }]), /none has gone off/);
});

test.run();
