// Calls to AWS by action, for rollouts and images.
import type { FailureCode } from '../messages/failure.ts';
import { awsFailure, type SdkService } from './aws-failure.ts';
import { type PatienceOptions, patient } from './patience.ts';

/** Sends one request to AWS, in the shapes of the SDK's commands; rejects with the SDK's errors. */
export type Send<Action extends string> = (action: Action, request: object) => Promise<object>;

/** One request to AWS; a Failure names the action. */
export type Call<Action extends string> = <Answer>(
  action: Action,
  request: object,
  facts?: Record<string, unknown>,
) => Promise<Answer>;

/** A service, by its prefix in IAM policies. */
export type ServiceName = 'ec2' | 'ssm' | 'cloudwatch';

const called: Record<ServiceName, SdkService> = { ec2: 'EC2', ssm: 'SSM', cloudwatch: 'CloudWatch' };

export interface Actions<Action extends string> {
  /** The service of each action. */
  services: Record<Action, ServiceName>;
  /** Actions that do more when sent twice: after a lost answer only a look can tell whether the first was carried out. */
  notRepeatable: Action[];
  /** The failure code for AWS that does not answer. */
  unanswered: FailureCode;
}

/** AWS behind `send`: every call is repeated as long as that can help, every error becomes a Failure. */
export function operatorCalls<Action extends string>(
  { services, notRepeatable, unanswered }: Actions<Action>,
  send: Send<Action>,
  patience: PatienceOptions,
): Call<Action> {
  type Calls = Record<Action, (request: object, facts: Record<string, unknown>) => Promise<object>>;
  const names = Object.keys(services) as Action[];
  const once = (action: Action) => async (request: object, facts: Record<string, unknown>) => {
    try {
      return await send(action, request);
    } catch (error) {
      throw awsFailure(called[services[action]], action, facts, error, 'operator');
    }
  };
  const calls = patient(
    Object.fromEntries(names.map((name) => [name, once(name)])) as Calls,
    {
      name: 'AWS',
      actions: Object.fromEntries<string>(names.map((name) => [name, name])) as Record<Action, string>,
      isMutating: (action) => !/^(Describe|Get|List)/.test(action),
      notRepeatable: new Set(notRepeatable),
      unanswered,
    },
    patience,
  );
  return async <Answer>(action: Action, request: object, facts: Record<string, unknown> = {}) =>
    (await calls[action](request, facts)) as Answer;
}
