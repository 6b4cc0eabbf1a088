// From sources to one checked configuration. This module loads the YAML parser (18 ms): import it only when
// a configuration is really read.
import { Failure } from '../messages/failure.ts';
import { alternatives, checkTree } from './check.ts';
import { parseSource } from './parse.ts';
import { type ConfigProblem, invalid, problemAt } from './problem.ts';
import type { Config } from './schema.ts';
import type { ConfigSource } from './source.ts';
import { mergeTrees, type Path, pathText, type Tree } from './tree.ts';

export interface LoadedConfig {
  config: Config;
  /** For each path (`pods.subnets.ids[0]`) its `source:line`, or `default`. */
  origins: Map<string, string>;
  /** What was accepted and is most likely not meant. */
  warnings: ConfigProblem[];
}

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
    else problems.push(...checkTree(parsed.tree).problems);
  }
  const [first, ...others] = trees;
  if (first === undefined) throw invalid(problems);
  const tree = others.reduce((under, over) => mergeTrees(under, over, alternatives), first);

  // A source that could not be read may hold what the others lack: nothing is called missing then.
  const checked = checkTree(tree, problems.length === 0);
  problems.push(...checked.problems);
  if (problems.length > 0 || checked.config === undefined) throw invalid(problems);
  return { config: checked.config, origins: originsOf(checked.config, tree), warnings: checked.warnings };
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
