// From sources to one checked configuration. This module loads the YAML parser (18 ms): import it only when
// a configuration is really read.
import * as v from 'valibot';
import { Failure } from '../messages/failure.ts';
import { type CrossFinding, crossCheck } from './crosscheck.ts';
import { parseSource } from './parse.ts';
import { type ConfigProblem, problemAt } from './problem.ts';
import { type Config, configSchema } from './schema.ts';
import {
  mergeTrees,
  type Path,
  pathText,
  positionOf,
  type Tree,
  toValue,
  treeAt,
  withoutPaths,
} from './tree.ts';
import { type PlacedProblem, validate } from './validate.ts';

/** One place configuration comes from; a list of them goes from lowest to highest precedence. */
export type ConfigSource =
  | {
      /** As messages name it: a path, or `user data`. */
      name: string;
      content: Uint8Array | string;
    }
  | {
      name: string;
      /** It is there and cannot be used: reported with all other problems. */
      refused: { problem: string; remedy: string };
    };

export interface LoadedConfig {
  config: Config;
  /** For each path (`pods.subnets.ids[0]`) its `source:line`, or `default`. */
  origins: Map<string, string>;
  /** What was accepted and is most likely not meant. */
  warnings: ConfigProblem[];
}

/** Maps whose keys are alternatives: the later source's choice replaces the earlier one. */
const alternatives = ['pods.subnets', 'pods.securityGroups'];

/**
 * Merges the sources (maps merge, lists and values are replaced by the later source) and checks the result.
 * Pure. Throws Failure CONFIG_MISSING without any source, and CONFIG_INVALID with every problem found in
 * `facts.problems` (ConfigProblem[]).
 */
export function loadConfig(sources: ConfigSource[]): LoadedConfig {
  if (sources.length === 0) {
    throw new Failure('CONFIG_MISSING', 'no configuration file and no configuration in the user data');
  }
  const problems: ConfigProblem[] = [];
  const trees: Tree[] = [];
  for (const source of sources) {
    if ('refused' in source) {
      problems.push(problemAt({ source: source.name, line: 0, column: 0 }, [], undefined, source.refused));
      continue;
    }
    const parsed = parseSource(source.name, source.content);
    problems.push(...parsed.problems);
    if (parsed.tree === undefined) continue;
    if (parsed.tree.kind === 'map') trees.push(parsed.tree);
    else problems.push(...validate(parsed.tree).map((one) => one.problem));
  }
  const [first, ...others] = trees;
  if (first === undefined) throw invalid(problems);
  const tree = others.reduce((under, over) => mergeTrees(under, over, alternatives), first);

  // A source that could not be read may hold what the others lack: nothing is called missing then.
  const complete = problems.length === 0;
  const placed = validate(tree);
  problems.push(...placed.filter((one) => complete || !one.missing).map((one) => one.problem));
  const parsed = v.safeParse(configSchema, toValue(placed.length === 0 ? tree : soundPart(tree, placed)));
  const crossed = parsed.success ? crossCheck(parsed.output) : [];
  problems.push(...crossed.filter((one) => one.level === 'error').map((one) => placeFinding(tree, one)));
  if (problems.length > 0) throw invalid(problems);
  if (!parsed.success) {
    throw new Failure('INTERNAL', 'the configuration passed every check and the schema refuses it', {
      issues: v.summarize(parsed.issues),
    });
  }
  return {
    config: parsed.output,
    origins: originsOf(parsed.output, tree),
    warnings: crossed.filter((one) => one.level === 'warning').map((one) => placeFinding(tree, one)),
  };
}

/**
 * What is left when every refused value is taken out, with stand-ins for what must be there: the checks across
 * values run on it, so that all problems appear at once.
 */
function soundPart(tree: Tree, placed: PlacedProblem[]): Tree {
  const at = tree.at;
  const map = (key: string, inner: Tree): Tree => ({
    kind: 'map',
    at,
    entries: new Map([[key, { at, tree: inner }]]),
  });
  const required = mergeTrees(
    map('cluster', { kind: 'scalar', at, value: 'stand-in' }),
    map('pods', map('subnets', map('tags', map('stand-in', { kind: 'scalar', at, value: '' })))),
    [],
  );
  const doomed = placed.map((one) => {
    const optional = one.missing && treeAt(required, one.path) === undefined;
    return optional ? one.path.slice(0, -1) : one.path;
  });
  return mergeTrees(required, withoutPaths(tree, doomed), alternatives);
}

/** The failure that carries these problems. */
export function invalid(problems: ConfigProblem[]): Failure {
  const [first, ...others] = problems;
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  return new Failure('CONFIG_INVALID', `${first === undefined ? '' : problemLine(first)}${more}`, {
    problems,
  });
}

/** One line: where, what path, what value, what is wrong. */
export function problemLine(problem: ConfigProblem): string {
  const where = problem.line === 0 ? problem.source : `${problem.source}:${problem.line}:${problem.column}`;
  const what = problem.path === '' ? '' : ` ${problem.path}`;
  const value = problem.value === undefined ? '' : ` ${problem.value}`;
  return `${where}:${what}${value} ${problem.problem}`;
}

function placeFinding(tree: Tree, finding: CrossFinding): ConfigProblem {
  const { level: _, path, value, ...rest } = finding;
  return problemAt(positionOf(tree, path), path, value, rest);
}

function originsOf(config: Config, tree: Tree): Map<string, string> {
  const origins = new Map<string, string>();
  const visit = (value: unknown, node: Tree | undefined, path: Path): void => {
    if (path.length > 0)
      origins.set(pathText(path), node === undefined ? 'default' : `${node.at.source}:${node.at.line}`);
    if (typeof value !== 'object' || value === null) return;
    if (Array.isArray(value)) {
      value.forEach((item, index) =>
        visit(item, node?.kind === 'list' ? node.items[index] : undefined, [...path, index]),
      );
      return;
    }
    for (const [key, inner] of Object.entries(value)) {
      visit(inner, node?.kind === 'map' ? node.entries.get(key)?.tree : undefined, [...path, key]);
    }
  };
  visit(config, tree, []);
  return origins;
}
