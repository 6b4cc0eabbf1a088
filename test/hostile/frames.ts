// Packets and frames as bytes, also such as no correct stack would send. Lengths and checksums are right, so that a packet is
// dropped for its contents.
import ipaddr from 'ipaddr.js';

interface Ends {
  from: string;
  to: string;
}

export const BROADCAST = 'ff:ff:ff:ff:ff:ff';
/** IANA's "Protocol Numbers". */
export const protocol = { icmp: 1, ipip: 4, tcp: 6, udp: 17, ipv6: 41, gre: 47, icmp6: 58 } as const;

export function ether(ends: Ends, payload: Buffer, type = etherType(payload)): Buffer {
  const frame = Buffer.concat([mac(ends.to), mac(ends.from), number(2, type), payload]);
  // The shortest Ethernet frame.
  return frame.length >= 60 ? frame : Buffer.concat([frame, Buffer.alloc(60 - frame.length)]);
}

/** IEEE 802.1Q: a tag before the type. */
export function tagged(ends: Ends, payload: Buffer, vlan = 0, tagType = 0x8100): Buffer {
  return ether(ends, Buffer.concat([number(2, vlan), number(2, etherType(payload)), payload]), tagType);
}

interface IpExtras {
  /** Bytes between the header and the payload: IPv4 options or IPv6 extension headers. */
  options?: Buffer;
  /** IPv4 only; the offset is in bytes. */
  fragment?: { offset: number; more: boolean };
  ttl?: number;
  trafficClass?: number;
}

export function ip(ends: Ends, next: number, payload: Buffer, extras: IpExtras = {}): Buffer {
  const {
    options = Buffer.alloc(0),
    fragment = { offset: 0, more: false },
    ttl = 64,
    trafficClass = 0,
  } = extras;
  if (ends.from.includes(':')) {
    return Buffer.concat([
      Buffer.from([0x60 | (trafficClass >> 4), (trafficClass & 15) << 4, 0, 0]),
      number(2, payload.length),
      Buffer.from([next, 255]),
      address(ends.from),
      address(ends.to),
      payload,
    ]);
  }
  const head = Buffer.concat([
    Buffer.from([0x40 + 5 + options.length / 4, trafficClass]),
    number(2, 20 + options.length + payload.length),
    number(2, 0x6a6a),
    number(2, (fragment.more ? 0x2000 : 0) + fragment.offset / 8),
    Buffer.from([ttl, next, 0, 0]),
    address(ends.from),
    address(ends.to),
    options,
  ]);
  head.writeUInt16BE(checksum(head), 10);
  return Buffer.concat([head, payload]);
}

export function udp(ends: Ends, ports: [number, number], data: string, extras: IpExtras = {}): Buffer {
  return ip(ends, protocol.udp, udpSegment(ends, ports, data), extras);
}

/** Two fragments (RFC 791, RFC 8200): only the first has the ports, both have `data`. */
export function fragments(ends: Ends, ports: [number, number], data: string): Buffer[] {
  const segment = udpSegment(ends, ports, data.padEnd(64));
  const parts = [segment.subarray(0, 40), segment.subarray(40)];
  const second = Buffer.concat([parts[1] ?? Buffer.alloc(0), Buffer.from(data)]);
  if (!ends.from.includes(':'))
    return [
      ip(ends, protocol.udp, parts[0] ?? second, { fragment: { offset: 0, more: true } }),
      ip(ends, protocol.udp, second, { fragment: { offset: 40, more: false } }),
    ];
  const header = (offset: number, more: number) =>
    Buffer.concat([Buffer.from([protocol.udp, 0]), number(2, offset + more), number(4, 0x6a6a)]);
  return [
    ip(ends, 44, Buffer.concat([header(0, 1), parts[0] ?? second])),
    ip(ends, 44, Buffer.concat([header(40, 0), second])),
  ];
}

function udpSegment(ends: Ends, [source, target]: [number, number], data: string | Buffer): Buffer {
  const text = Buffer.from(data);
  const segment = Buffer.concat([
    number(2, source),
    number(2, target),
    number(2, 8 + text.length),
    number(2, 0),
    text,
  ]);
  segment.writeUInt16BE(checksum(pseudo(ends, protocol.udp, segment)) || 0xffff, 6);
  return segment;
}

const tcpFlags = { syn: 2, rst: 4, ack: 16 } as const;

/** The traffic class tells a witness an attempt's source port from one that source NAT has chosen. */
function classOf(port: number): number {
  return port < 20_000 || port >= 30_000 ? 0 : (1 + ((port - 20_000) % 63)) << 2;
}

export function tcp(
  ends: Ends,
  [source, target]: [number, number],
  flags: (keyof typeof tcpFlags)[],
  data = '',
): Buffer {
  const bits = flags.reduce((sum, flag) => sum + tcpFlags[flag], 0);
  const segment = Buffer.concat([
    number(2, source),
    number(2, target),
    number(4, 1000),
    number(4, 0),
    Buffer.from([0x50, bits]),
    number(2, 64_000),
    number(4, 0),
    Buffer.from(data),
  ]);
  segment.writeUInt16BE(checksum(pseudo(ends, protocol.tcp, segment)), 16);
  return ip(ends, protocol.tcp, segment, { trafficClass: classOf(source) });
}

export function echo(ends: Ends, data: string): Buffer {
  return icmp(ends, [ends.from.includes(':') ? 128 : 8, 0], number(4, 0x6a6a_0001), Buffer.from(data));
}

/** ICMP for either family: type and code, the four bytes after the checksum, the rest. */
export function icmp(ends: Ends, type: [number, number], four: Buffer, rest: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from([...type, 0, 0]), four, rest]);
  const six = ends.from.includes(':');
  body.writeUInt16BE(checksum(six ? pseudo(ends, protocol.icmp6, body) : body), 2);
  return ip(ends, six ? protocol.icmp6 : protocol.icmp, body);
}

/** A packet that does not fit: "fragmentation needed" (RFC 1191), "packet too big" (RFC 4443). */
export function tooBig(ends: Ends, mtu: number, about: Buffer): Buffer {
  const six = ends.from.includes(':');
  return icmp(ends, six ? [2, 0] : [3, 4], number(4, mtu), about.subarray(0, 200));
}

/** RFC 792: packets to the destination of `about` should go to `gateway`. */
export function redirect(ends: Ends, gateway: string, about: Buffer): Buffer {
  return icmp(ends, [5, 1], address(gateway), about);
}

/** RFC 826; `data` is in the padding. */
export function arp(
  operation: 'request' | 'reply',
  sender: { mac: string; address: string },
  target: { mac: string; address: string },
  data: string,
): Buffer {
  return Buffer.concat([
    Buffer.from([0, 1, 8, 0, 6, 4]),
    number(2, operation === 'request' ? 1 : 2),
    mac(sender.mac),
    address(sender.address),
    mac(target.mac),
    address(target.address),
    Buffer.from(data.padEnd(18)),
  ]);
}

/** RFC 4861: a solicitation (135) or an advertisement (136, override) with a link-layer address; `data` in an option. */
export function neighbour(
  type: 'solicitation' | 'advertisement',
  ends: Ends,
  about: string,
  linkAddress: string | undefined,
  data: string,
): Buffer {
  const asks = type === 'solicitation';
  const option = linkAddress === undefined ? [] : [Buffer.from([asks ? 1 : 2, 1]), mac(linkAddress)];
  return icmp(
    ends,
    [asks ? 135 : 136, 0],
    number(4, asks ? 0 : 0x2000_0000),
    Buffer.concat([address(about), ...option, unknownOption(data)]),
  );
}

/** RFC 4861, 4.2: a router that asks to be the default router for half an hour. */
export function routerAdvertisement(ends: Ends, linkAddress: string, data: string): Buffer {
  const rest = [number(8, 0), Buffer.from([1, 1]), mac(linkAddress), unknownOption(data)];
  return icmp(ends, [134, 0], Buffer.from([64, 0, 0x07, 0x08]), Buffer.concat(rest));
}

/** RFC 2131: a server's offer, or a client's discovery. */
export function dhcp(ends: Ends, kind: 'discover' | 'offer', clientMac: string, data: string): Buffer {
  const asks = kind === 'discover';
  const body = Buffer.alloc(240);
  body.set([asks ? 1 : 2, 1, 6, 0], 0);
  mac(clientMac).copy(body, 28);
  body.writeUInt32BE(0x6382_5363, 236);
  const options = Buffer.concat([
    body,
    Buffer.from([53, 1, asks ? 1 : 2, 12, data.length]),
    Buffer.from(data),
  ]);
  const ports: [number, number] = asks ? [68, 67] : [67, 68];
  return ip(ends, protocol.udp, udpSegment(ends, ports, Buffer.concat([options, Buffer.from([255])])));
}

/** Hosts skip options that they do not know (RFC 4861); 253 is for experiments. */
function unknownOption(data: string): Buffer {
  const text = Buffer.from(data.padEnd(14));
  return Buffer.concat([Buffer.from([253, (text.length + 2) / 8]), text]);
}

/** Loose source route (RFC 791): one more hop, padded to four bytes. */
export function sourceRoute(hop: string): Buffer {
  return Buffer.concat([Buffer.from([131, 7, 4]), address(hop), Buffer.from([0])]);
}

/** The Ethernet address of a multicast address: RFC 1112, RFC 2464. */
export function multicastMac(group: string): string {
  const bytes = [...address(group)];
  const low = group.includes(':') ? [0x33, 0x33, ...bytes.slice(12)] : [1, 0, 0x5e, ...bytes.slice(13)];
  return low.map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** The multicast group of solicitations for an address. */
export function solicitedNode(target: string): string {
  const [x = 0, y = 0, z = 0] = [...address(target)].slice(13);
  return ipaddr.fromByteArray([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, x, y, z]).toString();
}

function address(text: string): Buffer {
  if (!ipaddr.isValid(text)) throw new Error(`no address: ${text}`);
  return Buffer.from(ipaddr.parse(text).toByteArray());
}

function etherType(payload: Buffer): number {
  const version = (payload[0] ?? 0) >> 4;
  return version === 6 ? 0x86dd : version === 4 ? 0x0800 : 0x0806;
}

function mac(text: string): Buffer {
  return Buffer.from(text.replaceAll(':', ''), 'hex');
}

function number(bytes: number, value: number): Buffer {
  const buffer = Buffer.alloc(bytes);
  if (bytes === 2) buffer.writeUInt16BE(value);
  else if (bytes === 4) buffer.writeUInt32BE(value);
  return buffer;
}

function pseudo({ from, to }: Ends, next: number, payload: Buffer): Buffer {
  const six = from.includes(':');
  const length = six
    ? Buffer.concat([number(4, payload.length), Buffer.from([0, 0, 0, next])])
    : Buffer.concat([Buffer.from([0, next]), number(2, payload.length)]);
  return Buffer.concat([address(from), address(to), length, payload]);
}

/** RFC 1071. */
function checksum(data: Buffer): number {
  let sum = 0;
  for (let at = 0; at < data.length; at += 2) sum += ((data[at] ?? 0) << 8) | (data[at + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
