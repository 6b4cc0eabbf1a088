// The calls of images over the AWS SDK. Load this module on first use. Commands are imported by name, so that the bundler
// leaves out the others.
import {
  CreateTagsCommand,
  DescribeImagesCommand,
  DescribeInstancesCommand,
  EC2Client,
  EnableImageDeprecationCommand,
  GetConsoleOutputCommand,
  RunInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import {
  GetParameterHistoryCommand,
  GetParametersByPathCommand,
  LabelParameterVersionCommand,
  PutParameterCommand,
  SSMClient,
} from '@aws-sdk/client-ssm';
import { Failure } from '../messages/failure.ts';
import { type ImageAction, imageActions, type SendImage } from './images.ts';

const commands: Record<ImageAction, new (request: never) => object> = {
  CreateTags: CreateTagsCommand,
  DescribeImages: DescribeImagesCommand,
  DescribeInstances: DescribeInstancesCommand,
  EnableImageDeprecation: EnableImageDeprecationCommand,
  GetConsoleOutput: GetConsoleOutputCommand,
  GetParameterHistory: GetParameterHistoryCommand,
  GetParametersByPath: GetParametersByPathCommand,
  LabelParameterVersion: LabelParameterVersionCommand,
  PutParameter: PutParameterCommand,
  RunInstances: RunInstancesCommand,
  TerminateInstances: TerminateInstancesCommand,
};

const ONE_ATTEMPT = {
  maxAttempts: 1,
  requestHandler: { connectionTimeout: 2_000, requestTimeout: 10_000, throwOnRequestTimeout: true },
};

/** As createSend() of fleet-sdk.ts. Throws USAGE when no region is set anywhere. */
export async function createImageSend(region: string | undefined): Promise<SendImage> {
  const options = { ...(region === undefined ? {} : { region }), ...ONE_ATTEMPT };
  const clients = { ec2: new EC2Client(options), ssm: new SSMClient(options) };
  try {
    await clients.ssm.config.region();
  } catch (error) {
    throw new Failure('USAGE', 'no AWS region: give --region or set AWS_REGION', {}, error);
  }
  return async (action, request) => {
    const command = new commands[action](request as never) as never;
    return imageActions[action] === 'ec2' ? clients.ec2.send(command) : clients.ssm.send(command);
  };
}
