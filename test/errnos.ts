// What hides why a file could not be looked at: an error that is taken for "not there" has freed addresses of live pods.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The one place that says what is not there. */
const PORT = 'agent/port/fs.ts';

/** Say that nobody knows, and nothing of what is there. */
const UNKNOWN = /'(?:EACCES|EPERM|ELOOP|EIO|ENAMETOOLONG|EMFILE|ENFILE|ENOMEM|ESTALE|EBUSY)'/;
const READS = /\b(?:\w+IfPresent|isThere|read(?:File|dir|link)Sync|l?statSync|accessSync)\(/;

/** Files with a `catch {` over a read, how many, and why nothing is taken for absent there. */
const JUSTIFIED: Record<string, { count: number; why: string }> = {
  'agent/host/attachment-effect.ts': { count: 1, why: 'programs look again, and fail by themselves' },
  'agent/pool/lease-note.ts': { count: 1, why: 'the answer is "unknown", which frees nothing' },
  'agent/pool/carried.ts': { count: 1, why: 'whose the address is stays open, and nobody is accused' },
};

/** A line for each place of the shipped sources that may take an error for an absence. */
export function errnoProblems(root: string): string | undefined {
  const problems = ['agent', 'cni'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => `${folder}/${name}`)
      .filter((path) => path !== PORT && !path.startsWith('agent/build/'))
      .flatMap((path) => problemsIn(path, readFileSync(join(root, path), 'utf8'))),
  );
  return problems.length === 0 ? undefined : problems.join('\n');
}

function problemsIn(path: string, text: string): string[] {
  const problems: string[] = [];
  if (text.includes('throwIfNoEntry')) problems.push(`${path}: throwIfNoEntry: use statIfPresent of ${PORT}`);
  for (const [, list = ''] of text.matchAll(/hasCode\(\s*\w+,([^)]*)\)/g)) {
    if (/'(?:ENOENT|ENOTDIR)'/.test(list) && UNKNOWN.test(list))
      problems.push(
        `${path}: hasCode(${list.trim()}): an error of which nobody knows beside one that says absent`,
      );
  }
  const silent = silentReads(text);
  const allowed = JUSTIFIED[path]?.count ?? 0;
  if (silent.length !== allowed) {
    const lines = silent.length === 0 ? '' : ` (lines ${silent.join(', ')})`;
    problems.push(
      `${path}: ${silent.length} \`catch {\` over a read${lines}, ${allowed} justified in test/errnos.ts`,
    );
  }
  return problems;
}

/** Numbers of the lines with a `catch {` whose `try` reads. The formatter gives both the same indentation. */
function silentReads(text: string): number[] {
  const lines = text.split('\n');
  return lines.flatMap((line, at) => {
    const indentation = /^(\s*)\} catch \{/.exec(line)?.[1];
    if (indentation === undefined) return [];
    const begin = lines.lastIndexOf(`${indentation}try {`, at);
    return READS.test(lines.slice(begin, at).join('\n')) ? [at + 1] : [];
  });
}
