// Takes secrets out of texts that leave the machine or are kept: logs, failures, status, reports, the support bundle. In doubt
// it takes out too much, but keeps what people need to find a fault (test/input/redact.ts has tables of both).
//
// A secret is recognised by the name beside it (redactLine), by its surroundings (armour, blocks), or by its own form (byForm).
// Each text is read once, line by line, and every look back or ahead has a limit: a log of 10 MB takes about a second,
// whatever its contents.
//
// Sources of names and forms: gitleaks (cmd/generate/config/rules), detect-secrets (plugins/keyword.py), and
// k8s.io/cluster-bootstrap/token/api for kubeadm's tokens.

/** The text that replaces a secret. */
const REMOVED = '[removed]';

/** Words in a name that make its value a secret. */
const SECRET_WORD =
  /passw(?:or)?d|passwd|passphrase|secret|token|credential|authorization|cookie|signature|(?:api|access|account|auth|service|private|priv|signing|encryption|master|session|certificate|cert|client|ssh|db|database)[-_]?key(?!s?[-_]?(?:size|usage)s?$)|client[-_]certificate|connection[-_]?string|session[-_]?id|(?<![a-z])(?:pass|pwd|sig|psk|dsn|otp)(?![a-z])|_pass$|auth$/i;
/** Ends of names whose value is the place or the kind of a secret, and names that only contain a word for secrets. */
const NO_SECRET =
  /(?:file|path|dir|name|namespace|ttl|ttl[-_]seconds|seconds|expiration|expires(?:at)?|type|count|ref|cert[-_]hash|url|endpoint|policy|review|provider|controller|cleaner|class)$|^(?:secretsmanager|system|automount\w*|imagepullsecrets|tokenization)$/i;
/** Values that are no secret, whatever their name. */
const EMPTY =
  /^(?:|true|false|yes|no|null|nil|none|undefined|~|<nil>|\{\}|\[\]|\[removed\]|<redacted>|\(hidden\)|\*+)$/i;
/** Names of headers, whose value goes on to the end of the header. */
const HEADER = /authorization$|cookie$/i;
/** Keys whose value is a name, beside a key with the value: `{"name": "DB_PASSWORD", "value": "…"}`. */
const NAMES = /^(?:name|key|field|header|variable|parameter(?:name|key))$/i;
const VALUES = /^(?:value|val|parametervalue)$/i;

/** Characters in a line; a longer line is no text for people, and is removed as a whole. */
const LINE_LIMIT = 200_000;
/** Characters of a name that are read. */
const NAME_LIMIT = 100;

export function isSecretName(name: string): boolean {
  return SECRET_WORD.test(name) && !NO_SECRET.test(name);
}

/** The text without likely secrets, and how many were taken out. */
export function redact(text: string): { text: string; removed: number } {
  const state: State = { out: [], removed: 0, block: undefined, armour: false, item: newItem() };
  for (let at = 0; at <= text.length; ) {
    const newline = text.indexOf('\n', at);
    const end = newline === -1 ? text.length : newline;
    const before = state.out.length;
    wholeLine(text.slice(at, end), state);
    // The removed line of a block loses its end of line too. The last line of a text may have no end.
    if (newline !== -1 && (state.out.length > before || end === at)) state.out.push('\n');
    at = end + 1;
  }
  return { text: state.out.join(''), removed: state.removed };
}

/**
 * A value with the secrets taken out of its texts. A value whose key is the name of a secret is replaced as a whole. Objects
 * other than plain ones are returned as they are.
 */
export function redactValue(value: unknown, name = ''): unknown {
  const hidden = name !== '' && isSecretName(name);
  if (typeof value === 'string') {
    if (hidden && value !== '' && !EMPTY.test(value)) return REMOVED;
    return redact(value).text;
  }
  if (Array.isArray(value)) return value.map((one) => redactValue(one, name));
  if (typeof value === 'object' && value !== null) {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return value;
    const named = Object.entries(value).some(
      ([key, one]) => NAMES.test(key) && typeof one === 'string' && isSecretName(one),
    );
    return Object.fromEntries(
      Object.entries(value).map(([key, one]) => [
        key,
        hidden || (named && VALUES.test(key)) ? redactValue(one, 'secret') : redactValue(one, key),
      ]),
    );
  }
  return hidden && typeof value === 'number' ? REMOVED : value;
}

interface State {
  out: string[];
  removed: number;
  /** Lines that belong to a secret's name above: lines with more indentation than the name. */
  block: { column: number; prefix: number; said: boolean } | undefined;
  /** Whether the line is inside a key or a message in ASCII armour. */
  armour: boolean;
  item: Item;
}

/** An object or list entry that may hold a name and its value in two keys. */
interface Item {
  /** Its name is the name of a secret. */
  secret: boolean;
  /** The pieces of `out` with its value: the first, and the one after the last. */
  value: [from: number, to: number] | undefined;
  column: number;
}

function newItem(column = -1): Item {
  return { secret: false, value: undefined, column };
}

function wholeLine(line: string, state: State): void {
  if (line.length > LINE_LIMIT) {
    state.removed += 1;
    state.out.push(`a line of ${line.length} characters: ${REMOVED}`);
    return;
  }
  const prefix = LOG_PREFIX.exec(line)?.[0].length ?? 0;
  // A blank line does not end a block, and is not kept.
  if (state.block !== undefined && line === '') return;
  if (state.block !== undefined && isOfBlock(line, prefix, state.block)) {
    if (!state.block.said) {
      state.removed += 1;
      state.out.push(line.slice(0, indentOf(line, prefix)), REMOVED);
    }
    state.block.said = true;
    return;
  }
  state.block = undefined;
  const armoured = line.includes('----') || state.armour ? withoutArmour(line, prefix, state) : line;
  if (armoured === undefined) return;
  if (MAY_HOLD_ONE.test(armoured)) redactLine(armoured, prefix, state);
  else state.out.push(armoured);
}

/** A line without any of these holds no secret: most lines need no further work. */
const MAY_HOLD_ONE = /[:=@]|(?:^|[\s"'(,[])-|[\w+/=.~-]{20}|bearer|basic/i;

/** The beginning of a line as journald (short, short-iso) and dmesg write it. */
const LOG_PREFIX =
  /^(?:(?:[A-Z][a-z]{2} [ \d]\d [\d:]{8}|\d{4}-\d\d-\d\d[T ][\d:.,]{8,20}(?:Z|[+-][\d:]{4,6})?) [^\s:]{1,64} [^\s:]{1,64}: ?|\[[ \d.]{1,20}\] ?)/;

function indentOf(line: string, from: number): number {
  let at = from;
  while (line[at] === ' ' || line[at] === '\t') at += 1;
  return at;
}

function isOfBlock(line: string, prefix: number, block: NonNullable<State['block']>): boolean {
  // Another prefix means another program, or another message of the same program.
  if (prefix !== 0 && prefix !== block.prefix) return false;
  const column = indentOf(line, prefix);
  return (
    column > block.column || (column === block.column && line[column] === '-' && line[column + 1] === ' ')
  );
}

const ARMOUR_BEGIN = /-----?[ ]?BEGIN [A-Z0-9 ]{1,40}-----?|PuTTY-User-Key-File-\d/;
const ARMOUR_END = /-----?[ ]?END [A-Z0-9 ]{1,40}-----?/;
/** A line between begin and end of armour: one word that is not a plain lower-case word, or a header. */
const ARMOUR_BODY = /^(?![a-z]{1,7}$)(?:[\w+/=.\\-]*|[A-Z][\w-]{2,20}: .{0,200})["',]{0,3}$/;
const ARMOUR_RUN = /(?:\\[nr]|[A-Za-z0-9+/=:,\- ])*/y;

/** The line without keys and messages in armour, even when their begin or end is missing; undefined when nothing is left. */
function withoutArmour(line: string, prefix: number, state: State): string | undefined {
  const begin = ARMOUR_BEGIN.exec(line);
  const end = ARMOUR_END.exec(line);
  const cut = (from: number, to: number) => {
    state.removed += 1;
    return `${line.slice(0, from)}${REMOVED}${line.slice(to)}`;
  };
  if (begin !== null && (end === null || end.index < begin.index)) {
    ARMOUR_RUN.lastIndex = begin.index + begin[0].length;
    ARMOUR_RUN.exec(line);
    const rest = ARMOUR_RUN.lastIndex;
    state.armour = rest >= line.length || /^\\?["']?,?$/.test(line.slice(rest, rest + 4));
    return cut(begin.index, rest);
  }
  if (begin !== null && end !== null) {
    state.armour = false;
    return cut(begin.index, end.index + end[0].length);
  }
  if (end !== null) {
    // The beginning is missing, as in a log of which only the end was kept: lines of Base64 before this line are removed.
    if (!state.armour) takeBackBase64(state);
    state.armour = false;
    return cut(end.index, end.index + end[0].length);
  }
  if (state.armour && ARMOUR_BODY.test(line.slice(prefix).trim())) return undefined;
  state.armour = false;
  return line;
}

function takeBackBase64({ out }: State): void {
  for (;;) {
    const last = out.at(-1) === '\n' ? out.at(-2) : out.at(-1);
    if (last === undefined || !/(?:[A-Za-z0-9+/=]{40}|\[removed\])["',]{0,3}$/.test(last.slice(-60))) return;
    while (out.length > 0 && out.pop() !== last);
    // The other pieces of that line go too, back to the end of the line before.
    while (out.length > 0 && out.at(-1) !== '\n') out.pop();
  }
}

/** Handles one line: secrets that have names, and secrets that are recognised by their form. */
function redactLine(line: string, prefix: number, state: State): void {
  const { out } = state;
  const first = out.length;
  let done = 0;
  const keep = (to: number) => {
    if (to > done) out.push(line.slice(done, to));
    done = Math.max(done, to);
  };
  const cut = (from: number, to: number) => {
    keep(from);
    out.push(REMOVED);
    state.removed += 1;
    done = to;
  };
  const start = indentOf(line, prefix);
  const dashes = /(?:- )*/y;
  dashes.lastIndex = start;
  dashes.exec(line);
  // The column of the key with which a line of YAML or of a configuration file begins.
  const column = dashes.lastIndex;
  if (column > start || (state.item.column !== column && state.item.column !== -1))
    state.item = newItem(column);
  /** A value whose name may come after it. */
  let pending: { to: number; piece: number } | undefined;
  const settle = () => {
    if (pending === undefined) return;
    keep(pending.to);
    state.item.value = [pending.piece, out.length];
    pending = undefined;
  };
  for (let at = prefix; at < line.length; at += 1) {
    if (pending !== undefined && at >= pending.to) settle();
    const code = line.charCodeAt(at);
    if (code === OPEN || code === CLOSE) state.item = newItem();
    else if (code === DASH) at = Math.max(at, flagAt(line, at, cut) - 1);
    else if (code === COLON || code === EQUALS) {
      if (code === COLON && line.startsWith('//', at + 1)) continue;
      const name = nameBefore(line, at, done);
      if (name === undefined) continue;
      const isFirst = name.from <= column + 1;
      const isValue = VALUES.test(name.text);
      if ((isSecretName(name.text) && !isOfArn(line, name.from)) || (state.item.secret && isValue)) {
        const value = valueAfter(line, at, name, isFirst);
        // The rest of the value stands on the lines below, with more indentation.
        if (value.open || (isFirst && code === COLON)) state.block = { column, prefix, said: !value.open };
        if (value.open) break;
        if (EMPTY.test(line.slice(value.from, value.to))) continue;
        cut(value.from, value.to);
        at = value.to - 1;
      } else if (NAMES.test(name.text)) {
        if (isFirst) state.item.column = column;
        SHORT_VALUE.lastIndex = at + 1;
        if (!isSecretName(SHORT_VALUE.exec(line)?.[1] ?? '')) continue;
        state.item.secret = true;
        takeBackValue(state);
      } else if (isValue && pending === undefined) {
        if (isFirst) state.item.column = column;
        const value = valueAfter(line, at, name, isFirst);
        if (EMPTY.test(line.slice(value.from, value.to))) continue;
        keep(value.from);
        pending = { to: value.to, piece: out.length };
      }
    }
  }
  settle();
  keep(line.length);
  for (let piece = first; piece < out.length; piece += 1) {
    const text = out[piece] ?? '';
    if (text.length >= SHORTEST || text.includes('@')) out[piece] = byForm(text, state);
  }
}

const [COLON, EQUALS, OPEN, CLOSE, DASH, BACKSLASH, BLANK, TAB] = [...':={}-\\ \t'].map((one) =>
  one.charCodeAt(0),
) as [number, number, number, number, number, number, number, number];

/** The part of a value that can be a name. */
const SHORT_VALUE = /[ \t]*\\{0,8}["']?([\w.-]{1,100})/y;

/** Removes a value that came before the name that makes it a secret. */
function takeBackValue(state: State): void {
  if (state.item.value === undefined) return;
  const [from, to] = state.item.value;
  state.item.value = undefined;
  if (state.out[from] === REMOVED && to === from + 1) return;
  state.out.fill('', from, to);
  state.out[from] = REMOVED;
  state.removed += 1;
}

interface Name {
  text: string;
  from: number;
  /** The quote in which the name stands, with its backslashes; empty when it closes before the separator, or there is none. */
  within: string;
}

/** The name that ends before a separator, without its quotes; text that was already taken out is not part of it. */
function nameBefore(line: string, separator: number, done: number): Name | undefined {
  let to = separator;
  const least = Math.max(done, separator - NAME_LIMIT);
  while (to > least && isBlank(line.charCodeAt(to - 1))) to -= 1;
  const closed = to;
  while (to > least && isQuote(line.charCodeAt(to - 1))) to -= 1;
  let from = to;
  while (from > least && isOfName(line.charCodeAt(from - 1))) from -= 1;
  if (from === to) return undefined;
  const quote = closed === to ? /\\{0,7}["']$/.exec(line.slice(Math.max(0, from - 8), from))?.[0] : undefined;
  return { text: line.slice(from, to), from, within: quote ?? '' };
}

function isBlank(code: number): boolean {
  return code === BLANK || code === TAB;
}

function isQuote(code: number): boolean {
  return code === 0x22 || code === 0x27 || code === BACKSLASH;
}

/** Whether a character can be part of a name: [\w.-]. */
function isOfName(code: number): boolean {
  return (
    (code >= 0x61 && code <= 0x7a) ||
    (code >= 0x41 && code <= 0x5a) ||
    (code >= 0x30 && code <= 0x39) ||
    code === 0x5f ||
    code === 0x2d ||
    code === 0x2e
  );
}

/** `arn:aws:secretsmanager:…:secret:name` names a secret, but is not one. */
function isOfArn(line: string, from: number): boolean {
  if (line.charCodeAt(from - 1) !== COLON) return false;
  const before = line.slice(Math.max(0, from - NAME_LIMIT), from);
  return /(?:^|[\s"'=])arn:[^\s"']*$/.test(before.slice(before.lastIndexOf('arn:')));
}

interface Value {
  from: number;
  to: number;
  /** The value goes on in the lines below. */
  open: boolean;
}

const QUOTE = /\\*["']/y;
/** The rest of an operator (`:=`, `==`, `=>`) whose first character is the separator. */
const OPERATOR = /[=>]{1,2}(?=[ \t]*\S)/y;
/** The beginning of a quoted text in shells ($'…') and in Python (b'…'). */
const QUOTE_PREFIX = /(?:\$|[bru]{1,2})(?=["'])/iy;
/** A value in a list or an object, up to what ends it; a comma inside the value does not end it. */
const WORD = /(?:[^\s,;}\]"']|[,;](?![\s"']|[\w.-]{1,60}[:=]|$))+/y;
const REST = /[^"'\n]*/y;
/** YAML before a block: the block's indicator, and an anchor or a tag before it. */
const BLOCK = /(?:[&!][\w!.-]{0,60} {0,4})?(?:[|>][-+\d]{0,2})?[ \t\r]*(?:#.*)?$/y;
const BRACKET = /(?:map|&?[A-Za-z][\w.]{0,40})?(?=[[{])/y;
const SCHEME = /(?:bearer|basic|digest|negotiate|token)[ \t]{1,4}(?=[^\s"'])/iy;

/** The position of the value after a separator, without its quotes. */
function valueAfter(line: string, separator: number, name: Name, whole: boolean): Value {
  const operator = Math.max(separator + 1, endOf(OPERATOR, line, separator + 1));
  let from = operator;
  while (isBlank(line.charCodeAt(from))) from += 1;
  const spaced = from > operator;
  if (endOf(BLOCK, line, from) === line.length) return { from, to: from, open: true };
  const open = Math.max(from, endOf(QUOTE_PREFIX, line, from));
  const quoteEnd = endOf(QUOTE, line, open);
  if (quoteEnd !== -1) {
    const close = closingQuote(line, open, quoteEnd);
    return { from: quoteEnd, to: close === -1 ? line.length : close, open: false };
  }
  const bracket = endOf(BRACKET, line, from);
  if (bracket !== -1) {
    const close = closingBracket(line, bracket);
    if (close !== -1) return { from, to: close, open: false };
    const alone = line.slice(bracket + 1).trim() === '';
    return { from, to: line.length, open: alone };
  }
  if (HEADER.test(name.text) && line.charCodeAt(separator) === COLON) {
    // Up to the quote in which the header began; `'Cookie: a="b"'` has other quotes inside.
    const close = name.within === '' ? -1 : line.indexOf(name.within, from);
    return { from, to: close === -1 ? line.length : close, open: false };
  }
  const scheme = endOf(SCHEME, line, from);
  if (scheme !== -1) return { from, to: Math.max(scheme, endOf(WORD, line, scheme)), open: false };
  if (spaced && whole) {
    const rest = endOf(REST, line, from);
    return { from, to: trimmedEnd(line, name.within === '' ? line.length : rest), open: false };
  }
  return { from, to: Math.max(from, endOf(WORD, line, from)), open: false };
}

function trimmedEnd(line: string, end: number): number {
  let to = end;
  while (to > 0 && (isBlank(line.charCodeAt(to - 1)) || line[to - 1] === '\r')) to -= 1;
  return to;
}

/** The end of a match of a sticky pattern at `from`; -1 when it does not match there. */
function endOf(pattern: RegExp, line: string, from: number): number {
  pattern.lastIndex = from;
  return pattern.test(line) ? pattern.lastIndex : -1;
}

/** The start of the quote that closes the one from `open` to `from`, in a text that may be quoted itself; -1 without one. */
function closingQuote(line: string, open: number, from: number): number {
  const quote = line[from - 1] ?? '"';
  const level = from - 1 - open;
  for (let at = line.indexOf(quote, from); at !== -1; at = line.indexOf(quote, at + 1)) {
    let slashes = 0;
    while (slashes < 64 && at - slashes > from && line.charCodeAt(at - 1 - slashes) === BACKSLASH)
      slashes += 1;
    // Within single quotes a backslash has no special meaning; two quotes stand for one (YAML 1.2, 7.3.2).
    if (quote === "'" && level === 0) {
      if (line[at + 1] !== quote) return at;
      at += 1;
      continue;
    }
    if (slashes % (2 * (level + 1)) === level) return at - level;
    // The surrounding text ends here, and with it all text inside.
    if (slashes < level) return at - slashes;
  }
  return -1;
}

/** The position after the bracket that closes the one at `open`; brackets in quotes do not count; -1 without one. */
function closingBracket(line: string, open: number): number {
  let depth = 0;
  for (let at = open; at < line.length; at += 1) {
    const character = line[at];
    if (character === '{' || character === '[') depth += 1;
    else if (character === '}' || character === ']') {
      depth -= 1;
      if (depth === 0) return at + 1;
    } else if (character === '"') {
      let before = at;
      while (before > open && at - before < 64 && line.charCodeAt(before - 1) === BACKSLASH) before -= 1;
      const close = closingQuote(line, before, at + 1);
      if (close === -1) return -1;
      at = line.indexOf('"', close);
    }
  }
  return -1;
}

const FLAG =
  /(--?[A-Za-z][\w-]{0,80})(?:["']?[ \t]{1,8}|["'],[ \t]?)(?=["']?(?!--[A-Za-z]|-[A-Za-z](?:[\s=]|$))\S)/y;
/** An option with user and password, but not one with the numbers of user and group. */
const LOGIN =
  /(?:-u|-U|--user|--proxy-user)(?:["']?[ =\t]{1,8}|["'],[ \t]?)["']?(?!\d+:\d+(?:\D|$))[^\s:"']{0,100}["']?:["']?(?=[^\s"'])/y;

/** Takes out the value of a flag that begins at `at`; returns where to go on. */
function flagAt(line: string, at: number, cut: (from: number, to: number) => void): number {
  const before = line[at - 1];
  if (before !== undefined && !/[\s"'=(,[]/.test(before)) return at + 1;
  const login = endOf(LOGIN, line, at);
  FLAG.lastIndex = at;
  const flag = FLAG.exec(line);
  if (login === -1 && (flag === null || !isSecretName(flag[1] ?? ''))) return at + 1;
  const from = login === -1 ? FLAG.lastIndex : login;
  const quoteEnd = endOf(QUOTE, line, from);
  const close = quoteEnd === -1 ? -1 : closingQuote(line, from, quoteEnd);
  const start = quoteEnd === -1 ? from : quoteEnd;
  const to = quoteEnd === -1 ? endOf(/[^\s"']+/y, line, from) : close === -1 ? line.length : close;
  if (EMPTY.test(line.slice(start, to))) return to;
  cut(start, to);
  return to;
}

/** Characters: a shorter text is never a secret by its form alone. */
const SHORTEST = 16;
const LONG_WORD = /[A-Za-z0-9+/=_.~-]{20,}/g;
const URL_USER = /((?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,20}:\/\/)[^\s/"'<>]{1,512}@(?!sha256:)/gi;
/** The address of a database for Go's MySQL driver. */
const DSN = /((?<![\w.-])[\w.-]{1,64}:)[^\s@"']{1,256}(?=@(?:tcp|unix)\()/g;
const SCHEME_AND_TOKEN = /\b(bearer|basic)([ \t]{1,4})([A-Za-z0-9._~+/=-]{8,})/gi;
/** Tokens with a known beginning; without a digit such a text is a word. */
const ISSUED =
  /(?<![A-Za-z0-9])(?:(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16,20}(?![A-Za-z0-9])|(?=[^\s]{0,40}\d)(?:gh[oprsu]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|gl(?:pat|dt|rt|cbt|ptt|ft|imt|agent|oas|soat|ffct)-[\w.-]{20,}|xox[a-z][-.][\w.-]{10,}|xapp-\d-[\w-]{10,}|[sr]k[-_](?:[a-z]{2,10}[-_])?[\w-]{20,}|npm_[A-Za-z0-9]{20,}|dckr_[a-z]{3}_[\w-]{20,}|hv[bsr]\.[\w-]{20,}|AIza[\w-]{30,}|ya29\.[\w.-]{20,}|pypi-[\w-]{20,}|SG\.[\w.-]{20,}|dop_v1_[a-f0-9]{20,}|AGE-SECRET-KEY-1[A-Z0-9]{20,}))/g;
const JSON_WEB_TOKEN = /(?<![A-Za-z0-9])eyJ[\w-]{8,}\.[\w.-]+/g;
/** kubeadm's bootstrap tokens. */
const BOOTSTRAP = /(?<![A-Za-z0-9]|[A-Za-z0-9]\.)[a-z0-9]{6}\.[a-z0-9]{16}(?![A-Za-z0-9]|\.[A-Za-z0-9])/g;
/** AWS secret keys (40 characters), metadata tokens (56), session tokens, keys. */
const BASE64 = /[A-Za-z0-9+/_-]{40,}={0,2}/g;

/** A piece of a line without secrets that are recognised by their form. */
function byForm(piece: string, state: State): string {
  const cut = (kept = '') => {
    state.removed += 1;
    return `${kept}${REMOVED}`;
  };
  let text = piece;
  if (text.includes('@')) {
    if (text.includes('://')) text = text.replace(URL_USER, (_, scheme: string) => `${cut(scheme)}@`);
    if (text.includes('@tcp(') || text.includes('@unix('))
      text = text.replace(DSN, (_, user: string) => cut(user));
  }
  text = text.replace(SCHEME_AND_TOKEN, (all: string, scheme: string, blank: string, token: string) =>
    /\d|=$/.test(token) || (/[A-Z]/.test(token) && /[a-z]/.test(token)) ? cut(`${scheme}${blank}`) : all,
  );
  return text.replace(LONG_WORD, (word) =>
    word
      .replace(JSON_WEB_TOKEN, () => cut())
      .replace(ISSUED, () => cut())
      .replace(BOOTSTRAP, () => cut())
      .replace(BASE64, (run) => (isRandom(run) ? cut() : run)),
  );
}

/** An Ed25519 public key, with which signatures of versions are verified: it is public. Source: RFC 8410, section 4. */
const PUBLIC_KEY = /^MCowBQYDK2VwAyEA[A-Za-z0-9+/]{43}={0,2}$/;

/**
 * Digests in hexadecimal, paths and long names are no secrets: a random text mixes cases and digits. Each word of a path is
 * judged by itself.
 */
function isRandom(run: string): boolean {
  if (PUBLIC_KEY.test(run)) return false;
  if (run.startsWith('/')) return run.split(/[/_-]/).some((word) => word.length >= 20 && mixes(word));
  return mixes(run);
}

function mixes(run: string): boolean {
  return /[A-Z]/.test(run) && /[a-z]/.test(run) && /\d/.test(run);
}
