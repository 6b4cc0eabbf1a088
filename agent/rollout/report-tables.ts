// What a report says about one Region, as tables; report.ts writes them as Markdown or HTML. Pure.
import { barsOf, type Told, windowWaits } from './course.ts';
import { isGood } from './judge.ts';
import type { Event } from './mirror.ts';
import type { Step } from './plan.ts';
import { stepsOf } from './progress.ts';
import { exceptionsOf, namesOfAlarms, strayLines, summarise } from './summary.ts';

export interface Table {
  title: string;
  /** Sentences before the table. */
  lead: string[];
  head: string[];
  rows: (string | number)[][];
  /** Text in place of the table when it has no rows. */
  none: string;
}

/** Nodes that a row names; further nodes are only counted. */
const SHOWN_NODES = 5;

export function tablesOf(told: Told): Table[] {
  return [
    factsTable(told),
    zonesTable(told),
    ...strataTables(told),
    gatesTable(told),
    ...windowTables(told),
    nodesTable(told),
  ];
}

/** One sentence: the state of the rollout, and why. */
export function headline({ rollout, progress }: Pick<Told, 'rollout' | 'progress'>): string {
  const summary = summarise(rollout, progress);
  const strays = strayLines(summary)
    .map((line) => ` ${line}.`)
    .join('');
  switch (progress.state) {
    case 'done':
      return `Done: ${summary.updated + summary.already} of ${summary.nodes} nodes run ${summary.version}.${strays}`;
    case 'rolled-back':
      return `Taken back: ${summary.restored} nodes run again what they ran before${summary.unrestored === 0 ? '' : `, ${summary.unrestored} were given up: what they run is not known`}.${strays}`;
    case 'abandoned':
      return `Abandoned where it stood: ${summary.updated + summary.already} of ${summary.nodes} nodes run ${summary.version}.`;
    case 'halted':
      return `Halted: ${progress.why ?? 'no reason is recorded'}.`;
    case 'running':
      return `Not finished: next is ${summary.next ?? 'the end'}.`;
  }
}

function factsTable({ rollout, progress }: Told): Table {
  const summary = summarise(rollout, progress);
  const { document } = rollout;
  return {
    title: 'In short',
    lead: [],
    head: ['', ''],
    rows: [
      ['begun', `${time(rollout.startedMs)} by ${rollout.startedBy}`],
      ['ended', progress.state === 'running' ? 'not yet' : time(progress.sinceMs)],
      ['nodes', `${summary.nodes} in ${rollout.zones.length} zones`],
      ['updated / already there', `${summary.updated} / ${summary.already}`],
      ['failed / left for a resume', `${summary.failed} / ${summary.passedOver}`],
      ['brought back', progress.back === undefined ? '–' : summary.restored],
      document === undefined
        ? ['how', 'labels of the image parameters']
        : ['document', `${document.name} version ${document.version}, ${document.hash}`],
    ],
    none: '',
  };
}

function zonesTable({ rollout, progress }: Told): Table {
  const { zones, version } = summarise(rollout, progress);
  return {
    title: 'Zones',
    lead: [],
    head: ['zone', 'nodes', `on ${version}`, 'failed', 'state'],
    rows: zones.map((zone) => [zone.zoneId, zone.nodes, zone.updated, zone.failed, zone.state]),
    none: '',
  };
}

/** The canaries of an AMI are new instances, and have no places in the plan. Their boots tell of them. */
function strataTables(told: Told): Table[] {
  const { rollout } = told;
  if (rollout.document === undefined) return [];
  const { canaries = [], uncovered = [] } = rollout.strata ?? {};
  const known = rollout.strata !== undefined;
  return [
    {
      title: 'Canaries',
      lead: known ? [] : ['Not recorded: an older version of eniboot has begun it.'],
      head: ['zone', 'canary', 'stands for', 'became'],
      rows: canaries.map(({ zoneId, instanceId, standsFor }) => [
        zoneId,
        instanceId,
        standsFor.length === 0 ? 'itself' : standsFor.join(', '),
        becameOf(told, zoneId, instanceId),
      ]),
      none: known ? 'None.' : '',
    },
    {
      title: 'Without a canary',
      lead: [],
      head: ['zone', 'stratum', 'nodes'],
      rows: uncovered.map((one) => [one.zoneId, one.stratum, one.nodes]),
      none: known ? 'Each CPU, AMI and instance generation has one.' : '',
    },
  ];
}

function becameOf({ rollout, progress }: Told, zoneId: string, instanceId: string): string {
  const zone = rollout.zones.findIndex((one) => one.zoneId === zoneId);
  const node = rollout.zones[zone]?.nodes.indexOf(instanceId) ?? -1;
  const exception = progress.exceptions.find((one) => one.zone === zone && one.node === node);
  if (exception !== undefined) return exception.outcome;
  if (progress.there[zone]?.includes(node) === true) return 'already';
  const steps = stepsOf(rollout, { ...progress, back: undefined });
  const at = steps.findIndex((step) => step.do === 'update' && step.zone === zone && step.to > node);
  return at < (progress.back?.begun ?? progress.step) ? 'updated' : 'not judged';
}

type GateStep = Extract<Step, { do: 'gate' | 'ask' }>;

/** A gate as this machine saw it. */
interface Visit {
  step: GateStep;
  result: 'passed' | 'stopped it' | 'not ended';
  saw: string[];
}

function gatesTable(told: Told): Table {
  const { rollout, progress } = told;
  const visits = visitsOf(told.events);
  const reached = progress.back?.begun ?? progress.step;
  const steps = stepsOf(rollout, { ...progress, back: undefined });
  const rows = steps.flatMap((step, at): string[][] => {
    if (step.do !== 'gate' && step.do !== 'ask') return [];
    const zoneId = rollout.zones[step.zone]?.zoneId ?? '';
    const what = step.do === 'ask' ? 'gate.command' : `health of ${step.to - step.from} nodes`;
    const row = (result: string, saw: string) => [zoneId, `after the ${step.after}`, what, result, saw];
    const seen = visits.filter((one) => isSame(one.step, step));
    if (seen.length > 0) return seen.map((one) => row(one.result, one.saw.join('; ')));
    if (at < reached) return [row('passed', '')];
    const stopped = at === progress.step && progress.state === 'halted' && progress.back === undefined;
    return [stopped ? row('stopped it', progress.why ?? '') : row('not reached', '')];
  });
  return {
    title: 'Gates',
    lead: [],
    head: ['zone', 'where', 'asked', 'result', 'what it saw'],
    rows: [...rows, ...alarmRows(told)],
    none: 'None: no step waits.',
  };
}

/**
 * The way back watches no alarms, and its record no longer says what stopped the way forward: only events on this machine do.
 */
function alarmRows({ rollout, progress, events }: Told): string[][] {
  const { names, wentOff } = summarise(rollout, progress).alarms;
  if (names.length === 0) return [];
  const told = events.filter((event) => event.kind === 'alarm');
  const saw = told.length > 0 ? told.map((event) => event.why) : [wentOff ?? []].flat();
  const stopped = wentOff !== undefined || (progress.back !== undefined && told.some((event) => event.seen));
  const calm = progress.back === undefined ? ['none has gone off'] : [];
  return [
    [
      'all',
      'from the beginning on',
      namesOfAlarms(names),
      stopped ? 'stopped it' : progress.state === 'done' ? 'passed' : 'not ended',
      shortened(saw.length > 0 ? saw : calm).join('; '),
    ],
  ];
}

function isSame(a: GateStep, b: GateStep): boolean {
  return a.do === b.do && a.zone === b.zone && a.after === b.after;
}

function visitsOf(events: readonly Event[]): Visit[] {
  const visits: Visit[] = [];
  let open: Visit | undefined;
  for (const event of events) {
    if (event.kind === 'step') {
      if (open?.result === 'not ended') open.result = 'passed';
      const { step } = event;
      open = step.do === 'gate' || step.do === 'ask' ? { step, result: 'not ended', saw: [] } : undefined;
      if (open !== undefined) visits.push(open);
    }
    if (open === undefined) continue;
    if (event.kind === 'gate') open.saw.push(event.said);
    if (event.kind === 'home') open.saw.push(`${event.good} good, ${event.failed + event.other} not`);
    if (event.kind === 'node' && !isGood(event.judgement.outcome)) {
      const { instanceId, outcome, reason } = event.judgement;
      open.saw.push(`${instanceId} ${outcome}: ${reason}`);
    }
    if (event.kind === 'halted') open.result = 'stopped it';
    if (event.kind === 'ended') open.result = 'passed';
  }
  for (const visit of visits) visit.saw = shortened(visit.saw);
  return visits;
}

function shortened(lines: readonly string[]): string[] {
  const rest = lines.length - SHOWN_NODES - 1;
  return rest > 0 ? [...lines.slice(0, SHOWN_NODES), `and ${rest} more`, lines.at(-1) ?? ''] : [...lines];
}

function windowTables(told: Told): Table[] {
  const { rollout } = told;
  const { when } = rollout.spec;
  if (when === undefined) return [];
  const waits = windowWaits(told);
  const total = waits.reduce((sum, one) => sum + one.toMs - one.fromMs, 0);
  const windows = when.windows.map(({ days, from, to }) => `${days.join(', ')} ${from}–${to}`);
  return [
    {
      title: 'Windows',
      lead: [
        `It begins something only in ${windows.join('; ')} (${when.timeZone}).`,
        ...(total === 0 ? [] : [`It has waited ${duration(total)} for them.`]),
      ],
      head: ['zone', 'what waited', 'from', 'until', 'for'],
      rows: waits.map(({ zone, label, fromMs, toMs }) => [
        rollout.zones[zone]?.zoneId ?? '',
        label,
        time(fromMs),
        time(toMs),
        duration(toMs - fromMs),
      ]),
      none: 'Nothing has waited for one.',
    },
  ];
}

function nodesTable({ rollout, progress, events }: Told): Table {
  const reasons = new Map<string, string>();
  for (const event of events)
    if (event.kind === 'node') reasons.set(event.judgement.instanceId, event.judgement.reason);
  return {
    title: `Nodes that were not ${progress.back === undefined ? 'updated' : 'brought back'}`,
    lead: [],
    head: ['zone', 'node', 'outcome', 'reason'],
    rows: exceptionsOf(rollout, progress).map((one) => [
      one.zoneId,
      one.instanceId,
      one.outcome,
      reasons.get(one.instanceId) ?? one.reason ?? '',
    ]),
    none: 'None.',
  };
}

/** The same as the picture, for readers who cannot see it. */
export function courseTable(told: Told): Table {
  const bars = barsOf(told);
  return {
    title: 'Course, step by step',
    lead: [],
    head: ['begun', 'zone', 'step', 'took', 'failed'],
    rows: bars.map((bar) => [
      time(bar.fromMs),
      told.rollout.zones[bar.zone]?.zoneId ?? '',
      bar.label,
      duration(bar.toMs - bar.fromMs),
      bar.failed,
    ]),
    none: 'It is not known.',
  };
}

/** `2 min 5 s` */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? `${minutes} min ${seconds % 60} s`
    : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

/** `2026-01-01 12:00:00Z` */
export function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')}Z`;
}
