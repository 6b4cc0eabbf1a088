// Everything that a page names must exist: files and headings of links, paths of this repository, npm scripts, commands of eniboot
// with their flags, failure codes and metrics.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { commands } from '../agent/cli/commands.ts';
import { failureCodes } from '../agent/messages/codes.ts';

/** Words in capitals with an underscore that are not failure codes: variables, constants of the kernel, words of other programs. */
const OTHER_CAPITALS =
  /^(?:(?:AF|AWS|CAP|CNI|CONFIG|ENIBOOT|EXTEND|IFF|KUBE|KUBELET|NET|NOTIFY|PKR|RLIMIT|SO)_|NODE_OPTIONS|STRICT_DNS|INSUFFICIENT_DATA|PACKET_QDISC_BYPASS)/;
/** Files that a build makes. */
const MADE = /^(?:dist|packer\/out)\//;

interface Page {
  path: string;
  text: string;
  /** The page without fenced blocks. */
  prose: string;
  /** The lines of the fenced blocks. */
  blocks: string;
}

/** A line for each name on a page that does not exist; undefined when all do. */
export async function docsProblems(root: string): Promise<string | undefined> {
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: root,
    encoding: 'utf8',
  })
    .trim()
    .split('\n')
    .filter((path) => existsSync(join(root, path)));
  const pages: Page[] = files
    .filter((path) => path.endsWith('.md'))
    .map((path) => {
      const text = readFileSync(join(root, path), 'utf8');
      const fenced = /^```[\s\S]*?^```$/gm;
      return { path, text, prose: text.replace(fenced, ''), blocks: (text.match(fenced) ?? []).join('\n') };
    });
  const help = new Map<string, string>();
  for (const { name, load } of commands) help.set(name, (await load()).help);
  const scripts = Object.keys(
    (JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { scripts: object }).scripts,
  );
  const metrics = readFileSync(join(root, 'docs/metrics.md'), 'utf8');
  const problems = pages.flatMap((page) => [
    ...deadLinks(root, page),
    ...deadPaths(files, page),
    ...named(page, /npm run ([\w:-]+)/g, (name) => scripts.includes(name), 'no script of package.json'),
    ...named(page, /`(eniboot_[a-z_]+)`/g, (name) => metrics.includes(name), 'no series of docs/metrics.md'),
    ...named(page, /`([A-Z]+(?:_[A-Z0-9]+)+)`/g, isCode, 'no failure code'),
    ...deadCommands(page, help),
  ]);
  return problems.length === 0 ? undefined : `${[...new Set(problems)].join('\n')}\n`;
}

function isCode(word: string): boolean {
  return Object.hasOwn(failureCodes, word) || OTHER_CAPITALS.test(word);
}

function named(
  { path, text }: Page,
  pattern: RegExp,
  isThere: (name: string) => boolean,
  what: string,
): string[] {
  return [...text.matchAll(pattern)]
    .map(([, name = '']) => name)
    .filter((name) => !isThere(name))
    .map((name) => `${path}: ${name} is ${what}`);
}

function deadLinks(root: string, { path, prose }: Page): string[] {
  return [...prose.matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)].flatMap(([, to = '', anchor]) => {
    const file = to === '' ? path : normalize(join(dirname(path), to));
    if (!existsSync(join(root, file))) return [`${path}: links to ${file}, which does not exist`];
    if (anchor === undefined || !file.endsWith('.md')) return [];
    return anchorsOf(readFileSync(join(root, file), 'utf8')).includes(anchor)
      ? []
      : [`${path}: ${file} has no heading #${anchor}`];
  });
}

/** Anchors as GitHub makes them of headings: lower case, without punctuation, hyphens for blanks. */
function anchorsOf(text: string): string[] {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/**
 * Paths in backticks, from the root of the repository or from the page's folder; `*` is any name. A file without its folder may be
 * anywhere below the page's folder, and for pages about the whole repository anywhere in it.
 */
function deadPaths(files: readonly string[], { path, prose }: Page): string[] {
  const folder = ['.', 'docs'].includes(dirname(path)) ? '' : `${dirname(path)}/`;
  return [...prose.matchAll(/`((?:agent|cni|docs|packer|systemd|test|\.ci)\/[\w./*-]*|[\w*-]+\.ts)`/g)]
    .map(([, one = '']) => one)
    .filter((one) => {
      const pattern = one.replaceAll('.', '\\.').replaceAll('*', '[^/]*');
      const isIt = new RegExp(
        one.includes('/') ? `^(?:${folder})?${pattern}(?:$|/|(?<=/))` : `^${folder}(?:.*/)?${pattern}$`,
      );
      return !MADE.test(one) && !files.some((file) => isIt.test(file));
    })
    .map((one) => `${path}: \`${one}\` does not exist`);
}

/** Commands and flags of eniboot, in backticks or on a line of a block. */
function deadCommands({ path, text, blocks }: Page, help: Map<string, string>): string[] {
  const lines = [
    ...[...text.matchAll(/`eniboot ([^`\n]+)`/g)].map(([, line = '']) => line),
    ...[...blocks.matchAll(/^(?:\$ |sudo )?eniboot ([^\n#|&;]+)/gm)].map(([, line = '']) => line),
  ];
  return lines.flatMap((line) => {
    const [name = '', ...words] = line.split(/\s+/);
    if (!/^[a-z]/.test(name)) return [];
    const known = help.get(name);
    if (known === undefined) return [`${path}: \`eniboot ${line}\`: no command ${name}`];
    return words
      .map((word) => /^--[a-z][a-z0-9-]*/.exec(word)?.[0])
      .filter((flag) => flag !== undefined && flag !== '--help' && !known.includes(flag))
      .map((flag) => `${path}: \`eniboot ${line}\`: its help has no ${flag}`);
  });
}
