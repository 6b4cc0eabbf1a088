import { Failure, type FailureCode } from '../messages/failure.ts';
import { isSecretName, redact } from '../messages/redact.ts';
import { type Path, type Position, pathText } from './tree.ts';

/** One thing that is wrong with the configuration: what, where, and what to do about it. */
export interface ConfigProblem {
  /** `pods.subnets.ids[0]`; empty when the problem concerns the document as a whole. */
  path: string;
  /** The value as read, in JSON and cut to 80 characters; hidden when the key's name says that it is a secret. */
  value?: string;
  problem: string;
  /** What to do, in the imperative. */
  remedy: string;
  /** The key or value that was probably meant. */
  suggestion?: string;
  /** A file, or a part of the user data. */
  source: string;
  /** From 1; 0 when the source could not be read at all. */
  line: number;
  column: number;
}

export interface Finding {
  problem: string;
  remedy: string;
  suggestion?: string;
}

/**
 * `value`: undefined when there is none to show. `written`: the value's text in the document, when it differs from the value.
 */
export function problemAt(
  at: Position,
  path: Path,
  value: unknown,
  finding: Finding,
  written?: string,
): ConfigProblem {
  const text = value === undefined ? undefined : shown(path, value, written);
  // The suggestion would show most of a secret that was written.
  const { suggestion, ...said } = finding;
  return {
    path: pathText(path),
    ...(text === undefined ? {} : { value: text }),
    ...said,
    ...(suggestion === undefined || text === HIDDEN ? {} : { suggestion }),
    source: at.source,
    line: at.line,
    column: at.column,
  };
}

const HIDDEN = '(hidden)';

function shown(path: Path, value: unknown, written: string | undefined): string {
  const finite = typeof value !== 'number' || Number.isFinite(value);
  const text = finite ? (written ?? JSON.stringify(value)) : String(value);
  if (path.some((part) => isSecretName(String(part))) || redact(text).removed > 0) return HIDDEN;
  return text.length <= 80 ? text : `${text.slice(0, 79)}…`;
}

/** The failure that carries all these problems in `facts.problems`. */
export function invalid(problems: ConfigProblem[], code: FailureCode = 'CONFIG_INVALID'): Failure {
  const [first, ...others] = problems;
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  return new Failure(code, `${first === undefined ? '' : problemLine(first)}${more}`, {
    problems,
  });
}

/** One line: source and position, path, value, and what is wrong. */
export function problemLine(problem: ConfigProblem): string {
  const where = problem.line === 0 ? problem.source : `${problem.source}:${problem.line}:${problem.column}`;
  const what = problem.path === '' ? '' : ` ${problem.path}`;
  const value = problem.value === undefined ? '' : ` ${problem.value}`;
  return `${where}:${what}${value} ${problem.problem}`;
}
