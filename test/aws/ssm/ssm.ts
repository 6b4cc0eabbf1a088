// The state machine of SSM: one call in, one answer or AwsError out, no I/O. Its parts have files of their own.
import { type ApiCall, recording } from '../calls.ts';
import { AwsError } from '../ec2/errors.ts';
import type { Caller } from '../ec2/state.ts';
import { type BucketSize, Throttle } from '../ec2/throttle.ts';
import { checkRequest } from '../requests/check.ts';
import { createCommands } from './commands.ts';
import { createDocuments } from './documents.ts';
import { createManaged, type Managed, type ManagedNode } from './managed.ts';
import { createParameterStore, type Parameters } from './parameters.ts';
import { type Handler, type Region, type SsmLatency, ssmLatency } from './region.ts';

export interface SsmOptions extends Omit<Region, 'latency' | 'may'> {
  /** What differs from `ssmLatency`. */
  latency?: Partial<SsmLatency>;
  calls: ApiCall[];
  denied: Set<string>;
  /** Bucket sizes that differ from `defaultSsmBucket`. */
  bucketOf?: ((action: string) => BucketSize | undefined) | undefined;
}

export interface Ssm {
  parameters: Parameters;
  /** Instances whose SSM agent has registered. */
  nodes: Map<string, ManagedNode>;
  limits: Managed['limits'];
  /** Kept, not copied: changing it later counts. */
  latency: SsmLatency;
  send(action: string, request: object, caller?: Caller): object;
  /** Shortcut for tests: a new version of a String parameter. */
  put(name: string, value: string): number;
}

const mutating = new Set([
  'PutParameter',
  'LabelParameterVersion',
  'UnlabelParameterVersion',
  'DeleteParameters',
  'CreateDocument',
  'UpdateDocument',
  'UpdateDocumentDefaultVersion',
  'SendCommand',
  'CancelCommand',
]);

export function isSsmMutating(action: string): boolean {
  return mutating.has(action);
}

/**
 * Parameter Store's published default throughput is 40 reads and 3 writes a second ("Quotas for Parameter Store").
 * For Run Command and documents AWS publishes none: these sizes are assumptions, chosen rather small.
 */
export function defaultSsmBucket(action: string): BucketSize {
  if (/^Get(Parameter|Parameters|ParametersByPath|ParameterHistory)$/.test(action))
    return { capacity: 40, refill: 40 };
  if (action.includes('Parameter')) return { capacity: 6, refill: 3 };
  return mutating.has(action) ? { capacity: 10, refill: 2 } : { capacity: 20, refill: 5 };
}

export function createSsm(options: SsmOptions): Ssm {
  const { scheduler, calls, denied } = options;
  const region: Region = {
    ...options,
    latency: { ...ssmLatency, ...options.latency },
    may: (permission) => !denied.has(permission),
  };
  const store = createParameterStore(region);
  const documents = createDocuments(region);
  const managed = createManaged(region);
  const commands = createCommands(region, documents, managed);
  const handlers: Record<string, Handler> = Object.assign(
    {},
    ...[store, documents, managed, commands].flatMap((part) => [
      part.handlers.readers,
      part.handlers.writers,
    ]),
  );
  const throttle = new Throttle(
    scheduler,
    (action) => options.bucketOf?.(action) ?? defaultSsmBucket(action),
  );

  function carryOut(action: string, request: object): object {
    const handler = handlers[action];
    if (handler === undefined) throw new AwsError('UnknownOperationException', `${action} is not simulated`);
    if (!throttle.take(action)) throw new AwsError('ThrottlingException', 'Rate exceeded');
    checkRequest('ssm', action, request, scheduler.now());
    if (denied.has(action) || denied.has('*'))
      throw new AwsError('AccessDeniedException', `The role is not authorized to perform: ssm:${action}`);
    return handler(request as never);
  }

  return {
    parameters: store.parameters,
    nodes: managed.nodes,
    limits: managed.limits,
    latency: region.latency,
    send: recording({ service: 'ssm', calls, scheduler, isMutating: isSsmMutating, carryOut }),
    put: (name, value) =>
      store.put({ Name: name, Value: value, Type: 'String', Overwrite: true }).Version ?? 0,
  };
}
