// The options of a launch, and the model's part of it: boot ENI, pod ENIs, public address; no device yet.

import { launchInstance } from './ec2/actions/instances.ts';
import { attach, createNetworkInterface, finishAttach, givePublicAddress } from './ec2/actions/interfaces.ts';
import type { Ec2 } from './ec2/ec2.ts';
import type { InstanceRecord } from './ec2/state.ts';
import { eniOf, enisOf, subnetOf } from './ec2/world.ts';
import type { VmHooks } from './instance/vm.ts';

export interface PodEniSpec {
  /** Subnet ID; default is the pod subnet of the instance's zone. */
  subnet?: string;
  prefixes?: number;
  addresses?: number;
  ipv6Prefixes?: number;
  tags?: Record<string, string>;
  deviceIndex?: number;
  networkCard?: number;
  /** Default true, as for ENIs that are part of a launch. */
  deleteOnTermination?: boolean;
}

export interface LaunchOptions {
  /** Default m5.xlarge. */
  type?: string;
  /** Subnet ID; default is the first subnet. */
  subnet?: string;
  /** Default true. */
  publicIp?: boolean;
  userData?: string;
  tags?: Record<string, string>;
  /** ENIs that are attached before power-on: their number (each with a primary address only), or a description of each. */
  podEnis?: number | PodEniSpec[];
  imds?: { hopLimit?: number; tagsInMetadata?: boolean };
  /** Written into the instance before its first boot: path → text. */
  files?: Record<string, string>;
  shutdownBehavior?: 'stop' | 'terminate';
  role?: string;
  /** Auto Scaling's target lifecycle state, such as Warmed:Running. */
  lifecycleState?: string;
  imageId?: string;
  /** The instance is a VM run by the caller; its ENIs are taps. */
  vm?: VmHooks;
}

export function launchRecord(ec2: Ec2, wanted: LaunchOptions): InstanceRecord {
  const { world } = ec2;
  const first = [...world.subnets.values()][0];
  const subnet = subnetOf(world, wanted.subnet ?? first?.id ?? '');
  const record = launchInstance(world, {
    type: wanted.type ?? 'm5.xlarge',
    imageId: wanted.imageId ?? 'ami-0123456789abcdef0',
    subnetId: subnet.id,
    publicIp: false,
    tags: new Map(Object.entries({ Name: 'node', ...wanted.tags })),
    hopLimit: wanted.imds?.hopLimit ?? 1,
    tagsInMetadata: wanted.imds?.tagsInMetadata,
    userData: wanted.userData,
    role: wanted.role ?? 'eniboot-node',
    shutdownBehavior: wanted.shutdownBehavior ?? 'stop',
    lifecycleState: wanted.lifecycleState,
  });
  const boot = enisOf(world, record.id)[0];
  if (boot !== undefined && wanted.publicIp !== false) givePublicAddress(world, boot);
  const { podEnis = [] } = wanted;
  const specs: PodEniSpec[] =
    typeof podEnis === 'number' ? Array.from({ length: podEnis }, () => ({})) : podEnis;
  for (const [index, spec] of specs.entries()) launchPodEni(ec2, record, spec, index + 1);
  return record;
}

function launchPodEni(ec2: Ec2, record: InstanceRecord, spec: PodEniSpec, nextIndex: number): void {
  const { world } = ec2;
  const inZone = [...world.subnets.values()].filter((one) => one.zone === record.zone);
  const subnetId = spec.subnet ?? (inZone.find((one) => one.tags.get('eniboot') === 'pods') ?? inZone[0])?.id;
  const created = createNetworkInterface(world, {
    SubnetId: subnetId,
    Description: 'attached at launch',
    Ipv4PrefixCount: spec.prefixes,
    SecondaryPrivateIpAddressCount: spec.addresses,
    Ipv6PrefixCount: spec.ipv6Prefixes,
    TagSpecifications: [
      {
        ResourceType: 'network-interface',
        Tags: Object.entries(spec.tags ?? {}).map(([Key, Value]) => ({ Key, Value })),
      },
    ],
  });
  const eni = eniOf(world, created.NetworkInterface?.NetworkInterfaceId);
  const attachment = attach(world, eni, record, {
    deviceIndex: spec.deviceIndex ?? nextIndex,
    networkCardIndex: spec.networkCard ?? 0,
    deleteOnTermination: spec.deleteOnTermination ?? true,
  });
  finishAttach(world, eni, attachment);
}
