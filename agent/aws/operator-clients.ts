// The SDK's clients for an operator's machine. Load this module on first use.
import { CloudWatchClient } from '@aws-sdk/client-cloudwatch';
import { EC2Client } from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import { Failure } from '../messages/failure.ts';
import { bounds } from '../port/bounds.ts';
import { environment } from '../port/runtime.ts';
import type { Send, ServiceName } from './operator-calls.ts';
import { boundedHandler, type OnDate } from './sdk-handler.ts';

/** patience.ts repeats calls, the SDK does not. */
const ONE_ATTEMPT = { maxAttempts: 1 };
const LIMITS = { answerMs: 10_000, maxBytes: bounds.operatorAnswerBytes };

/**
 * EC2, SSM and CloudWatch from anywhere: credentials, endpoint and (unless given) region come from the environment and ~/.aws,
 * as for every AWS tool. Throws USAGE when no region is set anywhere, or when it cannot be one.
 */
export async function operatorClients(
  region: string | undefined,
  onDate?: OnDate,
): Promise<{ ec2: EC2Client; ssm: SSMClient; cloudwatch: CloudWatchClient }> {
  // The SDK reads AWS_REGION and the profile's region; other AWS tools also read AWS_DEFAULT_REGION. An empty variable is one that
  // is not set: the SDK's clients are not made with an empty region.
  const wanted = region ?? (environment('AWS_REGION') || environment('AWS_DEFAULT_REGION') || undefined);
  // One handler for all: the clients that the SDK makes to look for credentials use it too.
  const requestHandler = boundedHandler(LIMITS, onDate);
  const options = { ...(wanted === undefined ? {} : { region: wanted }), ...ONE_ATTEMPT, requestHandler };
  const clients = {
    ec2: new EC2Client(options),
    ssm: new SSMClient(options),
    cloudwatch: new CloudWatchClient(options),
  };
  try {
    await clients.ec2.config.region();
  } catch (error) {
    const why =
      wanted === undefined
        ? 'no AWS region: give --region or set AWS_REGION'
        : `${wanted} is not an AWS region, such as eu-central-1`;
    throw new Failure('USAGE', why, {}, error);
  }
  return clients;
}

/** The region that those clients call. Throws USAGE when none is set anywhere. */
export async function operatorRegion(region: string | undefined): Promise<string> {
  return (await operatorClients(region)).ec2.config.region();
}

/** Sends each request to the service of its action; rejects with the SDK's errors. Throws USAGE without a region. */
export async function operatorSend<Action extends string>(
  region: string | undefined,
  actions: Record<Action, ServiceName>,
  commands: Record<Action, new (request: never) => object>,
  onDate?: OnDate,
): Promise<Send<Action>> {
  const clients = await operatorClients(region, onDate);
  return async (action, request) => {
    const command = new commands[action](request as never) as never;
    switch (actions[action]) {
      case 'ec2':
        return clients.ec2.send(command);
      case 'ssm':
        return clients.ssm.send(command);
      case 'cloudwatch':
        return clients.cloudwatch.send(command);
    }
  };
}
