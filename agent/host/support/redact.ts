// Takes secrets out of text that leaves the machine. A second fence: what is collected is chosen so that it holds
// none, but a log holds whatever somebody has logged. In doubt it takes too much.

/** What stands in place of a secret. */
export const REMOVED = '[removed]';

/** Words in a name that make its value a secret. */
const SECRET_NAME =
  'passw(?:or)?d|passwd|passphrase|secret|token|credential|authorization|api[-_]?key|access[-_]?key|private[-_]?key|client[-_](?:key|certificate)|signature|cookie';

const privateKey = /-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)/g;
/** A key whose beginning was cut off: the lines of base64 before its end. */
const privateKeyTail = /(?:[^\n]*[A-Za-z0-9+/=]{40,}\s*\n)*[^\n]*-----END [A-Z ]*PRIVATE KEY-----/g;
const block = new RegExp(
  `^([^\\n]*?[\\w.-]*(?:${SECRET_NAME})[\\w.-]*["']?[ \\t]*:[ \\t]*)[|>][-+]?[ \\t]*\\n(?:[ \\t]+[^\\n]*(?:\\n|$))+`,
  'gim',
);
const authorization = /(\b(?:proxy-)?authorization["']?[ \t]*[:=][ \t]*)[^\n]+/gi;
const pair = new RegExp(
  `([\\w.-]*(?:${SECRET_NAME})[\\w.-]*\\\\?["']?[ \\t]*[:=][ \\t]*)(?![{[]|\\[removed\\])(\\\\?"(?:[^"\\\\\\n]|\\\\[^"\\n])*\\\\?"|'[^'\\n]*'|[^\\s,;}\\]"']+)`,
  'gi',
);
const flag = new RegExp(`(--?[\\w-]*(?:${SECRET_NAME})[\\w-]*[ =])([^\\s"']+)`, 'gi');
const dockerAuth = /(["']auth["'][ \t]*:[ \t]*)"[^"\n]*"/gi;
const bearer = /\b(bearer|basic)[ \t]+[A-Za-z0-9._~+/=-]{8,}/gi;
const urlUser = /([a-z][a-z0-9+.-]*:\/\/)[^/\s:@"']*:[^/\s@"']+@/gi;
const jsonWebToken = /\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*/g;
const awsKeyId = /\b(?:AKIA|ASIA)[A-Z0-9]{16,20}\b/g;
/** kubeadm's bootstrap tokens. */
const bootstrapToken = /\b[a-z0-9]{6}\.[a-z0-9]{16}\b/g;
/** Runs of base64: AWS secret keys (40), metadata tokens (56), session tokens, keys and certificates. */
const base64 = /(?<![A-Za-z0-9+/_-])[A-Za-z0-9+/_-]{40,}={0,2}/g;

/** The text without what looks like a secret, and how often something was taken out. */
export function redact(text: string): { text: string; removed: number } {
  let removed = 0;
  const cut = (kept: string) => {
    removed += 1;
    return `${kept}${REMOVED}`;
  };
  const result = text
    .replace(privateKey, () => cut(''))
    .replace(privateKeyTail, () => cut(''))
    .replace(block, (_, name: string) => `${cut(name)}\n`)
    .replace(authorization, (_, name: string) => cut(name))
    .replace(urlUser, (_, scheme: string) => `${cut(scheme)}@`)
    .replace(pair, (_, name: string) => cut(name))
    .replace(flag, (_, name: string) => cut(name))
    .replace(dockerAuth, (_, name: string) => cut(name))
    .replace(bearer, (_, scheme: string) => cut(`${scheme} `))
    .replace(jsonWebToken, () => cut(''))
    .replace(awsKeyId, () => cut(''))
    .replace(bootstrapToken, () => cut(''))
    .replace(base64, (run) => (looksRandom(run) ? cut('') : run));
  return { text: result, removed };
}

/** Digests in hexadecimal, paths and long names are no secrets; a random run mixes cases and digits. */
function looksRandom(run: string): boolean {
  return /[A-Z]/.test(run) && /[a-z]/.test(run) && /\d/.test(run);
}
