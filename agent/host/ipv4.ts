// IPv4 ranges as numbers: the arithmetic behind the egress table and the address pool.
import { Failure } from '../messages/failure.ts';

export interface Range {
  first: number;
  last: number;
}

/** The addresses of a CIDR. Throws INTERNAL for text that is not a CIDR: callers validate first. */
export function rangeOf(cidr: string): Range {
  const [address = '', length = '32'] = cidr.split('/');
  const bits = Number(length);
  const value = toNumber(address);
  const size = 2 ** (32 - bits);
  const first = Math.floor(value / size) * size;
  return { first, last: first + size - 1 };
}

/** Throws INTERNAL for text that is not an address. */
export function toNumber(address: string): number {
  const value = parse(address);
  if (value === undefined) throw new Failure('INTERNAL', `not an IPv4 address: ${address}`);
  return value;
}

export function isAddress(text: string): boolean {
  return parse(text) !== undefined;
}

export function isCidr(text: string): boolean {
  const [address = '', length = ''] = text.split('/');
  return (
    isAddress(address) && /^\d\d?$/.test(length) && Number(length) <= 32 && text === `${address}/${length}`
  );
}

export function toAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

export function contains(outer: string, inner: string): boolean {
  const a = rangeOf(outer);
  const b = rangeOf(inner);
  return a.first <= b.first && b.last <= a.last;
}

function parse(address: string): number | undefined {
  const parts = address.split('.');
  if (parts.length !== 4 || parts.some((part) => !/^\d{1,3}$/.test(part) || Number(part) > 255))
    return undefined;
  return parts.reduce((sum, part) => sum * 256 + Number(part), 0);
}
