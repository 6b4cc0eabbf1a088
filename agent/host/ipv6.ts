// A pod's IPv6 address: the /80 prefix of its ENI, and the pod's IPv4 address in the last 32 bits. One lease serves
// both families, and each address can be computed from the other.
import { Failure } from '../messages/failure.ts';
import { toNumber } from './ipv4.ts';

/** Length of the prefix that EC2 gives to an ENI. */
export const ENI_PREFIX_LENGTH = 80;

/**
 * @param prefix the ENI's /80 as a CIDR. Of the 48 bits behind it, the first 16 stay zero.
 * @returns the address in the form that the kernel prints (RFC 5952).
 */
export function podIpv6(prefix: string, ipv4: string): string {
  const groups = groupsOf(prefix.slice(0, prefix.indexOf('/')));
  const value = toNumber(ipv4);
  return ipv6Text([...groups.slice(0, 5), 0, Math.floor(value / 2 ** 16), value % 2 ** 16]);
}

/** The address of 16 bytes in network order, in the form of RFC 5952. */
export function ipv6FromBytes(bytes: Uint8Array): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 16);
  return ipv6Text(Array.from({ length: 8 }, (_, at) => view.getUint16(2 * at)));
}

export function isAddress6(text: string): boolean {
  try {
    groupsOf(text);
    return true;
  } catch {
    return false;
  }
}

export function isCidr6(text: string): boolean {
  const [address = '', length = ''] = text.split('/');
  return (
    isAddress6(address) &&
    /^\d{1,3}$/.test(length) &&
    Number(length) <= 128 &&
    text === `${address}/${length}`
  );
}

/** An address as eight numbers of 16 bits. Throws INTERNAL for text that is not an address: callers validate first. */
export function groupsOf(address: string): number[] {
  const halves = address.split('::').map((half) => (half === '' ? [] : half.split(':')));
  const [left = [], right = []] = halves;
  const zeros = halves.length === 2 ? 8 - left.length - right.length : 0;
  const groups = [...left, ...Array.from({ length: Math.max(0, zeros) }, () => '0'), ...right];
  if (halves.length > 2 || groups.length !== 8 || groups.some((group) => !/^[0-9a-f]{1,4}$/i.test(group)))
    throw new Failure('INTERNAL', `not an IPv6 address: ${address}`);
  return groups.map((group) => Number.parseInt(group, 16));
}

/** RFC 5952: lower case, no leading zeros, the first of the longest runs of two or more zeros as `::`. */
function ipv6Text(groups: number[]): string {
  let best = { at: 0, length: 1 };
  for (let at = 0; at < groups.length; at += 1) {
    let length = 0;
    while (groups[at + length] === 0) length += 1;
    if (length > best.length) best = { at, length };
  }
  const text = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  if (best.length < 2) return text(groups);
  return `${text(groups.slice(0, best.at))}::${text(groups.slice(best.at + best.length))}`;
}
