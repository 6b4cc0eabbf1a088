// The calls of images over the AWS SDK. Load this module on first use. Commands are imported by name, so that the bundler
// leaves out the others.
import {
  CopyImageCommand,
  CreateTagsCommand,
  DescribeImagesCommand,
  DescribeInstancesCommand,
  EnableImageDeprecationCommand,
  GetConsoleOutputCommand,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import {
  DescribeInstanceInformationCommand,
  GetCommandInvocationCommand,
  GetParameterHistoryCommand,
  GetParametersByPathCommand,
  LabelParameterVersionCommand,
  PutParameterCommand,
  SendCommandCommand,
} from '@aws-sdk/client-ssm';
import { type ImageAction, imageActions } from './images.ts';
import type { Send } from './operator-calls.ts';
import { operatorSend } from './operator-clients.ts';

const commands: Record<ImageAction, new (request: never) => object> = {
  CopyImage: CopyImageCommand,
  CreateTags: CreateTagsCommand,
  DescribeImages: DescribeImagesCommand,
  DescribeInstanceInformation: DescribeInstanceInformationCommand,
  DescribeInstances: DescribeInstancesCommand,
  EnableImageDeprecation: EnableImageDeprecationCommand,
  GetCommandInvocation: GetCommandInvocationCommand,
  GetConsoleOutput: GetConsoleOutputCommand,
  GetParameterHistory: GetParameterHistoryCommand,
  GetParametersByPath: GetParametersByPathCommand,
  LabelParameterVersion: LabelParameterVersionCommand,
  PutParameter: PutParameterCommand,
  RunInstances: RunInstancesCommand,
  SendCommand: SendCommandCommand,
  TerminateInstances: TerminateInstancesCommand,
};

/** Throws USAGE when no region is set anywhere. */
export function createImageSend(region: string | undefined): Promise<Send<ImageAction>> {
  return operatorSend(region, imageActions, commands);
}
