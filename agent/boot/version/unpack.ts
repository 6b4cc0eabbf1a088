// Unpacks a version from its archive. A server of archives, or a writer of the parameter that names one, is not trusted with
// the node's disk: only regular files get onto it, with modes that eniboot sets, and no more bytes than a version needs.
import { closeSync, openSync, writeSync } from 'node:fs';
import { Failure } from '../../messages/failure.ts';
import { bounds } from '../../port/bounds.ts';
import { GunzipError, gunzipFile } from '../../port/gunzip.ts';
import { type Manifest, readManifest } from './manifest.ts';

/** Unpacked beside the files that a manifest names: a copy that is passed on must include the licences. */
export const LICENCES = ['LICENSE', 'NOTICE'];

const BLOCK = 512;
/** Source: POSIX pax(1), "ustar Interchange Format", typeflag. */
const KINDS: Record<string, string> = {
  '1': 'a hard link',
  '2': 'a symbolic link',
  '3': 'a character device',
  '4': 'a block device',
  '5': 'a folder',
  '6': 'a FIFO',
};
/** The set-user-ID, set-group-ID and sticky bits. */
const SPECIAL_BITS = 0o7000;

/**
 * Unpacks a gzipped tar archive into an empty folder: the files that its manifest names, the manifest, the licences. It does
 * not look at their contents. When it throws, the caller removes the folder.
 *
 * @throws BUNDLE_REFUSED, MANIFEST_MISSING, or an error when the time is over or the disk fails.
 */
export async function unpack(archive: string, folder: string, timeoutMs: number): Promise<Manifest> {
  const until = performance.now() + timeoutMs;
  const members = new Members(archive, folder);
  try {
    for await (const piece of gunzipFile(archive)) {
      if (performance.now() > until) throw new Error(`the archive was not unpacked within ${timeoutMs} ms`);
      if (members.take(piece)) break;
    }
  } catch (error) {
    if (error instanceof GunzipError) throw refused(archive, `it is no whole gzip: ${error.message}`);
    throw error;
  } finally {
    members.close();
  }
  if (!members.ended) throw refused(archive, 'it ends in the middle');
  const manifest = readManifest(folder);
  const known = new Set([...LICENCES, 'manifest.json', ...manifest.files.map((file) => file.path)]);
  for (const name of members.names)
    if (!known.has(name)) throw refused(archive, `${name} is not in its manifest`);
  return manifest;
}

/** Writes the archive's members to the folder as their bytes arrive. */
class Members {
  readonly names = new Set<string>();
  /** The end of the archive was seen: a block of zeros. */
  ended = false;
  #bytes = 0;
  #header = Buffer.alloc(0);
  #open: { fd: number; left: number; padding: number } | undefined;
  readonly #archive: string;
  readonly #folder: string;

  constructor(archive: string, folder: string) {
    this.#archive = archive;
    this.#folder = folder;
  }

  /** Returns whether the archive is over; what follows its end is not looked at. */
  take(piece: Buffer): boolean {
    for (let rest = piece; rest.length > 0; ) {
      if (this.#open !== undefined) {
        const contents = rest.subarray(0, this.#open.left);
        for (let at = 0; at < contents.length; ) at += writeSync(this.#open.fd, contents, at);
        this.#open.left -= contents.length;
        rest = rest.subarray(contents.length);
        const padding = rest.subarray(0, this.#open.padding);
        this.#open.padding -= padding.length;
        rest = rest.subarray(padding.length);
        if (this.#open.left + this.#open.padding === 0) this.close();
        continue;
      }
      const more = rest.subarray(0, BLOCK - this.#header.length);
      this.#header = Buffer.concat([this.#header, more]);
      rest = rest.subarray(more.length);
      if (this.#header.length < BLOCK) continue;
      const header = this.#header;
      this.#header = Buffer.alloc(0);
      if (header.every((byte) => byte === 0)) {
        this.ended = true;
        return true;
      }
      this.#begin(header);
    }
    return false;
  }

  close(): void {
    if (this.#open !== undefined) closeSync(this.#open.fd);
    this.#open = undefined;
  }

  #begin(header: Buffer): void {
    const { name, mode, size, kind } = this.#parse(header);
    // The folder itself, as `tar .` packs it. Other folders are refused: all files of a version are in one folder.
    if (kind === '5' && name === '') return;
    if (kind !== '0' && kind !== '\0')
      this.#refuse(`${name} is ${KINDS[kind] ?? 'of an unknown kind'}, not a regular file`);
    if (!/^[A-Za-z0-9][\w.-]*$/.test(name)) this.#refuse(`${JSON.stringify(name)} is no plain file name`);
    if ((mode & SPECIAL_BITS) !== 0)
      this.#refuse(`${name} has mode ${mode.toString(8)}, with a set-user-ID, set-group-ID or sticky bit`);
    if (this.names.has(name)) this.#refuse(`${name} is in it twice`);
    this.names.add(name);
    this.#bytes += size;
    if (size > bounds.bundleFileBytes)
      this.#refuse(`${name} unpacks to ${size} bytes, over ${bounds.bundleFileBytes}`);
    if (this.#bytes > bounds.bundleBytes) this.#refuse(`it unpacks to over ${bounds.bundleBytes} bytes`);
    if (this.names.size > bounds.bundleFiles) this.#refuse(`it holds over ${bounds.bundleFiles} files`);
    const fd = openSync(`${this.#folder}/${name}`, 'wx', (mode & 0o111) === 0 ? 0o644 : 0o755);
    this.#open = { fd, left: size, padding: (BLOCK - (size % BLOCK)) % BLOCK };
    if (size === 0) this.close();
  }

  /**
   * Source of the offsets: POSIX pax(1), "ustar Interchange Format". The prefix field is not read, since a version's names are
   * short.
   */
  #parse(header: Buffer): { name: string; mode: number; size: number; kind: string } {
    const text = (from: number, length: number) =>
      header.toString('latin1', from, from + length).split('\0', 1)[0] ?? '';
    const octal = (from: number, length: number) => {
      const digits = text(from, length).trim();
      if (!/^[0-7]{1,11}$/.test(digits)) this.#refuse('it is no tar archive');
      return Number.parseInt(digits, 8);
    };
    // In the checksum, the checksum's own field counts as spaces.
    const sum = header.reduce((all, byte, at) => all + (at >= 148 && at < 156 ? 0x20 : byte), 0);
    if (octal(148, 8) !== sum) this.#refuse('it is no tar archive');
    const name = text(0, 100).replace(/^(\.\/+)+/, '');
    return {
      name: text(257, 6) === 'ustar' && text(345, 155) !== '' ? `${text(345, 155)}/${name}` : name,
      mode: octal(100, 8),
      size: octal(124, 12),
      kind: header.toString('latin1', 156, 157),
    };
  }

  #refuse(why: string): never {
    throw refused(this.#archive, why);
  }
}

function refused(archive: string, why: string): Failure {
  return new Failure('BUNDLE_REFUSED', `the archive is not unpacked: ${why}`, { archive });
}
