// What a node answers to an update: one line of JSON that fits into what Run Command shows of an output.

export interface NodeReport {
  eniboot: 'update';
  schema: 1;
  /** Instance ID. */
  node: string;
  /**
   * `updated`: it runs the version that was asked for. `already`: it did before. `went-back`: it was switched and
   * switched back. `untouched`: nothing was changed on it. `failed`: it could not be put right.
   */
  result: 'updated' | 'already' | 'went-back' | 'untouched' | 'failed';
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

/** Characters of output that lists of invocations keep. Source: SSM API reference, CommandPlugin. */
const SHOWN = 2_500;

/** One line, cut where it would not fit. */
export function reportLine(report: NodeReport): string {
  const whole = JSON.stringify(report);
  if (whole.length < SHOWN) return whole;
  return JSON.stringify({
    ...report,
    failing: report.failing.slice(0, 10).map((one) => one.slice(0, 60)),
    ...(report.message === undefined ? {} : { message: `${report.message.slice(0, 400)}…` }),
  });
}

/** The report in a command's output; undefined when there is none that can be read. */
export function readReport(output: string): NodeReport | undefined {
  for (const line of output.split('\n')) {
    if (!line.startsWith('{"eniboot":"update"')) continue;
    try {
      const value = JSON.parse(line) as Partial<NodeReport>;
      const whole =
        value.schema === 1 &&
        typeof value.node === 'string' &&
        typeof value.version === 'string' &&
        typeof value.healthy === 'boolean' &&
        typeof value.result === 'string' &&
        Array.isArray(value.failing);
      if (whole) return value as NodeReport;
    } catch {
      // A line that was cut is no report.
    }
  }
  return undefined;
}
