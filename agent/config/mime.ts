// The little of MIME (RFC 2045, 2046) that user data uses: the parts of a multipart message, decoded.

interface MimePart {
  /** Lower case, without parameters; `text/plain` when absent. */
  type: string;
  filename: string | undefined;
  body: Uint8Array;
  /** The message ended inside this part: its boundary never came. */
  cut: boolean;
}

const maximumDepth = 4;
const maximumParts = 64;

/** True when the text begins with mail headers, one of them `Content-Type: multipart/…`. */
export function isMultipart(text: string): boolean {
  return /^(?:[\w-]+:.*\r?\n(?:[ \t].*\r?\n)*)*content-type:\s*multipart\//i.test(text.slice(0, 4096));
}

/** The leaf parts in order, of nested messages too; at most 64. `text`: one character for each byte (latin1). */
export function mimeParts(text: string, depth = 0): MimePart[] {
  const { headers, body } = splitHeaders(text);
  const type = headers.get('content-type') ?? 'text/plain';
  const boundary = parameterOf(type, 'boundary');
  if (!/^multipart\//i.test(type) || boundary === undefined || depth >= maximumDepth) {
    const disposition = headers.get('content-disposition') ?? '';
    return [
      {
        type: (type.split(';', 1)[0] ?? '').trim().toLowerCase(),
        filename: parameterOf(disposition, 'filename') ?? parameterOf(type, 'name'),
        body: decodeBody(body, (headers.get('content-transfer-encoding') ?? '').trim().toLowerCase()),
        cut: false,
      },
    ];
  }
  const { parts, closed } = splitAtBoundary(body, boundary);
  const leaves = parts.map((part) => mimeParts(part, depth + 1));
  const last = closed ? undefined : leaves.at(-1)?.at(-1);
  if (last !== undefined) last.cut = true;
  return leaves.flat().slice(0, maximumParts);
}

function splitHeaders(text: string): { headers: Map<string, string>; body: string } {
  const headers = new Map<string, string>();
  let at = 0;
  let name: string | undefined;
  while (at < text.length) {
    const newline = text.indexOf('\n', at);
    const end = newline === -1 ? text.length : newline;
    const line = text.slice(at, end).replace(/\r$/, '');
    at = end + 1;
    if (line === '') break;
    if (/^[ \t]/.test(line) && name !== undefined) {
      headers.set(name, `${headers.get(name)} ${line.trim()}`);
      continue;
    }
    const colon = line.indexOf(':');
    // The line "From …" of an mbox, or no header at all.
    if (colon <= 0) continue;
    name = line.slice(0, colon).trim().toLowerCase();
    headers.set(name, line.slice(colon + 1).trim());
  }
  return { headers, body: text.slice(at) };
}

const parameters = {
  boundary: /;\s*boundary\s*=\s*(?:"([^"]*)"|([^\s;]+))/i,
  filename: /;\s*filename\s*=\s*(?:"([^"]*)"|([^\s;]+))/i,
  name: /;\s*name\s*=\s*(?:"([^"]*)"|([^\s;]+))/i,
};

function parameterOf(header: string, name: keyof typeof parameters): string | undefined {
  const match = parameters[name].exec(header);
  const value = match?.[1] ?? match?.[2];
  return value === '' ? undefined : value;
}

function splitAtBoundary(body: string, boundary: string): { parts: string[]; closed: boolean } {
  const parts: string[] = [];
  let current: string[] | undefined;
  for (const line of body.split('\n')) {
    const bare = line.trimEnd();
    const closing = bare === `--${boundary}--`;
    if (!closing && bare !== `--${boundary}`) {
      current?.push(line);
      continue;
    }
    if (current !== undefined) parts.push(current.join('\n'));
    if (closing) return { parts, closed: true };
    current = [];
  }
  if (current !== undefined) parts.push(current.join('\n'));
  return { parts, closed: false };
}

function decodeBody(body: string, encoding: string): Uint8Array {
  if (encoding === 'base64') return Buffer.from(body, 'base64');
  if (encoding !== 'quoted-printable') return Buffer.from(body, 'latin1');
  // Line by line: a pattern for the blanks before a line's end looks at each run of blanks once for each blank in it.
  const text = body
    .split('\n')
    .map(withoutBlanksAtEnd)
    .join('\n')
    .replace(/=\r?\n/g, '')
    .replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  return Buffer.from(text, 'latin1');
}

/** RFC 2045, 6.7 (3): blanks at the end of a line were added on the way. */
function withoutBlanksAtEnd(line: string): string {
  const ending = line.endsWith('\r') ? '\r' : '';
  let end = line.length - ending.length;
  while (line[end - 1] === ' ' || line[end - 1] === '\t') end -= 1;
  return line.slice(0, end) + ending;
}
