// The calls that build an image: images and their snapshots, key pairs, security groups. There is no EBS behind them:
// the code that runs the machines copies their disks when an `image` event comes.
import { generateKeyPairSync } from 'node:crypto';
import type {
  AuthorizeSecurityGroupIngressRequest,
  AuthorizeSecurityGroupIngressResult,
  CopyImageRequest,
  CopyImageResult,
  CreateImageRequest,
  CreateImageResult,
  CreateKeyPairRequest,
  CreateSecurityGroupRequest,
  CreateSecurityGroupResult,
  DeleteKeyPairRequest,
  DeleteSecurityGroupRequest,
  DeleteSnapshotRequest,
  DeregisterImageRequest,
  DescribeImagesRequest,
  DescribeImagesResult,
  DescribeRegionsResult,
  DescribeSnapshotsRequest,
  DescribeSnapshotsResult,
  DescribeVolumesResult,
  DisableImageDeregistrationProtectionRequest,
  EnableImageDeprecationRequest,
  EnableImageDeregistrationProtectionRequest,
  Image,
  KeyPair,
  ModifyImageAttributeRequest,
} from '@aws-sdk/client-ec2';
import { AwsError, invalidValue, missing } from '../errors.ts';
import { type Attributes, matching } from '../filters.ts';
import { describeTags } from '../render.ts';
import type { ImageRecord, InstanceRecord, Snapshot } from '../state.ts';
import { instanceOf, isYoung, limitsOf, shownTags, type World } from '../world.ts';
import { tagsFrom } from './tags.ts';

/** An image that another account has published: the base of a build. */
export interface ImageSpec {
  name: string;
  architecture: 'x86_64' | 'arm64';
  ownerId?: string;
  tags?: Record<string, string>;
  /** Its owner lets other accounts copy it, too. */
  readable?: boolean;
  /** ID of the customer's KMS key that encrypts the image. */
  keyId?: string;
}

export function addImage(world: World, spec: ImageSpec): ImageRecord {
  const snapshot = addSnapshot(world, new Map(), spec.keyId !== undefined, spec.keyId);
  snapshot.state = 'completed';
  snapshot.readable = spec.readable ?? false;
  return register(world, snapshot, {
    state: 'available',
    name: spec.name,
    description: '',
    architecture: spec.architecture,
    ownerId: spec.ownerId ?? world.accountId,
    tags: new Map(Object.entries(spec.tags ?? {})),
    // The image is an hour old when the simulation begins.
    createdAt: world.scheduler.now() - 3_600_000,
  });
}

export function createImage(world: World, request: CreateImageRequest): CreateImageResult {
  const instance = instanceOf(world, request.InstanceId);
  if (!['running', 'stopped'].includes(instance.state))
    throw new AwsError(
      'InvalidParameterValue',
      `Instance is not in state 'running' or 'stopped': ${instance.id}`,
    );
  const name = unusedName(world, request.Name);
  const snapshot = addSnapshot(world, tagsFrom(request.TagSpecifications, 'snapshot'), false);
  const image = register(world, snapshot, {
    name,
    description: request.Description ?? '',
    architecture: limitsOf(instance.type).arch,
    ownerId: world.accountId,
    tags: tagsFrom(request.TagSpecifications, 'image'),
    imdsV2: world.images.get(instance.imageId)?.imdsV2 ?? false,
  });
  complete(world, image, snapshot);
  world.emit({ kind: 'image', image, from: instance.id });
  return { ImageId: image.id };
}

/** Copies within the region. This encrypts an image that was made from an unencrypted disk. */
export function copyImage(world: World, request: CopyImageRequest): CopyImageResult {
  // The token answers also after the copy that it made was deleted.
  const earlier = world.tokens.get(request.ClientToken ?? '');
  if (earlier !== undefined) return { ImageId: earlier.result };
  const source = availableImage(world, request.SourceImageId);
  const from = world.snapshots.get(source.snapshotId);
  // EC2's own text, which ansible's ec2_ami_copy and other clients search for.
  if (source.ownerId !== world.accountId && from?.readable !== true)
    throw new AwsError('InvalidRequest', 'You do not have permission to access the storage of this ami');
  if (request.SourceRegion !== world.region)
    throw invalidValue(`The simulated account has nothing in ${String(request.SourceRegion)}`);
  const name = unusedName(world, request.Name);
  const copied = addSnapshot(
    world,
    tagsFrom(request.TagSpecifications, 'snapshot'),
    request.Encrypted ?? false,
    request.Encrypted === true ? (request.KmsKeyId ?? world.defaultKey) : undefined,
  );
  const image = register(world, copied, {
    name,
    description: request.Description ?? source.description,
    architecture: source.architecture,
    ownerId: world.accountId,
    tags:
      request.CopyImageTags === true ? new Map(source.tags) : tagsFrom(request.TagSpecifications, 'image'),
    imdsV2: source.imdsV2,
  });
  if (request.ClientToken !== undefined)
    world.tokens.set(request.ClientToken, { request: '', result: image.id });
  complete(world, image, copied, [from?.keyId, copied.keyId]);
  world.emit({ kind: 'image', image, from: source.id });
  return { ImageId: image.id };
}

const imageFilters: Attributes<ImageRecord> = {
  architecture: (one) => [one.architecture],
  'image-id': (one) => [one.id],
  name: (one) => [one.name],
  'owner-id': (one) => [one.ownerId],
  'root-device-type': () => ['ebs'],
  state: (one) => [one.state],
  'virtualization-type': () => ['hvm'],
};

export function describeImages(world: World, request: DescribeImagesRequest): DescribeImagesResult {
  const named = request.ImageIds?.length
    ? // A describe by ID finds a new image at once: Packer's Amazon plugin ends a build for InvalidAMIID.NotFound.
      request.ImageIds.map((id) => imageOf(world, id))
    : [...world.images.values()].filter((image) => !isYoung(world, image.createdAt));
  const owners = request.Owners?.map((one) => (one === 'self' ? world.accountId : one));
  const owned = named.filter((one) => owners?.includes(one.ownerId) ?? true);
  return {
    Images: matching(owned, request.Filters, imageFilters).map((image) => describeImage(world, image)),
  };
}

export function deregisterImage(world: World, request: DeregisterImageRequest): object {
  const image = imageOf(world, request.ImageId);
  if (image.protection !== undefined || world.scheduler.now() < image.coolsUntil)
    throw new AwsError('OperationNotPermitted', `The image '${image.id}' is protected from deregistration.`);
  world.images.delete(image.id);
  return {};
}

export function modifyImageAttribute(world: World, request: ModifyImageAttributeRequest): object {
  const image = availableImage(world, request.ImageId);
  if (request.Description?.Value !== undefined) image.description = request.Description.Value;
  if (request.ImdsSupport?.Value !== undefined) image.imdsV2 = request.ImdsSupport.Value === 'v2.0';
  for (const { UserId } of request.LaunchPermission?.Add ?? [])
    if (UserId !== undefined) image.sharedWith.add(UserId);
  for (const { UserId } of request.LaunchPermission?.Remove ?? [])
    if (UserId !== undefined) image.sharedWith.delete(UserId);
  return {};
}

export function enableImageDeprecation(world: World, request: EnableImageDeprecationRequest): object {
  imageOf(world, request.ImageId).deprecateAt = new Date(request.DeprecateAt ?? Number.NaN).toISOString();
  return {};
}

export function enableImageDeregistrationProtection(
  world: World,
  request: EnableImageDeregistrationProtectionRequest,
): object {
  const kind = request.WithCooldown === true ? 'enabled-with-cooldown' : 'enabled-without-cooldown';
  imageOf(world, request.ImageId).protection = kind;
  return {};
}

const COOLDOWN_MS = 24 * 3_600_000;

/** Source: EC2 user guide, "Protect an Amazon EC2 AMI from deregistration". */
export function disableImageDeregistrationProtection(
  world: World,
  request: DisableImageDeregistrationProtectionRequest,
): object {
  const image = imageOf(world, request.ImageId);
  if (image.protection === 'enabled-with-cooldown') image.coolsUntil = world.scheduler.now() + COOLDOWN_MS;
  image.protection = undefined;
  return {};
}

export function describeSnapshots(world: World, request: DescribeSnapshotsRequest): DescribeSnapshotsResult {
  const found = request.SnapshotIds?.length
    ? request.SnapshotIds.map((id) => snapshotOf(world, id))
    : [...world.snapshots.values()];
  return {
    Snapshots: found.map((one) => ({
      SnapshotId: one.id,
      State: one.state,
      Progress: one.state === 'completed' ? '100%' : '0%',
      Encrypted: one.encrypted,
      VolumeSize: 20,
      OwnerId: world.accountId,
      StartTime: new Date(one.createdAt),
      Tags: describeTags(one.tags),
    })),
  };
}

export function deleteSnapshot(world: World, request: DeleteSnapshotRequest): object {
  const snapshot = snapshotOf(world, request.SnapshotId);
  const user = [...world.images.values()].find((image) => image.snapshotId === snapshot.id);
  if (user !== undefined)
    throw new AwsError(
      'InvalidSnapshot.InUse',
      `The snapshot ${snapshot.id} is currently in use by ${user.id}`,
    );
  world.snapshots.delete(snapshot.id);
  return {};
}

/** Root volumes come and go with their instances; there are no other volumes. */
export function describeVolumes(): DescribeVolumesResult {
  return { Volumes: [] };
}

export function describeRegions(world: World): DescribeRegionsResult {
  return {
    Regions: [
      {
        RegionName: world.region,
        Endpoint: `ec2.${world.region}.amazonaws.com`,
        OptInStatus: 'opt-in-not-required',
      },
    ],
  };
}

/** Ed25519 only. The private key is PKCS #8, which SSH clients read as well as OpenSSH's own form. */
export function createKeyPair(world: World, request: CreateKeyPairRequest): KeyPair {
  const name = request.KeyName ?? '';
  if (name === '') throw missing('KeyName');
  if (world.keyPairs.has(name))
    throw new AwsError('InvalidKeyPair.Duplicate', `The keypair '${name}' already exists.`);
  if (request.KeyType !== 'ed25519')
    throw invalidValue(`Key type ${String(request.KeyType)} is not simulated`);
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const raw = Buffer.from(publicKey.export({ format: 'jwk' }).x ?? '', 'base64url');
  const parts = [Buffer.from('ssh-ed25519'), raw].flatMap((part) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(part.length);
    return [length, part];
  });
  const pair = {
    id: world.nextId('key'),
    name,
    publicKey: `ssh-ed25519 ${Buffer.concat(parts).toString('base64')} ${name}`,
    tags: tagsFrom(request.TagSpecifications, 'key-pair'),
  };
  world.keyPairs.set(name, pair);
  return {
    KeyPairId: pair.id,
    KeyName: name,
    KeyFingerprint: '',
    KeyMaterial: privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
    Tags: describeTags(pair.tags),
  };
}

/** Succeeds for a key pair that does not exist, as on EC2. */
export function deleteKeyPair(world: World, request: DeleteKeyPairRequest): object {
  world.keyPairs.delete(request.KeyName ?? '');
  return {};
}

export function createSecurityGroup(
  world: World,
  request: CreateSecurityGroupRequest,
): CreateSecurityGroupResult {
  if (request.GroupName === undefined) throw missing('GroupName');
  if (request.VpcId !== world.vpc.id)
    throw new AwsError('InvalidVpcID.NotFound', `The vpc ID '${String(request.VpcId)}' does not exist`);
  if ([...world.groups.values()].some((one) => one.name === request.GroupName))
    throw new AwsError('InvalidGroup.Duplicate', `The security group '${request.GroupName}' already exists`);
  const id = world.nextId('sg');
  const tags = tagsFrom(request.TagSpecifications, 'security-group');
  world.groups.set(id, { id, name: request.GroupName, vpcId: world.vpc.id, tags });
  return { GroupId: id, Tags: describeTags(tags) };
}

/** Answers, and changes nothing: the simulated network has no security-group rules. */
export function authorizeSecurityGroupIngress(
  world: World,
  request: AuthorizeSecurityGroupIngressRequest,
): AuthorizeSecurityGroupIngressResult {
  groupOf(world, request.GroupId);
  return { Return: true };
}

export function deleteSecurityGroup(world: World, request: DeleteSecurityGroupRequest): object {
  const id = groupOf(world, request.GroupId);
  const user = [...world.enis.values()].find((eni) => eni.groups.includes(id));
  if (user !== undefined)
    throw new AwsError('DependencyViolation', `resource ${id} has a dependent object: ${user.id}`);
  world.groups.delete(id);
  return {};
}

function groupOf(world: World, id: string | undefined): string {
  if (id === undefined) throw missing('GroupId');
  if (!world.groups.has(id))
    throw new AwsError('InvalidGroup.NotFound', `The security group '${id}' does not exist`);
  return id;
}

function imageOf(world: World, id: string | undefined): ImageRecord {
  if (id === undefined) throw missing('ImageId');
  const image = world.images.get(id);
  if (image === undefined)
    throw new AwsError('InvalidAMIID.NotFound', `The image id '[${id}]' does not exist`);
  return image;
}

function availableImage(world: World, id: string | undefined): ImageRecord {
  const image = imageOf(world, id);
  if (image.state === 'available') return image;
  throw new AwsError('InvalidAMIID.Unavailable', `The image id '[${image.id}]' is no longer available`);
}

/**
 * The image is `pending` until its snapshot is made. The key is looked at only then, and the image is `failed` when the key
 * may not be used. The text is AWS's. Source: AWS re:Post, "Why did my Amazon EBS snapshot copy fail?".
 */
function complete(
  world: World,
  image: ImageRecord,
  snapshot: Snapshot,
  keys: (string | undefined)[] = [],
): void {
  world.scheduler.after(world.latency.imageMs, () => {
    const fails = !keys.every((key) => mayUseKey(world, key));
    image.state = fails ? 'failed' : 'available';
    snapshot.state = fails ? 'error' : 'completed';
    if (fails)
      image.stateReason = { Code: 'Client.InternalError', Message: 'Given key ID is not accessible' };
  });
}

/** The permissions that a caller needs on the key. Source: EBS user guide, "Requirements for Amazon EBS encryption". */
export const KEY_PERMISSIONS = [
  'kms:CreateGrant',
  'kms:Decrypt',
  'kms:DescribeKey',
  'kms:GenerateDataKeyWithoutPlaintext',
  'kms:ReEncryptFrom',
  'kms:ReEncryptTo',
];

/** Every account may use AWS's own key, for which `keyId` is undefined. */
export function mayUseKey(world: World, keyId: string | undefined): boolean {
  return keyId === undefined || KEY_PERMISSIONS.every((permission) => world.may(permission));
}

function snapshotOf(world: World, id: string | undefined): Snapshot {
  const snapshot = world.snapshots.get(id ?? '');
  if (snapshot === undefined)
    throw new AwsError('InvalidSnapshot.NotFound', `The snapshot '${String(id)}' does not exist.`);
  return snapshot;
}

function unusedName(world: World, name: string | undefined): string {
  if (name === undefined) throw missing('Name');
  const taken = [...world.images.values()].find(
    (image) => image.name === name && image.ownerId === world.accountId,
  );
  if (taken !== undefined)
    throw new AwsError('InvalidAMIName.Duplicate', `AMI name ${name} is already in use by AMI ${taken.id}`);
  return name;
}

function addSnapshot(world: World, tags: Map<string, string>, encrypted: boolean, keyId?: string): Snapshot {
  const snapshot: Snapshot = {
    id: world.nextId('snap'),
    ...{ tags, encrypted, keyId, readable: false },
    state: 'pending',
    createdAt: world.scheduler.now(),
  };
  world.snapshots.set(snapshot.id, snapshot);
  return snapshot;
}

function register(
  world: World,
  snapshot: Snapshot,
  what: Pick<ImageRecord, 'name' | 'description' | 'architecture' | 'ownerId' | 'tags'> & {
    imdsV2?: boolean;
    state?: ImageRecord['state'];
    createdAt?: number;
  },
): ImageRecord {
  const image: ImageRecord = {
    imdsV2: false,
    state: 'pending',
    createdAt: world.scheduler.now(),
    ...what,
    id: world.nextId('ami'),
    snapshotId: snapshot.id,
    protection: undefined,
    coolsUntil: 0,
    sharedWith: new Set(),
  };
  world.images.set(image.id, image);
  return image;
}

function describeImage(world: World, image: ImageRecord): Image {
  return {
    ImageId: image.id,
    Name: image.name,
    Description: image.description,
    State: image.state,
    ...(image.stateReason === undefined ? {} : { StateReason: image.stateReason }),
    OwnerId: image.ownerId,
    Public: false,
    Architecture: image.architecture,
    CreationDate: new Date(image.createdAt).toISOString(),
    ImageType: 'machine',
    RootDeviceType: 'ebs',
    RootDeviceName: '/dev/sda1',
    VirtualizationType: 'hvm',
    Hypervisor: 'xen',
    EnaSupport: true,
    ...(image.imdsV2 ? { ImdsSupport: 'v2.0' } : {}),
    ...(image.deprecateAt === undefined ? {} : { DeprecationTime: image.deprecateAt }),
    DeregistrationProtection: image.protection ?? 'disabled',
    BlockDeviceMappings: [
      {
        DeviceName: '/dev/sda1',
        Ebs: {
          SnapshotId: image.snapshotId,
          VolumeType: 'gp3',
          VolumeSize: 20,
          DeleteOnTermination: true,
          Encrypted: world.snapshots.get(image.snapshotId)?.encrypted ?? false,
        },
      },
    ],
    Tags: describeTags(shownTags(world, image.id, image.tags)),
  };
}

/** What an ended build has left, beside the image and its snapshot. A build must leave nothing. */
export function buildLeftovers(world: World): string[] {
  const running = [...world.instances.values()].filter((one: InstanceRecord) => one.state !== 'terminated');
  const used = new Set([...world.images.values()].map((image) => image.snapshotId));
  return [
    ...running.map((one) => `instance ${one.id} is ${one.state}`),
    ...[...world.keyPairs.values()].map((one) => `key pair ${one.name}`),
    ...[...world.groups.values()]
      .filter((one) => one.name !== 'default')
      .map((one) => `security group ${one.name}`),
    ...[...world.snapshots.keys()].filter((id) => !used.has(id)).map((id) => `snapshot ${id} of no image`),
  ];
}
