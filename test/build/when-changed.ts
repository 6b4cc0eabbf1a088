// Builds what tests need only when its inputs or its outputs have changed.
import { createHash } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

export interface Built {
  /** Folder that holds all of them. */
  root: string;
  /** Name of the file in dist/ that remembers the last build. */
  name: string;
  /** Files and folders from the root, each with everything in it. */
  inputs: readonly string[];
  /** What else the build depends on, such as a commit. */
  also?: string;
  /** Files from the root. When one is missing or has changed, they are built again. */
  outputs: readonly string[];
}

/** Calls `build` unless nothing has changed since the last call. Returns true when it called `build`. */
export function whenChanged(built: Built, build: () => void): boolean {
  const stamp = stampOf(built);
  if (textOf(stamp) === stateOf(built)) return false;
  rmSync(stamp, { force: true });
  build();
  remember(built);
  return true;
}

/** Records outputs that another program has just built from these inputs, so that they are not built again. */
export function remember(built: Built): void {
  const stamp = stampOf(built);
  mkdirSync(dirname(stamp), { recursive: true });
  writeFileSync(stamp, stateOf(built));
}

function stampOf({ root, name }: Built): string {
  return join(root, 'dist', `.${name}.built`);
}

function stateOf({ root, inputs, also = '', outputs }: Built): string {
  const made = digestOf([also, ...inputs.map((input) => contentOf(join(root, input)))]);
  return `${made} ${digestOf(outputs.map((output) => lookOf(join(root, output))))}\n`;
}

/** One text for a file, a link or a folder; of the mode only the bit that git keeps. */
function contentOf(path: string): string {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return `${path} -> ${readlinkSync(path)}`;
  if (stat.isDirectory())
    return digestOf([
      path,
      ...readdirSync(path)
        .sort()
        .map((name) => contentOf(join(path, name))),
    ]);
  return `${path} ${stat.mode & 0o100} ${createHash('sha256').update(readFileSync(path)).digest('hex')}`;
}

/** Size and time in place of the content: an executable has 118 MB. */
function lookOf(path: string): string {
  const stat = lstatSync(path, { throwIfNoEntry: false, bigint: true });
  return stat === undefined ? 'missing' : `${path} ${stat.size} ${stat.mtimeNs}`;
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

function digestOf(parts: readonly string[]): string {
  return createHash('sha256').update(JSON.stringify(parts)).digest('hex');
}
