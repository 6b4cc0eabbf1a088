// What a node answers to an update: one line of JSON that fits into what Run Command shows of an output.

const RESULTS = ['updated', 'already', 'went-back', 'untouched', 'failed'] as const;

export interface NodeReport {
  eniboot: 'update';
  schema: 1;
  /** Instance ID. */
  node: string;
  /**
   * `updated`: it runs the version that was asked for. `already`: it did before. `went-back`: it was switched and
   * switched back. `untouched`: nothing was changed on it. `failed`: it could not be put right.
   */
  result: (typeof RESULTS)[number];
  /** What runs now. */
  version: string;
  /** SHA-256 of the archive that version was unpacked from; absent for the one baked into the image. */
  sha256?: string;
  /** What ran before. */
  from: string;
  healthy: boolean;
  /** Names of checks that fail, and number of those that warn. */
  failing: string[];
  warnings: number;
  code?: string;
  message?: string;
  seconds: number;
}

/**
 * Bytes. Lists of invocations keep 2,500 of a node's output, and the SSM agent cuts it there: of two long streams it leaves
 * 1,215 bytes of each, and a shorter standard output whole. Source: aws/amazon-ssm-agent at 5cbd6346984f,
 * agent/framework/processor/executer/iohandler/iohandler.go, TruncateOutput.
 */
const MOST_BYTES = 1_100;

/** One line that comes through whatever else the node writes: message and names are cut until it does. */
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

/** The report in a command's output; undefined when there is none that can be read. */
export function readReport(output: string): NodeReport | undefined {
  for (const line of output.split('\n')) {
    if (!line.startsWith('{"eniboot":"update"')) continue;
    try {
      const report = reportOf(JSON.parse(line, harmless) as Record<string, unknown>);
      if (report !== undefined) return report;
    } catch {
      // A line that was cut is no report.
    }
  }
  return undefined;
}

/** Whatever a node writes: only what is of the form of a report is one. */
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
    failing.every((one) => typeof one === 'string');
  return whole ? (value as unknown as NodeReport) : undefined;
}

/** What it says is shown on terminals: without what these would obey. */
function harmless(_: string, value: unknown): unknown {
  return typeof value === 'string' ? value.replace(/\p{Cc}+/gu, ' ') : value;
}
