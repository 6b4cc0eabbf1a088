// A rollout's calls over the AWS SDK. Load this module on first use. Commands are imported by name, so that the bundler
// leaves out the others.
import { DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2';
import {
  CancelCommandCommand,
  CreateDocumentCommand,
  DeleteParametersCommand,
  DescribeDocumentCommand,
  DescribeInstanceInformationCommand,
  GetParameterCommand,
  GetParametersByPathCommand,
  LabelParameterVersionCommand,
  ListCommandInvocationsCommand,
  ListCommandsCommand,
  PutParameterCommand,
  SendCommandCommand,
  SSMClient,
  UnlabelParameterVersionCommand,
  UpdateDocumentCommand,
} from '@aws-sdk/client-ssm';
import { Failure } from '../messages/failure.ts';
import type { FleetAction, Send } from './fleet.ts';

const ssmCommands: Record<Exclude<FleetAction, 'DescribeInstances'>, new (request: never) => object> = {
  CancelCommand: CancelCommandCommand,
  CreateDocument: CreateDocumentCommand,
  DeleteParameters: DeleteParametersCommand,
  DescribeDocument: DescribeDocumentCommand,
  DescribeInstanceInformation: DescribeInstanceInformationCommand,
  GetParameter: GetParameterCommand,
  GetParametersByPath: GetParametersByPathCommand,
  LabelParameterVersion: LabelParameterVersionCommand,
  UnlabelParameterVersion: UnlabelParameterVersionCommand,
  ListCommandInvocations: ListCommandInvocationsCommand,
  ListCommands: ListCommandsCommand,
  PutParameter: PutParameterCommand,
  SendCommand: SendCommandCommand,
  UpdateDocument: UpdateDocumentCommand,
};

const ONE_ATTEMPT = {
  maxAttempts: 1,
  requestHandler: { connectionTimeout: 2_000, requestTimeout: 10_000, throwOnRequestTimeout: true },
};

/**
 * EC2 and SSM as an operator calls them, from anywhere: credentials, endpoint and (unless given) region come from where
 * every AWS tool looks. Throws USAGE when no region is set anywhere.
 */
export async function createSend(region: string | undefined): Promise<Send> {
  const options = { ...(region === undefined ? {} : { region }), ...ONE_ATTEMPT };
  const ec2 = new EC2Client(options);
  const ssm = new SSMClient(options);
  try {
    await ssm.config.region();
  } catch (error) {
    throw new Failure('USAGE', 'no AWS region: give --region or set AWS_REGION', {}, error);
  }
  return async (action, request) => {
    if (action === 'DescribeInstances') return ec2.send(new DescribeInstancesCommand(request));
    return ssm.send(new ssmCommands[action](request as never) as never);
  };
}
