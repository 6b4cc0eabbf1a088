// The verbs of `eniboot rollout` that only look: plan, status, verify, watch and report.
import { Failure } from '../messages/failure.ts';
import { systemClock } from '../port/clock.ts';
import { INTERRUPTED, interruption } from '../port/runtime.ts';
import type { Recorded, Site } from '../rollout/regions.ts';
import type { CommandIo } from './command.ts';
import { failureLines, failureObject } from './failure-text.ts';
import { requireWritable } from './named-files.ts';
import { type Asked, onlySite, sitesOf, specSites } from './rollout-sites.ts';
import { redrawn } from './table.ts';

/** Milliseconds between two looks of `watch`. */
const WATCH_MS = 5_000;

export async function plan(asked: Asked, io: CommandIo): Promise<number> {
  if (asked.svg !== undefined) {
    if (asked.specs.length > 1) throw new Failure('USAGE', 'eniboot rollout plan: --svg is for one spec');
    requireWritable(asked.svg);
  }
  const sites = await specSites(asked, 'look', io);
  const { planAll } = await import('../rollout/regions.ts');
  const { planObject, planSvg, planText } = await import('../rollout/plan-picture.ts');
  const planned = await planAll(sites, asked.over);
  const [first] = planned;
  if (asked.svg !== undefined && first !== undefined) await writeText(asked.svg, planSvg(first.prepared));
  const objects = planned.map(({ site, prepared, refusals }) => ({
    region: site.region,
    ...planObject(prepared),
    refusals: refusals.map(failureObject),
  }));
  if (asked.json) io.stdout(`${JSON.stringify(oneOrAll(objects))}\n`);
  else
    for (const { site, prepared, refusals } of planned) {
      io.stdout(`${heading(planned.length, site)}${planText(prepared)}`);
      const where = planned.length === 1 ? '' : ` in ${site.region}`;
      for (const one of refusals)
        io.stderr(`\`run\` would refuse it${where}: ${failureLines(failureObject(one)).join('\n')}\n`);
    }
  return planned.every((one) => one.refusals.length === 0) ? 0 : 1;
}

export async function status(asked: Asked, io: CommandIo): Promise<number> {
  const sites = await sitesOf(asked, 'look', io);
  const { lookAt } = await import('../rollout/regions.ts');
  const { readHaltFlag } = await import('../rollout/halt.ts');
  const { summarise, exceptionsOf } = await import('../rollout/summary.ts');
  const { prometheusText } = await import('../rollout/metrics.ts');
  const objects: object[] = [];
  const begun: Parameters<typeof prometheusText>[0][number][] = [];
  const texts: string[] = [];
  for (const site of sites) {
    const { region, cluster, aws } = site;
    const recorded = await lookAt(site);
    const haltFlag = (await readHaltFlag(aws, cluster))?.why;
    if (recorded?.ours === true) {
      const { rollout, standing } = recorded;
      const summary = { region, ...summarise(rollout, standing.progress) };
      const exceptions = exceptionsOf(rollout, standing.progress);
      begun.push(summary);
      objects.push({ ...summary, holder: standing.holder?.who, haltFlag, exceptions });
    } else objects.push({ region, cluster, state: 'not-begun', haltFlag });
    const lines =
      recorded?.ours === true
        ? await standingLines(recorded, cluster, haltFlag, io)
        : [await notBegunLine(site, recorded), ...flagLines(haltFlag)];
    texts.push(`${heading(sites.length, site)}${lines.map((line) => `${line}\n`).join('')}`);
  }
  if (asked.prometheus) io.stdout(prometheusText(begun));
  else if (asked.json) io.stdout(`${JSON.stringify(oneOrAll(objects))}\n`);
  else io.stdout(texts.join('\n'));
  return begun.some((one) => one.state === 'halted') ? 1 : 0;
}

async function standingLines(
  { standing, rollout }: Recorded,
  cluster: string,
  haltFlag: string | undefined,
  io: CommandIo,
): Promise<string[]> {
  const { alarmLines, summarise, exceptionsOf, strayLines } = await import('../rollout/summary.ts');
  const { nextLine, zoneLines } = await import('./rollout-view.ts');
  const summary = summarise(rollout, standing.progress);
  const exceptions = exceptionsOf(rollout, standing.progress);
  const at = new Date(summary.startedMs).toISOString().slice(0, 16);
  const who = standing.holder === undefined ? 'no process works on it' : `${standing.holder.who} works on it`;
  return [
    `${summary.version} in ${cluster}: ${summary.state}${summary.why === undefined ? '' : `: ${summary.why}`}`,
    `rollout ${summary.id}, begun ${at}Z by ${summary.startedBy}; ${who}`,
    ...flagLines(haltFlag),
    ...zoneLines(summary.zones, io.isTTY),
    ...alarmLines(summary),
    nextLine(summary),
    ...strayLines(summary),
    ...exceptions.slice(0, 20).map((one) => `  ${one.zoneId}  ${one.instanceId}  ${one.outcome}`),
    ...(exceptions.length > 20 ? [`  and ${exceptions.length - 20} more: eniboot rollout report`] : []),
  ];
}

function flagLines(haltFlag: string | undefined): string[] {
  return haltFlag === undefined ? [] : [`the halt flag is up: ${haltFlag}`];
}

export async function verify(asked: Asked, io: CommandIo): Promise<number> {
  const sites = await sitesOf(asked, 'work', io);
  const { isAdrift, verifyFleet, verifyText } = await import('../rollout/verify.ts');
  const { subjectOf } = await import('../rollout/spec.ts');
  const all = [];
  for (const site of sites) {
    const verified = await verifyFleet(site.aws, site.clock, site.cluster);
    all.push({ region: site.region, ...verified });
    if (!asked.json) io.stdout(`${heading(sites.length, site)}${verifyText(verified)}`);
  }
  if (asked.json) io.stdout(`${JSON.stringify(oneOrAll(all))}\n`);
  // A Region that runs another version than its spec's may show no drift, and the list is still not done there.
  const lacking = all.some(
    ({ rollout }, at) => sites[at]?.spec !== undefined && rollout?.version !== subjectOf(sites[at].spec),
  );
  return lacking || all.some(isAdrift) ? 1 : 0;
}

export async function watch(asked: Asked, io: CommandIo): Promise<number> {
  const { aws, clock, cluster } = await onlySite(asked, 'work', io);
  const stopped = interruption();
  const { readRollout } = await import('../rollout/record.ts');
  const { summarise } = await import('../rollout/summary.ts');
  const { watchLines } = await import('./rollout-view.ts');
  let shown = '';
  let drawn = 0;
  let standing = await readRollout(aws, cluster, clock);
  const rollout = await standing.rollout();
  while (!stopped.aborted) {
    const holder = standing.holder?.who;
    const summary = summarise(rollout, standing.progress);
    const text = JSON.stringify({ ...summary, holder });
    if (text !== shown && asked.json) io.stdout(`${text}\n`);
    // On a terminal the text is redrawn even when only the elapsed time has changed.
    else if (!asked.json && (text !== shown || io.isTTY)) {
      const lines = watchLines(rollout, standing.progress, holder, clock.now().getTime(), io.isTTY);
      io.stdout(io.isTTY ? redrawn(lines, drawn, io.columns) : lines.map((line) => `${line}\n`).join(''));
      drawn = lines.length;
    }
    shown = text;
    if (summary.state !== 'running') return summary.state === 'halted' ? 1 : 0;
    await systemClock.sleep(WATCH_MS, stopped).catch(() => {});
    if (!stopped.aborted) standing = await readRollout(aws, cluster, clock);
    if (standing.id !== rollout.id) return 0;
  }
  return INTERRUPTED;
}

export async function report(asked: Asked, io: CommandIo): Promise<number> {
  if (asked.html !== undefined) requireWritable(asked.html);
  const sites = await sitesOf(asked, 'look', io);
  const { findBegun } = await import('../rollout/regions.ts');
  const { readEvents } = await import('../rollout/mirror.ts');
  const { reportHtml, reportMarkdown } = await import('../rollout/report.ts');
  const { exceptionsOf, summarise } = await import('../rollout/summary.ts');
  const { subjectOf } = await import('../rollout/spec.ts');
  const parts = [];
  for (const site of sites) {
    const { region, cluster } = site;
    const found = await findBegun(site);
    if (found === undefined) parts.push({ region, cluster, version: site.spec && subjectOf(site.spec) });
    else {
      const { rollout, standing } = found;
      parts.push({ region, rollout, progress: standing.progress, events: readEvents(rollout.id) });
    }
  }
  if (asked.html !== undefined) await writeText(asked.html, reportHtml(parts));
  const objects = parts.map((one) =>
    one.rollout === undefined
      ? { ...one, state: 'not-begun' }
      : {
          region: one.region,
          summary: summarise(one.rollout, one.progress),
          exceptions: exceptionsOf(one.rollout, one.progress),
          events: one.events,
        },
  );
  if (asked.json) io.stdout(`${JSON.stringify(oneOrAll(objects))}\n`);
  else if (asked.html === undefined) io.stdout(reportMarkdown(parts));
  return 0;
}

/** One Region is the object itself; several Regions are below `regions`. */
function oneOrAll(objects: readonly object[]): object {
  const [first = {}] = objects;
  return objects.length === 1 ? first : { regions: objects };
}

function heading(sites: number, { region }: Site): string {
  return sites === 1 ? '' : `${region}\n`;
}

async function notBegunLine({ cluster, spec }: Site, recorded: Recorded | undefined): Promise<string> {
  const { subjectOf } = await import('../rollout/spec.ts');
  const other =
    recorded === undefined
      ? ''
      : `; recorded is ${subjectOf(recorded.rollout.spec)}: ${recorded.standing.progress.state}`;
  return `${spec === undefined ? 'it' : subjectOf(spec)} has not begun in ${cluster}${other}`;
}

async function writeText(path: string, text: string): Promise<void> {
  const { writeAtomic } = await import('../port/fs.ts');
  writeAtomic(path, text);
}
