// The ipBlocks of a rule as ranges of addresses. The blocks are alternatives: together they cover each block without its
// exceptions, and ranges that touch are joined. Lookups are by binary search, here and in the kernel, so that many blocks cost
// little.
import { createHash } from 'node:crypto';
import ipaddr from 'ipaddr.js';
import type { AddressRange } from '../kernel/operation.ts';

/** A CIDR and its exceptions, of one family. */
export interface Block {
  cidr: string;
  except: readonly string[];
}

export interface Blocks {
  /** As the policy has them, for people. */
  list: readonly Block[];
  isEmpty: boolean;
  /** The same for the same list. */
  id: string;
  /** In order, without overlaps. */
  ranges: Readonly<Record<4 | 6, readonly AddressRange[]>>;
  covers(address: string): boolean;
}

interface Span {
  first: bigint;
  last: bigint;
}

export function blocksOf(list: readonly Block[]): Blocks {
  // Most policies select no pod of a node. Ten thousand blocks take 0.4 MB as text, and 10 MB as objects and ranges.
  const text = JSON.stringify(list);
  const read = (): Block[] => JSON.parse(text);
  const spans = once(() => {
    const all = read();
    return { 4: spansOf(all, 4), 6: spansOf(all, 6) };
  });
  const rangesOf = (family: 4 | 6) =>
    spans()[family].map(({ first, last }) => ({ first: textOf(first, family), last: textOf(last, family) }));
  const ranges = once(() => ({ 4: rangesOf(4), 6: rangesOf(6) }));
  return {
    get list() {
      return read();
    },
    isEmpty: list.length === 0,
    id: createHash('sha256').update(text).digest('hex'),
    get ranges() {
      return ranges();
    },
    covers: (address) => includes(spans()[familyOf(address)], valueOf(address)),
  };
}

function once<T>(make: () => T): () => T {
  let made: T | undefined;
  return () => {
    made ??= make();
    return made;
  };
}

export const noBlocks: Blocks = blocksOf([]);

function spansOf(list: readonly Block[], family: 4 | 6): Span[] {
  const own = (cidr: string) => familyOf(cidr) === family;
  const left = list
    .filter(({ cidr }) => own(cidr))
    .flatMap(({ cidr, except }) => without(spanOf(cidr), joined(except.filter(own).map(spanOf))));
  return joined(left);
}

/** @param holes in order, without overlaps. */
function without({ first, last }: Span, holes: readonly Span[]): Span[] {
  const left: Span[] = [];
  let next = first;
  for (const hole of holes) {
    if (hole.last < next || hole.first > last) continue;
    if (hole.first > next) left.push({ first: next, last: hole.first - 1n });
    next = hole.last + 1n;
  }
  if (next <= last) left.push({ first: next, last });
  return left;
}

/** In order; spans that overlap or touch become one. */
function joined(spans: readonly Span[]): Span[] {
  const found: Span[] = [];
  for (const { first, last } of [...spans].sort((a, b) => (a.first < b.first ? -1 : 1))) {
    const before = found.at(-1);
    if (before === undefined || first > before.last + 1n) found.push({ first, last });
    else if (last > before.last) before.last = last;
  }
  return found;
}

function includes(spans: readonly Span[], value: bigint): boolean {
  let [low, high] = [0, spans.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((spans[middle]?.last ?? 0n) < value) low = middle + 1;
    else high = middle;
  }
  const span = spans[low];
  return span !== undefined && span.first <= value;
}

const familyOf = (text: string): 4 | 6 => (text.includes(':') ? 6 : 4);

function spanOf(cidr: string): Span {
  const [address, length] = ipaddr.parseCIDR(cidr);
  const bytes = address.toByteArray();
  const free = BigInt(8 * bytes.length - length);
  const first = (numberOf(bytes) >> free) << free;
  return { first, last: first + (1n << free) - 1n };
}

function valueOf(address: string): bigint {
  return numberOf(ipaddr.parse(address).toByteArray());
}

function numberOf(bytes: readonly number[]): bigint {
  return BigInt(`0x${Buffer.from(bytes).toString('hex')}`);
}

function textOf(value: bigint, family: 4 | 6): string {
  const hex = value.toString(16).padStart(family === 6 ? 32 : 8, '0');
  const address = ipaddr.fromByteArray([...Buffer.from(hex, 'hex')]);
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
}
