// From a spec and the nodes there are to the steps that will be taken. Pure: everything here is plain data.
import type { FleetInstance } from '../aws/fleet.ts';
import { VERDICT_TAG } from '../aws/tags.ts';
import { allowedFailures, isImage, type Spec, subjectOf } from './spec.ts';

export type PlacedInstance = FleetInstance & { zoneId: string };

export interface Zone {
  zoneId: string;
  /** Instance IDs in the order in which they are updated. */
  nodes: string[];
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
}

/** A node the plan says something about beside its place. */
export interface Notes {
  /** Nodes whose SSM agent does not answer: they are asked last, and count as failures. */
  unreachable: string[];
  /** Nodes whose last boot reported the version already. */
  current: string[];
}

/**
 * Zones in order, each with its nodes in order: what can prove something first, nodes that do not answer last.
 * Independent of the order of `instances`.
 */
export function resolveTargets(
  spec: Spec,
  instances: PlacedInstance[],
  online: readonly string[],
): { zones: Zone[]; notes: Notes } {
  const answering = new Set(online);
  const wanted = subjectOf(spec);
  const rank = (one: FleetInstance) =>
    !answering.has(one.instanceId) ? 2 : reportedVersion(one) === wanted ? 1 : 0;
  const ordered = [...instances].sort((a, b) => rank(a) - rank(b) || (a.instanceId < b.instanceId ? -1 : 1));
  const byZone = new Map<string, string[]>();
  for (const one of ordered) {
    const nodes = byZone.get(one.zoneId) ?? [];
    nodes.push(one.instanceId);
    byZone.set(one.zoneId, nodes);
  }
  const names =
    spec.where.zones ??
    [...byZone.keys()].sort(
      (a, b) => (byZone.get(a)?.length ?? 0) - (byZone.get(b)?.length ?? 0) || (a < b ? -1 : 1),
    );
  const zones = names.map((zoneId) => ({ zoneId, nodes: byZone.get(zoneId) ?? [] }));
  const inZones = ordered.filter((one) => names.includes(one.zoneId));
  const having = (wantedRank: number) =>
    inZones.filter((one) => rank(one) === wantedRank).map((one) => one.instanceId);
  return {
    zones: zones.filter((zone) => zone.nodes.length > 0),
    notes: { unreachable: having(2), current: having(1) },
  };
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
  return sizes.flatMap(({ planned: size, late }, zone) => {
    const first = zone === 0;
    const last = zone === sizes.length - 1;
    const canaries = first ? Math.min(spec.steps.canaries, size) : 0;
    const share = first ? Math.max(canaries, Math.ceil((size * spec.steps.sharePercent) / 100)) : 0;
    const most = batchSize(spec, size);
    const bake = (after: 'canary' | 'share' | 'zone', seconds: number, to: number): Step[] =>
      seconds === 0
        ? []
        : [
            { do: 'bake', zone, after, seconds },
            { do: 'gate', zone, after, from: 0, to: Math.min(to, MOST_AT_GATE) },
          ];
    return [
      ...batches(zone, 'canary', 0, canaries, 1),
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
    zones.map((zone) => ({ planned: zone.nodes.length, late: 0 })),
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
    if (step.do === 'gate' || step.do === 'join') continue;
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
