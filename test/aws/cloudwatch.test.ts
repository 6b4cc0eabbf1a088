// The simulated CloudWatch: what a reader of alarms must not take for granted.
import type { DescribeAlarmHistoryOutput, DescribeAlarmsOutput } from '@aws-sdk/client-cloudwatch';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createCloudWatch } from './cloudwatch/cloudwatch.ts';
import { AwsError } from './ec2/errors.ts';
import { virtualScheduler } from './ec2/scheduler.ts';

const BOTH = ['MetricAlarm', 'CompositeAlarm'];
const DAY_MS = 86_400_000;

function region({ throttles = false }: { throttles?: boolean } = {}) {
  const scheduler = virtualScheduler();
  const denied = new Set<string>();
  const cloudwatch = createCloudWatch({
    scheduler,
    calls: [],
    denied,
    bucketOf: () => (throttles ? undefined : { capacity: 1000, refill: 1000 }),
  });
  const describe = (request: object = {}) =>
    cloudwatch.send('DescribeAlarms', request) as DescribeAlarmsOutput;
  const history = (request: object) =>
    cloudwatch.send('DescribeAlarmHistory', request) as DescribeAlarmHistoryOutput;
  return { scheduler, denied, cloudwatch, describe, history };
}

function codeOf(call: () => unknown): string {
  try {
    call();
    return 'none';
  } catch (error) {
    if (error instanceof AwsError) return error.code;
    throw error;
  }
}

test('a composite alarm is told only when its type is asked for, in state and in history', () => {
  const { cloudwatch, describe, history } = region();
  cloudwatch.set('errors', 'OK');
  cloudwatch.addComposite('all');
  cloudwatch.set('all', 'ALARM', 'ALARM(errors)');
  const names = ({ MetricAlarms = [], CompositeAlarms = [] }: DescribeAlarmsOutput) =>
    [...MetricAlarms, ...CompositeAlarms].map((one) => `${one.AlarmName} ${one.StateValue}`);
  assert.equal(names(describe({ AlarmNames: ['all', 'errors'] })), ['errors OK']);
  assert.equal(names(describe({ AlarmNames: ['all', 'errors'], AlarmTypes: BOTH })), [
    'errors OK',
    'all ALARM',
  ]);
  assert.equal(history({ AlarmName: 'all' }).AlarmHistoryItems, []);
  const [item] =
    history({ AlarmName: 'all', AlarmTypes: BOTH, HistoryItemType: 'StateUpdate' }).AlarmHistoryItems ?? [];
  assert.is(item?.HistorySummary, 'Alarm updated from INSUFFICIENT_DATA to ALARM');
  assert.is(JSON.parse(item?.HistoryData ?? '{}').newState.stateReason, 'ALARM(errors)');
});

test('a name without an alarm is left out; a removed alarm keeps its history', () => {
  const { cloudwatch, describe, history } = region();
  cloudwatch.set('errors', 'ALARM');
  cloudwatch.remove('errors');
  assert.equal(describe({ AlarmNames: ['errors', 'none'] }).MetricAlarms, []);
  assert.is(history({ AlarmName: 'errors', HistoryItemType: 'StateUpdate' }).AlarmHistoryItems?.length, 1);
});

test('alarms come in pages, also when they are asked for by name', () => {
  const { cloudwatch, describe } = region();
  const wanted = Array.from({ length: 100 }, (_, at) => `alarm-${String(at).padStart(3, '0')}`);
  for (const name of wanted) cloudwatch.set(name, 'OK');
  const first = describe({ AlarmNames: wanted });
  const second = describe({ AlarmNames: wanted, NextToken: first.NextToken });
  assert.equal(
    [first.MetricAlarms?.length, second.MetricAlarms?.length, second.NextToken],
    [50, 50, undefined],
  );
  assert.is(
    codeOf(() => describe({ NextToken: 'x' })),
    'InvalidNextToken',
  );
});

test('history covers two weeks, the newest first unless asked otherwise, and begins at StartDate', () => {
  const { scheduler, cloudwatch, history } = region();
  cloudwatch.set('errors', 'OK');
  scheduler.advance(DAY_MS);
  cloudwatch.set('errors', 'ALARM');
  scheduler.advance(DAY_MS);
  const at = scheduler.now();
  cloudwatch.set('errors', 'OK');
  const told = (more: object = {}) =>
    history({ AlarmName: 'errors', HistoryItemType: 'StateUpdate', ...more }).AlarmHistoryItems?.map(
      (one) => one.HistorySummary?.split(' to ')[1],
    );
  assert.equal(told(), ['OK', 'ALARM', 'OK']);
  assert.equal(told({ ScanBy: 'TimestampAscending', StartDate: new Date(at - 1_000) }), ['OK']);
  // Over the wire a time is a number of seconds.
  assert.equal(told({ StartDate: at / 1000 }), ['OK']);
  assert.equal(told({ MaxRecords: 1 }), ['OK']);
  scheduler.advance(12.5 * DAY_MS);
  assert.equal(told({ ScanBy: 'TimestampAscending' }), ['ALARM', 'OK']);
});

test('each action has a bucket of its own, of the published size, and a permission of its own', () => {
  const { scheduler, denied, describe, history } = region({ throttles: true });
  const states = Array.from({ length: 10 }, () => codeOf(describe));
  assert.equal([states.indexOf('Throttling'), states.filter((one) => one === 'none').length], [9, 9]);
  const histories = Array.from({ length: 4 }, () => codeOf(() => history({})));
  assert.equal(histories, ['none', 'none', 'none', 'Throttling']);
  scheduler.advance(1_000);
  denied.add('DescribeAlarmHistory');
  assert.equal([codeOf(describe), codeOf(() => history({}))], ['none', 'AccessDenied']);
});

test.run();
