// The IPv4 addresses and prefixes of a network interface, and Elastic IPs.
import type {
  AllocateAddressResult,
  AssignPrivateIpAddressesRequest,
  AssignPrivateIpAddressesResult,
  AssociateAddressRequest,
  AssociateAddressResult,
  DisassociateAddressRequest,
  UnassignPrivateIpAddressesRequest,
} from '@aws-sdk/client-ec2';
import { AwsError, invalidValue } from '../errors.ts';
import type { Eni } from '../state.ts';
import { eniOf, enisOf, limitsOf, subnetOf, type World } from '../world.ts';

export function assignPrivateIpAddresses(
  world: World,
  request: AssignPrivateIpAddressesRequest,
): AssignPrivateIpAddressesResult {
  const eni = eniOf(world, request.NetworkInterfaceId);
  const asked = [
    request.SecondaryPrivateIpAddressCount,
    request.Ipv4PrefixCount,
    request.PrivateIpAddresses,
  ].filter((part) => part !== undefined && part !== 0);
  if (asked.length !== 1)
    throw new AwsError(
      'InvalidParameterCombination',
      'Exactly one of secondaryPrivateIpAddressCount, privateIpAddresses and ipv4PrefixCount is required',
    );
  const addresses = request.PrivateIpAddresses
    ? addNamed(world, eni, request.PrivateIpAddresses)
    : addSecondaries(world, eni, request.SecondaryPrivateIpAddressCount ?? 0);
  const prefixes = addPrefixes(world, eni, request.Ipv4PrefixCount ?? 0);
  world.emit({ kind: 'addresses', eni });
  return {
    NetworkInterfaceId: eni.id,
    ...(addresses.length > 0
      ? { AssignedPrivateIpAddresses: addresses.map((PrivateIpAddress) => ({ PrivateIpAddress })) }
      : {}),
    ...(prefixes.length > 0 ? { AssignedIpv4Prefixes: prefixes.map((Ipv4Prefix) => ({ Ipv4Prefix })) } : {}),
  };
}

export function unassignPrivateIpAddresses(world: World, request: UnassignPrivateIpAddressesRequest): object {
  const eni = eniOf(world, request.NetworkInterfaceId);
  const subnet = subnetOf(world, eni.subnetId);
  const gone = [...(request.PrivateIpAddresses ?? []), ...(request.Ipv4Prefixes ?? [])];
  for (const one of gone) {
    if (one === eni.primaryIp) throw invalidValue(`Primary address ${one} cannot be unassigned.`);
    if (!eni.secondaryIps.includes(one) && !eni.prefixes.includes(one))
      throw invalidValue(`Some of the given addresses are not assigned to the network interface: ${one}`);
  }
  for (const one of gone) {
    subnet.space.release(one);
    eni.assignedAt.delete(one);
  }
  eni.secondaryIps = eni.secondaryIps.filter((one) => !gone.includes(one));
  eni.prefixes = eni.prefixes.filter((one) => !gone.includes(one));
  world.emit({ kind: 'addresses', eni });
  return {};
}

/** All or nothing, as EC2 does it. */
export function addSecondaries(world: World, eni: Eni, count: number): string[] {
  checkLimit(world, eni, count);
  const { space, id } = subnetOf(world, eni.subnetId);
  const added: string[] = [];
  for (let left = count; left > 0; left--) {
    const address = space.takeAny();
    if (address === undefined) {
      for (const one of added) space.release(one);
      throw new AwsError(
        'InsufficientFreeAddressesInSubnet',
        `The specified subnet does not have enough free addresses to satisfy the request. (${id})`,
      );
    }
    added.push(address);
  }
  eni.secondaryIps.push(...added);
  stamp(world, eni, added);
  return added;
}

export function addPrefixes(world: World, eni: Eni, count: number): string[] {
  checkLimit(world, eni, count);
  if (count > 0) checkNitro(world, eni);
  const { space } = subnetOf(world, eni.subnetId);
  // Too few addresses and too few aligned blocks are two errors (reported by users of both: cilium/cilium#31016).
  if (space.free < 16 * count) throw invalidValue("There aren't sufficient free Ipv4 addresses or prefixes");
  const added: string[] = [];
  for (let left = count; left > 0; left--) {
    const prefix = space.takePrefix();
    if (prefix === undefined) {
      for (const one of added) space.release(one);
      throw new AwsError(
        'InsufficientCidrBlocks',
        'The specified subnet does not have enough free cidr blocks to satisfy the request.',
      );
    }
    added.push(prefix);
  }
  eni.prefixes.push(...added);
  stamp(world, eni, added);
  return added;
}

export function releaseAll(world: World, eni: Eni): void {
  const { space } = subnetOf(world, eni.subnetId);
  for (const one of [eni.primaryIp, ...eni.secondaryIps, ...eni.prefixes]) space.release(one);
}

export function allocateAddress(world: World): AllocateAddressResult {
  const publicIp = world.publicIps.takeAny();
  if (publicIp === undefined)
    throw new AwsError('AddressLimitExceeded', 'The maximum number of addresses has been reached.');
  const allocationId = world.nextId('eipalloc');
  world.elasticIps.set(allocationId, { allocationId, publicIp, tags: new Map() });
  return { PublicIp: publicIp, AllocationId: allocationId, Domain: 'vpc' };
}

export function associateAddress(world: World, request: AssociateAddressRequest): AssociateAddressResult {
  const elastic = world.elasticIps.get(request.AllocationId ?? '');
  if (elastic === undefined)
    throw new AwsError(
      'InvalidAllocationID.NotFound',
      `The allocation ID '${request.AllocationId}' does not exist`,
    );
  const target =
    request.NetworkInterfaceId === undefined
      ? enisOf(world, request.InstanceId ?? '')[0]
      : eniOf(world, request.NetworkInterfaceId);
  if (target === undefined)
    throw new AwsError(
      'InvalidInstanceID.NotFound',
      `The instance ID '${request.InstanceId}' does not exist`,
    );
  if (elastic.eniId !== undefined && request.AllowReassociation !== true)
    throw new AwsError(
      'Resource.AlreadyAssociated',
      `resource ${elastic.allocationId} is already associated with associate-id ${elastic.associationId}`,
    );
  // An Elastic IP replaces the auto-assigned address, which is released.
  if (target.publicIp !== undefined && target.allocationId === undefined)
    world.publicIps.release(target.publicIp);
  const before = world.enis.get(elastic.eniId ?? '');
  if (before !== undefined) {
    before.publicIp = undefined;
    before.allocationId = undefined;
    world.emit({ kind: 'addresses', eni: before });
  }
  elastic.associationId = world.nextId('eipassoc');
  elastic.eniId = target.id;
  target.publicIp = elastic.publicIp;
  target.allocationId = elastic.allocationId;
  world.emit({ kind: 'addresses', eni: target });
  return { AssociationId: elastic.associationId };
}

export function disassociateAddress(world: World, request: DisassociateAddressRequest): object {
  const elastic = [...world.elasticIps.values()].find((one) => one.associationId === request.AssociationId);
  if (elastic === undefined)
    throw new AwsError(
      'InvalidAssociationID.NotFound',
      `The association ID '${request.AssociationId}' does not exist`,
    );
  const eni = world.enis.get(elastic.eniId ?? '');
  elastic.associationId = undefined;
  elastic.eniId = undefined;
  if (eni === undefined) return {};
  eni.publicIp = undefined;
  eni.allocationId = undefined;
  world.emit({ kind: 'addresses', eni });
  return {};
}

function addNamed(world: World, eni: Eni, addresses: string[]): string[] {
  checkLimit(world, eni, addresses.length);
  const { space } = subnetOf(world, eni.subnetId);
  const added: string[] = [];
  for (const address of addresses) {
    if (!space.takeThis(address)) {
      for (const one of added) space.release(one);
      throw new AwsError(
        'InvalidParameterValue',
        `Address ${address} is in use or does not fall within the subnet's address range`,
      );
    }
    added.push(address);
  }
  eni.secondaryIps.push(...added);
  stamp(world, eni, added);
  return added;
}

/** The limit of a type applies only to an attached ENI. EC2 checks the addresses of an unattached one at AttachNetworkInterface. */
function checkLimit(world: World, eni: Eni, count: number): void {
  const instance = world.instances.get(eni.attachment?.instanceId ?? '');
  if (instance === undefined) return;
  const limit = limitsOf(instance.type).addressesPerEni;
  const total = 1 + eni.secondaryIps.length + eni.prefixes.length + count;
  if (total > limit)
    throw new AwsError(
      'PrivateIpAddressLimitExceeded',
      `Number of private addresses will exceed limit. (${total} > ${limit} for ${instance.type})`,
    );
}

function checkNitro(world: World, eni: Eni): void {
  const instance = world.instances.get(eni.attachment?.instanceId ?? '');
  if (instance === undefined || limitsOf(instance.type).hypervisor === 'nitro') return;
  throw new AwsError('InvalidParameterCombination', `${instance.type} does not support prefix delegation`);
}

function stamp(world: World, eni: Eni, added: string[]): void {
  for (const one of added) eni.assignedAt.set(one, world.scheduler.now());
}
