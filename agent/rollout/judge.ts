// What became of a node: judged by what it reports, never by what Run Command makes of it. A node that says nothing
// has failed. Pure.
import type { Invocation } from '../aws/fleet.ts';
import { type NodeReport, readReport } from './node-report.ts';

/**
 * Good: updated, already. Left over, and no failure: unsent (Run Command stopped before it), held (the node saw the
 * halt flag), cancelled (by an alarm or a person, wherever the node was by then). All others are failures: went-back and
 * untouched left the old version, the rest are not known.
 */
export type Outcome =
  | 'updated'
  | 'already'
  | 'unsent'
  | 'held'
  | 'went-back'
  | 'untouched'
  | 'undelivered'
  | 'missing'
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
const NO_FAILURE: ReadonlySet<Outcome> = new Set<Outcome>([...GOOD, ...LEFT]);
/** The node is known to run what it ran before. */
const UNTOUCHED: ReadonlySet<Outcome> = new Set<Outcome>([
  'unsent',
  'held',
  'went-back',
  'untouched',
  'undelivered',
  'missing',
]);

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

export function isUntouched(outcome: Outcome): boolean {
  return UNTOUCHED.has(outcome);
}

/** Why nothing will change any more: the command has ended, somebody has cancelled it, or its time is up. */
export type Over = 'ended' | 'cancelled' | 'late';

/** One node's outcome; undefined while it may still change. */
export function judge(
  instanceId: string,
  invocation: Invocation | undefined,
  expected: Expected,
  over: Over | undefined,
): Judgement | undefined {
  const as = (outcome: Outcome, reason: string): Judgement => ({ instanceId, outcome, reason });
  const cancelled = () => as('cancelled', 'the command was cancelled');
  if (invocation === undefined) {
    if (over === 'cancelled') return cancelled();
    return over === undefined ? undefined : as('missing', 'Run Command does not know this node');
  }
  const { status, details, output, exitCode } = invocation;
  switch (status) {
    case 'Success':
    case 'Failed': {
      if (details === 'Undeliverable') return as('undelivered', 'the command could not be delivered');
      if (details === 'Terminated') return as('unsent', 'Run Command stopped before this node');
      const report = readReport(output);
      if (report !== undefined) return judgeReport(instanceId, report, expected, status === 'Success');
      return status === 'Success'
        ? as('silent', 'the command ended well, but the node reported nothing')
        : as('failed', `exit ${exitCode} without a report: ${firstLine(output)}`);
    }
    case 'TimedOut':
      return details === 'DeliveryTimedOut'
        ? as('undelivered', 'the node did not take up the command in time')
        : as('late', 'the node did not end in time');
    case 'Cancelled':
      if (details === 'Terminated') return as('unsent', 'Run Command stopped before this node');
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
  if (report.result === 'went-back') return as('went-back', said);
  if (report.result === 'untouched') return as('untouched', said);
  if (report.result === 'failed') return as('failed', said);
  const wrong = differs(report, expected);
  if (wrong !== undefined) return as('lied', wrong);
  if (!report.healthy) return as('unhealthy', `not healthy: ${report.failing.join(', ')}`);
  if (!success) return as('failed', said);
  if (expected.warnings === 'fail' && report.warnings > 0)
    return as('unhealthy', `${report.warnings} checks warn`);
  return as(report.result, '');
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
