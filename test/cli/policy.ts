// A small IAM: the checks that EC2 makes for a call, and whether a policy allows them. Written from the IAM user guide ("Policy
// evaluation logic", "IAM JSON policy elements: Condition operators"). It knows the operators used here and refuses any other.
import type { Policy, Statement } from '../../agent/aws/iam.ts';
import type { ApiCall, Cloud } from '../aws/index.ts';

/** One question: may this action touch this resource under these circumstances? */
export interface Check {
  action: string;
  resource: string;
  context: Record<string, string | string[]>;
}

/** The statement that allows it; undefined when none does. */
export function allowing(policy: Policy, check: Check): Statement | undefined {
  return policy.Statement.find(
    (statement) =>
      statement.Action.includes(check.action) &&
      statement.Resource.some((pattern) => matches(pattern, check.resource)) &&
      Object.entries(statement.Condition ?? {}).every(([operator, keys]) =>
        Object.entries(keys).every(([key, wanted]) => holds(operator, key, wanted, check.context)),
      ),
  );
}

function holds(operator: string, key: string, wanted: string | string[], context: Check['context']): boolean {
  const patterns = [wanted].flat().map((text) => substitute(text, context));
  const actual = context[key];
  if (operator === 'ForAllValues:StringEquals')
    return [actual ?? []].flat().every((value) => patterns.includes(value));
  if (actual === undefined || Array.isArray(actual)) return false;
  if (operator === 'StringEquals') return patterns.includes(actual);
  if (operator === 'Bool') return patterns.includes(actual);
  if (operator === 'StringLike')
    return patterns.some((pattern) => pattern !== undefined && like(pattern, actual));
  if (operator === 'ArnLike')
    return patterns.some((pattern) => pattern !== undefined && matches(pattern, actual));
  throw new Error(`unknown condition operator ${operator}`);
}

/** Undefined when a variable has no value: then nothing matches. */
function substitute(text: string, context: Check['context']): string | undefined {
  let missing = false;
  const result = text.replace(/\$\{([^}]+)\}/g, (_, key: string) => {
    const value = context[key];
    if (typeof value !== 'string') missing = true;
    return String(value);
  });
  return missing ? undefined : result;
}

/** Compares ARNs part by part, `*` within a part; the last part may hold anything. */
function matches(pattern: string, value: string): boolean {
  if (pattern === '*') return true;
  const split = (text: string) => text.split(':');
  const patterns = split(pattern);
  const values = split(value);
  return patterns.length === values.length && patterns.every((part, at) => like(part, values[at] ?? ''));
}

function like(pattern: string, value: string): boolean {
  return new RegExp(`^${pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*')}$`).test(value);
}

interface Request {
  SubnetId?: string;
  Groups?: string[];
  NetworkInterfaceId?: string;
  InstanceId?: string;
  InstanceIds?: string[];
  Resources?: string[];
  Tags?: Tag[];
  TagSpecifications?: { ResourceType?: string; Tags?: Tag[] }[];
  Attachment?: object;
  AttachmentId?: string;
  Name?: string;
  Path?: string;
  Names?: string[];
  DocumentName?: string;
  Targets?: { Values?: string[] }[];
  AlarmConfiguration?: object;
  ImageId?: string;
  SourceImageId?: string;
  SecurityGroupIds?: string[];
}
interface Tag {
  Key?: string;
  Value?: string;
}

/** The checks EC2, SSM or CloudWatch makes for a recorded call; by the Service Authorization Reference's resource types. */
export function checksOf(cloud: Cloud, call: ApiCall): Check[] {
  const request = (call.request ?? {}) as Request;
  const action = `${call.service}:${call.action}`;
  const caller = call.instanceId;
  const common: Check['context'] = {
    'ec2:Region': cloud.region,
    ...(caller === undefined ? {} : { 'ec2:SourceInstanceARN': arnOf(cloud, 'instance', caller) }),
  };
  const on = (type: string, id: string, extra: Check['context'] = {}): Check => ({
    action,
    resource: arnOf(cloud, type, id),
    context: { ...common, ...resourceContext(cloud, type, id), ...extra },
  });
  const attachedTo = cloud.enis.get(request.NetworkInterfaceId ?? '')?.attachment?.instanceId;
  const eni = request.NetworkInterfaceId ?? '';

  /** For a call that makes a resource with tags, CreateTags is checked, too. */
  function taggingChecks(): Check[] {
    return (request.TagSpecifications ?? []).map((one) => ({
      ...on(one.ResourceType ?? '', '*', { ...requestTags(one.Tags ?? []), 'ec2:CreateAction': call.action }),
      action: 'ec2:CreateTags',
    }));
  }

  if (call.service === 'ssm') return ssmChecks(cloud, call.action, request);
  // A composite alarm is shown only to callers who may read all alarms. Source: CloudWatch API reference, DescribeAlarms.
  if (call.service === 'cloudwatch') return [{ action, resource: '*', context: {} }];
  switch (call.action) {
    case 'CreateNetworkInterface': {
      const tags = requestTags((request.TagSpecifications ?? []).flatMap((one) => one.Tags ?? []));
      return [
        on('network-interface', '*', tags),
        on('subnet', request.SubnetId ?? ''),
        ...(request.Groups ?? []).map((group) => on('security-group', group)),
        ...(request.TagSpecifications === undefined
          ? []
          : [
              {
                ...on('network-interface', '*', { ...tags, 'ec2:CreateAction': call.action }),
                action: 'ec2:CreateTags',
              },
            ]),
      ];
    }
    case 'AttachNetworkInterface':
      return [on('network-interface', eni), on('instance', request.InstanceId ?? '')];
    case 'DetachNetworkInterface': {
      const attached = [...cloud.enis.values()].find((one) => one.attachment?.id === request.AttachmentId);
      return [
        on('network-interface', attached?.id ?? ''),
        on('instance', attached?.attachment?.instanceId ?? ''),
      ];
    }
    case 'ModifyNetworkInterfaceAttribute':
      return [
        on('network-interface', eni),
        ...(attachedTo === undefined ? [] : [on('instance', attachedTo)]),
      ];
    case 'AssignIpv6Addresses':
    case 'AssignPrivateIpAddresses':
    case 'UnassignPrivateIpAddresses':
    case 'DeleteNetworkInterface':
      return [on('network-interface', eni)];
    case 'CreateTags':
      return (request.Resources ?? []).map((id) => on(typeOf(id), id, requestTags(request.Tags ?? [])));
    case 'RunInstances': {
      // Its own resources do not exist yet: their tags are those of the request.
      const tags = (type: string) =>
        requestTags(
          (request.TagSpecifications ?? []).flatMap((one) =>
            one.ResourceType === type ? (one.Tags ?? []) : [],
          ),
        );
      return [
        on('image', request.ImageId ?? ''),
        on('instance', '*', tags('instance')),
        on('network-interface', '*', tags('network-interface')),
        on('volume', '*', tags('volume')),
        on('subnet', request.SubnetId ?? ''),
        ...(request.SecurityGroupIds ?? ['*']).map((group) => on('security-group', group)),
        ...taggingChecks(),
      ];
    }
    case 'CopyImage':
      return [on('image', '*'), on('snapshot', '*'), ...taggingChecks()];
    case 'EnableImageDeprecation':
      return [on('image', request.ImageId ?? '')];
    case 'GetConsoleOutput':
      return [on('instance', request.InstanceId ?? '')];
    case 'TerminateInstances':
      return (request.InstanceIds ?? []).map((id) => on('instance', id));
    default:
      if (!call.action.startsWith('Describe')) throw new Error(`no checks are known for ${action}`);
      return [{ action, resource: '*', context: common }];
  }
}

function ssmChecks(cloud: Cloud, name: string, request: Request): Check[] {
  const action = `ssm:${name}`;
  const on = (resource: string, context: Check['context'] = {}): Check => ({ action, resource, context });
  const own = (what: string) => `arn:aws:ssm:${cloud.region}:${cloud.ec2.world.accountId}:${what}`;
  const parameter = (reference: string) => own(`parameter${reference.split(':')[0]}`);
  switch (name) {
    case 'GetParameters':
    case 'DeleteParameters':
      return (request.Names ?? []).map((one) => on(parameter(one)));
    case 'GetParameter':
    case 'GetParameterHistory':
    case 'PutParameter':
    case 'LabelParameterVersion':
    case 'UnlabelParameterVersion':
      return [on(parameter(request.Name ?? ''))];
    case 'GetParametersByPath':
      return [on(parameter(request.Path ?? ''))];
    case 'DescribeDocument':
    case 'GetDocument':
    case 'CreateDocument':
    case 'UpdateDocument':
      return [on(own(`document/${request.Name}`))];
    case 'SendCommand':
      return [
        on(own(`document/${request.DocumentName}`)),
        ...(request.AlarmConfiguration === undefined ? [] : [alarmCheck(cloud)]),
        ...[{ Values: request.InstanceIds }, ...(request.Targets ?? [])].flatMap(({ Values = [] }) =>
          Values.map((id) => {
            const tags = [...(cloud.ec2.world.instances.get(id)?.tags ?? [])];
            return on(
              arnOf(cloud, 'instance', id),
              Object.fromEntries(tags.map(([key, value]) => [`ssm:resourceTag/${key}`, value])),
            );
          }),
        ),
      ];
    default:
      return [on('*')];
  }
}

/** Source: Systems Manager user guide, "Running commands from the console" (of the alarm). */
function alarmCheck(cloud: Cloud): Check {
  const service = 'ssm.amazonaws.com';
  return {
    action: 'iam:CreateServiceLinkedRole',
    resource: `arn:aws:iam::${cloud.ec2.world.accountId}:role/aws-service-role/${service}/AWSServiceRoleForAmazonSSM`,
    context: { 'iam:AWSServiceName': service },
  };
}

function typeOf(id: string): string {
  if (id.startsWith('ami-')) return 'image';
  return id.startsWith('i-') ? 'instance' : 'network-interface';
}

function arnOf(cloud: Cloud, type: string, id: string): string {
  return `arn:aws:ec2:${cloud.region}:${cloud.ec2.world.accountId}:${type}/${id}`;
}

function requestTags(tags: Tag[]): Check['context'] {
  return {
    ...Object.fromEntries(tags.map((tag) => [`aws:RequestTag/${tag.Key}`, tag.Value ?? ''])),
    'aws:TagKeys': tags.map((tag) => tag.Key ?? ''),
  };
}

function resourceContext(cloud: Cloud, type: string, id: string): Check['context'] {
  const { world } = cloud.ec2;
  const holder =
    type === 'instance'
      ? world.instances.get(id)
      : type === 'subnet'
        ? world.subnets.get(id)
        : type === 'security-group'
          ? world.groups.get(id)
          : world.enis.get(id);
  return {
    ...(type === 'instance' ? { 'ec2:InstanceID': id } : {}),
    ...Object.fromEntries([...(holder?.tags ?? [])].map(([key, value]) => [`aws:ResourceTag/${key}`, value])),
  };
}
