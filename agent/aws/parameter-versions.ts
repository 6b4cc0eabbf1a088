// Versions of a parameter and their labels: calls that images and rollouts share.
import type * as ssm from '@aws-sdk/client-ssm';
import { isFailure } from '../messages/failure.ts';
import { fieldsOf } from './fields.ts';
import type { Call } from './operator-calls.ts';
import { allPages } from './paging.ts';

const { count, field } = fieldsOf('SSM');

export interface ParameterVersion {
  version: number;
  value: string;
  labels: string[];
}

export interface ParameterVersions {
  /** Oldest first; empty when there is no such parameter. */
  readVersions(name: string): Promise<ParameterVersion[]>;
  /**
   * Writes a version of type aws:ec2:image; returns its number. The version can only be read after EC2 has confirmed the image,
   * which may never happen.
   */
  putImage(name: string, imageId: string): Promise<number>;
  /** Puts the label on this version, and takes it from any other. */
  label(name: string, version: number, label: string): Promise<void>;
}

type Action = 'GetParameterHistory' | 'PutParameter' | 'LabelParameterVersion';

export function parameterVersions(call: Call<Action>): ParameterVersions {
  return {
    async readVersions(Name) {
      try {
        const found = await allPages(
          'SSM',
          (next) =>
            call<ssm.GetParameterHistoryResult>(
              'GetParameterHistory',
              { Name, MaxResults: 50, ...next },
              { name: Name },
            ),
          (page) => page.Parameters,
        );
        return found
          .map(({ Version, Value, Labels }) => ({
            version: count('Version', Version, Number.MAX_SAFE_INTEGER),
            value: field('Value', Value, 'text'),
            labels: Labels ?? [],
          }))
          .sort((a, b) => a.version - b.version);
      } catch (error) {
        if (isFailure(error, 'SSM_REFUSED') && error.facts['ssmCode'] === 'ParameterNotFound') return [];
        throw error;
      }
    },

    async putImage(Name, Value) {
      const { Version } = await call<ssm.PutParameterResult>(
        'PutParameter',
        { Name, Value, Type: 'String', DataType: 'aws:ec2:image', Overwrite: true },
        { name: Name, imageId: Value },
      );
      return count('Version', Version, Number.MAX_SAFE_INTEGER);
    },

    async label(Name, ParameterVersion, label) {
      await call(
        'LabelParameterVersion',
        { Name, ParameterVersion, Labels: [label] },
        { name: Name, version: ParameterVersion, label },
      );
    },
  };
}
