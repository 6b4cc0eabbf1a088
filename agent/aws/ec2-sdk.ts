// The Ec2 interface over @aws-sdk/client-ec2. Load this module on first use: the SDK is the largest single cost of the agent's
// start. Commands are imported by name, so that the bundler leaves out the other 700: the whole SDK takes 70 ms to load, this
// part 25 ms.
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
  type Ipv4PrefixSpecification,
  type Ipv6PrefixSpecification,
  ModifyNetworkInterfaceAttributeCommand,
  type NetworkInterface,
  type NetworkInterfacePrivateIpAddress,
  TerminateInstancesCommand,
  UnassignPrivateIpAddressesCommand,
  type VpcCidrBlockAssociation,
} from '@aws-sdk/client-ec2';
import { bounds } from '../port/bounds.ts';
import { awsFailure } from './aws-failure.ts';
import { type Ec2, type Eni, ec2Actions } from './ec2.ts';
import { fieldsOf } from './fields.ts';
import type { Imds } from './imds.ts';
import { canonical6 } from './ipv6.ts';
import { limitsFromDescribe } from './limits/limits.ts';
import { readCredentials } from './metadata.ts';
import { allPages } from './paging.ts';
import { boundedHandler } from './sdk-handler.ts';

/** Milliseconds that one attempt may take: AWS gives no figure. Short enough that a boot can try again. */
const ATTEMPT_MS = 5_000;

/** More of anything than a VPC, subnet, ENI or instance has. */
const MOST = 1_000;

const { field, optional, count, list, senseless } = fieldsOf('EC2');

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
      maxAttempts: 1,
      requestHandler: boundedHandler({ answerMs: ATTEMPT_MS, maxBytes: bounds.nodeAnswerBytes }),
    }),
  );
}

/**
 * EC2 for an operator, from anywhere: credentials, endpoint and (unless given) region come from the AWS_* environment and
 * ~/.aws, as for every AWS tool. Throws USAGE when no region is set anywhere.
 */
export async function createOperatorEc2(region: string | undefined): Promise<{ ec2: Ec2; region: string }> {
  // Loaded here, since a node does not need it.
  const { operatorClients } = await import('./operator-clients.ts');
  const { ec2 } = await operatorClients(region);
  return { ec2: ec2Over(ec2, 'operator'), region: await ec2.config.region() };
}

function ec2Over(client: EC2Client, caller: 'node' | 'operator' = 'node'): Ec2 {
  /** One attempt at one call; every error becomes a Failure with EC2's own code in the facts. */
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
      'EC2',
      (next) =>
        attempt(method, facts, () =>
          client.send(new DescribeNetworkInterfacesCommand({ ...input, ...next })),
        ),
      (page) => page.NetworkInterfaces,
    );
    // While ENIs come and go, one ENI may be on two pages.
    return [...new Map(found.map(toEni).map((eni) => [eni.eniId, eni])).values()];
  }

  return {
    async describeAttachedEnis(instanceId) {
      const enis = await describeInterfaces(
        'describeAttachedEnis',
        { instanceId },
        { Filters: [{ Name: 'attachment.instance-id', Values: [instanceId] }] },
      );
      refuseShared(enis);
      return enis;
    },

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
      // A filter, not SubnetIds: with SubnetIds, EC2 refuses the whole call for one deleted subnet.
      const wanted =
        'ids' in selector ? [{ Name: 'subnet-id', Values: selector.ids }] : tagFilters(selector.tags);
      const input = { Filters: [vpcFilter(vpcId), ...wanted] };
      const subnets = await allPages(
        'EC2',
        (next) =>
          attempt('describeSubnets', { vpcId, selector }, () =>
            client.send(new DescribeSubnetsCommand({ ...input, ...next })),
          ),
        (page) => page.Subnets,
      );
      return subnets
        .filter((subnet) => subnet.VpcId === vpcId)
        .map((subnet) => ({
          subnetId: field('SubnetId', subnet.SubnetId, 'subnetId'),
          zone: field('AvailabilityZone', subnet.AvailabilityZone, 'place'),
          // An IPv6-only subnet has no IPv4 CIDR.
          cidr: optional('CidrBlock', subnet.CidrBlock, 'cidr') ?? '',
          freeAddresses: count('AvailableIpAddressCount', subnet.AvailableIpAddressCount, 2 ** 16),
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
        'EC2',
        (next) =>
          attempt('describeSecurityGroupIds', { vpcId, selector }, () =>
            client.send(new DescribeSecurityGroupsCommand({ ...input, ...next })),
          ),
        (page) => page.SecurityGroups,
      );
      return groups.map((group) => field('GroupId', group.GroupId, 'groupId')).sort();
    },

    async describeVpcCidrs(vpcId) {
      const answer = await attempt('describeVpcCidrs', { vpcId }, () =>
        client.send(new DescribeVpcsCommand({ VpcIds: [vpcId] })),
      );
      const blocks = list<VpcCidrBlockAssociation>(
        'CidrBlockAssociationSet',
        answer.Vpcs?.[0]?.CidrBlockAssociationSet,
        MOST,
      );
      return blocks
        .filter((block) => block.CidrBlockState?.State === 'associated')
        .map((block) => field('CidrBlock', block.CidrBlock, 'cidr'));
    },

    async describeInstanceType(type) {
      const answer = await attempt('describeInstanceType', { type }, () =>
        client.send(new DescribeInstanceTypesCommand({ InstanceTypes: [type as never] })),
      );
      const limits = limitsFromDescribe(type, answer.InstanceTypes?.[0]);
      for (const what of ['enis', 'defaultCardEnis', 'addressesPerEni', 'cards'] as const)
        count(`${what} of ${type}`, limits[what], MOST);
      return limits;
    },

    async describeTags(resourceId) {
      const tags = await allPages(
        'EC2',
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
        'EC2',
        (next) =>
          attempt('describeLiveInstances', { instanceIds }, () =>
            client.send(
              new DescribeInstancesCommand({
                // A filter, not InstanceIds: with a filter EC2 leaves out an unknown ID, with InstanceIds it returns an error.
                Filters: [{ Name: 'instance-id', Values: instanceIds }],
                ...next,
              }),
            ),
          ),
        (page) => page.Reservations?.flatMap((reservation) => reservation.Instances ?? []),
      );
      return found
        .filter((instance) => instance.State?.Name !== 'terminated')
        .map((instance) => field('InstanceId', instance.InstanceId, 'instanceId'));
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
      if (answer.NetworkInterface === undefined) throw senseless('NetworkInterface', undefined);
      return toEni(answer.NetworkInterface);
    },

    async attachEni(eniId, instanceId, deviceIndex) {
      const answer = await attempt('attachEni', { eniId, deviceIndex }, () =>
        client.send(
          new AttachNetworkInterfaceCommand({
            NetworkInterfaceId: eniId,
            InstanceId: instanceId,
            DeviceIndex: deviceIndex,
            // The default card, named explicitly: without it EC2 has refused attachments on types with several cards.
            NetworkCardIndex: 0,
          }),
        ),
      );
      return field('AttachmentId', answer.AttachmentId, 'id');
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
        ...(answer.AssignedIpv4Prefixes ?? []).map((one) => field('Ipv4Prefix', one.Ipv4Prefix, 'prefix')),
        ...(answer.AssignedPrivateIpAddresses ?? []).map(
          (one) => `${field('PrivateIpAddress', one.PrivateIpAddress, 'address')}/32`,
        ),
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

/** The SDK limits the wait for a connection and for an idle socket, not the whole exchange. */
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
  const { Attachment: attachment } = eni;
  const addresses = list<NetworkInterfacePrivateIpAddress>(
    'PrivateIpAddresses',
    eni.PrivateIpAddresses,
    MOST,
  );
  const prefixes = list<Ipv4PrefixSpecification>('Ipv4Prefixes', eni.Ipv4Prefixes, MOST);
  const ipv6Prefixes = list<Ipv6PrefixSpecification>('Ipv6Prefixes', eni.Ipv6Prefixes, MOST);
  return {
    eniId: field('NetworkInterfaceId', eni.NetworkInterfaceId, 'eniId'),
    mac: field('MacAddress', eni.MacAddress?.toLowerCase(), 'mac'),
    subnetId: field('SubnetId', eni.SubnetId, 'subnetId'),
    vpcId: field('VpcId', eni.VpcId, 'vpcId'),
    status: optional('Status', eni.Status, 'text') ?? '',
    description: optional('Description', eni.Description, 'text') ?? '',
    // An ENI of an IPv6-only subnet has no IPv4 address.
    primaryAddress: optional('PrivateIpAddress', eni.PrivateIpAddress, 'address') ?? '',
    secondaryAddresses: addresses
      .filter((one) => one.Primary !== true)
      .map((one) => field('PrivateIpAddress', one.PrivateIpAddress, 'address')),
    prefixes: prefixes.map((one) => field('Ipv4Prefix', one.Ipv4Prefix, 'prefix')),
    ipv6Prefixes: ipv6Prefixes.map((one) => canonical6(field('Ipv6Prefix', one.Ipv6Prefix, 'ipv6Prefix'))),
    tags: toTags(eni.TagSet),
    securityGroupIds: (eni.Groups ?? []).map((group) => field('GroupId', group.GroupId, 'groupId')).sort(),
    attachment:
      attachment === undefined
        ? undefined
        : {
            attachmentId: field('AttachmentId', attachment.AttachmentId, 'id'),
            // EC2 does not return the instance ID of another account.
            instanceId:
              attachment.InstanceId === undefined
                ? undefined
                : field('InstanceId', attachment.InstanceId, 'instanceId'),
            deviceIndex: count('DeviceIndex', attachment.DeviceIndex, MOST),
            networkCard: count('NetworkCardIndex', attachment.NetworkCardIndex ?? 0, MOST),
            status: optional('Status', attachment.Status, 'text') ?? '',
            deleteOnTermination: attachment.DeleteOnTermination ?? false,
          },
  };
}

/** Throws when two ENIs of an instance have the same MAC, address or prefix: eniboot would give an address to two pods. */
function refuseShared(enis: Eni[]): void {
  const seen = new Set<string>();
  for (const eni of enis) {
    for (const one of [
      eni.mac,
      eni.primaryAddress,
      ...eni.secondaryAddresses,
      ...eni.prefixes,
      ...eni.ipv6Prefixes,
    ]) {
      if (one !== '' && seen.has(one)) throw senseless('a value of two ENIs', one);
      seen.add(one);
    }
  }
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
