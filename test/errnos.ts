// Code that hides why a file could not be read: an error that was taken for "missing" once freed addresses of live pods.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The only file that decides that a file is missing. */
const PORT = 'agent/port/fs.ts';

/** Errors after which it is unknown whether the file exists. */
const UNKNOWN = /'(?:EACCES|EPERM|ELOOP|EIO|ENAMETOOLONG|EMFILE|ENFILE|ENOMEM|ESTALE|EBUSY)'/;
const READS = /\b(?:\w+IfPresent|isThere|read(?:File|dir|link)Sync|l?statSync|accessSync)\(/;

/** Files with a `catch {` around a read: their number, and why no file is taken for missing there. */
const JUSTIFIED: Record<string, { count: number; why: string }> = {
  'agent/pool/lease-note.ts': { count: 1, why: 'the answer is "unknown", which frees nothing' },
  'agent/pool/carried.ts': { count: 1, why: 'the carrier of the address stays unknown, and no pod is named' },
  'agent/boot/phases/join.ts': { count: 1, why: 'the token is needed, and why it cannot be read is told' },
};

/** A line for each place in the shipped sources that may take an error for a missing file. */
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
        `${path}: hasCode(${list.trim()}): an error that tells nothing about the file, beside one that means a missing file`,
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
