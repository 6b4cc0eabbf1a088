// The SDK's clients as an operator's machine has them. Load this module on first use.
import { EC2Client } from '@aws-sdk/client-ec2';
import { SSMClient } from '@aws-sdk/client-ssm';
import { Failure } from '../messages/failure.ts';
import { bounds } from '../port/bounds.ts';
import { environment } from '../port/runtime.ts';
import type { Send } from './operator-calls.ts';
import { boundedHandler, type OnDate } from './sdk-handler.ts';

/** patience.ts repeats calls, the SDK does not. */
const ONE_ATTEMPT = { maxAttempts: 1 };
const LIMITS = { answerMs: 10_000, maxBytes: bounds.operatorAnswerBytes };

/**
 * EC2 and SSM from anywhere: credentials, endpoint and (unless given) region come from where every AWS tool looks.
 * Throws USAGE when no region is set anywhere.
 */
export async function operatorClients(
  region: string | undefined,
  onDate?: OnDate,
): Promise<{ ec2: EC2Client; ssm: SSMClient }> {
  // The SDK knows AWS_REGION and the profile's; other tools also this one.
  const wanted = region ?? environment('AWS_REGION') ?? environment('AWS_DEFAULT_REGION');
  // One for both: the clients that look for credentials take it over too.
  const requestHandler = boundedHandler(LIMITS, onDate);
  const options = { ...(wanted === undefined ? {} : { region: wanted }), ...ONE_ATTEMPT, requestHandler };
  const clients = { ec2: new EC2Client(options), ssm: new SSMClient(options) };
  try {
    await clients.ec2.config.region();
  } catch (error) {
    throw new Failure('USAGE', 'no AWS region: give --region or set AWS_REGION', {}, error);
  }
  return clients;
}

/** Carries requests to the service that each action is of; rejects as the SDK does. Throws USAGE without a region. */
export async function operatorSend<Action extends string>(
  region: string | undefined,
  actions: Record<Action, 'ec2' | 'ssm'>,
  commands: Record<Action, new (request: never) => object>,
  onDate?: OnDate,
): Promise<Send<Action>> {
  const { ec2, ssm } = await operatorClients(region, onDate);
  return async (action, request) => {
    const command = new commands[action](request as never) as never;
    return actions[action] === 'ec2' ? ec2.send(command) : ssm.send(command);
  };
}
