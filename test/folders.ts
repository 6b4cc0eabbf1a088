// Imports between folders and files of the product go in one direction only, so that a reader knows what a folder can do without the
// folders above it. Also: which files of the data path start programs, and which files have text of commands.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';

/** Each phase gets the facts of the phases before it, and imports none of them. */
const PHASES = [
  'identify',
  'reserve',
  'egress/egress',
  'attach/attach',
  'install',
  'kubelet/kubelet',
  'verify',
  'ready',
].map((name) => `agent/boot/phases/${name}.ts`);

/** Folders of the data path, and everything that each may import beside its own files. */
const MAY_IMPORT: Record<string, string[]> = {
  'agent/kernel': ['agent/host', 'agent/messages', 'agent/port'],
  'agent/attachment': ['agent/host', 'agent/kernel', 'agent/messages', 'agent/port'],
};

/** Files of the data path that start programs; all other changes of the kernel are operations. */
const STARTS_PROGRAMS: Record<string, string> = {
  'cni/kernel.ts': 'a Program of the plan: tc',
};

/**
 * Files that pass command text to `ip`, `nft` or `tc`. No code reads that text again: only the kernel's answer is read.
 */
const HANDS_OVER_TEXT: Record<string, string> = {
  'agent/attachment/limits.ts': 'the input of the Program tc',
  // The only such text of eniboot that is kept: nft's listing of the tables, beside the text that they were loaded from.
  'agent/host/nft.ts': "the node's tables, rendered by agent/boot/node-rules/nft-text.ts",
};

/** Files that use operations as commands (agent/kernel/render.ts), all of them to show the commands to people. */
const SHOWS_COMMANDS = [
  'agent/attachment/follow.ts',
  'agent/attachment/parts.ts',
  'agent/cli/plan.ts',
  'agent/cli/trace-look.ts',
  'agent/kernel/failure.ts',
  'agent/kernel/is-there.ts',
  'cni/kernel.ts',
];

/** Files that use the text of the node's tables, to pass it on. */
const TAKES_TABLES = [
  'agent/boot/node-rules/nft-text.ts',
  'agent/boot/node-rules/nft-guard.ts',
  'agent/boot/node-rules/nft-tables.ts',
];

/** A line for each forbidden import, and for each program or command text that is not listed; undefined when there are none. */
export function folderProblems(root: string): string | undefined {
  const problems = [
    importProblem(root),
    ...forbiddenImports(root),
    ...programProblems(root),
    ...commandTextProblems(root),
  ].filter((one) => one !== undefined);
  return problems.length === 0 ? undefined : problems.join('');
}

function forbiddenImports(root: string): string[] {
  const imports = groupedBy(folderOf, importsByFile(root));
  return Object.entries(MAY_IMPORT).flatMap(([folder, allowed]) =>
    [...(imports.get(folder) ?? [])]
      .filter((one) => !allowed.includes(one))
      .map((one) => `${folder} imports ${one}; it may import ${allowed.join(', ')}\n`),
  );
}

function programProblems(root: string): string[] {
  const starting = sourcesIn(root, ['agent/kernel', 'agent/attachment', 'cni']).filter((path) =>
    /(?:port\/exec(?:-sync)?|host\/command)\.ts'/.test(readFileSync(join(root, path), 'utf8')),
  );
  return unlisted(starting, Object.keys(STARTS_PROGRAMS), 'starts programs');
}

/** No part may read command text that another part writes: the files that may have such text are listed. */
function commandTextProblems(root: string): string[] {
  const having = (pattern: RegExp) =>
    sourcesIn(root, ['agent', 'cni']).filter((path) => pattern.test(readFileSync(join(root, path), 'utf8')));
  return [
    ...unlisted(having(/'-batch'|'-f', '-'/), Object.keys(HANDS_OVER_TEXT), 'hands over command text'),
    ...unlisted(
      having(/kernel\/render\.ts'|'\.\/render\.ts'/),
      SHOWS_COMMANDS,
      'takes operations as commands',
    ),
    ...unlisted(
      having(/\b(?:renderTables|renderGuardTable|guardChains)\b/),
      TAKES_TABLES,
      'takes the text of the node’s tables',
    ),
  ];
}

function unlisted(found: string[], listed: string[], does: string): string[] {
  return [
    ...found
      .filter((path) => !listed.includes(path))
      .map((path) => `${path} ${does}, which test/folders.ts does not list\n`),
    ...listed
      .filter((path) => !found.includes(path))
      .map((path) => `${path} is listed in test/folders.ts and no longer ${does}\n`),
  ];
}

function sourcesIn(root: string, folders: string[]): string[] {
  return folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .map((name) => join(folder, name))
      .filter((path) => path.endsWith('.ts')),
  );
}

/** A cycle of folders or files that import one another, or a phase that imports another. */
function importProblem(root: string): string | undefined {
  const files = importsByFile(root);
  for (const phase of PHASES)
    if (!files.has(phase)) return `${phase} is no file: PHASES in test/folders.ts\n`;
  const circle =
    circleIn(groupedBy(folderOf, files)) ?? circleIn(groupedBy(partOf, files)) ?? circleIn(files);
  if (circle !== undefined) return `import one another: ${circle}\n`;
  for (const phase of PHASES) {
    const other = [...(files.get(phase) ?? [])].find((to) => PHASES.includes(to));
    if (other !== undefined) return `${phase} imports another phase: ${other}\n`;
  }
  return undefined;
}

function circleIn(imports: Map<string, Set<string>>): string | undefined {
  const left = new Set<string>();
  const visit = (one: string, path: string[]): string | undefined => {
    if (path.includes(one)) return [...path.slice(path.indexOf(one)), one].join(' → ');
    if (left.has(one)) return undefined;
    for (const next of imports.get(one) ?? []) {
      const found = visit(next, [...path, one]);
      if (found !== undefined) return found;
    }
    left.add(one);
    return undefined;
  };
  for (const one of imports.keys()) {
    const found = visit(one, []);
    if (found !== undefined) return found;
  }
  return undefined;
}

function importsByFile(root: string): Map<string, Set<string>> {
  const files = new Map<string, Set<string>>();
  for (const top of ['agent', 'cni']) {
    for (const name of readdirSync(join(root, top), { recursive: true, encoding: 'utf8' })) {
      if (!name.endsWith('.ts')) continue;
      const file = join(root, top, name);
      const found = readFileSync(file, 'utf8').matchAll(/(?:from |import\()'(\.[^']+)'/g);
      const paths = [...found].map(([, path = '']) => relative(root, join(dirname(file), path)));
      files.set(relative(root, file), new Set(paths));
    }
  }
  return files;
}

/** `agent/host` for `agent/host/obstacles/packet.ts`; `cni` and `agent` for files directly in them. */
function folderOf(path: string): string {
  const [top = '', ...rest] = dirname(path).split(sep);
  return top === 'agent' && rest[0] !== undefined ? `${top}/${rest[0]}` : top;
}

/** The folder of a file below `agent/boot` and the like; a file directly in such a folder is its own part. */
function partOf(path: string): string {
  const folder = dirname(path);
  return folder === folderOf(path) ? path : folder;
}

/** The imports of each group from other groups. */
function groupedBy(
  groupOf: (path: string) => string,
  files: ReadonlyMap<string, ReadonlySet<string>>,
): Map<string, Set<string>> {
  const groups = new Map<string, Set<string>>();
  for (const [file, imports] of files) {
    const from = groupOf(file);
    const seen = groups.get(from) ?? new Set();
    groups.set(from, seen);
    for (const to of imports) if (groupOf(to) !== from) seen.add(groupOf(to));
  }
  return groups;
}
