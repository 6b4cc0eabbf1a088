// The steps of an AMI's rollout that touch AWS: labels that move, and a look at what booted.
import type { FleetAws } from '../aws/fleet.ts';
import { VERDICT_TAG } from '../aws/tags.ts';
import { CANDIDATE, labelVersion, makeStable, offerImage, STABLE, withLabel } from '../image/labels.ts';
import type { Clock } from '../port/clock.ts';
import type { BootFailure, Rollout } from './progress.ts';
import { type ImageSpec, targetTags } from './spec.ts';

/** Clocks of AWS and of this machine may be apart by so much. */
const CLOCK_MARGIN_MS = 60_000;

export function imageParameter({ what }: ImageSpec, zoneId: string): string {
  return what.image.parameter.replaceAll('{zone-id}', zoneId);
}

/** Idempotent. All new nodes of the zone come up on the AMI from now on. Throws as offerImage and makeStable do. */
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

/** Idempotent. `before`: the version that was stable. An AMI of somebody else's is left where it is. */
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

/** What of a zone has booted from the AMI since the rollout began. One that is gone without having been READY has failed. */
export async function lookAtBoots(
  aws: FleetAws,
  rollout: Rollout & { spec: ImageSpec },
  zone: number,
  nowMs: number,
): Promise<{ ready: number; failed: Omit<BootFailure, 'zone' | 'canary'>[] }> {
  const { spec, zones, startedMs } = rollout;
  const instances = await aws.describeInstances(targetTags(spec), spec.what.image.id);
  let ready = 0;
  const failed: Omit<BootFailure, 'zone' | 'canary'>[] = [];
  for (const { instanceId, zoneId, tags, launchedMs, state } of instances) {
    if (zoneId !== zones[zone]?.zoneId || launchedMs < startedMs - CLOCK_MARGIN_MS) continue;
    const verdict = tags[VERDICT_TAG] ?? '';
    const living = state === 'running' || state === 'pending';
    const late = nowMs - launchedMs > spec.boot.verdictSeconds * 1000;
    if (verdict.startsWith('ready@')) ready += living ? 1 : 0;
    else if (verdict.startsWith('failed:'))
      failed.push({ instanceId, outcome: 'failed', reason: verdict.slice(0, 60) });
    else if (!living) failed.push({ instanceId, outcome: 'missing', reason: `${state} without a verdict` });
    else if (late)
      failed.push({ instanceId, outcome: 'late', reason: `no verdict within ${spec.boot.verdictSeconds} s` });
  }
  return { ready, failed };
}
