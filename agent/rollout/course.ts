// The course of a rollout in time: from its events, or wave by wave from the record. Pure.
import { isFailed } from './judge.ts';
import type { Event } from './mirror.ts';
import type { Batch, Step } from './plan.ts';
import { type Progress, type Rollout, stepsOf, waveOf } from './progress.ts';
import { closedIn } from './window.ts';

export interface Told {
  rollout: Rollout;
  progress: Progress;
  /** In order; without events the course is that of the record, wave by wave. */
  events: readonly Event[];
}

/** A batch or a wait, as a bar of the picture. */
export interface Bar {
  zone: number;
  kind: 'update' | 'bake';
  fromMs: number;
  toMs: number;
  failed: number;
  label: string;
}

/** The time that a step or a wave took: milliseconds since the epoch. */
interface Span {
  step: Step;
  /** undefined for a wave. */
  nodes: number | undefined;
  fromMs: number;
  toMs: number;
  failed: number;
  back: boolean;
}

export function startOf({ rollout, events }: Told): number {
  return Math.min(rollout.startedMs, events[0]?.atMs ?? rollout.startedMs);
}

export function endOf(told: Told): number {
  return Math.max(startOf(told) + 1, told.progress.sinceMs, told.events.at(-1)?.atMs ?? 0);
}

export function barsOf(told: Told): Bar[] {
  const closed = closures(told);
  return spansOf(told).flatMap(({ step, nodes, back, fromMs, toMs, failed }): Bar[] => {
    const { zone } = step;
    if (step.do === 'bake')
      return [{ zone, kind: 'bake', fromMs, toMs, failed, label: `wait after ${step.after}` }];
    if (step.do !== 'update' && step.do !== 'boots') return [];
    // A step that waits for its window does nothing yet.
    const shut = back ? undefined : closed.find((one) => one.fromMs <= fromMs && one.toMs > fromMs);
    const label = `${step.kind}${back ? ', back' : ''}${nodes === undefined ? '' : `, ${nodes} nodes`}`;
    return [{ zone, kind: 'update', fromMs: Math.min(toMs, shut?.toMs ?? fromMs), toMs, failed, label }];
  });
}

function spansOf(told: Told): Span[] {
  return told.events.length === 0 ? recordedSpans(told) : toldSpans(told);
}

function toldSpans(told: Told): Span[] {
  const spans: Span[] = [];
  const endMs = endOf(told);
  let open: Span | undefined;
  // The way back of a zone begins with its parameter.
  let back = false;
  for (const event of told.events) {
    if (event.kind === 'step' || event.kind === 'halted' || event.kind === 'ended') {
      if (open !== undefined) open.toMs = event.atMs;
      open = undefined;
    }
    if (event.kind === 'step') {
      back ||= event.step.do === 'restore';
      const { step } = event;
      // While a step waits for its window, the event has no nodes.
      const nodes = step.do === 'update' && event.nodes === 0 ? step.to - step.from : event.nodes;
      open = {
        step,
        nodes: step.do === 'boots' ? step.nodes : nodes,
        back,
        fromMs: event.atMs,
        toMs: endMs,
        failed: 0,
      };
      spans.push(open);
    }
    if (event.kind === 'node' && open !== undefined && isFailed(event.judgement.outcome)) open.failed += 1;
  }
  return spans;
}

/** A span for each wave, from the record in Parameter Store. A gate there begins when its wait is over. */
function recordedSpans({ rollout, progress }: Told): Span[] {
  const course = progress.course ?? [];
  return course.flatMap(([back, at, seconds], index): Span[] => {
    const step = waveOf(rollout, back, progress, at);
    if (step === undefined) return [];
    const fromMs = rollout.startedMs + seconds * 1000;
    const next = course[index + 1]?.[2];
    const toMs = next === undefined ? Math.max(fromMs, progress.sinceMs) : rollout.startedMs + next * 1000;
    const failed = failedIn(rollout, progress, back, step);
    return [{ step, nodes: undefined, fromMs, toMs, failed, back: back === 1 }];
  });
}

/** Number of failed nodes of a wave. */
function failedIn(rollout: Rollout, progress: Progress, back: 0 | 1, step: Step): number {
  const { zone } = step;
  if (step.do === 'boots')
    return (progress.boots?.failed ?? []).filter(
      (one) => one.zone === zone && one.canary === (step.kind === 'canary'),
    ).length;
  if (step.do !== 'update') return 0;
  const batches = stepsOf(rollout, back === 1 ? progress : { ...progress, back: undefined }).filter(
    (one): one is Batch => one.do === 'update' && one.zone === zone && one.kind === step.kind,
  );
  const exceptions = back === 1 ? (progress.back?.exceptions ?? []) : progress.exceptions;
  return exceptions.filter(
    (one) =>
      one.zone === zone &&
      isFailed(one.outcome) &&
      batches.some((batch) => one.node >= batch.from && one.node < batch.to),
  ).length;
}

/** Times in which the windows were closed while the rollout was under way. */
export function closures(told: Told): { fromMs: number; toMs: number }[] {
  return closedIn(told.rollout.spec.when, startOf(told), endOf(told));
}

/** Which steps waited for a window, and when: milliseconds since the epoch. */
export function windowWaits(told: Told): { zone: number; label: string; fromMs: number; toMs: number }[] {
  const closed = closures(told);
  const waves = told.events.length === 0;
  return spansOf(told).flatMap(({ step, back, fromMs, toMs }) => {
    // A wait continues while windows are closed, and a rollback ignores them. In the record the gate begins when its wait is
    // over.
    const begins = step.do === 'bake' ? (waves ? fromMs + step.seconds * 1000 : toMs) : fromMs;
    const label = step.do === 'bake' ? 'gate' : 'kind' in step ? step.kind : step.do;
    if (back) return [];
    return closed.flatMap((one) => {
      const from = Math.max(begins, one.fromMs);
      const to = Math.min(toMs, one.toMs);
      // What is in flight when a window closes finishes; the rest of its wave then waits until the window opens.
      const waits = to > from && (one.fromMs <= begins || (waves && one.toMs <= toMs));
      return waits ? [{ zone: step.zone, label, fromMs: from, toMs: to }] : [];
    });
  });
}
