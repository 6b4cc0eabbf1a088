// From a spec and the nodes there are to the steps that will be taken. Pure: everything here is plain data.
import type { FleetInstance } from '../aws/fleet.ts';
import { VERDICT_TAG } from '../aws/tags.ts';
import { allowedFailures, isImage, type Spec, subjectOf } from './spec.ts';
import { type Canary, type CanaryPlan, chooseCanaries, strataOf } from './strata.ts';

export type PlacedInstance = FleetInstance & { zoneId: string };

export interface Zone {
  zoneId: string;
  /** Instance IDs in the order in which they are updated. */
  nodes: string[];
  /** The first of them are canaries: so many in a batch, one batch after another. */
  canaries: number[];
}

/** A batch is in flight as a whole, and judged as a whole. */
export interface Batch {
  do: 'update';
  /** Index of the zone. */
  zone: number;
  /** `late`: they came up, or could be reached, only when the rest of the zone was done. */
  kind: 'canary' | 'share' | 'rest' | 'late';
  /** Nodes of the zone, from…to, `to` excluded. */
  from: number;
  to: number;
}

/** The nodes that a wait was about are asked for their health again. */
export interface Gate {
  do: 'gate';
  zone: number;
  after: 'canary' | 'share' | 'zone';
  /** Nodes of the zone, from…to, `to` excluded. */
  from: number;
  to: number;
}

/** Until so many instances of the zone have booted from the AMI and are READY. */
export interface Boots {
  do: 'boots';
  zone: number;
  kind: 'canary' | 'rest';
  nodes: number;
}

export type Step =
  | Batch
  | Gate
  | Boots
  /** The label `candidate` is on the AMI: what is launched by it proves the AMI first. */
  | { do: 'offer'; zone: number }
  | { do: 'bake'; zone: number; after: 'canary' | 'share' | 'zone'; seconds: number }
  /** The operator's own program has the word (gate.command). */
  | { do: 'ask'; zone: number; after: 'canary' | 'share' | 'zone' }
  /** The zone's parameter names the new version from now on: what boots there comes up on it. */
  | { do: 'promote'; zone: number }
  /** Who came up in the zone on another version, or can be reached by now, is added to it. */
  | { do: 'join'; zone: number }
  /** The zone's parameter names again what it named before. */
  | { do: 'restore'; zone: number };

/** Nodes of a zone: those there were when the rollout began, and those that joined since. */
export interface Size {
  planned: number;
  late: number;
  canaries: readonly number[];
}

/** A node the plan says something about beside its place. */
export interface Notes {
  /** Nodes whose SSM agent does not answer: they are asked last, and count as failures. */
  unreachable: string[];
  /** Nodes whose last boot reported the version already. */
  current: string[];
  /** Instances that the spec leaves as they are. */
  excluded: string[];
  /** Zones whose parameter names a newer version, or in which so many nodes reported one at their last boot. */
  downgrades: { zoneId: string; from: string; nodes: number }[];
  /** Nodes that go first in their zone, with what they stand for. */
  canaries: (Canary & { zoneId: string })[];
  /** Strata that so many nodes of a zone have and nothing before has proven, without a canary that stands for them. */
  uncovered: { zoneId: string; stratum: string; nodes: number }[];
}

/**
 * Zones in order, each with its nodes in order: canaries, then what can prove something, nodes that do not answer last.
 * Independent of the order of `instances`.
 */
export function resolveTargets(
  spec: Spec,
  instances: PlacedInstance[],
  online: readonly string[],
): { zones: Zone[]; notes: Pick<Notes, 'unreachable' | 'current' | 'canaries' | 'uncovered'> } {
  const answering = new Set(online);
  const wanted = subjectOf(spec);
  const rank = (one: FleetInstance) =>
    !answering.has(one.instanceId) ? 2 : reportedVersion(one) === wanted ? 1 : 0;
  const ordered = [...instances].sort((a, b) => rank(a) - rank(b) || (a.instanceId < b.instanceId ? -1 : 1));
  const byZone = new Map<string, PlacedInstance[]>();
  for (const one of ordered) {
    const nodes = byZone.get(one.zoneId) ?? [];
    nodes.push(one);
    byZone.set(one.zoneId, nodes);
  }
  const names =
    spec.where.zones ??
    [...byZone.keys()].sort(
      (a, b) => (byZone.get(a)?.length ?? 0) - (byZone.get(b)?.length ?? 0) || (a < b ? -1 : 1),
    );
  const zones: Zone[] = [];
  const canaries: Notes['canaries'] = [];
  const uncovered: Notes['uncovered'] = [];
  const proven = new Set<string>();
  for (const zoneId of names) {
    const nodes = byZone.get(zoneId) ?? [];
    if (nodes.length === 0) continue;
    const plan = canariesOf(spec, nodes, (one) => rank(one) === 0, { first: zones.length === 0, proven });
    canaries.push(...plan.canaries.map((one) => ({ zoneId, ...one })));
    for (const stratum of plan.canaries.flatMap((one) => one.standsFor)) proven.add(stratum);
    if (isStratified(spec))
      for (const [stratum, count] of countStrata(nodes.filter((one) => rank(one) !== 1)))
        if (!proven.has(stratum)) uncovered.push({ zoneId, stratum, nodes: count });
    // Later zones need no canary for what so many nodes have that one at least runs the version well when this zone is done.
    const mayFail = allowedFailures(nodes.length, spec.budget.zonePercent);
    for (const [stratum, count] of countStrata(nodes.filter((one) => rank(one) < 2)))
      if (count > mayFail) proven.add(stratum);
    const ahead = plan.canaries.map((one) => one.instanceId);
    const rest = nodes.map((one) => one.instanceId).filter((one) => !ahead.includes(one));
    zones.push({ zoneId, nodes: [...ahead, ...rest], canaries: plan.batches });
  }
  const inZones = ordered.filter((one) => names.includes(one.zoneId));
  const having = (wantedRank: number) =>
    inZones.filter((one) => rank(one) === wantedRank).map((one) => one.instanceId);
  return {
    zones,
    notes: { unreachable: having(2), current: having(1), canaries, uncovered },
  };
}

/** Canaries of an AMI are launched: its labels make them. */
function isStratified(spec: Spec): boolean {
  return spec.steps.stratify && !isImage(spec);
}

/** `proves`: whether a node can prove something: it answers, and does not run the version yet. */
function canariesOf(
  spec: Spec,
  nodes: readonly PlacedInstance[],
  proves: (one: PlacedInstance) => boolean,
  { first, proven }: { first: boolean; proven: ReadonlySet<string> },
): CanaryPlan {
  const able = nodes.filter(proves);
  const candidates = first && able.length === 0 ? nodes : able;
  const least = first && !isImage(spec) ? Math.min(spec.steps.canaries, candidates.length) : 0;
  if (isStratified(spec)) return chooseCanaries(candidates, proven, { least, size: nodes.length });
  const canaries = candidates.slice(0, least).map(({ instanceId }) => ({ instanceId, standsFor: [] }));
  return { canaries, batches: canaries.length > 1 ? [1, canaries.length - 1] : canaries.map(() => 1) };
}

function countStrata(nodes: readonly PlacedInstance[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const stratum of nodes.flatMap(strataOf)) counts.set(stratum, (counts.get(stratum) ?? 0) + 1);
  return counts;
}

/** The version a node's last boot reported in its tag `eniboot:verdict` (`ready@1.2.3`). */
export function reportedVersion({ tags }: FleetInstance): string | undefined {
  return /^ready@(.+)$/.exec(tags[VERDICT_TAG] ?? '')?.[1];
}

/** Nodes of a zone that may be in flight at once. */
function batchSize(spec: Spec, nodesOfZone: number): number {
  const share = Math.floor((nodesOfZone * spec.steps.zonePercent) / 100);
  return Math.max(1, Math.min(spec.steps.concurrency, share));
}

/** Nodes a gate asks at most: in the order of their IDs, which is one of chance. */
const MOST_AT_GATE = 200;

/** All steps of a rollout, in order. */
export function stepsForward(spec: Spec, sizes: readonly Size[]): Step[] {
  if (isImage(spec))
    return imageSteps(
      spec,
      sizes.map(({ planned }) => planned),
    );
  return sizes.flatMap(({ planned: size, late, canaries: batchesOfCanaries }, zone) => {
    const last = zone === sizes.length - 1;
    const canaries = batchesOfCanaries.reduce((sum, count) => sum + count, 0);
    const share = zone > 0 ? canaries : Math.max(canaries, Math.ceil((size * spec.steps.sharePercent) / 100));
    const most = batchSize(spec, size);
    const bake = (after: 'canary' | 'share' | 'zone', seconds: number, to: number): Step[] =>
      seconds === 0
        ? []
        : [
            { do: 'bake', zone, after, seconds },
            { do: 'gate', zone, after, from: 0, to: Math.min(to, MOST_AT_GATE) },
            ...(spec.gate === undefined ? [] : [{ do: 'ask', zone, after } as const]),
          ];
    return [
      ...batchesOfCanaries.flatMap((count, at) => {
        const from = batchesOfCanaries.slice(0, at).reduce((sum, before) => sum + before, 0);
        return batches(zone, 'canary', from, from + count, most);
      }),
      ...(canaries > 0 && canaries < size ? bake('canary', spec.bake.canarySeconds, canaries) : []),
      ...batches(zone, 'share', canaries, share, most),
      ...(share > canaries && share < size ? bake('share', spec.bake.shareSeconds, share) : []),
      ...batches(zone, 'rest', share, size, most),
      { do: 'promote', zone } as const,
      ...(last ? [] : bake('zone', spec.bake.zoneSeconds, size)),
      { do: 'join', zone } as const,
      ...batches(zone, 'late', size, size + late, most),
    ];
  });
}

/** A zone's label moves first, since only then anything boots from the AMI. */
function imageSteps(spec: Spec, sizes: readonly number[]): Step[] {
  return sizes.flatMap((size, zone): Step[] => {
    const bake = (after: 'canary' | 'zone', seconds: number): Step[] =>
      seconds === 0 ? [] : [{ do: 'bake', zone, after, seconds }];
    const canaries: Step[] = [
      { do: 'offer', zone },
      { do: 'boots', zone, kind: 'canary', nodes: spec.steps.canaries },
      ...bake('canary', spec.bake.canarySeconds),
    ];
    return [
      ...(zone === 0 ? canaries : []),
      { do: 'promote', zone },
      { do: 'boots', zone, kind: 'rest', nodes: Math.ceil((size * spec.boot.zonePercent) / 100) },
      ...(zone === sizes.length - 1 ? [] : bake('zone', spec.bake.zoneSeconds)),
    ];
  });
}

/** The steps back from a rollout that had begun its first `begun` steps: zone by zone in reverse. */
export function stepsBack(forward: readonly Step[], begun: number): Step[] {
  // A parameter may have been written just before the step would have been recorded as done.
  const writing = forward[begun]?.do === 'promote' || forward[begun]?.do === 'offer';
  const touched = forward.slice(0, writing ? begun + 1 : begun);
  const reached = touched.at(-1)?.zone ?? -1;
  return Array.from({ length: reached + 1 }, (_, at) => reached - at).flatMap((zone): Step[] => [
    // First, so that what boots meanwhile does not come up on the version that is taken back.
    { do: 'restore', zone },
    ...touched.filter((step): step is Batch => step.do === 'update' && step.zone === zone).reverse(),
  ]);
}

function batches(zone: number, kind: Batch['kind'], from: number, to: number, most: number): Batch[] {
  const found: Batch[] = [];
  for (let at = from; at < to; at += most)
    found.push({ do: 'update', zone, kind, from: at, to: Math.min(to, at + most) });
  return found;
}

/** One line of the plan as people read it: consecutive batches of a kind together. */
export interface Wave {
  zoneId: string;
  kind: Batch['kind'] | 'bake' | 'promote';
  nodes: number;
  batches: number;
  /** Largest number of nodes in flight. */
  inFlight: number;
  /** If every node from here on failed: so many would have, at most, when it halts. */
  worst: number;
  /** The same as a share of the zone, in percent. */
  worstPercent: number;
  seconds: number;
}

/** The waves of a plan, with the blast radius of each. */
export function wavesOf(spec: Spec, zones: readonly Zone[]): Wave[] {
  const waves: Wave[] = [];
  const fleet = allowedFailures(total(zones), spec.budget.fleetPercent);
  for (const step of stepsForward(
    spec,
    zones.map((zone) => ({ planned: zone.nodes.length, late: 0, canaries: zone.canaries })),
  )) {
    const zone = zones[step.zone];
    if (zone === undefined) continue;
    const size = zone.nodes.length;
    if (step.do === 'boots') {
      // How many are replaced at once is the autoscaling group's affair: all of them, at worst.
      const worst = step.kind === 'canary' ? step.nodes : size;
      const wave = { ...idle, zoneId: zone.zoneId, kind: step.kind, nodes: step.nodes, batches: 1 };
      waves.push({
        ...wave,
        inFlight: step.nodes,
        worst,
        worstPercent: Math.min(100, Math.round((worst / size) * 1000) / 10),
      });
      continue;
    }
    if (step.do === 'gate' || step.do === 'ask' || step.do === 'join') continue;
    if (step.do !== 'update') {
      const kind = step.do === 'bake' ? 'bake' : 'promote';
      const seconds = step.do === 'bake' ? step.seconds : 0;
      waves.push({ ...idle, zoneId: zone.zoneId, kind, seconds });
      continue;
    }
    const nodes = step.to - step.from;
    const previous = waves.at(-1);
    const wave =
      previous?.zoneId === zone.zoneId && previous.kind === step.kind
        ? previous
        : { ...idle, zoneId: zone.zoneId, kind: step.kind };
    if (wave !== previous) waves.push(wave);
    wave.nodes += nodes;
    wave.batches += 1;
    wave.inFlight = Math.max(wave.inFlight, nodes);
    const allowed =
      step.kind === 'canary' ? 0 : Math.min(fleet, allowedFailures(size, spec.budget.zonePercent));
    // It halts once more than `allowed` have failed: at worst the batch that passes the line fails as a whole.
    wave.worst = Math.min(wave.nodes, allowed + wave.inFlight);
    wave.worstPercent = Math.round((wave.worst / size) * 1000) / 10;
  }
  return waves;
}

const idle = { nodes: 0, batches: 0, inFlight: 0, worst: 0, worstPercent: 0, seconds: 0 };

export function total(zones: readonly Zone[]): number {
  return zones.reduce((sum, zone) => sum + zone.nodes.length, 0);
}
