// Small changes of a source, each of which a test should notice: constants, comparisons, conditions, and, or.
import { parseSync } from 'oxc-parser';

export interface Mutant {
  file: string;
  line: number;
  /** Where in the source, and what stands there instead. */
  start: number;
  end: number;
  before: string;
  after: string;
}

interface Node {
  type: string;
  start: number;
  end: number;
  [key: string]: unknown;
}

/** What stands for each operator. */
const OPERATORS: Record<string, string> = {
  '<': '<=',
  '<=': '<',
  '>': '>=',
  '>=': '>',
  '===': '!==',
  '!==': '===',
  '&&': '||',
  '||': '&&',
  '+': '-',
  '-': '+',
};
/** Their parts are no behaviour: types and names of modules. */
const SKIPPED = /^(?:TS|ImportDeclaration|ExportAllDeclaration)/;

/** All of a file's. */
export function mutantsOf(file: string, source: string): Mutant[] {
  const found: Mutant[] = [];
  const add = (start: number, end: number, after: string) => {
    const before = source.slice(start, end);
    found.push({ file, line: source.slice(0, start).split('\n').length, start, end, before, after });
  };
  const visit = (value: unknown): void => {
    if (Array.isArray(value)) for (const one of value) visit(one);
    if (typeof value !== 'object' || value === null || !('type' in value)) return;
    const node = value as Node;
    if (
      SKIPPED.test(node.type) &&
      !node.type.startsWith('TSAs') &&
      !node.type.startsWith('TSSatisfies') &&
      !node.type.startsWith('TSNonNull')
    )
      return;
    mutate(node, source, add);
    for (const child of Object.values(node)) if (typeof child === 'object') visit(child);
  };
  visit(parseSync(file, source).program);
  return found;
}

function mutate(node: Node, source: string, add: (start: number, end: number, after: string) => void): void {
  if (node.type === 'Literal' && typeof node['value'] === 'number') {
    const { value } = node as unknown as { value: number };
    add(node.start, node.end, value === 0 ? '1' : '0');
    if (value > 1) add(node.start, node.end, String(value * 2));
  } else if (node.type === 'Literal' && typeof node['value'] === 'boolean') {
    add(node.start, node.end, String(node['value'] !== true));
  } else if (node.type === 'BinaryExpression' || node.type === 'LogicalExpression') {
    const { left, right, operator } = node as unknown as { left: Node; right: Node; operator: string };
    const other = OPERATORS[operator];
    // A sum with a text is a text.
    if (other === undefined || (operator === '+' && /['`]/.test(source.slice(left.start, right.end)))) return;
    const at = source.indexOf(operator, left.end);
    if (at !== -1 && at < right.start) add(at, at + operator.length, other);
  } else if (node.type === 'UnaryExpression' && node['operator'] === '!') {
    add(node.start, node.start + 1, '');
  } else if (node.type === 'IfStatement' || node.type === 'ConditionalExpression') {
    const { test } = node as unknown as { test: Node };
    add(test.start, test.end, `!(${source.slice(test.start, test.end)})`);
  }
}
