// From a spec and the present nodes to the steps of a rollout. Pure: everything here is plain data.
import type { FleetInstance } from '../aws/fleet.ts';
import { VERDICT_TAG } from '../aws/tags.ts';
import { allowedFailures, isImage, type Spec, subjectOf, watchedAlarms } from './spec.ts';
import { type Canary, type CanaryPlan, chooseCanaries, type PlacedInstance, strataOf } from './strata.ts';

/** Milliseconds of a boot: its deadline is 300 s unless configured otherwise, and EC2 may have delayed its beginning. */
export const LONGEST_BOOT_MS = 600_000;

export interface Zone {
  zoneId: string;
  /** Instance IDs in the order in which they are updated. */
  nodes: string[];
  /** The sizes of the batches of canaries, one batch after another. The canaries are the first nodes of `nodes`. */
  canaries: number[];
}

/** Nodes that are sent together and judged together. */
export interface Batch {
  do: 'update';
  /** Index of the zone. */
  zone: number;
  /**
   * `late`: nodes that came up, or became reachable, only after the rest of the zone had been sent. `stray`, on the way back:
   * nodes that came up on the version that is taken back, as their zone's parameter named it.
   */
  kind: 'canary' | 'share' | 'rest' | 'late' | 'stray';
  /** Nodes of the zone, as places in its list from `from` on, before `to`. */
  from: number;
  to: number;
}

/** The nodes that a wait was for are asked for their health again. */
export interface Gate {
  do: 'gate';
  zone: number;
  after: 'canary' | 'share' | 'zone';
  /** Nodes of the zone, as places in its list from `from` on, before `to`. */
  from: number;
  to: number;
}

/** The step goes on until `nodes` instances of the zone have booted from the AMI and are READY. */
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
  /** Puts the label `candidate` on the AMI: instances launched by that label prove the AMI first. */
  | { do: 'offer'; zone: number }
  | { do: 'bake'; zone: number; after: 'canary' | 'share' | 'zone'; seconds: number }
  /** Runs the operator's own program (gate.command), which decides. */
  | { do: 'ask'; zone: number; after: 'canary' | 'share' | 'zone' }
  /** Writes the new version into the zone's parameter: nodes that boot in the zone from then on come up on it. */
  | { do: 'promote'; zone: number }
  /**
   * Forward: adds nodes of the zone that came up on another version, or became reachable. On the way back: adds nodes that came
   * up on the version.
   */
  | { do: 'join'; zone: number }
  /** Writes into the zone's parameter what it named before. */
  | { do: 'restore'; zone: number };

/** Nodes of a zone: `planned` when the rollout began, `late` have joined since, `strays` have joined its way back. */
export interface Size {
  planned: number;
  late: number;
  strays: number;
  canaries: readonly number[];
}

/** What the plan says about nodes, zones and alarms besides the order of the nodes. */
export interface Notes {
  /** Nodes whose SSM agent does not answer: they are asked last. */
  unreachable: string[];
  /** Nodes that reported the version at their last boot. */
  current: string[];
  /** Instances that where.exclude of the spec names. */
  excluded: string[];
  /**
   * Zones that would go to an older version: the parameter names a newer one, or `nodes` nodes reported one at their last boot.
   */
  downgrades: { zoneId: string; from: string; nodes: number }[];
  /** Canaries, with the strata that each of them stands for. */
  canaries: (Canary & { zoneId: string })[];
  /** The alarms that are watched, with their state; `none`: CloudWatch has no alarm of that name. */
  alarms: { name: string; state: string; reason: string }[];
  /** Strata without a canary that earlier zones do not prove either; `nodes`: how many nodes of the zone have the stratum. */
  uncovered: { zoneId: string; stratum: string; nodes: number }[];
}

/**
 * Zones in order, each with its nodes in order: canaries, then nodes that can prove the version, then nodes that run it
 * already, then nodes that do not answer. Independent of the order of `instances`.
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
    // With more nodes of a stratum than may fail in this zone, at least one of them runs the version well when the zone is
    // done: later zones need no canary for it.
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

/** Canaries of an AMI are new instances, launched by its label: they stand for no stratum. */
function isStratified(spec: Spec): boolean {
  return spec.steps.stratify && !isImage(spec);
}

/** `proves`: whether a node can prove the version: it answers, and does not run the version yet. */
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

/** The version that a node's last boot reported in its tag `eniboot:verdict` (`ready@1.2.3`). */
export function reportedVersion({ tags }: FleetInstance): string | undefined {
  return /^ready@(.+)$/.exec(tags[VERDICT_TAG] ?? '')?.[1];
}

/** Number of nodes of a zone that may be in flight at once. */
function batchSize(spec: Spec, nodesOfZone: number): number {
  const share = Math.floor((nodesOfZone * spec.steps.zonePercent) / 100);
  return Math.max(1, Math.min(spec.steps.concurrency, share));
}

/** Nodes that a gate asks at most: the first of the zone's list. Instance IDs are random, and so is this sample. */
export const MOST_AT_GATE = 200;

/** All steps of a rollout, in order. After the last zone there is a wait only when alarms are watched meanwhile. */
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
            ...(spec.gate?.command === undefined ? [] : [{ do: 'ask', zone, after } as const]),
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
      ...(last && watchedAlarms(spec).length > 0 ? bake('zone', spec.bake.zoneSeconds, size) : []),
    ];
  });
}

/** The label of a zone moves before its nodes count: instances boot from the AMI only after that. */
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
      ...(zone === sizes.length - 1 && watchedAlarms(spec).length === 0
        ? []
        : bake('zone', spec.bake.zoneSeconds)),
    ];
  });
}

/** The steps back from a rollout that had begun its first `begun` steps: its zones in reverse order. */
export function stepsBack(spec: Spec, sizes: readonly Size[], begun: number): Step[] {
  const forward = stepsForward(spec, sizes);
  // A crash may come after a parameter was written and before the record says so: that step counts as begun.
  const writing = forward[begun]?.do === 'promote' || forward[begun]?.do === 'offer';
  const touched = forward.slice(0, writing ? begun + 1 : begun);
  const reached = touched.at(-1)?.zone ?? -1;
  const zones = Array.from({ length: reached + 1 }, (_, at) => reached - at);
  // Strays come last: by then instances that were booting when their zone's parameter was written have come up.
  const strays = zones.flatMap((zone): Step[] => {
    const { planned = 0, late = 0, strays: count = 0 } = sizes[zone] ?? {};
    const from = planned + late;
    return [{ do: 'join', zone }, ...batches(zone, 'stray', from, from + count, batchSize(spec, planned))];
  });
  return [
    ...zones.flatMap((zone): Step[] => [
      // The parameter comes first: instances that boot from now on do not come up on the version that is taken back.
      { do: 'restore', zone },
      ...touched.filter((step): step is Batch => step.do === 'update' && step.zone === zone).reverse(),
    ]),
    ...(isImage(spec) ? [] : strays),
  ];
}

function batches(zone: number, kind: Batch['kind'], from: number, to: number, most: number): Batch[] {
  const found: Batch[] = [];
  for (let at = from; at < to; at += most)
    found.push({ do: 'update', zone, kind, from: at, to: Math.min(to, at + most) });
  return found;
}

/** One line of the plan as it is shown: consecutive batches of a kind. */
export interface Wave {
  zoneId: string;
  kind: Batch['kind'] | 'bake' | 'promote';
  nodes: number;
  batches: number;
  /** Largest number of nodes in flight. */
  inFlight: number;
  /** If every node of this wave failed: how many would have failed, at most, when the rollout halts. */
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
    zones.map((zone) => ({ planned: zone.nodes.length, late: 0, strays: 0, canaries: zone.canaries })),
  )) {
    const zone = zones[step.zone];
    if (zone === undefined) continue;
    const size = zone.nodes.length;
    if (step.do === 'boots') {
      // The autoscaling group decides how many it replaces at once: at worst all of them.
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
    // A rollout halts once more than `allowed` have failed. At worst that many fail, and then all nodes in flight.
    wave.worst = Math.min(wave.nodes, allowed + wave.inFlight);
    wave.worstPercent = Math.round((wave.worst / size) * 1000) / 10;
  }
  return waves;
}

const idle = { nodes: 0, batches: 0, inFlight: 0, worst: 0, worstPercent: 0, seconds: 0 };

export function total(zones: readonly Zone[]): number {
  return zones.reduce((sum, zone) => sum + zone.nodes.length, 0);
}
