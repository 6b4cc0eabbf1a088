// A parsed document as plain data that knows the position of each value. Merging, validation and `config show` work on it, so
// that every message can name file, line and column.

/** Where a value stands; line and column count from 1. */
export interface Position {
  source: string;
  line: number;
  column: number;
}

export type Scalar = string | number | boolean | null;

export type Tree =
  | { kind: 'map'; at: Position; entries: Map<string, { at: Position; tree: Tree }> }
  | { kind: 'list'; at: Position; items: Tree[] }
  | {
      kind: 'scalar';
      at: Position;
      value: Scalar;
      /** The text in the document, when YAML did not read it as text: 1.10 is the number 1.1. */
      written?: string;
    };

export type Path = readonly (string | number)[];

/** `pods.subnets.ids[0]`; a key with other characters is quoted: `aws.tags["a.b"]`. */
export function pathText(path: Path): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    if (!/^[A-Za-z_][\w-]*$/.test(part)) return `${text}[${JSON.stringify(part)}]`;
    return text === '' ? part : `${text}.${part}`;
  }, '');
}

/** The text of a value that YAML read as a number, a boolean or null; undefined for text, maps and lists. */
export function writtenOf(tree: Tree): string | undefined {
  return tree.kind === 'scalar' ? tree.written : undefined;
}

/** The plain value, as the schema takes it. */
export function toValue(tree: Tree): unknown {
  if (tree.kind === 'scalar') return tree.value;
  if (tree.kind === 'list') return tree.items.map(toValue);
  return Object.fromEntries([...tree.entries].map(([key, entry]) => [key, toValue(entry.tree)]));
}

/** The position of the value at `path`, or of the nearest value around it. */
export function positionOf(tree: Tree, path: Path): Position {
  const [head, ...rest] = path;
  const child = head === undefined ? undefined : childOf(tree, head);
  return child === undefined ? tree.at : positionOf(child, rest);
}

/** The value at `path`, if there is one. */
export function treeAt(tree: Tree, path: Path): Tree | undefined {
  const [head, ...rest] = path;
  if (head === undefined) return tree;
  const child = childOf(tree, head);
  return child === undefined ? undefined : treeAt(child, rest);
}

/**
 * Lays `over` on `under`: maps merge key by key, everything else is replaced. A map named in `whole` is replaced as a whole:
 * its keys are alternatives, so keys of both sources together would make no sense.
 */
export function mergeTrees(under: Tree, over: Tree, whole: readonly string[], path: Path = []): Tree {
  if (under.kind !== 'map' || over.kind !== 'map' || whole.includes(pathText(path))) return over;
  const entries = new Map(under.entries);
  for (const [key, entry] of over.entries) {
    const below = entries.get(key);
    const tree = below === undefined ? entry.tree : mergeTrees(below.tree, entry.tree, whole, [...path, key]);
    entries.set(key, { at: entry.at, tree });
  }
  return { kind: 'map', at: over.at, entries };
}

/**
 * The tree without the values at these paths. A value in a list takes the whole list with it, and the last value of a map takes
 * the map.
 */
export function withoutPaths(tree: Tree, paths: readonly Path[]): Tree {
  const doomed = new Set(
    paths.map((path) => {
      const index = path.findIndex((part) => typeof part === 'number');
      return pathText(index === -1 ? path : path.slice(0, index));
    }),
  );
  return prune(tree, [], doomed) ?? { kind: 'map', at: tree.at, entries: new Map() };
}

function prune(tree: Tree, path: Path, doomed: ReadonlySet<string>): Tree | undefined {
  if (path.length > 0 && doomed.has(pathText(path))) return undefined;
  if (tree.kind !== 'map' || tree.entries.size === 0) return tree;
  const entries = new Map<string, { at: Position; tree: Tree }>();
  for (const [key, entry] of tree.entries) {
    const kept = prune(entry.tree, [...path, key], doomed);
    if (kept !== undefined) entries.set(key, { at: entry.at, tree: kept });
  }
  return entries.size === 0 ? undefined : { kind: 'map', at: tree.at, entries };
}

function childOf(tree: Tree, part: string | number): Tree | undefined {
  if (tree.kind === 'map') return tree.entries.get(String(part))?.tree;
  if (tree.kind === 'list' && typeof part === 'number') return tree.items[part];
  return undefined;
}
