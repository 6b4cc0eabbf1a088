// Finds patterns whose time grows faster than their text, with scslre, the library behind the rules of eslint-plugin-regexp. It knows
// three kinds: two repetitions in a row that match the same characters, a repetition in a repetition, and a repetition that a search
// begins again at each character. It misses some; test/input/growth.test.ts finds those.
import { type Expression, parseSync, Visitor } from 'oxc-parser';
import { analyse } from 'scslre';

/** Files where patterns may be made at run time, which this check cannot read. */
const MADE_AT_RUN_TIME: Record<string, string> = {
  'agent/config/schema.ts':
    'of constants in the file; its texts are values of a configuration, and growth.test.ts has it',
};

const KINDS = {
  Self: 'repeats a repetition',
  Trade: 'has two repetitions that take the same characters',
  Move: 'begins with a repetition and can begin at each character of it',
};

/** A line for each pattern of a source that may take long. */
export function patternProblems(path: string, source: string): string[] {
  const problems: string[] = [];
  const report = (at: number, what: string) =>
    problems.push(`${path}:${source.slice(0, at).split('\n').length}: ${what}`);
  const { program, errors } = parseSync(path, source);
  if (errors.length > 0) return [`${path}: ${errors[0]?.message}`];
  const made = (callee: Expression, at: number) => {
    if (callee.type !== 'Identifier' || callee.name !== 'RegExp' || path in MADE_AT_RUN_TIME) return;
    report(at, 'makes a pattern at run time: write a literal, or compare texts');
  };
  new Visitor({
    Literal(node) {
      if (!('regex' in node) || node.regex === null || node.regex === undefined) return;
      const { pattern, flags } = node.regex;
      const [first] = analyse({ source: pattern, flags }, { assumeRejectingSuffix: false }).reports;
      if (first !== undefined) report(node.start, `/${pattern}/${flags} ${KINDS[first.type]}`);
    },
    NewExpression: (node) => made(node.callee, node.start),
    CallExpression: (node) => made(node.callee, node.start),
  }).visit(program);
  return problems;
}
