// What a file's output says of its cases, and why a file ran none.

export interface Outcome {
  passed: number;
  failed: number;
  skipped: number;
  /** What stands beside the file in the list and in the summary; undefined where its cases say all. */
  reason: string | undefined;
}

export interface Ended {
  /** Standard output and error, in order, with or without colours. */
  output: string;
  /** Exit status; null: ended by a signal. */
  code: number | null;
  /** Seconds, where the file was ended because it took longer. */
  limit: number | undefined;
  /** True: cases were chosen by name, and a file may have none of them. */
  someCases: boolean;
}

/** A file that fails without a failing case (it crashes, takes too long, has no case) counts as one failure. */
export function outcomeOf({ output, code, limit, someCases }: Ended): Outcome {
  const plain = output.replace(/\u001b\[[0-9;]*m/g, '');
  const total = sum(plain, /^ *Total: +(\d+)/gm);
  const passed = sum(plain, /^ *Passed: +(\d+)/gm);
  const skipped = sum(plain, /^ *Skipped: +(\d+)/gm);
  const isWell = code === 0 && (total > 0 || someCases);
  return {
    passed,
    failed: Math.max(total - passed, isWell ? 0 : 1),
    skipped,
    reason: reasonOf(plain, { code, limit, total, isWell }),
  };
}

interface Seen {
  code: number | null;
  limit: number | undefined;
  total: number;
  isWell: boolean;
}

function reasonOf(plain: string, { code, limit, total, isWell }: Seen): string | undefined {
  if (limit !== undefined) return `time limit ${limit} s`;
  if (isWell || total > 0) return undefined;
  if (code === 0) return 'no case: is test.run() called?';
  // Node: status 13. Source: nodejs.org/api/process.html, "Exit codes".
  if (code === 13) return 'before the first case: a top-level await never settled';
  if (plain.includes('Exiting early before testing is finished') && errorIn(plain) === undefined)
    return 'a case never settled, and nothing was left that could settle it';
  const ended = code === null ? 'ended by a signal' : `exit status ${code}`;
  return `before the first case: ${errorIn(plain) ?? ended}`;
}

/** The first line that names an error: what follows it comes of it. */
function errorIn(plain: string): string | undefined {
  const line = /^(?:before the first case: |error: )?((?:\w*Error|AssertionError)\b.*)$/m.exec(plain)?.[1];
  return line ?? /^(?:before the first case|error): (.+)$/m.exec(plain)?.[1];
}

function sum(text: string, pattern: RegExp): number {
  let result = 0;
  for (const match of text.matchAll(pattern)) result += Number(match[1]);
  return result;
}
