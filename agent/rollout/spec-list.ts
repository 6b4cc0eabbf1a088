// Several specs as one rollout: one for each Region, in the order in which they are carried out. Pure.
import { parseSource } from '../config/parse.ts';
import { type ConfigProblem, type Finding, invalid, problemAt } from '../config/problem.ts';
import { type Path, positionOf } from '../config/tree.ts';
import { isFailure } from '../messages/failure.ts';
import { isImage, loadSpec, type Spec, subjectOf } from './spec.ts';

export interface SpecFile {
  /** Path of the file, for messages. */
  source: string;
  content: Uint8Array;
}

type Loaded = SpecFile & { spec: Spec };

/**
 * All specs, in order. Throws SPEC_INVALID with all problems in `facts.problems`: those of each single spec; if there are none,
 * those that keep the specs from being one rollout.
 */
export function loadSpecs(files: readonly SpecFile[]): Spec[] {
  const problems: ConfigProblem[] = [];
  const loaded = files.flatMap((file): Loaded[] => {
    try {
      return [{ ...file, spec: loadSpec(file.source, file.content) }];
    } catch (error) {
      if (!isFailure(error, 'SPEC_INVALID')) throw error;
      problems.push(...(error.facts['problems'] as ConfigProblem[]));
      return [];
    }
  });
  if (problems.length === 0 && files.length > 1) problems.push(...differences(loaded));
  if (problems.length > 0) throw invalid(problems, 'SPEC_INVALID');
  return loaded.map((one) => one.spec);
}

function differences(files: readonly Loaded[]): ConfigProblem[] {
  const [first] = files;
  return files.flatMap((file, at) => {
    const problems: ConfigProblem[] = [];
    const report = (path: Path, value: unknown, finding: Finding) => {
      const { tree } = parseSource(file.source, file.content);
      if (tree !== undefined) problems.push(problemAt(positionOf(tree, path), path, value, finding));
    };
    const { spec } = file;
    const { region, cluster } = spec.where;
    if (region === undefined)
      report(['where', 'region'], undefined, {
        problem: 'is missing: with several specs each names its Region',
        remedy: 'Write the Region, such as eu-central-1, below `where`.',
      });
    const twin = files
      .slice(0, at)
      .find((one) => one.spec.where.region === region && one.spec.where.cluster === cluster);
    if (twin !== undefined && region !== undefined)
      report(['where', 'region'], region, {
        problem: `and where.cluster ${cluster} are those of ${twin.source}`,
        remedy: 'Give one spec for each cluster in a Region.',
      });
    const other = first === undefined ? undefined : difference(first.spec, spec);
    if (other !== undefined)
      report(other.path, other.value, {
        problem: `${other.problem} ${first?.source}`,
        remedy: 'Roll out one version at a time: correct it, or run this spec by itself.',
      });
    return problems;
  });
}

/** Each Region has its own ID for an AMI; a version is the same in all Regions. */
function difference(first: Spec, spec: Spec): { path: Path; value: string; problem: string } | undefined {
  const kind = isImage(spec) ? 'image' : 'bundle';
  if (isImage(first) !== isImage(spec))
    return { path: ['what', kind], value: subjectOf(spec), problem: 'is another kind of thing than in' };
  if (isImage(spec) || subjectOf(first) === subjectOf(spec)) return undefined;
  return {
    path: ['what', 'bundle', 'version'],
    value: subjectOf(spec),
    problem: `is not ${subjectOf(first)}, the version in`,
  };
}
