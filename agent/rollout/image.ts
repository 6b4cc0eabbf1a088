// The steps of an AMI's rollout that call AWS: moving labels, and looking at what booted.
import type { FleetAws, FleetInstance } from '../aws/fleet.ts';
import { VERDICT_TAG } from '../aws/tags.ts';
import { CANDIDATE, labelVersion, makeStable, offerImage, STABLE, withLabel } from '../image/labels.ts';
import type { Clock } from '../port/clock.ts';
import type { Boots } from './plan.ts';
import type { BootFailure, Rollout } from './progress.ts';
import { type ImageSpec, targetTags } from './spec.ts';

/** The clocks of AWS and of this machine may differ by this much. */
const CLOCK_MARGIN_MS = 60_000;

export function imageParameter({ what }: ImageSpec, zoneId: string): string {
  return what.image.parameter.replaceAll('{zone-id}', zoneId);
}

/** Idempotent. From now on all new nodes of the zone boot from the AMI. Throws as offerImage and makeStable do. */
export async function promoteImage(
  aws: FleetAws,
  clock: Clock,
  name: string,
  imageId: string,
): Promise<void> {
  const stable = withLabel(await aws.readVersions(name), STABLE);
  if (stable?.value === imageId) return;
  await makeStable(aws, name, await offerImage(aws, clock, name, imageId));
}

/** Idempotent. `before`: the version that was stable. A label on an AMI of another rollout stays where it is. */
export async function restoreImage(
  aws: FleetAws,
  name: string,
  imageId: string,
  before: string | undefined,
): Promise<void> {
  const versions = await aws.readVersions(name);
  const [stable, offered] = [withLabel(versions, STABLE), withLabel(versions, CANDIDATE)];
  if (stable?.value === imageId && String(stable.version) !== before) {
    if (before === undefined) await aws.unlabel(name, stable.version, STABLE);
    else await labelVersion(aws, name, Number(before), STABLE);
  }
  if (offered?.value === imageId) await aws.unlabel(name, offered.version, CANDIDATE);
}

/**
 * How many instances of a zone are READY on the AMI, whenever they booted, and which have failed since the rollout began. An
 * instance that ended without having been READY has failed. `enough`: how many have to be READY; fewer when the zone has shrunk
 * meanwhile.
 */
export async function lookAtBoots(
  aws: FleetAws,
  rollout: Rollout & { spec: ImageSpec },
  { zone, kind, nodes }: Boots,
  nowMs: number,
): Promise<{ ready: number; enough: number; failed: Omit<BootFailure, 'zone' | 'canary'>[] }> {
  const { spec, zones, startedMs } = rollout;
  const tags = targetTags(spec);
  const inZone = (one: FleetInstance) => one.zoneId === zones[zone]?.zoneId;
  // An instance without a zone in EC2's answer may be of this zone: its failure counts here, its READY does not.
  const instances = (await aws.describeInstances(tags, { imageId: spec.what.image.id })).filter(
    (one) => one.zoneId === undefined || inZone(one),
  );
  let ready = 0;
  /** Instances whose SSM agent answers; asked for at the first late instance. */
  let online: Set<string> | undefined;
  const failed: Omit<BootFailure, 'zone' | 'canary'>[] = [];
  for (const one of instances) {
    const { instanceId, tags: said, launchedMs, state, stateReason } = one;
    const verdict = said[VERDICT_TAG] ?? '';
    const living = state === 'running' || state === 'pending';
    const late = nowMs - launchedMs > spec.boot.verdictSeconds * 1000;
    if (verdict.startsWith('ready@')) ready += living && inZone(one) ? 1 : 0;
    else if (launchedMs < startedMs - CLOCK_MARGIN_MS) continue;
    else if (verdict.startsWith('failed:'))
      failed.push({ instanceId, outcome: 'failed', reason: verdict.slice(0, 60) });
    else if (!living) {
      const why = stateReason === undefined ? '' : `: ${stateReason}`;
      failed.push({
        instanceId,
        outcome: 'missing',
        reason: `${state} without a verdict${why}`.slice(0, 90),
      });
    } else if (late) {
      online ??= new Set(await aws.describeOnline(tags));
      const silent = `no verdict within ${spec.boot.verdictSeconds} s`;
      // EC2 may have refused the tag: only the node itself can tell.
      const reason = online.has(instanceId)
        ? `${silent}, though its SSM agent answers: \`eniboot status\` there says whether it booted and could not tag itself`
        : silent;
      failed.push({ instanceId, outcome: 'late', reason });
    }
  }
  if (kind === 'canary' || ready >= nodes) return { ready, enough: nodes, failed };
  const running = (await aws.describeInstances(tags)).filter(inZone).length;
  const left = Math.max(1, Math.ceil((running * spec.boot.zonePercent) / 100));
  return { ready, enough: Math.min(nodes, left), failed };
}
