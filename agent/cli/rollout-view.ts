// A rollout on a terminal: zones as rows with bars, redrawn; elsewhere one line for each event.
import { isFailed } from '../rollout/judge.ts';
import type { Event } from '../rollout/mirror.ts';
import { type Progress, type Rollout, stepsOf } from '../rollout/progress.ts';
import { duration } from '../rollout/report-tables.ts';
import {
  alarmLines,
  describeStep,
  exceptionsOf,
  type Summary,
  strayLines,
  summarise,
  type ZoneSummary,
} from '../rollout/summary.ts';
import type { CommandIo } from './command.ts';
import { paint, redrawn, table } from './table.ts';

const BAR = 30;
/** Failures shown at once; the report shows all. */
const SHOWN_FAILURES = 8;

export interface View {
  show(event: Event, progress: Progress): void;
  stop(): void;
}

export function rolloutView(rollout: Rollout, initial: Progress, io: CommandIo, nowMs: () => number): View {
  return io.isTTY ? terminalView(rollout, initial, io, nowMs) : lineView(rollout, io);
}

function lineView(rollout: Rollout, io: CommandIo): View {
  return {
    show(event, progress) {
      const line = eventLine(rollout, event, progress);
      if (line !== undefined) io.stdout(`${new Date(event.atMs).toISOString().slice(11, 19)}  ${line}\n`);
    },
    stop() {},
  };
}

/** undefined for an event that needs no line. */
function eventLine(rollout: Rollout, event: Event, progress: Progress): string | undefined {
  switch (event.kind) {
    case 'step':
      return describeStep(rollout, event.step);
    case 'sent':
      return `  sent: ${event.commands.filter((id) => id !== '').join(' ')}`;
    case 'node':
      return isFailed(event.judgement.outcome)
        ? `  ${event.judgement.instanceId}  ${event.judgement.outcome}  ${event.judgement.reason}`
        : undefined;
    case 'home':
      return `  ${event.good} good, ${event.failed} failed${event.other === 0 ? '' : `, ${event.other} left for a resume`}`;
    case 'halted':
      return `HALTED: ${event.why}`;
    case 'ended':
      return [
        event.state === 'done' ? 'done' : 'rolled back',
        ...strayLines(summarise(rollout, progress)),
      ].join('; ');
    case 'gate':
      return `  gate.command ${event.passed ? 'passed' : 'did not pass'}: ${event.said}`;
    case 'alarm':
      return event.seen ? `  ${event.why}` : `  no step begins: ${event.why}`;
    case 'look':
      return undefined;
  }
}

function terminalView(rollout: Rollout, initial: Progress, io: CommandIo, nowMs: () => number): View {
  let progress = initial;
  let home = 0;
  let drawn = 0;
  const failures: string[] = [];
  const batchMs: number[] = [];
  let batchAt = nowMs();
  const draw = () => {
    const lines = frame();
    io.stdout(redrawn(lines, drawn, io.columns));
    drawn = lines.length;
  };
  const timer = setInterval(draw, 1000);

  function frame(): string[] {
    const summary = summarise(rollout, progress);
    const perBatch = batchMs.length === 0 ? undefined : batchMs.reduce((a, b) => a + b, 0) / batchMs.length;
    const left =
      perBatch === undefined
        ? ''
        : `, about ${duration(summary.remaining.bakeSeconds * 1000 + summary.remaining.batches * perBatch)} left`;
    const state = {
      running: summary.direction === 'forward' ? 'under way' : 'going back',
      halted: 'HALTED',
      done: 'done',
      'rolled-back': 'rolled back',
      abandoned: 'abandoned',
    }[progress.state];
    const head = `${summary.version} in ${summary.cluster}: ${state}, ${duration(nowMs() - rollout.startedMs)}${progress.state === 'running' ? left : ''}`;
    return [
      paint('bold', head, true),
      ...zoneLines(summary.zones, true),
      progress.stage === 'sent' && home > 0 ? `in flight: ${home} have answered` : '',
      summary.why === undefined ? nextLine(summary) : paint('red', `halted: ${summary.why}`, true),
      ...strayLines(summary),
      ...failures.slice(-SHOWN_FAILURES),
    ];
  }

  return {
    show(event, now) {
      progress = now;
      if (event.kind === 'sent') {
        batchAt = event.atMs;
        home = 0;
      }
      if (event.kind === 'look') home = event.home;
      if (event.kind === 'home') batchMs.push(event.atMs - batchAt);
      if (event.kind === 'node' && isFailed(event.judgement.outcome)) {
        const { instanceId, outcome, reason } = event.judgement;
        failures.push(`${paint('red', outcome, true)} ${instanceId}  ${reason.slice(0, 90)}`);
      }
      draw();
    },
    stop() {
      clearInterval(timer);
      draw();
    },
  };
}

/** The next step; for a halted rollout the commands, since it does nothing by itself. */
export function nextLine({ state, next = 'nothing' }: Summary): string {
  return state === 'halted'
    ? `next: nothing by itself; \`rollout resume\` goes on with: ${next}; \`rollout rollback\` takes it back`
    : `next: ${next}`;
}

/**
 * A rollout that another process carries out, from its record alone. `holder`: the process with the lease; undefined when there
 * is none.
 */
export function watchLines(
  rollout: Rollout,
  progress: Progress,
  holder: string | undefined,
  nowMs: number,
  colour: boolean,
): string[] {
  const summary = summarise(rollout, progress);
  const failures = exceptionsOf(rollout, progress);
  const running = progress.state === 'running';
  const times = `${duration((running ? nowMs : progress.sinceMs) - rollout.startedMs)}${running ? leftOf(rollout, progress, nowMs) : ''}`;
  return [
    paint(
      'bold',
      `${summary.version} in ${summary.cluster}: ${summary.state}${summary.why === undefined ? '' : `: ${summary.why}`}, ${times}`,
      colour,
    ),
    ...zoneLines(summary.zones, colour),
    ...alarmLines(summary),
    ...(running && holder === undefined
      ? [paint('red', 'no process works on it: `rollout resume` goes on', colour)]
      : []),
    nextLine(summary),
    ...strayLines(summary),
    ...failures
      .slice(-SHOWN_FAILURES)
      .map((one) =>
        `  ${paint('red', one.outcome, colour)} ${one.zoneId} ${one.instanceId}  ${one.reason ?? ''}`.trimEnd(),
      ),
    ...(failures.length > SHOWN_FAILURES
      ? [`  and ${failures.length - SHOWN_FAILURES} before: eniboot rollout report`]
      : []),
  ];
}

/** Estimated time left: the waits to come, and the batches to come at the speed of those before. */
function leftOf(rollout: Rollout, progress: Progress, nowMs: number): string {
  const steps = stepsOf(rollout, progress);
  const before = steps.slice(0, progress.step);
  const baked = before.reduce((sum, step) => sum + (step.do === 'bake' ? step.seconds * 1000 : 0), 0);
  const batches = before.filter((step) => step.do === 'update').length;
  // On the way back the speed of the way forward says nothing.
  if (batches === 0 || progress.back !== undefined) return '';
  const { remaining } = summarise(rollout, progress);
  const perBatch = Math.max(0, nowMs - rollout.startedMs - baked) / batches;
  return `, about ${duration(remaining.bakeSeconds * 1000 + remaining.batches * perBatch)} left`;
}

export function zoneLines(zones: readonly ZoneSummary[], colour: boolean): string[] {
  const rows = zones.map((zone) => [
    `  ${zone.zoneId}`,
    bar(zone, colour),
    `${zone.updated}/${zone.nodes}`,
    paint('red', zone.failed === 0 ? '' : `${zone.failed} failed`, colour),
    zone.state,
  ]);
  return table(rows).trimEnd().split('\n');
}

function bar({ nodes, updated, failed, inFlight }: ZoneSummary, colour: boolean): string {
  const cells = (count: number) => Math.round((Math.max(0, count) / Math.max(1, nodes)) * BAR);
  const bad = failed === 0 ? 0 : Math.max(1, cells(failed));
  const good = Math.min(BAR - bad, cells(updated));
  const flying = Math.min(BAR - bad - good, cells(inFlight));
  return (
    paint('green', '█'.repeat(good), colour) +
    paint('red', '█'.repeat(bad), colour) +
    paint('yellow', '▒'.repeat(flying), colour) +
    '·'.repeat(BAR - good - bad - flying)
  );
}
