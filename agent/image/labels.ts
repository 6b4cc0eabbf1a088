// The labels of an image parameter decide what a zone launches: `candidate` for canaries, `stable` for all other instances,
// `previous` for the image that was stable before. Launch templates name a label, so to move a label is enough; no value is
// ever overwritten.
import type { MachineImages } from '../aws/machine-images.ts';
import type { ParameterVersion, ParameterVersions } from '../aws/parameter-versions.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';

export const CANDIDATE = 'candidate';
export const STABLE = 'stable';
export const PREVIOUS = 'previous';

/**
 * Versions after which labels move on: Parameter Store keeps 100 versions and refuses a new one while the oldest has a label.
 */
const CROWDED = 90;
/**
 * Milliseconds: PutParameter answers before EC2 has confirmed the image. AWS gives no figure; a minute and a half is an
 * assumption.
 */
const CONFIRMED_MS = 90_000;
const LOOK_MS = 1_000;

/**
 * Makes the image the candidate; returns the number of its version. Idempotent.
 * @throws IMAGE_NOT_CONFIRMED, IMAGE_VERSION_LIMIT, IMAGE_LABEL_MOVED
 */
export async function offerImage(
  aws: ParameterVersions & MachineImages,
  clock: Clock,
  name: string,
  imageId: string,
): Promise<number> {
  const versions = await aws.readVersions(name);
  const offered = withLabel(versions, CANDIDATE);
  if (offered?.value === imageId) return offered.version;
  await moveLabelsOn(aws, clock, name, versions);
  const last = (await aws.readVersions(name)).at(-1);
  // A run that was interrupted may have written the version without its label.
  const version = last?.value === imageId ? last.version : await put(aws, clock, name, imageId);
  await labelVersion(aws, name, version, CANDIDATE);
  return version;
}

/**
 * Puts `previous` on the zone's present image, then `stable` on the version. An interruption between the two changes nothing
 * that is launched. Idempotent. @throws IMAGE_LABEL_MOVED
 */
export async function makeStable(aws: ParameterVersions, name: string, version: number): Promise<void> {
  const stable = withLabel(await aws.readVersions(name), STABLE);
  if (stable?.version === version) return;
  if (stable !== undefined) await labelVersion(aws, name, stable.version, PREVIOUS);
  await labelVersion(aws, name, version, STABLE);
}

/** @throws IMAGE_LABEL_MOVED when another process moves the same label at this moment. */
export async function labelVersion(
  aws: ParameterVersions,
  name: string,
  version: number,
  label: string,
): Promise<void> {
  await aws.label(name, version, label);
  const now = withLabel(await aws.readVersions(name), label);
  if (now?.version !== version)
    throw new Failure(
      'IMAGE_LABEL_MOVED',
      `${label} of ${name} is version ${now?.version ?? 'none'} although ${version} was just labelled`,
      { name, label, version, found: now?.version },
    );
}

export function withLabel(versions: ParameterVersion[], label: string): ParameterVersion | undefined {
  return versions.find(({ labels }) => labels.includes(label));
}

/**
 * Moves labels from the oldest versions to new versions with the same image. A label on an image that is gone stays: EC2 would
 * never confirm a new version with it, and no zone can go back to it.
 */
async function moveLabelsOn(
  aws: ParameterVersions & MachineImages,
  clock: Clock,
  name: string,
  versions: ParameterVersion[],
): Promise<void> {
  for (const old of versions.slice(0, Math.max(0, versions.length - CROWDED))) {
    if (old.labels.length === 0) continue;
    if ((await aws.describeImage(old.value))?.state !== 'available') continue;
    const version = await put(aws, clock, name, old.value);
    for (const label of old.labels) await labelVersion(aws, name, version, label);
  }
}

/** Writes a new version and waits until it can be read. */
async function put(aws: ParameterVersions, clock: Clock, name: string, imageId: string): Promise<number> {
  const version = await aws.putImage(name, imageId).catch((error: unknown) => {
    if (isFailure(error, 'SSM_REFUSED') && error.facts['ssmCode'] === 'ParameterMaxVersionLimitExceeded')
      throw new Failure(
        'IMAGE_VERSION_LIMIT',
        `${name} takes no further version: its oldest one has a label`,
        { name },
        error,
      );
    throw error;
  });
  const until = clock.bootMs() + CONFIRMED_MS;
  for (;;) {
    const versions = await aws.readVersions(name);
    if (versions.some((one) => one.version === version && one.value === imageId)) return version;
    if (clock.bootMs() >= until)
      throw new Failure(
        'IMAGE_NOT_CONFIRMED',
        `EC2 has not confirmed ${imageId} as version ${version} of ${name} in ${CONFIRMED_MS / 1000} s`,
        { name, version, imageId },
      );
    await clock.sleep(LOOK_MS);
  }
}
