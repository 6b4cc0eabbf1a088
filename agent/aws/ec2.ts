// EC2 for the rest of the agent: few calls, plain data, one attempt each, every error a Failure. patience.ts adds retries and
// the client-side rate limit; the SDK's own retries are off.

import type { InstanceLimits } from './limits/limits.ts';

/** An ENI as EC2 describes it. */
export interface Eni {
  eniId: string;
  mac: string;
  subnetId: string;
  vpcId: string;
  status: string;
  description: string;
  primaryAddress: string;
  /** Secondary private addresses, without the primary. */
  secondaryAddresses: string[];
  /** /28 prefixes. */
  prefixes: string[];
  /** /80 prefixes. */
  ipv6Prefixes: string[];
  tags: Record<string, string>;
  securityGroupIds: string[];
  attachment:
    | {
        attachmentId: string;
        instanceId: string | undefined;
        deviceIndex: number;
        networkCard: number;
        status: string;
        deleteOnTermination: boolean;
      }
    | undefined;
}

export interface Subnet {
  subnetId: string;
  zone: string;
  cidr: string;
  freeAddresses: number;
  /** The subnet has an IPv6 CIDR. */
  ipv6: boolean;
}

/** How many addresses to ask for: whole /28 prefixes, or single secondary addresses. */
export interface AddressRequest {
  kind: 'prefixes' | 'addresses';
  count: number;
}

export interface CreateEni {
  subnetId: string;
  securityGroupIds: string[];
  description: string;
  tags: Record<string, string>;
  addresses: AddressRequest;
  /** Request one /80 prefix as well. */
  ipv6Prefix: boolean;
  clientToken: string;
}

/** Which objects to describe: by ID, or all that carry these tags. */
export type Selector = { ids: string[] } | { tags: Record<string, string> };

/** Every method is one API call and one attempt. Read calls follow pagination. */
export interface Ec2 {
  describeAttachedEnis(instanceId: string): Promise<Eni[]>;
  /** ENIs by ID, or by tags and status. */
  describeEnis(filter: { ids: string[] } | { tags: Record<string, string>; status?: string }): Promise<Eni[]>;
  /** The selected subnets that exist in the VPC. */
  describeSubnets(vpcId: string, selector: Selector): Promise<Subnet[]>;
  describeSecurityGroupIds(vpcId: string, selector: Selector): Promise<string[]>;
  /** Associated IPv4 CIDR blocks of a VPC. */
  describeVpcCidrs(vpcId: string): Promise<string[]>;
  describeInstanceType(type: string): Promise<InstanceLimits>;
  describeTags(resourceId: string): Promise<Record<string, string>>;
  /** Those of the given instances (at most 200) that EC2 knows and that are not terminated. */
  describeLiveInstances(instanceIds: string[]): Promise<string[]>;

  createEni(request: CreateEni): Promise<Eni>;
  attachEni(eniId: string, instanceId: string, deviceIndex: number): Promise<string>;
  setDeleteOnTermination(eniId: string, attachmentId: string): Promise<void>;
  /** Returns what EC2 has assigned, as CIDRs. */
  assignAddresses(eniId: string, addresses: AddressRequest): Promise<string[]>;
  /** Requests one /80 prefix. */
  assignIpv6Prefix(eniId: string): Promise<void>;
  /** Takes prefixes (/28) and single addresses (/32), written as CIDRs, from an ENI. */
  unassignAddresses(eniId: string, cidrs: string[]): Promise<void>;
  detachEni(attachmentId: string): Promise<void>;
  deleteEni(eniId: string): Promise<void>;
  createTags(resourceId: string, tags: Record<string, string>): Promise<void>;
  requestPublicAddress(eniId: string): Promise<void>;
  terminateInstance(instanceId: string): Promise<void>;
}

/** The IAM action behind each method: what `iam-policy` grants and what a denial names. */
export const ec2Actions = {
  describeAttachedEnis: 'DescribeNetworkInterfaces',
  describeEnis: 'DescribeNetworkInterfaces',
  describeSubnets: 'DescribeSubnets',
  describeSecurityGroupIds: 'DescribeSecurityGroups',
  describeVpcCidrs: 'DescribeVpcs',
  describeInstanceType: 'DescribeInstanceTypes',
  describeTags: 'DescribeTags',
  describeLiveInstances: 'DescribeInstances',
  createEni: 'CreateNetworkInterface',
  attachEni: 'AttachNetworkInterface',
  setDeleteOnTermination: 'ModifyNetworkInterfaceAttribute',
  assignAddresses: 'AssignPrivateIpAddresses',
  assignIpv6Prefix: 'AssignIpv6Addresses',
  unassignAddresses: 'UnassignPrivateIpAddresses',
  detachEni: 'DetachNetworkInterface',
  deleteEni: 'DeleteNetworkInterface',
  createTags: 'CreateTags',
  requestPublicAddress: 'ModifyNetworkInterfaceAttribute',
  terminateInstance: 'TerminateInstances',
} as const satisfies Record<keyof Ec2, string>;

export function isMutating(method: keyof Ec2): boolean {
  return !method.startsWith('describe');
}
