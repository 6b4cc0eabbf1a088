// Which nodes go first, so that what runs well on them runs well on the fleet. Pure.
import type { PlacedInstance } from './plan.ts';

/** Canaries of a zone at most. A canary may not fail, so a fleet of canaries would be one without a budget. */
const MOST_CANARIES = 10;
const MOST_OF_ZONE = 1 / 4;

/** A canary, and the strata that are proven by it and by none before it. */
export interface Canary {
  instanceId: string;
  standsFor: string[];
}

export interface CanaryPlan {
  canaries: Canary[];
  /** How many go together: the sizes of the batches of `canaries`. */
  batches: number[];
}

/**
 * What a version can be good on and bad on: the CPU, the AMI, the generation of the instance type. In a type's name the
 * family, the generation and their additions stand before the dot: `m7g`, `c6gn`. Source: EC2 user guide, "Amazon EC2
 * instance type naming conventions".
 */
export function strataOf({ arch, imageId, instanceType }: PlacedInstance): string[] {
  const generation = instanceType?.split('.')[0];
  return [arch, imageId, generation].filter((one) => one !== undefined);
}

/**
 * A greedy cover: each canary is the node whose strata not proven yet have the most nodes. `nodes`: those of a zone that can
 * prove something, in order. `least`: canaries there are at least. `size`: nodes of the zone. The first of all canaries goes
 * alone, and the first of each CPU, since each CPU has an archive of its own; the others together.
 */
export function chooseCanaries(
  nodes: readonly PlacedInstance[],
  proven: ReadonlySet<string>,
  { least, size }: { least: number; size: number },
): CanaryPlan {
  /** Strata that are not proven yet, with the number of their nodes. */
  const open = new Map<string, number>();
  /** Nodes of the same strata are alike: the first stands for them. */
  const kinds = new Map<string, PlacedInstance>();
  for (const node of nodes) {
    const strata = strataOf(node);
    for (const one of strata) if (!proven.has(one)) open.set(one, (open.get(one) ?? 0) + 1);
    const kind = strata.join(' ');
    if (!kinds.has(kind)) kinds.set(kind, node);
  }
  const gain = (node: PlacedInstance) => strataOf(node).reduce((sum, one) => sum + (open.get(one) ?? 0), 0);
  const most = Math.max(least, Math.min(MOST_CANARIES, Math.ceil(size * MOST_OF_ZONE)));
  const chosen: Canary[] = [];
  const alone = new Set<Canary>();
  while (chosen.length < most && open.size > 0) {
    const best = [...kinds.values()].reduce((a, b) => (gain(b) > gain(a) ? b : a));
    const standsFor = strataOf(best).filter((one) => open.has(one));
    for (const one of standsFor) open.delete(one);
    const canary = { instanceId: best.instanceId, standsFor };
    chosen.push(canary);
    if (best.arch !== undefined && standsFor.includes(best.arch)) alone.add(canary);
  }
  const taken = new Set(chosen.map((one) => one.instanceId));
  for (const { instanceId } of nodes)
    if (chosen.length < least && !taken.has(instanceId)) chosen.push({ instanceId, standsFor: [] });
  const [first] = chosen;
  if (first !== undefined && least > 0) alone.add(first);
  const together = chosen.filter((one) => !alone.has(one));
  return {
    canaries: [...alone, ...together],
    batches: [...[...alone].map(() => 1), ...(together.length > 0 ? [together.length] : [])],
  };
}
