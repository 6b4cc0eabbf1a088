// Netlink messages as bytes, and the kernel's answers: the framing that rtnetlink and nfnetlink share
// (linux/netlink.h). Numbers are in the CPU's byte order, which is little-endian on x64 and arm64, except where
// netfilter wants them big-endian.

export const REQUEST = 0x1;
export const ACK = 0x4;
/** A dump request: the kernel lists all objects. */
export const DUMP = 0x300;
export const REPLACE = 0x100;
export const EXCL = 0x200;
export const CREATE = 0x400;

const HEADER = 16;
const ERROR = 2;
/** The message that ends a dump. */
export const DONE = 3;
const NESTED = 0x8000;
/** Flag of a dump's answers: objects changed during the dump, and some may be missing. */
const INTERRUPTED = 0x10;
/** Flags of an error answer: the original message is left out; a text follows. */
const CAPPED = 0x100;
const WITH_WORDS = 0x200;
const WORDS = 1;

const none = new Uint8Array();

/**
 * A message that is being written. It uses plain arrays of bytes: in a call that takes milliseconds the runtime has not
 * compiled anything yet, and typed arrays and views cost more than they save.
 */
export class Message {
  private readonly bytes: number[];
  /** Bytes that follow `bytes`, which many messages may share. */
  tail: Uint8Array = none;

  constructor(type: number, flags: number) {
    this.bytes = [0, 0, 0, 0, type & 255, type >> 8, flags & 255, flags >> 8, 0, 0, 0, 0, 0, 0, 0, 0];
  }

  u8(...values: number[]): this {
    this.bytes.push(...values);
    return this;
  }

  zeros(count: number): this {
    for (let left = count; left > 0; left -= 1) this.bytes.push(0);
    return this;
  }

  u16(value: number): this {
    this.bytes.push(value & 255, value >> 8);
    return this;
  }

  u32(value: number): this {
    this.bytes.push(value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24);
    return this;
  }

  attribute(type: number, value: readonly number[]): this {
    const { bytes } = this;
    const length = 4 + value.length;
    bytes.push(length & 255, length >> 8, type & 255, type >> 8, ...value);
    if ((length & 3) !== 0) this.pad();
    return this;
  }

  /** An attribute of 32 bits in network order. */
  number(type: number, value: number): this {
    this.bytes.push(8, 0, type & 255, type >> 8);
    this.bytes.push(value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255);
    return this;
  }

  /** Adds an attribute that holds the attributes which `fill` adds. */
  nest(type: number, fill: () => void): this {
    const start = this.begin(type);
    fill();
    return this.end(start);
  }

  /** Begins an attribute that holds those which follow, until `end` with the value that this returns. */
  begin(type: number): number {
    const start = this.bytes.length;
    this.bytes.push(0, 0, type & 255, (type | NESTED) >> 8);
    return start;
  }

  end(start: number): this {
    const length = this.bytes.length - start;
    this.bytes[start] = length & 255;
    this.bytes[start + 1] = length >> 8;
    return this;
  }

  /** Ends the message with an attribute that holds these encoded attributes, which are not copied. */
  endWith(type: number, attributes: Uint8Array): this {
    const length = 4 + attributes.length;
    this.bytes.push(length & 255, length >> 8, type & 255, (type | NESTED) >> 8);
    this.tail = attributes;
    return this;
  }

  get type(): number {
    return (this.bytes[4] ?? 0) + 256 * (this.bytes[5] ?? 0);
  }

  /** The bytes after the header. */
  get body(): Uint8Array {
    return Uint8Array.from([...this.bytes.slice(HEADER), ...this.tail]);
  }

  wantAnswer(): void {
    this.bytes[6] = (this.bytes[6] ?? 0) | ACK;
  }

  /** All bytes but those of `tail`. */
  finish(sequence: number): number[] {
    const { bytes } = this;
    const length = bytes.length + this.tail.length;
    bytes[0] = length & 255;
    bytes[1] = length >> 8;
    bytes[8] = sequence & 255;
    bytes[9] = (sequence >>> 8) & 255;
    bytes[10] = (sequence >>> 16) & 255;
    bytes[11] = sequence >>> 24;
    return bytes;
  }

  private pad(): void {
    while ((this.bytes.length & 3) !== 0) this.bytes.push(0);
  }
}

export interface Answer {
  type: number;
  sequence: number;
  /** For an error, an acknowledgement or the end of a dump: 0 or the errno, and the kernel's text. */
  errno: number;
  words: string;
  /** The answer belongs to a dump from which objects may be missing. */
  interrupted: boolean;
  /** The bytes after the header. */
  body: Uint8Array;
}

/** The messages of a datagram. */
export function answersIn(datagram: Uint8Array): Answer[] {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.length);
  const answers: Answer[] = [];
  for (let at = 0; at + HEADER <= datagram.length; ) {
    const length = view.getUint32(at, true);
    if (length < HEADER || at + length > datagram.length) break;
    const type = view.getUint16(at + 4, true);
    const flags = view.getUint16(at + 6, true);
    const body = datagram.subarray(at + HEADER, at + length);
    answers.push({
      type,
      sequence: view.getUint32(at + 8, true),
      errno: (type === ERROR || type === DONE) && body.length >= 4 ? -view.getInt32(at + HEADER, true) : 0,
      words: type === ERROR && (flags & WITH_WORDS) !== 0 ? wordsOf(body, flags) : '',
      interrupted: (flags & INTERRUPTED) !== 0,
      body,
    });
    at += (length + 3) & ~3;
  }
  return answers;
}

/** Attributes by type, beginning at `start`. */
export function attributesIn(body: Uint8Array, start = 0): Map<number, Uint8Array> {
  return new Map(listIn(body, start));
}

/** The attributes inside an attribute; empty when it is not there. */
export function nested(attributes: Map<number, Uint8Array>, type: number): Map<number, Uint8Array> {
  return attributesIn(attributes.get(type) ?? new Uint8Array());
}

/** Attributes in their order, for types that come more than once. */
export function listIn(body: Uint8Array, start = 0): [type: number, value: Uint8Array][] {
  const found: [number, Uint8Array][] = [];
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  for (let at = start; at + 4 <= body.length; ) {
    const length = view.getUint16(at, true);
    if (length < 4 || at + length > body.length) break;
    found.push([view.getUint16(at + 2, true) & 0x3fff, body.subarray(at + 4, at + length)]);
    at += (length + 3) & ~3;
  }
  return found;
}

function wordsOf(body: Uint8Array, flags: number): string {
  // The error number comes first, then the header of the original message, then its body unless the kernel left it out.
  const inner = new DataView(body.buffer, body.byteOffset + 4, HEADER).getUint32(0, true);
  const start = 4 + ((flags & CAPPED) !== 0 ? HEADER : (inner + 3) & ~3);
  const text = attributesIn(body, start).get(WORDS);
  return text === undefined ? '' : new TextDecoder().decode(text.subarray(0, -1));
}

/** A number of 32 bits in the CPU's byte order. */
export function numberAt(bytes: Uint8Array, at = 0): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length).getUint32(at, true);
}

/** The 32-bit number in an attribute; undefined when it is not there. */
export function numberIn(attributes: Map<number, Uint8Array>, type: number): number | undefined {
  const bytes = attributes.get(type);
  return bytes && numberAt(bytes);
}

/** Text up to its zero byte; empty for undefined. */
export function textOf(bytes: Uint8Array | undefined): string {
  if (bytes === undefined) return '';
  const end = bytes.indexOf(0);
  return new TextDecoder().decode(end === -1 ? bytes : bytes.subarray(0, end));
}

/** Two undefined values are the same. */
export function same(one: Uint8Array | undefined, other: ArrayLike<number> | undefined): boolean {
  if (one === undefined || other === undefined) return one === other;
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

export function le32(value: number): number[] {
  return [value & 255, (value >>> 8) & 255, (value >>> 16) & 255, value >>> 24];
}

export function be16(value: number): number[] {
  return [value >> 8, value & 255];
}

export function be32(value: number): number[] {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

export function ascii(text: string): number[] {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at += 1) bytes.push(text.charCodeAt(at));
  return bytes;
}

/** The text's bytes with a zero byte at the end, which the kernel expects. */
export function zeroEnded(text: string): readonly number[] {
  let bytes = zeroEndedTexts.get(text);
  if (bytes === undefined) {
    bytes = [...ascii(text), 0];
    // A process that lives long sees new names of sets again and again.
    if (zeroEndedTexts.size >= MOST_TEXTS) zeroEndedTexts.clear();
    zeroEndedTexts.set(text, bytes);
  }
  return bytes;
}

/** The names of a transaction come many times. */
const MOST_TEXTS = 200;
const zeroEndedTexts = new Map<string, readonly number[]>();
