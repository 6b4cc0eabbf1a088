// Values in Parameter Store: `ssm:/path` in place of a text. The caller, which has AWS at hand, reads the parameters; their
// values are checked like values that an operator writes.
import { checkTree } from './check.ts';
import { type ConfigProblem, invalid, problemAt } from './problem.ts';
import type { Config } from './schema.ts';
import { type Path, type Position, pathText, type Scalar, type Tree } from './tree.ts';

/**
 * Keys whose parameter holds a secret: the reference stays in the configuration, and the code that needs the secret reads it.
 */
const SECRETS = ['join.token'];

/** The names (`/path`) of all parameters whose values become part of the configuration, each once, sorted. */
export function parameterReferences(config: Config): string[] {
  return references(config, (path) => !SECRETS.includes(path));
}

/** The names of all parameters that hold a secret. */
export function secretReferences(config: Config): string[] {
  return references(config, (path) => SECRETS.includes(path));
}

function references(config: Config, isMeant: (path: string) => boolean): string[] {
  const names = new Set<string>();
  const visit = (value: unknown, path: Path): void => {
    const name = parameterName(value);
    if (name !== undefined && isMeant(pathText(path))) names.add(name);
    if (typeof value === 'object' && value !== null)
      for (const [key, inner] of Object.entries(value)) visit(inner, [...path, key]);
  };
  visit(config, []);
  return [...names].sort();
}

/**
 * The configuration with every reference replaced. `values`: parameter name to value. A value in a list may hold several
 * entries, separated by commas. Throws Failure CONFIG_INVALID with all problems; their `source` names the parameter. Problems
 * are parameters that are absent or empty, and values that would be refused in a file too.
 */
export function resolveParameters(config: Config, values: ReadonlyMap<string, string>): Config {
  const problems: ConfigProblem[] = [];
  const tree = resolveNode(config, [], { source: 'configuration', line: 0, column: 0 }, values, problems);
  if (problems.length > 0) throw invalid(problems);
  const checked = checkTree(tree);
  if (checked.config === undefined) throw invalid(checked.problems);
  return checked.config;
}

function resolveNode(
  value: unknown,
  path: Path,
  at: Position,
  values: ReadonlyMap<string, string>,
  problems: ConfigProblem[],
): Tree {
  const name = parameterName(value);
  if (name !== undefined && !SECRETS.includes(pathText(path))) {
    const from = { ...at, source: `parameter ${name}` };
    return { kind: 'scalar', at: from, value: lookUp(name, path, from, values, problems) };
  }
  if (Array.isArray(value)) {
    const items = value.flatMap((item, index) => {
      const tree = resolveNode(item, [...path, index], at, values, problems);
      if (tree.kind !== 'scalar' || parameterName(item) === undefined) return [tree];
      return String(tree.value)
        .split(',')
        .map((entry): Tree => ({ ...tree, value: entry.trim() }));
    });
    return { kind: 'list', at, items };
  }
  if (typeof value !== 'object' || value === null) return { kind: 'scalar', at, value: value as Scalar };
  // A key whose value is undefined is a default that is not set.
  const set = Object.entries(value).filter(([, inner]) => inner !== undefined);
  const entries = set.map(([key, inner]) => {
    const tree = resolveNode(inner, [...path, key], at, values, problems);
    return [key, { at: tree.at, tree }] as const;
  });
  return { kind: 'map', at, entries: new Map(entries) };
}

function lookUp(
  name: string,
  path: Path,
  from: Position,
  values: ReadonlyMap<string, string>,
  problems: ConfigProblem[],
): string {
  const found = values.get(name)?.trim();
  if (found === undefined || found === '') {
    problems.push(
      problemAt(from, path, undefined, {
        problem: found === undefined ? 'was not found' : 'is empty',
        remedy: `Create the parameter ${name} in this region, and let the instance's role read it.`,
      }),
    );
  } else if (found.includes('ssm:')) {
    problems.push(
      problemAt(from, path, found, {
        problem: 'holds another reference',
        remedy: 'Put the value itself into the parameter.',
      }),
    );
  }
  return found ?? '';
}

function parameterName(value: unknown): string | undefined {
  return typeof value === 'string' && /^ssm:\/[\w./-]+$/.test(value) ? value.slice('ssm:'.length) : undefined;
}
