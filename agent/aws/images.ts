// EC2 and Parameter Store as images need them: few calls, plain data, every error a Failure. images-sdk.ts brings the SDK.
import type * as ec2 from '@aws-sdk/client-ec2';
import type * as ssm from '@aws-sdk/client-ssm';
import { isFailure } from '../messages/failure.ts';
import { fieldsOf } from './fields.ts';
import {
  fromTags,
  type MachineImage,
  type MachineImages,
  machineImages,
  toMachineImage,
} from './machine-images.ts';
import { type Actions, operatorCalls, type Send } from './operator-calls.ts';
import { allPages } from './paging.ts';
import { type ParameterVersions, parameterVersions } from './parameter-versions.ts';
import type { PatienceOptions } from './patience.ts';

const ec2Fields = fieldsOf('EC2');
const ssmFields = fieldsOf('SSM');

export interface TestLaunch {
  imageId: string;
  instanceType: string;
  subnetId: string;
  securityGroupId: string | undefined;
  /** Name of the instance profile. */
  profile: string | undefined;
  userData: string | Uint8Array;
  tags: Record<string, string>;
  /** The same token never starts a second instance. */
  token: string;
}

export interface TestInstance {
  state: string;
  stateReason: string | undefined;
  /** EC2 can leave it out. */
  zoneId: string | undefined;
  tags: Record<string, string>;
}

export interface ImageAws extends ParameterVersions, MachineImages {
  /** Of this account, with this tag, whatever its value. */
  describeOwnImages(tag: string): Promise<MachineImage[]>;
  /** Of that account, whose name matches the pattern, * for anything. */
  findImages(owner: string, pattern: string): Promise<MachineImage[]>;
  /** An encrypted copy in this region, under the same name; its ID. */
  copyImage(source: MachineImage, region: string, tags: Record<string, string>): Promise<string>;
  /** Its SSM agent has registered and answers. */
  isManaged(instanceId: string): Promise<boolean>;
  /** Runs a shell script on a managed instance; the command's ID. */
  sendScript(instanceId: string, script: string): Promise<string>;
  /** What it has written to its standard output; undefined while it runs. */
  scriptOutput(commandId: string, instanceId: string): Promise<string | undefined>;
  /** IMDSv2 only, hop limit 1, terminated when it shuts down; its ID. */
  runInstance(launch: TestLaunch): Promise<string>;
  /** Instances that are or can be up again, with this tag. */
  describeTests(tag: string): Promise<{ instanceId: string; launchedMs: number }[]>;
  /** Undefined when EC2 does not know it, which may also mean not yet. */
  describeInstance(instanceId: string): Promise<TestInstance | undefined>;
  /** What its console shows; empty while there is nothing. */
  readConsole(instanceId: string): Promise<string>;
  /** One that is not there is gone already. */
  terminateInstance(instanceId: string): Promise<void>;
  tag(resourceId: string, tags: Record<string, string>): Promise<void>;
  deprecateImage(imageId: string, at: Date): Promise<void>;
  /** Names of all parameters below a path, at any depth. */
  listParameterNames(path: string): Promise<string[]>;
}

/** Every API action that images make use of, and whose it is. */
export const imageActions = {
  DescribeImages: 'ec2',
  DescribeInstances: 'ec2',
  RunInstances: 'ec2',
  TerminateInstances: 'ec2',
  GetConsoleOutput: 'ec2',
  CreateTags: 'ec2',
  EnableImageDeprecation: 'ec2',
  CopyImage: 'ec2',
  DescribeInstanceInformation: 'ssm',
  SendCommand: 'ssm',
  GetCommandInvocation: 'ssm',
  GetParametersByPath: 'ssm',
  GetParameterHistory: 'ssm',
  PutParameter: 'ssm',
  LabelParameterVersion: 'ssm',
} as const satisfies Record<string, 'ec2' | 'ssm'>;

export type ImageAction = keyof typeof imageActions;

const actions: Actions<ImageAction> = {
  services: imageActions,
  // The caller looks before it writes again, and needs one run.
  notRepeatable: ['PutParameter', 'SendCommand'],
  unanswered: 'EC2_UNAVAILABLE',
};

/** AWS behind `send`, every call repeated as long as that can help, every error a Failure. */
export function imageAws(send: Send<ImageAction>, patience: PatienceOptions): ImageAws {
  const call = operatorCalls(actions, send, patience);

  return {
    ...parameterVersions(call),
    ...machineImages(call),

    async describeOwnImages(tag) {
      const { Images } = await call<ec2.DescribeImagesResult>('DescribeImages', {
        Owners: ['self'],
        IncludeDeprecated: true,
      });
      return (Images ?? []).map(toMachineImage).filter((image) => image.tags[tag] !== undefined);
    },

    async findImages(owner, pattern) {
      const { Images } = await call<ec2.DescribeImagesResult>(
        'DescribeImages',
        { Owners: [owner], Filters: [{ Name: 'name', Values: [pattern] }] },
        { owner, pattern },
      );
      return (Images ?? []).map(toMachineImage);
    },

    async copyImage(source, region, tags) {
      const { ImageId } = await call<ec2.CopyImageResult>(
        'CopyImage',
        {
          SourceImageId: source.imageId,
          SourceRegion: region,
          Name: source.name,
          Description: `Copy of ${source.imageId}`,
          Encrypted: true,
          // One for all attempts of this call. Of the image's own, EC2 would go on answering with a copy that failed or is gone.
          ClientToken: crypto.randomUUID(),
          TagSpecifications: ['image', 'snapshot'].map((type) => ({
            ResourceType: type,
            Tags: toTags(tags),
          })),
        },
        { imageId: source.imageId },
      );
      return ec2Fields.field('ImageId', ImageId, 'imageId');
    },

    async isManaged(instanceId) {
      const { InstanceInformationList } = await call<ssm.DescribeInstanceInformationResult>(
        'DescribeInstanceInformation',
        { Filters: [{ Key: 'InstanceIds', Values: [instanceId] }] },
        { instanceId },
      );
      return InstanceInformationList?.[0]?.PingStatus === 'Online';
    },

    async sendScript(instanceId, script) {
      const { Command } = await call<ssm.SendCommandResult>(
        'SendCommand',
        {
          DocumentName: 'AWS-RunShellScript',
          InstanceIds: [instanceId],
          Parameters: { commands: [script] },
          TimeoutSeconds: 30,
        },
        { instanceId },
      );
      return ssmFields.field('CommandId', Command?.CommandId, 'id');
    },

    async scriptOutput(CommandId, InstanceId) {
      try {
        const { Status, StandardOutputContent } = await call<ssm.GetCommandInvocationResult>(
          'GetCommandInvocation',
          { CommandId, InstanceId },
          { instanceId: InstanceId },
        );
        const running = ['Pending', 'InProgress', 'Delayed'].includes(
          ssmFields.field('Status', Status, 'text'),
        );
        return running ? undefined : (StandardOutputContent ?? '');
      } catch (error) {
        // It is not there yet.
        if (isFailure(error, 'SSM_REFUSED') && error.facts['ssmCode'] === 'InvocationDoesNotExist')
          return undefined;
        throw error;
      }
    },

    async runInstance(launch) {
      const { Instances } = await call<ec2.Reservation>(
        'RunInstances',
        {
          ImageId: launch.imageId,
          InstanceType: launch.instanceType,
          MinCount: 1,
          MaxCount: 1,
          SubnetId: launch.subnetId,
          ClientToken: launch.token,
          ...(launch.securityGroupId === undefined ? {} : { SecurityGroupIds: [launch.securityGroupId] }),
          ...(launch.profile === undefined ? {} : { IamInstanceProfile: { Name: launch.profile } }),
          UserData: Buffer.from(launch.userData).toString('base64'),
          MetadataOptions: {
            HttpTokens: 'required',
            HttpPutResponseHopLimit: 1,
            HttpEndpoint: 'enabled',
            // An account can have them on by default, and then refuses tag keys that others' tools write.
            InstanceMetadataTags: 'disabled',
          },
          InstanceInitiatedShutdownBehavior: 'terminate',
          TagSpecifications: [{ ResourceType: 'instance', Tags: toTags(launch.tags) }],
        },
        { imageId: launch.imageId, subnetId: launch.subnetId },
      );
      return ec2Fields.field('InstanceId', Instances?.[0]?.InstanceId, 'instanceId');
    },

    async describeTests(tag) {
      const states = ['pending', 'running', 'stopping', 'stopped'];
      const found = await allPages(
        'EC2',
        (next) =>
          call<ec2.DescribeInstancesResult>('DescribeInstances', {
            Filters: [
              { Name: 'tag-key', Values: [tag] },
              { Name: 'instance-state-name', Values: states },
            ],
            ...next,
          }),
        (page) => page.Reservations?.flatMap(({ Instances }) => Instances ?? []),
      );
      return found.map(({ InstanceId, LaunchTime }) => ({
        instanceId: ec2Fields.field('InstanceId', InstanceId, 'instanceId'),
        launchedMs: ec2Fields.moment('LaunchTime', LaunchTime),
      }));
    },

    async describeInstance(instanceId) {
      try {
        const { Reservations } = await call<ec2.DescribeInstancesResult>(
          'DescribeInstances',
          { InstanceIds: [instanceId] },
          { instanceId },
        );
        const found = Reservations?.[0]?.Instances?.[0];
        return found === undefined
          ? undefined
          : {
              state: ec2Fields.field('State', found.State?.Name, 'text'),
              stateReason: found.StateReason?.Message,
              zoneId: ec2Fields.optional('AvailabilityZoneId', found.Placement?.AvailabilityZoneId, 'place'),
              tags: fromTags(found.Tags),
            };
      } catch (error) {
        if (isUnknownInstance(error)) return undefined;
        throw error;
      }
    },

    async readConsole(instanceId) {
      try {
        const { Output } = await call<ec2.GetConsoleOutputResult>(
          'GetConsoleOutput',
          { InstanceId: instanceId, Latest: true },
          { instanceId },
        );
        return Buffer.from(Output ?? '', 'base64').toString();
      } catch (error) {
        // Evidence only: not every instance type has Latest, and a young instance has no console.
        if (isFailure(error, 'EC2_REFUSED', 'EC2_DENIED')) return '';
        throw error;
      }
    },

    async terminateInstance(instanceId) {
      try {
        await call('TerminateInstances', { InstanceIds: [instanceId] }, { instanceId });
      } catch (error) {
        if (!isUnknownInstance(error)) throw error;
      }
    },

    async tag(resourceId, tags) {
      await call('CreateTags', { Resources: [resourceId], Tags: toTags(tags) }, { resourceId });
    },

    async deprecateImage(ImageId, DeprecateAt) {
      await call('EnableImageDeprecation', { ImageId, DeprecateAt }, { imageId: ImageId });
    },

    listParameterNames: (Path) =>
      allPages(
        'SSM',
        (next) =>
          call<ssm.GetParametersByPathResult>(
            'GetParametersByPath',
            { Path, Recursive: true, MaxResults: 10, ...next },
            { path: Path },
          ),
        (page) => page.Parameters?.flatMap(({ Name }) => Name ?? []),
      ),
  };
}

function toTags(tags: Record<string, string>): ec2.Tag[] {
  return Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));
}

function isUnknownInstance(error: unknown): boolean {
  return isFailure(error, 'EC2_REFUSED') && error.facts['ec2Code'] === 'InvalidInstanceID.NotFound';
}
