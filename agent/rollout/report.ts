// What a rollout changed, what failed and why it stopped, in one Region or several: as Markdown, or as one HTML page with a
// picture of its course. Texts of nodes are escaped: they never act as markup. Pure.
import { barsOf, closures, endOf, startOf, type Told } from './course.ts';
import { courseTable, duration, headline, type Table, tablesOf, time } from './report-tables.ts';
import { summarise } from './summary.ts';

/** One Region; without a rollout when the list has not begun there. */
export type ReportPart =
  | ({ region: string } & Told)
  | { region: string; cluster: string; version: string | undefined; rollout?: undefined };

export function reportMarkdown(parts: readonly ReportPart[]): string {
  const overview =
    parts.length === 1 ? '' : `# ${inMarkdown(titleOf(parts))}\n\n${markdownTable(overviewTable(parts))}\n`;
  return `${overview}${parts.map(markdownPart).join('\n')}`;
}

function markdownPart(part: ReportPart): string {
  if (part.rollout === undefined) return `# ${inMarkdown(part.region)}\n\n${inMarkdown(nothingIn(part))}\n`;
  const { rollout, progress, region } = part;
  const { version, cluster } = summarise(rollout, progress);
  const [facts, ...tables] = tablesOf(part);
  return `# ${inMarkdown(`Rollout ${rollout.id} of ${version} in ${cluster}, ${region}`)}

${inMarkdown(headline(part))}

${facts === undefined ? '' : markdownTable(facts)}
${tables.map((table) => `## ${table.title}\n\n${markdownTable(table)}`).join('\n')}
## Course

${courseLines(part)}`;
}

function markdownTable({ lead, head, rows, none }: Table): string {
  const row = (cells: readonly (string | number)[]) =>
    `|${cells.map((cell) => ` ${inMarkdown(String(cell))} `).join('|')}|\n`;
  const sentences = lead.length === 0 ? '' : `${inMarkdown(lead.join(' '))}\n\n`;
  if (rows.length === 0) return `${sentences}${none}\n`;
  return `${sentences}${row(head)}|${head.map(() => '---').join('|')}|\n${rows.map(row).join('')}`;
}

/** Text as text in Markdown: it cannot end a cell, make a link, or hold HTML. */
function inMarkdown(text: string): string {
  return text.replace(/\s+/g, ' ').replace(/[\\|<>[\]`]/g, '\\$&');
}

function courseLines(told: Told): string {
  const { events } = told;
  if (events.length === 0) {
    const lines = barsOf(told).map(
      (bar) =>
        `- ${time(bar.fromMs)}  ${told.rollout.zones[bar.zone]?.zoneId}: ${bar.label}${bar.failed === 0 ? '' : `, ${bar.failed} failed`}\n`,
    );
    return `${lines.join('')}\nFrom the record in Parameter Store; each event is noted where \`rollout run\` was called.\n`;
  }
  return events
    .flatMap((event) => {
      if (event.kind === 'home')
        return [
          `- ${time(event.atMs)}  ${event.good} good, ${event.failed} failed, ${event.other} left for a resume`,
        ];
      if (event.kind === 'alarm')
        return [`- ${time(event.atMs)}  ${event.seen ? '' : 'no step begins: '}${inMarkdown(event.why)}`];
      if (event.kind === 'gate')
        return [
          `- ${time(event.atMs)}  gate.command ${event.passed ? 'passed' : 'did not pass'}: ${inMarkdown(event.said)}`,
        ];
      if (event.kind === 'halted') return [`- ${time(event.atMs)}  **halted**: ${inMarkdown(event.why)}`];
      if (event.kind === 'ended') return [`- ${time(event.atMs)}  ${event.state}`];
      return [];
    })
    .join('\n')
    .concat('\n');
}

/** In both colour schemes the contrast of text is 4.5 : 1 or more. */
const STYLE = `
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d0d7de;--good:#1a7f37;--bad:#cf222e;--wait:#8c959f;--shut:#eaeef2}
@media (prefers-color-scheme:dark){:root{--ink:#e6edf3;--paper:#0d1117;--line:#30363d;--good:#3fb950;--bad:#f85149;--wait:#6e7681;--shut:#21262d}}
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:var(--ink);background:var(--paper)}
table{border-collapse:collapse;margin:.5rem 0 1.5rem;width:100%}
td,th{border-bottom:1px solid var(--line);padding:.3rem .8rem .3rem 0;text-align:left;vertical-align:top;overflow-wrap:break-word}
td:last-child{overflow-wrap:anywhere}th[scope=row]{white-space:nowrap}
h2{margin-top:2.5rem}h3{margin:1.5rem 0 0}.state{font-size:1.2rem;font-weight:600;overflow-wrap:anywhere}
a{color:inherit}svg{width:100%;height:auto}.good{fill:var(--good)}.bad{fill:var(--bad)}.wait{fill:var(--wait)}.shut{fill:var(--shut)}
@media print{body{max-width:none}}
`;

export function reportHtml(parts: readonly ReportPart[]): string {
  const title = inHtml(titleOf(parts));
  const overview = parts.length === 1 ? '' : htmlTable(overviewTable(parts), 'Regions', linksTo(parts));
  return `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>${title}</title>
<style>${STYLE}</style></head><body>
<h1>${title}</h1>
${overview}
${parts.map((part, at) => htmlPart(part, at, parts.length)).join('\n')}
</body></html>
`;
}

function htmlPart(part: ReportPart, at: number, of: number): string {
  const heading = of === 1 ? '' : `<h2>${inHtml(part.region)}</h2>\n`;
  if (part.rollout === undefined)
    return `<section id="part-${at}">\n${heading}<p>${inHtml(nothingIn(part))}</p>\n</section>`;
  const [facts, ...tables] = tablesOf(part);
  const titled = [...tables, courseTable(part)].map(
    (table) => `<h3>${inHtml(table.title)}</h3>\n${htmlTable(table, table.title)}`,
  );
  return `<section id="part-${at}">
${heading}<p class="state">${inHtml(headline(part))}</p>
<p>Rollout ${inHtml(part.rollout.id)}</p>
${facts === undefined ? '' : htmlTable(facts, facts.title)}
${timelineSvg(part)}
${titled.join('\n')}
</section>`;
}

/** `first`: makes the HTML of a row's first cell. */
function htmlTable(
  { lead, head, rows, none }: Table,
  label: string,
  first?: (row: number) => string,
): string {
  const sentences = lead.map((line) => `<p>${inHtml(line)}</p>\n`).join('');
  if (rows.length === 0) return `${sentences}${none === '' ? '' : `<p>${inHtml(none)}</p>`}`;
  const named = head.some((cell) => cell !== '')
    ? `<tr>${head.map((cell) => `<th scope="col">${inHtml(cell)}</th>`).join('')}</tr>\n`
    : '';
  const lines = rows.map(([cell = '', ...cells], at) => {
    const rest = cells.map((one) => `<td>${inHtml(String(one))}</td>`).join('');
    return `<tr><th scope="row">${first?.(at) ?? inHtml(String(cell))}</th>${rest}</tr>`;
  });
  return `${sentences}<table aria-label="${inHtml(label)}">\n${named}${lines.join('\n')}\n</table>`;
}

function linksTo(parts: readonly ReportPart[]): (row: number) => string {
  return (row) => `<a href="#part-${row}">${inHtml(parts[row]?.region ?? '')}</a>`;
}

function titleOf(parts: readonly ReportPart[]): string {
  const versions = parts.map((part) =>
    part.rollout === undefined ? part.version : summarise(part.rollout, part.progress).version,
  );
  const [part] = parts;
  const what = [...new Set(versions.filter((one) => one !== undefined))].join(', ');
  if (parts.length > 1 || part === undefined) return `${what} in ${parts.length} Regions`;
  const cluster = part.rollout === undefined ? part.cluster : part.rollout.spec.where.cluster;
  return `${what} in ${cluster}, ${part.region}`;
}

function overviewTable(parts: readonly ReportPart[]): Table {
  return {
    title: 'Regions',
    lead: [],
    head: ['Region', 'cluster', 'how it stands'],
    rows: parts.map((part) => [
      part.region,
      part.rollout === undefined ? part.cluster : part.rollout.spec.where.cluster,
      part.rollout === undefined ? nothingIn(part) : headline(part),
    ]),
    none: '',
  };
}

function nothingIn({
  version = 'Nothing',
  cluster,
}: {
  version: string | undefined;
  cluster: string;
}): string {
  return `Not begun: ${version} has reached no node of ${cluster}.`;
}

/** One row for each zone, time to the right: batches, waits and failures, with closed windows shaded behind them. */
function timelineSvg(told: Told): string {
  const { rollout, progress, events } = told;
  if (events.length === 0 && progress.course === undefined) return '<p>The course is not known.</p>';
  const startMs = startOf(told);
  const endMs = endOf(told);
  const left = 110;
  const width = 960;
  const row = 34;
  const x = (ms: number) => left + ((ms - startMs) / (endMs - startMs)) * (width - left - 10);
  const height = 40 + rollout.zones.length * row;
  const shut = closures(told).map(
    ({ fromMs, toMs }) =>
      `<rect class="shut" x="${x(fromMs).toFixed(1)}" y="4" width="${(x(toMs) - x(fromMs)).toFixed(1)}" height="${height - 36}"><title>outside of the windows, ${duration(toMs - fromMs)}</title></rect>`,
  );
  const bars = barsOf(told).map((bar) => {
    const look = bar.kind === 'bake' ? 'wait' : bar.failed > 0 ? 'bad' : 'good';
    const y = 10 + bar.zone * row + (bar.kind === 'bake' ? 9 : 0);
    const thick = bar.kind === 'bake' ? 6 : 24;
    const wide = Math.max(1.5, x(bar.toMs) - x(bar.fromMs) - 0.5);
    const title = `${bar.label}${bar.failed > 0 ? `, ${bar.failed} failed` : ''}`;
    return `<rect class="${look}" x="${x(bar.fromMs).toFixed(1)}" y="${y}" width="${wide.toFixed(1)}" height="${thick}"><title>${inHtml(title)}</title></rect>`;
  });
  const names = rollout.zones.map(
    (zone, at) => `<text x="0" y="${27 + at * row}" fill="currentColor">${inHtml(zone.zoneId)}</text>`,
  );
  const foot = height - 8;
  const key = `green: batches, red: with failures, grey: waits${shut.length === 0 ? '' : ', shaded: outside of the windows'}`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="system-ui,sans-serif" font-size="13" role="img" aria-label="Course of the rollout; the last table says the same">
${[...shut, ...names, ...bars].join('\n')}
<text x="${left}" y="${foot}" fill="currentColor">${time(startMs)}</text>
<text x="${width - 10}" y="${foot}" text-anchor="end" fill="currentColor">+${duration(endMs - startMs)}; ${key}</text>
</svg>`;
}

const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

function inHtml(text: string): string {
  return text.replace(/[&<>"]/g, (character) => entities[character] ?? '');
}
