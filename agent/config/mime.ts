// MIME messages (RFC 2045, 2046) as Python's `email` parser reads them, because cloud-init reads user data with it: a part that
// cloud-init sees must not be hidden from eniboot, nor a part that eniboot sees from cloud-init. That parser refuses nothing. A
// line that is no header ends the headers, with or without an empty line before it; a boundary need not close; text outside of
// the parts is dropped. Source: CPython 3.11, Lib/email/feedparser.py and Lib/email/message.py.

export interface MimePart {
  /** In lower case, without parameters; `text/plain` when absent or malformed. */
  type: string;
  filename: string | undefined;
  /** By name in lower case. When a name occurs twice, the first header counts. */
  headers: ReadonlyMap<string, string>;
  /** The part's text as it stands in the message. */
  raw: string;
  /** In lower case; empty when absent. */
  encoding: string;
  body: Uint8Array;
  /** An empty line separates its headers from its text. */
  separated: boolean;
  /** The message ended inside this part, without a boundary. */
  cut: boolean;
  /** Boundary of the message around the part; undefined when the part is the whole message. */
  boundary: string | undefined;
}

/** Text that belongs to no part; Python's parser drops it. */
export interface Unread {
  text: string;
  /** The line of the message at which it begins, from 1. */
  line: number;
  why: string;
  remedy: string;
}

export interface MimeMessage {
  /** Headers of the outermost message; empty when the text does not begin with a header. */
  headers: ReadonlyMap<string, string>;
  /** The innermost parts in order, those of nested messages too. */
  parts: MimePart[];
  unread: Unread[];
}

/** Deeper messages are not read: each level costs a look at each line, and Python's own stack has a limit too. */
const maximumDepth = 16;

type Leaf = Omit<MimePart, 'body'>;

interface Reader {
  lines: string[];
  at: number;
  /** Boundaries of the messages around the present one. A line that is one of them ends it. */
  until: string[];
  /** The part that ended last, when it has no parts itself: the newline before a boundary belongs to the boundary. */
  last: Leaf | undefined;
  leaves: Leaf[];
  unread: Unread[];
}

/** Never throws: every text is a message. `text`: one character for each byte (latin1). */
export function parseMessage(text: string): MimeMessage {
  // Each line with its line end, which may be a CR alone.
  const lines = text === '' ? [] : text.split(/(?<=\n|\r(?!\n))/);
  const reader: Reader = { lines, at: 0, until: [], last: undefined, leaves: [], unread: [] };
  const head = readHeaders(reader);
  readEntity(reader, head, 0, 'text/plain');
  const parts = reader.leaves.map((leaf) => ({ ...leaf, body: decodeBody(leaf.raw, leaf.encoding) }));
  return { headers: head.headers, parts, unread: reader.unread };
}

function readEntity(
  reader: Reader,
  { headers, separated }: Head,
  depth: number,
  typeByDefault: string,
): void {
  const contentType = headers.get('content-type');
  const type = contentType === undefined ? typeByDefault : typeOf(contentType);
  reader.last = undefined;
  if (type.startsWith('multipart/')) {
    if (depth < maximumDepth) return readMultipart(reader, depth, contentType ?? '', type);
    return skipRest(reader, {
      why: `is nested deeper than ${maximumDepth} messages`,
      remedy: 'Put its parts into the outermost message.',
    });
  }
  const holdsMessage = type.startsWith('message/') && type !== 'message/delivery-status';
  if (holdsMessage && depth < maximumDepth)
    return readEntity(reader, readHeaders(reader), depth + 1, 'text/plain');
  const leaf: Leaf = {
    type,
    filename:
      parameterOf(headers.get('content-disposition') ?? '', 'filename') ??
      parameterOf(contentType ?? '', 'name'),
    headers,
    raw: readRest(reader),
    encoding: (headers.get('content-transfer-encoding') ?? '').trim().toLowerCase(),
    separated,
    cut: false,
    boundary: reader.until.at(-1),
  };
  reader.leaves.push(leaf);
  reader.last = leaf;
}

function readMultipart(reader: Reader, depth: number, contentType: string, type: string): void {
  const boundary = parameterOf(contentType, 'boundary')?.trimEnd();
  if (boundary === undefined) {
    return skipRest(reader, {
      why: `is a message of type ${type} that names no boundary`,
      remedy: 'Write it as `Content-Type: multipart/mixed; boundary="…"`.',
    });
  }
  const begin = reader.at;
  const leavesBefore = reader.leaves.length;
  let opened = false;
  for (;;) {
    const line = nextLine(reader);
    if (line === undefined) break;
    const found = delimiter(line, boundary);
    if (found === undefined) continue;
    if (found === 'end') {
      if (!opened) break;
      return skipRest(reader, {
        why: 'comes after the closing boundary',
        remedy: `Move it before the line --${boundary}--.`,
      });
    }
    if (!opened && reader.at - 1 > begin) {
      noteUnread(reader, begin, reader.at - 1, {
        why: 'comes before the first boundary',
        remedy: `Write the line --${boundary} above it.`,
      });
    }
    opened = true;
    // Several delimiters in a row count as one, also when a closing one is among them.
    while (isDelimiter(reader, boundary)) reader.at += 1;
    reader.until.push(boundary);
    const typeByDefault = type === 'multipart/digest' ? 'message/rfc822' : 'text/plain';
    readEntity(reader, readHeaders(reader), depth + 1, typeByDefault);
    reader.until.pop();
    if (reader.last !== undefined) reader.last.raw = reader.last.raw.replace(/(?:\r\n|\r|\n)$/, '');
    reader.last = undefined;
  }
  if (!opened) {
    reader.at = begin;
    return skipRest(reader, {
      why: `has no line --${boundary}, the boundary that its message names`,
      remedy: 'Begin each part with that line: two dashes, then the boundary as in the Content-Type header.',
    });
  }
  const last = reader.leaves.length > leavesBefore ? reader.leaves.at(-1) : undefined;
  if (last !== undefined) last.cut = true;
}

/** A header, or what Python's parser takes for the continuation of one. A line of blanks is a continuation too. */
const headerLine = /^(?:From |[!-9;-~]*:|[\t ])/;

interface Head {
  headers: Map<string, string>;
  separated: boolean;
}

function readHeaders(reader: Reader): Head {
  const lines: string[] = [];
  let separated = false;
  for (;;) {
    const line = nextLine(reader);
    if (line === undefined) break;
    if (!headerLine.test(line)) {
      separated = /^[\r\n]/.test(line);
      if (!separated) reader.at -= 1;
      break;
    }
    lines.push(line);
  }
  const headers = new Map<string, string>();
  let name = '';
  let value: string[] = [];
  const keep = (): void => {
    const key = name.toLowerCase();
    if (name !== '' && !headers.has(key)) headers.set(key, value.join('').replace(/(?:\r\n|\r|\n)$/, ''));
    name = '';
    value = [];
  };
  for (const [index, line] of lines.entries()) {
    if (/^[ \t]/.test(line)) {
      if (name !== '') value.push(line);
      continue;
    }
    keep();
    if (line.startsWith('From ')) {
      // Python's parser takes such a line, when it is the last one, for text, and puts it in the place of the empty line.
      if (index > 0 && index === lines.length - 1) {
        reader.at -= 1;
        reader.lines[reader.at] = line;
        return { headers, separated: false };
      }
      continue;
    }
    const colon = line.indexOf(':');
    name = line.slice(0, colon);
    value = [line.slice(colon + 1).replace(/^[ \t]+/, '')];
  }
  keep();
  return { headers, separated };
}

/** The next line with its line end; undefined at the end of the present message. */
function nextLine(reader: Reader): string | undefined {
  const line = reader.lines[reader.at];
  if (line === undefined || reader.until.some((boundary) => delimiter(line, boundary) !== undefined)) {
    return undefined;
  }
  reader.at += 1;
  return line;
}

function isDelimiter(reader: Reader, boundary: string): boolean {
  const line = nextLine(reader);
  if (line === undefined) return false;
  reader.at -= 1;
  return delimiter(line, boundary) !== undefined;
}

function delimiter(line: string, boundary: string): 'begin' | 'end' | undefined {
  if (!line.startsWith('--') || !line.startsWith(boundary, 2)) return undefined;
  const match = /^(--)?[ \t]*(?:\r\n|\r|\n)?$/.exec(line.slice(boundary.length + 2));
  if (match === null) return undefined;
  return match[1] === undefined ? 'begin' : 'end';
}

function readRest(reader: Reader): string {
  const begin = reader.at;
  while (nextLine(reader) !== undefined);
  return reader.lines.slice(begin, reader.at).join('');
}

function skipRest(reader: Reader, reason: Pick<Unread, 'why' | 'remedy'>): void {
  const begin = reader.at;
  readRest(reader);
  if (reader.at > begin) noteUnread(reader, begin, reader.at, reason);
}

function noteUnread(
  reader: Reader,
  begin: number,
  end: number,
  reason: Pick<Unread, 'why' | 'remedy'>,
): void {
  reader.unread.push({ text: reader.lines.slice(begin, end).join(''), line: begin + 1, ...reason });
}

function typeOf(contentType: string): string {
  const type = (contentType.split(';', 1)[0] ?? '').trim().toLowerCase();
  return type.split('/').length === 2 ? type : 'text/plain';
}

/** A parameter of a header, without its quotes. A semicolon inside quotes does not end the parameter. */
function parameterOf(header: string, name: string): string | undefined {
  for (const parameter of parametersOf(header)) {
    const equals = parameter.indexOf('=');
    if (equals === -1 || parameter.slice(0, equals).trim().toLowerCase() !== name) continue;
    const value = parameter.slice(equals + 1).trim();
    if (value.length > 1 && value.startsWith('"') && value.endsWith('"')) {
      return value.slice(1, -1).replace(/\\([\\"])/g, '$1');
    }
    return value.length > 1 && value.startsWith('<') && value.endsWith('>') ? value.slice(1, -1) : value;
  }
  return undefined;
}

function parametersOf(header: string): string[] {
  const parameters: string[] = [];
  let begin = 0;
  let quoted = false;
  for (let at = 0; at < header.length; at += 1) {
    const character = header[at];
    if (character === '"' && header[at - 1] !== '\\') quoted = !quoted;
    if (character !== ';' || quoted) continue;
    parameters.push(header.slice(begin, at));
    begin = at + 1;
  }
  return [...parameters, header.slice(begin)];
}

/** Blanks at the end of a quoted-printable line stay, as in Python. */
function decodeBody(body: string, encoding: string): Uint8Array {
  // Characters outside of the base64 alphabet are skipped.
  if (encoding === 'base64') return Buffer.from(body.replace(/[^A-Za-z0-9+/=]+/g, ''), 'base64');
  if (encoding !== 'quoted-printable') return Buffer.from(body, 'latin1');
  const text = body
    .replace(/=(?:\n|\r[^\n]*\n?|$)/g, '')
    .replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(text, 'latin1');
}
