// What a rollout changed, what failed and why it stopped: Markdown, and one HTML page with a picture of its course. Pure.
import { isFailed } from './judge.ts';
import type { Event } from './mirror.ts';
import type { Batch } from './plan.ts';
import { type Progress, type Rollout, stepsOf, waveOf } from './progress.ts';
import { exceptionsOf, strayLines, summarise } from './summary.ts';

export interface ReportInput {
  rollout: Rollout;
  progress: Progress;
  /** In order; without any the course is that of the record, wave by wave. */
  events: Event[];
}

/** A batch or a wait in time. */
interface Bar {
  zone: number;
  kind: 'update' | 'bake';
  fromMs: number;
  toMs: number;
  failed: number;
  label: string;
}

export function reportMarkdown(input: ReportInput): string {
  const { rollout, progress } = input;
  const summary = summarise(rollout, progress);
  const zones = summary.zones.map(
    (zone) => `| ${zone.zoneId} | ${zone.nodes} | ${zone.updated} | ${zone.failed} | ${zone.state} |\n`,
  );
  const failures = exceptionsOf(rollout, progress);
  const reasons = reasonsOf(input.events);
  const failed = failures.map(
    (one) =>
      `| ${one.zoneId} | ${one.instanceId} | ${one.outcome} | ${(reasons.get(one.instanceId) ?? one.reason ?? '').replaceAll('|', '\\|')} |\n`,
  );
  return `# Rollout ${rollout.id} of ${summary.version} in ${summary.cluster}

${headline(input)}

| | |
|---|---|
| begun | ${time(rollout.startedMs)} by ${rollout.startedBy} |
| ended | ${progress.state === 'running' ? 'not yet' : time(progress.sinceMs)} |
| nodes | ${summary.nodes} in ${rollout.zones.length} zones |
| updated / already there | ${summary.updated} / ${summary.already} |
| failed / left for a resume | ${summary.failed} / ${summary.passedOver} |
| brought back | ${progress.back === undefined ? '–' : summary.restored} |
| ${rollout.document === undefined ? 'how' : 'document'} | ${rollout.document === undefined ? 'labels of the image parameters' : `${rollout.document.name} version ${rollout.document.version}, ${rollout.document.hash}`} |

## Zones

| zone | nodes | on ${summary.version} | failed | state |
|---|---|---|---|---|
${zones.join('')}
## Nodes that were not ${progress.back === undefined ? 'updated' : 'brought back'}

${failed.length === 0 ? 'None.\n' : `| zone | node | outcome | reason |\n|---|---|---|---|\n${failed.join('')}`}
## Course

${courseLines(input)}`;
}

export function reportHtml(input: ReportInput): string {
  const { rollout, progress } = input;
  const summary = summarise(rollout, progress);
  const reasons = reasonsOf(input.events);
  const cells = (values: (string | number)[]) =>
    `<tr>${values.map((value) => `<td>${escapeHtml(String(value))}</td>`).join('')}</tr>`;
  const failures = exceptionsOf(rollout, progress);
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Rollout ${escapeHtml(rollout.id)}</title>
<style>
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;color:#1b1f24;background:#fff}
table{border-collapse:collapse;margin:.5rem 0 1.5rem}td,th{border-bottom:1px solid #d0d7de;padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top}
.state{font-size:1.2rem;font-weight:600}svg{width:100%;height:auto}
@media (prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}td,th{border-color:#30363d}}
</style></head><body>
<h1>${escapeHtml(summary.version)} in ${escapeHtml(summary.cluster)}</h1>
<p class="state">${escapeHtml(headline(input))}</p>
<p>Rollout ${escapeHtml(rollout.id)}, begun ${time(rollout.startedMs)} by ${escapeHtml(rollout.startedBy)}.</p>
${timelineSvg(input)}
<h2>Zones</h2>
<table><tr><th>zone</th><th>nodes</th><th>on ${escapeHtml(summary.version)}</th><th>failed</th><th>state</th></tr>
${summary.zones.map((zone) => cells([zone.zoneId, zone.nodes, zone.updated, zone.failed, zone.state])).join('\n')}
</table>
<h2>Nodes that were not ${progress.back === undefined ? 'updated' : 'brought back'}</h2>
${
  failures.length === 0
    ? '<p>None.</p>'
    : `<table><tr><th>zone</th><th>node</th><th>outcome</th><th>reason</th></tr>
${failures.map((one) => cells([one.zoneId, one.instanceId, one.outcome, reasons.get(one.instanceId) ?? one.reason ?? ''])).join('\n')}
</table>`
}
</body></html>
`;
}

/** One sentence: how it stands and why. */
function headline({ rollout, progress }: ReportInput): string {
  const summary = summarise(rollout, progress);
  const strays = strayLines(summary)
    .map((line) => ` ${line}.`)
    .join('');
  switch (progress.state) {
    case 'done':
      return `Done: ${summary.updated + summary.already} of ${summary.nodes} nodes run ${summary.version}.${strays}`;
    case 'rolled-back':
      return `Taken back: ${summary.restored} nodes run again what they ran before${summary.unrestored === 0 ? '' : `, ${summary.unrestored} were given up: nobody knows what they run`}.${strays}`;
    case 'abandoned':
      return `Abandoned where it stood: ${summary.updated + summary.already} of ${summary.nodes} nodes run ${summary.version}.`;
    case 'halted':
      return `Halted: ${progress.why ?? 'no reason is recorded'}.`;
    case 'running':
      return `Not finished: next is ${summary.next ?? 'the end'}.`;
  }
}

function reasonsOf(events: readonly Event[]): Map<string, string> {
  const reasons = new Map<string, string>();
  for (const event of events)
    if (event.kind === 'node') reasons.set(event.judgement.instanceId, event.judgement.reason);
  return reasons;
}

function courseLines(input: ReportInput): string {
  const { events } = input;
  if (events.length === 0) {
    const lines = recordedBars(input).map(
      (bar) =>
        `- ${time(bar.fromMs)}  ${input.rollout.zones[bar.zone]?.zoneId}: ${bar.label}${bar.failed === 0 ? '' : `, ${bar.failed} failed`}\n`,
    );
    return `${lines.join('')}\nFrom the record in Parameter Store; each event is noted where \`rollout run\` was called.\n`;
  }
  return events
    .flatMap((event) => {
      if (event.kind === 'home')
        return [
          `- ${time(event.atMs)}  ${event.good} good, ${event.failed} failed, ${event.other} left for a resume`,
        ];
      if (event.kind === 'halted') return [`- ${time(event.atMs)}  **halted**: ${event.why}`];
      if (event.kind === 'ended') return [`- ${time(event.atMs)}  ${event.state}`];
      return [];
    })
    .join('\n')
    .concat('\n');
}

/** What the record in Parameter Store tells: a bar for each wave. */
function recordedBars({ rollout, progress }: ReportInput): Bar[] {
  const course = progress.course ?? [];
  return course.flatMap(([back, at, seconds], index): Bar[] => {
    const step = waveOf(rollout, back, progress, at);
    if (step?.do !== 'bake' && step?.do !== 'boots' && step?.do !== 'update') return [];
    const fromMs = rollout.startedMs + seconds * 1000;
    const next = course[index + 1]?.[2];
    const toMs = next === undefined ? Math.max(fromMs, progress.sinceMs) : rollout.startedMs + next * 1000;
    const way = back === 1 ? ', back' : '';
    if (step.do === 'bake')
      return [{ zone: step.zone, kind: 'bake', fromMs, toMs, failed: 0, label: `wait after ${step.after}` }];
    const failed =
      step.do === 'boots'
        ? (progress.boots?.failed ?? []).filter(
            (one) => one.zone === step.zone && one.canary === (step.kind === 'canary'),
          ).length
        : failedIn(rollout, progress, back, step);
    return [{ zone: step.zone, kind: 'update', fromMs, toMs, failed, label: `${step.kind}${way}` }];
  });
}

/** Failures of all batches of this kind in the zone. */
function failedIn(rollout: Rollout, progress: Progress, back: 0 | 1, { zone, kind }: Batch): number {
  const batches = stepsOf(rollout, { ...progress, back: undefined }).filter(
    (step): step is Batch => step.do === 'update' && step.zone === zone && step.kind === kind,
  );
  const exceptions = back === 1 ? (progress.back?.exceptions ?? []) : progress.exceptions;
  return exceptions.filter(
    (one) =>
      one.zone === zone &&
      isFailed(one.outcome) &&
      batches.some((batch) => one.node >= batch.from && one.node < batch.to),
  ).length;
}

function barsOf(input: ReportInput, endMs: number): Bar[] {
  const { events } = input;
  if (events.length === 0) return recordedBars(input);
  const bars: Bar[] = [];
  let open: Bar | undefined;
  for (const event of events) {
    if (event.kind === 'step' || event.kind === 'halted' || event.kind === 'ended') {
      if (open !== undefined) open.toMs = event.atMs;
      open = undefined;
    }
    if (
      event.kind === 'step' &&
      (event.step.do === 'update' || event.step.do === 'bake' || event.step.do === 'boots')
    ) {
      const { step } = event;
      open = {
        zone: step.zone,
        kind: step.do === 'bake' ? 'bake' : 'update',
        fromMs: event.atMs,
        toMs: endMs,
        failed: 0,
        label:
          step.do === 'bake'
            ? `wait after ${step.after}`
            : `${step.kind}, ${step.do === 'boots' ? step.nodes : event.nodes} nodes`,
      };
      bars.push(open);
    }
    if (event.kind === 'node' && open !== undefined && isFailed(event.judgement.outcome)) open.failed += 1;
  }
  return bars;
}

/** Zones as rows, time to the right: batches, waits, and what failed. */
function timelineSvg(input: ReportInput): string {
  const { rollout, progress, events } = input;
  if (events.length === 0 && progress.course === undefined) return '<p>The course is not known.</p>';
  const startMs = Math.min(rollout.startedMs, ...events.map((event) => event.atMs));
  const endMs = Math.max(startMs + 1, progress.sinceMs, events.at(-1)?.atMs ?? 0);
  const left = 110;
  const width = 960;
  const row = 34;
  const x = (ms: number) => left + ((ms - startMs) / (endMs - startMs)) * (width - left - 10);
  const height = 40 + rollout.zones.length * row;
  const bars = barsOf(input, endMs).map((bar) => {
    const fill = bar.kind === 'bake' ? '#b6bec9' : bar.failed > 0 ? '#cf222e' : '#1a7f37';
    const y = 10 + bar.zone * row + (bar.kind === 'bake' ? 9 : 0);
    const thick = bar.kind === 'bake' ? 6 : 24;
    const wide = Math.max(1.5, x(bar.toMs) - x(bar.fromMs) - 0.5);
    const title = `${bar.label}${bar.failed > 0 ? `, ${bar.failed} failed` : ''}`;
    return `<rect x="${x(bar.fromMs).toFixed(1)}" y="${y}" width="${wide.toFixed(1)}" height="${thick}" fill="${fill}"><title>${escapeHtml(title)}</title></rect>`;
  });
  const names = rollout.zones.map(
    (zone, at) => `<text x="0" y="${27 + at * row}" fill="currentColor">${escapeHtml(zone.zoneId)}</text>`,
  );
  const foot = height - 8;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui,sans-serif" font-size="13" role="img" aria-label="Course of the rollout">
${names.join('\n')}
${bars.join('\n')}
<text x="${left}" y="${foot}" fill="currentColor">${time(startMs)}</text>
<text x="${width - 10}" y="${foot}" text-anchor="end" fill="currentColor">+${duration(endMs - startMs)}; green: batches, red: with failures, grey: waits</text>
</svg>`;
}

export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60
    ? `${minutes} min ${seconds % 60} s`
    : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, '0')} min`;
}

function time(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')}Z`;
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function escapeHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? '');
}
