// Bytes to a tree with positions. Only plain YAML is accepted: one document of maps, lists and scalars. Anchors, aliases and
// tags are refused, so that a small text cannot become large.

import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { bounds } from '../port/bounds.ts';
import { type ConfigProblem, type Finding, problemAt } from './problem.ts';
import { type Path, type Position, type Scalar, type Tree } from './tree.ts';

const maximumDepth = 32;
/**
 * The most syntax errors that are reported. Later errors mostly follow from the first ones, and a file that is not YAML has one
 * for each character.
 */
const maximumErrors = 50;

/**
 * The document as a tree, and all problems with it. When there are problems, the tree lacks the refused parts; the rest of it
 * serves to report other problems together with them.
 */
export function parseSource(
  source: string,
  content: Uint8Array | string,
): { tree: Tree | undefined; problems: ConfigProblem[] } {
  const bytes = typeof content === 'string' ? Buffer.from(content) : content;
  const refuse = (line: number, column: number, finding: Finding) => ({
    tree: undefined,
    problems: [problemAt({ source, line, column }, [], undefined, finding)],
  });
  if (bytes.length > bounds.documentBytes) {
    return refuse(1, 1, {
      problem: `is larger than ${bounds.documentBytes / 1024} KiB`,
      remedy: 'Keep only configuration in it; a whole one is rarely larger than 2 KiB.',
    });
  }
  const decoded = decode(bytes);
  if (typeof decoded !== 'string') return refuse(decoded.line, decoded.column, decoded.finding);
  const tooDeep = refuse(1, 1, {
    problem: `is nested deeper than ${maximumDepth} levels`,
    remedy: 'Remove the stray brackets or indentation; the configuration has 5 levels at most.',
  });
  if (deeplyNested(decoded)) return tooDeep;

  const lines = new LineCounter();
  const document = parseDocument(decoded, {
    lineCounter: lines,
    uniqueKeys: false,
    version: '1.2',
    prettyErrors: false,
  });
  const at = (offset: number): Position => {
    const { line, col } = lines.linePos(offset);
    return { source, line, column: col };
  };
  const problems = [...document.errors, ...document.warnings]
    .slice(0, maximumErrors)
    .map((error) => problemAt(at(error.pos[0]), [], undefined, syntaxFinding(error.code, error.message)));
  if (problems.length > 0) return { tree: undefined, problems };
  if (document.directives?.yaml.version !== '1.2') {
    return refuse(1, 1, {
      problem: 'asks for an older YAML version',
      remedy: 'Remove the %YAML line; YAML 1.2 is read.',
    });
  }
  if (document.contents === null || (isScalar(document.contents) && document.contents.value === null)) {
    return refuse(1, 1, {
      problem: 'holds no settings',
      remedy: 'Write the settings into it, or delete it; a file that was cut short looks like this.',
    });
  }

  const found: ConfigProblem[] = [];
  const tree = convert(document.contents, [], { source: decoded, at, found });
  return { tree, problems: found };
}

interface Conversion {
  source: string;
  at: (offset: number) => Position;
  found: ConfigProblem[];
}

/**
 * Undefined for a refused part, about which nothing more can be said. In a list without a refused item, later items have other
 * numbers.
 */
function convert(node: Node, path: Path, context: Conversion): Tree | undefined {
  const at = context.at(node.range?.[0] ?? 0);
  const report = (finding: Finding, value?: unknown) =>
    context.found.push(problemAt(at, path, value, finding));
  if (isAlias(node) || ('anchor' in node && node.anchor !== undefined)) {
    report({
      problem: isAlias(node) ? `is an alias (*${node.source})` : 'has an anchor (&)',
      remedy:
        'Write the value out; anchors and aliases are not read. Text that begins with * or & needs quotes.',
    });
    return undefined;
  }
  if (node.tag !== undefined && node.tag.startsWith('!')) {
    report({
      problem: `has the tag ${node.tag}`,
      remedy: 'Remove the tag; text that begins with ! needs quotes.',
    });
    return undefined;
  }
  if (isSeq(node)) {
    const items = node.items.map((item, index) => convert(item as Node, [...path, index], context));
    const sound = items.filter((item) => item !== undefined);
    return sound.length === items.length ? { kind: 'list', at, items: sound } : undefined;
  }
  if (isMap(node)) {
    const entries = new Map<string, { at: Position; tree: Tree }>();
    for (const pair of node.items) {
      const keyNode = pair.key as Node;
      const key = keyText(keyNode, context);
      const keyAt = context.at(keyNode.range?.[0] ?? 0);
      if (key === undefined) {
        context.found.push(
          problemAt(keyAt, path, undefined, {
            problem: 'has a key that is not text',
            remedy:
              'Write a plain name before the colon; text that holds a colon, bracket or star needs quotes.',
          }),
        );
        continue;
      }
      const inner = [...path, key];
      const earlier = entries.get(key);
      if (earlier !== undefined) {
        context.found.push(
          problemAt(keyAt, inner, undefined, {
            problem: `is written twice, first in line ${earlier.at.line}`,
            remedy: 'Keep one of the two, and put everything below both under it.',
          }),
        );
        continue;
      }
      if (key in Object.prototype) {
        context.found.push(
          problemAt(keyAt, inner, undefined, {
            problem: 'is an unknown key',
            remedy: 'Remove it.',
          }),
        );
        continue;
      }
      const value = pair.value as Node | null;
      const tree = value === null ? scalarNull(keyAt) : convert(value, inner, context);
      if (tree === undefined) continue;
      // The position of a block below its key is the key's.
      entries.set(key, { at: keyAt, tree: tree.at.line > keyAt.line ? { ...tree, at: keyAt } : tree });
    }
    return { kind: 'map', at, entries };
  }
  const value = isScalar(node) ? scalarOf(node.value) : null;
  if (value === null || typeof value === 'string') return { kind: 'scalar', at, value };
  const [start, end] = node.range ?? [0, 0];
  return { kind: 'scalar', at, value, written: context.source.slice(start, end) };
}

function scalarNull(at: Position): Tree {
  return { kind: 'scalar', at, value: null };
}

/** The schema in use makes strings, numbers, booleans and null. Any other value becomes text. */
function scalarOf(value: unknown): Scalar {
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  return value === null || value === undefined ? null : String(value);
}

/** A key as it is written: `8` and `true` are names here, like any other. */
function keyText(node: Node | null, context: Conversion): string | undefined {
  if (!isScalar(node) || node.anchor !== undefined || node.value === null) return undefined;
  if (typeof node.value === 'string') return node.value;
  const [start, end] = node.range ?? [0, 0];
  return context.source.slice(start, end);
}

function decode(bytes: Uint8Array): string | { line: number; column: number; finding: Finding } {
  if ((bytes[0] === 0xff && bytes[1] === 0xfe) || (bytes[0] === 0xfe && bytes[1] === 0xff)) {
    return {
      line: 1,
      column: 1,
      finding: { problem: 'is UTF-16, not UTF-8', remedy: 'Save it as UTF-8 (iconv -f UTF-16 -t UTF-8).' },
    };
  }
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return {
      line: firstBrokenLine(bytes),
      column: 1,
      finding: {
        problem: 'is not UTF-8',
        remedy: 'Save it as UTF-8; a compressed or binary file cannot be read.',
      },
    };
  }
  const at = [...text].findIndex(isControl);
  if (at === -1) return text;
  const upTo = [...text].slice(0, at + 1);
  const line = upTo.filter((character) => character === '\n').length + 1;
  const code = upTo.at(-1)?.codePointAt(0) ?? 0;
  return {
    line,
    column: at - upTo.lastIndexOf('\n'),
    finding: {
      problem: `holds a control character (0x${code.toString(16).padStart(2, '0')})`,
      remedy: 'Remove it; a file damaged by a crash or a full disk often holds zero bytes.',
    },
  };
}

/** Characters below 0x80 that YAML does not count as printable. */
function isControl(character: string): boolean {
  const code = character.codePointAt(0) ?? 0;
  return (code < 0x20 && code !== 0x09 && code !== 0x0a && code !== 0x0d) || code === 0x7f;
}

function firstBrokenLine(bytes: Uint8Array): number {
  let line = 1;
  for (let start = 0; start <= bytes.length; line++) {
    const newline = bytes.indexOf(10, start);
    const end = newline === -1 ? bytes.length : newline;
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(start, end));
    } catch {
      return line;
    }
    start = end + 1;
  }
  return line;
}

/**
 * A cheap look before the parser, which calls itself once for each level. Without indentation, only brackets and block
 * indicators at the start of a line can nest. Brackets inside quotes are counted too, which does no harm at this limit.
 */
function deeplyNested(text: string): boolean {
  return (
    text.split('\n').some((line) => {
      const indent = line.length - line.trimStart().length;
      const indicators = /^(?:[-?:][ \t]+)*/.exec(line.trimStart())?.[0].match(/[-?:]/g)?.length ?? 0;
      return indent > maximumDepth * 8 || indicators > maximumDepth;
    }) || bracketDepth(text) > maximumDepth
  );
}

function bracketDepth(text: string): number {
  let depth = 0;
  let deepest = 0;
  for (const character of text) {
    if (character === '[' || character === '{') deepest = Math.max(deepest, ++depth);
    if (character === ']' || character === '}') depth = Math.max(0, depth - 1);
  }
  return deepest;
}

/** Codes and texts are the YAML parser's own; the operator's most common mistake is named beside them. */
function syntaxFinding(code: string, message: string): Finding {
  const problem = `is not valid YAML: ${message.split('\n', 1)[0]?.replace(/\.$/, '')}`;
  if (code === 'TAB_AS_INDENT') {
    return { problem: 'is indented with a tab', remedy: 'Indent with spaces; YAML allows no tabs there.' };
  }
  if (code === 'MULTIPLE_DOCS') {
    return {
      problem: 'holds more than one document',
      remedy: 'Keep one document to a file: remove the second `---`, or make a drop-in of what follows it.',
    };
  }
  if (
    code === 'BAD_INDENT' ||
    code === 'BLOCK_AS_IMPLICIT_KEY' ||
    code === 'MULTILINE_IMPLICIT_KEY' ||
    code === 'MISSING_CHAR'
  ) {
    return {
      problem,
      remedy: 'Check the indentation, the colon and the quotes of this line and the one above.',
    };
  }
  if (code === 'BAD_ALIAS') {
    return { problem, remedy: 'Put text that begins with * or & in quotes.' };
  }
  if (code === 'TAG_RESOLVE_FAILED') {
    return { problem, remedy: 'Remove the tag; text that begins with ! needs quotes.' };
  }
  if (code === 'BAD_SCALAR_START' || code === 'UNEXPECTED_TOKEN') {
    return { problem, remedy: 'Put the text in quotes, or remove what does not belong there.' };
  }
  return { problem, remedy: 'Correct the syntax of this line or the one above.' };
}
