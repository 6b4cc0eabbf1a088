import type { ConfigProblem } from '../config/problem.ts';
import { problemLine } from '../config/problem.ts';
import type { Failure } from '../messages/failure.ts';
import { paint } from './table.ts';

export interface FailureObject {
  code: string;
  message: string;
  remedy: string;
  facts: Record<string, unknown>;
}

/** A failure in the form of `--json`. */
export function failureObject({ code, message, remedy, facts }: Failure): FailureObject {
  return { code, message, remedy, facts };
}

/** A failure as a command prints it on standard error. */
export function failureText(failure: FailureObject, colour: boolean): string {
  const [first = '', ...rest] = failureLines(failure);
  return `${[paint('red', `eniboot: ${first}`, colour), ...rest].join('\n')}\n`;
}

/** A message names a few instances at most; an operator needs all of them. */
function instanceLines(instances: unknown): string[] {
  if (!Array.isArray(instances) || instances.length === 0) return [];
  return [`  instances: ${instances.join(', ')}`];
}

/** For a defect: where it was thrown. */
function stackLines(stack: unknown): string[] {
  if (typeof stack !== 'string') return [];
  return stack.split('\n').filter((line) => /^ +at /.test(line));
}

/** A failure as lines of text: what and where; every problem of a refused configuration; what to do. */
export function failureLines(failure: FailureObject): string[] {
  const problems = failure.facts['problems'];
  // Other failures have their problems as sentences, which the message has too.
  if (!Array.isArray(problems) || problems.some((one) => typeof one !== 'object')) {
    return [
      `${failure.code}: ${failure.message}`,
      ...instanceLines(failure.facts['instances']),
      ...stackLines(failure.facts['stack']),
      `  what to do: ${failure.remedy}`,
    ];
  }
  return [
    `${failure.code}: ${problems.length} problem${problems.length === 1 ? '' : 's'}`,
    ...(problems as ConfigProblem[]).flatMap((problem) => [
      `  ${problemLine(problem)}`,
      `    ${problem.suggestion === undefined ? '' : `Did you mean ${problem.suggestion}? `}${problem.remedy}`,
    ]),
  ];
}
