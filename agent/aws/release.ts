// A release in Parameter Store. The parameter of a zone (what its nodes should run) and the parameter of the release itself
// hold the same text: `{ "version": "1.2.3", "x64": { "url": "https://…", "sha256": "…", "signature": "…" }, "arm64": { … } }`.

export interface Archive {
  url: string;
  /** SHA-256 of the archive, 64 hexadecimal digits. */
  sha256: string;
  /** Signature by one of the operator's keys (signature.ts); undefined when it was published without one. */
  signature?: string | undefined;
}

export interface Release {
  version: string;
  x64: Archive | undefined;
  arm64: Archive | undefined;
}

/** `eniboot bundle publish` writes releases below this path, one parameter each. */
export const RELEASES = '/eniboot/releases';

const VERSION = /^\d+\.\d+\.\d[\w.-]*$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Whether a text can be the name of a version, and of its folder. */
export function isVersion(name: string): boolean {
  return VERSION.test(name);
}

/** Whether a version comes before another: by its numbers, then `1.2.0-rc.1` before `1.2.0` before `1.2.0.1`. */
export function isOlder(version: string, than: string): boolean {
  const [a, b] = [sortable(version), sortable(than)];
  for (let at = 0; at < Math.max(a.length, b.length); at += 1) {
    const [one, other] = [a[at] ?? 0, b[at] ?? 0];
    if (one === other) continue;
    return typeof one === typeof other ? one < other : typeof one === 'number';
  }
  return false;
}

/** The numbers of a version, the kind of the suffix (-1 a pre-release, 0 none, 1 another), and the parts of the suffix. */
function sortable(version: string): (number | string)[] {
  const [numbers = '', major, minor, patch] = /^(\d+)\.(\d+)\.(\d+)/.exec(version) ?? [];
  const addition = version.slice(numbers.length);
  const parts = addition.split(/[.-]/).filter((part) => part !== '');
  const kind = addition === '' ? 0 : addition.startsWith('-') ? -1 : 1;
  return [
    ...[major, minor, patch].map(Number),
    kind,
    ...parts.map((part) => (/^\d+$/.test(part) ? Number(part) : part)),
  ];
}

/** Throws an Error that says what is missing in the text. */
export function parseRelease(text: string): Release {
  const value = objectOf(text);
  const version = value?.['version'];
  if (typeof version !== 'string' || !isVersion(version)) throw new Error('names no version');
  return { version, x64: archiveOf(value?.['x64']), arm64: archiveOf(value?.['arm64']) };
}

function archiveOf(value: unknown): Archive | undefined {
  const { url, sha256, signature } = objectOf(value) ?? {};
  if (typeof url !== 'string' || !/^https?:\/\//.test(url)) return undefined;
  if (typeof sha256 !== 'string' || !SHA256.test(sha256)) return undefined;
  return typeof signature === 'string' ? { url, sha256, signature } : { url, sha256 };
}

function objectOf(value: unknown): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = typeof value === 'string' ? JSON.parse(value) : value;
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
