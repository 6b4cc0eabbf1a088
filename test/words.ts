// Words in comments, texts and pages in whose place a noun can stand, which is easier to read.
//   node_modules/.bin/node test/words.ts [PATH…]   lists them in the files whose path begins with one of these
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseSync } from 'oxc-parser';

/** Write one noun in its place: who or what acts. */
const BANNED: readonly RegExp[] = [
  /\b(?:whoever|nobody|somebody|anybody|everybody)\b/gi,
  /\b(?:ours|theirs)\b/gi,
  /\bthe other ones?\b/gi,
  /\bwhat (?:it|they|he) lacks?\b/gi,
];

interface Words {
  line: number;
  text: string;
}

/** A line for each banned word below the paths, which are files or folders; undefined when there is none. */
export function wordProblems(root: string, paths: readonly string[]): string | undefined {
  const files = execFileSync('git', ['ls-files', '--', ...paths], { cwd: root, encoding: 'utf8' })
    .trim()
    .split('\n')
    .filter(
      (path) => /\.(?:ts|md|sh|hcl|service|timer|path|yaml)$/.test(path) && existsSync(join(root, path)),
    );
  const problems = files.flatMap((path) =>
    wordsOf(path, readFileSync(join(root, path), 'utf8')).flatMap(({ line, text }) =>
      BANNED.flatMap((pattern) => [...text.matchAll(pattern)]).map(({ 0: word, index }) => {
        const at = line + text.slice(0, index).split('\n').length - 1;
        return `${path}:${at}: ${word}`;
      }),
    ),
  );
  return problems.length === 0 ? undefined : `${problems.join('\n')}\n`;
}

/** The comments and texts of TypeScript; all text of other files. */
function wordsOf(path: string, source: string): Words[] {
  if (!path.endsWith('.ts')) return [{ line: 1, text: source }];
  const { comments, program } = parseSync(path, source);
  const lineOf = (offset: number) => source.slice(0, offset).split('\n').length;
  const words = comments.map(({ start, value }) => ({ line: lineOf(start), text: value }));
  const visit = (node: unknown): void => {
    if (typeof node !== 'object' || node === null) return;
    const { type, value, start } = node as { type?: string; value?: unknown; start?: number };
    const text = type === 'TemplateElement' ? (value as { raw: string }).raw : value;
    // A text of one word is a name.
    if (
      (type === 'Literal' || type === 'TemplateElement') &&
      typeof text === 'string' &&
      text.trim().includes(' ')
    )
      words.push({ line: lineOf(start ?? 0), text });
    for (const child of Object.values(node)) visit(child);
  };
  visit(program);
  return words;
}

if (process.argv[1] === import.meta.filename) {
  const problems = wordProblems(join(import.meta.dirname, '..'), process.argv.slice(2)) ?? '';
  process.stdout.write(problems);
  process.exit(problems === '' ? 0 : 1);
}
