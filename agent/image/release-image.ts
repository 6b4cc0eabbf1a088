// The image that each zone launches: one parameter for each architecture and zone, one version for each published image, and
// labels that give each its role.
import type { ImageAws } from '../aws/images.ts';
import type { MachineImage, MachineImages } from '../aws/machine-images.ts';
import { BOOT_TEST_TAG, IMAGE_VERSION_TAG } from '../aws/tags.ts';
import { Failure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { CANDIDATE, labelVersion, makeStable, offerImage, PREVIOUS, STABLE, withLabel } from './labels.ts';

const IMAGES = '/eniboot/image';

export interface ZoneImage {
  parameter: string;
  version: number;
  imageId: string;
}

export function parameterOf(arch: string, zoneId: string): string {
  return `${IMAGES}/${arch}/${zoneId}`;
}

/** @throws IMAGE_UNKNOWN */
export async function findImage(aws: MachineImages, imageId: string): Promise<MachineImage> {
  const image = await aws.describeImage(imageId);
  if (image === undefined)
    throw new Failure('IMAGE_UNKNOWN', `this account sees no image ${imageId} in this region`, { imageId });
  return image;
}

/** @throws IMAGE_UNTESTED unless its boot test has passed. */
export async function findTestedImage(aws: MachineImages, imageId: string): Promise<MachineImage> {
  const image = await findImage(aws, imageId);
  const said = image.tags[BOOT_TEST_TAG];
  if (said?.startsWith('passed@') === true && image.state === 'available') return image;
  throw new Failure(
    'IMAGE_UNTESTED',
    `${imageId} is ${image.state}; its boot test ${said === undefined ? 'was never run' : `says ${said}`}`,
    { imageId, bootTest: said, state: image.state },
  );
}

/**
 * Makes the image the candidate of the zone. Idempotent.
 * @throws IMAGE_UNTESTED, IMAGE_NOT_CONFIRMED, IMAGE_VERSION_LIMIT
 */
export async function publishImage(
  aws: ImageAws,
  clock: Clock,
  imageId: string,
  zoneId: string,
): Promise<ZoneImage> {
  const { arch } = await findTestedImage(aws, imageId);
  const name = parameterOf(arch, zoneId);
  return { parameter: name, version: await offerImage(aws, clock, name, imageId), imageId };
}

/**
 * Makes the candidate the image that the zone launches. `imageId`: the image that the candidate must be.
 * @throws IMAGE_UNTESTED, IMAGE_LABEL_MOVED
 */
export async function promoteImage(aws: ImageAws, imageId: string, zoneId: string): Promise<ZoneImage> {
  const { arch } = await findTestedImage(aws, imageId);
  const name = parameterOf(arch, zoneId);
  const candidate = withLabel(await aws.readVersions(name), CANDIDATE);
  if (candidate?.value !== imageId)
    throw new Failure(
      'IMAGE_LABEL_MOVED',
      `the candidate of ${name} is ${candidate?.value ?? 'none'}, not ${imageId}`,
      { name, candidate: candidate?.value, imageId },
    );
  await makeStable(aws, name, candidate.version);
  return { parameter: name, version: candidate.version, imageId };
}

/** The zone launches its previous image again. @throws IMAGE_UNKNOWN when that image no longer exists. */
export async function rollBackImage(aws: ImageAws, arch: string, zoneId: string): Promise<ZoneImage> {
  const name = parameterOf(arch, zoneId);
  const previous = withLabel(await aws.readVersions(name), PREVIOUS);
  if (previous === undefined)
    throw new Failure('IMAGE_UNKNOWN', `${name} has no version with the label ${PREVIOUS}`, { name });
  // The image has run in this zone: a failed test since then must not keep the zone on a worse image.
  const { state } = await findImage(aws, previous.value);
  if (state !== 'available')
    throw new Failure('IMAGE_UNKNOWN', `${previous.value} is ${state}: no instance can be launched from it`, {
      imageId: previous.value,
      state,
    });
  await labelVersion(aws, name, previous.version, STABLE);
  return { parameter: name, version: previous.version, imageId: previous.value };
}

export interface ListedImage {
  imageId: string;
  arch: string;
  version: string;
  name: string;
  /** EC2's state, or `gone` when only a label is left of the image. */
  state: string;
  bootTest: string | undefined;
  deprecatedAt: string | undefined;
  zones: { zoneId: string; labels: string[] }[];
}

/**
 * This account's images from eniboot's build, newest name last, with their labels in each zone. Before them: images with a
 * label that are not among these, because they are gone or belong to another account.
 */
export async function listImages(aws: ImageAws): Promise<ListedImage[]> {
  const labelled: { imageId: string; arch: string; zoneId: string; labels: string[] }[] = [];
  for (const name of await aws.listParameterNames(IMAGES)) {
    const [arch = '', zoneId = ''] = name.split('/').slice(-2);
    for (const { value, labels } of await aws.readVersions(name))
      if (labels.length > 0) labelled.push({ imageId: value, arch, zoneId, labels });
  }
  const images = await aws.describeOwnImages(IMAGE_VERSION_TAG);
  const known = new Set(images.map(({ imageId }) => imageId));
  for (const { imageId, arch } of labelled) {
    if (known.has(imageId)) continue;
    known.add(imageId);
    images.push((await aws.describeImage(imageId)) ?? goneImage(imageId, arch));
  }
  return images
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ imageId, arch, name, state, tags, deprecatedAt }) => ({
      imageId,
      arch,
      name,
      state,
      version: tags[IMAGE_VERSION_TAG] ?? '',
      bootTest: tags[BOOT_TEST_TAG],
      deprecatedAt,
      zones: labelled
        .filter((one) => one.imageId === imageId)
        .map(({ zoneId, labels }) => ({ zoneId, labels: labels.toSorted() })),
    }));
}

function goneImage(imageId: string, arch: string): MachineImage {
  const unknown = {
    stateReason: undefined,
    deprecatedAt: undefined,
    createdAt: undefined,
    snapshotId: undefined,
  };
  return { imageId, arch, name: '', state: 'gone', tags: {}, ...unknown };
}

/** @throws IMAGE_IN_USE while a zone launches the image, or could go back to it. */
export async function deprecateImage(aws: ImageAws, imageId: string, at: Date): Promise<void> {
  await findImage(aws, imageId);
  const inUse: string[] = [];
  for (const name of await aws.listParameterNames(IMAGES))
    for (const { labels, value: held } of await aws.readVersions(name))
      if (held === imageId && (labels.includes(STABLE) || labels.includes(PREVIOUS))) inUse.push(name);
  if (inUse.length > 0)
    throw new Failure('IMAGE_IN_USE', `${imageId} is stable or previous in ${inUse.join(', ')}`, {
      imageId,
      parameters: inUse,
    });
  await aws.deprecateImage(imageId, at);
}
