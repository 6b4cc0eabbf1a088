// Create, attach, detach, delete: the life of a network interface.
import type {
  AttachNetworkInterfaceRequest,
  AttachNetworkInterfaceResult,
  CreateNetworkInterfaceRequest,
  CreateNetworkInterfaceResult,
  DeleteNetworkInterfaceRequest,
  DetachNetworkInterfaceRequest,
  ModifyNetworkInterfaceAttributeRequest,
} from '@aws-sdk/client-ec2';
import { AwsError, invalidValue, missing } from '../errors.ts';
import { describeInterface } from '../render.ts';
import type { Attachment, Eni, InstanceRecord } from '../state.ts';
import { eniOf, enisOf, instanceOf, limitsOf, subnetOf, type World } from '../world.ts';
import { addPrefixes, addSecondaries, releaseAll } from './addresses.ts';
import { addIpv6 } from './ipv6.ts';
import { tagsFrom } from './tags.ts';

export function createNetworkInterface(
  world: World,
  request: CreateNetworkInterfaceRequest,
): CreateNetworkInterfaceResult {
  if (request.SubnetId === undefined) throw missing('subnetId');
  const replay = replayed(world, request);
  if (replay !== undefined)
    return { NetworkInterface: describeInterface(world, replay), ClientToken: request.ClientToken };
  const subnet = subnetOf(world, request.SubnetId);
  if (request.SecondaryPrivateIpAddressCount && request.Ipv4PrefixCount)
    throw new AwsError(
      'InvalidParameterCombination',
      'The parameters secondaryPrivateIpAddressCount and ipv4PrefixCount cannot be used together',
    );
  for (const group of request.Groups ?? []) groupOf(world, group);
  if ((request.Groups ?? []).length > 5)
    throw new AwsError(
      'SecurityGroupsPerInterfaceLimitExceeded',
      'The maximum number of security groups per interface has been reached.',
    );

  const primary = request.PrivateIpAddress;
  if (primary !== undefined && !subnet.space.takeThis(primary))
    throw new AwsError('InvalidIPAddress.InUse', `Address ${primary} is in use.`);
  const primaryIp = primary ?? subnet.space.takeAny();
  if (primaryIp === undefined) throw subnetFull(subnet.id);

  const id = world.nextId('eni');
  const now = world.scheduler.now();
  const eni: Eni = {
    id,
    mac: macFor(id),
    subnetId: subnet.id,
    vpcId: subnet.vpcId,
    zone: subnet.zone,
    primaryIp,
    secondaryIps: [],
    prefixes: [],
    ipv6Addresses: [],
    ipv6Prefixes: [],
    groups: request.Groups?.length ? [...request.Groups] : [defaultGroup(world)],
    description: request.Description ?? '',
    tags: tagsFrom(request.TagSpecifications, 'network-interface'),
    sourceDestCheck: true,
    createdAt: now,
    assignedAt: new Map([[primaryIp, now]]),
  };
  try {
    addSecondaries(world, eni, request.SecondaryPrivateIpAddressCount ?? 0);
    addPrefixes(world, eni, request.Ipv4PrefixCount ?? 0);
    addIpv6(world, eni, { prefixes: request.Ipv6PrefixCount, addresses: request.Ipv6AddressCount });
    if (subnet.assignIpv6 && request.Ipv6AddressCount === undefined) addIpv6(world, eni, { addresses: 1 });
  } catch (error) {
    releaseAll(world, eni);
    throw error;
  }
  world.enis.set(id, eni);
  if (request.ClientToken !== undefined)
    world.tokens.set(request.ClientToken, { request: fingerprint(request), result: id });
  world.emit({ kind: 'created', eni });
  return { NetworkInterface: describeInterface(world, eni), ClientToken: request.ClientToken };
}

export function attachNetworkInterface(
  world: World,
  request: AttachNetworkInterfaceRequest,
): AttachNetworkInterfaceResult {
  const eni = eniOf(world, request.NetworkInterfaceId);
  const instance = instanceOf(world, request.InstanceId);
  if (request.DeviceIndex === undefined) throw missing('deviceIndex');
  const fault = world.attachFault(instance.id);
  const attachment = attach(world, eni, instance, {
    deviceIndex: fault?.deviceIndex ?? request.DeviceIndex,
    networkCardIndex: request.NetworkCardIndex ?? 0,
    deleteOnTermination: false,
  });
  if (fault?.stuck !== true)
    world.scheduler.after(world.latency.attachMs + (fault?.delayMs ?? 0), () =>
      finishAttach(world, eni, attachment),
    );
  return { AttachmentId: attachment.id, NetworkCardIndex: attachment.networkCardIndex };
}

/** Records the attachment, in state `attaching`. */
export function attach(
  world: World,
  eni: Eni,
  instance: InstanceRecord,
  wanted: Pick<Attachment, 'deviceIndex' | 'networkCardIndex' | 'deleteOnTermination'>,
): Attachment {
  if (eni.attachment !== undefined)
    throw new AwsError('InvalidNetworkInterface.InUse', `Interface: [${eni.id}] in use.`);
  if (instance.state === 'terminated' || instance.state === 'shutting-down')
    throw new AwsError('IncorrectState', `Instance '${instance.id}' is in the '${instance.state}' state`);
  if (eni.zone !== instance.zone)
    throw new AwsError(
      'InvalidParameterCombination',
      'You may not attach a network interface to an instance if they are not in the same availability zone',
    );
  const attached = world.attachments.get(instance.id) ?? new Map<number, Eni>();
  const { enis, cards = 1, addressesPerEni } = limitsOf(instance.type);
  const { networkCardIndex } = wanted;
  const onCard = [...attached.values()].filter(
    (one) => one.attachment?.networkCardIndex === networkCardIndex,
  ).length;
  if (onCard >= enis)
    throw new AwsError(
      'AttachmentLimitExceeded',
      `Interface count ${onCard + 1} exceeds the limit for ${instance.type}`,
    );
  if (1 + eni.secondaryIps.length + eni.prefixes.length > addressesPerEni)
    throw new AwsError(
      'PrivateIpAddressLimitExceeded',
      `Interface ${eni.id} has more addresses than the ${addressesPerEni} an interface of ${instance.type} may have`,
    );
  if (networkCardIndex >= cards)
    throw invalidValue(`Network card index ${networkCardIndex} is not valid for ${instance.type}`);
  if (attached.has(placeOf(wanted)))
    throw invalidValue(
      `Instance '${instance.id}' already has an interface attached at device index '${wanted.deviceIndex}'.`,
    );
  const attachment: Attachment = {
    id: world.nextId('eni-attach'),
    instanceId: instance.id,
    ...wanted,
    status: 'attaching',
    attachedAt: world.scheduler.now(),
  };
  eni.attachment = attachment;
  attached.set(placeOf(wanted), eni);
  world.attachments.set(instance.id, attached);
  return attachment;
}

/** Each network card has device indexes of its own. The boot ENI's place is 0. */
function placeOf({ networkCardIndex, deviceIndex }: Pick<Attachment, 'networkCardIndex' | 'deviceIndex'>) {
  return networkCardIndex * 1_000 + deviceIndex;
}

export function finishAttach(world: World, eni: Eni, attachment: Attachment): void {
  if (eni.attachment !== attachment || attachment.status !== 'attaching') return;
  attachment.status = 'attached';
  attachment.attachedAt = world.scheduler.now();
  world.emit({ kind: 'attached', eni, attachment });
}

export function detachNetworkInterface(world: World, request: DetachNetworkInterfaceRequest): object {
  const eni = [...world.enis.values()].find((one) => one.attachment?.id === request.AttachmentId);
  const attachment = eni?.attachment;
  if (eni === undefined || attachment === undefined)
    throw new AwsError(
      'InvalidAttachmentID.NotFound',
      `The attachment ID '${request.AttachmentId}' does not exist`,
    );
  if (attachment.deviceIndex === 0)
    throw new AwsError(
      'OperationNotPermitted',
      'The network interface at device index 0 and networkCard index 0 cannot be detached.',
    );
  attachment.status = 'detaching';
  world.scheduler.after(world.latency.detachMs, () => finishDetach(world, eni, attachment));
  return {};
}

export function finishDetach(world: World, eni: Eni, attachment: Attachment): void {
  if (eni.attachment !== attachment) return;
  eni.attachment = undefined;
  world.attachments.get(attachment.instanceId)?.delete(placeOf(attachment));
  world.emit({ kind: 'detached', eni, attachment });
}

export function deleteNetworkInterface(world: World, request: DeleteNetworkInterfaceRequest): object {
  const eni = eniOf(world, request.NetworkInterfaceId);
  if (eni.attachment !== undefined) throw invalidValue(`Network interface '${eni.id}' is currently in use.`);
  removeInterface(world, eni);
  return {};
}

export function removeInterface(world: World, eni: Eni): void {
  releaseAll(world, eni);
  dropPublicAddress(world, eni);
  world.enis.delete(eni.id);
  world.emit({ kind: 'deleted', eni });
}

/** With `AssociatePublicIpAddress` a caller asks again for a public IPv4 on a primary interface. */
export function modifyNetworkInterfaceAttribute(
  world: World,
  request: ModifyNetworkInterfaceAttributeRequest,
): object {
  const eni = eniOf(world, request.NetworkInterfaceId);
  const { NetworkInterfaceId: _id, DryRun: _dryRun, ...attributes } = request;
  if (Object.values(attributes).filter((value) => value !== undefined).length !== 1)
    throw new AwsError('InvalidParameterCombination', 'Exactly one attribute must be specified at a time');
  for (const group of request.Groups ?? []) groupOf(world, group);
  const change = request.Attachment;
  if (change !== undefined) {
    if (eni.attachment === undefined || eni.attachment.id !== change.AttachmentId)
      throw new AwsError(
        'InvalidAttachmentID.NotFound',
        `The attachment ID '${change.AttachmentId}' does not exist`,
      );
    if (change.DeleteOnTermination !== undefined)
      eni.attachment.deleteOnTermination = change.DeleteOnTermination;
  }
  if (request.Groups?.length) eni.groups = [...request.Groups];
  if (request.Description?.Value !== undefined) eni.description = request.Description.Value;
  if (request.SourceDestCheck?.Value !== undefined) eni.sourceDestCheck = request.SourceDestCheck.Value;
  // EC2 accepts it for any interface, but applies it to the primary one only.
  if (request.AssociatePublicIpAddress !== undefined && eni.attachment?.deviceIndex === 0) {
    if (request.AssociatePublicIpAddress) givePublicAddress(world, eni);
    else dropPublicAddress(world, eni);
  }
  world.emit({ kind: 'addresses', eni });
  return {};
}

export function givePublicAddress(world: World, eni: Eni): void {
  if (eni.publicIp !== undefined) return;
  eni.publicIp = world.publicIps.takeAny();
  if (eni.publicIp === undefined)
    throw new AwsError('InsufficientFreeAddressesInSubnet', 'No public IPv4 address is left');
}

/** An auto-assigned public IPv4 goes back to EC2's pool; an Elastic IP stays with the account. */
export function dropPublicAddress(world: World, eni: Eni): void {
  if (eni.publicIp === undefined) return;
  if (eni.allocationId === undefined) world.publicIps.release(eni.publicIp);
  const elastic = world.elasticIps.get(eni.allocationId ?? '');
  if (elastic !== undefined) {
    elastic.eniId = undefined;
    elastic.associationId = undefined;
  }
  eni.publicIp = undefined;
  eni.allocationId = undefined;
}

function groupOf(world: World, id: string): void {
  if (!world.groups.has(id))
    throw new AwsError('InvalidGroup.NotFound', `The security group '${id}' does not exist`);
}

export function defaultGroup(world: World): string {
  return [...world.groups.values()].find((group) => group.name === 'default')?.id ?? '';
}

/** True while the instance holds exactly one ENI: only then does a start give it a new public IPv4. */
export function hasSingleInterface(world: World, instanceId: string): boolean {
  return enisOf(world, instanceId).length === 1;
}

function subnetFull(subnetId: string): AwsError {
  return new AwsError(
    'InsufficientFreeAddressesInSubnet',
    `The specified subnet does not have enough free addresses to satisfy the request. (${subnetId})`,
  );
}

function replayed(world: World, request: CreateNetworkInterfaceRequest): Eni | undefined {
  const earlier = world.tokens.get(request.ClientToken ?? '');
  if (earlier === undefined) return undefined;
  if (earlier.request !== fingerprint(request))
    throw new AwsError(
      'IdempotentParameterMismatch',
      'The request uses the same client token as a previous, but non-identical request.',
    );
  // The interface may have been deleted since: EC2 then answers as if the token were new.
  return world.enis.get(earlier.result);
}

function fingerprint(request: object): string {
  return JSON.stringify(request, (_key, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value,
  );
}

/** A locally administered unicast MAC made from the ID. EC2's MACs also start with 02, 06 or 0a. */
function macFor(id: string): string {
  return `02:${(id.slice(-10).match(/../g) ?? []).join(':')}`;
}
