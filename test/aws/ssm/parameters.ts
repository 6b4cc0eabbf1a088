// Parameter Store: versions, labels and their limits, the two tiers' sizes, and aws:ec2:image values that are only
// validated after PutParameter has returned. Source of limits: SSM API reference and "Quotas for Parameter Store".
import { createHash } from 'node:crypto';
import type {
  DeleteParametersRequest,
  DeleteParametersResult,
  GetParameterHistoryRequest,
  GetParameterHistoryResult,
  GetParameterRequest,
  GetParameterResult,
  GetParametersByPathRequest,
  GetParametersByPathResult,
  GetParametersRequest,
  GetParametersResult,
  LabelParameterVersionRequest,
  LabelParameterVersionResult,
  Parameter,
  PutParameterRequest,
  PutParameterResult,
  UnlabelParameterVersionRequest,
  UnlabelParameterVersionResult,
} from '@aws-sdk/client-ssm';
import { AwsError } from '../ec2/errors.ts';
import type { Handlers, Region } from './region.ts';
import { paged } from './region.ts';

interface Version {
  version: number;
  value: string;
  type: string;
  dataType: string;
  tier: 'Standard' | 'Advanced';
  at: number;
  labels: Set<string>;
}

export type Parameters = Map<string, Version[]>;

export interface ParameterStore {
  parameters: Parameters;
  handlers: Handlers;
  put(request: PutParameterRequest): PutParameterResult;
}

const LIMIT = { Standard: 4096, Advanced: 8192 };
const VERSIONS = 100;
const LABELS = 10;
/** Milliseconds until an aws:ec2:image value is validated. */
const IMAGE_VALIDATION_MS = 2_000;
/**
 * "After deleting a parameter, wait for at least 30 seconds to create a parameter with the same name." Source: SSM API
 * reference, DeleteParameters. AWS does not say with which error it refuses the name until then. TooManyUpdates is an
 * assumption: it is the only error of PutParameter that asks for a wait.
 */
const NAME_REST_MS = 30_000;

export function createParameterStore(region: Region): ParameterStore {
  const parameters: Parameters = new Map();
  /** The next version of each name. A value that is refused later has used its number up. */
  const next = new Map<string, number>();
  /** Deleted names → when each may be used again. */
  const freeAt = new Map<string, number>();

  function versionsOf(name: string): Version[] {
    const versions = parameters.get(name);
    if (versions === undefined) throw new AwsError('ParameterNotFound', `Parameter ${name} not found.`);
    return versions;
  }

  function put(request: PutParameterRequest): PutParameterResult {
    const { Name = '', Value = '' } = request;
    if (region.scheduler.now() < (freeAt.get(Name) ?? 0))
      throw new AwsError('TooManyUpdates', `Parameter ${Name} was deleted a moment ago.`);
    const versions = parameters.get(Name) ?? [];
    if (next.has(Name) && request.Overwrite !== true)
      throw new AwsError(
        'ParameterAlreadyExists',
        'The parameter already exists. To overwrite this value, set the overwrite option in the request to true.',
      );
    const tier = tierOf(request, versions.at(-1)?.tier);
    if (Buffer.byteLength(Value) > LIMIT[tier])
      throw new AwsError(
        'ValidationException',
        `${tier} tier parameters support a maximum parameter value of ${LIMIT[tier]} characters.`,
      );
    if (Value === '') throw new AwsError('ValidationException', 'A parameter value must not be empty.');
    if (versions.length >= VERSIONS) dropOldest(Name, versions);
    const version = (next.get(Name) ?? 0) + 1;
    next.set(Name, version);
    const dataType = request.DataType ?? versions.at(-1)?.dataType ?? 'text';
    const add = () => {
      versions.push({
        version,
        value: Value,
        type: request.Type ?? versions.at(-1)?.type ?? 'String',
        dataType,
        tier,
        at: region.scheduler.now(),
        labels: new Set(),
      });
      parameters.set(Name, versions);
    };
    if (dataType !== 'aws:ec2:image') add();
    else
      region.scheduler.after(IMAGE_VALIDATION_MS, () => {
        if (region.imageExists(Value)) add();
      });
    return { Version: version, Tier: tier };
  }

  function dropOldest(name: string, versions: Version[]): void {
    if ((versions[0]?.labels.size ?? 0) > 0)
      throw new AwsError(
        'ParameterMaxVersionLimitExceeded',
        `Parameter ${name} has ${VERSIONS} versions and the oldest one has a label.`,
      );
    versions.shift();
  }

  /** A label sits on one version only: labelling another moves it. */
  function label(request: LabelParameterVersionRequest): LabelParameterVersionResult {
    const versions = versionsOf(request.Name ?? '');
    const target = pick(request.Name ?? '', versions, request.ParameterVersion);
    const valid = (request.Labels ?? []).filter((one) => /^(?!aws|ssm|\d)[\w.-]{1,100}$/i.test(one));
    if (new Set([...target.labels, ...valid]).size > LABELS)
      throw new AwsError(
        'ParameterVersionLabelLimitExceeded',
        `A parameter version can have maximum ${LABELS} labels.`,
      );
    for (const one of valid) {
      for (const version of versions) version.labels.delete(one);
      target.labels.add(one);
    }
    return {
      InvalidLabels: (request.Labels ?? []).filter((one) => !valid.includes(one)),
      ParameterVersion: target.version,
    };
  }

  function unlabel(request: UnlabelParameterVersionRequest): UnlabelParameterVersionResult {
    const target = pick(request.Name ?? '', versionsOf(request.Name ?? ''), request.ParameterVersion);
    const removed = (request.Labels ?? []).filter((one) => target.labels.delete(one));
    return {
      RemovedLabels: removed,
      InvalidLabels: (request.Labels ?? []).filter((one) => !removed.includes(one)),
    };
  }

  function pick(name: string, versions: Version[], wanted: number | undefined): Version {
    const found =
      wanted === undefined ? versions.at(-1) : versions.find((version) => version.version === wanted);
    if (found !== undefined) return found;
    throw new AwsError(
      'ParameterVersionNotFound',
      `Systems Manager could not find version ${wanted} of ${name}. Verify the version and try again.`,
    );
  }

  /** The reference is a name, name:version or name:label. */
  function find(reference: string, decrypted: boolean): Parameter {
    const [name = '', selector] = reference.split(':');
    const versions = versionsOf(name);
    const byLabel = selector !== undefined && !/^\d+$/.test(selector);
    const version = byLabel ? versions.find((one) => one.labels.has(selector)) : undefined;
    if (byLabel && version === undefined)
      throw new AwsError(
        'ParameterVersionNotFound',
        `Systems Manager could not find version ${selector} of ${name}. Verify the version and try again.`,
      );
    const found = version ?? pick(name, versions, selector === undefined ? undefined : Number(selector));
    return {
      ...describe(name, found, decrypted),
      ...(selector === undefined ? {} : { Selector: `:${selector}` }),
    };
  }

  /**
   * Source: SSM API reference, GetParameters: "WithDecryption: Return decrypted secure string value." Without it a SecureString's
   * value is its ciphertext, in base64.
   */
  function describe(name: string, version: Version, decrypted: boolean): Parameter {
    const isReadable = version.type !== 'SecureString' || decrypted;
    return {
      Name: name,
      Type: version.type as NonNullable<Parameter['Type']>,
      Value: isReadable ? version.value : ciphertext(version.value),
      Version: version.version,
      LastModifiedDate: seconds(version.at),
      ARN: `${region.arnPrefix}:parameter${name}`,
      DataType: version.dataType,
    };
  }

  function tryFind(reference: string, decrypted: boolean): Parameter | undefined {
    try {
      return find(reference, decrypted);
    } catch (error) {
      if (error instanceof AwsError) return undefined;
      throw error;
    }
  }

  function getMany(request: GetParametersRequest): GetParametersResult {
    const names = request.Names ?? [];
    const found = names.map((name) => ({ name, parameter: tryFind(name, request.WithDecryption === true) }));
    return {
      Parameters: found.flatMap(({ parameter }) => (parameter === undefined ? [] : [parameter])),
      InvalidParameters: found.flatMap(({ name, parameter }) => (parameter === undefined ? [name] : [])),
    };
  }

  function getByPath(request: GetParametersByPathRequest): GetParametersByPathResult {
    const path = (request.Path ?? '').replace(/\/?$/, '/');
    const found = [...parameters]
      .filter(([name]) => name.startsWith(path))
      .filter(([name]) => request.Recursive === true || !name.slice(path.length).includes('/'))
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .flatMap(([name, versions]) =>
        versions.slice(-1).map((version) => describe(name, version, request.WithDecryption === true)),
      );
    const { items, ...rest } = paged(found, request, 10);
    return { Parameters: items, ...rest };
  }

  function history(request: GetParameterHistoryRequest): GetParameterHistoryResult {
    const name = request.Name ?? '';
    const { items, ...rest } = paged(versionsOf(name), request, 50);
    return {
      Parameters: items.map((version) => ({
        ...describe(name, version, request.WithDecryption === true),
        Type: version.type as NonNullable<Parameter['Type']>,
        Labels: [...version.labels],
        Tier: version.tier,
      })),
      ...rest,
    };
  }

  function remove(request: DeleteParametersRequest): DeleteParametersResult {
    const names = request.Names ?? [];
    const deleted = names.filter((name) => next.delete(name));
    for (const name of deleted) {
      parameters.delete(name);
      freeAt.set(name, region.scheduler.now() + NAME_REST_MS);
    }
    return {
      DeletedParameters: deleted,
      InvalidParameters: names.filter((name) => !deleted.includes(name)),
    };
  }

  return {
    parameters,
    put,
    handlers: {
      readers: {
        GetParameter: (request: GetParameterRequest): GetParameterResult => ({
          Parameter: find(request.Name ?? '', request.WithDecryption === true),
        }),
        GetParameters: getMany,
        GetParametersByPath: getByPath,
        GetParameterHistory: history,
      },
      writers: {
        PutParameter: put,
        LabelParameterVersion: label,
        UnlabelParameterVersion: unlabel,
        DeleteParameters: remove,
      },
    },
  };
}

function ciphertext(value: string): string {
  return createHash('sha512').update(value).digest('base64');
}

function tierOf(request: PutParameterRequest, before: Version['tier'] | undefined): Version['tier'] {
  // An advanced parameter cannot become a standard one again.
  if (before === 'Advanced' || request.Tier === 'Advanced') return 'Advanced';
  if (request.Tier !== 'Intelligent-Tiering') return 'Standard';
  return Buffer.byteLength(request.Value ?? '') > LIMIT.Standard ? 'Advanced' : 'Standard';
}

/** The JSON protocol carries seconds since the epoch. */
export function seconds(ms: number): Date {
  return (ms / 1000) as unknown as Date;
}
