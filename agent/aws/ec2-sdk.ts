// The Ec2 interface over @aws-sdk/client-ec2. Load this module on first use: the SDK is the largest single cost
// of the agent's start. Commands are imported by name, so that the bundler leaves out the other 700: as a whole
// the SDK takes 70 ms to load, what is used of it 25 ms.
import {
  AssignIpv6AddressesCommand,
  AssignPrivateIpAddressesCommand,
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  CreateTagsCommand,
  DeleteNetworkInterfaceCommand,
  DescribeInstancesCommand,
  DescribeInstanceTypesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeTagsCommand,
  DescribeVpcsCommand,
  DetachNetworkInterfaceCommand,
  EC2Client,
  ModifyNetworkInterfaceAttributeCommand,
  type NetworkInterface,
  TerminateInstancesCommand,
  UnassignPrivateIpAddressesCommand,
} from '@aws-sdk/client-ec2';
import { Failure } from '../messages/failure.ts';
import { awsFailure } from './aws-failure.ts';
import { type Ec2, type Eni, ec2Actions } from './ec2.ts';
import type { Imds } from './imds.ts';
import { canonical6 } from './ipv6.ts';
import { limitsFromDescribe } from './limits/limits.ts';
import { readCredentials } from './metadata.ts';
import { allPages } from './paging.ts';

/** Milliseconds one attempt may take; longer than any call seen in the field, short enough to try again. */
const ATTEMPT_MS = 5_000;

const ONE_ATTEMPT = {
  maxAttempts: 1,
  requestHandler: { connectionTimeout: 2_000, requestTimeout: ATTEMPT_MS, throwOnRequestTimeout: true },
};

export interface SdkOptions {
  region: string;
  endpoint: string | undefined;
  imds: Imds;
}

/** EC2 as a node calls it: with the credentials of its instance profile. */
export async function createEc2(options: SdkOptions): Promise<Ec2> {
  return ec2Over(
    new EC2Client({
      region: options.region,
      ...(options.endpoint === undefined ? {} : { endpoint: options.endpoint }),
      credentials: () => readCredentials(options.imds),
      ...ONE_ATTEMPT,
    }),
  );
}

/**
 * EC2 as an operator calls it, from anywhere: credentials, endpoint and (unless given) region come from where every
 * AWS tool looks, the AWS_* environment and ~/.aws. Throws USAGE when no region is set anywhere.
 */
export async function createOperatorEc2(region: string | undefined): Promise<{ ec2: Ec2; region: string }> {
  // A node needs none of it.
  const { operatorClients } = await import('./operator-clients.ts');
  const { ec2 } = await operatorClients(region);
  return { ec2: ec2Over(ec2, 'operator'), region: await ec2.config.region() };
}

function ec2Over(client: EC2Client, caller: 'node' | 'operator' = 'node'): Ec2 {
  /** One attempt at one call; every way to fail becomes a Failure with EC2's own code in the facts. */
  async function attempt<T>(
    method: keyof Ec2,
    facts: Record<string, unknown>,
    call: () => Promise<T>,
  ): Promise<T> {
    try {
      return await withTimeLimit(call());
    } catch (error) {
      throw awsFailure('EC2', ec2Actions[method], facts, error, caller);
    }
  }

  async function describeInterfaces(
    method: keyof Ec2,
    facts: Record<string, unknown>,
    input: { NetworkInterfaceIds?: string[]; Filters?: { Name: string; Values: string[] }[] },
  ): Promise<Eni[]> {
    const found = await allPages(
      (next) =>
        attempt(method, facts, () =>
          client.send(new DescribeNetworkInterfacesCommand({ ...input, ...next })),
        ),
      (page) => page.NetworkInterfaces,
    );
    return found.map(toEni);
  }

  return {
    describeAttachedEnis: (instanceId) =>
      describeInterfaces(
        'describeAttachedEnis',
        { instanceId },
        {
          Filters: [{ Name: 'attachment.instance-id', Values: [instanceId] }],
        },
      ),

    describeEnis: (filter) =>
      'ids' in filter
        ? describeInterfaces('describeEnis', { ids: filter.ids }, { NetworkInterfaceIds: filter.ids })
        : describeInterfaces(
            'describeEnis',
            { tags: filter.tags },
            {
              Filters: [
                ...tagFilters(filter.tags),
                ...(filter.status === undefined ? [] : [{ Name: 'status', Values: [filter.status] }]),
              ],
            },
          ),

    async describeSubnets(vpcId, selector) {
      // A filter, not SubnetIds: with those, one subnet that was deleted would hide all others.
      const wanted =
        'ids' in selector ? [{ Name: 'subnet-id', Values: selector.ids }] : tagFilters(selector.tags);
      const input = { Filters: [vpcFilter(vpcId), ...wanted] };
      const subnets = await allPages(
        (next) =>
          attempt('describeSubnets', { vpcId, selector }, () =>
            client.send(new DescribeSubnetsCommand({ ...input, ...next })),
          ),
        (page) => page.Subnets,
      );
      return subnets
        .filter((subnet) => subnet.VpcId === vpcId)
        .map((subnet) => ({
          subnetId: subnet.SubnetId ?? '',
          zone: subnet.AvailabilityZone ?? '',
          cidr: subnet.CidrBlock ?? '',
          freeAddresses: subnet.AvailableIpAddressCount ?? 0,
          ipv6: (subnet.Ipv6CidrBlockAssociationSet ?? []).some(
            (block) => block.Ipv6CidrBlockState?.State === 'associated',
          ),
        }));
    },

    async describeSecurityGroupIds(vpcId, selector) {
      const input =
        'ids' in selector
          ? { GroupIds: selector.ids }
          : { Filters: [vpcFilter(vpcId), ...tagFilters(selector.tags)] };
      const groups = await allPages(
        (next) =>
          attempt('describeSecurityGroupIds', { vpcId, selector }, () =>
            client.send(new DescribeSecurityGroupsCommand({ ...input, ...next })),
          ),
        (page) => page.SecurityGroups,
      );
      return groups.map((group) => group.GroupId ?? '').sort();
    },

    async describeVpcCidrs(vpcId) {
      const answer = await attempt('describeVpcCidrs', { vpcId }, () =>
        client.send(new DescribeVpcsCommand({ VpcIds: [vpcId] })),
      );
      return (answer.Vpcs?.[0]?.CidrBlockAssociationSet ?? [])
        .filter((block) => block.CidrBlockState?.State === 'associated')
        .map((block) => block.CidrBlock ?? '');
    },

    async describeInstanceType(type) {
      const answer = await attempt('describeInstanceType', { type }, () =>
        client.send(new DescribeInstanceTypesCommand({ InstanceTypes: [type as never] })),
      );
      return limitsFromDescribe(type, answer.InstanceTypes?.[0]);
    },

    async describeTags(resourceId) {
      const tags = await allPages(
        (next) =>
          attempt('describeTags', { resourceId }, () =>
            client.send(
              new DescribeTagsCommand({
                Filters: [{ Name: 'resource-id', Values: [resourceId] }],
                ...next,
              }),
            ),
          ),
        (page) => page.Tags,
      );
      return toTags(tags);
    },

    async describeLiveInstances(instanceIds) {
      const found = await allPages(
        (next) =>
          attempt('describeLiveInstances', { instanceIds }, () =>
            client.send(
              new DescribeInstancesCommand({
                // A filter, not InstanceIds: for an unknown ID it answers with less, InstanceIds with an error.
                Filters: [{ Name: 'instance-id', Values: instanceIds }],
                ...next,
              }),
            ),
          ),
        (page) => page.Reservations?.flatMap((reservation) => reservation.Instances ?? []),
      );
      return found
        .filter((instance) => instance.State?.Name !== 'terminated')
        .map((instance) => instance.InstanceId ?? '');
    },

    async createEni(request) {
      const answer = await attempt(
        'createEni',
        { subnetId: request.subnetId, token: request.clientToken },
        () =>
          client.send(
            new CreateNetworkInterfaceCommand({
              SubnetId: request.subnetId,
              Groups: request.securityGroupIds,
              Description: request.description,
              ClientToken: request.clientToken,
              ...(request.addresses.kind === 'prefixes'
                ? { Ipv4PrefixCount: request.addresses.count }
                : { SecondaryPrivateIpAddressCount: request.addresses.count }),
              ...(request.ipv6Prefix ? { Ipv6PrefixCount: 1 } : {}),
              TagSpecifications: [
                {
                  ResourceType: 'network-interface',
                  Tags: Object.entries(request.tags).map(([Key, Value]) => ({ Key, Value })),
                },
              ],
            }),
          ),
      );
      if (answer.NetworkInterface?.NetworkInterfaceId === undefined) {
        throw new Failure('EC2_UNAVAILABLE', 'EC2 answered CreateNetworkInterface without an ENI');
      }
      return toEni(answer.NetworkInterface);
    },

    async attachEni(eniId, instanceId, deviceIndex) {
      const answer = await attempt('attachEni', { eniId, deviceIndex }, () =>
        client.send(
          new AttachNetworkInterfaceCommand({
            NetworkInterfaceId: eniId,
            InstanceId: instanceId,
            DeviceIndex: deviceIndex,
            // The default card, said explicitly: without it EC2 has refused attachments on multi-card types.
            NetworkCardIndex: 0,
          }),
        ),
      );
      return answer.AttachmentId ?? '';
    },

    async setDeleteOnTermination(eniId, attachmentId) {
      await attempt('setDeleteOnTermination', { eniId }, () =>
        client.send(
          new ModifyNetworkInterfaceAttributeCommand({
            NetworkInterfaceId: eniId,
            Attachment: { AttachmentId: attachmentId, DeleteOnTermination: true },
          }),
        ),
      );
    },

    async assignAddresses(eniId, addresses) {
      const answer = await attempt('assignAddresses', { eniId, ...addresses }, () =>
        client.send(
          new AssignPrivateIpAddressesCommand({
            NetworkInterfaceId: eniId,
            ...(addresses.kind === 'prefixes'
              ? { Ipv4PrefixCount: addresses.count }
              : { SecondaryPrivateIpAddressCount: addresses.count }),
          }),
        ),
      );
      return [
        ...(answer.AssignedIpv4Prefixes ?? []).map((one) => one.Ipv4Prefix ?? ''),
        ...(answer.AssignedPrivateIpAddresses ?? []).map((one) => `${one.PrivateIpAddress ?? ''}/32`),
      ];
    },

    async assignIpv6Prefix(eniId) {
      await attempt('assignIpv6Prefix', { eniId }, () =>
        client.send(new AssignIpv6AddressesCommand({ NetworkInterfaceId: eniId, Ipv6PrefixCount: 1 })),
      );
    },

    async unassignAddresses(eniId, cidrs) {
      const single = cidrs.filter((cidr) => cidr.endsWith('/32')).map((cidr) => cidr.slice(0, -3));
      const prefixes = cidrs.filter((cidr) => !cidr.endsWith('/32'));
      await attempt('unassignAddresses', { eniId, cidrs }, () =>
        client.send(
          new UnassignPrivateIpAddressesCommand({
            NetworkInterfaceId: eniId,
            ...(single.length === 0 ? {} : { PrivateIpAddresses: single }),
            ...(prefixes.length === 0 ? {} : { Ipv4Prefixes: prefixes }),
          }),
        ),
      );
    },

    async detachEni(attachmentId) {
      await attempt('detachEni', { attachmentId }, () =>
        client.send(new DetachNetworkInterfaceCommand({ AttachmentId: attachmentId })),
      );
    },

    async deleteEni(eniId) {
      await attempt('deleteEni', { eniId }, () =>
        client.send(new DeleteNetworkInterfaceCommand({ NetworkInterfaceId: eniId })),
      );
    },

    async createTags(resourceId, tags) {
      await attempt('createTags', { resourceId }, () =>
        client.send(
          new CreateTagsCommand({
            Resources: [resourceId],
            Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
          }),
        ),
      );
    },

    async requestPublicAddress(eniId) {
      await attempt('requestPublicAddress', { eniId }, () =>
        client.send(
          new ModifyNetworkInterfaceAttributeCommand({
            NetworkInterfaceId: eniId,
            AssociatePublicIpAddress: true,
          }),
        ),
      );
    },

    async terminateInstance(instanceId) {
      await attempt('terminateInstance', { instanceId }, () =>
        client.send(new TerminateInstancesCommand({ InstanceIds: [instanceId] })),
      );
    },
  };
}

/** The SDK bounds the wait for a connection and for an idle socket, not the whole exchange. */
async function withTimeLimit<T>(call: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(Object.assign(new Error(`no answer within ${ATTEMPT_MS} ms`), { code: 'ETIMEDOUT' })),
      ATTEMPT_MS,
    );
  });
  try {
    return await Promise.race([call, limit]);
  } finally {
    clearTimeout(timer);
  }
}

function toEni(eni: NetworkInterface): Eni {
  const attachment = eni.Attachment;
  const addresses = eni.PrivateIpAddresses ?? [];
  return {
    eniId: eni.NetworkInterfaceId ?? '',
    mac: (eni.MacAddress ?? '').toLowerCase(),
    subnetId: eni.SubnetId ?? '',
    vpcId: eni.VpcId ?? '',
    zone: eni.AvailabilityZone ?? '',
    status: eni.Status ?? '',
    description: eni.Description ?? '',
    primaryAddress: eni.PrivateIpAddress ?? '',
    secondaryAddresses: addresses
      .filter((one) => one.Primary !== true)
      .map((one) => one.PrivateIpAddress ?? ''),
    prefixes: (eni.Ipv4Prefixes ?? []).map((one) => one.Ipv4Prefix ?? ''),
    ipv6Prefixes: (eni.Ipv6Prefixes ?? []).map((one) => canonical6(one.Ipv6Prefix ?? '')),
    tags: toTags(eni.TagSet),
    securityGroupIds: (eni.Groups ?? []).map((group) => group.GroupId ?? '').sort(),
    attachment:
      attachment === undefined || attachment.AttachmentId === undefined
        ? undefined
        : {
            attachmentId: attachment.AttachmentId,
            instanceId: attachment.InstanceId,
            deviceIndex: attachment.DeviceIndex ?? -1,
            networkCard: attachment.NetworkCardIndex ?? 0,
            status: attachment.Status ?? '',
            deleteOnTermination: attachment.DeleteOnTermination ?? false,
          },
  };
}

function toTags(
  tags: { Key?: string | undefined; Value?: string | undefined }[] | undefined,
): Record<string, string> {
  return Object.fromEntries((tags ?? []).map((tag) => [tag.Key ?? '', tag.Value ?? '']));
}

function tagFilters(tags: Record<string, string>): { Name: string; Values: string[] }[] {
  return Object.entries(tags).map(([key, value]) => ({ Name: `tag:${key}`, Values: [value] }));
}

function vpcFilter(vpcId: string): { Name: string; Values: string[] } {
  return { Name: 'vpc-id', Values: [vpcId] };
}
