// What EC2's refusals mean for a pod ENI.
import type { Subnet } from '../../../aws/ec2.ts';
import { Failure, isFailure } from '../../../messages/failure.ts';

/** EC2's codes for a subnet that cannot give what was asked. Source: EC2 API reference, error codes. */
const SUBNET_EXHAUSTED = ['InsufficientFreeAddressesInSubnet', 'InsufficientCidrBlocks'];

/** EC2 has refused the request, so it made nothing. */
export function isRefusal(error: unknown): boolean {
  return isFailure(error, 'EC2_REFUSED', 'EC2_DENIED');
}

export function refusedWith(error: unknown, ...codes: string[]): boolean {
  return isFailure(error, 'EC2_REFUSED') && codes.includes(String(error.facts['ec2Code']));
}

/**
 * Besides its own codes, EC2 uses a general code and these words when fewer addresses are free than asked for
 * (cilium/cilium#31016).
 */
export function subnetExhausted(error: unknown): boolean {
  if (refusedWith(error, ...SUBNET_EXHAUSTED)) return true;
  return refusedWith(error, 'InvalidParameterValue') && /sufficient free/i.test(String(error));
}

export function withoutIpv6(subnets: Subnet[], what: string, cause?: unknown): Failure {
  const ids = subnets.map((subnet) => subnet.subnetId);
  const message = `${what}: ${ids.join(', ')} ${ids.length === 1 ? 'has' : 'have'} no IPv6 CIDR`;
  return new Failure('SUBNET_NO_IPV6', message, { subnets: ids }, cause);
}
