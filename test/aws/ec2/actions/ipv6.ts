// The IPv6 addresses and /80 prefixes of a network interface.
import type {
  AssignIpv6AddressesRequest,
  AssignIpv6AddressesResult,
  UnassignIpv6AddressesRequest,
} from '@aws-sdk/client-ec2';
import { AwsError, invalidValue } from '../errors.ts';
import { addressIn, prefixIn } from '../ipv6.ts';
import type { Eni } from '../state.ts';
import { eniOf, limitsOf, subnetOf, type World } from '../world.ts';

/** Number of prefixes in a /64. Block 0 is kept for single addresses. */
const PREFIXES = 0xffff;

export function assignIpv6Addresses(
  world: World,
  request: AssignIpv6AddressesRequest,
): AssignIpv6AddressesResult {
  const eni = eniOf(world, request.NetworkInterfaceId);
  const { Ipv6PrefixCount: prefixes = 0, Ipv6AddressCount: addresses = 0 } = request;
  if (prefixes === 0 && addresses === 0)
    throw new AwsError('MissingParameter', 'ipv6AddressCount or ipv6PrefixCount is required');
  const added = addIpv6(world, eni, { prefixes, addresses });
  world.emit({ kind: 'addresses', eni });
  return {
    NetworkInterfaceId: eni.id,
    AssignedIpv6Addresses: added.filter((one) => !one.includes('/')),
    AssignedIpv6Prefixes: added.filter((one) => one.includes('/')),
  };
}

export function unassignIpv6Addresses(world: World, request: UnassignIpv6AddressesRequest): object {
  const eni = eniOf(world, request.NetworkInterfaceId);
  const gone = [...(request.Ipv6Addresses ?? []), ...(request.Ipv6Prefixes ?? [])];
  for (const one of gone)
    if (!eni.ipv6Addresses.includes(one) && !eni.ipv6Prefixes.includes(one))
      throw invalidValue(`Some of the given addresses are not assigned to the network interface: ${one}`);
  eni.ipv6Addresses = eni.ipv6Addresses.filter((one) => !gone.includes(one));
  eni.ipv6Prefixes = eni.ipv6Prefixes.filter((one) => !gone.includes(one));
  world.emit({ kind: 'addresses', eni });
  return {};
}

/** Returns the added addresses and prefixes (CIDRs). The code for a subnet without IPv6 is an assumption: EC2 documents none. */
export function addIpv6(
  world: World,
  eni: Eni,
  wanted: { prefixes?: number | undefined; addresses?: number | undefined },
): string[] {
  const { prefixes = 0, addresses = 0 } = wanted;
  if (prefixes + addresses === 0) return [];
  const subnet = subnetOf(world, eni.subnetId);
  if (subnet.ipv6Cidr === undefined)
    throw invalidValue(`The subnet '${subnet.id}' has no IPv6 CIDR block associated with it.`);
  const instance = world.instances.get(eni.attachment?.instanceId ?? '');
  if (prefixes > 0 && instance !== undefined && limitsOf(instance.type).hypervisor !== 'nitro')
    throw new AwsError('InvalidParameterCombination', `${instance.type} does not support prefix delegation`);
  if (subnet.ipv6Given + prefixes + addresses > PREFIXES)
    throw new AwsError(
      'InsufficientCidrBlocks',
      'The specified subnet does not have enough free cidr blocks to satisfy the request.',
    );
  const next = () => {
    subnet.ipv6Given += 1;
    return subnet.ipv6Given;
  };
  const { ipv6Cidr } = subnet;
  const newPrefixes = Array.from({ length: prefixes }, () => prefixIn(ipv6Cidr, next()));
  const newAddresses = Array.from({ length: addresses }, () => addressIn(ipv6Cidr, next()));
  eni.ipv6Prefixes.push(...newPrefixes);
  eni.ipv6Addresses.push(...newAddresses);
  for (const one of [...newPrefixes, ...newAddresses]) eni.assignedAt.set(one, world.scheduler.now());
  return [...newPrefixes, ...newAddresses];
}
