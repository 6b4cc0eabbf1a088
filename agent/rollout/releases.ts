// Releases: packing an archive, publishing a version, and listing the published ones.
import { mkdtempSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { FleetAws } from '../aws/fleet.ts';
import { type Archive, isVersion, parseRelease, RELEASES, type Release } from '../aws/release.ts';
import type { Signed } from '../aws/signature.ts';
import { checkFiles } from '../boot/version/manifest.ts';
import { LICENCES, unpack } from '../boot/version/unpack.ts';
import { must } from '../host/command.ts';
import { Failure, isFailure, messageOf } from '../messages/failure.ts';
import { bounds } from '../port/bounds.ts';
import { hasCode, isThere, readIfPresent, sha256Of } from '../port/fs.ts';
import { download } from '../port/net.ts';
import { architecture } from '../port/runtime.ts';

type Arch = 'x64' | 'arm64';

/** The parameters with the zones' versions stand below this path unless configured otherwise. */
const ZONES = '/eniboot/bundle';
const DOWNLOAD_MS = 10 * 60_000;
const UNPACK_MS = 60_000;

/**
 * Packs the files of a version, here and in `npm run build`. The same files give the same bytes, and the archive appears whole
 * or not at all. Throws BUNDLE_UNUSABLE when the files are not what the manifest says, and when the signal comes.
 */
export async function packBundle(
  folder: string,
  out: string | undefined,
  { tell = () => {}, signal }: { tell?: (what: string) => void; signal?: AbortSignal } = {},
): Promise<{ version: string; file: string; sha256: string }> {
  const manifest = manifestOf(readIfPresent(`${folder}/manifest.json`), folder);
  for (const one of manifest.files) {
    tell(`comparing ${one.path} with its digest`);
    const { sha256 } = await sha256Of(`${folder}/${one.path}`, signal).catch((error: unknown) => {
      if (!hasCode(error, 'ENOENT', 'EISDIR')) throw error;
      throw new Failure('BUNDLE_UNUSABLE', `${folder}/${one.path}, which its manifest names, is not there`, {
        path: one.path,
      });
    });
    if (sha256 !== one.sha256)
      throw new Failure('BUNDLE_UNUSABLE', `${folder}/${one.path} is not what its manifest says`, {
        path: one.path,
      });
  }
  const file = out ?? `eniboot-${manifest.version}-${manifest.arch ?? architecture}.tar.gz`;
  const licences = LICENCES.filter((name) => isThere(`${folder}/${name}`));
  const members = [...licences, 'manifest.json', ...manifest.files.map((one) => one.path)].sort();
  const partial = `${file}.tmp`;
  tell(`packing ${members.length} files of ${manifest.version}; the compression takes some seconds`);
  try {
    await must(
      'FILE_WRITE',
      'tar',
      [
        ...[
          '--create',
          '--owner=0',
          '--group=0',
          '--numeric-owner',
          '--format=ustar',
          '--sort=name',
          '--mtime=@0',
          // The modes of the build machine (umask, checkout, copy) do not get into the archive.
          '--mode=u=rwX,go=rX',
        ],
        '--use-compress-program=gzip --no-name -6',
        ...['--file', partial, '--directory', folder, '--', ...members],
      ],
      { timeoutMs: 120_000, ...(signal === undefined ? {} : { signal }) },
    );
    signal?.throwIfAborted();
    renameSync(partial, file);
    tell(`taking the digest of ${file}`);
  } finally {
    rmSync(partial, { force: true });
  }
  return { version: manifest.version, file, sha256: (await sha256Of(file)).sha256 };
}

/**
 * Publishes a version. Throws BUNDLE_UNUSABLE; BUNDLE_NOT_SERVED when an address serves nothing or another archive;
 * RELEASE_DIFFERS when the version is already published with other contents.
 */
export async function publishRelease(
  aws: FleetAws,
  archives: Record<Arch, { file: string; url: string } | undefined>,
  sign?: (what: Signed) => string,
): Promise<Release> {
  const found: { arch: Arch; version: string; archive: Archive }[] = [];
  for (const arch of ['x64', 'arm64'] as const) {
    const archive = archives[arch];
    if (archive === undefined) continue;
    const { file, url } = archive;
    const { version, arch: builtFor = arch } = await manifestIn(file);
    if (builtFor !== arch)
      throw new Failure('BUNDLE_UNUSABLE', `${file} is built for ${builtFor}, not for ${arch}`, { file });
    const { sha256 } = await sha256Of(file);
    await compareServed(url, sha256);
    const signature = sign?.({ version, arch, sha256 });
    found.push({ arch, version, archive: { url, sha256, signature } });
  }
  const versions = [...new Set(found.map((one) => one.version))];
  const [version = ''] = versions;
  if (versions.length !== 1)
    throw new Failure('RELEASE_DIFFERS', `the archives hold different versions: ${versions.join(', ')}`, {
      versions,
    });
  return makeKnown(aws, version, Object.fromEntries(found.map(({ arch, archive }) => [arch, archive])));
}

/**
 * CPUs may be published one after the other, or at the same time by different people. Parameter Store has no conditional write,
 * but returns the number of the written version: a writer that sees a gap reads the versions in between and adds their
 * contents.
 */
async function makeKnown(
  aws: FleetAws,
  version: string,
  found: Partial<Record<Arch, Archive>>,
): Promise<Release> {
  const name = `${RELEASES}/${version}`;
  const stored = await aws.readParameter(name);
  let known = stored === undefined ? undefined : readable(stored.value);
  let at = stored?.version ?? 0;
  let written = '';
  for (;;) {
    const release = withFound(known, version, found);
    try {
      refuseOtherContents(name, known, release);
    } catch (error) {
      // Contents that were there first stay, even where this write has replaced them.
      if (written !== '') await aws.writeParameter(name, JSON.stringify(known));
      throw error;
    }
    const text = JSON.stringify(release);
    if (text === written) return release;
    written = text;
    const now = await aws.writeParameter(name, text);
    for (let between = at + 1; between < now; between += 1) {
      const value = (await aws.readParameter(`${name}:${between}`))?.value;
      const other = value === undefined ? undefined : readable(value);
      if (other !== undefined) known = withFound(known, version, other);
    }
    if (now === at + 1) return release;
    at = now;
  }
}

/** A signature stays when a person without the key publishes the same archive again. */
function withFound(
  known: Release | undefined,
  version: string,
  found: Partial<Record<Arch, Archive | undefined>>,
): Release {
  const of = (arch: Arch) => {
    const [archive, before] = [found[arch], known?.[arch]];
    if (archive === undefined) return before;
    return { ...archive, signature: archive.signature ?? before?.signature };
  };
  return { version, x64: of('x64'), arm64: of('arm64') };
}

function refuseOtherContents(name: string, before: Release | undefined, now: Release): void {
  if (before === undefined) return;
  for (const arch of ['x64', 'arm64'] as const) {
    const [old, young] = [before[arch]?.sha256, now[arch]?.sha256];
    if (old !== undefined && old !== young)
      throw new Failure(
        'RELEASE_DIFFERS',
        `${before.version} is published for ${arch} with SHA-256 ${old}, not ${young ?? 'none'}`,
        { name },
      );
  }
}

/** undefined for a parameter that holds no release, or a damaged one: it cannot be rolled out. */
function readable(value: string): Release | undefined {
  try {
    return parseRelease(value);
  } catch {
    return undefined;
  }
}

/** `parameter`: its name. Clusters with their own parameters have them one level further down. */
export async function listReleases(
  aws: FleetAws,
): Promise<{ releases: Release[]; zones: { zoneId: string; parameter: string; version: string }[] }> {
  const releases = (await aws.listParameters(RELEASES)).flatMap(({ value }) => readable(value) ?? []);
  const zones = (await aws.listParameters(ZONES, 'all levels')).flatMap(({ name, value }) => {
    const release = readable(value);
    return release === undefined
      ? []
      : [{ zoneId: basename(name), parameter: name, version: release.version }];
  });
  return { releases, zones };
}

/** The manifest of an archive that nodes would accept. */
async function manifestIn(file: string): Promise<ReturnType<typeof manifestOf>> {
  const folder = mkdtempSync(join(tmpdir(), 'eniboot-publish-'));
  try {
    const manifest = await unpack(file, folder, UNPACK_MS);
    await checkFiles(folder, manifest, sha256Of);
    return manifestOf(readIfPresent(`${folder}/manifest.json`), file);
  } catch (error) {
    if (!isFailure(error, 'BUNDLE_REFUSED', 'MANIFEST_MISSING', 'BAD_DIGEST')) throw error;
    throw new Failure(
      'BUNDLE_UNUSABLE',
      `${file}: ${error.message.replaceAll(`${folder}/`, '')}`,
      { file },
      error,
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function compareServed(url: string, sha256: string): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'eniboot-publish-'));
  try {
    const served = await download(url, join(folder, 'archive'), {
      timeoutMs: DOWNLOAD_MS,
      maxBytes: bounds.archiveBytes,
    }).catch((error: unknown) => {
      throw new Failure('BUNDLE_NOT_SERVED', `${url}: ${messageOf(error)}`, { url });
    });
    if (served !== sha256)
      throw new Failure(
        'BUNDLE_NOT_SERVED',
        `${url} serves an archive with SHA-256 ${served}, not ${sha256}`,
        { url },
      );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function manifestOf(
  text: string | undefined,
  where: string,
): { version: string; arch?: string; files: { path: string; sha256: string }[] } {
  try {
    const value = JSON.parse(text ?? '') as { version?: unknown; files?: unknown; arch?: string };
    if (typeof value.version === 'string' && isVersion(value.version) && Array.isArray(value.files))
      return value as ReturnType<typeof manifestOf>;
  } catch {
    // Text that is no JSON is refused like one without the required fields.
  }
  throw new Failure('BUNDLE_UNUSABLE', `${where} has no manifest.json that can be read`, { where });
}
