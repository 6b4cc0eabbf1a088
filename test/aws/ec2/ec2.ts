// The state machine of EC2: one call in, one answer or AwsError out, no I/O. The HTTP server, the devices and
// a fleet on virtual time all use this.

import { type ApiCall, recording } from '../calls.ts';
import { checkRequest } from '../requests/check.ts';
import * as addresses from './actions/addresses.ts';
import * as describe from './actions/describe.ts';
import * as images from './actions/images.ts';
import * as instances from './actions/instances.ts';
import * as interfaces from './actions/interfaces.ts';
import * as ipv6 from './actions/ipv6.ts';
import * as tags from './actions/tags.ts';
import { AddressSpace } from './addresses.ts';
import { AwsError, throttled } from './errors.ts';
import type { Scheduler } from './scheduler.ts';
import { realScheduler } from './scheduler.ts';
import type { Caller, Ec2Event } from './state.ts';
import { type BucketSize, Throttle } from './throttle.ts';
import {
  type AttachFault,
  addSubnet,
  type Ec2Latency,
  idSource,
  type SubnetSpec,
  type World,
} from './world.ts';

export interface Ec2Options {
  region?: string;
  scheduler?: Scheduler;
  vpcCidrs?: string[];
  vpcIpv6Cidrs?: string[];
  subnets?: SubnetSpec[];
  /** Kept, not copied: a later change counts. Without it no call takes time. */
  latency?: Ec2Latency;
  /** As `World.defaultKey`. */
  defaultKey?: string | undefined;
  denied?: Set<string>;
  /** Bucket sizes that differ from EC2's own, by action; `undefined` for an action means EC2's own. */
  bucketOf?: (action: string) => BucketSize | undefined;
  /** Kept, not copied. Without it the account has set no default, and IMDS shows no tags. */
  metadataDefaults?: World['metadataDefaults'];
  attachFault?: (instanceId: string) => AttachFault | undefined;
}

/** Carries out one API call. */
type Handler = (world: World, request: never) => object;

const readers: Record<string, Handler> = {
  DescribeAddresses: describe.describeAddresses,
  DescribeImages: images.describeImages,
  DescribeInstances: describe.describeInstances,
  DescribeInstanceTypes: describe.describeInstanceTypes,
  DescribeNetworkInterfaces: describe.describeNetworkInterfaces,
  DescribeRegions: images.describeRegions,
  DescribeSecurityGroups: describe.describeSecurityGroups,
  DescribeSnapshots: images.describeSnapshots,
  DescribeSubnets: describe.describeSubnets,
  DescribeTags: describe.describeTagsAction,
  DescribeVolumes: images.describeVolumes,
  DescribeVpcs: describe.describeVpcs,
  GetConsoleOutput: instances.getConsoleOutput,
};

const writers: Record<string, Handler> = {
  AllocateAddress: addresses.allocateAddress,
  AssignIpv6Addresses: ipv6.assignIpv6Addresses,
  AssignPrivateIpAddresses: addresses.assignPrivateIpAddresses,
  AssociateAddress: addresses.associateAddress,
  AttachNetworkInterface: interfaces.attachNetworkInterface,
  AuthorizeSecurityGroupIngress: images.authorizeSecurityGroupIngress,
  CopyImage: images.copyImage,
  CreateImage: images.createImage,
  CreateKeyPair: images.createKeyPair,
  CreateNetworkInterface: interfaces.createNetworkInterface,
  CreateSecurityGroup: images.createSecurityGroup,
  CreateTags: tags.createTags,
  DeleteKeyPair: images.deleteKeyPair,
  DeleteNetworkInterface: interfaces.deleteNetworkInterface,
  DeleteSecurityGroup: images.deleteSecurityGroup,
  DeleteSnapshot: images.deleteSnapshot,
  DeleteTags: tags.deleteTags,
  DeregisterImage: images.deregisterImage,
  DetachNetworkInterface: interfaces.detachNetworkInterface,
  DisableImageDeregistrationProtection: images.disableImageDeregistrationProtection,
  DisassociateAddress: addresses.disassociateAddress,
  EnableImageDeprecation: images.enableImageDeprecation,
  EnableImageDeregistrationProtection: images.enableImageDeregistrationProtection,
  ModifyImageAttribute: images.modifyImageAttribute,
  ModifyNetworkInterfaceAttribute: interfaces.modifyNetworkInterfaceAttribute,
  RebootInstances: instances.rebootInstances,
  RunInstances: instances.runInstances,
  StartInstances: instances.startInstances,
  StopInstances: instances.stopInstances,
  TerminateInstances: instances.terminateInstances,
  UnassignIpv6Addresses: ipv6.unassignIpv6Addresses,
  UnassignPrivateIpAddresses: addresses.unassignPrivateIpAddresses,
};

export interface Ec2 {
  world: World;
  calls: ApiCall[];
  /** Permissions that the caller's role does not have: actions by name or `*`, and permissions that AWS checks within a call (`kms:CreateGrant`). */
  denied: Set<string>;
  /**
   * Carries out one action. Input and output have the shapes of @aws-sdk/client-ec2.
   * Throws AwsError with EC2's own code.
   */
  send(action: string, request: object, caller?: Caller): object;
  subscribe(listener: (event: Ec2Event) => void): void;
}

export function createEc2(options: Ec2Options = {}): Ec2 {
  const scheduler = options.scheduler ?? realScheduler;
  const listeners: ((event: Ec2Event) => void)[] = [];
  const region = options.region ?? 'eu-west-1';
  const nextId = idSource(region);
  const denied = options.denied ?? new Set<string>();
  const vpcId = nextId('vpc');
  const groupId = nextId('sg');
  const world: World = {
    region,
    accountId: '123456789012',
    scheduler,
    latency: options.latency ?? noLatency(),
    metadataDefaults: options.metadataDefaults ?? { instanceMetadataTags: 'disabled' },
    defaultKey: options.defaultKey,
    may: (permission) => !denied.has(permission),
    vpc: {
      id: vpcId,
      cidrs: options.vpcCidrs ?? ['10.0.0.0/16', '100.64.0.0/16'],
      ipv6Cidrs: options.vpcIpv6Cidrs ?? [],
      tags: new Map([['Name', 'eniboot']]),
    },
    subnets: new Map(),
    groups: new Map([[groupId, { id: groupId, name: 'default', vpcId, tags: new Map() }]]),
    enis: new Map(),
    instances: new Map(),
    elasticIps: new Map(),
    images: new Map(),
    snapshots: new Map(),
    keyPairs: new Map(),
    attachments: new Map(),
    tokens: new Map(),
    retagged: new Map(),
    attachFault: options.attachFault ?? (() => undefined),
    // 198.51.100.0/24 is set aside for documentation (RFC 5737): no simulated node can be mistaken for a real one.
    publicIps: new AddressSpace('198.51.100.0/24'),
    emit: (event) => {
      for (const listener of listeners) listener(event);
    },
    nextId,
  };
  for (const subnet of options.subnets ?? []) addSubnet(world, subnet);

  const calls: ApiCall[] = [];
  const throttle = new Throttle(scheduler, (action) => options.bucketOf?.(action) ?? defaultBucket(action));

  function carryOut(action: string, request: object): object {
    const handler = readers[action] ?? writers[action];
    if (handler === undefined)
      throw new AwsError('InvalidAction', `The action ${action} is not valid for this web service.`);
    if (!throttle.take(action)) throw throttled();
    checkRequest('ec2', action, request, scheduler.now());
    if (denied.has(action) || denied.has('*'))
      throw new AwsError(
        'UnauthorizedOperation',
        'You are not authorized to perform this operation. Encoded authorization failure message: simulated',
      );
    if ('DryRun' in request && request.DryRun === true)
      throw new AwsError('DryRunOperation', 'Request would have succeeded, but DryRun flag is set.');
    return handler(world, request as never);
  }

  return {
    world,
    calls,
    denied,
    subscribe: (listener) => {
      listeners.push(listener);
    },
    send: recording({ service: 'ec2', calls, scheduler, isMutating, carryOut }),
  };
}

function noLatency(): Ec2Latency {
  return { attachMs: 0, detachMs: 0, describeLagMs: 0, instanceMs: 0, pendingMs: 0, imageMs: 0 };
}

export function isMutating(action: string): boolean {
  return action in writers;
}

/**
 * Bucket sizes from "Request throttling for the Amazon EC2 API": each API has a bucket of its own;
 * non-mutating 100 and 20 a second, mutating 50 and 5 a second, RunInstances 5 and 2.
 */
export function defaultBucket(action: string): BucketSize {
  if (action === 'RunInstances') return { capacity: 5, refill: 2 };
  return action in writers ? { capacity: 50, refill: 5 } : { capacity: 100, refill: 20 };
}
