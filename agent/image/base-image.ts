// The base image of the next build: for each CPU an encrypted copy, in this account, of Fedora's newest image of a release, and
// the lock file that names both copies. The lock is written whole or not at all: it never mixes the results of two runs.
import type { ImageAws } from '../aws/images.ts';
import type { MachineImage } from '../aws/machine-images.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import type { Clock } from '../port/clock.ts';
import { writeAtomic } from '../port/fs.ts';

/** Fedora's account for cloud images. Source: fedoraproject.org/cloud/download, and the owner of the AMIs. */
const FEDORA = '125523088429';
/** Fedora's names of images use the kernel's name of the CPU; EC2 has other names. */
const CPUS = { x86_64: 'x86_64', arm64: 'aarch64' } as const;
type Arch = keyof typeof CPUS;
/** Milliseconds to wait for a copy of 5 GB inside a region, which takes minutes. */
const COPIED_MS = 30 * 60_000;
/** Milliseconds between looks: doubled each time, up to `most`. */
const LOOK_MS = { first: 500, most: 15_000 };
/** Tag on a copy: the ID of Fedora's image. */
const SOURCE_TAG = 'eniboot:base-of';

export interface BaseImage {
  id: string;
  name: string;
  /** Fedora's image and its creation time, of which this is a copy. */
  source: string;
  created: string;
  snapshot: string;
}

type Source = MachineImage & { createdAt: string };
type Copy = MachineImage & { snapshotId: string };

export interface BaseLock {
  fedora_version: number;
  base_images: Record<Arch, BaseImage>;
}

/**
 * Finds both images before it copies one, and writes the lock when both copies can be launched. An existing copy is used.
 *
 * @param copy false: the lock names Fedora's own images, for an account that may not copy them
 * @throws BASE_IMAGE_MISSING, BASE_IMAGE_COPY, BASE_IMAGE_FORBIDDEN, IMAGE_KEY_UNUSABLE
 */
export async function refreshBaseImages(
  aws: ImageAws,
  clock: Clock,
  release: number,
  region: string,
  path: string,
  copy: boolean,
  tell: (line: string) => void,
): Promise<BaseLock> {
  const newest = {
    x86_64: await newestOf(aws, 'x86_64', release),
    arm64: await newestOf(aws, 'arm64', release),
  };
  const copies = {
    x86_64: copy ? await copyOf(aws, newest.x86_64, region, tell) : newest.x86_64.imageId,
    arm64: copy ? await copyOf(aws, newest.arm64, region, tell) : newest.arm64.imageId,
  };
  const entry = async (arch: Arch): Promise<BaseImage> => {
    const base = await launchable(aws, clock, copies[arch]);
    return {
      id: base.imageId,
      name: newest[arch].name,
      source: newest[arch].imageId,
      created: newest[arch].createdAt,
      snapshot: base.snapshotId,
    };
  };
  const lock: BaseLock = {
    fedora_version: release,
    base_images: { x86_64: await entry('x86_64'), arm64: await entry('arm64') },
  };
  writeAtomic(path, `${JSON.stringify(lock, null, 2)}\n`);
  return lock;
}

/** The pattern has a digit after the release: "Prerelease" and other releases begin with the same characters. */
async function newestOf(aws: ImageAws, arch: Arch, release: number): Promise<Source> {
  const start = `Fedora-Cloud-Base-AmazonEC2.${CPUS[arch]}-${release}-`;
  const pattern = `${start}*`;
  const isOfRelease = (name: string) => name.startsWith(start) && /^\d[\d.]*$/.test(name.slice(start.length));
  const found = (await aws.findImages(FEDORA, pattern))
    .filter((one) => isOfRelease(one.name) && one.arch === arch && one.state === 'available')
    // An image without a date cannot be compared with the others.
    .filter((one): one is Source => one.createdAt !== undefined)
    .sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1))
    .at(-1);
  if (found !== undefined) return found;
  throw new Failure(
    'BASE_IMAGE_MISSING',
    `account ${FEDORA} has no released image ${pattern} in this region`,
    {
      owner: FEDORA,
      pattern,
    },
  );
}

async function copyOf(
  aws: ImageAws,
  source: MachineImage,
  region: string,
  tell: (line: string) => void,
): Promise<string> {
  const own = (await aws.describeOwnImages(SOURCE_TAG)).find(
    (one) => one.tags[SOURCE_TAG] === source.imageId && ['available', 'pending'].includes(one.state),
  );
  if (own !== undefined) {
    tell(`${own.imageId} is a copy of ${source.imageId} (${source.name}) already`);
    return own.imageId;
  }
  const copy = await aws
    .copyImage(source, region, { [SOURCE_TAG]: source.imageId })
    .catch((error: unknown) => {
      throw mayNotRead(error) ? forbidden(source, error) : error;
    });
  tell(`${copy} is being copied from ${source.imageId} (${source.name}), encrypted`);
  return copy;
}

/**
 * "The owner of the source AMI must grant you read permissions for the storage that backs the AMI." Source: EC2 user guide,
 * "Copy an Amazon EC2 AMI". Other refusals have the same code, InvalidRequest: only the message tells them apart.
 */
function mayNotRead(error: unknown): boolean {
  return isFailure(error, 'EC2_REFUSED') && /permission to access the storage/i.test(error.message);
}

function forbidden({ imageId, name }: MachineImage, cause: unknown): Failure {
  return new Failure(
    'BASE_IMAGE_FORBIDDEN',
    `the owner of ${imageId} (${name}) does not let this account copy its snapshot: the lock file is unchanged`,
    { imageId, name },
    cause,
  );
}

async function launchable(aws: ImageAws, clock: Clock, imageId: string): Promise<Copy> {
  const until = clock.bootMs() + COPIED_MS;
  for (let pause = LOOK_MS.first; ; pause = Math.min(2 * pause, LOOK_MS.most)) {
    const image = await aws.describeImage(imageId);
    if (image?.state === 'available' && hasSnapshot(image)) return image;
    // EC2 may not know a new copy for some seconds.
    const over = clock.bootMs() >= until;
    if (over || (image !== undefined && image.state !== 'pending'))
      throw new Failure(
        /\bkey\b/i.test(image?.stateReason ?? '') ? 'IMAGE_KEY_UNUSABLE' : 'BASE_IMAGE_COPY',
        `${imageId} is ${image?.state ?? 'unknown'}${over ? ` after ${COPIED_MS / 60_000} minutes` : ''}${image?.stateReason === undefined ? '' : ` (${image.stateReason})`}: the lock file is unchanged`,
        { imageId, state: image?.state, reason: image?.stateReason },
      );
    await clock.sleep(pause);
  }
}

function hasSnapshot(image: MachineImage): image is Copy {
  return image.snapshotId !== undefined;
}
