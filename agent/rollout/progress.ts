// How far a rollout is, and what follows from it. Pure: the record and what was seen go in, the next action or the next
// record comes out. Every change of it is written down before and after something is done (record.ts).
import { isFailed, isGood, isLeft, isUntouched, type Judgement, type Outcome } from './judge.ts';
import {
  type Batch,
  type Boots,
  type Gate,
  type Step,
  stepsBack,
  stepsForward,
  total,
  type Zone,
} from './plan.ts';
import { allowedFailures, allowedUnreachable, isImage, type Spec } from './spec.ts';
import { isOpen } from './window.ts';

/** What was settled when the rollout began; it never changes. */
export interface Rollout {
  schema: 1;
  id: string;
  startedMs: number;
  startedBy: string;
  spec: Spec;
  /** What the zones' parameters will hold: the release as published, or the ID of the AMI. */
  release: string;
  /** Digests of its archives; none of an AMI. */
  digests: string[];
  /** undefined for an AMI: it needs no command. */
  document: { name: string; version: string; hash: string } | undefined;
  zones: (Zone & {
    /** The first so many of its nodes were there when it began; the others have joined since. */
    planned: number;
    /** What the zone's parameter held, of an AMI the number of its stable version; undefined when there was none. */
    before: string | undefined;
  })[];
}

/** A node that was not updated, by its place. */
export interface Exception {
  zone: number;
  node: number;
  outcome: Outcome;
}

/** An instance that booted from the AMI, and is not READY. */
export interface BootFailure {
  zone: number;
  instanceId: string;
  outcome: 'failed' | 'late' | 'missing';
  reason: string;
  /** It was seen before any zone was promoted. */
  canary: boolean;
}

export interface Progress {
  direction: 'forward' | 'back';
  /** `abandoned`: an operator has ended it where it stood. */
  state: 'running' | 'halted' | 'done' | 'rolled-back' | 'abandoned';
  /** Why it is halted. */
  why: string | undefined;
  /** Index into the steps of its direction. */
  step: number;
  /** Of a batch: not begun; about to be sent; sent. */
  stage: 'ready' | 'intended' | 'sent';
  /** When step and stage were entered, milliseconds since the epoch. */
  sinceMs: number;
  /** Run Command's IDs of the batch in flight. */
  commands: string[];
  /**
   * Nodes of this batch that a halt was faster than: what is left of it for whoever resumes. `round`: how often that has
   * happened to it.
   */
  left: { nodes: Exception[]; round: number } | undefined;
  updated: number;
  already: number;
  /** Of each zone the places of those that ran the version already: they are not this rollout's to take back. */
  there: number[][];
  exceptions: Exception[];
  /** The first so many exceptions count no more: an operator has said to go on. */
  forgiven: number;
  /** Going back: forward steps that had begun, and nodes that are back, or could not be brought back. */
  back: Back | undefined;
  /** A step at which an operator has said to go on though its program said no. */
  passedBy?: number;
  /** In the end: instances that came up meanwhile, and do not run what the rollout leaves behind. */
  strays?: number;
  /** When each wave began, in seconds since the rollout did; 1: on the way back. */
  course?: Noted[];
  /** Of an AMI: READY instances of each zone at the last look, and what has failed so far. */
  boots?: { ready: number[]; failed: BootFailure[]; forgiven: number };
}

type Noted = [back: 0 | 1, step: number, seconds: number];

export interface Back {
  begun: number;
  restored: number;
  exceptions: Exception[];
  forgiven: number;
  /** Only these are asked once more: they could not be brought back before. */
  again?: Exception[];
  /** An operator has said to end without those that could not be brought back. */
  givenUp?: boolean;
}

/** Nodes that may fail in all, forgiven ones included: the record of one that goes on and on would no longer fit. */
const MOST_EXCEPTIONS = 800;
/** Milliseconds until a closed window is looked at again. */
const WINDOW_MS = 60_000;
/** Waves that are noted: one that is taken back again and again would fill the record. */
const MOST_NOTED = 100;
/** Failures of an AMI that are told apart, and reasons that are kept: the record has to fit into one parameter. */
const MOST_BOOT_FAILURES = 100;
const REASONS = 20;
/** A canary that is gone is replaced by the next node; so many in a row are no chance any more. */
const MOST_GONE_CANARIES = 2;
/** Characters of why it halted: what a halt flag says may be longer than the record's parameter. */
const MOST_WHY = 300;

export function begin(nowMs: number): Progress {
  return {
    direction: 'forward',
    state: 'running',
    why: undefined,
    step: 0,
    stage: 'ready',
    sinceMs: nowMs,
    commands: [],
    left: undefined,
    updated: 0,
    already: 0,
    there: [],
    exceptions: [],
    forgiven: 0,
    back: undefined,
  };
}

export function stepsOf(rollout: Rollout, progress: Progress): Step[] {
  const forward = stepsForward(
    rollout.spec,
    rollout.zones.map(({ nodes, planned, canaries }) => ({
      planned,
      late: nodes.length - planned,
      canaries,
    })),
  );
  return progress.back === undefined ? forward : stepsBack(forward, progress.back.begun);
}

/** A step's wave: batches that follow each other in a zone for the same reason. */
export function waveOf(rollout: Rollout, back: 0 | 1, progress: Progress, at: number): Step | undefined {
  return stepsOf(rollout, back === 1 ? progress : { ...progress, back: undefined })[at];
}

/** With the beginning of its wave noted down, for whoever looks at it later and elsewhere. */
export function noted(rollout: Rollout, progress: Progress): Progress {
  if (progress.state !== 'running' || progress.stage !== 'ready') return progress;
  const back = progress.back === undefined ? 0 : 1;
  const step = waveOf(rollout, back, progress, progress.step);
  // A gate is the end of its wait.
  if (step === undefined || step.do === 'gate' || step.do === 'ask' || step.do === 'join') return progress;
  const [lastBack, lastStep = 0] = progress.course?.at(-1) ?? [];
  const last = lastBack === back ? waveOf(rollout, back, progress, lastStep) : undefined;
  if (last?.do === step.do && last.zone === step.zone && kindOf(last) === kindOf(step)) return progress;
  const seconds = Math.round((progress.sinceMs - rollout.startedMs) / 1000);
  const course = [...(progress.course ?? []), [back, progress.step, seconds] satisfies Noted];
  return { ...progress, course: course.slice(-MOST_NOTED) };
}

function kindOf(step: Step): string {
  return step.do === 'bake' ? step.after : 'kind' in step ? step.kind : '';
}

export type Action =
  /** Nothing more to do. */
  | { do: 'end' }
  | { do: 'halt'; why: string }
  | { do: 'wait'; untilMs: number }
  | { do: 'offer' | 'promote' | 'restore'; zone: number }
  | { do: 'count'; boots: Boots }
  /** Record that the batch is about to be sent. */
  | { do: 'intend'; batch: Batch | Gate; instanceIds: string[] }
  | { do: 'send'; batch: Batch | Gate; instanceIds: string[] }
  | { do: 'look'; batch: Batch | Gate; instanceIds: string[] }
  | { do: 'join'; zone: number }
  | { do: 'ask'; zone: number; after: 'canary' | 'share' | 'zone' }
  | { do: 'advance' };

/** The next thing to do. `haltFlag`: what the operator's flag says, if it is up. */
export function decide(
  rollout: Rollout,
  progress: Progress,
  seen: { nowMs: number; haltFlag: string | undefined },
): Action {
  if (progress.state !== 'running') return { do: 'end' };
  const step = stepsOf(rollout, progress)[progress.step];
  // A batch that is out is brought home first, whatever the flag says.
  if ((step?.do === 'update' || step?.do === 'gate') && progress.stage !== 'ready') {
    const instanceIds = nodesOf(rollout, progress, step);
    return { do: progress.stage === 'intended' ? 'send' : 'look', batch: step, instanceIds };
  }
  const why = seen.haltFlag ?? overBudget(rollout, progress);
  if (why !== undefined) return { do: 'halt', why };
  if (step === undefined) {
    const lacking = unrestored(progress).length;
    return lacking === 0 || progress.back?.givenUp === true
      ? { do: 'end' }
      : { do: 'halt', why: `${lacking} nodes could not be brought back, or nobody knows` };
  }
  // A wait may end outside of a window, and an answer come home.
  if (progress.back === undefined && step.do !== 'bake' && !isOpen(rollout.spec.when, seen.nowMs))
    return { do: 'wait', untilMs: seen.nowMs + WINDOW_MS };
  switch (step.do) {
    case 'ask':
      return progress.passedBy === progress.step
        ? { do: 'advance' }
        : { do: 'ask', zone: step.zone, after: step.after };
    case 'bake': {
      const untilMs = progress.sinceMs + step.seconds * 1000;
      return seen.nowMs >= untilMs ? { do: 'advance' } : { do: 'wait', untilMs };
    }
    case 'boots': {
      const seconds = rollout.spec.boot.waitSeconds;
      if (seen.nowMs < progress.sinceMs + seconds * 1000) return { do: 'count', boots: step };
      const ready = progress.boots?.ready[step.zone] ?? 0;
      const zoneId = rollout.zones[step.zone]?.zoneId;
      return {
        do: 'halt',
        why: `${ready} of ${step.nodes} nodes of ${zoneId} have booted from the image within ${seconds} s`,
      };
    }
    case 'offer':
    case 'promote':
    case 'restore':
    case 'join':
      return { do: step.do, zone: step.zone };
    case 'gate':
    case 'update': {
      const instanceIds = nodesOf(rollout, progress, step);
      return instanceIds.length === 0 ? { do: 'advance' } : { do: 'intend', batch: step, instanceIds };
    }
  }
}

/** The nodes of the batch it is at that are asked at once: one alone while nothing has proven the version. */
export function nodesOf(rollout: Rollout, progress: Progress, batch: Batch | Gate): string[] {
  const nodes = stillOf(rollout, progress, batch);
  return isUnproven(progress) ? nodes.slice(0, 1) : nodes;
}

/** All nodes that are still to be asked; going back, without those known to run what they ran before the rollout. */
function stillOf(rollout: Rollout, progress: Progress, batch: Batch | Gate): string[] {
  const zone = rollout.zones[batch.zone]?.nodes ?? [];
  if (progress.left !== undefined) return progress.left.nodes.flatMap((one) => zone[one.node] ?? []);
  const nodes = zone.slice(batch.from, batch.to);
  if (batch.do === 'gate') {
    const known = new Set(
      progress.exceptions.filter((one) => one.zone === batch.zone).map((one) => one.node),
    );
    return nodes.filter((_, at) => !known.has(batch.from + at));
  }
  if (progress.direction === 'forward') return nodes;
  const again = progress.back?.again;
  if (again !== undefined) {
    const wanted = new Set(again.filter((one) => one.zone === batch.zone).map((one) => one.node));
    return nodes.filter((_, at) => wanted.has(batch.from + at));
  }
  const untouched = new Set(progress.there[batch.zone]);
  for (const { zone: at, node, outcome } of progress.exceptions)
    if (at === batch.zone && isUntouched(outcome)) untouched.add(node);
  return nodes.filter((_, at) => !untouched.has(batch.from + at));
}

/** No node runs the version in good health: so it is at first, and behind a canary whose failure was forgiven. */
function isUnproven({ direction, updated, already }: Progress): boolean {
  return direction === 'forward' && updated + already === 0;
}

/** Why no further node may be touched. */
export function overBudget(rollout: Rollout, progress: Progress): string | undefined {
  const { spec, zones } = rollout;
  const boots =
    progress.back === undefined ? (progress.boots?.failed.slice(progress.boots.forgiven) ?? []) : [];
  const canary = boots.find((one) => one.canary);
  if (canary !== undefined)
    return `the canary ${canary.instanceId} failed in ${zones[canary.zone]?.zoneId}: ${canary.reason}`;
  if ((progress.boots?.failed.length ?? 0) >= MOST_BOOT_FAILURES && progress.back === undefined)
    return `${MOST_BOOT_FAILURES} instances or more have failed: take it back`;
  if (progress.exceptions.length >= MOST_EXCEPTIONS && progress.back === undefined)
    return `${progress.exceptions.length} nodes have failed, forgiven ones included: take it back`;
  const unproven = isUnproven(progress) && !isImage(spec);
  const goneCanaries = progress.exceptions
    .slice(progress.forgiven)
    .filter((one) => one.outcome === 'gone').length;
  if (unproven && goneCanaries >= MOST_GONE_CANARIES)
    return `${goneCanaries} canaries in a row are gone: EC2 no longer has them`;
  const failures: { zone: number; node: number }[] = [
    ...countedFailures(progress),
    ...boots.map(({ zone }) => ({ zone, node: Infinity })),
  ];
  if (unproven && failures.length > 0) return `the canary failed in ${zones[failures[0]?.zone ?? 0]?.zoneId}`;
  for (const [at, zone] of progress.back === undefined ? zones.entries() : []) {
    const count = progress.exceptions
      .slice(progress.forgiven)
      .filter((one) => one.zone === at && one.outcome === 'unreachable').length;
    const allowed = allowedUnreachable(zone.nodes.length, spec);
    if (count > allowed)
      return `the SSM agents of ${count} nodes in ${zone.zoneId} do not answer, ${allowed} may`;
  }
  if (failures.length === 0) return undefined;
  for (const [at, zone] of zones.entries()) {
    const canaries = zone.canaries.reduce((sum, count) => sum + count, 0);
    if (progress.direction === 'forward' && failures.some((one) => one.zone === at && one.node < canaries))
      return `the canary failed in ${zone.zoneId}`;
    const failed = failures.filter((one) => one.zone === at).length;
    const allowed = allowedFailures(zone.nodes.length, spec.budget.zonePercent);
    if (failed > allowed) return `${failed} nodes failed in ${zone.zoneId}, ${allowed} may`;
  }
  const allowed = allowedFailures(total(zones), spec.budget.fleetPercent);
  if (failures.length > allowed) return `${failures.length} nodes failed in the fleet, ${allowed} may`;
  return undefined;
}

/** Failures that still count, of the direction it goes in. */
function countedFailures(progress: Progress): Exception[] {
  const { exceptions, forgiven } = progress.back ?? progress;
  return exceptions.slice(forgiven).filter((one) => isFailed(one.outcome));
}

/** Nodes that may still fail before it halts: what Run Command is told as MaxErrors. */
export function failuresLeft(rollout: Rollout, progress: Progress, batch: Batch | Gate): number {
  // A question stops at nobody.
  if (batch.do === 'gate') return batch.to - batch.from;
  if (batch.kind === 'canary' && progress.direction === 'forward') return 0;
  const { spec, zones } = rollout;
  const failures = countedFailures(progress);
  const inZone = failures.filter((one) => one.zone === batch.zone).length;
  return Math.max(
    0,
    Math.min(
      allowedFailures(zones[batch.zone]?.nodes.length ?? 0, spec.budget.zonePercent) - inZone,
      allowedFailures(total(zones), spec.budget.fleetPercent) - failures.length,
    ),
  );
}

export function intended(progress: Progress, nowMs: number): Progress {
  return { ...progress, stage: 'intended', sinceMs: nowMs, commands: [] };
}

/**
 * Nodes that cannot be asked: EC2 no longer has them, or their SSM agent does not answer. The rest of the batch is left to be
 * asked.
 */
export function without(
  rollout: Rollout,
  progress: Progress,
  batch: Batch | Gate,
  absent: readonly Judgement[],
  nowMs: number,
): Progress {
  if (absent.length === 0) return progress;
  const placed = placing(rollout, batch);
  const away = new Set(absent.map((one) => one.instanceId));
  const rest = stillOf(rollout, progress, batch).filter((instanceId) => !away.has(instanceId));
  const left = {
    nodes: rest.map((instanceId) => placed({ instanceId, outcome: 'unsent' })),
    round: progress.left?.round ?? 0,
  };
  const exceptions = absent.map(placed);
  if (batch.do === 'gate') {
    const next = {
      ...unmade(
        progress,
        exceptions.map((one) => ({ ...one, outcome: atGate(one.outcome) })),
      ),
      left,
    };
    return heldAtGate(rollout, next, batch, absent, nowMs);
  }
  const { back } = progress;
  return back === undefined
    ? { ...progress, left, exceptions: [...progress.exceptions, ...exceptions] }
    : { ...progress, left, back: { ...back, exceptions: [...back.exceptions, ...exceptions] } };
}

/** Of a batch's nodes: a node that has joined its zone once more has two places, and the later one is meant. */
function placing(rollout: Rollout, { zone, from }: Pick<Batch, 'zone' | 'from'>) {
  const nodes = rollout.zones[zone]?.nodes ?? [];
  return ({ instanceId, outcome }: Pick<Judgement, 'instanceId' | 'outcome'>): Exception => ({
    zone,
    node: nodes.indexOf(instanceId, from),
    outcome,
  });
}

/** Nodes that had been updated, and no longer count as that. */
function unmade(progress: Progress, exceptions: readonly Exception[]): Progress {
  const already = exceptions.filter((one) => progress.there[one.zone]?.includes(one.node)).length;
  return {
    ...progress,
    already: progress.already - already,
    updated: progress.updated - (exceptions.length - already),
    exceptions: [...progress.exceptions, ...exceptions],
  };
}

/** The nodes of a wait have been asked again. */
export function gated(
  rollout: Rollout,
  progress: Progress,
  gate: Gate,
  judgements: readonly Judgement[],
  nowMs: number,
): Progress {
  const unasked = judgements.find((one) => isLeft(one.outcome));
  if (unasked !== undefined)
    return halted({ ...progress, stage: 'ready', commands: [] }, nowMs, unasked.reason);
  const bad = judgements.filter((one) => !isGood(one.outcome));
  const next = unmade(
    advanced(progress, nowMs),
    bad.map(placing(rollout, gate)).map((one) => ({ ...one, outcome: atGate(one.outcome) })),
  );
  return heldAtGate(rollout, next, gate, bad, nowMs);
}

function heldAtGate(
  rollout: Rollout,
  progress: Progress,
  gate: Gate,
  [first]: readonly Judgement[],
  nowMs: number,
): Progress {
  const why = overBudget(rollout, progress);
  if (why === undefined || first === undefined) return progress;
  const where = `gate behind the wait after the ${gate.after} in ${rollout.zones[gate.zone]?.zoneId}`;
  return halted(progress, nowMs, `${where}: ${why}: ${first.instanceId}: ${first.reason}`);
}

/** It ran the version, so none of what says that it was never touched can be said. */
function atGate(outcome: Outcome): Outcome {
  return outcome === 'gone' || !isUntouched(outcome) ? outcome : 'unhealthy';
}

/** A zone's nodes have been looked up again: those that could be reached by now are asked among the late ones. */
export function joined(progress: Progress, zone: number, again: readonly number[], nowMs: number): Progress {
  const places = new Set(again);
  const exceptions = progress.exceptions.map((one) =>
    one.zone === zone && one.outcome === 'unreachable' && places.has(one.node)
      ? { ...one, outcome: 'deferred' as const }
      : one,
  );
  return advanced({ ...progress, exceptions }, nowMs);
}

export function sent(progress: Progress, nowMs: number, commands: string[]): Progress {
  return { ...progress, stage: 'sent', sinceMs: nowMs, commands };
}

/** The batch is home, or halted with a part of it left: nobody goes past nodes that were not even asked. */
export function judged(
  rollout: Rollout,
  progress: Progress,
  batch: Batch,
  judgements: readonly Judgement[],
  nowMs: number,
): Progress {
  const placed = placing(rollout, batch);
  const count = (outcome: Outcome) => judgements.filter((one) => one.outcome === outcome).length;
  const there = judgements.filter((one) => one.there);
  const over = judgements.filter((one) => isLeft(one.outcome));
  const exceptions = judgements.filter((one) => !isGood(one.outcome) && !isLeft(one.outcome)).map(placed);
  const next = advanced(progress, nowMs);
  const counted: Progress =
    next.back === undefined
      ? {
          ...next,
          updated: next.updated + count('updated'),
          already: next.already + count('already'),
          there: rollout.zones.map((_, at) => [
            ...(next.there[at] ?? []),
            ...(at === batch.zone ? there.map((one) => placed(one).node) : []),
          ]),
          exceptions: [...next.exceptions, ...exceptions],
        }
      : {
          ...next,
          back: {
            ...next.back,
            restored: next.back.restored + count('updated') + count('already'),
            exceptions: [...next.back.exceptions, ...exceptions],
          },
        };
  const asked = new Set(judgements.map((one) => one.instanceId));
  const unasked = stillOf(rollout, progress, batch)
    .filter((instanceId) => !asked.has(instanceId))
    .map((instanceId): Judgement => ({ instanceId, outcome: 'unsent', reason: '' }));
  if (over.length + unasked.length === 0) return counted;
  const left = {
    nodes: [...over, ...unasked].map(placed),
    round: (progress.left?.round ?? 0) + 1,
  };
  const rest: Progress = { ...counted, step: progress.step, left };
  const [first] = over;
  return first === undefined ? rest : halted(rest, nowMs, overBudget(rollout, rest) ?? first.reason);
}

export function advanced(progress: Progress, nowMs: number): Progress {
  return {
    ...progress,
    step: progress.step + 1,
    stage: 'ready',
    sinceMs: nowMs,
    commands: [],
    left: undefined,
  };
}

export function halted(progress: Progress, nowMs: number, why: string): Progress {
  return { ...progress, state: 'halted', why: why.slice(0, MOST_WHY), sinceMs: nowMs };
}

/** Ends it where it stands: nodes stay on the version that they run. */
export function abandoned(progress: Progress, nowMs: number): Progress {
  return { ...progress, state: 'abandoned', why: undefined, sinceMs: nowMs };
}

/** Nothing of it goes on: another may begin. */
export function isOver({ state }: Progress): boolean {
  return state === 'done' || state === 'rolled-back' || state === 'abandoned';
}

export function ended(progress: Progress, nowMs: number, strays: number): Progress {
  const state = progress.direction === 'forward' ? 'done' : 'rolled-back';
  return { ...progress, state, why: undefined, sinceMs: nowMs, strays };
}

/** Goes on where it halted. With `forgive`, what has failed so far counts no more. */
export function resumed(progress: Progress, nowMs: number, forgive: boolean): Progress {
  if (progress.state !== 'halted') return progress;
  const next: Progress = { ...progress, state: 'running', why: undefined, sinceMs: nowMs };
  if (!forgive) return next;
  next.passedBy = next.step;
  if (next.boots !== undefined && next.back === undefined)
    return { ...next, boots: { ...next.boots, forgiven: next.boots.failed.length } };
  return next.back === undefined
    ? { ...next, forgiven: next.exceptions.length }
    : { ...next, back: { ...next.back, forgiven: next.back.exceptions.length, givenUp: true } };
}

/** Nodes that a rollback has not brought back, as far as anybody knows. */
export function unrestored({ back }: Progress): Exception[] {
  return back?.exceptions.filter((one) => isFailed(one.outcome) || one.outcome === 'unreachable') ?? [];
}

/** Takes it back, or goes on with that past what has failed; at its end those that have failed are asked once more. */
export function takenBack(rollout: Rollout, progress: Progress, nowMs: number): Progress {
  const { back } = progress;
  if (back === undefined) return turnedBack(progress, nowMs);
  if (progress.step < stepsOf(rollout, progress).length) {
    const next = resumed(progress, nowMs, false);
    return { ...next, back: { ...back, forgiven: back.exceptions.length } };
  }
  return {
    ...resumed(progress, nowMs, false),
    step: 0,
    stage: 'ready',
    back: { ...back, exceptions: [], forgiven: 0, again: unrestored(progress) },
  };
}

/** Turns it round: from now on it goes back. A batch that is out has to be home. */
function turnedBack(progress: Progress, nowMs: number): Progress {
  // Of a batch that had begun in part, what was left over is known by what has kept it.
  const { left } = progress;
  return {
    ...progress,
    left: undefined,
    exceptions: [...progress.exceptions, ...(left?.nodes ?? [])],
    direction: 'back',
    state: 'running',
    why: undefined,
    step: 0,
    stage: 'ready',
    sinceMs: nowMs,
    commands: [],
    back: { begun: progress.step + (left === undefined ? 0 : 1), restored: 0, exceptions: [], forgiven: 0 },
  };
}

/** What a look at the instances that booted from the AMI has shown. What has failed stays so, whatever becomes of it. */
export function counted(
  progress: Progress,
  { zone, kind }: Boots,
  look: { ready: number; enough: number; failed: Omit<BootFailure, 'zone' | 'canary'>[] },
  nowMs: number,
): Progress {
  const before = progress.boots ?? { ready: [], failed: [], forgiven: 0 };
  const known = new Set(before.failed.map((one) => one.instanceId));
  const news = look.failed.filter((one) => !known.has(one.instanceId));
  const failed = [...before.failed, ...news.map((one) => ({ ...one, zone, canary: kind === 'canary' }))]
    .slice(0, MOST_BOOT_FAILURES)
    .map((one, at) => (at < REASONS ? one : { ...one, reason: '' }));
  const ready = Array.from({ length: Math.max(before.ready.length, zone + 1) }, (_, at) =>
    at === zone ? look.ready : (before.ready[at] ?? 0),
  );
  const next: Progress = { ...progress, boots: { ...before, ready, failed } };
  // With a new failure the budget has the word first.
  return look.ready >= look.enough && news.length === 0 ? advanced(next, nowMs) : next;
}
