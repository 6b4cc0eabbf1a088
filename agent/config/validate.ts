// Walks schema and document together and reports everything that does not fit. valibot checks the single values. The walk is
// here because valibot's strict object stops at its first unknown key, and because suggesting a key needs a view of all keys.
import * as v from 'valibot';
import { explainValue } from './explain.ts';
import { nearest } from './nearest.ts';
import { type ConfigProblem, problemAt } from './problem.ts';
import { configSchema } from './schema.ts';
import { type Path, pathText, type Tree, toValue, writtenOf } from './tree.ts';

export interface PlacedProblem {
  path: Path;
  problem: ConfigProblem;
  /** The value is absent, though it has no default. */
  missing?: true;
}

/**
 * Every difference between the document and a schema of plain strict objects; empty exactly when valibot accepts the document.
 */
export function validate(tree: Tree, schema: SchemaNode = configSchema): PlacedProblem[] {
  const found: Found = Object.assign([], { root: schema });
  walk(schema, tree, [], found);
  return found;
}

/** The problems found, and the whole schema, which tells where a misplaced key belongs. */
type Found = PlacedProblem[] & { root: SchemaNode };

// The parts of the schema that the walk reads (valibot documents these properties).
interface SchemaNode {
  type: string;
  entries?: Record<string, SchemaNode>;
  wrapped?: SchemaNode;
  options?: readonly unknown[];
  item?: SchemaNode;
  key?: SchemaNode;
  value?: SchemaNode;
}

function walk(schema: SchemaNode, tree: Tree, path: Path, found: Found): void {
  const inner = schema.wrapped;
  if (inner !== undefined) return walk(inner, tree, path, found);
  const before = found.length;
  if (schema.type === 'union') walkAlternatives(schema, tree, path, found);
  else if (schema.entries !== undefined) walkObject(schema.entries, tree, path, found);
  else if (schema.type === 'record') walkRecord(schema, tree, path, found);
  else if (schema.item !== undefined) walkList(schema.item, tree, path, found);
  // Checks of the value as a whole: for a scalar there are no others; for a map or list, its size.
  if (found.length > before) return;
  const value = toValue(tree);
  const result = v.safeParse(schema as unknown as v.GenericSchema, value);
  if (result.success) return;
  const issue = result.issues[0];
  report(
    found,
    tree,
    path,
    value,
    explainValue(issue, schema as unknown as v.GenericSchema, path, writtenOf(tree)),
  );
}

function walkObject(entries: Record<string, SchemaNode>, tree: Tree, path: Path, found: Found): void {
  if (tree.kind !== 'map') return reportNotMap(Object.keys(entries), tree, path, found);
  const keys = Object.keys(entries);
  for (const [key, entry] of tree.entries) {
    const schema = Object.hasOwn(entries, key) ? entries[key] : undefined;
    if (schema === undefined) reportUnknown(key, entry, keys, path, found);
    else walk(schema, entry.tree, [...path, key], found);
  }
  for (const [key, schema] of Object.entries(entries)) {
    if (schema.type === 'optional' || tree.entries.has(key)) continue;
    const inner = [...path, key];
    // The report of a misspelt key says it already.
    if (found.some((one) => one.problem.suggestion === pathText(inner))) continue;
    found.push({
      path: inner,
      missing: true,
      problem: problemAt(tree.at, inner, undefined, {
        problem: 'is missing',
        remedy: `Add \`${pathText(inner)}\`; it has no default.`,
      }),
    });
  }
}

/** Alternatives are objects of one key each. Exactly one of them must be there. */
function walkAlternatives(schema: SchemaNode, tree: Tree, path: Path, found: Found): void {
  const options = (schema.options ?? []) as SchemaNode[];
  const keys = options.flatMap((option) => Object.keys(option.entries ?? {}));
  if (tree.kind !== 'map') return reportNotMap(keys, tree, path, found);
  const present = keys.filter((key) => tree.entries.has(key));
  const chosen = options.filter((option) => present.some((key) => Object.hasOwn(option.entries ?? {}, key)));
  if (present.length === 1 && chosen[0]?.entries !== undefined) {
    const known = chosen[0].entries;
    for (const [key, entry] of tree.entries) {
      if (Object.hasOwn(known, key)) walk(known[key] as SchemaNode, entry.tree, [...path, key], found);
      else reportUnknown(key, entry, keys, path, found);
    }
    return;
  }
  for (const [key, entry] of tree.entries) {
    if (!keys.includes(key)) reportUnknown(key, entry, keys, path, found);
  }
  const choice = keys.map((key) => `\`${key}\``).join(' or ');
  if (present.length > 1) {
    report(found, tree, path, toValue(tree), {
      problem: `has both ${keys.map((key) => `\`${key}\``).join(' and ')}`,
      remedy: `Keep one of them: ${choice}.`,
    });
  } else if (tree.entries.size === 0) {
    report(found, tree, path, toValue(tree), {
      problem: `has neither ${keys.map((key) => `\`${key}\``).join(' nor ')}`,
      remedy: `Add ${choice} below it.`,
    });
  }
}

function walkRecord(schema: SchemaNode, tree: Tree, path: Path, found: Found): void {
  if (tree.kind !== 'map') return reportNotMap([], tree, path, found);
  for (const [key, entry] of tree.entries) {
    const inner = [...path, key];
    const result = v.safeParse(schema.key as unknown as v.GenericSchema, key);
    if (!result.success) {
      report(found, entry.tree, inner, undefined, {
        problem: result.issues[0].message,
        remedy: 'Choose another key.',
      });
    } else if (schema.value !== undefined) walk(schema.value, entry.tree, inner, found);
  }
}

function walkList(item: SchemaNode, tree: Tree, path: Path, found: Found): void {
  if (tree.kind !== 'list') {
    const value = toValue(tree);
    const scalar = tree.kind === 'scalar' && tree.value !== null;
    report(found, tree, path, value, {
      problem: value === null ? 'has no value' : 'must be a list',
      remedy: 'Write a list: one line for each entry, beginning with a dash.',
      ...(scalar ? { suggestion: `[${JSON.stringify(writtenOf(tree) ?? value)}]` } : {}),
    });
    return;
  }
  tree.items.forEach((entry, index) => walk(item, entry, [...path, index], found));
}

function reportNotMap(keys: string[], tree: Tree, path: Path, found: Found): void {
  const value = toValue(tree);
  const what = keys.length === 0 ? 'keys with values' : `the keys ${keys.join(', ')}`;
  report(found, tree, path, value, {
    problem: value === null ? 'has no value' : path.length === 0 ? 'is not a set of keys' : 'must be a map',
    remedy:
      value === null
        ? 'Indent what belongs to it by two spaces more, or remove the key.'
        : `Write ${what} below it, each as \`key: value\`.`,
  });
}

function reportUnknown(
  key: string,
  entry: { at: Tree['at']; tree: Tree },
  siblings: string[],
  path: Path,
  found: Found,
): void {
  const here = nearest(key, siblings);
  const elsewhere =
    here === undefined ? allPaths(found.root).find((known) => known.at(-1) === key) : undefined;
  const meant = here === undefined ? elsewhere : [...path, here];
  const suggestion = meant === undefined ? undefined : pathText(meant);
  const remedy =
    here !== undefined
      ? `Write \`${here}\` instead.`
      : elsewhere !== undefined
        ? `Move it to \`${suggestion}\`.`
        : `Remove it. Known here: ${siblings.join(', ')}.`;
  found.push({
    path: [...path, key],
    problem: problemAt(
      entry.at,
      [...path, key],
      toValue(entry.tree),
      { problem: 'is an unknown key', remedy, ...(suggestion === undefined ? {} : { suggestion }) },
      writtenOf(entry.tree),
    ),
  });
}

/** Every path in the schema, without list items and free keys. */
function allPaths(schema: SchemaNode, path: string[] = []): string[][] {
  if (schema.wrapped !== undefined) return allPaths(schema.wrapped, path);
  const parts = schema.type === 'union' ? ((schema.options ?? []) as SchemaNode[]) : [schema];
  return parts.flatMap((part) =>
    Object.entries(part.entries ?? {}).flatMap(([key, inner]) => [
      [...path, key],
      ...allPaths(inner, [...path, key]),
    ]),
  );
}

function report(
  found: Found,
  tree: Tree,
  path: Path,
  value: unknown,
  finding: Parameters<typeof problemAt>[3],
): void {
  found.push({ path, problem: problemAt(tree.at, path, value, finding, writtenOf(tree)) });
}
