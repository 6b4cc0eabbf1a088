// Parameter Store, as much as configuration values and bundle parameters need. Commands get a file of their own beside this.
import type {
  GetParameterRequest,
  GetParameterResult,
  GetParametersRequest,
  GetParametersResult,
  LabelParameterVersionRequest,
  LabelParameterVersionResult,
  Parameter,
  PutParameterRequest,
  PutParameterResult,
} from '@aws-sdk/client-ssm';
import type { ApiCall } from '../ec2/ec2.ts';
import { AwsError } from '../ec2/errors.ts';
import type { Scheduler } from '../ec2/scheduler.ts';
import type { Caller } from '../ec2/state.ts';

interface Version {
  version: number;
  value: string;
  type: string;
  at: number;
  labels: Set<string>;
}

export interface Ssm {
  parameters: Map<string, Version[]>;
  send(action: string, request: object, caller?: Caller): object;
  /** Shortcut for tests: a new version of a String parameter. */
  put(name: string, value: string): number;
}

interface Store {
  parameters: Map<string, Version[]>;
  now: () => number;
  arnOf: (name: string) => string;
}

type Handler = (store: Store, request: never) => object;

const readers: Record<string, Handler> = { GetParameter: getParameter, GetParameters: getParameters };
const writers: Record<string, Handler> = {
  PutParameter: putParameter,
  LabelParameterVersion: labelParameterVersion,
};

export function isSsmMutating(action: string): boolean {
  return action in writers;
}

export function createSsm(
  scheduler: Scheduler,
  calls: ApiCall[],
  denied: Set<string>,
  arnPrefix: string,
): Ssm {
  const store: Store = {
    parameters: new Map(),
    now: () => scheduler.now(),
    arnOf: (name) => `${arnPrefix}:parameter${name}`,
  };

  function carryOut(action: string, request: object): object {
    const handler = readers[action] ?? writers[action];
    if (handler === undefined) throw new AwsError('UnknownOperationException', `${action} is not simulated`);
    if (denied.has(action) || denied.has('*'))
      throw new AwsError('AccessDeniedException', `The role is not authorized to perform: ssm:${action}`);
    return handler(store, request as never);
  }

  return {
    parameters: store.parameters,
    send: (action, request, caller = {}) => {
      const call: ApiCall = {
        service: 'ssm',
        action,
        instanceId: caller.instanceId,
        at: scheduler.now(),
        mutating: action in writers,
        accepted: false,
        request,
      };
      calls.push(call);
      try {
        const answer = carryOut(action, request);
        call.accepted = true;
        return answer;
      } catch (error) {
        if (error instanceof AwsError) call.error = error.code;
        throw error;
      }
    },
    put: (name, value) =>
      putParameter(store, { Name: name, Value: value, Type: 'String', Overwrite: true }).Version ?? 0,
  };
}

function getParameter(store: Store, request: GetParameterRequest): GetParameterResult {
  const parameter = find(store, request.Name ?? '');
  if (parameter === undefined)
    throw new AwsError('ParameterNotFound', `Parameter ${request.Name} not found.`);
  return { Parameter: parameter };
}

function getParameters(store: Store, request: GetParametersRequest): GetParametersResult {
  const names = request.Names ?? [];
  if (names.length > 10)
    throw new AwsError('ValidationException', 'Member must have length less than or equal to 10');
  const found = names.map((name) => ({ name, parameter: tryFind(store, name) }));
  return {
    Parameters: found.flatMap(({ parameter }) => (parameter === undefined ? [] : [parameter])),
    InvalidParameters: found.flatMap(({ name, parameter }) => (parameter === undefined ? [name] : [])),
  };
}

function putParameter(store: Store, request: PutParameterRequest): PutParameterResult {
  const { Name = '', Value = '' } = request;
  const versions = store.parameters.get(Name) ?? [];
  if (versions.length > 0 && request.Overwrite !== true)
    throw new AwsError(
      'ParameterAlreadyExists',
      'The parameter already exists. To overwrite this value, set the overwrite option in the request to true.',
    );
  const oldest = versions[0];
  if (versions.length >= 100 && oldest !== undefined) {
    if (oldest.labels.size > 0)
      throw new AwsError(
        'ParameterMaxVersionLimitExceeded',
        `Parameter ${Name} has 100 versions and the oldest one has a label.`,
      );
    versions.shift();
  }
  const version = (versions.at(-1)?.version ?? 0) + 1;
  versions.push({
    version,
    value: Value,
    type: request.Type ?? 'String',
    at: store.now(),
    labels: new Set(),
  });
  store.parameters.set(Name, versions);
  return { Version: version, Tier: 'Standard' };
}

/** A label sits on one version only: labelling another moves it. */
function labelParameterVersion(
  store: Store,
  request: LabelParameterVersionRequest,
): LabelParameterVersionResult {
  const versions = store.parameters.get(request.Name ?? '');
  if (versions === undefined) throw new AwsError('ParameterNotFound', `Parameter ${request.Name} not found.`);
  const target =
    request.ParameterVersion === undefined
      ? versions.at(-1)
      : versions.find((one) => one.version === request.ParameterVersion);
  if (target === undefined)
    throw new AwsError(
      'ParameterVersionNotFound',
      `Systems Manager could not find version ${request.ParameterVersion} of ${request.Name}.`,
    );
  for (const label of request.Labels ?? []) {
    for (const one of versions) one.labels.delete(label);
    target.labels.add(label);
  }
  return { InvalidLabels: [], ParameterVersion: target.version };
}

function tryFind(store: Store, reference: string): Parameter | undefined {
  try {
    return find(store, reference);
  } catch (error) {
    if (error instanceof AwsError) return undefined;
    throw error;
  }
}

/** By name, name:version or name:label. */
function find(store: Store, reference: string): Parameter | undefined {
  const [name = '', selector] = reference.split(':');
  const versions = store.parameters.get(name);
  if (versions === undefined) return undefined;
  const version =
    selector === undefined
      ? versions.at(-1)
      : /^\d+$/.test(selector)
        ? versions.find((one) => one.version === Number(selector))
        : versions.find((one) => one.labels.has(selector));
  if (version === undefined)
    throw new AwsError(
      'ParameterVersionNotFound',
      `Systems Manager could not find version ${selector} of ${name}. Verify the version and try again.`,
    );
  return {
    Name: name,
    Type: version.type as NonNullable<Parameter['Type']>,
    Value: version.value,
    Version: version.version,
    // The JSON protocol carries seconds since the epoch.
    LastModifiedDate: (version.at / 1000) as unknown as Date,
    ARN: store.arnOf(name),
    DataType: 'text',
    ...(selector === undefined ? {} : { Selector: `:${selector}` }),
  };
}
