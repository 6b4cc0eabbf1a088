// Planning and judging read nothing: a phase's plan, judge and degradations, with all functions that they call, reach no port, no
// clock and no service. Otherwise `eniboot plan` would show other changes than those that are made.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseSync } from 'oxc-parser';

/** Files of agent/port whose results never change. */
const CONSTANT = ['agent/port/bounds.ts', 'agent/port/exec-result.ts'];
const CONSTANT_NAMES = ['version', 'architecture'];
/** Members of a run's context that do not change. */
const FIXED = ['mode'];
const VARYING = ['Date', 'process', 'performance', 'fetch'];
const PURE = ['plan', 'judge', 'degradations'];

interface Tree {
  type: string;
  [key: string]: unknown;
}
interface Module {
  program: Tree;
  /** What each name at the top of the file stands for. */
  declared: Map<string, Tree>;
  imported: Map<string, { file: string; name: string }>;
}

/** A line for each read that planning or judging may reach, with the way to it. */
export function purityProblems(root: string): string | undefined {
  const modules = new Map<string, Module>();
  const moduleOf = (path: string): Module => {
    const known = modules.get(path) ?? parsed(root, path);
    modules.set(path, known);
    return known;
  };
  const problems = new Set<string>();
  const visited = new Set<Tree>();

  function walk(tree: Tree, path: string, way: string): void {
    if (visited.has(tree)) return;
    visited.add(tree);
    const { declared, imported } = moduleOf(path);
    for (const use of usesIn(tree)) {
      if (use.startsWith('context.') && !FIXED.includes(use.slice(8))) problems.add(`${way} → ${use}`);
      if (VARYING.includes(use) || use === 'Math.random') problems.add(`${way} → ${use}`);
      const own = declared.get(use);
      if (own !== undefined) walk(own, path, `${way} → ${use}`);
      const from = imported.get(use);
      if (from === undefined) continue;
      if (from.file.startsWith('node:')) problems.add(`${way} → ${use} of ${from.file}`);
      if (!from.file.endsWith('.ts') || CONSTANT.includes(from.file)) continue;
      const reached = `${way} → ${use}`;
      if (!from.file.startsWith('agent/port/')) {
        const target = moduleOf(from.file).declared.get(from.name);
        if (target !== undefined) walk(target, from.file, reached);
      } else if (!CONSTANT_NAMES.includes(use)) problems.add(`${reached} of ${from.file}`);
    }
  }

  let phases = 0;
  for (const name of readdirSync(join(root, 'agent/boot'), { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.ts')) continue;
    const path = join('agent/boot', name);
    for (const phase of phasesIn(moduleOf(path).program)) {
      phases += 1;
      for (const [key, value] of phase) if (PURE.includes(key)) walk(value, path, `${path} ${key}`);
    }
  }
  if (phases < 8) problems.add(`only ${phases} phases were found: this check no longer finds them`);
  return problems.size === 0 ? undefined : [...problems].join('\n');
}

function parsed(root: string, path: string): Module {
  const { program } = parseSync(path, readFileSync(join(root, path), 'utf8'));
  const module: Module = { program: program as never, declared: new Map(), imported: new Map() };
  for (const statement of (program as unknown as { body: Tree[] }).body) {
    if (statement.type === 'ImportDeclaration') {
      const source = (statement['source'] as { value: string }).value;
      const file = source.startsWith('.') ? relative('.', join(dirname(path), source)) : source;
      for (const one of statement['specifiers'] as { local: { name: string }; imported?: { name: string } }[])
        module.imported.set(one.local.name, { file, name: one.imported?.name ?? one.local.name });
    }
    const declaration = (statement['declaration'] ?? statement) as Tree;
    const named = [declaration, ...((declaration['declarations'] as Tree[] | undefined) ?? [])];
    for (const one of named) {
      const id = one['id'] as { name?: string } | undefined;
      if (id?.name !== undefined && !one.type.startsWith('TS')) module.declared.set(id.name, one);
    }
  }
  return module;
}

/** Objects with `name` and `observe`, as entries. */
function phasesIn(tree: Tree): [string, Tree][][] {
  const found = childrenOf(tree).flatMap(phasesIn);
  if (tree.type !== 'ObjectExpression') return found;
  const entries = (tree['properties'] as Tree[]).flatMap((one): [string, Tree][] =>
    one.type === 'Property'
      ? [[(one['key'] as { name?: string }).name ?? '', one['value'] as Tree]]
      : // A plan that only some phases have: `...(x ? {} : { plan })`.
        childrenOf(one).flatMap(objectsIn),
  );
  const keys = entries.map(([key]) => key);
  return keys.includes('name') && keys.includes('observe') ? [...found, entries] : found;
}

function objectsIn(tree: Tree): [string, Tree][] {
  if (tree.type !== 'ObjectExpression') return childrenOf(tree).flatMap(objectsIn);
  return (tree['properties'] as Tree[]).flatMap((one): [string, Tree][] =>
    one.type === 'Property' ? [[(one['key'] as { name?: string }).name ?? '', one['value'] as Tree]] : [],
  );
}

/** Names that are used, and members of `context` and `Math`; without types. */
function usesIn(tree: Tree): string[] {
  if (tree.type.startsWith('TS') && !/^TS(?:As|Satisfies|NonNull)/.test(tree.type)) return [];
  if (tree.type === 'Identifier') return [String(tree['name'])];
  if (tree.type === 'MemberExpression' && tree['computed'] !== true) {
    const object = tree['object'] as Tree;
    const member = `${String(object['name'])}.${String((tree['property'] as Tree)['name'])}`;
    return [...(object.type === 'Identifier' ? [member] : []), ...usesIn(object)];
  }
  if (tree.type === 'Property' && tree['computed'] !== true) return usesIn(tree['value'] as Tree);
  return childrenOf(tree).flatMap(usesIn);
}

function childrenOf(tree: Tree): Tree[] {
  return Object.entries(tree)
    .filter(([key]) => key !== 'typeAnnotation' && key !== 'returnType' && key !== 'typeArguments')
    .flatMap(([, value]) => value)
    .filter((value): value is Tree => typeof value === 'object' && value !== null && 'type' in value);
}
