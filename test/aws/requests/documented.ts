// Rules for requests that AWS documents and its models do not have: a line for each rule, with its source.
import type { ServiceName } from '../fetch.ts';

export interface Rule {
  service: ServiceName;
  source: string;
  /** AWS's code of the refusal. */
  code: string;
  /** Why the request is refused; undefined when it is not. */
  problem(request: Loose, action: string, nowMs: number): string | undefined;
}

/** A request whose types were checked by the model. */
export type Loose = Record<string, unknown> & {
  Tags?: Tag[];
  TagSpecifications?: { ResourceType?: string; Tags?: Tag[] }[];
  Filters?: { Name?: string; Values?: string[] }[];
};

interface Tag {
  Key?: string;
  Value?: string;
}

const EC2_API = 'https://docs.aws.amazon.com/AWSEC2/latest/APIReference';
const EC2_GUIDE = 'https://docs.aws.amazon.com/AWSEC2/latest/UserGuide';
const SSM_API = 'https://docs.aws.amazon.com/systems-manager/latest/APIReference';

const TAGS = 50;
const FILTERS = 50;
const FILTER_VALUES = 200;
const USER_DATA_BYTES = 16 * 1024;

/** The lists of tags in a request. */
function tagLists({ Tags, TagSpecifications = [] }: Loose): Tag[][] {
  return [...(Tags === undefined ? [] : [Tags]), ...TagSpecifications.map((one) => one.Tags ?? [])];
}

const tagRules: Rule[] = [
  {
    service: 'ec2',
    source: `${EC2_API}/API_Tag.html`,
    code: 'InvalidParameterValue',
    problem: (request) =>
      first(tagLists(request).flat(), ({ Key = '', Value = '' }) => {
        if (Key === '') return 'Tag key cannot be empty';
        if ([...Key].length > 127) return `Tag key exceeds the maximum length of 127: ${Key}`;
        if ([...Value].length > 256) return `Tag value exceeds the maximum length of 256: ${Value}`;
        return /^aws:/i.test(Key) ? `Tag keys starting with 'aws:' are reserved for internal use` : undefined;
      }),
  },
  {
    service: 'ec2',
    source: `${EC2_GUIDE}/Using_Tags.html#tag-restrictions`,
    code: 'InvalidParameterValue',
    problem: (request) =>
      first(tagLists(request), (tags) => {
        const keys = tags.map((tag) => tag.Key);
        const twice = keys.find((key, index) => keys.indexOf(key) !== index);
        return twice === undefined ? undefined : `Duplicate tag key '${twice}' specified.`;
      }),
  },
  {
    service: 'ec2',
    source: `${EC2_GUIDE}/Using_Tags.html#tag-restrictions`,
    code: 'TagLimitExceeded',
    problem: (request) =>
      tagLists(request).some((tags) => tags.length > TAGS)
        ? `More than ${TAGS} tags specified for a resource.`
        : undefined,
  },
  {
    service: 'ec2',
    source: `${EC2_API}/API_CreateTags.html`,
    code: 'InvalidParameterValue',
    problem: ({ Resources }, action) => {
      if (action !== 'CreateTags') return undefined;
      const { length } = Resources as string[];
      return length > 1000 ? `${length} resources in one request; there may be 1000` : undefined;
    },
  },
];

const ec2Rules: Rule[] = [
  {
    service: 'ec2',
    source: 'https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-idempotency.html',
    code: 'InvalidParameterValue',
    problem: ({ ClientToken }) =>
      typeof ClientToken === 'string' && !/^[\x20-\x7e]{1,64}$/.test(ClientToken)
        ? `Invalid client token: at most 64 ASCII characters: ${ClientToken}`
        : undefined,
  },
  {
    service: 'ec2',
    source: `${EC2_API}/errors-overview.html`,
    code: 'FilterLimitExceeded',
    problem: ({ Filters = [] }) => {
      if (Filters.length > FILTERS) return `The maximum number of filters in a request is ${FILTERS}.`;
      return Filters.reduce((sum, { Values = [] }) => sum + Values.length, 0) > FILTER_VALUES
        ? `The maximum number of filter values in a request is ${FILTER_VALUES}.`
        : undefined;
    },
  },
  {
    service: 'ec2',
    source: `${EC2_API}/API_DescribeTags.html`,
    code: 'InvalidParameterValue',
    problem: ({ MaxResults }, action) =>
      ['DescribeTags', 'DescribeInstances'].includes(action) &&
      MaxResults !== undefined &&
      (Number(MaxResults) < 5 || Number(MaxResults) > 1000)
        ? `Value ( ${String(MaxResults)} ) for parameter maxResults is invalid. Expecting a value between 5 and 1000.`
        : undefined,
  },
  {
    service: 'ec2',
    source: `${EC2_API}/API_DescribeInstances.html`,
    code: 'InvalidParameterCombination',
    problem: ({ MaxResults, InstanceIds, NetworkInterfaceIds }) => {
      const ids = (InstanceIds ?? NetworkInterfaceIds ?? []) as string[];
      return MaxResults !== undefined && ids.length > 0
        ? 'The parameter maxResults cannot be used with IDs in the same request'
        : undefined;
    },
  },
  {
    service: 'ec2',
    source: `${EC2_API}/API_CreateImage.html`,
    code: 'InvalidAMIName.Malformed',
    problem: ({ Name }, action) =>
      ['CreateImage', 'CopyImage'].includes(action) && !/^[\w()[\] ./'@-]{3,128}$/.test(String(Name))
        ? `AMI names must be between 3 and 128 characters long, of letters, digits and ()[] ./-'@_: ${String(Name)}`
        : undefined,
  },
  {
    service: 'ec2',
    source: `${EC2_API}/API_CreateSecurityGroup.html`,
    code: 'InvalidParameterValue',
    problem: ({ GroupName, Description }, action) =>
      action === 'CreateSecurityGroup'
        ? first([GroupName, Description], (text) =>
            /^(?!sg-)[\w .:/()#,@[\]+=&;{}!$*-]{1,255}$/.test(String(text))
              ? undefined
              : `Invalid security group name or description: ${String(text)}`,
          )
        : undefined,
  },
  {
    service: 'ec2',
    source: `${EC2_GUIDE}/user-data.html`,
    code: 'InvalidUserData.Malformed',
    problem: ({ UserData }) => {
      if (typeof UserData !== 'string') return undefined;
      const plain = Buffer.from(UserData, 'base64');
      if (plain.toString('base64').replace(/=+$/, '') !== UserData.replace(/=+$/, ''))
        return 'Invalid BASE64 encoding of user data.';
      return plain.length > USER_DATA_BYTES
        ? `User data is limited to ${USER_DATA_BYTES} bytes, of which there are ${plain.length}`
        : undefined;
    },
  },
  {
    service: 'ec2',
    source: `${EC2_API}/API_EnableImageDeprecation.html`,
    code: 'InvalidParameterValue',
    problem: ({ DeprecateAt }, _action, nowMs) => {
      if (DeprecateAt === undefined) return undefined;
      const at = new Date(DeprecateAt as string | Date).getTime();
      if (at < nowMs) return 'DeprecateAt must not be in the past.';
      return at > nowMs + 10 * 366 * 86_400_000 ? 'DeprecateAt is more than 10 years away.' : undefined;
    },
  },
];

const ssmRules: Rule[] = [
  {
    service: 'ssm',
    source: `${SSM_API}/API_PutParameter.html`,
    code: 'ValidationException',
    problem: ({ Name }, action) => {
      if (action !== 'PutParameter') return undefined;
      const name = String(Name);
      if (!/^[\w./-]+$/.test(name)) return `Parameter name: only a-zA-Z0-9_.-/ are allowed: ${name}`;
      if (/^\/?(aws|ssm)/i.test(name))
        return `Parameter name: can't be prefixed with "aws" or "ssm": ${name}`;
      if (name.slice(1).includes('/') && !name.startsWith('/'))
        return `Parameter name: must be a fully qualified name: ${name}`;
      return name.split('/').length > 16 ? 'Parameter hierarchies have at most 15 levels.' : undefined;
    },
  },
  {
    service: 'ssm',
    source: `${SSM_API}/API_PutParameter.html#systemsmanager-PutParameter-request-Name`,
    code: 'ValidationException',
    // A name has at most 1,011 characters with the ARN before it; the longest partition and region take about 60 of them.
    problem: ({ Name }, action) =>
      action === 'PutParameter' && String(Name).length > 951
        ? 'A parameter name has at most 1011 characters, those of the ARN included.'
        : undefined,
  },
  {
    service: 'ssm',
    source: `${SSM_API}/API_CreateDocument.html`,
    code: 'InvalidDocument',
    problem: ({ Name }, action) =>
      action === 'CreateDocument' && /^(aws|amazon|amzn)/i.test(String(Name))
        ? `Document name ${String(Name)} has a reserved prefix.`
        : undefined,
  },
  {
    service: 'ssm',
    source: `${SSM_API}/API_SendCommand.html`,
    code: 'DuplicateInstanceId',
    problem: ({ InstanceIds = [] }) => {
      const ids = InstanceIds as string[];
      return new Set(ids).size < ids.length ? 'An instance ID occurs twice.' : undefined;
    },
  },
  {
    service: 'ssm',
    source: `${SSM_API}/API_SendCommand.html`,
    code: 'ValidationException',
    problem: ({ InstanceIds, Targets }, action) => {
      if (action !== 'SendCommand') return undefined;
      const [ids, targets] = [InstanceIds ?? [], Targets ?? []] as unknown[][];
      return (ids?.length ?? 0) > 0 === (targets?.length ?? 0) > 0
        ? 'Either instance IDs or targets are required.'
        : undefined;
    },
  },
];

export const documentedRules: readonly Rule[] = [...tagRules, ...ec2Rules, ...ssmRules];

function first<T>(items: readonly T[], problem: (item: T) => string | undefined): string | undefined {
  for (const item of items) {
    const found = problem(item);
    if (found !== undefined) return found;
  }
  return undefined;
}
