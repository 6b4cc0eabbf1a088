// IPv4 ranges as numbers: the arithmetic behind the egress table and the address pool.
import { Failure } from '../messages/failure.ts';

export interface Range {
  first: number;
  last: number;
}

/** The addresses of a CIDR. Throws INTERNAL for text that is not one: callers validate first. */
export function rangeOf(cidr: string): Range {
  const [address = '', length = '32'] = cidr.split('/');
  const bits = Number(length);
  const value = toNumber(address);
  const size = 2 ** (32 - bits);
  const first = Math.floor(value / size) * size;
  return { first, last: first + size - 1 };
}

export function toNumber(address: string): number {
  let value = 0;
  let part = -1;
  let dots = 0;
  // Digit by digit: an ADD reads hundreds of addresses before the runtime has compiled anything.
  for (let at = 0; at <= address.length; at += 1) {
    const code = at === address.length ? 46 : address.charCodeAt(at);
    if (code === 46) {
      if (part === -1 || part > 255) throw notAnAddress(address);
      value = value * 256 + part;
      part = -1;
      dots += 1;
    } else if (code >= 48 && code <= 57) part = (part === -1 ? 0 : part * 10) + code - 48;
    else throw notAnAddress(address);
  }
  if (dots !== 4) throw notAnAddress(address);
  return value;
}

export function toAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

export function contains(outer: string, inner: string): boolean {
  const a = rangeOf(outer);
  const b = rangeOf(inner);
  return a.first <= b.first && b.last <= a.last;
}

function notAnAddress(text: string): Failure {
  return new Failure('INTERNAL', `not an IPv4 address: ${text}`);
}
