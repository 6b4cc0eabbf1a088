// The zone's bundle: which version this node should run stands in a parameter. A node that is behind stages
// that version beside its own and hands over to it; whatever goes wrong on the way, it comes up on the version
// it has and says that it is behind. Reading and staging are two steps: looking at a node downloads nothing.
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { type Archive, isOlder, parseRelease, type Release } from '../aws/release.ts';
import { isSignedBy } from '../aws/signature.ts';
import { type ReadParameter, readVersioned } from '../aws/ssm.ts';
import type { Config } from '../config/schema.ts';
import { must } from '../host/command.ts';
import type { Digest } from '../host/digest.ts';
import { takeLock } from '../host/lock.ts';
import { LIBEXEC_DIR } from '../host/names.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { bounds } from '../port/bounds.ts';
import type { Clock } from '../port/clock.ts';
import { run } from '../port/exec.ts';
import { listIfPresent, readIfPresent, sha256Of, syncDirectory, writeAtomic } from '../port/fs.ts';
import { download } from '../port/net.ts';
import { architecture } from '../port/runtime.ts';
import { checkFiles, readManifest } from './manifest.ts';
import { type Boot, nodeOf } from './phase.ts';
import { isAhead, readPin } from './pin.ts';
import { unpack } from './unpack.ts';
import { readLinks, runningFolder, STAGING, VERSIONS_LOCK } from './versions.ts';

interface Wanted extends Archive {
  version: string;
}

export interface BundleState {
  running: string;
  /** The zone's version; undefined when there is no parameter to follow or it could not be read. */
  wanted: string | undefined;
  /** Why this node does not run what the zone wants. */
  reason: string | undefined;
  /** A rollout has put the running version here, and the zone's parameter has said nothing new since. */
  ahead: boolean;
  /** What is to be staged; gone once it was tried. */
  source: Source | undefined;
  /** Folder of a version that is staged, verified and not the running one. */
  staged: string | undefined;
}

/** A version to stage, and the boot-clock milliseconds at which all of following must be over. */
export type Source = Wanted & { until: number };

/** For the parameter, download, unpacking and verification together. */
const FOLLOW_MS = 40_000;
/** A boot goes on without the zone's version sooner than it waits for an update that is under way. */
const STAGING_PATIENCE_MS = 5_000;
/** Left of the phase, and of the boot, to go on without it. */
const RESERVE_MS = 15_000;

/** Reads what the zone wants and whether this node is behind. Never throws: being behind is not a failure. */
export async function readBundle(boot: Boot, running: string): Promise<BundleState> {
  const state: BundleState = {
    running,
    wanted: undefined,
    reason: undefined,
    ahead: false,
    source: undefined,
    staged: undefined,
  };
  const { bundle } = boot.config;
  if (bundle === undefined) return state;
  const until = Math.min(boot.until() - RESERVE_MS, boot.clock.bootMs() + FOLLOW_MS);
  try {
    const { instanceId, zoneId } = nodeOf(boot).identity;
    const name = bundle.parameter.replaceAll('{zone-id}', zoneId);
    const zoneSays = await boot.waiting(
      within(until, boot.clock, `parameter ${name} was not read in time`, () => readZone(boot, name)),
    );
    const wanted = parseWanted(name, zoneSays.value);
    state.wanted = wanted.version;
    state.ahead = isAhead(readPin(instanceId), running, zoneSays);
    if (wanted.version === running) refuseOtherBytes(wanted);
    else if (state.ahead) return state;
    else if (boot.handedOver)
      throw new Error(
        `this boot was handed to ${running}; version ${wanted.version} has to wait for the next`,
      );
    else state.source = { ...wanted, until };
    return state;
  } catch (error) {
    return behind(boot, state, error);
  }
}

/** Brings the zone's version onto the disk. Never throws: being behind is not a failure. */
export async function stageBundle(boot: Boot, state: BundleState, source: Source): Promise<BundleState> {
  const tried = { ...state, source: undefined };
  let lock: { release: () => void } | undefined;
  try {
    lock = await boot.waiting(takeLock(VERSIONS_LOCK, boot.clock, STAGING_PATIENCE_MS));
    return { ...tried, staged: await boot.waiting(stage(source, boot.config.bundle, boot.clock)) };
  } catch (error) {
    return behind(boot, tried, error);
  } finally {
    lock?.release();
  }
}

function behind(boot: Boot, state: BundleState, error: unknown): BundleState {
  const message = error instanceof Error ? error.message : String(error);
  const reason = isFailure(error) ? `${error.code}: ${message}` : message;
  boot.log.warn("the zone's bundle is not followed", {
    parameter: boot.config.bundle?.parameter,
    wanted: state.wanted,
    running: state.running,
    reason,
  });
  return { ...state, reason };
}

async function readZone(boot: Boot, name: string): Promise<ReadParameter> {
  const { region } = nodeOf(boot).identity;
  const found = await readVersioned([name], {
    region,
    endpoint: boot.config.aws.endpoints.ssm,
    imds: boot.imds,
  });
  const parameter = found.get(name);
  if (parameter === undefined) throw new Error(`parameter ${name} does not exist`);
  return parameter;
}

/** What a parameter names for this machine. Throws an Error that says what it lacks. */
export function parseWanted(name: string, text: string): Wanted {
  let release: Release;
  try {
    release = parseRelease(text);
  } catch (error) {
    throw new Error(`parameter ${name} ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  const archive = release[architecture];
  if (archive === undefined) throw new Error(`parameter ${name} names no url and sha256 for ${architecture}`);
  return { version: release.version, ...archive };
}

/**
 * The running version is never replaced under itself. One without a record came with the image: what its archive was
 * is not known, and its files are checked against its manifest anyway.
 */
function refuseOtherBytes(wanted: Wanted): void {
  const sha256 = archiveOf(runningFolder());
  if (sha256 === undefined || sha256 === wanted.sha256) return;
  throw new Error(
    `version ${wanted.version} is running, from an archive with SHA-256 ${sha256}, not ${wanted.sha256}: ` +
      'other contents need another version',
  );
}

/**
 * Downloads, verifies and unpacks beside the running version; the folder appears whole or not at all. Its path.
 *
 * @param demands what the node's configuration demands of a version
 */
export async function stage(wanted: Source, demands: Config['bundle'], clock: Clock): Promise<string> {
  refuseUnsigned(wanted, demands?.keys ?? []);
  refuseTooOld(wanted, demands?.lowest);
  const folder = `${LIBEXEC_DIR}/${wanted.version}`;
  // What an earlier run could not remove, or had no time to.
  rmSync(STAGING, { recursive: true, force: true });
  if (archiveOf(folder) === wanted.sha256 && (await isIntact(folder, wanted, clock))) return folder;
  mkdirSync(STAGING, { recursive: true, mode: 0o755 });
  try {
    const archive = `${STAGING}/bundle.tar.gz`;
    const sha256 = await download(wanted.url, archive, {
      timeoutMs: left(wanted, clock),
      maxBytes: bounds.archiveBytes,
    });
    if (sha256 !== wanted.sha256) throw new Error(`the bundle's SHA-256 is ${sha256}, not ${wanted.sha256}`);
    const unpacked = `${STAGING}/${wanted.version}`;
    mkdirSync(unpacked, { mode: 0o755 });
    await unpack(archive, unpacked, left(wanted, clock));
    const files = await verifyStaged(unpacked, wanted, clock);
    writeAtomic(recordOf(unpacked), `${sha256}\n`);
    // Labels before the switch: a file that keeps a temporary folder's label is not executed (203/EXEC).
    await run('restorecon', ['-R', unpacked], { timeoutMs: left(wanted, clock) });
    // On the disk before its name is: after a power cut, systemd starts whatever `current` leads to.
    await must('FILE_WRITE', 'sync', ['--', ...files, unpacked], { timeoutMs: left(wanted, clock) });
    // Not the running version: that one is never staged.
    if (listIfPresent(LIBEXEC_DIR).includes(wanted.version)) renameSync(folder, `${STAGING}/replaced`);
    renameSync(unpacked, folder);
    syncDirectory(LIBEXEC_DIR);
    return folder;
  } finally {
    try {
      rmSync(STAGING, { recursive: true, force: true });
    } catch {
      // The version is there, or why it is not is being thrown. collectVersions() and the next staging try again.
    }
  }
}

/** Before anything is downloaded: the digest that is signed is then the one that the archive must have. */
function refuseUnsigned({ version, sha256, signature }: Wanted, keys: readonly string[]): void {
  if (keys.length === 0) return;
  if (signature === undefined)
    throw new Failure(
      'BUNDLE_UNSIGNED',
      `version ${version} was published without a signature for ${architecture}`,
      {
        version,
      },
    );
  if (!isSignedBy(keys, { version, arch: architecture, sha256 }, signature))
    throw new Failure(
      'BUNDLE_UNSIGNED',
      `none of the ${keys.length} keys of bundle.keys has signed version ${version} for ${architecture} with SHA-256 ${sha256}`,
      { version, sha256 },
    );
}

/** An old version is signed as well, with the faults that later ones mend. The one before is the way back. */
function refuseTooOld({ version }: Wanted, lowest: string | undefined): void {
  if (lowest === undefined || !isOlder(version, lowest) || readLinks().previous === version) return;
  throw new Failure('BUNDLE_TOO_OLD', `version ${version} is below ${lowest}, the lowest of bundle.lowest`, {
    version,
    lowest,
  });
}

/** The SHA-256 of the archive a version was unpacked from; written before the folder gets its name. */
export function archiveOf(folder: string): string | undefined {
  return readIfPresent(recordOf(folder))?.trim();
}

function recordOf(folder: string): string {
  return `${folder}/bundle.sha256`;
}

async function isIntact(folder: string, wanted: Source, clock: Clock): Promise<boolean> {
  try {
    await verifyStaged(folder, wanted, clock);
    return true;
  } catch (error) {
    if (error instanceof Failure && (error.code === 'BAD_DIGEST' || error.code === 'MANIFEST_MISSING'))
      return false;
    throw error;
  }
}

/** Paths of the version's files. @throws BAD_DIGEST, MANIFEST_MISSING, or an error when the time is over. */
async function verifyStaged(folder: string, wanted: Source, clock: Clock): Promise<string[]> {
  const manifest = readManifest(folder);
  if (manifest.version !== wanted.version) {
    throw new Failure('BAD_DIGEST', `the bundle holds version ${manifest.version}, not ${wanted.version}`, {
      folder,
    });
  }
  // Not the digests of this boot: those are kept by path, and what stood at this path may just have changed.
  const hash = (path: string): Promise<Digest> => sha256Of(path, AbortSignal.timeout(left(wanted, clock)));
  const digests = await checkFiles(folder, manifest, hash);
  return [...digests.map((file) => file.path), `${folder}/manifest.json`];
}

/** Milliseconds left to follow the zone. */
function left(source: { until: number }, clock: Clock): number {
  const ms = source.until - clock.bootMs();
  if (ms <= 0) throw new Error('no time is left in this boot to follow the zone');
  return ms;
}

/** What it waits for goes on when the time is over, but nobody waits any more. */
async function within<T>(until: number, clock: Clock, reason: string, work: () => Promise<T>): Promise<T> {
  const ms = left({ until }, clock);
  const done = new AbortController();
  const timeout = clock.sleep(ms, done.signal).then(() => {
    throw new Error(reason);
  });
  try {
    return await Promise.race([work(), timeout]);
  } finally {
    done.abort();
  }
}
