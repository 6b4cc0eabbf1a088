// The state machine of CloudWatch's alarms: one call in, one answer or AwsError out, no I/O. It measures nothing: a test
// sets an alarm's state. It copies what a reader of alarms relies on. Without AlarmTypes only metric alarms are told, also
// when a composite alarm is asked for by name; a name without an alarm is left out and is no error; state and history are
// two calls. Source: CloudWatch API reference, DescribeAlarms, DescribeAlarmHistory, SetAlarmState.
import type {
  AlarmHistoryItem,
  AlarmType,
  DescribeAlarmHistoryInput,
  DescribeAlarmHistoryOutput,
  DescribeAlarmsInput,
  DescribeAlarmsOutput,
  SetAlarmStateInput,
  StateValue,
} from '@aws-sdk/client-cloudwatch';
import { type ApiCall, recording } from '../calls.ts';
import { AwsError } from '../ec2/errors.ts';
import type { Scheduler } from '../ec2/scheduler.ts';
import type { Caller } from '../ec2/state.ts';
import { type BucketSize, Throttle } from '../ec2/throttle.ts';
import { checkRequest } from '../requests/check.ts';

export interface CloudWatchOptions {
  scheduler: Scheduler;
  calls: ApiCall[];
  denied: ReadonlySet<string>;
  /** Bucket sizes that differ from the published ones. */
  bucketOf?: ((action: string) => BucketSize | undefined) | undefined;
}

export interface CloudWatch {
  /** Sets the alarm's state; a new alarm begins with INSUFFICIENT_DATA, as in AWS. */
  set(name: string, state: StateValue, reason?: string): void;
  /** Makes a composite alarm. */
  addComposite(name: string): void;
  /** Removes the alarm; its history stays. */
  remove(name: string): void;
  isInAlarm(name: string): boolean;
  send(action: string, request: object, caller?: Caller): object;
}

interface Alarm {
  name: string;
  type: AlarmType;
  state: StateValue;
  reason: string;
  /** When its state changed last. */
  changedMs: number;
}

/** Source: AWS Cloud Operations blog, "Extending and exploring alarm history in Amazon CloudWatch – part 1": 14 days. */
const KEPT_MS = 14 * 86_400_000;
/** Calls a second; 3 for every other action. Source: CloudWatch user guide, "CloudWatch service quotas". */
const TPS: Record<string, number> = { DescribeAlarms: 9 };
/** Records of a page without MaxRecords. An assumption: the reference names only the largest page, 100. */
const PAGE = 50;

export function isCloudWatchMutating(action: string): boolean {
  return action === 'SetAlarmState';
}

export function createCloudWatch(options: CloudWatchOptions): CloudWatch {
  const { scheduler, calls, denied } = options;
  const alarms = new Map<string, Alarm>();
  const history: (AlarmHistoryItem & { Timestamp: Date })[] = [];
  const throttle = new Throttle(
    scheduler,
    (action) => options.bucketOf?.(action) ?? { capacity: TPS[action] ?? 3, refill: TPS[action] ?? 3 },
  );

  function ensure(name: string, type: AlarmType): Alarm {
    const known = alarms.get(name);
    if (known !== undefined) return known;
    const reason = 'Unchecked: Initial alarm creation';
    const made: Alarm = { name, type, state: 'INSUFFICIENT_DATA', reason, changedMs: scheduler.now() };
    alarms.set(name, made);
    note(made, 'ConfigurationUpdate', `Alarm "${name}" created`, {});
    return made;
  }

  function note(alarm: Alarm, type: 'ConfigurationUpdate' | 'StateUpdate', summary: string, data: object) {
    history.push({
      AlarmName: alarm.name,
      AlarmType: alarm.type,
      Timestamp: new Date(scheduler.now()),
      HistoryItemType: type,
      HistorySummary: summary,
      HistoryData: JSON.stringify({ version: '1.0', ...data }),
    });
  }

  function set(name: string, state: StateValue, reason = `Threshold Crossed: it is ${state}`): void {
    const alarm = ensure(name, 'MetricAlarm');
    if (alarm.state === state) return;
    const was = { stateValue: alarm.state, stateReason: alarm.reason };
    Object.assign(alarm, { state, reason, changedMs: scheduler.now() });
    note(alarm, 'StateUpdate', `Alarm updated from ${was.stateValue} to ${state}`, {
      oldState: was,
      newState: { stateValue: state, stateReason: reason },
    });
  }

  function describeAlarms(request: DescribeAlarmsInput): DescribeAlarmsOutput {
    const { AlarmNames, AlarmTypes } = request;
    const types = asked(AlarmTypes);
    const found = [...alarms.values()]
      .filter(({ name, type }) => types.has(type) && (AlarmNames === undefined || AlarmNames.includes(name)))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    const { items, ...rest } = paged(found, request);
    const shown = items.map(({ type, name, state, reason, changedMs }) => ({
      type,
      told: {
        AlarmName: name,
        StateValue: state,
        StateReason: reason,
        StateUpdatedTimestamp: new Date(changedMs),
        StateTransitionedTimestamp: new Date(changedMs),
      },
    }));
    const of = (wanted: AlarmType) => shown.filter(({ type }) => type === wanted).map(({ told }) => told);
    return { MetricAlarms: of('MetricAlarm'), CompositeAlarms: of('CompositeAlarm'), ...rest };
  }

  function describeHistory(request: DescribeAlarmHistoryInput): DescribeAlarmHistoryOutput {
    const { AlarmName, AlarmTypes, HistoryItemType, StartDate, EndDate, ScanBy } = request;
    const types = asked(AlarmTypes);
    const from = Math.max(scheduler.now() - KEPT_MS, timeOf(StartDate) ?? Number.NEGATIVE_INFINITY);
    const to = timeOf(EndDate) ?? Number.POSITIVE_INFINITY;
    const found = history.filter(
      (item) =>
        types.has(item.AlarmType ?? '') &&
        (AlarmName === undefined || item.AlarmName === AlarmName) &&
        (HistoryItemType === undefined || item.HistoryItemType === HistoryItemType) &&
        item.Timestamp.getTime() >= from &&
        item.Timestamp.getTime() <= to,
    );
    // The newest first, as in the example of the CLI's reference; the API reference names no order without ScanBy.
    if (ScanBy !== 'TimestampAscending') found.reverse();
    const { items, ...rest } = paged(found, request);
    return { AlarmHistoryItems: items, ...rest };
  }

  /** AWS's metric alarms soon return to the state of their metric. Here there is no metric: the state that is set stays. */
  function setState({ AlarmName = '', StateValue = 'OK', StateReason }: SetAlarmStateInput): object {
    if (!alarms.has(AlarmName)) throw new AwsError('ResourceNotFound', 'The alarm does not exist.', 404);
    set(AlarmName, StateValue, StateReason);
    return {};
  }

  const handlers: Record<string, (request: never) => object> = {
    DescribeAlarms: describeAlarms,
    DescribeAlarmHistory: describeHistory,
    SetAlarmState: setState,
  };

  function carryOut(action: string, request: object): object {
    const handler = handlers[action];
    if (handler === undefined) throw new AwsError('UnknownOperationException', `${action} is not simulated`);
    if (!throttle.take(action)) throw new AwsError('Throttling', 'Rate exceeded');
    checkRequest('cloudwatch', action, request, scheduler.now());
    if (denied.has(action) || denied.has('*'))
      throw new AwsError('AccessDenied', `The role is not authorized to perform: cloudwatch:${action}`, 403);
    return handler(request as never);
  }

  return {
    set,
    addComposite: (name) => void ensure(name, 'CompositeAlarm'),
    remove: (name) => void alarms.delete(name),
    isInAlarm: (name) => alarms.get(name)?.state === 'ALARM',
    send: recording({ service: 'cloudwatch', calls, scheduler, isMutating: isCloudWatchMutating, carryOut }),
  };
}

function asked(types: readonly AlarmType[] | undefined): ReadonlySet<string> {
  return new Set(types === undefined || types.length === 0 ? ['MetricAlarm'] : types);
}

/** Over the wire a time is a number of seconds. */
function timeOf(time: Date | number | undefined): number | undefined {
  return typeof time === 'number' ? time * 1000 : time?.getTime();
}

function paged<T>(
  items: T[],
  { MaxRecords = PAGE, NextToken }: { MaxRecords?: number | undefined; NextToken?: string | undefined },
): { items: T[]; NextToken?: string } {
  const start = NextToken === undefined ? 0 : Number(NextToken.replace(/^page:/, ''));
  if (!Number.isInteger(start)) throw new AwsError('InvalidNextToken', 'The next token is invalid.');
  const end = start + MaxRecords;
  return { items: items.slice(start, end), ...(end < items.length ? { NextToken: `page:${end}` } : {}) };
}
