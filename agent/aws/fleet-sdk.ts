// A rollout's calls over the AWS SDK. Load this module on first use. Commands are imported by name, so that the bundler
// leaves out the others.
import { DescribeAlarmHistoryCommand, DescribeAlarmsCommand } from '@aws-sdk/client-cloudwatch';
import { DescribeImagesCommand, DescribeInstancesCommand } from '@aws-sdk/client-ec2';
import {
  CancelCommandCommand,
  CreateDocumentCommand,
  DeleteParametersCommand,
  DescribeDocumentCommand,
  DescribeInstanceInformationCommand,
  GetDocumentCommand,
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
import { type FleetAction, fleetActions } from './fleet.ts';
import type { Send } from './operator-calls.ts';
import { operatorSend } from './operator-clients.ts';
import type { OnDate } from './sdk-handler.ts';

const commands: Record<FleetAction, new (request: never) => object> = {
  DescribeImages: DescribeImagesCommand,
  DescribeInstances: DescribeInstancesCommand,
  DescribeAlarms: DescribeAlarmsCommand,
  DescribeAlarmHistory: DescribeAlarmHistoryCommand,
  CancelCommand: CancelCommandCommand,
  CreateDocument: CreateDocumentCommand,
  DeleteParameters: DeleteParametersCommand,
  DescribeDocument: DescribeDocumentCommand,
  DescribeInstanceInformation: DescribeInstanceInformationCommand,
  GetDocument: GetDocumentCommand,
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
export function createSend(region: string | undefined, onDate: OnDate): Promise<Send<FleetAction>> {
  return operatorSend(region, fleetActions, commands, onDate);
}
