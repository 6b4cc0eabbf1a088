// The state of a rollout, for operators and for programs. Pure.
import { isFailed, isGood, isLeft, type Outcome } from './judge.ts';
import type { Batch, Step } from './plan.ts';
import {
  type Exception,
  isOver,
  nodesOf,
  type Progress,
  type Rollout,
  stepsOf,
  unrestored,
} from './progress.ts';
import { isImage, subjectOf, watchedAlarms } from './spec.ts';

export interface ZoneSummary {
  zoneId: string;
  nodes: number;
  /** Nodes on the version that was rolled out, as far as is known. */
  updated: number;
  failed: number;
  inFlight: number;
  /** `halted`: the zone was under way, or baking, when the rollout halted. */
  state: 'waiting' | 'under way' | 'baking' | 'halted' | 'done' | 'restored' | 'untouched';
}

export interface Summary {
  id: string;
  cluster: string;
  version: string;
  direction: Progress['direction'];
  state: Progress['state'];
  why: string | undefined;
  startedMs: number;
  startedBy: string;
  nodes: number;
  updated: number;
  already: number;
  failed: number;
  /** Nodes of batches that had begun, which a halt kept from being asked: no failures. A resume asks them. */
  passedOver: number;
  /** Nodes that EC2 no longer had when they were to be asked, and nodes whose SSM agent does not answer: no failures. */
  gone: number;
  unreachable: number;
  restored: number;
  /** Nodes that a rollback has not brought back, as far as is known; see the exceptions. */
  unrestored: number;
  /** After the end: instances that came up during the rollout and do not run the version that it leaves in place. */
  strays: number;
  /** The alarms that are watched, the time from which they count, and what has gone off. */
  alarms: { names: string[]; fromMs: number; wentOff: string | undefined };
  zones: ZoneSummary[];
  /** The next step, or the step after a `resume`; undefined when none is left. */
  next: string | undefined;
  /** Waits that are still to come, in seconds, and the number of batches. */
  remaining: { bakeSeconds: number; batches: number };
}

export function summarise(rollout: Rollout, progress: Progress): Summary {
  const steps = stepsOf(rollout, progress);
  const current = isOver(progress) ? undefined : steps[progress.step];
  const rest = steps.slice(progress.step);
  return {
    id: rollout.id,
    cluster: rollout.spec.where.cluster,
    version: subjectOf(rollout.spec),
    direction: progress.direction,
    state: progress.state,
    why: progress.why,
    startedMs: rollout.startedMs,
    startedBy: rollout.startedBy,
    nodes: rollout.zones.reduce((sum, zone) => sum + zone.nodes.length, 0) - having(progress, 'deferred'),
    updated: isImage(rollout.spec) ? bootedIn(progress) : progress.updated,
    already: progress.already,
    failed:
      progress.exceptions.filter((one) => isFailed(one.outcome)).length +
      (progress.boots?.failed.length ?? 0),
    passedOver:
      progress.exceptions.filter((one) => isLeft(one.outcome)).length + (progress.left?.nodes.length ?? 0),
    gone: having(progress, 'gone') + sum(progress.gone),
    unreachable: having(progress, 'unreachable'),
    restored: progress.back?.restored ?? 0,
    unrestored: unrestored(progress).length,
    strays: isOver(progress) ? (progress.strays ?? 0) : 0,
    alarms: {
      names: watchedAlarms(rollout.spec),
      fromMs: progress.watchedFromMs ?? rollout.startedMs,
      wentOff: progress.alarmed?.why,
    },
    zones: rollout.zones.map((_, at) => {
      const zone = zoneSummary(rollout, progress, steps, at);
      const stopped = progress.state === 'halted' && (zone.state === 'under way' || zone.state === 'baking');
      return stopped ? { ...zone, state: 'halted' } : zone;
    }),
    next: current === undefined ? undefined : describeStep(rollout, current),
    remaining: {
      bakeSeconds: rest.reduce((sum, step) => sum + (step.do === 'bake' ? step.seconds : 0), 0),
      batches: rest.filter((step) => step.do === 'update').length,
    },
  };
}

function having({ exceptions }: Progress, outcome: Outcome): number {
  return exceptions.filter((one) => one.outcome === outcome).length;
}

function sum(counts: readonly number[] = []): number {
  return counts.reduce((all, one) => all + one, 0);
}

function bootedIn({ boots }: Progress): number {
  return sum(boots?.ready);
}

function imageZone(rollout: Rollout, progress: Progress, steps: Step[], at: number): ZoneSummary {
  const { zoneId = '', nodes = [] } = rollout.zones[at] ?? {};
  const own = steps.map((step, index) => ({ step, index })).filter(({ step }) => step.zone === at);
  const ended = own.every(({ step, index }) => index < progress.step || step.do === 'bake');
  const begun = own.some(({ index }) => index <= progress.step);
  const baking = own.some(({ step, index }) => step.do === 'bake' && index === progress.step);
  const back = own.length === 0 ? 'untouched' : ended ? 'restored' : 'under way';
  const forward = baking ? 'baking' : ended ? 'done' : begun ? 'under way' : 'waiting';
  return {
    zoneId,
    nodes: nodes.length,
    updated: progress.boots?.ready[at] ?? 0,
    failed: progress.boots?.failed.filter((one) => one.zone === at).length ?? 0,
    inFlight: 0,
    state: progress.back === undefined ? forward : back,
  };
}

function zoneSummary(rollout: Rollout, progress: Progress, steps: Step[], at: number): ZoneSummary {
  if (isImage(rollout.spec)) return imageZone(rollout, progress, steps, at);
  const zone = rollout.zones[at];
  const nodes = zone?.nodes.length ?? 0;
  const own = steps.map((step, index) => ({ step, index })).filter(({ step }) => step.zone === at);
  const batches = own.flatMap(({ step, index }) =>
    step.do === 'update'
      ? [{ batch: step, index, home: index < progress.step, out: isOut(progress, index) }]
      : [],
  );
  const count = (of: (batch: (typeof batches)[number]) => boolean) =>
    batches.filter(of).reduce((sum, { batch }) => sum + batch.to - batch.from, 0);
  const left = progress.left?.nodes.filter((one) => one.zone === at).length ?? 0;
  // The first part of a batch that a halt has cut in two is judged.
  const cut = left > 0 ? batches.find(({ index }) => index === progress.step) : undefined;
  const part = cut === undefined ? 0 : cut.batch.to - cut.batch.from - left;
  const exceptions = (list: readonly Exception[]) => list.filter((one) => one.zone === at);
  const forward = exceptions(progress.exceptions);
  const flying = batches.find(({ out }) => out);
  const inFlight = flying === undefined ? 0 : nodesOf(rollout, progress, flying.batch).length;
  const home = count((one) => one.home) + part;
  const failed = (list: readonly Exception[]) => list.filter((one) => isFailed(one.outcome)).length;
  if (progress.back !== undefined) {
    const there = progress.there[at] ?? [];
    const takenBack = ({ from, to }: Places) =>
      updatedIn({ from, to }, forward) - there.filter((node) => node >= from && node < to).length;
    const backHome = batches.filter((one) => one.home).reduce((sum, { batch }) => sum + takenBack(batch), 0);
    const partHome = cut === undefined ? 0 : Math.max(0, takenBack(cut.batch) - left);
    const stuck = failed(exceptions(progress.back.exceptions));
    // The places of nodes that are gone are not recorded. At the end of the way back all of them have been found gone once
    // more.
    const gone = progress.gone?.[at] ?? 0;
    const goneAgain = Math.min(gone, progress.back.gone?.[at] ?? 0);
    const ended = own.every(({ index }) => index < progress.step);
    return {
      zoneId: zone?.zoneId ?? '',
      nodes,
      updated:
        count(() => true) -
        notUpdated(
          batches.map((one) => one.batch),
          forward,
        ) -
        backHome -
        partHome -
        (gone - goneAgain) +
        stuck,
      failed: stuck,
      inFlight,
      state: own.length === 0 ? 'untouched' : ended ? 'restored' : 'under way',
    };
  }
  const baking = own.some(({ step, index }) => step.do === 'bake' && index === progress.step);
  const ended = own.every(({ step, index }) => index < progress.step || step.do === 'bake');
  return {
    zoneId: zone?.zoneId ?? '',
    nodes,
    updated: home - forward.length - (progress.gone?.[at] ?? 0),
    failed: failed(forward),
    inFlight,
    state: baking ? 'baking' : ended ? 'done' : home + inFlight > 0 ? 'under way' : 'waiting',
  };
}

function isOut({ step, stage }: Progress, index: number): boolean {
  return index === step && stage !== 'ready';
}

type Places = Pick<Batch, 'from' | 'to'>;

function updatedIn(batch: Places, exceptions: readonly Exception[]): number {
  return batch.to - batch.from - notUpdated([batch], exceptions);
}

function notUpdated(batches: readonly Places[], exceptions: readonly Exception[]): number {
  return exceptions.filter(
    (one) => !isGood(one.outcome) && batches.some((batch) => one.node >= batch.from && one.node < batch.to),
  ).length;
}

/** A step in a few words: `canary: 1 node in euw1-az1`. */
export function describeStep(rollout: Rollout, step: Step): string {
  const zone = rollout.zones[step.zone]?.zoneId ?? '';
  switch (step.do) {
    case 'update': {
      const count = step.to - step.from;
      const kind = {
        canary: 'canary',
        share: 'first share',
        rest: 'batch',
        late: 'latecomers',
        stray: 'came up on it meanwhile',
      }[step.kind];
      return `${kind}: ${count} node${count === 1 ? '' : 's'} in ${zone}`;
    }
    case 'bake':
      return `wait ${step.seconds} s after the ${step.after} in ${zone}`;
    case 'gate':
      return `ask ${step.to - step.from} node${step.to - step.from === 1 ? '' : 's'} in ${zone} for their health again`;
    case 'ask':
      return `run gate.command after the ${step.after} in ${zone}`;
    case 'join':
      return `look for instances that came up in ${zone} meanwhile`;
    case 'offer':
      return `label the image candidate in ${zone}`;
    case 'boots':
      return `${step.kind === 'canary' ? 'canary' : 'zone'}: ${step.nodes} node${step.nodes === 1 ? '' : 's'} of ${zone} booted from the image`;
    case 'promote':
      return isImage(rollout.spec)
        ? `label the image stable in ${zone}`
        : `name the version in ${zone}'s parameter`;
    case 'restore':
      if (isImage(rollout.spec)) return `label the image before stable in ${zone}`;
      return `name the version before in ${zone}'s parameter`;
  }
}

/** The alarms as one line of the gates; no line when none is watched. */
export function alarmLines({ alarms, direction }: Summary): string[] {
  const { names, fromMs, wentOff = 'none has gone off' } = alarms;
  if (names.length === 0) return [];
  const which = namesOfAlarms(names);
  return [
    direction === 'back'
      ? `gate: ${which}: the way back watches none`
      : `gate: ${which}, since ${new Date(fromMs).toISOString().slice(0, 16)}Z: ${wentOff}`,
  ];
}

/** `4 alarms (a, b, c, …)` */
export function namesOfAlarms(names: readonly string[]): string {
  const some = `${names.slice(0, 3).join(', ')}${names.length > 3 ? ', …' : ''}`;
  return `${names.length} alarm${names.length === 1 ? '' : 's'} (${some})`;
}

/** What is left to do about strays; no line when there are none. */
export function strayLines({ strays, version, direction }: Summary): string[] {
  if (strays === 0) return [];
  const who = `${strays} instance${strays === 1 ? '' : 's'} that came up meanwhile`;
  return direction === 'forward'
    ? [`${who} run another version than ${version}: run the rollout again`]
    : [`${who} still run ${version}, and their SSM agents do not answer: reboot or replace them`];
}

export interface FailedNode {
  zoneId: string;
  instanceId: string;
  outcome: string;
  /** Only outcomes whose reason the record keeps have one. */
  reason?: string;
}

/** Nodes that were not updated, or not brought back. */
export function exceptionsOf(rollout: Rollout, progress: Progress): FailedNode[] {
  if (progress.boots !== undefined)
    return progress.boots.failed.map(({ zone, instanceId, outcome, reason }) => ({
      zoneId: rollout.zones[zone]?.zoneId ?? '',
      instanceId,
      outcome,
      reason,
    }));
  return (progress.back?.exceptions ?? progress.exceptions).map((one) => nodeOf(rollout, one));
}

function nodeOf(rollout: Rollout, { zone, node, outcome }: Exception): FailedNode {
  return {
    zoneId: rollout.zones[zone]?.zoneId ?? '',
    instanceId: rollout.zones[zone]?.nodes[node] ?? '',
    outcome,
  };
}
