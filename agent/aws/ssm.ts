// The part of Parameter Store that a node reads.

import type { Parameter } from '@aws-sdk/client-ssm';
import { bounds } from '../port/bounds.ts';
import { awsFailure } from './aws-failure.ts';
import { fieldsOf } from './fields.ts';
import type { Imds } from './imds.ts';
import { readCredentials } from './metadata.ts';
import { partsOf } from './paging.ts';

const { field, count, list, senseless } = fieldsOf('SSM');

export interface SsmOptions {
  region: string;
  endpoint: string | undefined;
  imds: Imds;
}

/** Names in one call of GetParameters. Source: SSM API reference. */
const NAMES_PER_CALL = 10;

export interface ReadParameter {
  value: string;
  /** Number of the version: each write raises it. */
  version: number;
  /** `String`, `StringList` or `SecureString`, which is decrypted here. */
  type: string;
}

/** Values of the parameters that exist, decrypted. Throws as readVersioned does. */
export async function readParameters(names: string[], options: SsmOptions): Promise<Map<string, string>> {
  const found = await readVersioned(names, options);
  return new Map([...found].map(([name, { value }]) => [name, value]));
}

/**
 * The parameters that exist, decrypted. Throws SSM_FAILED (transient) when SSM does not answer or its answer makes no sense,
 * SSM_THROTTLED, SSM_DENIED, SSM_REFUSED.
 */
export async function readVersioned(
  names: string[],
  options: SsmOptions,
): Promise<Map<string, ReadParameter>> {
  const { SSMClient, GetParametersCommand } = await import('@aws-sdk/client-ssm');
  const { boundedHandler } = await import('./sdk-handler.ts');
  const client = new SSMClient({
    region: options.region,
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    credentials: () => readCredentials(options.imds),
    maxAttempts: 2,
    requestHandler: boundedHandler({ answerMs: 5_000, maxBytes: bounds.nodeAnswerBytes }),
  });
  const found = new Map<string, ReadParameter>();
  for (const Names of partsOf(names, NAMES_PER_CALL)) {
    try {
      const answer = await client.send(new GetParametersCommand({ Names, WithDecryption: true }));
      const parameters = list<Parameter>('Parameters', answer.Parameters, Names.length);
      const unknown = list<string>('InvalidParameters', answer.InvalidParameters, Names.length);
      for (const { Name, Value, Version, Type } of parameters)
        found.set(field('Name', Name, 'text'), {
          value: field('Value', Value, 'parameter'),
          version: count('Version', Version, Number.MAX_SAFE_INTEGER),
          type: field('Type', Type, 'text'),
        });
      // Each name is in one of the two lists. Source: SSM API reference, GetParameters.
      const forgotten = Names.find((name) => !found.has(name) && !unknown.includes(name));
      if (forgotten !== undefined) throw senseless(`the result for ${forgotten}`, undefined);
    } catch (error) {
      throw awsFailure('SSM', 'GetParameters', { names: Names }, error);
    }
  }
  return found;
}
