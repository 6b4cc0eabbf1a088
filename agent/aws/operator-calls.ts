// Calls to EC2 and Systems Manager by action, as rollouts and images make them.
import type { FailureCode } from '../messages/failure.ts';
import { awsFailure } from './aws-failure.ts';
import { type PatienceOptions, patient } from './patience.ts';

/** Carries one request to AWS, in the shapes of the SDK's commands; rejects as the SDK does. */
export type Send<Action extends string> = (action: Action, request: object) => Promise<object>;

/** One request to AWS, with what a Failure says of it. */
export type Call<Action extends string> = <Answer>(
  action: Action,
  request: object,
  facts?: Record<string, unknown>,
) => Promise<Answer>;

export interface Actions<Action extends string> {
  /** Whose each is. */
  services: Record<Action, 'ec2' | 'ssm'>;
  /** Those that do more when sent twice: without an answer only a look can tell whether they were carried out. */
  notRepeatable: Action[];
  /** The failure that is told when AWS does not answer. */
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
      throw awsFailure(services[action] === 'ec2' ? 'EC2' : 'SSM', action, facts, error, 'operator');
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
