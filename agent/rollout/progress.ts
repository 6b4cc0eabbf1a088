// How far a rollout is, and what follows from it. Pure: record and observations go in, the next action or the next record comes
// out. Every change of the record is written before and after something is done (record.ts).
import { isFailed, isGood, isLeft, isUntouched, type Judgement, type Outcome } from './judge.ts';
import {
  type Batch,
  type Boots,
  type Gate,
  MOST_AT_GATE,
  type Notes,
  type Step,
  stepsBack,
  stepsForward,
  total,
  type Zone,
} from './plan.ts';
import { allowedFailures, allowedUnreachable, isImage, type Spec } from './spec.ts';
import { isOpen } from './window.ts';

/** What was fixed when the rollout began; it does not change. */
export interface Rollout {
  schema: 1;
  id: string;
  startedMs: number;
  startedBy: string;
  spec: Spec;
  /** What the rollout writes into the zones' parameters: the release as published, or the ID of the AMI. */
  release: string;
  /** SHA-256 digests of the release's archives; empty for an AMI. */
  digests: string[];
  /** undefined for an AMI, which needs no command. */
  document: { name: string; version: string; hash: string } | undefined;
  zones: (Zone & {
    /** The first `planned` of the zone's nodes existed when the rollout began; the others have joined since. */
    planned: number;
    /** By place of a canary, the strata that it stands for, see strata.ts. */
    stands?: string[][];
    /** The last `strays` of the zone's nodes have joined the way back: they came up on the version that is taken back. */
    strays?: number;
    /** What the zone's parameter held; for an AMI the number of its stable version; undefined when there was none. */
    before: string | undefined;
  })[];
  /** Canaries with their strata, and strata without a canary; undefined when an older version of eniboot began the rollout. */
  strata?: Pick<Notes, 'canaries' | 'uncovered'>;
}

/** A node that was not updated: its zone and its place in the zone's list. */
export interface Exception {
  zone: number;
  node: number;
  outcome: Outcome;
}

/**
 * A node that is moved forward to be a canary by itself: to the place `to`, after the zone's first `batches` batches of
 * canaries.
 */
export interface StandIn {
  zone: number;
  instanceId: string;
  to: number;
  batches: number;
  standsFor: string[];
}

/** An instance that booted from the AMI and is not READY. */
export interface BootFailure {
  zone: number;
  instanceId: string;
  outcome: 'failed' | 'late' | 'missing';
  reason: string;
  /** The failure was seen before any zone was promoted. */
  canary: boolean;
}

export interface Progress {
  direction: 'forward' | 'back';
  /** `abandoned`: an operator has ended the rollout where it stood. */
  state: 'running' | 'halted' | 'done' | 'rolled-back' | 'abandoned';
  /** Why the rollout is halted. */
  why: string | undefined;
  /** Index into the steps of its direction. */
  step: number;
  /** Stage of a batch: not begun; about to be sent; sent. */
  stage: 'ready' | 'intended' | 'sent';
  /** When the present step and stage were entered, milliseconds since the epoch. */
  sinceMs: number;
  /** Run Command's IDs of the commands of the batch in flight. */
  commands: string[];
  /**
   * Nodes of this batch that a halt kept from being asked: a resume sends them. `round`: how often this batch was cut short in
   * that way.
   */
  left: { nodes: Exception[]; round: number } | undefined;
  updated: number;
  already: number;
  /** By zone, the places of the nodes that ran the version before: a rollback leaves it there. */
  there: number[][];
  exceptions: Exception[];
  /** By zone, the number of nodes that are gone and not among the exceptions, see `withExceptions`. */
  gone?: number[];
  /** The first `forgiven` exceptions no longer count: an operator has said to go on. */
  forgiven: number;
  /** On the way back: how many forward steps had begun, and nodes that are back or could not be brought back. */
  back: Back | undefined;
  /** The step at which an operator has said to go on although gate.command had failed. */
  passedBy?: number;
  /** Alarms that go off from this time on count, milliseconds since the epoch; undefined: since the rollout began. */
  watchedFromMs?: number;
  /**
   * An alarm has gone off: the rollout halts once the batch in flight is judged. `why` does not cover what goes off from
   * `seenMs` on.
   */
  alarmed?: { why: string; seenMs: number } | undefined;
  /** At the end: the number of instances that came up during the rollout and do not run the version that it leaves in place. */
  strays?: number;
  /** Nodes that replace canaries that are gone, in order. */
  standIns?: StandIn[];
  /** When each wave began, in seconds since the beginning of the rollout; 1 stands for the way back. */
  course?: Noted[];
  /** For an AMI: number of READY instances by zone at the last look, and failures so far. */
  boots?: { ready: number[]; failed: BootFailure[]; forgiven: number };
}

type Noted = [back: 0 | 1, step: number, seconds: number];

export interface Back {
  begun: number;
  restored: number;
  exceptions: Exception[];
  gone?: number[];
  forgiven: number;
  /** Only these nodes are asked once more: an earlier attempt could not bring them back. */
  again?: Exception[];
  /** An operator has said to end without the nodes that could not be brought back. */
  givenUp?: boolean;
}

/** Nodes that may fail in all, forgiven ones included: with more of them the record would not fit into its parameter. */
const MOST_EXCEPTIONS = 800;
/** Milliseconds until a closed window is checked again. */
const WINDOW_MS = 60_000;
/** Milliseconds until CloudWatch is asked again when it could not be asked. */
const UNSEEN_MS = 15_000;
/** Waves that are noted: a rollout that is taken back again and again would otherwise fill the record. */
const MOST_NOTED = 100;
/** Failures of an AMI that are listed singly, and reasons that are kept: the record has to fit into one parameter. */
const MOST_BOOT_FAILURES = 100;
const REASONS = 20;
/** A canary that is gone is replaced by the next node. With this many in a row, the version may be the cause. */
const MOST_GONE_CANARIES = 2;
/** Characters of the reason of a halt: a halt flag may be longer than the record's parameter allows. */
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

/** Moves the stand-in to its place in the zone. No node from that place on has been asked yet. */
export function putStandIn(
  rollout: Rollout,
  { zone: at, instanceId, to, batches, standsFor }: StandIn,
): void {
  const zone = rollout.zones[at];
  if (zone === undefined) return;
  const { nodes, canaries, stands = [] } = zone;
  nodes.splice(to, 0, ...nodes.splice(nodes.indexOf(instanceId), 1));
  canaries.splice(batches, 0, 1);
  stands.splice(to, 0, standsFor);
}

export function stepsOf(rollout: Rollout, progress: Progress): Step[] {
  const sizes = rollout.zones.map(({ nodes, planned, strays = 0, canaries }) => ({
    planned,
    late: nodes.length - planned - strays,
    strays,
    canaries,
  }));
  // The steps are needed several times for each look, and depend on the sizes alone.
  const key = JSON.stringify([sizes, progress.back?.begun]);
  const known = lastSteps.get(rollout);
  if (known?.key === key) return known.steps;
  const steps =
    progress.back === undefined
      ? stepsForward(rollout.spec, sizes)
      : stepsBack(rollout.spec, sizes, progress.back.begun);
  lastSteps.set(rollout, { key, steps });
  return steps;
}

const lastSteps = new WeakMap<Rollout, { key: string; steps: Step[] }>();

/** The wave of a step: batches of one zone and kind that follow each other. */
export function waveOf(rollout: Rollout, back: 0 | 1, progress: Progress, at: number): Step | undefined {
  return stepsOf(rollout, back === 1 ? progress : { ...progress, back: undefined })[at];
}

/** Notes when a wave begins, for a report that is made later or on another machine. */
export function withWaveNoted(rollout: Rollout, progress: Progress): Progress {
  if (progress.state !== 'running' || progress.stage !== 'ready') return progress;
  const back = progress.back === undefined ? 0 : 1;
  const step = waveOf(rollout, back, progress, progress.step);
  // A gate belongs to its wait.
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
  /** Nothing is left to do. */
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
export type ActionOf<Do> = Extract<Action, { do: Do }>;

/**
 * The next thing to do. `haltFlag`: the text of the operator's flag, undefined while it is down. `unseen`: CloudWatch does not
 * tell the state of the alarms, so no step begins.
 */
export function decide(
  rollout: Rollout,
  progress: Progress,
  seen: { nowMs: number; haltFlag: string | undefined; unseen: boolean },
): Action {
  if (progress.state !== 'running') return { do: 'end' };
  const step = stepsOf(rollout, progress)[progress.step];
  // A batch in flight is judged first, whether the flag is up or not.
  if ((step?.do === 'update' || step?.do === 'gate') && progress.stage !== 'ready') {
    const instanceIds = nodesOf(rollout, progress, step);
    return { do: progress.stage === 'intended' ? 'send' : 'look', batch: step, instanceIds };
  }
  const forward = progress.back === undefined;
  const why = seen.haltFlag ?? progress.alarmed?.why ?? overBudget(rollout, progress);
  if (why !== undefined) return { do: 'halt', why };
  if (seen.unseen && forward) return { do: 'wait', untilMs: seen.nowMs + UNSEEN_MS };
  if (step === undefined) {
    const lacking = unrestored(progress).length;
    return lacking === 0 || progress.back?.givenUp === true
      ? { do: 'end' }
      : { do: 'halt', why: `${lacking} nodes could not be brought back, or their version is not known` };
  }
  // Outside of the windows a wait may end, and nodes in flight may answer; nothing else begins.
  if (forward && step.do !== 'bake' && !isOpen(rollout.spec.when, seen.nowMs))
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

/** The nodes of the present batch that are asked together: only one while no node has proven the version. */
export function nodesOf(rollout: Rollout, progress: Progress, batch: Batch | Gate): string[] {
  const nodes = stillOf(rollout, progress, batch);
  return isUnproven(progress) ? nodes.slice(0, 1) : nodes;
}

/** All nodes that are still to be asked. On the way back: without nodes known to run what they ran before the rollout. */
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

/** No node runs the version in good health: at the beginning, and after a canary whose failure was forgiven. */
function isUnproven({ direction, updated, already }: Progress): boolean {
  return direction === 'forward' && updated + already === 0;
}

/** Why no further node may be touched; undefined while the budget allows it. */
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

/** Failures that still count in the present direction. */
function countedFailures(progress: Progress): Exception[] {
  const { exceptions, forgiven } = progress.back ?? progress;
  return exceptions.slice(forgiven).filter((one) => isFailed(one.outcome));
}

/** Nodes that may still fail before the rollout halts: Run Command's MaxErrors. */
export function failuresLeft(rollout: Rollout, progress: Progress, batch: Batch | Gate): number {
  // A gate asks all of its nodes, however many fail.
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
 * Records nodes that cannot be asked, as EC2 no longer has them or their SSM agent does not answer. The rest of the batch is
 * still to be asked.
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
    ? { ...withExceptions(progress, exceptions, MOST_AT_GATE), left }
    : { ...progress, left, back: withExceptions(back, exceptions, 0) };
}

/**
 * Adds exceptions. In a fleet that changes, thousands of nodes are gone before they are asked, more than the record can list.
 * Gates ask only about places before `unasked`: nodes that are gone from that place on are counted, not listed. A rollback asks
 * EC2 about them once more.
 */
function withExceptions<Of extends Pick<Progress, 'exceptions' | 'gone'>>(
  before: Of,
  news: readonly Exception[],
  unasked: number,
): Of {
  const isCounted = ({ outcome, node }: Exception) => outcome === 'gone' && node >= unasked;
  const gone = [...(before.gone ?? [])];
  for (const { zone } of news.filter(isCounted)) {
    while (gone.length <= zone) gone.push(0);
    gone[zone] = (gone[zone] ?? 0) + 1;
  }
  return { ...before, gone, exceptions: [...before.exceptions, ...news.filter((one) => !isCounted(one))] };
}

/** From a node of a batch to its place. A node that has joined its zone once more has two places: the later one counts. */
function placing(rollout: Rollout, { zone, from }: Pick<Batch, 'zone' | 'from'>) {
  const nodes = rollout.zones[zone]?.nodes ?? [];
  return ({ instanceId, outcome }: Pick<Judgement, 'instanceId' | 'outcome'>): Exception => ({
    zone,
    node: nodes.indexOf(instanceId, from),
    outcome,
  });
}

/** Nodes that counted as updated become exceptions. */
function unmade(progress: Progress, exceptions: readonly Exception[]): Progress {
  const already = exceptions.filter((one) => progress.there[one.zone]?.includes(one.node)).length;
  return {
    ...progress,
    already: progress.already - already,
    updated: progress.updated - (exceptions.length - already),
    exceptions: [...progress.exceptions, ...exceptions],
  };
}

/** The nodes of a wait have answered again. */
function gated(
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

/** Before the gate the node ran the new version: an outcome that means it was never touched becomes one that does not. */
function atGate(outcome: Outcome): Outcome {
  return outcome === 'gone' || !isUntouched(outcome) ? outcome : 'unhealthy';
}

/**
 * A zone's nodes have been looked up again. `again`: places of nodes that have become reachable; they are asked as late nodes.
 * `added`: places of the nodes that join the zone.
 */
export function joined(
  progress: Progress,
  zone: number,
  { again, added }: { again: readonly number[]; added: readonly number[] },
  nowMs: number,
): Progress {
  if (progress.back !== undefined) return advanced(withStrays(progress, progress.back, zone, added), nowMs);
  const places = new Set(again);
  const exceptions = progress.exceptions.map((one) =>
    one.zone === zone && one.outcome === 'unreachable' && places.has(one.node)
      ? { ...one, outcome: 'deferred' as const }
      : one,
  );
  return advanced({ ...progress, exceptions }, nowMs);
}

/** A rollback that only repeats nodes which could not be brought back asks the strays too. */
function withStrays(progress: Progress, back: Back, zone: number, added: readonly number[]): Progress {
  if (back.again === undefined) return progress;
  const strays = added.map((node) => ({ zone, node, outcome: 'unsent' as const }));
  return { ...progress, back: { ...back, again: [...back.again, ...strays] } };
}

export function sent(progress: Progress, nowMs: number, commands: string[]): Progress {
  return { ...progress, stage: 'sent', sinceMs: nowMs, commands };
}

/**
 * The batch is judged, or halted with a part of it left. A rollout does not move on while a node of the batch has not been
 * asked.
 */
export function judged(
  rollout: Rollout,
  progress: Progress,
  batch: Batch | Gate,
  judgements: readonly Judgement[],
  nowMs: number,
): Progress {
  if (batch.do === 'gate') return gated(rollout, progress, batch, judgements, nowMs);
  const placed = placing(rollout, batch);
  const count = (outcome: Outcome) => judgements.filter((one) => one.outcome === outcome).length;
  const there = judgements.filter((one) => one.there);
  const over = judgements.filter((one) => isLeft(one.outcome));
  const exceptions = judgements.filter((one) => !isGood(one.outcome) && !isLeft(one.outcome)).map(placed);
  const next = advanced(progress, nowMs);
  const counted: Progress =
    next.back === undefined
      ? {
          ...withExceptions(next, exceptions, MOST_AT_GATE),
          updated: next.updated + count('updated'),
          already: next.already + count('already'),
          there: rollout.zones.map((_, at) => [
            ...(next.there[at] ?? []),
            ...(at === batch.zone ? there.map((one) => placed(one).node) : []),
          ]),
        }
      : {
          ...next,
          back: {
            ...withExceptions(next.back, exceptions, 0),
            restored: next.back.restored + count('updated') + count('already'),
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

/** `seenMs`: when the look at the alarms began, milliseconds since the epoch. */
export function alarmed(progress: Progress, why: string, seenMs: number): Progress {
  return { ...progress, alarmed: { why: why.slice(0, MOST_WHY), seenMs } };
}

/** Ends the rollout where it stands: nodes keep the version that they run. */
export function abandoned(progress: Progress, nowMs: number): Progress {
  return { ...progress, state: 'abandoned', why: undefined, sinceMs: nowMs };
}

/** The rollout does not go on: another one may begin. */
export function isOver({ state }: Progress): boolean {
  return state === 'done' || state === 'rolled-back' || state === 'abandoned';
}

export function ended(progress: Progress, nowMs: number, strays: number): Progress {
  const state = progress.direction === 'forward' ? 'done' : 'rolled-back';
  return { ...progress, state, why: undefined, sinceMs: nowMs, strays };
}

/** Continues a halted rollout. With `forgive`, failures so far no longer count. */
export function resumed(progress: Progress, nowMs: number, forgive: boolean): Progress {
  if (progress.state !== 'halted') return progress;
  const next: Progress = { ...progress, state: 'running', why: undefined, sinceMs: nowMs };
  // An alarm that has been reported no longer counts; what went off since then does.
  const fromMs = forgive ? nowMs : progress.alarmed?.seenMs;
  if (fromMs !== undefined) Object.assign(next, { alarmed: undefined, watchedFromMs: fromMs });
  if (!forgive) return next;
  next.passedBy = next.step;
  if (next.boots !== undefined && next.back === undefined)
    return { ...next, boots: { ...next.boots, forgiven: next.boots.failed.length } };
  return next.back === undefined
    ? { ...next, forgiven: next.exceptions.length }
    : { ...next, back: { ...next.back, forgiven: next.back.exceptions.length, givenUp: true } };
}

/** Nodes that a rollback has not brought back, as far as is known. */
export function unrestored({ back }: Progress): Exception[] {
  return back?.exceptions.filter((one) => isFailed(one.outcome) || one.outcome === 'unreachable') ?? [];
}

/**
 * Nodes that a rollback does not ask, since this rollout has not touched them. After their zone's parameter named the version,
 * any of them may have booted on it.
 */
export function leftOut(rollout: Rollout, { there, exceptions }: Progress): Set<string> {
  const ids = new Set<string>();
  for (const [at, { nodes, planned, strays = 0 }] of rollout.zones.entries()) {
    const lasts = new Map(nodes.map((instanceId, place) => [instanceId, place]));
    // Late nodes were asked after that moment: `already` then does not mean that they ran the version before.
    const places = [
      ...(there[at] ?? []).filter((place) => place >= planned),
      ...exceptions.filter((one) => one.zone === at && isUntouched(one.outcome)).map((one) => one.node),
    ];
    for (const place of places) {
      const instanceId = nodes[place];
      // A node with two places was asked at the later one; strays are asked anyway.
      if (instanceId === undefined || lasts.get(instanceId) !== place) continue;
      if (place < nodes.length - strays) ids.add(instanceId);
    }
  }
  return ids;
}

/**
 * Takes the rollout back. If it is going back already, goes on past failures and asks the nodes that have failed once more at
 * the end.
 */
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
    back: { ...back, exceptions: [], gone: [], forgiven: 0, again: unrestored(progress) },
  };
}

/** Reverses the direction. A batch in flight has to be judged first. */
function turnedBack(progress: Progress, nowMs: number): Progress {
  // The left nodes of a batch that was cut short become exceptions, with the outcome that kept them from being asked.
  const { left } = progress;
  return {
    ...progress,
    left: undefined,
    exceptions: [...progress.exceptions, ...(left?.nodes ?? [])],
    direction: 'back',
    // Alarms do not count on the way back: an alarm may be its reason.
    alarmed: undefined,
    state: 'running',
    why: undefined,
    step: 0,
    stage: 'ready',
    sinceMs: nowMs,
    commands: [],
    back: { begun: progress.step + (left === undefined ? 0 : 1), restored: 0, exceptions: [], forgiven: 0 },
  };
}

/** Records a look at the instances that booted from the AMI. A failure stays one, whatever becomes of the instance. */
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
  // After a new failure the budget is checked before the step may end.
  return look.ready >= look.enough && news.length === 0 ? advanced(next, nowMs) : next;
}
