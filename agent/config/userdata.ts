// Finds eniboot's configuration in EC2 user data, which it shares with cloud-init and shell scripts.
//
// Which program a text belongs to is decided as cloud-init decides it: MIME by mime.ts, then the declared type, then the first
// line. Source: canonical/cloud-init, cloudinit/user_data.py and cloudinit/handlers/__init__.py; test/config/cloud-init.py has
// these rules beside Python's own parser. A text that no program would recognise is refused when it says that it is eniboot's.
import { bounds } from '../port/bounds.ts';
import { gunzip } from '../port/gunzip.ts';
import { type MimeMessage, type MimePart, parseMessage, type Unread } from './mime.ts';
import { nearest } from './nearest.ts';
import { parseSource } from './parse.ts';
import { type ConfigSource, configMarker, configMediaType, type SourceFinding } from './source.ts';
import type { Tree } from './tree.ts';

/** The most layers of gzip, base64 and MIME: more than any tool makes. */
const maximumLayers = 6;

export interface UserData {
  /** Configuration, lowest precedence first, and findings about the rest. */
  sources: ConfigSource[];
  /** Texts of other programs, or texts in a message that no program reads: `user data, part 1 (text/x-shellscript)`. */
  others: string[];
  /** The user data is one text, neither packed nor a message. */
  isText: boolean;
}

/**
 * The sources in user data. Configuration is a text whose first line is `#eniboot-config`; in a message of several parts, it is
 * such a part or a part of type application/vnd.eniboot.config+yaml. Each may be plain, gzipped or in base64. Never throws: a
 * text of eniboot's that cannot be read becomes a refused source.
 */
export function readUserData(userData: Uint8Array | string, name = 'user data'): UserData {
  // A string stands for its bytes in UTF-8.
  const bytes = typeof userData === 'string' ? Buffer.from(userData) : userData;
  const others: string[] = [];
  const place: Place = {
    name,
    isPart: false,
    type: undefined,
    boundary: undefined,
    layers: maximumLayers,
    common: { bytesLeft: bounds.userDataBytes, others },
  };
  const sources = read(bytes, place);
  const text = latin1(bytes);
  const isText = !isGzip(bytes) && asMessage(text, place) === undefined && !isBase64(text, true);
  const documents = sources.filter((source) => !('passedOver' in source)).length;
  if (documents <= bounds.userDataDocuments) return { sources, others, isText };
  const problem = `holds ${documents} documents, more than ${bounds.userDataDocuments}`;
  return { sources: [refuse(name, problem, 'Put the configuration into one.')], others, isText };
}

/** Only the sources. */
export function userDataSources(userData: Uint8Array | string, name?: string): ConfigSource[] {
  return readUserData(userData, name).sources;
}

/** Where a text stands, and what its surroundings declare about it. */
interface Place {
  name: string;
  isPart: boolean;
  /** As the part's header declares it. */
  type: string | undefined;
  /** Boundary of the message around it. */
  boundary: string | undefined;
  /** How many more layers of gzip, base64 and MIME may follow. */
  layers: number;
  common: {
    /** Bytes that all parts together may still unpack to. */
    bytesLeft: number;
    others: string[];
  };
}

const refuse = (name: string, problem: string, remedy: string, line?: number): ConfigSource => ({
  name,
  refused: { problem, remedy, ...(line === undefined ? {} : { line }) },
});

const isOurs = (source: ConfigSource) => !('passedOver' in source);

function read(bytes: Uint8Array, place: Place): ConfigSource[] {
  if (place.layers === 0) {
    return [refuse(place.name, `is packed more than ${maximumLayers} times`, 'Pack it once.')];
  }
  const within = { ...place, layers: place.layers - 1 };
  if (isGzip(bytes)) return readGzip(bytes, place, within);
  const wide = isTyped(place) ? undefined : utf16(bytes);
  if (wide !== undefined) return readUtf16(wide, place);
  const text = latin1(bytes);
  const message = asMessage(text, place);
  if (message !== undefined) return readParts(message, text, within);
  if (isTyped(place)) return [{ name: place.name, content: bytes }];
  return readText(text, bytes, place, within);
}

const isGzip = (bytes: Uint8Array) => bytes[0] === 0x1f && bytes[1] === 0x8b;

function readGzip(bytes: Uint8Array, place: Place, within: Place): ConfigSource[] {
  const { common } = place;
  let unpacked: Uint8Array;
  try {
    unpacked = gunzip(bytes, common.bytesLeft);
  } catch {
    const problem = 'is gzip that cannot be unpacked, or unpacks to over 1 MiB with all its parts';
    const remedy = 'Compress it again with gzip; EC2 cuts nothing off, it refuses more than 16 KiB.';
    return [refuse(place.name, problem, remedy)];
  }
  common.bytesLeft -= unpacked.length;
  return read(unpacked, within);
}

/** PowerShell's `Out-File` writes UTF-16. cloud-init cannot read it either. */
function readUtf16(text: string, place: Place): ConfigSource[] {
  place.common.others.push(`${place.name} (UTF-16)`);
  if (!text.includes(configMarker) && !text.includes(configMediaType)) return [];
  return [refuse(place.name, 'is UTF-16, not UTF-8', 'Save it as UTF-8 (iconv -f UTF-16 -t UTF-8).')];
}

function utf16(bytes: Uint8Array): string | undefined {
  const [a, b, c, d] = bytes;
  const little = (a === 0xff && b === 0xfe) || (a !== 0 && b === 0 && c !== 0 && d === 0);
  const big = (a === 0xfe && b === 0xff) || (a === 0 && b !== 0 && c === 0 && d !== 0);
  if (!little && !big) return undefined;
  return new TextDecoder(little ? 'utf-16le' : 'utf-16be').decode(bytes);
}

// --- messages ---

/** cloud-init takes a text for a message when this is in its first 4096 bytes (convert_string). */
const saysMime = (text: string) => /mime-version:/i.test(text.slice(0, 4096));

/**
 * The text as a message, if it is one. eniboot also accepts a message without MIME-Version, and a message inside gzip or base64
 * in a part, where cloud-init does not look.
 */
function asMessage(text: string, place: Place): MimeMessage | undefined {
  const isMime = !place.isPart && saysMime(text);
  if (!isMime && !/^content-type[ \t]*:/im.test(text)) return undefined;
  const message = parseMessage(text);
  // A text without headers only mentions MIME. To the parser `key: value` is a header too, so a message without MIME-Version
  // must have a Content-Type.
  const isMessage = message.headers.size > 0 && (isMime || message.headers.has('content-type'));
  return isMessage ? message : undefined;
}

const isWhole = ({ parts, unread }: MimeMessage) =>
  parts.length === 1 && unread.length === 0 && parts[0]?.boundary === undefined;

function readParts(message: MimeMessage, text: string, within: Place): ConfigSource[] {
  const whole = isWhole(message);
  const sources = [
    ...message.parts.flatMap((part, index) => {
      const number = whole ? '' : `, part ${index + 1}`;
      const file = part.filename === undefined ? '' : ` (${part.filename})`;
      return readPart(part, { ...within, name: `${within.name}${number}${file}` });
    }),
    ...message.unread.flatMap((unread) => readUnread(unread, within)),
  ];
  if (within.isPart || saysMime(text) || !sources.some((source) => 'content' in source)) return sources;
  const problem =
    'is no message to cloud-init, which runs none of its parts: it has no MIME-Version in its first 4096 bytes';
  return [
    ...sources,
    {
      name: within.name,
      passedOver: { problem, remedy: 'Make `MIME-Version: 1.0` its first line.', line: 1 },
    },
  ];
}

function readPart(part: MimePart, within: Place): ConfigSource[] {
  const place = { ...within, isPart: true, type: part.type, boundary: part.boundary };
  const wrong = isTyped(part) ? (wrongHead(part) ?? wrongEncoding(part)) : wrongMarked(part);
  if (wrong !== undefined) return [{ name: place.name, refused: wrong }];
  const sources = read(part.body, place);
  if (!sources.some(isOurs)) {
    const missed = missedIn(part, place);
    return missed === undefined ? sources : [{ name: place.name, refused: missed }];
  }
  if (!part.cut) return sources;
  const remedy = 'Check the boundary in its Content-Type header and the last line, which ends in two dashes.';
  return [refuse(place.name, 'ends before its closing MIME boundary', remedy)];
}

const isTyped = ({ type }: { type: string | undefined }) => type === configMediaType;

/** `cluster: prod` is a header to the parser, unless an empty line has ended the headers (RFC 2046, 5.1). */
function wrongHead({ headers, separated, raw }: MimePart): SourceFinding | undefined {
  const stranger = [...headers.keys()].find((name) => !knownHeader.test(name));
  if (startsWithMarker(raw) || (separated && stranger === undefined)) return undefined;
  const counts =
    stranger === undefined ? '' : `: ${JSON.stringify(stranger.slice(0, 40))} counts as a header`;
  return {
    problem: `has no empty line between its headers and its text${counts}`,
    remedy: 'Put an empty line above the first line of the configuration.',
  };
}

/** Headers of MIME, headers that cloud-init reads, and headers that mail programs write. */
const knownHeader =
  /^(?:content-|x-|(?:mime-version|launch-index|merge-type|merge-how|number-attachments|date|from|to|subject|message-id)$)/;

/** Why the text of a part that is eniboot's is not the text that was written. */
function wrongEncoding({ encoding, raw }: MimePart): SourceFinding | undefined {
  if (encoding === 'base64') {
    const packed = raw.replace(/\s+/g, '');
    if (/^[A-Za-z0-9+/]*={0,2}$/.test(packed) && packed.length % 4 !== 1) return undefined;
    return {
      problem: 'is not the base64 that its Content-Transfer-Encoding says, or not all of it',
      remedy: 'Encode it again with `base64`, or leave the header out for plain text.',
    };
  }
  return encoding !== 'quoted-printable' && isBase64(raw) ? lacksEncoding : undefined;
}

const lacksEncoding: SourceFinding = {
  problem: 'is in base64, and no header says so',
  remedy: 'Add the header `Content-Transfer-Encoding: base64` to the part.',
};

const wrongMarked = (part: MimePart) =>
  startsWithMarker(part.raw) || startsWithMarker(latin1(part.body)) ? wrongEncoding(part) : undefined;

/** Why a part was not recognised as eniboot's, if it should have been. */
function missedIn(part: MimePart, place: Place): SourceFinding | undefined {
  if (/eni-?boot/.test(part.type)) {
    return {
      problem: `has the type ${part.type.slice(0, 60)}, which is not ${configMediaType}`,
      remedy: `Write that type, or ${configMarker} as the first line of the part.`,
    };
  }
  const header = [...part.headers].find(([, value]) => saysOurs(value));
  if (header !== undefined) {
    return {
      problem: `has a header ${JSON.stringify(header[0].slice(0, 40))} that speaks of eniboot, and no type or first line that does`,
      remedy: `Write \`Content-Type: ${configMediaType}\`, and each header on a line of its own.`,
    };
  }
  if (part.encoding === 'base64' || !isBase64(part.raw)) return undefined;
  const trial = { ...place, layers: place.layers - 1, common: { ...place.common, others: [] } };
  return read(Buffer.from(part.raw, 'base64'), trial).some(isOurs) ? lacksEncoding : undefined;
}

/** Text outside of all parts, which the parser drops. */
function readUnread(unread: Unread, within: Place): ConfigSource[] {
  within.common.others.push(`${within.name} (text that ${unread.why})`);
  const at = claimIn(unread.text);
  if (at !== undefined) {
    const problem = `has configuration of eniboot's in text that ${unread.why}`;
    return [refuse(within.name, problem, unread.remedy, unread.line + at)];
  }
  return mentionIn(unread.text, `text that ${unread.why}`, within.name, unread.line);
}

// --- texts ---

/** Blanks, empty lines and a byte-order mark; no-break and zero-width spaces come from copied web pages. */
const lead = /^(?:\s|\u00ef\u00bb\u00bf|\u00c2\u00a0|\u00e2\u0080\u008b)*/;

function beginning(text: string): { skipped: string; firstLine: string } {
  const skipped = lead.exec(text)?.[0] ?? '';
  return { skipped, firstLine: (/^[^\r\n]*/.exec(text.slice(skipped.length))?.[0] ?? '').trimEnd() };
}

const startsWithMarker = (text: string) => beginning(text).firstLine === configMarker;

function readText(text: string, bytes: Uint8Array, place: Place, within: Place): ConfigSource[] {
  const { skipped, firstLine } = beginning(text);
  const line = skipped.split(/\r\n|\r|\n/).length;
  if (firstLine === configMarker) {
    if (skipped === '') return [{ name: place.name, content: bytes }];
    const content = Buffer.from('\n'.repeat(line - 1) + text.slice(skipped.length), 'latin1');
    return [{ name: place.name, content }];
  }
  const recognised = cloudInitType(place.type, text);
  const packer = recognised === undefined ? packerOf(text) : undefined;
  if (packer !== undefined) {
    const problem = `is compressed with ${packer}, which neither cloud-init nor eniboot unpacks`;
    return [{ name: place.name, passedOver: { problem, remedy: 'Compress it with gzip.', line: 1 } }];
  }
  if (isNearlyMarker(firstLine) || (recognised === undefined && mayBeMarker.test(firstLine))) {
    const problem = `begins with ${JSON.stringify(firstLine.slice(0, 40))}, which is nearly but not ${configMarker}`;
    const remedy = `Write the first line as ${configMarker}, nothing else; the configuration begins on the next.`;
    return [refuse(place.name, problem, remedy, line)];
  }
  if (recognised === 'text/jinja2' && startsWithMarker(text.slice(skipped.length + firstLine.length))) {
    const problem = `is a template (${firstLine}) of a configuration, and eniboot renders none`;
    return [
      refuse(place.name, problem, `Make ${configMarker} the first line, and write the values out.`, line),
    ];
  }
  if (recognised === 'text/cloud-config-archive') {
    const { tree, problems } = parseSource(place.name, bytes);
    if (tree?.kind === 'list') return readArchive(tree.items, within);
    const at = claimIn(text) ?? typedEntryIn(text);
    if (at !== undefined) {
      const problem = `has configuration of eniboot's in a list of parts that cannot be read: ${problems[0]?.problem ?? 'it is no list'}`;
      return [refuse(place.name, problem, 'Write it as plain YAML, or as a MIME message.', at + 1)];
    }
  }
  if (!place.isPart && recognised === undefined && isBase64(text, true))
    return readBase64(text, place, within);
  if (place.isPart || recognised !== undefined) {
    place.common.others.push(`${place.name} (${recognised ?? place.type ?? 'unknown'})`);
  }
  return readOther(text, recognised, place);
}

/** Base64 of a whole body: Amazon Linux's cloud-init decodes it too (canonical/cloud-init, pull request 4276). */
function readBase64(text: string, place: Place, within: Place): ConfigSource[] {
  const inside = read(Buffer.from(text, 'base64'), within);
  if (isBase64(text) || !inside.some(isOurs)) return inside;
  const problem = 'is base64 that was cut short';
  return [refuse(place.name, problem, 'Encode all of it again; EC2 refuses more than 16 KiB.')];
}

/** The whole text is base64, in either alphabet of RFC 4648. `cut`: the beginning of base64 is enough. */
function isBase64(text: string, cut = false): boolean {
  const packed = text.replace(/\s+/g, '');
  return packed.length >= 16 && (cut || packed.length % 4 === 0) && /^[\w+/-]+={0,2}$/.test(packed);
}

/** A list of parts in YAML, each a text or a map with `content` and `type` (cloud-init's _explode_archive). */
function readArchive(items: Tree[], within: Place): ConfigSource[] {
  return items.flatMap((item, index) => {
    const content = textOf(item) ?? textOf(entryOf(item, 'content'));
    const type = textOf(entryOf(item, 'type'))?.toLowerCase();
    const name = `${within.name}, part ${index + 1}`;
    if (content !== undefined) return read(Buffer.from(content), { ...within, name, isPart: true, type });
    if (type === undefined || !/eni-?boot/.test(type)) return [];
    const problem = 'has no text as its `content`';
    return [
      refuse(name, problem, 'Write `content: |`, and the configuration below it, indented.', item.at.line),
    ];
  });
}

/** The first line, from 0, of an archive that gives an entry a type of eniboot's. */
function typedEntryIn(text: string): number | undefined {
  const at = text
    .split(/\r\n|\r|\n/)
    .findIndex((line) => /^[\s[{"'-]*type["']?\s*:[\s"']*[\w./+-]*eni-?boot/i.test(line));
  return at === -1 ? undefined : at;
}

const entryOf = (tree: Tree, key: string) => (tree.kind === 'map' ? tree.entries.get(key)?.tree : undefined);

const textOf = (tree: Tree | undefined) =>
  tree?.kind === 'scalar' && typeof tree.value === 'string' ? tree.value : undefined;

/** A text whose beginning does not mark it as eniboot's. A later line may still claim that it is. */
function readOther(text: string, recognised: string | undefined, place: Place): ConfigSource[] {
  const at = claimIn(text);
  if (at !== undefined && recognised === undefined) return [refuseNobodys(text, at, place)];
  const wrongBoundary = at === undefined ? undefined : nearlyBoundary(text, at, place.boundary);
  if (wrongBoundary !== undefined) {
    const problem = `has a part of eniboot's in it: ${JSON.stringify(wrongBoundary.slice(0, 60))} above it is not the boundary`;
    return [refuse(place.name, problem, `Write it as --${place.boundary}.`, (at ?? 0) + 1)];
  }
  const mention = mentionIn(
    text,
    recognised === undefined ? 'a text' : `a text of type ${recognised}`,
    place.name,
  );
  if (mention.length > 0 || recognised !== undefined) return mention;
  const key = /^(?:cluster|pods)[ \t]*:/m.exec(text);
  if (key === null) return [];
  const problem = `looks like configuration of eniboot's and does not begin with ${configMarker}: it is not read`;
  const finding = { problem, remedy: `Make ${configMarker} its first line.`, line: lineAt(text, key.index) };
  return [{ name: place.name, passedOver: finding }];
}

/** By their first bytes (file(1), magic/Magdir/compress). */
const unreadPackers: [magic: string, name: string][] = [
  ['\x28\xb5\x2f\xfd', 'zstd'],
  ['\xfd7zXZ\0', 'xz'],
  ['BZh', 'bzip2'],
  ['PK\x03\x04', 'zip'],
  ['\x78\x9c', 'zlib'],
];

const packerOf = (text: string) => unreadPackers.find(([magic]) => text.startsWith(magic))?.[1];

/** Neither cloud-init nor eniboot knows what this text is, and it says that it is eniboot's. */
function refuseNobodys(text: string, at: number, place: Place): ConfigSource {
  const { skipped, firstLine } = beginning(text);
  if (/^(?:mime-version|content-type)[ \t]*:/i.test(firstLine)) {
    const [problem, remedy] =
      skipped === ''
        ? ['has headers that cannot be read', 'Write each as `Name: value`, without blanks before the colon.']
        : [
            'has something before its first header',
            'Remove the empty lines, blanks and byte-order mark above it.',
          ];
    return refuse(place.name, `is no message: it ${problem}`, remedy, at + 1);
  }
  const boundary = /^--(.*[^\s-])/.exec(firstLine)?.[1];
  if (boundary !== undefined) {
    const remedy = `Begin with \`MIME-Version: 1.0\`, \`Content-Type: multipart/mixed; boundary="${boundary.slice(0, 70)}"\` and an empty line.`;
    return refuse(place.name, 'has parts, and no headers above them that say so', remedy, at + 1);
  }
  const problem = `says that it is eniboot's, but not in its first line, and is of no type that cloud-init knows`;
  return refuse(
    place.name,
    problem,
    `Make ${configMarker} the first line of the text, or of a part of its own.`,
    at + 1,
  );
}

/** Types that a program handles, whatever the text begins with. */
const startsOfTypes: [start: string, type: string][] = [
  ['#cloud-config-archive', 'text/cloud-config-archive'],
  ['#cloud-config-jsonp', 'text/cloud-config-jsonp'],
  ['#cloud-boothook', 'text/cloud-boothook'],
  ['#cloud-config', 'text/cloud-config'],
  ['#include-once', 'text/x-include-once-url'],
  ['#include', 'text/x-include-url'],
  ['#part-handler', 'text/part-handler'],
  ['#upstart-job', 'text/upstart-job'],
  ['## template: jinja', 'text/jinja2'],
  ['#!', 'text/x-shellscript'],
];

/**
 * The type that cloud-init gives the text; undefined for a text that it would log as unhandled. For a text without a type, of
 * text/plain and of text/x-shellscript (TYPE_NEEDED), it looks at the beginning, after blanks and in upper or lower case. Other
 * types may have a handler of their own.
 */
function cloudInitType(declared: string | undefined, text: string): string | undefined {
  if (declared !== undefined && declared !== 'text/plain' && declared !== 'text/x-shellscript')
    return declared;
  const start = text.slice(0, 4096).trimStart().toLowerCase();
  const known = startsOfTypes.find(([begin]) => start.startsWith(begin));
  return known?.[1] ?? (declared === 'text/x-shellscript' ? declared : undefined);
}

// --- texts that mention eniboot ---

/** A line that is a marker, well written or not. */
const isNearlyMarker = (line: string) =>
  /^#+!?\s*eni[\s_-]?boot[\s_-]?config(?:uration)?\s*:?$/i.test(line) || /^#eniboot-config\b/i.test(line);

/** Enough in the first line of a text that no program recognises. */
const mayBeMarker = /^[^A-Za-z0-9]*eni[\s_-]?boot[\s_-]*conf(?:ig(?:uration)?)?\b/i;

const saysOurs = (text: string) =>
  text.includes(configMediaType) || text.toLowerCase().includes(configMarker);

/** The first line, from 0, that begins a configuration: a marker, or a header with eniboot's type. */
function claimIn(text: string): number | undefined {
  if (!/eni[\s_-]?boot/i.test(text)) return undefined;
  const at = text.split(/\r\n|\r|\n/).findIndex((line) => {
    const { firstLine } = beginning(line);
    return isNearlyMarker(firstLine) || /^content-?type\s*:.*eni-?boot/i.test(firstLine);
  });
  return at === -1 ? undefined : at;
}

/** A warning when the marker or the type is anywhere in the text. `from`: the number of its first line. */
function mentionIn(text: string, what: string, name: string, from = 1): ConfigSource[] {
  const at = text.split(/\r\n|\r|\n/).findIndex((line) => saysOurs(line));
  if (at === -1) return [];
  const problem = `has ${configMarker} or ${configMediaType} in ${what}: nothing is read from there`;
  const remedy =
    'If it is configuration for this node, make it a part of its own; else write it in other words.';
  return [{ name, passedOver: { problem, remedy, line: from + at } }];
}

/** The line above a claim and its headers, when it is nearly the boundary of the message. */
function nearlyBoundary(text: string, claim: number, boundary: string | undefined): string | undefined {
  if (boundary === undefined) return undefined;
  const lines = text.split(/\r\n|\r|\n/);
  let at = claim - 1;
  while (at >= 0 && /^(?:$|[ \t]|[!-9;-~]+:)/.test(lines[at] ?? '')) at -= 1;
  const line = (lines[at] ?? '').trim();
  const bare = (one: string) => one.replace(/^-+/, '').slice(0, 100);
  return bare(line) !== '' && nearest(bare(line), [bare(boundary)]) !== undefined ? line : undefined;
}

const lineAt = (text: string, index: number) => text.slice(0, index).split(/\r\n|\r|\n/).length;

const latin1 = (bytes: Uint8Array) =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');
