// Rollouts of a version in several Regions: forward in the order of the list, back in reverse. Each Region has its own record
// and lease. Nothing is recorded about the list as a whole: its state follows from the records.
import type { FleetAws } from '../aws/fleet.ts';
import { Failure, isFailure, messageOf } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { beginRollout, type Prepared, prepare, refusalsOf, releaseIn } from './begin.ts';
import { lowerHaltFlag, readHaltFlag } from './halt.ts';
import {
  abandoned,
  halted,
  isOver,
  overBudget,
  type Progress,
  type Rollout,
  resumed,
  stepsOf,
  takenBack,
} from './progress.ts';
import { type Owner, type RolloutRecord, readRollout, type Standing, takeRecord } from './record.ts';
import { type Spec, subjectOf } from './spec.ts';

/** A Region of the list. */
export interface Site {
  region: string;
  cluster: string;
  /** undefined where only the cluster is known: then the recorded rollout is meant, whatever it is. */
  spec: Spec | undefined;
  aws: FleetAws;
  clock: Clock;
}

/** The state of the rollout in one Region. */
export interface Part {
  region: string;
  cluster: string;
  state: Progress['state'] | 'not-begun';
  /** Why the rollout is halted. */
  why: string | undefined;
}

/** The recorded rollout of a Region. */
export interface Recorded {
  standing: Standing;
  rollout: Rollout;
  /** Whether it belongs to the list: it rolls out the version of the site's spec. */
  ours: boolean;
}

export interface List {
  sites: readonly Site[];
  owner: Owner;
  /** When aborted, nothing begins any more; what is under way ends at the next moment at which nothing is lost. */
  stopped: AbortSignal;
  /**
   * Carries a rollout on from where its record stands. With `haltFor` it only judges what is in flight, and then halts for that
   * reason.
   */
  carry(site: Site, record: RolloutRecord, haltFor?: string): Promise<Progress>;
}

interface Planned {
  site: Site;
  prepared: Prepared;
  /** Why the rollout cannot begin. */
  refusals: Failure[];
}

/** The recorded rollout in a Region; undefined where there is none. Without a spec it throws ROLLOUT_NONE instead. */
export async function lookAt({ aws, clock, cluster, spec }: Site): Promise<Recorded | undefined> {
  try {
    const standing = await readRollout(aws, cluster, clock);
    const rollout = await standing.rollout();
    return { standing, rollout, ours: spec === undefined || subjectOf(spec) === subjectOf(rollout.spec) };
  } catch (error) {
    if (spec !== undefined && isFailure(error, 'ROLLOUT_NONE')) return undefined;
    throw error;
  }
}

/** As lookAt, but undefined also where the record is of another version: there the list has not begun. */
export async function findBegun(site: Site): Promise<Recorded | undefined> {
  const recorded = await lookAt(site);
  return recorded?.ours === true ? recorded : undefined;
}

/**
 * Plans all Regions. Changes nothing. Throws as `prepare`, naming the Region. `release`: the release that all have to have;
 * default: that of the first Region.
 */
export async function planAll(sites: readonly Site[], over?: string, release?: string): Promise<Planned[]> {
  const planned: Planned[] = [];
  for (const site of sites)
    planned.push(
      await within(sites, site, async () => {
        const prepared = await prepare(site.aws, specOf(site));
        const refusals = await refusalsOf(site.aws, site.clock, prepared, over);
        const other = otherContent(prepared, release ?? planned[0]?.prepared.release);
        return { site, prepared, refusals: other === undefined ? refusals : [other, ...refusals] };
      }),
    );
  return planned;
}

/** A version must have the same content everywhere: otherwise what one Region has proven says nothing about the next. */
function otherContent({ spec, release }: Prepared, wanted: string | undefined): Failure | undefined {
  const [here, there] = [releaseIn(release), releaseIn(wanted)];
  for (const arch of ['x64', 'arm64'] as const) {
    const [own, other] = [here?.[arch]?.sha256, there?.[arch]?.sha256];
    if (own === undefined || other === undefined || own === other) continue;
    return new Failure(
      'RELEASE_DIFFERS',
      `the ${arch} archive of ${subjectOf(spec)} has SHA-256 ${own} here, and ${other} in the first Region`,
      { arch, sha256: own, wanted: other },
    );
  }
  return undefined;
}

/** Begins in each Region once the Region before is done. `over` as beginRollout. Returns the state in each Region. */
export async function run(list: List, over?: string): Promise<Part[]> {
  return goForward(list, new Map(), { over });
}

interface Resume {
  /** Failures so far no longer count. */
  forgive: boolean;
  /** By site, the token of the process whose lease is taken away. */
  from: ReadonlyMap<Site, string>;
}

/**
 * Continues the list: Regions that are done stay done, halted ones go on, the others begin. Throws ROLLOUT_NONE when none has
 * begun, ROLLOUT_BUSY when one is being taken back or was, USAGE for another order than that of `run`.
 */
export async function resume(list: List, { forgive, from }: Resume): Promise<Part[]> {
  const begun = await findAll(list);
  if (begun.size === 0)
    throw new Failure('ROLLOUT_NONE', 'no rollout of these specs has begun: `rollout run` begins them', {});
  refuseOrder(list, begun);
  for (const [site, { standing, rollout }] of begun) {
    const { direction, state } = standing.progress;
    if (site.spec === undefined || (direction === 'forward' && state !== 'abandoned')) continue;
    const how =
      state === 'abandoned'
        ? 'was abandoned'
        : isOver(standing.progress)
          ? 'has been taken back'
          : 'is being taken back: `rollout rollback` goes on with that';
    throw new Failure(
      'ROLLOUT_BUSY',
      `in ${site.region}: rollout ${rollout.id} of ${subjectOf(rollout.spec)} ${how}. To bring it there once more, \`rollout run\` with the specs of the Regions that do not have it`,
      { id: rollout.id, region: site.region },
    );
  }
  return goForward(list, begun, { resume: { forgive, from } });
}

/** With the wrong order, a Region would begin while an earlier one is halted. */
function refuseOrder({ sites }: List, begun: ReadonlyMap<Site, Recorded>): void {
  const gap = sites.findIndex((site) => !begun.has(site));
  const behind = gap < 0 ? undefined : sites.slice(gap).find((site) => begun.has(site));
  if (behind === undefined) return;
  throw new Failure(
    'USAGE',
    `eniboot rollout: ${behind.region} has begun and ${sites[gap]?.region}, which stands before it, has not: give the specs in the order in which they ran`,
  );
}

async function findAll({ sites }: Pick<List, 'sites'>): Promise<Map<Site, Recorded>> {
  const begun = new Map<Site, Recorded>();
  for (const site of sites) {
    const found = await within(sites, site, () => findBegun(site));
    if (found !== undefined) begun.set(site, found);
  }
  return begun;
}

/** What is known while a list goes forward. */
interface Way {
  /** By site that has begun, the ID of its rollout. */
  ids: Map<Site, string>;
  /** By site that has not begun, its plan. */
  plans: Map<Site, Prepared>;
  /** The release that each of them has to have. */
  release: string | undefined;
  over: string | undefined;
}

async function goForward(
  list: List,
  begun: ReadonlyMap<Site, Recorded>,
  { over, resume: how }: { over?: string | undefined; resume?: Resume },
): Promise<Part[]> {
  const { sites, stopped } = list;
  const parts = sites.map((site) => partOf(site, begun.get(site)?.standing.progress));
  const way = await planWay(sites, begun, over);
  let flagged = how !== undefined;
  for (const [at, site] of sites.entries()) {
    const there = begun.get(site)?.standing.progress;
    if (there !== undefined && isOver(there)) continue;
    if (stopped.aborted) break;
    const carried = async () => {
      const taken = there === undefined ? undefined : await takeUp(list, site, how);
      if (flagged) for (const one of sites) await lowerHaltFlag(one.aws, one.cluster);
      flagged = false;
      await taken?.record.save(taken.next);
      const record = taken?.record ?? (await begin(list, site, sites.slice(0, at), way));
      parts[at] = partOf(site, record.progress);
      return list.carry(site, record);
    };
    const progress = await within(sites, site, carried, parts);
    parts[at] = partOf(site, progress);
    // Plans are dropped: hours later the fleets have changed.
    way.plans.clear();
    if (progress.state !== 'done') break;
  }
  return parts;
}

/** Plans the sites that have not begun. Throws the first reason for which one of them would be refused. */
async function planWay(
  sites: readonly Site[],
  begun: ReadonlyMap<Site, Recorded>,
  over: string | undefined,
): Promise<Way> {
  const [known] = begun.values();
  const rest = sites.filter((site) => !begun.has(site));
  const planned = await planAll(rest, over, known?.rollout.release);
  for (const { site, refusals } of planned)
    await within(sites, site, async () => {
      if (refusals[0] !== undefined) throw refusals[0];
    });
  return {
    ids: new Map([...begun].map(([site, { rollout }]) => [site, rollout.id])),
    plans: new Map(planned.map((one) => [one.site, one.prepared])),
    release: known?.rollout.release ?? planned[0]?.prepared.release,
    over,
  };
}

async function begin(
  { owner }: List,
  site: Site,
  before: readonly Site[],
  { ids, plans, release, over }: Way,
): Promise<RolloutRecord> {
  await refuseStopped(before, ids);
  const { aws, clock } = site;
  const prepared = plans.get(site) ?? (await prepare(aws, specOf(site)));
  const other = otherContent(prepared, release);
  if (other !== undefined) throw other;
  const record = await beginRollout(aws, clock, owner, prepared, over);
  ids.set(site, record.rollout.id);
  try {
    // Checked a second time, after this rollout was recorded: a process that takes the list back first writes into the records
    // of the Regions that have begun, and then looks whether further ones have begun.
    await refuseStopped(before, ids);
  } catch (error) {
    const why = messageOf(error);
    await record.save(halted(record.progress, clock.now().getTime(), why));
    await record.release();
    throw error;
  }
  return record;
}

/** The next Region may follow only when each Region before it is done, not halted and not taken back since. */
async function refuseStopped(before: readonly Site[], ids: ReadonlyMap<Site, string>): Promise<void> {
  for (const site of before) {
    const { aws, clock, cluster, region } = site;
    const flag = await readHaltFlag(aws, cluster);
    if (flag !== undefined)
      throw new Failure('ROLLOUT_HALTED', `${cluster} was halted in ${region}: ${flag.why}`, { cluster });
    const { id, progress } = await readRollout(aws, cluster, clock);
    if (id === ids.get(site) && progress.state === 'done') continue;
    throw new Failure(
      'ROLLOUT_HALTED',
      `in ${region} rollout ${id} is ${progress.state}: the next Region begins only after it is done`,
      { id },
    );
  }
}

/** Takes the lease. `next`: the progress to continue with. Throws ROLLOUT_HALTED when the rollout would halt again at once. */
async function takeUp(
  { owner }: List,
  site: Site,
  how: Resume | undefined,
): Promise<{ record: RolloutRecord; next: Progress }> {
  const { aws, clock, cluster } = site;
  const record = await takeRecord(aws, clock, owner, cluster, how?.from.get(site));
  const next = resumed(record.progress, clock.now().getTime(), how?.forgive === true);
  const why = overBudget(record.rollout, next);
  if (why === undefined || next.stage !== 'ready') return { record, next };
  await record.release();
  throw new Failure('ROLLOUT_HALTED', `it would halt again at once: ${why}`, { id: record.rollout.id });
}

/**
 * Takes the list back, the last Region first. Regions in which the list has not begun are left as they are. When nodes of a
 * Region could not be brought back, the other Regions still go back; any other halt stops the way back. Throws ROLLOUT_BUSY,
 * before anything changes, while another process holds the lease in one of the Regions.
 */
export async function takeBack(list: List): Promise<Part[]> {
  const { sites, owner, stopped } = list;
  const begun = await findAll(list);
  for (const [site, { standing }] of begun) {
    const { holder, id } = standing;
    if (holder !== undefined && holder.token !== owner.token)
      throw new Failure(
        'ROLLOUT_BUSY',
        `rollout ${id} of ${holder.who}${naming(sites, site)}: its lease lasts until ${new Date(standing.heldUntilMs).toISOString()}`,
        { id, who: holder.who, state: standing.progress.state },
      );
  }
  const parts = sites.map((site) => partOf(site, begun.get(site)?.standing.progress));
  for (const [at, site] of [...sites.entries()].reverse()) {
    const there = begun.get(site)?.standing.progress;
    if (there === undefined || there.state === 'rolled-back' || there.state === 'abandoned') continue;
    if (stopped.aborted) break;
    const back = await within(sites, site, () => takeBackOne(list, site), parts);
    parts[at] = partOf(site, back.progress);
    if (back.progress.state !== 'rolled-back' && !back.through) break;
  }
  for (const site of sites.filter((one) => !begun.has(one)))
    await within(sites, site, () => leaveAlone(site));
  return parts;
}

/**
 * The process that carried the list forward may have begun this Region meanwhile. If not, a halt flag meant for the list has
 * nothing to stop here.
 */
async function leaveAlone(site: Site): Promise<void> {
  const found = await lookAt(site);
  if (found?.ours === true)
    throw new Failure(
      'ROLLOUT_BUSY',
      `rollout ${found.rollout.id} of ${found.rollout.startedBy} has begun meanwhile: take it back, too`,
      { id: found.rollout.id },
    );
  if (found === undefined || isOver(found.standing.progress)) await lowerHaltFlag(site.aws, site.cluster);
}

/** `through`: the way back has reached its end, and only nodes are left that could not be brought back. */
async function takeBackOne(list: List, site: Site): Promise<{ progress: Progress; through: boolean }> {
  const { aws, clock, cluster } = site;
  const record = await takeRecord(aws, clock, list.owner, cluster);
  if (record.progress.state === 'running') {
    // The process that ran it is gone. Nodes in flight are judged first: a node cannot be updated and taken back at once.
    const progress = await list.carry(site, record, 'it is being taken back');
    if (list.stopped.aborted) return { progress, through: false };
  }
  const again = await takeRecord(aws, clock, list.owner, cluster);
  await lowerHaltFlag(aws, cluster);
  await again.save(takenBack(again.rollout, again.progress, clock.now().getTime()));
  const progress = await list.carry(site, again);
  const through = progress.state === 'halted' && progress.step >= stepsOf(again.rollout, progress).length;
  return { progress, through };
}

/** Ends unfinished rollouts where they stand: nodes keep what they run. Throws ROLLOUT_BUSY while nodes are in flight. */
export async function abandonAll({ sites, owner }: Pick<List, 'sites' | 'owner'>): Promise<Part[]> {
  const begun = await findAll({ sites });
  const parts = sites.map((site) => partOf(site, begun.get(site)?.standing.progress));
  for (const [at, site] of sites.entries()) {
    const there = begun.get(site)?.standing.progress;
    if (there === undefined || isOver(there)) continue;
    parts[at] = partOf(site, await within(sites, site, () => abandonOne(site, owner)));
  }
  return parts;
}

async function abandonOne({ aws, clock, cluster }: Site, owner: Owner): Promise<Progress> {
  const record = await takeRecord(aws, clock, owner, cluster);
  const { progress, rollout } = record;
  const inFlight = progress.state === 'running' && progress.stage !== 'ready';
  if (!inFlight) await record.save(abandoned(progress, clock.now().getTime()));
  await record.release();
  if (!inFlight) return record.progress;
  throw new Failure(
    'ROLLOUT_BUSY',
    `nodes of rollout ${rollout.id} are in flight: halt and resume it, which waits for their answers, then abandon it`,
    { id: rollout.id },
  );
}

function partOf({ region, cluster }: Site, progress: Progress | undefined): Part {
  return { region, cluster, state: progress?.state ?? 'not-begun', why: progress?.why };
}

function specOf({ spec }: Site): Spec {
  if (spec === undefined) throw new Failure('INTERNAL', 'a site without a spec cannot begin');
  return spec;
}

/** ` in eu-west-1` when the list has several Regions; else empty. */
function naming(sites: readonly Site[], { region }: Site): string {
  return sites.length === 1 ? '' : ` in ${region}`;
}

/** With several Regions, a failure names the Region in which it happened. `parts`: the state in each Region. */
async function within<T>(
  sites: readonly Site[],
  { region }: Site,
  work: () => Promise<T>,
  parts: readonly Part[] = [],
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (sites.length === 1 || !(error instanceof Failure)) throw error;
    const { code, message, facts } = error;
    throw new Failure(
      code,
      `in ${region}: ${message}${notBegun(parts)}`,
      { ...facts, region, regions: parts },
      error,
    );
  }
}

/** `; not begun: us-east-1`, when a list has stopped before its last Region. */
function notBegun(parts: readonly Part[]): string {
  const left = parts.filter((one) => one.state === 'not-begun').map((one) => one.region);
  return left.length === 0 ? '' : `; not begun: ${left.join(', ')}`;
}
