// The model's objects in the shapes EC2 answers with.
import type {
  Instance,
  InstanceState,
  NetworkInterface,
  SecurityGroup,
  Subnet,
  Tag,
  Vpc,
} from '@aws-sdk/client-ec2';
import type { Eni, SecurityGroup as Group, InstanceRecord, Subnet as SubnetState } from './state.ts';
import { enisOf, limitsOf, shownTags, type World } from './world.ts';

export function describeInterface(world: World, eni: Eni): NetworkInterface {
  const association = associationOf(world, eni);
  return {
    NetworkInterfaceId: eni.id,
    SubnetId: eni.subnetId,
    VpcId: eni.vpcId,
    AvailabilityZone: eni.zone,
    Description: eni.description,
    OwnerId: world.accountId,
    RequesterManaged: false,
    Status: eni.attachment === undefined ? 'available' : 'in-use',
    MacAddress: eni.mac,
    PrivateIpAddress: eni.primaryIp,
    PrivateDnsName: privateDnsName(world, eni.primaryIp),
    SourceDestCheck: eni.sourceDestCheck,
    InterfaceType: 'interface',
    Groups: eni.groups.map((GroupId) => ({ GroupId, GroupName: world.groups.get(GroupId)?.name })),
    TagSet: describeTags(eni.tags),
    ...(eni.attachment === undefined ? {} : { Attachment: attachmentOf(world, eni) }),
    ...(association === undefined ? {} : { Association: association }),
    PrivateIpAddresses: [eni.primaryIp, ...eni.secondaryIps].map((PrivateIpAddress, index) => ({
      PrivateIpAddress,
      PrivateDnsName: privateDnsName(world, PrivateIpAddress),
      Primary: index === 0,
      ...(index === 0 && association !== undefined ? { Association: association } : {}),
    })),
    Ipv4Prefixes: eni.prefixes.map((Ipv4Prefix) => ({ Ipv4Prefix })),
    Ipv6Addresses: eni.ipv6Addresses.map((Ipv6Address) => ({ Ipv6Address })),
    Ipv6Prefixes: eni.ipv6Prefixes.map((Ipv6Prefix) => ({ Ipv6Prefix })),
  };
}

export function describeInstance(world: World, instance: InstanceRecord): Instance {
  const enis = enisOf(world, instance.id);
  const boot = enis.find((eni) => eni.attachment?.deviceIndex === 0);
  const limits = limitsOf(instance.type);
  return {
    InstanceId: instance.id,
    ImageId: instance.imageId,
    InstanceType: instance.type as NonNullable<Instance['InstanceType']>,
    State: describeState(instance.state),
    ...(instance.stateReason === undefined ? {} : { StateReason: instance.stateReason }),
    LaunchTime: new Date(instance.launchTime),
    Placement: {
      AvailabilityZone: instance.zone,
      AvailabilityZoneId: instance.zoneId,
      Tenancy: 'default',
      GroupName: '',
    },
    Architecture: limits.arch,
    Hypervisor: 'xen',
    VirtualizationType: 'hvm',
    RootDeviceType: 'ebs',
    RootDeviceName: '/dev/xvda',
    EnaSupport: limits.hypervisor === 'nitro',
    SubnetId: instance.subnetId,
    VpcId: instance.vpcId,
    PrivateIpAddress: boot?.primaryIp,
    PrivateDnsName: boot === undefined ? '' : privateDnsName(world, boot.primaryIp),
    PublicDnsName: '',
    ...(boot?.publicIp === undefined ? {} : { PublicIpAddress: boot.publicIp }),
    SourceDestCheck: boot?.sourceDestCheck ?? true,
    SecurityGroups: instance.groups.map((GroupId) => ({
      GroupId,
      GroupName: world.groups.get(GroupId)?.name,
    })),
    Tags: describeTags(shownTags(world, instance.id, instance.tags)),
    ...(instance.role === undefined
      ? {}
      : { IamInstanceProfile: { Arn: profileArn(world, instance.role), Id: 'AIPAENIBOOTSIMULATED' } }),
    MetadataOptions: {
      State: 'applied',
      HttpTokens: 'required',
      HttpPutResponseHopLimit: instance.hopLimit,
      HttpEndpoint: 'enabled',
      InstanceMetadataTags: instance.tagsInMetadata ? 'enabled' : 'disabled',
    },
    NetworkInterfaces: enis.map((eni) => {
      const { TagSet: _tags, ...rest } = describeInterface(world, eni);
      return {
        NetworkInterfaceId: rest.NetworkInterfaceId,
        SubnetId: rest.SubnetId,
        VpcId: rest.VpcId,
        Description: rest.Description,
        OwnerId: rest.OwnerId,
        Status: rest.Status,
        MacAddress: rest.MacAddress,
        PrivateIpAddress: rest.PrivateIpAddress,
        PrivateDnsName: rest.PrivateDnsName,
        SourceDestCheck: rest.SourceDestCheck,
        InterfaceType: 'interface',
        Groups: rest.Groups,
        Attachment: rest.Attachment,
        Association: rest.Association,
        PrivateIpAddresses: rest.PrivateIpAddresses,
        Ipv4Prefixes: rest.Ipv4Prefixes,
        Ipv6Addresses: rest.Ipv6Addresses,
        Ipv6Prefixes: rest.Ipv6Prefixes,
      };
    }),
  };
}

export function describeSubnet(world: World, subnet: SubnetState): Subnet {
  return {
    SubnetId: subnet.id,
    SubnetArn: `arn:aws:ec2:${world.region}:${world.accountId}:subnet/${subnet.id}`,
    VpcId: subnet.vpcId,
    CidrBlock: subnet.cidr,
    AvailabilityZone: subnet.zone,
    AvailabilityZoneId: subnet.zoneId,
    AvailableIpAddressCount: subnet.space.free,
    MapPublicIpOnLaunch: subnet.mapPublicIp,
    AssignIpv6AddressOnCreation: subnet.assignIpv6,
    Ipv6CidrBlockAssociationSet:
      subnet.ipv6Cidr === undefined ? [] : [ipv6Block('subnet', 0, subnet.ipv6Cidr)],
    DefaultForAz: false,
    State: 'available',
    OwnerId: world.accountId,
    Tags: describeTags(subnet.tags),
  };
}

export function describeGroup(world: World, group: Group): SecurityGroup {
  return {
    GroupId: group.id,
    GroupName: group.name,
    Description: group.name,
    VpcId: group.vpcId,
    OwnerId: world.accountId,
    Tags: describeTags(group.tags),
  };
}

export function describeVpc(world: World): Vpc {
  const { vpc } = world;
  return {
    VpcId: vpc.id,
    CidrBlock: vpc.cidrs[0],
    CidrBlockAssociationSet: vpc.cidrs.map((CidrBlock, index) => ({
      CidrBlock,
      AssociationId: `vpc-cidr-assoc-0000000${index}`,
      CidrBlockState: { State: 'associated' },
    })),
    Ipv6CidrBlockAssociationSet: vpc.ipv6Cidrs.map((cidr, index) => ipv6Block('vpc', index, cidr)),
    State: 'available',
    IsDefault: false,
    InstanceTenancy: 'default',
    OwnerId: world.accountId,
    Tags: describeTags(vpc.tags),
  };
}

function ipv6Block(of: 'vpc' | 'subnet', index: number, Ipv6CidrBlock: string) {
  return {
    AssociationId: `${of}-cidr-assoc-0000006${index}`,
    Ipv6CidrBlock,
    Ipv6CidrBlockState: { State: 'associated' as const },
  };
}

export function describeTags(tags: Map<string, string>): Tag[] {
  return [...tags].map(([Key, Value]) => ({ Key, Value }));
}

const stateCodes = {
  pending: 0,
  running: 16,
  'shutting-down': 32,
  terminated: 48,
  stopping: 64,
  stopped: 80,
};

export function describeState(state: InstanceRecord['state']): InstanceState {
  return { Code: stateCodes[state], Name: state };
}

export function privateDnsName(world: World, address: string): string {
  const domain = world.region === 'us-east-1' ? 'ec2.internal' : `${world.region}.compute.internal`;
  return `ip-${address.replaceAll('.', '-')}.${domain}`;
}

function profileArn(world: World, role: string): string {
  return `arn:aws:iam::${world.accountId}:instance-profile/${role}`;
}

function attachmentOf(world: World, eni: Eni): NonNullable<NetworkInterface['Attachment']> {
  const { attachment } = eni;
  if (attachment === undefined) return {};
  return {
    AttachmentId: attachment.id,
    InstanceId: attachment.instanceId,
    InstanceOwnerId: world.accountId,
    DeviceIndex: attachment.deviceIndex,
    NetworkCardIndex: attachment.networkCardIndex,
    Status: attachment.status,
    DeleteOnTermination: attachment.deleteOnTermination,
    AttachTime: new Date(attachment.attachedAt),
  };
}

function associationOf(world: World, eni: Eni): NetworkInterface['Association'] | undefined {
  if (eni.publicIp === undefined) return undefined;
  const elastic = world.elasticIps.get(eni.allocationId ?? '');
  return {
    PublicIp: eni.publicIp,
    PublicDnsName: '',
    IpOwnerId: elastic === undefined ? 'amazon' : world.accountId,
    ...(elastic === undefined
      ? {}
      : { AllocationId: elastic.allocationId, AssociationId: elastic.associationId }),
  };
}
