// CloudWatch alarms for a rollout: the states of many, and whether one has been in ALARM since a time.
import type * as cloudwatch from '@aws-sdk/client-cloudwatch';
import { Failure } from '../messages/failure.ts';
import { codeOfKind } from '../messages/kinds.ts';
import type { Clock } from '../port/clock.ts';
import { fieldsOf } from './fields.ts';
import type { Call } from './operator-calls.ts';
import { allPages, partsOf } from './paging.ts';

const fields = fieldsOf('CloudWatch');

export interface AlarmState {
  name: string;
  /** `OK`, `ALARM` or `INSUFFICIENT_DATA`. */
  state: string;
  /** CloudWatch's own text. */
  reason: string;
  /** When its state changed last, milliseconds since the epoch; undefined where CloudWatch gives no time. */
  changedMs: number | undefined;
}

/** An alarm went off. */
export interface AlarmEvent {
  /** Milliseconds since the epoch, by CloudWatch's clock. */
  atMs: number;
  reason: string;
}

/** Each call is tried for some seconds only: a rollout that watches alarms has other work, and reads them again later. */
export interface AlarmReads {
  /** Metric and composite alarms of these names, in no order; a name without an alarm is left out. */
  describeAlarms(names: readonly string[]): Promise<AlarmState[]>;
  /** The first time since `sinceMs` that the alarm went to ALARM; undefined when it did not. CloudWatch keeps two weeks. */
  firstAlarm(name: string, sinceMs: number): Promise<AlarmEvent | undefined>;
}

type AlarmAction = 'DescribeAlarms' | 'DescribeAlarmHistory';

/** Names in one call, and records on one page. Source: CloudWatch API reference, DescribeAlarms. */
const MOST = 100;
/** "If you omit this parameter, only metric alarms are returned." Source: the same, AlarmTypes. */
const TYPES: cloudwatch.AlarmType[] = ['MetricAlarm', 'CompositeAlarm'];
/** Milliseconds for which one call is tried. */
const TRIED_MS = 15_000;

/** `callsUntil`: makes calls to AWS that are tried until the given time of the boot clock. */
export function alarmReads(callsUntil: (until: () => number) => Call<AlarmAction>, clock: Clock): AlarmReads {
  const call: Call<AlarmAction> = (action, request, facts) => {
    const untilMs = clock.bootMs() + TRIED_MS;
    return callsUntil(() => untilMs)(action, request, facts);
  };
  return {
    async describeAlarms(names) {
      const found: AlarmState[] = [];
      for (const AlarmNames of partsOf(names, MOST))
        found.push(
          ...(await allPages(
            'CloudWatch',
            (next) =>
              call<cloudwatch.DescribeAlarmsOutput>(
                'DescribeAlarms',
                { AlarmNames, AlarmTypes: TYPES, MaxRecords: MOST, ...next },
                { alarms: AlarmNames.length },
              ),
            (page) => [...(page.MetricAlarms ?? []), ...(page.CompositeAlarms ?? [])].map(stateOf),
          )),
        );
      return found;
    },

    async firstAlarm(name, sinceMs) {
      const items = await allPages(
        'CloudWatch',
        (next) =>
          call<cloudwatch.DescribeAlarmHistoryOutput>(
            'DescribeAlarmHistory',
            {
              AlarmName: name,
              AlarmTypes: TYPES,
              HistoryItemType: 'StateUpdate',
              StartDate: new Date(sinceMs),
              ScanBy: 'TimestampAscending',
              MaxRecords: MOST,
              ...next,
            },
            { alarm: name },
          ),
        (page) => page.AlarmHistoryItems,
      );
      return items.map(changeOf).find((one) => one.state === 'ALARM' && one.atMs >= sinceMs);
    },
  };
}

function stateOf(alarm: cloudwatch.MetricAlarm | cloudwatch.CompositeAlarm): AlarmState {
  const { StateTransitionedTimestamp } = alarm;
  return {
    name: fields.field('AlarmName', alarm.AlarmName, 'text'),
    state: fields.field('StateValue', alarm.StateValue, 'text'),
    reason: shown(fields.optional('StateReason', alarm.StateReason, 'text')),
    changedMs:
      StateTransitionedTimestamp === undefined
        ? undefined
        : fields.moment('StateTransitionedTimestamp', StateTransitionedTimestamp),
  };
}

/**
 * A change of state, from the record's JSON, else from its sentence. Throws when neither names a state: the record may hide an
 * alarm.
 */
function changeOf(item: cloudwatch.AlarmHistoryItem): AlarmEvent & { state: string } {
  const atMs = fields.moment('Timestamp', item.Timestamp);
  const summary = item.HistorySummary ?? '';
  try {
    const { newState } = JSON.parse(item.HistoryData ?? '') as {
      newState?: { stateValue?: unknown; stateReason?: unknown };
    };
    if (typeof newState?.stateValue === 'string')
      return {
        atMs,
        state: newState.stateValue,
        reason: shown(typeof newState.stateReason === 'string' ? newState.stateReason : summary),
      };
  } catch {
    // The sentence below names the state too.
  }
  const [, state] = / to (OK|ALARM|INSUFFICIENT_DATA)\.?$/.exec(summary) ?? [];
  if (state !== undefined) return { atMs, state, reason: shown(summary) };
  throw new Failure(
    codeOfKind.CloudWatch.senseless,
    `an answer of CloudWatch makes no sense: the history of ${item.AlarmName} has a change of state that names none`,
    { alarm: item.AlarmName, summary: summary.slice(0, 100) },
  );
}

/** Characters of a reason that are kept: it goes into a record that has to fit into one parameter. */
const MOST_REASON = 160;

/** The reason holds text of the alarm's author: without control characters, which a terminal would obey. */
function shown(reason = ''): string {
  return reason.replace(/\p{Cc}+/gu, ' ').slice(0, MOST_REASON);
}
