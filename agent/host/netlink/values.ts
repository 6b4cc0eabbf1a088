// Values of `ip` and `nft` as the bytes the kernel takes.
import { toNumber } from '../ipv4.ts';
import { be32 } from './message.ts';

export const AF_INET = 2;
export const AF_INET6 = 10;

export interface Prefix {
  family: number;
  /** In network order. */
  bytes: number[];
  length: number;
}

/** An address or CIDR of either family. @throws INTERNAL for what is none. */
export function prefixOf(text: string): Prefix {
  const slash = text.indexOf('/');
  const address = slash === -1 ? text : text.slice(0, slash);
  const six = address.includes(':');
  const bytes = six ? ipv6Bytes(address) : be32(toNumber(address));
  const length = slash === -1 ? bytes.length * 8 : Number(text.slice(slash + 1));
  return { family: six ? AF_INET6 : AF_INET, bytes, length };
}

export function macBytes(text: string): number[] {
  return text.split(':').map((part) => Number.parseInt(part, 16));
}

/** Decimal, or hexadecimal with 0x. */
export function numberOf(text: string): number | undefined {
  const value = Number(text);
  return text !== '' && Number.isInteger(value) && value >= 0 && value < 2 ** 32 ? value : undefined;
}

function ipv6Bytes(address: string): number[] {
  const bytes = Array.from({ length: 16 }, () => 0);
  const [head = '', tail] = address.split('::');
  const groups = (part: string) => (part === '' ? [] : part.split(':'));
  const front = groups(head);
  const back = groups(tail ?? '');
  const put = (group: string, at: number) => {
    const value = Number.parseInt(group, 16);
    bytes[2 * at] = value >>> 8;
    bytes[2 * at + 1] = value & 0xff;
  };
  for (const [at, group] of front.entries()) put(group, at);
  for (const [at, group] of back.entries()) put(group, 8 - back.length + at);
  return bytes;
}
