// AMIs, for images and rollouts.
import type * as ec2 from '@aws-sdk/client-ec2';
import { isFailure } from '../messages/failure.ts';
import { fieldsOf } from './fields.ts';
import type { Call } from './operator-calls.ts';

const { field } = fieldsOf('EC2');

export interface MachineImage {
  imageId: string;
  name: string;
  /** EC2's name of the architecture. */
  arch: string;
  state: string;
  /** EC2's own text, for an AMI that failed. */
  stateReason: string | undefined;
  tags: Record<string, string>;
  /** ISO 8601; absent when no deprecation is set. */
  deprecatedAt: string | undefined;
  /** ISO 8601. */
  createdAt: string | undefined;
  /** Snapshot of the root volume. */
  snapshotId: string | undefined;
}

export interface MachineImages {
  /** undefined when this account may use no such AMI. */
  describeImage(imageId: string): Promise<MachineImage | undefined>;
}

export function machineImages(call: Call<'DescribeImages'>): MachineImages {
  return {
    async describeImage(imageId) {
      try {
        const { Images } = await call<ec2.DescribeImagesResult>(
          'DescribeImages',
          { ImageIds: [imageId], IncludeDeprecated: true },
          { imageId },
        );
        return Images?.[0] === undefined ? undefined : toMachineImage(Images[0]);
      } catch (error) {
        if (isFailure(error, 'EC2_REFUSED') && String(error.facts['ec2Code']).startsWith('InvalidAMIID.'))
          return undefined;
        throw error;
      }
    },
  };
}

export function toMachineImage(image: ec2.Image): MachineImage {
  return {
    imageId: field('ImageId', image.ImageId, 'imageId'),
    name: image.Name ?? '',
    // Names and decisions depend on both: an image without them cannot be used.
    arch: field('Architecture', image.Architecture, 'text'),
    state: field('State', image.State, 'text'),
    stateReason: image.StateReason?.Message,
    tags: fromTags(image.Tags),
    deprecatedAt: image.DeprecationTime,
    createdAt: image.CreationDate,
    snapshotId: image.BlockDeviceMappings?.find(({ Ebs }) => Ebs !== undefined)?.Ebs?.SnapshotId,
  };
}

export function fromTags(tags: ec2.Tag[] | undefined): Record<string, string> {
  return Object.fromEntries((tags ?? []).map(({ Key, Value }) => [Key ?? '', Value ?? '']));
}
