// The verbs of `eniboot rollout` that change something: run, resume, takeover, rollback, abandon and halt.
import { Failure, isFailure } from '../messages/failure.ts';
import { INTERRUPTED, interruption, whoami } from '../port/runtime.ts';
import type { Progress } from '../rollout/progress.ts';
import type { RolloutRecord } from '../rollout/record.ts';
import type { List, Part, Recorded, Site } from '../rollout/regions.ts';
import type { GateQuestion } from '../rollout/work.ts';
import type { CommandIo } from './command.ts';
import { openSink } from './event-sink.ts';
import { type Asked, owner, sitesOf, specSites } from './rollout-sites.ts';

export async function run(asked: Asked, io: CommandIo): Promise<number> {
  const sites = await specSites(asked, 'leased', io);
  const regions = await import('../rollout/regions.ts');
  return conduct(sites, asked, io, (list) => regions.run(list, asked.over));
}

export async function resume(asked: Asked, io: CommandIo): Promise<number> {
  return goOn(await sitesOf(asked, 'leased', io), asked, io, new Map());
}

/** The process with the lease may be dead. An operator who knows that need not wait until the lease ends. */
export async function takeover(asked: Asked, io: CommandIo): Promise<number> {
  const sites = await sitesOf(asked, 'leased', io);
  const { findBegun } = await import('../rollout/regions.ts');
  const held: [Site, Recorded][] = [];
  for (const site of sites) {
    const found = await findBegun(site);
    if (found?.standing.holder !== undefined) held.push([site, found]);
  }
  if (!asked.yes && held.length > 0) return showHolders(held, asked, io);
  const from = new Map(held.map(([site, { standing }]) => [site, standing.holder?.token ?? '']));
  return goOn(sites, asked, io, from);
}

async function showHolders(held: [Site, Recorded][], asked: Asked, io: CommandIo): Promise<number> {
  const { summarise } = await import('../rollout/summary.ts');
  for (const [{ region, cluster }, { standing, rollout }] of held) {
    const { version, state, next } = summarise(rollout, standing.progress);
    const who = standing.holder?.who;
    const written = new Date(standing.writtenMs).toISOString();
    const until = new Date(standing.heldUntilMs).toISOString();
    if (asked.json)
      io.stdout(
        `${JSON.stringify({ region, id: standing.id, version, state, holder: who, written, until })}\n`,
      );
    else
      io.stdout(
        `${who} works on ${version} in ${region} (rollout ${standing.id}, ${state}; next: ${next ?? 'its end'})
its record was written last at ${written}, and its lease ends at ${until}
if that process is dead, \`eniboot rollout takeover ${meaning(asked, cluster)} --yes\` goes on at once;
if it lives, it sends nothing more once it sees that its lease is gone
`,
      );
  }
  return 1;
}

/** The arguments that select the rollout. */
function meaning({ specs }: Asked, cluster: string): string {
  return specs.length === 0 ? `--cluster ${cluster}` : specs.join(' ');
}

/** `from`: tokens of the processes whose leases are taken away. */
async function goOn(
  sites: Site[],
  asked: Asked,
  io: CommandIo,
  from: ReadonlyMap<Site, string>,
): Promise<number> {
  const regions = await import('../rollout/regions.ts');
  return conduct(sites, asked, io, (list) => regions.resume(list, { forgive: asked.forgive, from }));
}

export async function rollback(asked: Asked, io: CommandIo): Promise<number> {
  const sites = await sitesOf(asked, 'leased', io);
  const { takeBack } = await import('../rollout/regions.ts');
  return conduct(sites, asked, io, takeBack);
}

export async function abandon(asked: Asked, io: CommandIo): Promise<number> {
  const sites = await sitesOf(asked, 'leased', io);
  const { abandonAll, findBegun } = await import('../rollout/regions.ts');
  const { summarise } = await import('../rollout/summary.ts');
  await abandonAll({ sites, owner: owner() });
  const objects: object[] = [];
  for (const site of sites) {
    const { region, cluster } = site;
    const found = await findBegun(site);
    const summary = found === undefined ? undefined : summarise(found.rollout, found.standing.progress);
    objects.push({ region, cluster, ...(summary ?? { state: 'not-begun' }) });
    if (asked.json) continue;
    const where = sites.length === 1 ? cluster : `${cluster}, ${region}`;
    io.stdout(
      summary === undefined
        ? `it has not begun in ${where}\n`
        : `${summary.version} in ${where}: ${summary.state}; ${summary.updated + summary.already} of ${summary.nodes} nodes run it. A new rollout may begin.\n`,
    );
  }
  if (asked.json) io.stdout(`${JSON.stringify(sites.length === 1 ? objects[0] : { regions: objects })}\n`);
  return 0;
}

export async function halt(asked: Asked, io: CommandIo): Promise<number> {
  const sites = await sitesOf(asked, 'work', io);
  const { raiseHaltFlag } = await import('../rollout/halt.ts');
  const why = `${asked.why ?? 'halted'} (${whoami()})`;
  // A Region that does not answer does not keep the flag from being raised in the others.
  const raised = await Promise.allSettled(sites.map(({ aws, cluster }) => raiseHaltFlag(aws, cluster, why)));
  for (const [at, one] of raised.entries()) {
    if (one.status === 'fulfilled') continue;
    if (sites.length === 1 || !(one.reason instanceof Failure)) throw one.reason;
    const { code, message, facts } = one.reason;
    throw new Failure(code, `not halted in ${sites[at]?.region}: ${message}`, facts, one.reason);
  }
  // The flag is raised in any case; but with a mistyped cluster name it stops nothing, so the operator is told.
  const recorded = await Promise.all(sites.map(isRecorded));
  const clusters = [...new Set(sites.map((one) => one.cluster))].join(', ');
  if (!recorded.includes(true))
    throw new Failure(
      'ROLLOUT_NONE',
      `the halt flag of ${clusters} is raised, but no rollout of ${clusters} is recorded in ${sites.length === 1 ? 'this region' : 'these Regions'}: nothing was stopped by it. Is the name right?`,
      { cluster: clusters, halted: true },
    );
  const objects = sites.map(({ region, cluster }) => ({ region, cluster, halted: true, why }));
  const where = sites.map(({ region, cluster }) =>
    sites.length === 1 ? cluster : `${cluster} in ${region}`,
  );
  io.stdout(
    asked.json
      ? `${JSON.stringify(objects.length === 1 ? objects[0] : { regions: objects })}\n`
      : `${where.join(', ')} is halted: nodes in flight finish or go back, no others are touched. \`eniboot rollout resume\` lifts it.\n`,
  );
  return 0;
}

async function isRecorded({ aws, cluster, clock }: Site): Promise<boolean> {
  const { readRollout } = await import('../rollout/record.ts');
  try {
    await readRollout(aws, cluster, clock);
    return true;
  } catch (error) {
    if (isFailure(error, 'ROLLOUT_NONE')) return false;
    throw error;
  }
}

/** Carries the list as far as it goes. Returns the exit code. Throws ROLLOUT_HALTED. */
async function conduct(
  sites: readonly Site[],
  asked: Asked,
  io: CommandIo,
  work: (list: List) => Promise<Part[]>,
): Promise<number> {
  const stopped = interruption();
  let carried = 0;
  const parts = await work({
    sites,
    owner: owner(),
    stopped,
    carry(site, record, haltFor) {
      carried += 1;
      if (sites.length > 1 && !asked.json) io.stdout(`${site.region}: ${site.cluster}\n`);
      return carryOut(site, record, asked, io, { stopped, haltFor });
    },
  });
  const back = asked.verb === 'rollback';
  const open = parts.filter(({ state }) => isOpen(state, back));
  const halted = parts.filter((one) => one.state === 'halted');
  if (halted.length > 0) throw haltedFailure(parts, halted, open);
  const outcome = open.length > 0 ? 'interrupted' : 'ended';
  if (asked.json) io.stdout(`${JSON.stringify({ outcome, regions: parts })}\n`);
  else if (parts.length > 1) for (const one of parts) io.stdout(`${one.region}: ${said[one.state]}\n`);
  else if (carried === 0 && open.length === 0) io.stdout(nothingToDo(parts[0], back));
  if (open.length === 0) return 0;
  io.stderr(`eniboot: stopped here; \`eniboot rollout ${back ? 'rollback' : 'resume'}\` goes on\n`);
  return INTERRUPTED;
}

/** Whether a Region still has something to do. */
function isOpen(state: Part['state'], back: boolean): boolean {
  return state === 'running' || (back ? state === 'done' : state === 'not-begun');
}

const said: Record<Part['state'], string> = {
  'not-begun': 'not begun',
  running: 'stopped where it is',
  halted: 'halted',
  done: 'done',
  'rolled-back': 'taken back',
  abandoned: 'abandoned',
};

function nothingToDo(part: Part | undefined, back: boolean): string {
  if (part?.state === 'not-begun') return 'nothing of it has begun\n';
  if (back) return part?.state === 'abandoned' ? 'it was abandoned\n' : 'it has been taken back already\n';
  const how = { done: 'it is done', abandoned: 'it was abandoned' } as Record<string, string>;
  return `there is nothing to go on with: ${how[part?.state ?? ''] ?? 'it has been taken back'}\n`;
}

function haltedFailure(parts: readonly Part[], halted: readonly Part[], open: readonly Part[]): Failure {
  const whys = halted.map(({ region, why = 'halted' }) =>
    parts.length === 1 ? why : `in ${region}: ${why}`,
  );
  const rest = open.map(({ region, state }) => `${region} (${said[state]})`).join(', ');
  return new Failure('ROLLOUT_HALTED', `${whys.join('; ')}${rest === '' ? '' : `; not reached: ${rest}`}`, {
    regions: parts,
  });
}

/** Carries a rollout from where its record stands to its end. */
async function carryOut(
  { region, aws, clock }: Site,
  record: RolloutRecord,
  asked: Asked,
  io: CommandIo,
  { stopped, haltFor }: { stopped: AbortSignal; haltFor: string | undefined },
): Promise<Progress> {
  const { orchestrate } = await import('../rollout/orchestrate.ts');
  const { openMirror } = await import('../rollout/mirror.ts');
  const { rolloutView } = await import('./rollout-view.ts');
  const warn = (text: string) => io.stderr(`eniboot: ${text}\n`);
  const mirror = openMirror(record.rollout, warn);
  const nowMs = () => clock.now().getTime();
  const sink = asked.onEvent === undefined ? undefined : openSink(asked.onEvent, warn);
  const view = asked.json ? undefined : rolloutView(record.rollout, record.progress, io, nowMs);
  try {
    return await orchestrate({
      aws,
      clock,
      record,
      stopped,
      gate: (question) => askProgram(question, region),
      ...(haltFor === undefined ? {} : { haltFor }),
      tell: (happening) => {
        const event = mirror.note(happening, record.progress, nowMs());
        if (asked.json) io.stdout(`${JSON.stringify({ region, ...event })}\n`);
        sink?.write({ region, ...event });
        view?.show(event, record.progress);
      },
    });
  } finally {
    view?.stop();
    await sink?.end();
  }
}

/** Runs gate.command; it passes with exit code 0. Its output goes into the report. */
async function askProgram(
  question: GateQuestion,
  region: string,
): Promise<{ passed: boolean; said: string }> {
  const { run: start } = await import('../port/exec.ts');
  const { endingOf, succeeded } = await import('../port/exec-result.ts');
  const [file = '', ...args] = question.command;
  const result = await start(file, args, {
    timeoutMs: question.timeoutMs,
    env: {
      ENIBOOT_ROLLOUT: question.rollout,
      ENIBOOT_VERSION: question.version,
      ENIBOOT_REGION: region,
      ENIBOOT_ZONE: question.zoneId,
      ENIBOOT_AFTER: question.after,
    },
  });
  const said = `${result.stdout}\n${result.stderr}`.trim().split('\n').slice(-3).join('; ').slice(0, 200);
  return { passed: succeeded(result), said: `${file} ${endingOf(result)}${said === '' ? '' : `: ${said}`}` };
}
