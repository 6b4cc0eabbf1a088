// What became of a node: judged by its own report, never by the status that Run Command gives it. A node that reports nothing
// has failed. Pure.
import type { Invocation } from '../aws/fleet.ts';
import { type CounterName, counterNames, type NodeReport, readReport } from './node-report.ts';

/**
 * Good: updated, already (it ran the version before).
 * Left to be asked, and no failure: unsent (Run Command stopped before this node), held (the node saw the halt flag), cancelled
 * (by an alarm or a person, at any point of the update).
 * No failure either: gone (EC2 no longer has the node, and it was never asked, or was to be restored), unreachable (its SSM
 * agent did not answer before the node was asked; unreachable nodes have a budget of their own), deferred (was unreachable, and
 * is asked again among the late nodes).
 * All others are failures. After went-back, untouched and refused (by Run Command) the node runs the old version. After the
 * rest its version is not known; this includes lost: EC2 no longer has the node, and the new version may have ended it.
 */
export type Outcome =
  | 'updated'
  | 'already'
  | 'unsent'
  | 'held'
  | 'went-back'
  | 'untouched'
  | 'refused'
  | 'undelivered'
  | 'missing'
  | 'gone'
  | 'lost'
  | 'unreachable'
  | 'deferred'
  | 'failed'
  | 'unhealthy'
  | 'lied'
  | 'silent'
  | 'late'
  | 'cancelled';

export interface Judgement {
  instanceId: string;
  outcome: Outcome;
  /** Text for operators. */
  reason: string;
  /** By its own report the node ran the version before the rollout did anything: a rollback leaves it there. */
  there?: true;
}

export interface Expected {
  direction: 'forward' | 'back';
  version: string;
  /** Digests of the version's archives. */
  digests: readonly string[];
  warnings: 'allow' | 'fail';
  /** At a gate: how much each counter may have grown since the switch. */
  limits?: Limits | undefined;
}

/** `most`: the largest growth that passes; `demanded`: a node that does not report the counter has failed. */
export type Limits = Partial<Record<CounterName, { most: number; demanded: boolean }>>;

const GOOD: ReadonlySet<Outcome> = new Set<Outcome>(['updated', 'already']);
const LEFT: ReadonlySet<Outcome> = new Set<Outcome>(['unsent', 'held', 'cancelled']);
const NO_FAILURE: ReadonlySet<Outcome> = new Set<Outcome>([
  ...GOOD,
  ...LEFT,
  'gone',
  'unreachable',
  'deferred',
]);
/** The node is known to run what it ran before. All outcomes that are not listed here count as touched. */
const UNTOUCHED: ReadonlySet<Outcome> = new Set<Outcome>([
  'unsent',
  'held',
  'went-back',
  'untouched',
  'refused',
  'missing',
  'gone',
  'unreachable',
  'deferred',
]);
/** Run Command had no report of the node: it may be gone. */
const UNHEARD: ReadonlySet<Outcome> = new Set<Outcome>([
  'missing',
  'undelivered',
  'unreachable',
  'late',
  'cancelled',
]);
/** The command is known not to have reached the node. */
const UNASKED: ReadonlySet<Outcome> = new Set<Outcome>(['missing', 'undelivered', 'unreachable']);

/** For an invocation, or for each node of a command that has no invocations because of it. */
const RATE_EXCEEDED: Omit<Judgement, 'instanceId'> = {
  outcome: 'unsent',
  reason: "RateExceeded: more invocations of this account's were open than Run Command allows",
};

/**
 * What the invocation's StatusDetails mean for a node without a report. When a command expires, every invocation without an end
 * becomes DeliveryTimedOut, also one in progress: the node may have switched. Sources: SSM API reference, Command,
 * ExpiresAfter; "Understanding command statuses".
 */
const ENDINGS: Record<string, Omit<Judgement, 'instanceId'>> = {
  Undeliverable: { outcome: 'undelivered', reason: 'Run Command could not reach the node' },
  Terminated: { outcome: 'unsent', reason: 'Run Command stopped before this node' },
  DeliveryTimedOut: {
    outcome: 'late',
    reason: 'no final answer before the command expired: whether the node took it up is not known',
  },
  ExecutionTimedOut: { outcome: 'late', reason: 'the node did not end in time' },
  AccessDenied: {
    outcome: 'refused',
    reason: 'AccessDenied: the sender of the command may not send it to this node',
  },
  InvalidPlatform: {
    outcome: 'refused',
    reason: 'InvalidPlatform: the document is for Linux, and the SSM agent says the node is not',
  },
  RateExceeded: RATE_EXCEEDED,
};

export function isGood(outcome: Outcome): boolean {
  return GOOD.has(outcome);
}

export function isFailed(outcome: Outcome): boolean {
  return !NO_FAILURE.has(outcome);
}

/** Whether the node still has to be asked, or asked again. */
export function isLeft(outcome: Outcome): boolean {
  return LEFT.has(outcome);
}

/** Whether EC2 has to be asked if the node still exists. */
export function isUnheard(outcome: Outcome): boolean {
  return UNHEARD.has(outcome);
}

/** The judgement once EC2 no longer has the node. */
export function asGone(judgement: Judgement, direction: Expected['direction']): Judgement {
  const never = direction === 'back' || UNASKED.has(judgement.outcome);
  return {
    ...judgement,
    outcome: never ? 'gone' : 'lost',
    reason: never ? 'EC2 no longer has it' : 'EC2 no longer has it, and it had been asked',
  };
}

export function isUntouched(outcome: Outcome): boolean {
  return UNTOUCHED.has(outcome);
}

/** Why an invocation will not change any more: the command has ended, was cancelled, has run out of time, or was refused. */
export type Over = 'ended' | 'cancelled' | 'late' | 'rate-exceeded';

/**
 * One node's outcome; undefined while it may still change. `undelivered`: the time for delivery is over, and a command that has
 * not begun by then does not begin. Source: SSM API reference, SendCommand, TimeoutSeconds.
 */
export function judge(
  instanceId: string,
  invocation: Invocation | undefined,
  expected: Expected,
  over: Over | undefined,
  undelivered = false,
): Judgement | undefined {
  const as = (outcome: Outcome, reason: string): Judgement => ({ instanceId, outcome, reason });
  const cancelled = () => as('cancelled', 'the command was cancelled');
  if (invocation === undefined) {
    if (over === 'cancelled') return cancelled();
    if (over === 'rate-exceeded') return { instanceId, ...RATE_EXCEEDED };
    return over === undefined ? undefined : as('missing', 'Run Command does not know this node');
  }
  const { status, details, output, exitCode } = invocation;
  // These details appear only on invocations that have ended.
  const ending = ENDINGS[details];
  if (ending !== undefined) return { instanceId, ...ending };
  if (undelivered && (status === 'Pending' || status === 'Delayed'))
    return as('unreachable', 'its SSM agent did not take up the command in time');
  switch (status) {
    case 'Success':
    case 'Failed': {
      const report = readReport(output);
      if (report !== undefined) return judgeReport(instanceId, report, expected, status === 'Success');
      return status === 'Success'
        ? as('silent', 'the command ended well, but the node reported nothing')
        : as('failed', `exit ${exitCode} without a report: ${firstLine(output)}`);
    }
    case 'TimedOut':
      return as('late', `no end in time: ${details}`);
    case 'Cancelled':
      // A late command is cancelled by the rollout itself (look.ts).
      return over === 'late' ? as('late', 'no end in time: cancelled') : cancelled();
    default:
      if (over === 'cancelled') return cancelled();
      return over === undefined ? undefined : as('late', `no end in time: ${details}`);
  }
}

function judgeReport(
  instanceId: string,
  report: NodeReport,
  expected: Expected,
  success: boolean,
): Judgement {
  const as = (outcome: Outcome, reason: string): Judgement => ({ instanceId, outcome, reason });
  const said = `${report.code ?? report.result}: ${report.message ?? 'no reason given'}`;
  // The node refused before it had read its own ID from instance metadata.
  const nameless = report.node === '' && report.result === 'untouched';
  if (report.node !== instanceId && !nameless) return as('lied', `the report is that of ${report.node}`);
  // A node that reports the new version has not kept the old one, whatever result it reports.
  const remains = report.result === 'went-back' || report.result === 'untouched';
  if (remains && expected.direction === 'forward' && report.version === expected.version)
    return as('failed', said);
  if (report.code === 'UPDATE_HALTED' && report.result === 'untouched')
    return as('held', report.message ?? 'the halt flag is up');
  if (report.result === 'went-back') return as('went-back', said);
  if (report.result === 'untouched') return as('untouched', said);
  if (report.result === 'failed') return as('failed', said);
  // The node ran the version before the rollout began.
  if (report.code === 'UPDATE_NOT_OF_ROLLOUT' && expected.direction === 'back')
    return { ...as('already', said), there: true };
  const wrong = differs(report, expected);
  if (wrong !== undefined) return as('lied', wrong);
  const there = report.result === 'already' && expected.direction === 'forward';
  const ran = (outcome: Outcome, reason: string) => ({
    ...as(outcome, reason),
    ...(there ? { there: true as const } : {}),
  });
  if (!report.healthy) return ran('unhealthy', `not healthy: ${report.failing.join(', ')}`);
  if (!success) return ran('failed', said);
  if (expected.warnings === 'fail' && report.warnings > 0)
    return ran('unhealthy', `${report.warnings} checks warn`);
  const exceeded = exceeds(report, expected.limits ?? {});
  return exceeded === undefined ? ran(report.result, '') : ran('unhealthy', exceeded);
}

/** The counter that has grown too much since the switch, or that the node does not report although the spec demands it. */
function exceeds({ counters = {} }: NodeReport, limits: Limits): string | undefined {
  for (const [name, { most, demanded }] of Object.entries(limits) as [
    CounterName,
    NonNullable<Limits[CounterName]>,
  ][]) {
    const count = counters[name];
    if (count === undefined && demanded)
      return `it does not say how many ${counterNames[name]} there were since the switch`;
    if (count !== undefined && count > most)
      return `${count} ${counterNames[name]} since the switch, ${most} may be`;
  }
  return undefined;
}

/** How the version that runs now differs from what was asked for. */
function differs(report: NodeReport, { direction, version, digests }: Expected): string | undefined {
  if (direction === 'back')
    return report.version === version ? `it still runs ${version}, which was taken back` : undefined;
  if (report.version !== version) return `it runs ${report.version}, not ${version}`;
  return digests.includes(report.sha256 ?? '')
    ? undefined
    : `its ${version} comes from an archive with SHA-256 ${report.sha256 ?? 'unknown'}`;
}

function firstLine(output: string): string {
  return (output.trim().split('\n')[0] ?? '').slice(0, 200) || 'no output';
}
