// Parameter Store, as far as a node reads it.
import { Failure, isFailure } from '../messages/failure.ts';
import type { Imds } from './imds.ts';
import { readCredentials } from './metadata.ts';

export interface SsmOptions {
  region: string;
  endpoint: string | undefined;
  imds: Imds;
}

/** GetParameters takes at most so many names. Source: SSM API reference. */
const NAMES_PER_CALL = 10;

export interface ReadParameter {
  value: string;
  /** Counts what was ever written into it. */
  version: number;
}

/** Values of the parameters that exist, decrypted. Throws as readVersioned does. */
export async function readParameters(names: string[], options: SsmOptions): Promise<Map<string, string>> {
  const found = await readVersioned(names, options);
  return new Map([...found].map(([name, { value }]) => [name, value]));
}

/** The parameters that exist, decrypted. Throws SSM_FAILED (transient) when SSM does not answer, SSM_DENIED. */
export async function readVersioned(
  names: string[],
  options: SsmOptions,
): Promise<Map<string, ReadParameter>> {
  const { SSMClient, GetParametersCommand } = await import('@aws-sdk/client-ssm');
  const client = new SSMClient({
    region: options.region,
    ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
    credentials: () => readCredentials(options.imds),
    maxAttempts: 2,
    requestHandler: { connectionTimeout: 2_000, requestTimeout: 5_000, throwOnRequestTimeout: true },
  });
  const found = new Map<string, ReadParameter>();
  for (let at = 0; at < names.length; at += NAMES_PER_CALL) {
    const Names = names.slice(at, at + NAMES_PER_CALL);
    try {
      const answer = await client.send(new GetParametersCommand({ Names, WithDecryption: true }));
      for (const parameter of answer.Parameters ?? [])
        found.set(parameter.Name ?? '', { value: parameter.Value ?? '', version: parameter.Version ?? 0 });
    } catch (error) {
      // The credentials' own.
      if (isFailure(error)) throw error;
      const name = error instanceof Error ? error.name : 'Error';
      const message = error instanceof Error ? error.message : String(error);
      const code = name === 'AccessDeniedException' ? 'SSM_DENIED' : 'SSM_FAILED';
      throw new Failure(code, `GetParameters: ${name}: ${message}`, { names: Names, ssmCode: name }, error);
    }
  }
  return found;
}
