import * as v from 'valibot';
import { Failure } from '../messages/failure.ts';
import { type CrossFinding, crossCheck } from './crosscheck.ts';
import { type ConfigProblem, problemAt } from './problem.ts';
import { type Config, configSchema } from './schema.ts';
import { mergeTrees, positionOf, type Tree, toValue, treeAt, withoutPaths } from './tree.ts';
import { type PlacedProblem, validate } from './validate.ts';

/** Maps whose keys are alternatives: the choice of the later source replaces that of the earlier one. */
export const alternatives = ['pods.subnets', 'pods.securityGroups'];

/**
 * Checks the merged document against the schema, and with the checks across values. `complete` is false when a part of the
 * document is known to be absent: then no key is reported as missing. A config is returned only when there are no problems.
 */
export function checkTree(
  tree: Tree,
  complete = true,
): { config: Config | undefined; problems: ConfigProblem[]; warnings: ConfigProblem[] } {
  const placed = validate(tree);
  const parsed = v.safeParse(configSchema, toValue(placed.length === 0 ? tree : soundPart(tree, placed)));
  if (placed.length === 0 && !parsed.success) {
    throw new Failure(
      'INTERNAL',
      'the configuration fits the walk over the schema but not the schema itself',
      {
        issues: v.summarize(parsed.issues),
      },
    );
  }
  const crossed = parsed.success ? crossCheck(parsed.output) : [];
  const ofLevel = (level: CrossFinding['level']) =>
    crossed
      .filter((one) => one.level === level)
      .map((one) => problemAt(positionOf(tree, one.path), one.path, one.value, one.finding));
  const problems = [
    ...placed.filter((one) => complete || !one.missing).map((one) => one.problem),
    ...ofLevel('error'),
  ];
  const sound = placed.length === 0 && problems.length === 0 && parsed.success;
  return { config: sound ? parsed.output : undefined, problems, warnings: ofLevel('warning') };
}

/**
 * The document without the refused values, with stand-ins for required ones. The checks across values run on it, so that all
 * problems are reported at once.
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
