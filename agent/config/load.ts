// From sources to one checked configuration. This module loads the YAML parser (18 ms): import it only when a configuration is
// really read.
import { Failure } from '../messages/failure.ts';
import { alternatives, checkTree } from './check.ts';
import { parseSource } from './parse.ts';
import { type ConfigProblem, invalid, problemAt, problemLine } from './problem.ts';
import type { Config } from './schema.ts';
import type { ConfigSource, SourceFinding } from './source.ts';
import { mergeTrees, type Path, pathText, type Tree } from './tree.ts';

export interface LoadedConfig {
  config: Config;
  /** For each path (`pods.subnets.ids[0]`), its `source:line`, or `default`. */
  origins: Map<string, string>;
  /** The sources that held configuration, from lowest to highest precedence, the defaults first. */
  held: HeldConfig[];
  /** What was accepted but is most likely a mistake. */
  warnings: ConfigProblem[];
}

/** The values in effect that come from a source; none when later sources replace all of them. */
export interface HeldConfig {
  /** A file, `user data, part 2`, or `default`. */
  source: string;
  keys: string[];
}

/**
 * Merges the sources (maps merge; a later source replaces lists and values) and checks the result. Pure. Throws Failure
 * CONFIG_MISSING without any source, and CONFIG_INVALID with every problem found in `facts.problems` (ConfigProblem[]).
 */
export function loadConfig(sources: ConfigSource[]): LoadedConfig {
  const passedOver = sources.flatMap((source) =>
    'passedOver' in source ? [wholeProblem(source.name, source.passedOver)] : [],
  );
  if (passedOver.length === sources.length) {
    const but = passedOver.map((one) => `; ${problemLine(one)}. ${one.remedy}`).join('');
    throw new Failure('CONFIG_MISSING', `no configuration file and no configuration in the user data${but}`);
  }
  const problems: ConfigProblem[] = [];
  const trees: Tree[] = [];
  for (const source of sources) {
    if ('refused' in source) problems.push(wholeProblem(source.name, source.refused));
    if (!('content' in source)) continue;
    const parsed = parseSource(source.name, source.content);
    problems.push(...parsed.problems);
    if (parsed.tree === undefined) continue;
    if (parsed.tree.kind === 'map') trees.push(parsed.tree);
    else problems.push(...checkTree(parsed.tree).problems);
  }
  const [first, ...others] = trees;
  if (first === undefined) throw invalid(problems);
  const tree = others.reduce((under, over) => mergeTrees(under, over, alternatives), first);

  // A source that could not be read may hold keys that are missing in the others, so no key is reported as missing.
  const checked = checkTree(tree, problems.length === 0);
  problems.push(...checked.problems);
  if (problems.length > 0 || checked.config === undefined) throw invalid(problems);
  return {
    config: checked.config,
    ...originsOf(
      checked.config,
      tree,
      trees.map(({ at }) => at.source),
    ),
    warnings: [...passedOver, ...checked.warnings],
  };
}

function wholeProblem(source: string, { line, ...finding }: SourceFinding): ConfigProblem {
  return problemAt({ source, line: line ?? 0, column: line === undefined ? 0 : 1 }, [], undefined, finding);
}

function originsOf(config: Config, tree: Tree, sources: string[]): Pick<LoadedConfig, 'origins' | 'held'> {
  const origins = new Map<string, string>();
  const held = new Map<string, string[]>(['default', ...sources].map((source) => [source, []]));
  const visit = (value: unknown, node: Tree | undefined, path: Path, isInList: boolean): void => {
    if (value === undefined) return;
    const isLeaf = typeof value !== 'object' || value === null || Object.keys(value).length === 0;
    if (path.length > 0)
      origins.set(pathText(path), node === undefined ? 'default' : `${node.at.source}:${node.at.line}`);
    // A list comes from one source as a whole.
    if (!isInList && (isLeaf || Array.isArray(value)))
      held.get(node?.at.source ?? 'default')?.push(pathText(path));
    if (isLeaf) return;
    if (Array.isArray(value)) {
      value.forEach((item, index) =>
        visit(item, node?.kind === 'list' ? node.items[index] : undefined, [...path, index], true),
      );
      return;
    }
    for (const [key, inner] of Object.entries(value)) {
      visit(inner, node?.kind === 'map' ? node.entries.get(key)?.tree : undefined, [...path, key], isInList);
    }
  };
  visit(config, tree, [], false);
  return { origins, held: [...held].map(([source, keys]) => ({ source, keys })) };
}
