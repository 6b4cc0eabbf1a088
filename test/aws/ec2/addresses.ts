// IPv4 arithmetic and the allocation of a subnet's addresses.

function toNumber(address: string): number {
  let value = 0;
  for (const part of address.split('.')) value = value * 256 + Number(part);
  return value;
}

export function toAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.');
}

export interface Range {
  first: number;
  last: number;
  length: number;
}

export function parseCidr(cidr: string): Range {
  const [address = '', length = '32'] = cidr.split('/');
  const size = 2 ** (32 - Number(length));
  const first = Math.floor(toNumber(address) / size) * size;
  return { first, last: first + size - 1, length: Number(length) };
}

export function contains(cidr: string, address: string): boolean {
  const { first, last } = parseCidr(cidr);
  const value = toNumber(address);
  return value >= first && value <= last;
}

/**
 * The addresses of one subnet, in blocks of 16 as EC2 hands out prefixes: a /28 must be aligned and free as a
 * whole. EC2 reserves the first four addresses and the last one.
 */
export class AddressSpace {
  readonly range: Range;
  /** Block number → number of used single addresses in it, or 'prefix'. */
  readonly #blocks = new Map<number, number | 'prefix'>();
  readonly #singles = new Set<number>();
  #used = 0;
  #nextSingle: number;
  #nextBlock: number;

  constructor(cidr: string) {
    this.range = parseCidr(cidr);
    const { first, last } = this.range;
    this.#nextSingle = first;
    this.#nextBlock = Math.ceil(first / 16);
    for (const reserved of [first, first + 1, first + 2, first + 3, last]) this.#take(reserved);
  }

  /** What DescribeSubnets reports as AvailableIpAddressCount. */
  get free(): number {
    return this.range.last - this.range.first + 1 - this.#used;
  }

  /** The next free address after the one given last. An address that came back is therefore not given again at once. */
  takeAny(): string | undefined {
    const { first, last } = this.range;
    const size = last - first + 1;
    if (this.free === 0) return undefined;
    for (let step = 0; step < size; step++) {
      const value = first + ((this.#nextSingle - first + step) % size);
      if (!this.#isFree(value)) continue;
      this.#take(value);
      this.#nextSingle = value + 1;
      return toAddress(value);
    }
    return undefined;
  }

  /** True when the address was free and is now taken. */
  takeThis(address: string): boolean {
    const value = toNumber(address);
    if (value < this.range.first || value > this.range.last || !this.#isFree(value)) return false;
    this.#take(value);
    return true;
  }

  /** The lowest aligned free /28, or undefined when there is none (free single addresses do not help). */
  takePrefix(): string | undefined {
    const end = Math.floor((this.range.last + 1) / 16);
    for (let block = this.#nextBlock; block < end; block++) {
      if (this.#blocks.has(block)) continue;
      this.#blocks.set(block, 'prefix');
      this.#used += 16;
      this.#nextBlock = block + 1;
      return `${toAddress(block * 16)}/28`;
    }
    return undefined;
  }

  release(address: string): void {
    if (address.includes('/')) {
      const block = Math.floor(toNumber(address.slice(0, address.indexOf('/'))) / 16);
      if (this.#blocks.get(block) !== 'prefix') return;
      this.#blocks.delete(block);
      this.#used -= 16;
      this.#nextBlock = Math.min(this.#nextBlock, block);
      return;
    }
    const value = toNumber(address);
    if (!this.#singles.delete(value)) return;
    const block = Math.floor(value / 16);
    const left = Number(this.#blocks.get(block)) - 1;
    if (left === 0) this.#blocks.delete(block);
    else this.#blocks.set(block, left);
    this.#used--;
    if (left === 0) this.#nextBlock = Math.min(this.#nextBlock, block);
  }

  #isFree(value: number): boolean {
    return this.#blocks.get(Math.floor(value / 16)) !== 'prefix' && !this.#singles.has(value);
  }

  #take(value: number): void {
    const block = Math.floor(value / 16);
    this.#singles.add(value);
    this.#blocks.set(block, Number(this.#blocks.get(block) ?? 0) + 1);
    this.#used++;
  }
}
