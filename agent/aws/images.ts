// EC2 and Parameter Store for images: few calls, plain data, every error a Failure. images-sdk.ts sends requests over the SDK.
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
  /** undefined when EC2's answer has none. */
  zoneId: string | undefined;
  tags: Record<string, string>;
}

export interface ImageAws extends ParameterVersions, MachineImages {
  /** Images of this account with this tag, whatever the tag's value. */
  describeOwnImages(tag: string): Promise<MachineImage[]>;
  /** Images of the account `owner` whose name matches the pattern; * stands for any text. */
  findImages(owner: string, pattern: string): Promise<MachineImage[]>;
  /** Makes an encrypted copy in this region, under the same name. Returns its ID. */
  copyImage(source: MachineImage, region: string, tags: Record<string, string>): Promise<string>;
  /** Whether the instance's SSM agent has registered and answers. */
  isManaged(instanceId: string): Promise<boolean>;
  /** Runs a shell script on a managed instance. Returns the command's ID. */
  sendScript(instanceId: string, script: string): Promise<string>;
  /** What the script has written to its standard output; undefined while it runs. */
  scriptOutput(commandId: string, instanceId: string): Promise<string | undefined>;
  /** Launches an instance with IMDSv2 only and hop limit 1, which is terminated when it shuts down. Returns its ID. */
  runInstance(launch: TestLaunch): Promise<string>;
  /** Instances with this tag that run or can start again. */
  describeTests(tag: string): Promise<{ instanceId: string; launchedMs: number }[]>;
  /** undefined when EC2 does not know the instance; for a new instance it may know it later. */
  describeInstance(instanceId: string): Promise<TestInstance | undefined>;
  /** The text of the instance's console; empty while there is none. */
  readConsole(instanceId: string): Promise<string>;
  /** An instance that does not exist is no error. */
  terminateInstance(instanceId: string): Promise<void>;
  tag(resourceId: string, tags: Record<string, string>): Promise<void>;
  deprecateImage(imageId: string, at: Date): Promise<void>;
  /** Names of all parameters below a path, at any depth. */
  listParameterNames(path: string): Promise<string[]>;
}

/** Every API action that images use, and its service. */
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
  // The caller looks before it writes a parameter again; a script must run once.
  notRepeatable: ['PutParameter', 'SendCommand'],
  unanswered: 'EC2_UNAVAILABLE',
};

/** AWS behind `send`: every call is repeated as long as that can help, every error becomes a Failure. */
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
          // One token for all attempts of this call. With a token made from the image's ID, EC2 would keep returning an earlier
          // copy, even one that failed or was deregistered.
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
        // The invocation does not exist yet.
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
            // An account may turn these tags on by default. EC2 then refuses tag keys with characters that other tools use.
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
        // The console is evidence only: some instance types have no Latest, and a young instance has no console.
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
