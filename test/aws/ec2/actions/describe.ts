// The read-only calls. A describe that does not name IDs is eventually consistent: it misses young objects.
import type {
  DescribeAddressesRequest,
  DescribeAddressesResult,
  DescribeInstancesRequest,
  DescribeInstancesResult,
  DescribeInstanceTypesRequest,
  DescribeInstanceTypesResult,
  DescribeNetworkInterfacesRequest,
  DescribeNetworkInterfacesResult,
  DescribeSecurityGroupsRequest,
  DescribeSecurityGroupsResult,
  DescribeSubnetsRequest,
  DescribeSubnetsResult,
  DescribeTagsRequest,
  DescribeTagsResult,
  DescribeVpcsRequest,
  DescribeVpcsResult,
  Filter,
} from '@aws-sdk/client-ec2';
import { AwsError } from '../errors.ts';
import { type Attributes, matching, page } from '../filters.ts';
import { instanceTypes } from '../instance-types.ts';
import {
  describeGroup,
  describeInstance,
  describeInterface,
  describeSubnet,
  describeTags,
  describeVpc,
} from '../render.ts';
import type { ElasticIp, Eni, InstanceRecord, SecurityGroup, Subnet } from '../state.ts';
import { eniOf, enisOf, instanceOf, isYoung, limitsOf, subnetOf, type World } from '../world.ts';
import { type Tagged, taggedObjects } from './tags.ts';

const interfaceFilters: Attributes<Eni> = {
  'attachment.attachment-id': (eni) => [eni.attachment?.id],
  'attachment.delete-on-termination': (eni) => [eni.attachment && String(eni.attachment.deleteOnTermination)],
  'attachment.device-index': (eni) => [eni.attachment && String(eni.attachment.deviceIndex)],
  'attachment.instance-id': (eni) => [eni.attachment?.instanceId],
  'attachment.status': (eni) => [eni.attachment?.status],
  'addresses.private-ip-address': (eni) => [eni.primaryIp, ...eni.secondaryIps],
  'availability-zone': (eni) => [eni.zone],
  description: (eni) => [eni.description],
  'group-id': (eni) => eni.groups,
  'interface-type': () => ['interface'],
  'mac-address': (eni) => [eni.mac],
  'network-interface-id': (eni) => [eni.id],
  'private-ip-address': (eni) => [eni.primaryIp],
  status: (eni) => [eni.attachment === undefined ? 'available' : 'in-use'],
  'subnet-id': (eni) => [eni.subnetId],
  'vpc-id': (eni) => [eni.vpcId],
};

export function describeNetworkInterfaces(
  world: World,
  request: DescribeNetworkInterfacesRequest,
): DescribeNetworkInterfacesResult {
  const ids = request.NetworkInterfaceIds ?? [];
  const candidates =
    ids.length > 0
      ? ids.map((id) => eniOf(world, id))
      : settled(world, interfaceCandidates(world, request.Filters));
  const { items, ...rest } = page(matching(candidates, request.Filters, interfaceFilters), request);
  return { NetworkInterfaces: items.map((eni) => describeInterface(world, eni)), ...rest };
}

/** A filter by instance narrows the search at once: 5,000 modelled nodes ask exactly this. */
function interfaceCandidates(world: World, filters: Filter[] | undefined): Eni[] {
  const byInstance = filters?.find((filter) => filter.Name === 'attachment.instance-id')?.Values;
  if (byInstance === undefined || byInstance.some((id) => /[*?]/.test(id))) return [...world.enis.values()];
  return byInstance.flatMap((id) => enisOf(world, id));
}

const instanceFilters = (world: World): Attributes<InstanceRecord> => ({
  'availability-zone': (one) => [one.zone],
  'availability-zone-id': (one) => [one.zoneId],
  'image-id': (one) => [one.imageId],
  'instance-id': (one) => [one.id],
  'instance-state-name': (one) => [one.state],
  'instance-type': (one) => [one.type],
  'launch-time': (one) => [new Date(one.launchTime).toISOString()],
  'private-ip-address': (one) => [enisOf(world, one.id)[0]?.primaryIp],
  'subnet-id': (one) => [one.subnetId],
  'vpc-id': (one) => [one.vpcId],
});

export function describeInstances(world: World, request: DescribeInstancesRequest): DescribeInstancesResult {
  const ids = request.InstanceIds ?? [];
  const candidates =
    ids.length > 0 ? ids.map((id) => seenInstance(world, id)) : settled(world, [...world.instances.values()]);
  const { items, ...rest } = page(matching(candidates, request.Filters, instanceFilters(world)), request);
  return {
    Reservations: items.map((instance) => ({
      ReservationId: `r-${instance.id.slice(2)}`,
      OwnerId: world.accountId,
      Groups: [],
      Instances: [describeInstance(world, instance)],
    })),
    ...rest,
  };
}

/** A young instance is unknown, also by its ID. Source: "Error codes for the Amazon EC2 API", InvalidInstanceID.NotFound. */
function seenInstance(world: World, id: string): InstanceRecord {
  const instance = instanceOf(world, id);
  if (!isYoung(world, instance.createdAt)) return instance;
  throw new AwsError('InvalidInstanceID.NotFound', `The instance ID '${id}' does not exist`);
}

const subnetFilters: Attributes<Subnet> = {
  'availability-zone': (one) => [one.zone],
  'availability-zone-id': (one) => [one.zoneId],
  'cidr-block': (one) => [one.cidr],
  state: () => ['available'],
  'subnet-id': (one) => [one.id],
  'vpc-id': (one) => [one.vpcId],
};

export function describeSubnets(world: World, request: DescribeSubnetsRequest): DescribeSubnetsResult {
  const ids = request.SubnetIds ?? [];
  const candidates = ids.length > 0 ? ids.map((id) => subnetOf(world, id)) : [...world.subnets.values()];
  const { items, ...rest } = page(matching(candidates, request.Filters, subnetFilters), request);
  return { Subnets: items.map((subnet) => describeSubnet(world, subnet)), ...rest };
}

const groupFilters: Attributes<SecurityGroup> = {
  'group-id': (one) => [one.id],
  'group-name': (one) => [one.name],
  'vpc-id': (one) => [one.vpcId],
};

export function describeSecurityGroups(
  world: World,
  request: DescribeSecurityGroupsRequest,
): DescribeSecurityGroupsResult {
  const unknown = request.GroupIds?.find((id) => !world.groups.has(id));
  if (unknown !== undefined)
    throw new AwsError('InvalidGroup.NotFound', `The security group '${unknown}' does not exist`);
  const all = [...world.groups.values()].filter((group) => request.GroupIds?.includes(group.id) ?? true);
  const { items, ...rest } = page(matching(all, request.Filters, groupFilters), request);
  return { SecurityGroups: items.map((group) => describeGroup(world, group)), ...rest };
}

export function describeVpcs(world: World, request: DescribeVpcsRequest): DescribeVpcsResult {
  const unknown = request.VpcIds?.find((id) => id !== world.vpc.id);
  if (unknown !== undefined)
    throw new AwsError('InvalidVpcID.NotFound', `The vpc ID '${unknown}' does not exist`);
  const found = matching([world.vpc], request.Filters, {
    'vpc-id': (one) => [one.id],
    cidr: (one) => [one.cidrs[0]],
    'cidr-block-association.cidr-block': (one) => one.cidrs,
  });
  return { Vpcs: found.map(() => describeVpc(world)) };
}

export function describeInstanceTypes(
  _world: World,
  request: DescribeInstanceTypesRequest,
): DescribeInstanceTypesResult {
  const names = request.InstanceTypes?.length ? request.InstanceTypes : Object.keys(instanceTypes);
  return {
    InstanceTypes: names.map((name) => {
      const limits = limitsOf(name);
      const nitro = limits.hypervisor === 'nitro';
      const { cards = 1 } = limits;
      return {
        InstanceType: name as never,
        Hypervisor: limits.hypervisor,
        BareMetal: false,
        CurrentGeneration: nitro,
        VCpuInfo: { DefaultVCpus: limits.vcpus },
        MemoryInfo: { SizeInMiB: limits.memoryMiB },
        ProcessorInfo: { SupportedArchitectures: [limits.arch] },
        NetworkInfo: {
          MaximumNetworkInterfaces: cards * limits.enis,
          Ipv4AddressesPerInterface: limits.addressesPerEni,
          MaximumNetworkCards: cards,
          DefaultNetworkCardIndex: 0,
          NetworkCards: Array.from({ length: cards }, (_, NetworkCardIndex) => ({
            NetworkCardIndex,
            MaximumNetworkInterfaces: limits.enis,
            NetworkPerformance: 'Up to 10 Gigabit',
          })),
          EnaSupport: nitro ? 'required' : 'unsupported',
          Ipv6Supported: true,
          Ipv6AddressesPerInterface: limits.addressesPerEni,
        },
      };
    }),
  };
}

const tagFilters: Attributes<Tagged & { key: string; value: string }> = {
  key: (one) => [one.key],
  value: (one) => [one.value],
  'resource-id': (one) => [one.id],
  'resource-type': (one) => [one.kind],
};

export function describeTagsAction(world: World, request: DescribeTagsRequest): DescribeTagsResult {
  const ids = request.Filters?.find((filter) => filter.Name === 'resource-id')?.Values;
  const exact = ids?.every((id) => !/[*?]/.test(id)) === true ? ids : undefined;
  const all = taggedObjects(world, exact).flatMap((one) =>
    [...one.tags].map(([key, value]) => ({ ...one, key, value })),
  );
  const { items, ...rest } = page(matching(all, request.Filters, tagFilters), request);
  return {
    Tags: items.map((one) => ({
      ResourceId: one.id,
      ResourceType: one.kind as never,
      Key: one.key,
      Value: one.value,
    })),
    ...rest,
  };
}

const addressFilters: Attributes<ElasticIp> = {
  'allocation-id': (one) => [one.allocationId],
  'association-id': (one) => [one.associationId],
  'network-interface-id': (one) => [one.eniId],
  'public-ip': (one) => [one.publicIp],
};

export function describeAddresses(world: World, request: DescribeAddressesRequest): DescribeAddressesResult {
  const all = [...world.elasticIps.values()].filter(
    (one) => request.AllocationIds?.includes(one.allocationId) ?? true,
  );
  return {
    Addresses: matching(all, request.Filters, addressFilters).map((one) => ({
      AllocationId: one.allocationId,
      PublicIp: one.publicIp,
      Domain: 'vpc',
      Tags: describeTags(one.tags),
      ...(one.eniId === undefined ? {} : { NetworkInterfaceId: one.eniId, AssociationId: one.associationId }),
    })),
  };
}

function settled<T extends { createdAt: number }>(world: World, objects: T[]): T[] {
  return objects.filter((one) => !isYoung(world, one.createdAt));
}
