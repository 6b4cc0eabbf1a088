// What the modelled region holds. Plain data; only the functions under actions/ change it.
import type { AddressSpace } from './addresses.ts';

export interface Subnet {
  id: string;
  vpcId: string;
  cidr: string;
  /** A /64; absent in a subnet without IPv6. */
  ipv6Cidr?: string | undefined;
  /** True: EC2 gives an ENI that is created here an IPv6 address. */
  assignIpv6: boolean;
  zone: string;
  zoneId: string;
  tags: Map<string, string>;
  space: AddressSpace;
  /** How many /80 prefixes and IPv6 addresses were given so far: none is given twice. */
  ipv6Given: number;
  /** True: EC2 gives instances that are launched here a public IPv4. */
  mapPublicIp: boolean;
}

export interface SecurityGroup {
  id: string;
  name: string;
  vpcId: string;
  tags: Map<string, string>;
}

export interface Attachment {
  id: string;
  instanceId: string;
  /** As EC2 reports it. Only under a fault does the device have another index. */
  deviceIndex: number;
  networkCardIndex: number;
  status: 'attaching' | 'attached' | 'detaching';
  deleteOnTermination: boolean;
  attachedAt: number;
}

export interface Eni {
  id: string;
  mac: string;
  subnetId: string;
  vpcId: string;
  zone: string;
  primaryIp: string;
  secondaryIps: string[];
  /** /28 prefixes, such as 10.0.64.16/28. */
  prefixes: string[];
  ipv6Addresses: string[];
  /** /80 prefixes, such as 2001:db8:1234:1a02:5::/80. */
  ipv6Prefixes: string[];
  groups: string[];
  description: string;
  tags: Map<string, string>;
  sourceDestCheck: boolean;
  attachment?: Attachment | undefined;
  publicIp?: string | undefined;
  /** ID of the Elastic IP; absent when `publicIp` is an auto-assigned address. */
  allocationId?: string | undefined;
  createdAt: number;
  /** Address or prefix → when it was assigned. IMDS shows it after its lag from then on. */
  assignedAt: Map<string, number>;
}

export type InstanceState = 'pending' | 'running' | 'stopping' | 'stopped' | 'shutting-down' | 'terminated';

export interface InstanceRecord {
  id: string;
  type: string;
  imageId: string;
  zone: string;
  zoneId: string;
  subnetId: string;
  vpcId: string;
  state: InstanceState;
  /** Why it is in that state. */
  stateReason?: { Code: string; Message: string } | undefined;
  tags: Map<string, string>;
  groups: string[];
  launchTime: number;
  hopLimit: number;
  tagsInMetadata: boolean;
  userData?: string | undefined;
  /** Name of the role in the instance profile. */
  role?: string | undefined;
  shutdownBehavior: 'stop' | 'terminate';
  /** Auto Scaling's target lifecycle state, such as InService or Warmed:Stopped. */
  lifecycleState?: string | undefined;
  /** Name of the key pair. The image's cloud-init installs its public key. */
  keyName?: string | undefined;
  console?: string | undefined;
  createdAt: number;
}

export interface ImageRecord {
  id: string;
  name: string;
  description: string;
  architecture: 'x86_64' | 'arm64';
  ownerId: string;
  tags: Map<string, string>;
  snapshotId: string;
  state: 'pending' | 'available' | 'failed' | 'disabled';
  /** Why it is in that state. */
  stateReason?: { Code: string; Message: string } | undefined;
  /** True: registered with ImdsSupport v2.0. */
  imdsV2: boolean;
  /** ISO 8601. */
  deprecateAt?: string | undefined;
  /** Deregistration protection, when it is on. */
  protection: 'enabled-with-cooldown' | 'enabled-without-cooldown' | undefined;
  /** Until then the image cannot be deregistered although the protection is off. */
  coolsUntil: number;
  /** IDs of the accounts that may launch it. */
  sharedWith: Set<string>;
  createdAt: number;
}

export interface Snapshot {
  id: string;
  tags: Map<string, string>;
  encrypted: boolean;
  /** The customer's KMS key that encrypts the snapshot; absent when AWS's own key does. */
  keyId?: string | undefined;
  /** Its owner lets other accounts read it. Without that, other accounts can launch its image and cannot copy it. */
  readable: boolean;
  state: 'pending' | 'completed' | 'error';
  createdAt: number;
}

export interface KeyPairRecord {
  id: string;
  name: string;
  /** One line of authorized_keys. */
  publicKey: string;
  tags: Map<string, string>;
}

export interface ElasticIp {
  allocationId: string;
  publicIp: string;
  associationId?: string | undefined;
  eniId?: string | undefined;
  tags: Map<string, string>;
}

export interface Vpc {
  id: string;
  cidrs: string[];
  ipv6Cidrs: string[];
  tags: Map<string, string>;
}

/** Tells the devices what the model decided; delivered in order, synchronously. */
export type Ec2Event =
  | { kind: 'attached'; eni: Eni; attachment: Attachment }
  | { kind: 'detached'; eni: Eni; attachment: Attachment }
  | { kind: 'addresses'; eni: Eni }
  | { kind: 'created' | 'deleted'; eni: Eni }
  /** RunInstances has made this instance, and it now runs. */
  | { kind: 'run'; instance: InstanceRecord }
  /** An image of the disk that `from`, an instance or an image, has at this moment. */
  | { kind: 'image'; image: ImageRecord; from: string }
  | { kind: 'instance'; instance: InstanceRecord; action: 'reboot' | 'stop' | 'start' | 'terminate' };

/** The caller: an instance with its role's credentials, or an operator. */
export interface Caller {
  instanceId?: string | undefined;
}
