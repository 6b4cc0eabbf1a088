// A rollout's calls over the AWS SDK. Load this module on first use. Commands are imported by name, so that the bundler
// leaves out the others.
import { DescribeImagesCommand, DescribeInstancesCommand } from '@aws-sdk/client-ec2';
import {
  CancelCommandCommand,
  CreateDocumentCommand,
  DeleteParametersCommand,
  DescribeDocumentCommand,
  DescribeInstanceInformationCommand,
  GetParameterCommand,
  GetParameterHistoryCommand,
  GetParametersByPathCommand,
  LabelParameterVersionCommand,
  ListCommandInvocationsCommand,
  ListCommandsCommand,
  PutParameterCommand,
  SendCommandCommand,
  UnlabelParameterVersionCommand,
  UpdateDocumentCommand,
} from '@aws-sdk/client-ssm';
import type { FleetAction, Send } from './fleet.ts';
import { operatorClients } from './operator-clients.ts';

const ssmCommands: Record<
  Exclude<FleetAction, 'DescribeInstances' | 'DescribeImages'>,
  new (
    request: never,
  ) => object
> = {
  CancelCommand: CancelCommandCommand,
  CreateDocument: CreateDocumentCommand,
  DeleteParameters: DeleteParametersCommand,
  DescribeDocument: DescribeDocumentCommand,
  DescribeInstanceInformation: DescribeInstanceInformationCommand,
  GetParameter: GetParameterCommand,
  GetParameterHistory: GetParameterHistoryCommand,
  GetParametersByPath: GetParametersByPathCommand,
  LabelParameterVersion: LabelParameterVersionCommand,
  UnlabelParameterVersion: UnlabelParameterVersionCommand,
  ListCommandInvocations: ListCommandInvocationsCommand,
  ListCommands: ListCommandsCommand,
  PutParameter: PutParameterCommand,
  SendCommand: SendCommandCommand,
  UpdateDocument: UpdateDocumentCommand,
};

/** Throws USAGE when no region is set anywhere. */
export async function createSend(region: string | undefined): Promise<Send> {
  const { ec2, ssm } = await operatorClients(region);
  return async (action, request) => {
    if (action === 'DescribeInstances') return ec2.send(new DescribeInstancesCommand(request));
    if (action === 'DescribeImages') return ec2.send(new DescribeImagesCommand(request));
    return ssm.send(new ssmCommands[action](request as never) as never);
  };
}
