// Addresses and MACs as the bytes that the kernel takes.
import { toNumber } from '../host/ipv4.ts';
import { groupsOf } from '../host/ipv6.ts';
import { be16, be32 } from './message.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;

export interface Prefix {
  family: number;
  /** In network order. */
  bytes: number[];
  length: number;
}

/** An address or CIDR of either family. @throws INTERNAL for text that is neither. */
export function prefixOf(text: string): Prefix {
  const slash = text.indexOf('/');
  const address = slash === -1 ? text : text.slice(0, slash);
  const six = address.includes(':');
  const bytes = six ? groupsOf(address).flatMap(be16) : be32(toNumber(address));
  const length = slash === -1 ? bytes.length * 8 : Number(text.slice(slash + 1));
  return { family: six ? AF_INET6 : AF_INET, bytes, length };
}

export function macBytes(text: string): number[] {
  return text.split(':').map((part) => Number.parseInt(part, 16));
}

/** The text is empty for undefined or no bytes. */
export function macText(bytes: Uint8Array | undefined): string {
  return [...(bytes ?? [])].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
