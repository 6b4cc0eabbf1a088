// What a node answers to an update: one line of JSON, short enough to be shown whole in Run Command's output.

const RESULTS = ['updated', 'already', 'went-back', 'untouched', 'failed'] as const;

/** The counters that count at a gate, with their names in texts. */
export const counterNames = {
  restarts: "restarts of eniboot's units",
  failedAdds: 'failed ADDs',
  drops: 'packets dropped by guards',
} as const;
export type CounterName = keyof typeof counterNames;

export interface NodeReport {
  eniboot: 'update';
  schema: 1;
  /** Instance ID. */
  node: string;
  /**
   * `updated`: the node runs the version that was asked for. `already`: it did so before. `went-back`: it was switched and
   * switched back. `untouched`: nothing was changed on it. `failed`: it could not be brought into a good state.
   */
  result: (typeof RESULTS)[number];
  /** The version that runs now. */
  version: string;
  /** SHA-256 of the archive from which that version was unpacked; absent for the version baked into the image. */
  sha256?: string;
  /** The version that ran before. */
  from: string;
  healthy: boolean;
  /** Names of the checks that fail. `warnings`: number of checks that warn. */
  failing: string[];
  warnings: number;
  /** Of a `check`: what went wrong since the rollout switched the node, as far as the node can tell. */
  counters?: Partial<Record<CounterName, number>>;
  code?: string;
  message?: string;
  seconds: number;
}

/**
 * Bytes. ListCommandInvocations keeps 2,500 characters of a node's output, and the SSM agent cuts the output to that: of two
 * long streams it leaves 1,215 bytes each; a shorter standard output stays whole. Source: aws/amazon-ssm-agent at 5cbd6346984f,
 * agent/framework/processor/executer/iohandler/iohandler.go, TruncateOutput.
 */
const MOST_BYTES = 1_100;

/**
 * The report as one line of at most MOST_BYTES, so that it arrives whole whatever else the node writes: message and names are
 * cut until it fits.
 */
export function reportLine(report: NodeReport): string {
  for (const most of [Number.POSITIVE_INFINITY, 400, 200, 100, 40]) {
    const line = JSON.stringify(shortened(report, most));
    if (Buffer.byteLength(line) <= MOST_BYTES) return line;
  }
  return JSON.stringify(shortened(report, 0));
}

function shortened(report: NodeReport, most: number): NodeReport {
  if (!Number.isFinite(most)) return report;
  return {
    ...report,
    failing: report.failing.slice(0, Math.ceil(most / 40)).map((one) => first(one, 40)),
    ...(report.message === undefined ? {} : { message: first(report.message, most) }),
  };
}

function first(text: string, most: number): string {
  const characters = [...text];
  return characters.length <= most ? text : `${characters.slice(0, most).join('')}…`;
}

/** The report in a command's output; undefined when no line can be read as one. */
export function readReport(output: string): NodeReport | undefined {
  for (const line of output.split('\n')) {
    if (!line.startsWith('{"eniboot":"update"')) continue;
    try {
      const report = reportOf(JSON.parse(line, harmless) as Record<string, unknown>);
      if (report !== undefined) return report;
    } catch {
      // A line that was cut is not JSON, and no report.
    }
  }
  return undefined;
}

/** A node may write anything: only a value of the right form is a report. */
function reportOf(value: Record<string, unknown>): NodeReport | undefined {
  const are = (type: 'string' | 'boolean' | 'number', ...names: (keyof NodeReport)[]) =>
    names.every((name) => typeof value[name] === type);
  const may = (...names: (keyof NodeReport)[]) =>
    names.every((name) => value[name] === undefined || typeof value[name] === 'string');
  const { failing } = value;
  const whole =
    value['schema'] === 1 &&
    are('string', 'node', 'version') &&
    are('boolean', 'healthy') &&
    are('number', 'warnings') &&
    may('from', 'sha256', 'code', 'message') &&
    RESULTS.includes(value['result'] as NodeReport['result']) &&
    Array.isArray(failing) &&
    failing.every((one) => typeof one === 'string') &&
    areCounters(value['counters']);
  return whole ? (value as unknown as NodeReport) : undefined;
}

/** Absent, or whole numbers from 0 on. The judge ignores counters that this version does not know. */
function areCounters(value: unknown): boolean {
  if (value === undefined) return true;
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  return Object.values(value).every((one) => Number.isSafeInteger(one) && (one as number) >= 0);
}

/** Text of a node is shown on terminals: without control characters, which a terminal would obey. */
function harmless(_: string, value: unknown): unknown {
  return typeof value === 'string' ? value.replace(/\p{Cc}+/gu, ' ') : value;
}
