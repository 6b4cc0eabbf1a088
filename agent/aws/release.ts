// A release as Parameter Store holds it, the same text in the parameter of a zone (what its nodes should run) and in that
// of the release itself: `{ "version": "1.2.3", "x64": { "url": "https://…", "sha256": "…" }, "arm64": { … } }`.

export interface Archive {
  url: string;
  /** Of the archive, 64 hexadecimal digits. */
  sha256: string;
}

export interface Release {
  version: string;
  x64: Archive | undefined;
  arm64: Archive | undefined;
}

/** Where `eniboot bundle publish` puts releases, one parameter each. */
export const RELEASES = '/eniboot/releases';

const VERSION = /^\d+\.\d+\.\d[\w.-]*$/;
const SHA256 = /^[0-9a-f]{64}$/;

/** Whether a text can be the name of a version, and of its folder. */
export function isVersion(name: string): boolean {
  return VERSION.test(name);
}

/** Throws an Error that says what the text lacks. */
export function parseRelease(text: string): Release {
  const value = objectOf(text);
  const version = value?.['version'];
  if (typeof version !== 'string' || !isVersion(version)) throw new Error('names no version');
  return { version, x64: archiveOf(value?.['x64']), arm64: archiveOf(value?.['arm64']) };
}

function archiveOf(value: unknown): Archive | undefined {
  const { url, sha256 } = objectOf(value) ?? {};
  if (typeof url !== 'string' || !/^https?:\/\//.test(url)) return undefined;
  return typeof sha256 === 'string' && SHA256.test(sha256) ? { url, sha256 } : undefined;
}

function objectOf(value: unknown): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = typeof value === 'string' ? JSON.parse(value) : value;
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
