// Takes secrets out of text that leaves the machine. A second fence: what is collected is chosen so that it holds
// none, but a log holds whatever somebody has logged. In doubt it takes too much.

/** What stands in place of a secret. */
const REMOVED = '[removed]';

/** Words in a name that make its value a secret. */
const SECRET_NAME =
  'passw(?:or)?d|passwd|passphrase|(?<![a-z])(?:pass|pwd|sig)(?![a-z])|secret|token|credential|authorization|api[-_]?key|access[-_]?key|private[-_]?key|client[-_](?:key|certificate)|signature|cookie';

// No pattern may begin with an unbounded run: a log without line ends would take for ever.
const privateKey =
  /-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]{0,20}PRIVATE KEY-----|$)/g;
const keyEnd = /-----END [A-Z ]{0,20}PRIVATE KEY-----/;
const block = new RegExp(
  `((?:${SECRET_NAME})[\\w.-]{0,64}["']?[ \\t]*:[ \\t]*)[|>][-+]?[ \\t]*\\n(?:[ \\t]+[^\\n]*(?:\\n|$))+`,
  'gi',
);
const authorization = /(\b(?:proxy-)?authorization["']?[ \t]*[:=][ \t]*)[^\n]+/gi;
/** Quoted; quoted in a text that is quoted itself; or up to what ends a value. */
const VALUE = `"(?:[^"\\\\\\n]|\\\\.)*"|\\\\"(?:\\\\\\\\\\\\"|[^"\\\\\\n]|\\\\[^"\\n])*\\\\"|'[^'\\n]*'|[^\\s,;}\\]"']+`;
const NAME = `(?:${SECRET_NAME})[\\w.-]{0,64}\\\\?["']?`;
const pair = new RegExp(`(${NAME}[ \\t]*[:=][ \\t]*)(?![{[]|\\[removed\\])(${VALUE})`, 'gi');
/** As configuration files have it: all of the line is the value. */
const spaced = new RegExp(
  `(${NAME}(?:[ \\t]+[:=][ \\t]*|[:=][ \\t]+))(?![{["'\\\\\\s]|\\[removed\\])[^\\n,;}\\]"']+`,
  'gi',
);
const flag = new RegExp(`(--?[\\w-]{0,40}(?:${SECRET_NAME})[\\w-]{0,40}[ =])([^\\s"']+)`, 'gi');
const dockerAuth = /(["']auth["'][ \t]*:[ \t]*)"[^"\n]*"/gi;
const bearer = /\b(bearer|basic)[ \t]+[A-Za-z0-9._~+/=-]{8,}/gi;
const urlUser = /(\b[a-z][a-z0-9+.-]{0,20}:\/\/)[^/\s:@"']{0,256}(?::[^/\s@"']{1,4096})?@/gi;
const jsonWebToken = /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g;
const awsKeyId = /\b(?:AKIA|ASIA)[A-Z0-9]{16,20}\b/g;
/** Of GitHub and Slack, by their beginnings. */
const prefixed = /\b(?:gh[pousr]_[A-Za-z0-9]{20,}|xox[abeprs]-[A-Za-z0-9-]{10,})/g;
/** kubeadm's bootstrap tokens. */
const bootstrapToken = /\b[a-z0-9]{6}\.[a-z0-9]{16}\b/g;
/** Runs of base64: AWS secret keys (40), metadata tokens (56), session tokens, keys and certificates. */
const base64 = /[A-Za-z0-9+/_-]{40,}={0,2}/g;
/** Characters in a line; a longer one is no text for people, and patterns would take long over it. */
const LINE_LIMIT = 200_000;

/** The text without what looks like a secret, and how often something was taken out. */
export function redact(text: string): { text: string; removed: number } {
  let removed = 0;
  const cut = (kept: string) => {
    removed += 1;
    return `${kept}${REMOVED}`;
  };
  const result = withoutKeyTails(
    withoutLongLines(text, cut).replace(privateKey, () => cut('')),
    () => cut(''),
  )
    .replace(block, (_, name: string) => `${cut(name)}\n`)
    .replace(authorization, (_, name: string) => cut(name))
    .replace(urlUser, (_, scheme: string) => `${cut(scheme)}@`)
    .replace(spaced, (_, name: string) => cut(name))
    .replace(pair, (_, name: string) => cut(name))
    .replace(flag, (_, name: string) => cut(name))
    .replace(dockerAuth, (_, name: string) => cut(name))
    .replace(bearer, (_, scheme: string) => cut(`${scheme} `))
    .replace(jsonWebToken, () => cut(''))
    .replace(awsKeyId, () => cut(''))
    .replace(prefixed, () => cut(''))
    .replace(bootstrapToken, () => cut(''))
    .replace(base64, (run) => (looksRandom(run) ? cut('') : run));
  return { text: result, removed };
}

function withoutLongLines(text: string, cut: (kept: string) => string): string {
  return text
    .split('\n')
    .map((line) => (line.length > LINE_LIMIT ? cut(`a line of ${line.length} characters: `) : line))
    .join('\n');
}

/** A private key whose beginning is missing: the lines of base64 before its end. */
function withoutKeyTails(text: string, cut: () => string): string {
  if (!keyEnd.test(text)) return text;
  const kept: string[] = [];
  for (const line of text.split('\n')) {
    if (!keyEnd.test(line)) {
      kept.push(line);
      continue;
    }
    while (/[A-Za-z0-9+/=]{40,}\s*$/.test(kept.at(-1) ?? '')) kept.pop();
    kept.push(cut());
  }
  return kept.join('\n');
}

/** Digests in hexadecimal, paths and long names are no secrets; a random run mixes cases and digits. */
function looksRandom(run: string): boolean {
  return /[A-Z]/.test(run) && /[a-z]/.test(run) && /\d/.test(run);
}
