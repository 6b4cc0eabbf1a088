// The steps of an AMI's rollout that touch AWS: labels that move, and a look at what booted.
//
// A zone's parameter has a version for each AMI. `candidate` is what canaries are launched from, `stable` what all others
// are, `previous` what was stable before. Whoever launches instances names the label, so a label that moves is all it takes.
import type { FleetAws } from '../aws/fleet.ts';
import { VERDICT_TAG } from '../aws/tags.ts';
import { Failure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import type { BootFailure, Rollout } from './progress.ts';
import { type ImageSpec, targetTags } from './spec.ts';

/** PutParameter answers before EC2 has confirmed the AMI. AWS gives no figure; a minute and a half is an assumption. */
const CONFIRM_MS = 90_000;
const CONFIRM_LOOK_MS = 2_000;
/** Clocks of AWS and of this machine may be apart by so much. */
const CLOCK_MARGIN_MS = 60_000;

export function imageParameter({ what }: ImageSpec, zoneId: string): string {
  return what.image.parameter.replaceAll('{zone-id}', zoneId);
}

/** Idempotent. The canaries of the zone come up on the AMI from now on. Throws IMAGE_NOT_CONFIRMED. */
export async function offerImage(aws: FleetAws, clock: Clock, name: string, imageId: string): Promise<void> {
  await candidate(aws, clock, name, imageId);
}

/** Idempotent. All new nodes of the zone come up on the AMI from now on. Throws IMAGE_NOT_CONFIRMED. */
export async function promoteImage(
  aws: FleetAws,
  clock: Clock,
  name: string,
  imageId: string,
): Promise<void> {
  const stable = await aws.readParameter(`${name}:stable`);
  if (stable?.value === imageId) return;
  const version = await candidate(aws, clock, name, imageId);
  if (stable !== undefined) await aws.labelParameter(name, stable.version, 'previous');
  await aws.labelParameter(name, version, 'stable');
}

/** Idempotent. `before`: the version that was stable. An AMI of somebody else's is left where it is. */
export async function restoreImage(
  aws: FleetAws,
  name: string,
  imageId: string,
  before: string | undefined,
): Promise<void> {
  const [stable, offered] = [
    await aws.readParameter(`${name}:stable`),
    await aws.readParameter(`${name}:candidate`),
  ];
  if (stable?.value === imageId && String(stable.version) !== before) {
    if (before === undefined) await aws.unlabelParameter(name, stable.version, 'stable');
    else await aws.labelParameter(name, Number(before), 'stable');
  }
  if (offered?.value === imageId) await aws.unlabelParameter(name, offered.version, 'candidate');
}

/** The version that holds the AMI, labelled `candidate`. */
async function candidate(aws: FleetAws, clock: Clock, name: string, imageId: string): Promise<number> {
  const offered = await aws.readParameter(`${name}:candidate`);
  if (offered?.value === imageId) return offered.version;
  // The label may be missing since whoever wrote the version was interrupted.
  const latest = await aws.readParameter(name);
  const version = latest?.value === imageId ? latest.version : await aws.writeImage(name, imageId);
  const untilMs = clock.bootMs() + CONFIRM_MS;
  while ((await aws.readParameter(`${name}:${version}`)) === undefined) {
    if (clock.bootMs() >= untilMs)
      throw new Failure('IMAGE_NOT_CONFIRMED', `EC2 has not confirmed ${imageId} for the parameter ${name}`, {
        name,
        image: imageId,
      });
    await clock.sleep(CONFIRM_LOOK_MS);
  }
  await aws.labelParameter(name, version, 'candidate');
  return version;
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
