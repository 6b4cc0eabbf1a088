// Which image each zone launches: a parameter for each architecture and zone, one version for each image that was
// published, and labels that say what it is. Labels move; no value is ever written over.
import type { ImageAws, ImageVersion, MachineImage } from '../aws/images.ts';
import { BOOT_TEST_TAG, IMAGE_VERSION_TAG } from '../aws/tags.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';

const IMAGES = '/eniboot/image';
const CANDIDATE = 'candidate';
const STABLE = 'stable';
const PREVIOUS = 'previous';
/** Parameter Store keeps 100 versions and refuses a new one while the oldest has a label: they move on before. */
const CROWDED = 90;
/** EC2's confirmation of an image comes after PutParameter's answer: seconds. */
const CONFIRMED_MS = 60_000;
const LOOK_MS = 1_000;

export interface ZoneImage {
  parameter: string;
  version: number;
  imageId: string;
}

export function parameterOf(arch: string, zoneId: string): string {
  return `${IMAGES}/${arch}/${zoneId}`;
}

/** @throws IMAGE_UNKNOWN */
export async function findImage(aws: ImageAws, imageId: string): Promise<MachineImage> {
  const image = await aws.describeImage(imageId);
  if (image === undefined)
    throw new Failure('IMAGE_UNKNOWN', `this account sees no image ${imageId} in this region`, { imageId });
  return image;
}

/** @throws IMAGE_UNTESTED unless its boot test has passed. */
export async function findTestedImage(aws: ImageAws, imageId: string): Promise<MachineImage> {
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
 * The image as candidate of the zone. Done already is done.
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
  await moveLabelsOn(aws, clock, name);
  const last = (await aws.readVersions(name)).at(-1);
  const version = last?.imageId === imageId ? last.version : await put(aws, clock, name, imageId);
  await label(aws, name, version, CANDIDATE);
  return { parameter: name, version, imageId };
}

/**
 * The candidate becomes what the zone launches, and what it launched becomes `previous`, first: whoever is interrupted
 * between the two has changed nothing that launches. `imageId` is what the candidate must be.
 * @throws IMAGE_UNTESTED, IMAGE_LABEL_MOVED
 */
export async function promoteImage(aws: ImageAws, imageId: string, zoneId: string): Promise<ZoneImage> {
  const { arch } = await findTestedImage(aws, imageId);
  const name = parameterOf(arch, zoneId);
  const versions = await aws.readVersions(name);
  const candidate = withLabel(versions, CANDIDATE);
  if (candidate?.imageId !== imageId)
    throw new Failure(
      'IMAGE_LABEL_MOVED',
      `the candidate of ${name} is ${candidate?.imageId ?? 'none'}, not ${imageId}`,
      { name, candidate: candidate?.imageId, imageId },
    );
  const stable = withLabel(versions, STABLE);
  if (stable?.version === candidate.version) return { parameter: name, version: candidate.version, imageId };
  if (stable !== undefined) await label(aws, name, stable.version, PREVIOUS);
  await label(aws, name, candidate.version, STABLE);
  return { parameter: name, version: candidate.version, imageId };
}

/** The zone launches again what it launched before. @throws IMAGE_UNKNOWN when there is no such image any more. */
export async function rollBackImage(aws: ImageAws, arch: string, zoneId: string): Promise<ZoneImage> {
  const name = parameterOf(arch, zoneId);
  const previous = withLabel(await aws.readVersions(name), PREVIOUS);
  if (previous === undefined)
    throw new Failure('IMAGE_UNKNOWN', `${name} has no version with the label ${PREVIOUS}`, { name });
  await findTestedImage(aws, previous.imageId);
  await label(aws, name, previous.version, STABLE);
  return { parameter: name, version: previous.version, imageId: previous.imageId };
}

export interface ListedImage {
  imageId: string;
  arch: string;
  version: string;
  name: string;
  bootTest: string | undefined;
  deprecatedAt: string | undefined;
  zones: { zoneId: string; labels: string[] }[];
}

/** The images of this account that eniboot's build made, newest name last, and where each has which label. */
export async function listImages(aws: ImageAws): Promise<ListedImage[]> {
  const labelled: { imageId: string; zoneId: string; labels: string[] }[] = [];
  for (const name of await aws.listParameterNames(IMAGES)) {
    const zoneId = name.split('/').at(-1) ?? '';
    for (const { imageId, labels } of await aws.readVersions(name))
      if (labels.length > 0) labelled.push({ imageId, zoneId, labels });
  }
  const images = await aws.describeOwnImages(IMAGE_VERSION_TAG);
  return images
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map(({ imageId, arch, name, tags, deprecatedAt }) => ({
      imageId,
      arch,
      name,
      version: tags[IMAGE_VERSION_TAG] ?? '',
      bootTest: tags[BOOT_TEST_TAG],
      deprecatedAt,
      zones: labelled
        .filter((one) => one.imageId === imageId)
        .map(({ zoneId, labels }) => ({ zoneId, labels: labels.toSorted() })),
    }));
}

/** @throws IMAGE_IN_USE while a zone launches it, or could go back to it. */
export async function deprecateImage(aws: ImageAws, imageId: string, at: Date): Promise<void> {
  await findImage(aws, imageId);
  const inUse: string[] = [];
  for (const name of await aws.listParameterNames(IMAGES))
    for (const { labels, imageId: held } of await aws.readVersions(name))
      if (held === imageId && (labels.includes(STABLE) || labels.includes(PREVIOUS))) inUse.push(name);
  if (inUse.length > 0)
    throw new Failure('IMAGE_IN_USE', `${imageId} is stable or previous in ${inUse.join(', ')}`, {
      imageId,
      parameters: inUse,
    });
  await aws.deprecateImage(imageId, at);
}

/** A label on one of the oldest versions goes to a new version with the same image. */
async function moveLabelsOn(aws: ImageAws, clock: Clock, name: string): Promise<void> {
  const versions = await aws.readVersions(name);
  for (const old of versions.slice(0, Math.max(0, versions.length - CROWDED))) {
    if (old.labels.length === 0) continue;
    const version = await put(aws, clock, name, old.imageId);
    for (const one of old.labels) await label(aws, name, version, one);
  }
}

/** A new version that can be read. */
async function put(aws: ImageAws, clock: Clock, name: string, imageId: string): Promise<number> {
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
    if (versions.some((one) => one.version === version && one.imageId === imageId)) return version;
    if (clock.bootMs() >= until)
      throw new Failure(
        'IMAGE_NOT_CONFIRMED',
        `EC2 has not confirmed ${imageId} as version ${version} of ${name} in ${CONFIRMED_MS / 1000} s`,
        { name, version, imageId },
      );
    await clock.sleep(LOOK_MS);
  }
}

/** @throws IMAGE_LABEL_MOVED when somebody else moves the same label at this moment. */
async function label(aws: ImageAws, name: string, version: number, which: string): Promise<void> {
  await aws.label(name, version, which);
  const now = withLabel(await aws.readVersions(name), which);
  if (now?.version !== version)
    throw new Failure(
      'IMAGE_LABEL_MOVED',
      `${which} of ${name} is version ${now?.version ?? 'none'} although ${version} was just labelled`,
      { name, label: which, version, found: now?.version },
    );
}

function withLabel(versions: ImageVersion[], which: string): ImageVersion | undefined {
  return versions.find(({ labels }) => labels.includes(which));
}
