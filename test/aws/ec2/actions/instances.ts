// Run, reboot, stop, start, terminate.
import type {
  GetConsoleOutputRequest,
  GetConsoleOutputResult,
  InstanceStateChange,
  RebootInstancesRequest,
  Reservation,
  RunInstancesRequest,
  StartInstancesRequest,
  StartInstancesResult,
  StopInstancesRequest,
  StopInstancesResult,
  TerminateInstancesRequest,
  TerminateInstancesResult,
} from '@aws-sdk/client-ec2';
import { AwsError, missing } from '../errors.ts';
import { describeInstance, describeState } from '../render.ts';
import type { InstanceRecord, InstanceState } from '../state.ts';
import { enisOf, instanceOf, limitsOf, subnetOf, type World } from '../world.ts';
import { mayUseKey } from './images.ts';
import {
  attach,
  createNetworkInterface,
  defaultGroup,
  dropPublicAddress,
  finishAttach,
  finishDetach,
  givePublicAddress,
  hasSingleInterface,
  removeInterface,
} from './interfaces.ts';
import { requireMetadataKeys, tagsFrom } from './tags.ts';

export interface InstanceSpec {
  type: string;
  imageId: string;
  subnetId: string;
  publicIp?: boolean | undefined;
  tags: Map<string, string>;
  groups?: string[] | undefined;
  hopLimit: number;
  /** undefined: the account's default holds. */
  tagsInMetadata: boolean | undefined;
  userData?: string | undefined;
  role?: string | undefined;
  shutdownBehavior: 'stop' | 'terminate';
  lifecycleState?: string | undefined;
  keyName?: string | undefined;
}

/** A running instance with its boot ENI attached at device index 0. */
export function launchInstance(world: World, spec: InstanceSpec): InstanceRecord {
  const subnet = subnetOf(world, spec.subnetId);
  limitsOf(spec.type);
  const shown = spec.tagsInMetadata ?? world.metadataDefaults.instanceMetadataTags === 'enabled';
  if (shown) requireMetadataKeys('RunInstances', spec.tags.keys());
  const groups = spec.groups ?? [defaultGroup(world)];
  const created = createNetworkInterface(world, { SubnetId: subnet.id, Groups: groups });
  const boot = world.enis.get(created.NetworkInterface?.NetworkInterfaceId ?? '');
  if (boot === undefined) throw new AwsError('InternalError', 'The boot interface was not created');
  const now = world.scheduler.now();
  const instance: InstanceRecord = {
    id: world.nextId('i'),
    type: spec.type,
    imageId: spec.imageId,
    zone: subnet.zone,
    zoneId: subnet.zoneId,
    subnetId: subnet.id,
    vpcId: subnet.vpcId,
    state: 'running',
    tags: spec.tags,
    groups,
    launchTime: now,
    hopLimit: spec.hopLimit,
    tagsInMetadata: shown,
    userData: spec.userData,
    role: spec.role,
    shutdownBehavior: spec.shutdownBehavior,
    lifecycleState: spec.lifecycleState,
    keyName: spec.keyName,
    createdAt: now,
  };
  world.instances.set(instance.id, instance);
  if (spec.publicIp ?? subnet.mapPublicIp) givePublicAddress(world, boot);
  const attachment = attach(world, boot, instance, {
    deviceIndex: 0,
    networkCardIndex: 0,
    deleteOnTermination: true,
  });
  finishAttach(world, boot, attachment);
  return instance;
}

/**
 * Makes instances for the API (tags, states, ENIs). A machine comes with `Cloud.launch`, or from `startCloud({ machineFor })`.
 */
export function runInstances(world: World, request: RunInstancesRequest): Reservation {
  const subnetId = request.SubnetId ?? request.NetworkInterfaces?.[0]?.SubnetId;
  if (request.ImageId === undefined) throw missing('ImageId');
  if (subnetId === undefined) throw missing('SubnetId');
  // The token of a call that was carried out gives its instances again. Only one instance is kept: no test asks for more.
  const earlier = world.instances.get(world.tokens.get(request.ClientToken ?? '')?.result ?? '');
  if (earlier !== undefined) return reservation(world, [earlier]);
  if (world.images.size > 0 && !world.images.has(request.ImageId))
    throw new AwsError('InvalidAMIID.NotFound', `The image id '[${request.ImageId}]' does not exist`);
  const image = world.images.get(request.ImageId);
  if (image !== undefined && image.state !== 'available')
    throw new AwsError('InvalidAMIID.Unavailable', `The image id '[${image.id}]' is no longer available`);
  const key = world.snapshots.get(image?.snapshotId ?? '')?.keyId ?? world.defaultKey;
  const records = Array.from({ length: request.MaxCount ?? 1 }, () =>
    launchInstance(world, {
      type: request.InstanceType ?? 'm5.large',
      imageId: request.ImageId ?? '',
      subnetId,
      publicIp: request.NetworkInterfaces?.[0]?.AssociatePublicIpAddress,
      tags: tagsFrom(request.TagSpecifications, 'instance'),
      groups: request.SecurityGroupIds ?? request.NetworkInterfaces?.[0]?.Groups,
      hopLimit: request.MetadataOptions?.HttpPutResponseHopLimit ?? 1,
      tagsInMetadata: enabled(request.MetadataOptions?.InstanceMetadataTags),
      userData:
        request.UserData === undefined ? undefined : Buffer.from(request.UserData, 'base64').toString(),
      role: request.IamInstanceProfile?.Name || undefined,
      shutdownBehavior: request.InstanceInitiatedShutdownBehavior ?? 'stop',
      keyName: request.KeyName,
    }),
  );
  if (request.ClientToken !== undefined)
    world.tokens.set(request.ClientToken, { request: '', result: records[0]?.id ?? '' });
  for (const instance of records)
    begin(world, instance, () => {
      if (mayUseKey(world, key)) return world.emit({ kind: 'run', instance });
      // EC2 accepts the call and tells this code later, and nothing else. Source: EC2 user guide, "Instance terminates immediately".
      instance.stateReason = {
        Code: 'Client.InternalError',
        Message: 'Client.InternalError: Client error on launch',
      };
      terminated(world, instance);
    });
  return reservation(world, records);
}

/** The instance is `pending` until it runs. Source: EC2 user guide, "Amazon EC2 instance state changes". */
function begin(world: World, instance: InstanceRecord, running: () => void): void {
  instance.state = 'pending';
  instance.stateReason = { Code: 'pending', Message: 'pending' };
  world.scheduler.after(world.latency.pendingMs, () => {
    if (instance.state !== 'pending') return;
    instance.state = 'running';
    instance.stateReason = undefined;
    running();
  });
}

const USER_INITIATED = {
  Code: 'Client.UserInitiatedShutdown',
  Message: 'Client.UserInitiatedShutdown: User initiated shutdown',
};

function enabled(state: string | undefined): boolean | undefined {
  return state === undefined ? undefined : state === 'enabled';
}

/** The text that a test has put there: simulated machines have no serial console. */
export function getConsoleOutput(world: World, request: GetConsoleOutputRequest): GetConsoleOutputResult {
  const { id, console = '' } = instanceOf(world, request.InstanceId);
  return { InstanceId: id, Output: Buffer.from(console).toString('base64'), Timestamp: new Date(0) };
}

function reservation(world: World, records: InstanceRecord[]): Reservation {
  return {
    ReservationId: world.nextId('r'),
    OwnerId: world.accountId,
    Instances: records.map((record) => describeInstance(world, record)),
  };
}

export function rebootInstances(world: World, request: RebootInstancesRequest): object {
  for (const instance of named(world, request.InstanceIds)) {
    if (instance.state !== 'running')
      throw new AwsError(
        'IncorrectInstanceState',
        `The instance '${instance.id}' is not in the 'running' state.`,
      );
    world.emit({ kind: 'instance', instance, action: 'reboot' });
  }
  return {};
}

export function stopInstances(world: World, request: StopInstancesRequest): StopInstancesResult {
  return {
    StoppingInstances: named(world, request.InstanceIds).map((instance) => {
      if (['pending', 'terminated', 'shutting-down'].includes(instance.state))
        throw new AwsError(
          'IncorrectInstanceState',
          `This instance '${instance.id}' is not in a state from which it can be stopped.`,
        );
      if (instance.state === 'stopped') return changed(instance, 'stopped', 'stopped');
      const before = instance.state;
      instance.state = 'stopping';
      instance.stateReason = USER_INITIATED;
      world.emit({ kind: 'instance', instance, action: 'stop' });
      world.scheduler.after(world.latency.instanceMs, () => stopped(world, instance));
      return changed(instance, before, 'stopping');
    }),
  };
}

/** The auto-assigned public IPv4 is lost when an instance stops; an Elastic IP stays. */
function stopped(world: World, instance: InstanceRecord): void {
  if (instance.state !== 'stopping') return;
  instance.state = 'stopped';
  for (const eni of enisOf(world, instance.id)) {
    if (eni.allocationId !== undefined) continue;
    dropPublicAddress(world, eni);
    world.emit({ kind: 'addresses', eni });
  }
}

export function startInstances(world: World, request: StartInstancesRequest): StartInstancesResult {
  return {
    StartingInstances: named(world, request.InstanceIds).map((instance) => {
      if (instance.state !== 'stopped')
        throw new AwsError(
          'IncorrectInstanceState',
          `The instance '${instance.id}' is not in a state from which it can be started.`,
        );
      instance.launchTime = world.scheduler.now();
      const boot = enisOf(world, instance.id)[0];
      const subnet = subnetOf(world, instance.subnetId);
      if (boot !== undefined && subnet.mapPublicIp && hasSingleInterface(world, instance.id)) {
        givePublicAddress(world, boot);
        world.emit({ kind: 'addresses', eni: boot });
      }
      begin(world, instance, () => world.emit({ kind: 'instance', instance, action: 'start' }));
      return changed(instance, 'stopped', 'pending');
    }),
  };
}

export function terminateInstances(
  world: World,
  request: TerminateInstancesRequest,
): TerminateInstancesResult {
  return {
    TerminatingInstances: named(world, request.InstanceIds).map((instance) => {
      const before = instance.state;
      if (before === 'terminated') return changed(instance, before, 'terminated');
      instance.state = 'shutting-down';
      instance.stateReason = USER_INITIATED;
      world.emit({ kind: 'instance', instance, action: 'terminate' });
      world.scheduler.after(world.latency.instanceMs, () => terminated(world, instance));
      return changed(instance, before, 'shutting-down');
    }),
  };
}

/** ENIs with DeleteOnTermination go with the instance; the others stay and become available. */
function terminated(world: World, instance: InstanceRecord): void {
  if (instance.state === 'terminated') return;
  instance.state = 'terminated';
  for (const eni of enisOf(world, instance.id)) {
    const { attachment } = eni;
    if (attachment === undefined) continue;
    finishDetach(world, eni, attachment);
    if (attachment.deleteOnTermination) removeInterface(world, eni);
  }
  world.attachments.delete(instance.id);
}

function named(world: World, ids: string[] | undefined): InstanceRecord[] {
  if (ids === undefined || ids.length === 0) throw missing('InstanceId');
  return ids.map((id) => instanceOf(world, id));
}

function changed(instance: InstanceRecord, before: InstanceState, now: InstanceState): InstanceStateChange {
  return { InstanceId: instance.id, PreviousState: describeState(before), CurrentState: describeState(now) };
}
