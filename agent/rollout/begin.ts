// What has to be known and to hold before a rollout begins. These checks change nothing.
import type { FleetAws, FleetInstance } from '../aws/fleet.ts';
import { isOlder, parseRelease, RELEASES, type Release } from '../aws/release.ts';
import { findTestedImage } from '../image/release-image.ts';
import { Failure, type FailureCode, isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { ensureDocument } from './document.ts';
import { imageParameter } from './image.ts';
import { LONGEST_BOOT_MS, type Notes, reportedVersion, resolveTargets, type Zone } from './plan.ts';
import { begin, type Rollout } from './progress.ts';
import { createRecord, type Owner, type RolloutRecord, refuseBusy } from './record.ts';
import {
  allowedUnreachable,
  type BundleSpec,
  isExcluded,
  isImage,
  type Spec,
  targetTags,
  watchedAlarms,
} from './spec.ts';
import type { PlacedInstance } from './strata.ts';

export interface Prepared {
  spec: Spec;
  /** The release as the zone's parameter will hold it. */
  release: string;
  digests: string[];
  zones: Zone[];
  notes: Notes;
  /** By instance ID, when each unreachable node was launched: milliseconds since 1970 by EC2's clock. */
  launchedMs: ReadonlyMap<string, number>;
}

/**
 * Resolves version and targets. Throws RELEASE_UNKNOWN, RELEASE_DIFFERS, IMAGE_UNKNOWN, IMAGE_UNTESTED,
 * INSTANCE_ZONE_UNKNOWN, ROLLOUT_NO_TARGETS, and CLOUDWATCH_… where alarms cannot be read.
 */
export async function prepare(aws: FleetAws, spec: Spec): Promise<Prepared> {
  if (isImage(spec)) await findTestedImage(aws, spec.what.image.id);
  const published = isImage(spec) ? undefined : await readRelease(aws, spec as BundleSpec);
  const tags = targetTags(spec);
  const found = await aws.describeInstances(tags);
  const instances = found.filter((one) => !isExcluded(spec, one));
  const excluded = found.filter((one) => isExcluded(spec, one)).map((one) => one.instanceId);
  // A rollout of an AMI replaces nodes: whether the present ones answer does not matter.
  const online = isImage(spec) ? instances.map((one) => one.instanceId) : await aws.describeOnline(tags);
  const { zones, notes: known } = resolveTargets(spec, inZones(instances), online);
  const missing = (spec.where.zones ?? []).filter((zoneId) => !zones.some((zone) => zone.zoneId === zoneId));
  if (zones.length === 0 || missing.length > 0) {
    const where = missing.length === 0 ? '' : ` in ${missing.join(', ')}`;
    throw new Failure('ROLLOUT_NO_TARGETS', `no running instance with these tags${where}`, {
      tags,
      zones: Object.fromEntries(zones.map((zone) => [zone.zoneId, zone.nodes.length])),
    });
  }
  const downgrades = isImage(spec) ? [] : await findDowngrades(aws, spec as BundleSpec, zones, instances);
  const notes = { ...known, excluded, downgrades, alarms: await readAlarms(aws, spec) };
  const unreachable = new Set(known.unreachable);
  const launchedMs = new Map(
    instances
      .filter(({ instanceId }) => unreachable.has(instanceId))
      .map((one) => [one.instanceId, one.launchedMs]),
  );
  if (isImage(spec)) return { spec, release: spec.what.image.id, digests: [], zones, notes, launchedMs };
  if (published !== undefined) refuseOtherCpus(published.release, zones, instances);
  const { x64, arm64 } = published?.release ?? {};
  const digests = [x64, arm64].flatMap((archive) => archive?.sha256 ?? []);
  return { spec, release: published?.text ?? '', digests, zones, notes, launchedMs };
}

async function readAlarms(aws: FleetAws, spec: Spec): Promise<Notes['alarms']> {
  const names = watchedAlarms(spec);
  if (names.length === 0) return [];
  const found = new Map((await aws.describeAlarms(names)).map((one) => [one.name, one]));
  return names.map((name) => {
    const { state = 'none', reason = '' } = found.get(name) ?? {};
    return { name, state, reason };
  });
}

/** A downgrade goes ahead when the operator asks for it, but the plan has to show it. */
async function findDowngrades(
  aws: FleetAws,
  spec: BundleSpec,
  zones: readonly Zone[],
  instances: readonly FleetInstance[],
): Promise<Notes['downgrades']> {
  const { version } = spec.what.bundle;
  const reported = new Map(instances.map((one) => [one.instanceId, reportedVersion(one)]));
  const found: Notes['downgrades'] = [];
  for (const { zoneId, nodes } of zones) {
    const stored = await aws.readParameter(zoneParameter(spec, zoneId));
    // An update in place does not change the tag, which the last boot wrote: the parameter is more recent.
    const named = releaseIn(stored?.value)?.version;
    const newer = nodes.flatMap((node) => reported.get(node) ?? []).filter((one) => isOlder(version, one));
    const known = [...(named === undefined ? [] : [named]), ...newer];
    const from = known.reduce((a, b) => (isOlder(a, b) ? b : a), version);
    if (isOlder(version, from)) found.push({ zoneId, from, nodes: newer.length });
  }
  return found;
}

/** The release that a zone's parameter names; undefined when its text cannot be read as one. */
export function releaseIn(text: string | undefined): Release | undefined {
  try {
    return text === undefined ? undefined : parseRelease(text);
  } catch {
    return undefined;
  }
}

/**
 * Zones go one after the other: a node without a known zone has no place in that order, whether the spec names zones or not.
 */
function inZones(instances: readonly FleetInstance[]): PlacedInstance[] {
  const lost = instances.filter((one) => one.zoneId === undefined).map((one) => one.instanceId);
  if (lost.length === 0) return instances as PlacedInstance[];
  throw new Failure(
    'INSTANCE_ZONE_UNKNOWN',
    `EC2 tells no zone ID for ${lost.length} of ${instances.length} instances: ${lost.slice(0, 3).join(', ')}`,
    { instances: lost.slice(0, 50) },
  );
}

/**
 * Without the instances that are still booting. They boot on what their zone's parameter names, and are looked up at the end of
 * their zone, as are instances that are launched later. A zone that has only such instances keeps them.
 */
function withoutBooting(prepared: Prepared, nowMs: number): Prepared {
  const { notes, zones, launchedMs } = prepared;
  const isBooting = (node: string) => nowMs - (launchedMs.get(node) ?? 0) < LONGEST_BOOT_MS;
  const settled = zones.map((zone) => {
    const canaries = zone.canaries.reduce((sum, size) => sum + size, 0);
    const nodes = zone.nodes.filter((node, at) => at < canaries || !isBooting(node));
    return nodes.length === 0 ? zone : { ...zone, nodes };
  });
  const left = new Set(settled.flatMap(({ nodes }) => nodes));
  return {
    ...prepared,
    zones: settled,
    notes: { ...notes, unreachable: notes.unreachable.filter((node) => left.has(node)) },
  };
}

/** With more unreachable nodes than the budget allows, the rollout would halt half-way. */
function refuseUnreachable({ spec, zones, notes }: Prepared): void {
  const unreachable = new Set(notes.unreachable);
  for (const zone of zones) {
    const count = zone.nodes.filter((node) => unreachable.has(node)).length;
    const allowed = allowedUnreachable(zone.nodes.length, spec);
    if (count > allowed)
      throw new Failure(
        'ROLLOUT_UNREACHABLE',
        `${count} nodes in ${zone.zoneId} are unreachable, ${allowed} may be`,
        { instances: notes.unreachable.slice(0, 50) },
      );
  }
}

/** An alarm that is already in ALARM would halt the rollout at once, and one that does not exist would never halt it. */
function refuseAlarms({ notes }: Prepared): void {
  const having = (state: string) => notes.alarms.filter((one) => one.state === state);
  const say = (alarms: Notes['alarms']) => ({ alarms: alarms.slice(0, 50).map((one) => one.name) });
  const unknown = having('none');
  const names = unknown.slice(0, 5).map((one) => one.name);
  if (unknown.length > 0)
    throw new Failure(
      'ALARM_UNKNOWN',
      `${unknown.length} of ${notes.alarms.length} alarms do not exist: ${names.join(', ')}`,
      say(unknown),
    );
  const firing = having('ALARM');
  const [first] = firing;
  if (first !== undefined)
    throw new Failure(
      'ALARM_FIRING',
      `${firing.length} of ${notes.alarms.length} alarms are in ALARM: ${first.name}: ${first.reason}`,
      say(firing),
    );
}

const REFUSALS: FailureCode[] = [
  'ROLLOUT_UNREACHABLE',
  'ALARM_UNKNOWN',
  'ALARM_FIRING',
  'ROLLOUT_BUSY',
  'ROLLOUT_DAMAGED',
];

/** The reasons for which `run` would refuse a spec that can be planned. Reads only. */
export async function refusalsOf(
  aws: FleetAws,
  clock: Clock,
  prepared: Prepared,
  over?: string,
): Promise<Failure[]> {
  const refusals: Failure[] = [];
  const checks = [
    async () => refuseUnreachable(withoutBooting(prepared, clock.now().getTime())),
    async () => refuseAlarms(prepared),
    () => refuseBusy(aws, clock, prepared.spec.where.cluster, over),
  ];
  for (const check of checks)
    await check().catch((error: unknown) => {
      if (!(error instanceof Failure)) throw error;
      if (!isFailure(error, ...REFUSALS)) throw error;
      refusals.push(error);
    });
  return refusals;
}

/**
 * Records the rollout and takes its lease. `over`: ID of the halted rollout that this one replaces. Throws ROLLOUT_BUSY,
 * ROLLOUT_UNREACHABLE, ALARM_UNKNOWN, ALARM_FIRING, ROLLOUT_DOCUMENT_UNUSABLE.
 */
export async function beginRollout(
  aws: FleetAws,
  clock: Clock,
  owner: Owner,
  planned: Prepared,
  over?: string,
): Promise<RolloutRecord> {
  const nowMs = clock.now().getTime();
  const prepared = withoutBooting(planned, nowMs);
  refuseUnreachable(prepared);
  refuseAlarms(prepared);
  const { spec, release, digests } = prepared;
  const zones: Rollout['zones'] = [];
  for (const zone of prepared.zones) {
    if (isImage(spec)) {
      const stable = await aws.readParameter(`${imageParameter(spec, zone.zoneId)}:stable`);
      zones.push({
        ...zone,
        planned: zone.nodes.length,
        before: stable === undefined ? undefined : String(stable.version),
      });
    } else {
      const parameter = await aws.readParameter(zoneParameter(spec as BundleSpec, zone.zoneId));
      const stands = prepared.notes.canaries
        .filter((one) => one.zoneId === zone.zoneId)
        .map((one) => one.standsFor);
      zones.push({ ...zone, stands, planned: zone.nodes.length, before: parameter?.value });
    }
  }
  const rollout: Rollout = {
    schema: 1,
    id: idOf(nowMs, owner),
    startedMs: nowMs,
    startedBy: owner.who,
    spec,
    release,
    digests,
    document: isImage(spec) ? undefined : await ensureDocument(aws, clock),
    zones,
    strata: { canaries: prepared.notes.canaries, uncovered: prepared.notes.uncovered },
  };
  return createRecord(aws, clock, owner, rollout, begin(nowMs), over);
}

export function zoneParameter(spec: BundleSpec, zoneId: string): string {
  return spec.what.bundle.parameter.replaceAll('{zone-id}', zoneId);
}

async function readRelease(aws: FleetAws, { what }: BundleSpec): Promise<{ text: string; release: Release }> {
  const { version, sha256 } = what.bundle;
  const name = `${RELEASES}/${version}`;
  const stored = await aws.readParameter(name);
  if (stored === undefined)
    throw new Failure(
      'RELEASE_UNKNOWN',
      `version ${version} is not published: there is no parameter ${name}`,
      { name },
    );
  const release = readable(name, stored.value);
  for (const arch of ['x64', 'arm64'] as const) {
    const wanted = sha256?.[arch];
    const published = release[arch]?.sha256;
    if (wanted !== undefined && wanted !== published)
      throw new Failure(
        'RELEASE_DIFFERS',
        `the published ${arch} archive of ${version} has SHA-256 ${published ?? 'none'}, not ${wanted}`,
        {
          name,
        },
      );
  }
  if (release.version !== version)
    throw new Failure('RELEASE_DIFFERS', `parameter ${name} holds version ${release.version}`, { name });
  return { text: stored.value, release };
}

/** Every node would refuse a release that names no archive, and the canary would be the first of them. */
function readable(name: string, text: string): Release {
  try {
    const release = parseRelease(text);
    if (release.x64 !== undefined || release.arm64 !== undefined) return release;
  } catch {
    // Text that is no release is refused like a release without archives.
  }
  throw new Failure('RELEASE_UNKNOWN', `the parameter ${name} names no archive with address and SHA-256`, {
    name,
  });
}

/** Without an archive for their CPU, nodes would fail one by one, the first of them perhaps in the last zone. */
function refuseOtherCpus(
  release: Release,
  zones: readonly Zone[],
  instances: readonly FleetInstance[],
): void {
  const targets = new Set(zones.flatMap((zone) => zone.nodes));
  for (const arch of ['x64', 'arm64'] as const) {
    const nodes = instances.filter((one) => one.arch === arch && targets.has(one.instanceId));
    if (release[arch] === undefined && nodes.length > 0)
      throw new Failure(
        'RELEASE_UNKNOWN',
        `version ${release.version} is not published for ${arch}, the CPU of ${nodes.length} nodes`,
        { version: release.version, instances: nodes.slice(0, 50).map((one) => one.instanceId) },
      );
  }
}

/** IDs sort by time; two rollouts that begin in the same second get different IDs. */
function idOf(nowMs: number, owner: Owner): string {
  const stamp = new Date(nowMs)
    .toISOString()
    .replace(/[-:]|\.\d+Z$/g, '')
    .replace('T', '-');
  return `${stamp}-${owner.token.slice(0, 8)}`;
}
