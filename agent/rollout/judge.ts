// What became of a node: judged by what it reports, never by what Run Command makes of it. A node that says nothing
// has failed. Pure.
import type { Invocation } from '../aws/fleet.ts';
import { type NodeReport, readReport } from './node-report.ts';

/**
 * Good: updated, already. Left over, and no failure: unsent (Run Command stopped before it), held (the node saw the
 * halt flag), cancelled (by an alarm or a person, wherever the node was by then). No failure either: gone (EC2 no longer
 * has it, and it was never asked, or is to be restored), unreachable (its SSM agent did not answer before it was to be asked:
 * these have a budget of their own), deferred (it was, and is asked among those that came late). All others are failures:
 * went-back, untouched and refused (by Run Command) left the old version; of the rest nobody knows what they run, lost
 * among them: EC2 no longer has it, and it may have been the version that ended it.
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
  /** For people. */
  reason: string;
  /** By its own report it ran the version before the rollout did anything: it is not the rollout's to take back. */
  there?: true;
}

export interface Expected {
  direction: 'forward' | 'back';
  version: string;
  /** Digests of the version's archives. */
  digests: readonly string[];
  warnings: 'allow' | 'fail';
}

const GOOD: ReadonlySet<Outcome> = new Set<Outcome>(['updated', 'already']);
const LEFT: ReadonlySet<Outcome> = new Set<Outcome>(['unsent', 'held', 'cancelled']);
const NO_FAILURE: ReadonlySet<Outcome> = new Set<Outcome>([
  ...GOOD,
  ...LEFT,
  'gone',
  'unreachable',
  'deferred',
]);
/** The node is known to run what it ran before. Whatever is not in here counts as touched. */
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
/** Nobody has heard of the node itself: it may be gone. Of the first two it is known that they were never asked. */
const UNHEARD: ReadonlySet<Outcome> = new Set<Outcome>(['missing', 'undelivered', 'late', 'cancelled']);

/** Of an invocation, or of a whole command, which then has none. */
const RATE_EXCEEDED: Omit<Judgement, 'instanceId'> = {
  outcome: 'unsent',
  reason: "RateExceeded: more invocations of this account's were open than Run Command allows",
};

/**
 * What Run Command says of a node that itself says nothing, by the invocation's StatusDetails. A command that expires turns
 * every invocation without an end into DeliveryTimedOut, those in progress too: the node may have switched. Sources: SSM API
 * reference, Command, ExpiresAfter; "Understanding command statuses".
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
    reason: 'AccessDenied: whoever sent the command may not send it to this node',
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

/** Whether it still has to be asked, or asked again. */
export function isLeft(outcome: Outcome): boolean {
  return LEFT.has(outcome);
}

/** EC2 has to be asked whether it still is there. */
export function isUnheard(outcome: Outcome): boolean {
  return UNHEARD.has(outcome);
}

/** Of a node that EC2 no longer has. */
export function asGone(judgement: Judgement, direction: Expected['direction']): Judgement {
  const never =
    direction === 'back' || judgement.outcome === 'missing' || judgement.outcome === 'undelivered';
  return {
    ...judgement,
    outcome: never ? 'gone' : 'lost',
    reason: never ? 'EC2 no longer has it' : 'EC2 no longer has it, and it had been asked',
  };
}

export function isUntouched(outcome: Outcome): boolean {
  return UNTOUCHED.has(outcome);
}

/** Why nothing will change any more: the command has ended, somebody has cancelled it, or its time is up. */
export type Over = 'ended' | 'cancelled' | 'late' | 'rate-exceeded';

/**
 * One node's outcome; undefined while it may still change. `undelivered`: the time for delivery is over; what has not begun
 * by then does not begin. Source: SSM API reference, SendCommand, TimeoutSeconds.
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
  // Each of them is told at an end alone.
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
      // What is late the orchestrator cancels itself.
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
  // It was refused before the node had asked for its own ID.
  const nameless = report.node === '' && report.result === 'untouched';
  if (report.node !== instanceId && !nameless) return as('lied', `the report is that of ${report.node}`);
  if (report.code === 'UPDATE_HALTED') return as('held', report.message ?? 'the halt flag is up');
  // Whoever reports the very version has not left the old one, whatever else it says.
  const remains = report.result === 'went-back' || report.result === 'untouched';
  if (remains && expected.direction === 'forward' && report.version === expected.version)
    return as('failed', said);
  if (report.result === 'went-back') return as('went-back', said);
  if (report.result === 'untouched') return as('untouched', said);
  if (report.result === 'failed') return as('failed', said);
  // It ran the version before the rollout began.
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
  return ran(report.result, '');
}

/** Why what runs now is not what was asked for. */
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
