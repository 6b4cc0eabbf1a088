// Least-privilege policies as data. Actions come from the table of calls (ec2Actions); resource types and condition keys come
// from the Service Authorization Reference for Amazon EC2 and AWS Systems Manager. docs/iam.md says for each statement what it
// is for and what it cannot prevent.
import { type Ec2, ec2Actions } from './ec2.ts';
import { type FleetAction, fleetActions } from './fleet.ts';
import { type ImageAction, imageActions } from './images.ts';
import { BOOT_TEST_TAG, CLUSTER_TAG, POD_ROLE, ROLE_TAG, SWEEP_SEEN_TAG, VERDICT_TAG } from './tags.ts';

/** Role tag of a boot ENI for which the node may request a public address: the operator's launch template writes it. */
const BOOT_ROLE = 'boot';

type Condition = Record<string, Record<string, string | string[]>>;

export interface Statement {
  Sid: string;
  Effect: 'Allow';
  Action: string[];
  Resource: string[];
  Condition?: Condition;
}

export interface Policy {
  Version: '2012-10-17';
  Statement: Statement[];
}

/** Where the policy holds; an undefined part is not restricted. */
export interface Scope {
  region: string | undefined;
  account: string | undefined;
  cluster: string | undefined;
}

/** Subnets or security groups that a node may use; `any` where the configuration does not name them before the boot. */
export type Allowed = { ids: string[] } | { tags: Record<string, string> } | 'any';

/** What a configuration needs from EC2 and Parameter Store. */
export interface NodeNeeds {
  subnets: Allowed;
  securityGroups: Allowed;
  /** Names (`/path`) of parameters that the configuration refers to. */
  parameters: string[];
  /** pods.ipFamily is `dual-stack`. */
  ipv6: boolean;
  /** egress.publicAddress is `request`. */
  publicAddress: boolean;
  /** boot.onFailure is `terminate`. */
  terminate: boolean;
}

/** For the role in the instance profile of nodes. */
export function nodePolicy(scope: Scope, needs: NodeNeeds): Policy {
  const ours = podTags(scope);
  const itself: Condition = {
    ArnLike: { 'ec2:SourceInstanceARN': arn(scope, 'instance', '${ec2:InstanceID}') },
  };
  return policy([
    {
      Sid: 'Look',
      Action: ec2(
        'describeAttachedEnis',
        'describeSubnets',
        'describeSecurityGroupIds',
        'describeVpcCidrs',
        'describeInstanceType',
        'describeTags',
      ),
      Resource: ['*'],
      Condition: inRegion(scope),
    },
    {
      Sid: 'CreatePodEni',
      Action: ec2('createEni'),
      Resource: [arn(scope, 'network-interface', '*')],
      Condition: { StringEquals: keys('aws:RequestTag', ours) },
    },
    using('CreateInPodSubnets', scope, 'subnet', needs.subnets),
    using('CreateWithSecurityGroups', scope, 'security-group', needs.securityGroups),
    {
      Sid: 'TagWhileCreating',
      Action: ec2('createTags'),
      Resource: [arn(scope, 'network-interface', '*')],
      Condition: { StringEquals: { 'ec2:CreateAction': ec2Actions.createEni } },
    },
    {
      Sid: 'ChangePodEnis',
      Action: ec2(
        'attachEni',
        'setDeleteOnTermination',
        'assignAddresses',
        ...(needs.ipv6 ? (['assignIpv6Prefix'] as const) : []),
        'unassignAddresses',
        'detachEni',
        'deleteEni',
      ),
      Resource: [arn(scope, 'network-interface', '*')],
      Condition: { StringEquals: keys('aws:ResourceTag', ours) },
    },
    {
      Sid: 'AttachToItself',
      Action: ec2('attachEni', 'setDeleteOnTermination', 'detachEni'),
      Resource: [arn(scope, 'instance', '*')],
      Condition: itself,
    },
    {
      Sid: 'TagItselfWithItsVerdict',
      Action: ec2('createTags'),
      Resource: [arn(scope, 'instance', '*')],
      Condition: { ...itself, 'ForAllValues:StringEquals': { 'aws:TagKeys': [VERDICT_TAG] } },
    },
    ...when(needs.publicAddress, {
      Sid: 'AskForAPublicAddress',
      Action: ec2('requestPublicAddress'),
      Resource: [arn(scope, 'network-interface', '*')],
      Condition: { StringEquals: keys('aws:ResourceTag', { ...ours, [ROLE_TAG]: BOOT_ROLE }) },
    }),
    ...when(needs.terminate, {
      Sid: 'TerminateItself',
      Action: ec2('terminateInstance'),
      Resource: [arn(scope, 'instance', '*')],
      Condition: itself,
    }),
    ...when(needs.parameters.length > 0, {
      Sid: 'ReadParameters',
      Action: ['ssm:GetParameters'],
      Resource: needs.parameters.map((name) => ssmArn(scope, `parameter${name}`)),
    }),
  ]);
}

/** For the role that runs `eni sweep`. */
export function sweepPolicy(scope: Scope): Policy {
  const leftover: Condition = { StringEquals: keys('aws:ResourceTag', podTags(scope)) };
  const enis = [arn(scope, 'network-interface', '*')];
  return policy([
    {
      Sid: 'Look',
      Action: ec2('describeEnis', 'describeLiveInstances'),
      Resource: ['*'],
      Condition: inRegion(scope),
    },
    {
      Sid: 'MarkPodEnis',
      Action: ec2('createTags'),
      Resource: enis,
      Condition: { ...leftover, 'ForAllValues:StringEquals': { 'aws:TagKeys': [SWEEP_SEEN_TAG] } },
    },
    { Sid: 'DeletePodEnis', Action: ec2('deleteEni'), Resource: enis, Condition: leftover },
  ]);
}

/**
 * For operators who roll versions out. Without a cluster: for the fleets of all clusters.
 *
 * @param alarm specs name a CloudWatch alarm
 * @param zones names of the zones' version parameters, with `{zone-id}`; default: those below the cluster's path, since an
 * operator who may write such a parameter decides what version the nodes that follow it run
 */
export function rolloutPolicy(scope: Scope, { alarm, zones }: { alarm: boolean; zones: string[] }): Policy {
  const { cluster = '*' } = scope;
  const parameter = (path: string) => ssmArn(scope, `parameter${path}`);
  return policy([
    {
      Sid: 'LookAtInstances',
      // PutParameter of an AMI's ID checks that the AMI exists, with the caller's right to DescribeImages.
      Action: fleet('DescribeInstances', 'DescribeImages'),
      Resource: ['*'],
      Condition: inRegion(scope),
    },
    {
      // SSM supports no narrower resource for these actions.
      Sid: 'LookAtCommands',
      Action: fleet('DescribeInstanceInformation', 'ListCommands', 'ListCommandInvocations', 'CancelCommand'),
      Resource: ['*'],
    },
    {
      // Composite alarms are returned only to a caller who may read all alarms: CloudWatch API reference, DescribeAlarms.
      Sid: 'WatchAlarms',
      Action: fleet('DescribeAlarms', 'DescribeAlarmHistory'),
      Resource: ['*'],
    },
    {
      Sid: 'KeepTheRecord',
      Action: fleet('GetParameter', 'PutParameter', 'DeleteParameters'),
      Resource: [parameter(`/eniboot/rollout/${cluster}/*`)],
    },
    {
      Sid: 'SetTheZonesVersion',
      Action: fleet(
        'GetParameter',
        'GetParameterHistory',
        'PutParameter',
        'LabelParameterVersion',
        'UnlabelParameterVersion',
        'DeleteParameters',
      ),
      Resource: (zones.length > 0 ? zones : ownFolders(scope.cluster)).map((name) =>
        parameter(name.replaceAll('{zone-id}', '*')),
      ),
    },
    {
      Sid: 'PublishReleases',
      Action: fleet('GetParameter', 'PutParameter'),
      Resource: [parameter('/eniboot/releases/*')],
    },
    {
      Sid: 'ListReleases',
      Action: fleet('GetParametersByPath'),
      Resource: [parameter('/eniboot/releases'), parameter('/eniboot/bundle')],
    },
    {
      Sid: 'KeepTheDocument',
      Action: fleet('DescribeDocument', 'GetDocument', 'CreateDocument', 'UpdateDocument'),
      Resource: [ssmArn(scope, 'document/eniboot-update')],
    },
    {
      Sid: 'SendThatDocument',
      Action: fleet('SendCommand'),
      Resource: [ssmArn(scope, 'document/eniboot-update')],
    },
    {
      Sid: 'SendToNodes',
      Action: fleet('SendCommand'),
      Resource: [arn(scope, 'instance', '*')],
      Condition:
        scope.cluster === undefined
          ? undefined
          : { StringEquals: { [`ssm:resourceTag/${CLUSTER_TAG}`]: scope.cluster } },
    },
    ...when(alarm, {
      // "To attach a CloudWatch alarm to your command, the IAM principal that runs the command must have permission for the
      // iam:createServiceLinkedRole action." Source: Systems Manager user guide, "Running commands from the console"; the role,
      // "Using service-linked roles for Systems Manager".
      Sid: 'LetRunCommandWatchTheAlarm',
      Action: ['iam:CreateServiceLinkedRole'],
      Resource: [
        `arn:${partition(scope)}:iam::${scope.account ?? '*'}:role/aws-service-role/${RUN_COMMAND}/AWSServiceRoleForAmazonSSM`,
      ],
      Condition: { StringEquals: { 'iam:AWSServiceName': RUN_COMMAND } },
    }),
  ]);
}

function ownFolders(cluster: string | undefined): string[] {
  return ['bundle', 'image'].map((kind) => `/eniboot/${kind}/${cluster === undefined ? '' : `${cluster}/`}*`);
}

/** The service whose service-linked role reads alarms. */
const RUN_COMMAND = 'ssm.amazonaws.com';

/**
 * For operators who test and publish images. A launch also needs iam:PassRole for the nodes' role, whose name only the operator
 * knows.
 *
 * @param kmsKeys ARNs of the customer's KMS keys that encrypt images; AWS's own key needs no statement
 */
export function imagePolicy(scope: Scope, kmsKeys: readonly string[]): Policy {
  const parameters = [ssmArn(scope, 'parameter/eniboot/image/*')];
  const ownImages = [arn({ ...scope, account: undefined }, 'image', '*')];
  const ofTest = keys('aws:RequestTag', { [BOOT_TEST_TAG]: 'ami-*' });
  return policy([
    {
      Sid: 'Look',
      Action: image('DescribeImages', 'DescribeInstances'),
      Resource: ['*'],
      Condition: inRegion(scope),
    },
    {
      Sid: 'LookAtCommands',
      Action: image('DescribeInstanceInformation', 'GetCommandInvocation'),
      Resource: ['*'],
    },
    {
      Sid: 'AskTestsForTheirStatus',
      Action: image('SendCommand'),
      Resource: [ssmArn({ ...scope, account: undefined }, 'document/AWS-RunShellScript')],
    },
    {
      Sid: 'AskOnlyTests',
      Action: image('SendCommand'),
      Resource: [arn(scope, 'instance', '*')],
      Condition: { StringLike: { [`ssm:resourceTag/${BOOT_TEST_TAG}`]: 'ami-*' } },
    },
    {
      Sid: 'CopyBaseImages',
      Action: image('CopyImage'),
      Resource: [...ownImages, arn({ ...scope, account: undefined }, 'snapshot', '*')],
    },
    {
      Sid: 'TagCopies',
      Action: image('CreateTags'),
      Resource: [...ownImages, arn({ ...scope, account: undefined }, 'snapshot', '*')],
      Condition: { StringEquals: { 'ec2:CreateAction': 'CopyImage' } },
    },
    {
      Sid: 'LaunchATest',
      Action: image('RunInstances'),
      Resource: [arn(scope, 'instance', '*')],
      Condition: { StringLike: ofTest },
    },
    {
      Sid: 'LaunchWith',
      Action: image('RunInstances'),
      Resource: [
        ...ownImages,
        arn(scope, 'network-interface', '*'),
        arn(scope, 'volume', '*'),
        arn({ ...scope, account: undefined }, 'subnet', '*'),
        arn({ ...scope, account: undefined }, 'security-group', '*'),
      ],
    },
    {
      Sid: 'TagWhileLaunching',
      Action: image('CreateTags'),
      Resource: [arn(scope, 'instance', '*')],
      Condition: { StringEquals: { 'ec2:CreateAction': 'RunInstances' } },
    },
    {
      Sid: 'EndTests',
      Action: image('TerminateInstances', 'GetConsoleOutput'),
      Resource: [arn(scope, 'instance', '*')],
      Condition: { StringLike: keys('aws:ResourceTag', { [BOOT_TEST_TAG]: 'ami-*' }) },
    },
    {
      Sid: 'RecordTests',
      Action: image('CreateTags'),
      Resource: ownImages,
      Condition: { 'ForAllValues:StringEquals': { 'aws:TagKeys': [BOOT_TEST_TAG] } },
    },
    { Sid: 'Deprecate', Action: image('EnableImageDeprecation'), Resource: ownImages },
    {
      Sid: 'Publish',
      Action: image('GetParameterHistory', 'PutParameter', 'LabelParameterVersion'),
      Resource: parameters,
    },
    {
      Sid: 'List',
      Action: image('GetParametersByPath'),
      Resource: [ssmArn(scope, 'parameter/eniboot/image')],
    },
    ...keyStatements(kmsKeys),
  ]);
}

/**
 * What EC2 does with a key on behalf of the caller. Source: EBS user guide, "Requirements for Amazon EBS encryption", which
 * also says to allow CreateGrant to AWS services alone.
 */
function keyStatements(kmsKeys: readonly string[]) {
  if (kmsKeys.length === 0) return [];
  // arn:aws:kms:REGION:ACCOUNT:key/ID
  const regions = kmsKeys.map((key) => key.split(':')[3] ?? '');
  const services = regions.map(
    (region) => `ec2.${region}.amazonaws.com${region.startsWith('cn-') ? '.cn' : ''}`,
  );
  const throughEc2 = { StringEquals: { 'kms:ViaService': [...new Set(services)] } };
  return [
    {
      Sid: 'UseTheImagesKey',
      Action: [
        'kms:Decrypt',
        'kms:DescribeKey',
        'kms:GenerateDataKeyWithoutPlaintext',
        'kms:ReEncryptFrom',
        'kms:ReEncryptTo',
      ],
      Resource: [...kmsKeys],
      Condition: throughEc2,
    },
    {
      Sid: 'LetVolumesUseTheImagesKey',
      Action: ['kms:CreateGrant'],
      Resource: [...kmsKeys],
      Condition: { ...throughEc2, Bool: { 'kms:GrantIsForAWSResource': 'true' } },
    },
  ];
}

function policy(
  statements: (Omit<Statement, 'Effect' | 'Condition'> & { Condition?: Condition | undefined })[],
): Policy {
  return {
    Version: '2012-10-17',
    Statement: statements.map(({ Sid, Action, Resource, Condition }) => ({
      Sid,
      Effect: 'Allow',
      Action,
      Resource,
      ...(Condition === undefined ? {} : { Condition }),
    })),
  };
}

/** Where pod ENIs may be created. Subnets and groups may belong to another account, which shares them. */
function using(sid: string, scope: Scope, type: 'subnet' | 'security-group', allowed: Allowed) {
  const shared = { ...scope, account: undefined };
  const ids = allowed !== 'any' && 'ids' in allowed ? allowed.ids : ['*'];
  return {
    Sid: sid,
    Action: ec2('createEni'),
    Resource: ids.map((id) => arn(shared, type, id)),
    Condition:
      allowed !== 'any' && 'tags' in allowed
        ? { StringEquals: keys('aws:ResourceTag', allowed.tags) }
        : undefined,
  };
}

function podTags(scope: Scope): Record<string, string> {
  return { [ROLE_TAG]: POD_ROLE, ...(scope.cluster === undefined ? {} : { [CLUSTER_TAG]: scope.cluster }) };
}

/** `{ 'aws:ResourceTag/eniboot:role': 'pods' }` */
function keys(kind: string, tags: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(tags).map(([key, value]) => [`${kind}/${key}`, value]));
}

function ec2(...methods: (keyof Ec2)[]): string[] {
  return [...new Set(methods.map((method) => `ec2:${ec2Actions[method]}`))];
}

function inRegion({ region }: Scope): Condition | undefined {
  return region === undefined ? undefined : { StringEquals: { 'ec2:Region': region } };
}

function arn(scope: Scope, type: string, id: string): string {
  return `${prefix(scope, 'ec2')}:${scope.account ?? '*'}:${type}/${id}`;
}

function fleet(...actions: FleetAction[]): string[] {
  return actions.map((action) => `${fleetActions[action]}:${action}`);
}

function image(...actions: ImageAction[]): string[] {
  return actions.map((action) => `${imageActions[action]}:${action}`);
}

function ssmArn(scope: Scope, what: string): string {
  return `${prefix(scope, 'ssm')}:${scope.account ?? '*'}:${what}`;
}

/** Partitions by the beginning of a region's name; all other regions are in `aws`. Source: the partitions of AWS's SDKs. */
const PARTITIONS: Record<string, string> = {
  'cn-': 'aws-cn',
  'us-gov-': 'aws-us-gov',
  'eusc-': 'aws-eusc',
  'us-iso-': 'aws-iso',
  'us-isob-': 'aws-iso-b',
  'eu-isoe-': 'aws-iso-e',
  'us-isof-': 'aws-iso-f',
};

function partition({ region }: Scope): string {
  const special = Object.entries(PARTITIONS).find(([beginning]) => region?.startsWith(beginning));
  return special?.[1] ?? 'aws';
}

function prefix(scope: Scope, service: string): string {
  return `arn:${partition(scope)}:${service}:${scope.region ?? '*'}`;
}

function when<T>(needed: boolean, statement: T): T[] {
  return needed ? [statement] : [];
}
