// IPv6 arithmetic as the model needs it: blocks inside a subnet's /64, and whether an address lies in one.

const GROUP = 0x10000n;

/** A canonical address, or the address of a CIDR, as a number. */
function toNumber(address: string): bigint {
  const [head = '', tail] = address.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => '0');
  return [...left, ...zeros, ...right].reduce(
    (sum, group) => sum * GROUP + BigInt(Number.parseInt(group, 16)),
    0n,
  );
}

export function containsIpv6(cidr: string, address: string): boolean {
  if (!address.includes(':')) return false;
  const [base = '', length = '128'] = cidr.split('/');
  const shift = BigInt(128 - Number(length));
  return toNumber(base) >> shift === toNumber(address) >> shift;
}

/** The nth /80 of a /64. Number 0 is kept for single addresses. */
export function prefixIn(subnetCidr: string, n: number): string {
  return `${groups(subnetCidr)}:${n.toString(16)}::/80`;
}

/** The nth single address of a /64. */
export function addressIn(subnetCidr: string, n: number): string {
  return `${groups(subnetCidr)}::${(0x1000 + n).toString(16)}`;
}

/** The four groups of a /64, written in full. */
function groups(subnetCidr: string): string {
  const value = toNumber(subnetCidr.slice(0, subnetCidr.indexOf('/')));
  return [112n, 96n, 80n, 64n].map((shift) => ((value >> shift) % GROUP).toString(16)).join(':');
}

/** The link-local address an interface makes of its MAC (RFC 4291, appendix A). */
export function linkLocalOf(mac: string): string {
  const [a = '', b = '', c = '', d = '', e = '', f = ''] = mac.split(':');
  const first = (Number.parseInt(a, 16) ^ 2).toString(16).padStart(2, '0');
  const short = (text: string) => Number.parseInt(text, 16).toString(16);
  return `fe80::${short(first + b)}:${short(`${c}ff`)}:${short(`fe${d}`)}:${short(e + f)}`;
}
