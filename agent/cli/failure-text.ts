import type { ConfigProblem } from '../config/problem.ts';
import { problemLine } from '../config/problem.ts';

/** A failure as lines for people: what and where; every problem of a refused configuration; what to do. */
export function failureLines(failure: {
  code: string;
  message: string;
  remedy: string;
  facts: Record<string, unknown>;
}): string[] {
  const problems = failure.facts['problems'];
  if (!Array.isArray(problems)) {
    return [`${failure.code}: ${failure.message}`, `  what to do: ${failure.remedy}`];
  }
  return [
    `${failure.code}: ${problems.length} problem${problems.length === 1 ? '' : 's'}`,
    ...(problems as ConfigProblem[]).flatMap((problem) => [
      `  ${problemLine(problem)}`,
      `    ${problem.suggestion === undefined ? '' : `Did you mean ${problem.suggestion}? `}${problem.remedy}`,
    ]),
  ];
}
