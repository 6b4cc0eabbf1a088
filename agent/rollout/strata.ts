// Which nodes go first, so that a version that runs well on them runs well on the fleet. Pure.
import type { FleetInstance } from '../aws/fleet.ts';

/** Canaries of a zone at most. A canary may not fail: with too many of them the budget for failures would mean nothing. */
const MOST_CANARIES = 10;
const MOST_OF_ZONE = 1 / 4;

export type PlacedInstance = FleetInstance & { zoneId: string };

/** A canary, and the strata that it is the first to prove. */
export interface Canary {
  instanceId: string;
  standsFor: string[];
}

export interface CanaryPlan {
  canaries: Canary[];
  /** Sizes of the batches of `canaries`, in order. */
  batches: number[];
}

/**
 * The properties by which a version may be good on one node and bad on another: the CPU, the AMI, the generation of the
 * instance type. In the name of a type, family, generation and options stand before the dot: `m7g`, `c6gn`. Source: EC2 user
 * guide, "Amazon EC2 instance type naming conventions".
 */
export function strataOf({ arch, imageId, instanceType }: PlacedInstance): string[] {
  const generation = instanceType?.split('.')[0];
  return [arch, imageId, generation].filter((one) => one !== undefined);
}

/**
 * A greedy cover: the next canary is always the node whose unproven strata have the most nodes. `nodes`: the zone's nodes that
 * can prove the version, in order. `least`: the least number of canaries. `size`: number of nodes of the zone. The first canary
 * goes alone, and so does the first of each CPU, since each CPU has its own archive; the others go together.
 */
export function chooseCanaries(
  nodes: readonly PlacedInstance[],
  proven: ReadonlySet<string>,
  { least, size }: { least: number; size: number },
): CanaryPlan {
  /** By stratum that is not proven yet, the number of its nodes. */
  const open = new Map<string, number>();
  /** Nodes with the same strata are alike: the first of them is enough. */
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

/** Those nodes that have at least one of these strata: nodes with more of them first, otherwise in the given order. */
export function standInsFor(strata: readonly string[], nodes: readonly PlacedInstance[]): PlacedInstance[] {
  const shared = (node: PlacedInstance) => strataOf(node).filter((one) => strata.includes(one)).length;
  return nodes.filter((node) => shared(node) > 0).sort((a, b) => shared(b) - shared(a));
}
