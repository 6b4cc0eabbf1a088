// What a rollout does to a zone as a whole: its parameter or labels, the nodes that join it, the instances that booted in it.
import type { FleetInstance } from '../aws/fleet.ts';
import { VERDICT_TAG } from '../aws/tags.ts';
import { offerImage } from '../image/labels.ts';
import { releaseIn, zoneParameter } from './begin.ts';
import { imageParameter, lookAtBoots, promoteImage, restoreImage } from './image.ts';
import { LONGEST_BOOT_MS, reportedVersion } from './plan.ts';
import { type ActionOf, advanced, counted, joined, leftOut, type Rollout } from './progress.ts';
import { type BundleSpec, type ImageSpec, isExcluded, isImage, subjectOf, targetTags } from './spec.ts';
import { LOOK_MS, nowMs, sleep, type Work } from './work.ts';

/**
 * Versions after which `previous` is taken off: Parameter Store keeps 100, and refuses a new one while the oldest has a label.
 */
const CROWDED = 90;

type Zone = Rollout['zones'][number];
type What = 'offer' | 'promote' | 'restore';

/** Idempotent. */
export async function setZone(work: Work, action: ActionOf<What>): Promise<void> {
  const { rollout, progress, record } = work;
  const { spec, zones } = rollout;
  const zone = zones[action.zone];
  if (zone !== undefined)
    await (isImage(spec) ? moveLabel(work, spec, action.do, zone) : writeParameter(work, action.do, zone));
  await record.save(advanced(progress, nowMs(work)));
}

/** Moves labels too: `stable` to the version that the zone runs, `previous` to the one before. */
async function writeParameter({ aws, rollout }: Work, what: What, { zoneId, before }: Zone): Promise<void> {
  const { spec, release } = rollout;
  const name = zoneParameter(spec as BundleSpec, zoneId);
  const current = await aws.readParameter(name);
  const wanted = what === 'promote' ? release : before;
  if (what === 'promote' && current?.value === wanted) return;
  // A value that this rollout did not write stays.
  if (what === 'restore' && current?.value !== release && current?.value !== wanted) return;
  if (wanted === undefined) return current === undefined ? undefined : aws.deleteParameters([name]);
  if (current !== undefined) await freeOldest(aws, name, current.version);
  // Written even when the value is the same: a node that could not be brought back follows only what was written since
  // (boot/version/pin.ts).
  const version = await aws.writeParameter(name, wanted);
  if (current !== undefined && current.value !== wanted) await aws.label(name, current.version, 'previous');
  await aws.label(name, version, 'stable');
}

/**
 * A rollout that is taken back before its zone is promoted writes the same value again, and does not move `previous`: after many
 * of them `previous` is on the oldest version. It is taken off. To move it, its value would have to be written again, and for a
 * moment new nodes would come up on that value.
 */
async function freeOldest(aws: Work['aws'], name: string, latest: number): Promise<void> {
  const previous = await aws.readParameter(`${name}:previous`);
  if (previous !== undefined && latest - previous.version >= CROWDED)
    await aws.unlabel(name, previous.version, 'previous');
}

async function moveLabel({ aws, clock }: Work, image: ImageSpec, what: What, zone: Zone): Promise<void> {
  const name = imageParameter(image, zone.zoneId);
  const { id } = image.what.image;
  if (what === 'offer') await offerImage(aws, clock, name, id);
  else if (what === 'promote') await promoteImage(aws, clock, name, id);
  else await restoreImage(aws, name, id, zone.before);
}

/**
 * Adds instances to a zone: those that came up while its parameter named the other version and, forward, nodes that have become
 * reachable. Waits for instances that may have read the parameter before it was written and have not come up yet.
 */
export async function join(work: Work, { zone: at }: ActionOf<'join'>): Promise<void> {
  const { aws, rollout, progress, record } = work;
  const zone = rollout.zones[at];
  if (zone === undefined) return;
  const news = await findNews(work, zone.zoneId);
  const strays = straysIn(work, news);
  const answering = new Set(await aws.findOnline(strays));
  const isBooting = ({ instanceId, launchedMs, tags }: FleetInstance) =>
    launchedMs < progress.sinceMs &&
    nowMs(work) - launchedMs < LONGEST_BOOT_MS &&
    ((tags[VERDICT_TAG] ?? '') === '' || (strays.includes(instanceId) && !answering.has(instanceId)));
  if (news.some(isBooting)) {
    await record.keep();
    return sleep(work, LOOK_MS.longest);
  }
  const missed = progress.back === undefined ? progress.exceptions : [];
  const places = new Map(
    missed
      .filter((one) => one.zone === at && one.outcome === 'unreachable')
      .map((one) => [zone.nodes[one.node] ?? '', one.node]),
  );
  const online = await aws.findOnline([...places.keys()]);
  const late = [...online, ...answering];
  const again = online.flatMap((instanceId) => places.get(instanceId) ?? []);
  const added = late.map((_, nth) => zone.nodes.length + nth);
  const next = joined(progress, at, { again, added }, nowMs(work));
  await (late.length === 0 ? record.save(next) : record.extend(at, late, next));
}

/** IDs of the instances of all zones that came up during the rollout and do not run the version that it leaves in place. */
export async function findStrays(work: Work): Promise<string[]> {
  return straysIn(work, await findNews(work));
}

/**
 * Instances that are not among the rollout's nodes, of all zones or of one. On the way back also nodes that the rollback does
 * not ask.
 */
async function findNews({ aws, rollout, progress }: Work, zoneId?: string): Promise<FleetInstance[]> {
  const { spec, startedMs, zones } = rollout;
  if (isImage(spec)) return [];
  const left = progress.back === undefined ? new Set<string>() : leftOut(rollout, progress);
  const targets = new Set(zones.flatMap((one) => one.nodes).filter((one) => !left.has(one)));
  const ids = new Set(zones.map((one) => one.zoneId));
  const found = await aws.describeInstances(targetTags(spec), {
    zoneId,
    // Instances that were still booting when the rollout began are not among its nodes either. A reboot does not change the
    // time of the launch: nodes that are left out may be of any age.
    ...(left.size === 0 ? { sinceMs: startedMs - LONGEST_BOOT_MS } : {}),
  });
  return found.filter((one) => {
    if (left.size > 0 && !left.has(one.instanceId) && one.launchedMs < startedMs - LONGEST_BOOT_MS)
      return false;
    if (isExcluded(spec, one) || targets.has(one.instanceId)) return false;
    // An instance without a zone in EC2's answer may be in any zone: it is named rather than skipped.
    return one.zoneId === undefined || ids.has(one.zoneId);
  });
}

/**
 * IDs of the instances that booted while their zone's parameter named the other version. No command of this rollout has reached
 * them. Forward, they booted before their zone was promoted; on the way back, since then.
 */
function straysIn({ rollout, progress }: Work, news: readonly FleetInstance[]): string[] {
  const isStray = (one: FleetInstance) => {
    const version = reportedVersion(one);
    if (progress.direction === 'forward') return version !== undefined && version !== subjectOf(rollout.spec);
    const before = rollout.zones.find((zone) => zone.zoneId === one.zoneId)?.before;
    return version === subjectOf(rollout.spec) && version !== releaseIn(before)?.version;
  };
  return news.filter(isStray).map((one) => one.instanceId);
}

export async function countBoots(work: Work, { boots }: ActionOf<'count'>): Promise<void> {
  const { aws, rollout, progress, record, tell } = work;
  const seen = await lookAtBoots(aws, rollout as Rollout & { spec: ImageSpec }, boots, nowMs(work));
  const next = counted(progress, boots, seen, nowMs(work));
  const known = progress.boots?.failed.length ?? 0;
  tell({ kind: 'look', home: seen.ready, of: seen.enough });
  if (JSON.stringify(next) !== JSON.stringify(progress)) await record.save(next);
  else await record.keep();
  for (const { instanceId, outcome, reason } of next.boots?.failed.slice(known) ?? [])
    tell({ kind: 'node', judgement: { instanceId, outcome, reason } });
  if (next.step === progress.step) await sleep(work, LOOK_MS.longest);
  else tell({ kind: 'home', good: seen.ready, failed: seen.failed.length, other: 0 });
}
