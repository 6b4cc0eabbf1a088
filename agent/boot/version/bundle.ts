// The zone's bundle: a parameter says which version this node should run. A node that is behind stages that version beside its
// own and hands over to it. Whatever fails on the way, the node comes up on its present version and says that it is behind.
// Reading and staging are two steps: looking at a node downloads nothing.
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { isOlder, parseRelease, type Release } from '../../aws/release.ts';
import { isSignedBy } from '../../aws/signature.ts';
import { type ReadParameter, readVersioned } from '../../aws/ssm.ts';
import type { Config } from '../../config/schema.ts';
import { must } from '../../host/command.ts';
import type { Digest } from '../../host/digest.ts';
import { type Lock, takeLock } from '../../host/lock.ts';
import { LIBEXEC_DIR } from '../../host/names.ts';
import { Failure, isFailure, messageOf } from '../../messages/failure.ts';
import { bounds } from '../../port/bounds.ts';
import type { Clock } from '../../port/clock.ts';
import { run } from '../../port/exec.ts';
import { listIfPresent, readIfPresent, sha256Of, syncDirectory, writeAtomic } from '../../port/fs.ts';
import { download } from '../../port/net.ts';
import { architecture } from '../../port/runtime.ts';
import type { Context } from '../context.ts';
import type { BundleState, Source, Wanted } from '../facts/bundle-state.ts';
import type { NodeFacts } from '../facts/facts.ts';
import { checkFiles, readManifest } from './manifest.ts';
import { isAhead, readPin } from './pin.ts';
import { unpack } from './unpack.ts';
import { readLinks, runningFolder, STAGING, VERSIONS_LOCK } from './versions.ts';

/** For the parameter, download, unpacking and verification together. */
const FOLLOW_MS = 40_000;
/** A boot waits only this long for another update that holds the lock; then it goes on without the zone's version. */
const STAGING_PATIENCE_MS = 5_000;
/** Kept of the phase's time and of the boot's, to go on without the zone's version. */
const RESERVE_MS = 15_000;

/** Reads which version the zone wants and whether this node is behind. Never throws: being behind is not a failure. */
export async function readBundle(context: Context, node: NodeFacts, running: string): Promise<BundleState> {
  const state: BundleState = { running, ahead: false };
  const { bundle } = node.config;
  if (bundle === undefined) return state;
  const until = Math.min(context.until() - RESERVE_MS, context.clock.bootMs() + FOLLOW_MS);
  try {
    const { instanceId, zoneId } = node.identity;
    const name = bundle.parameter.replaceAll('{zone-id}', zoneId);
    const zoneSays = await context.waiting(
      within(until, context.clock, `parameter ${name} was not read in time`, () =>
        readZone(context, node, name),
      ),
    );
    const wanted = parseWanted(name, zoneSays.value);
    state.wanted = wanted.version;
    state.ahead = isAhead(readPin(instanceId), running, zoneSays);
    if (wanted.version === running) refuseOtherBytes(wanted);
    else if (state.ahead) return state;
    else if (context.mode.handedOver === true)
      throw new Error(
        `this boot was handed to ${running}; version ${wanted.version} has to wait for the next`,
      );
    else state.source = { ...wanted, until };
    return state;
  } catch (error) {
    return behind(context, node, state, error);
  }
}

/** Brings the zone's version onto the disk. Never throws: being behind is not a failure. */
export async function stageBundle(
  context: Context,
  node: NodeFacts,
  state: BundleState,
  source: Source,
): Promise<BundleState> {
  const tried = { ...state, source: undefined };
  let lock: Lock | undefined;
  try {
    lock = await context.waiting(takeLock(VERSIONS_LOCK, context.clock, STAGING_PATIENCE_MS));
    return { ...tried, staged: await context.waiting(stage(source, node.config.bundle, context.clock)) };
  } catch (error) {
    return behind(context, node, tried, error);
  } finally {
    lock?.release();
  }
}

function behind(context: Context, node: NodeFacts, state: BundleState, error: unknown): BundleState {
  const reason = isFailure(error) ? `${error.code}: ${error.message}` : messageOf(error);
  context.log.warn("the zone's bundle is not followed", {
    parameter: node.config.bundle?.parameter,
    wanted: state.wanted,
    running: state.running,
    reason,
  });
  return { ...state, reason };
}

async function readZone(context: Context, node: NodeFacts, name: string): Promise<ReadParameter> {
  const { region } = node.identity;
  const found = await readVersioned([name], {
    region,
    endpoint: node.config.aws.endpoints.ssm,
    imds: context.imds,
  });
  const parameter = found.get(name);
  if (parameter === undefined) throw new Error(`parameter ${name} does not exist`);
  return parameter;
}

/** The version that a parameter names for this machine. Throws an Error that says what is missing in the parameter. */
export function parseWanted(name: string, text: string): Wanted {
  let release: Release;
  try {
    release = parseRelease(text);
  } catch (error) {
    throw new Error(`parameter ${name} ${messageOf(error)}`, { cause: error });
  }
  const archive = release[architecture];
  if (archive === undefined) throw new Error(`parameter ${name} names no url and sha256 for ${architecture}`);
  return { version: release.version, ...archive };
}

/**
 * The running version is never replaced by other bytes of the same version. A version without a record came with the image: the
 * digest of its archive is not known, and its files are checked against its manifest anyway.
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
 * Downloads, verifies and unpacks a version beside the running one. Its folder appears whole or not at all. Returns the path of
 * the folder.
 *
 * @param demands what the node's configuration demands of a version
 */
export async function stage(wanted: Source, demands: Config['bundle'], clock: Clock): Promise<string> {
  refuseUnsigned(wanted, demands?.keys ?? []);
  refuseTooOld(wanted, demands?.lowest);
  const folder = `${LIBEXEC_DIR}/${wanted.version}`;
  // Removes what an earlier run could not remove, or had no time to.
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
    // Labels are set before the switch: a file that keeps a temporary folder's label is not executed (203/EXEC).
    await run('restorecon', ['-R', unpacked], { timeoutMs: left(wanted, clock) });
    // The bytes are on the disk before the name is: after a power cut, systemd starts the version to which `current` leads.
    await must('FILE_WRITE', 'sync', ['--', ...files, unpacked], { timeoutMs: left(wanted, clock) });
    // The folder replaced here is never the running version, since that version is never staged.
    if (listIfPresent(LIBEXEC_DIR).includes(wanted.version)) renameSync(folder, `${STAGING}/replaced`);
    renameSync(unpacked, folder);
    syncDirectory(LIBEXEC_DIR);
    return folder;
  } finally {
    try {
      rmSync(STAGING, { recursive: true, force: true });
    } catch {
      // Either the version is in place, or the reason why not is being thrown. collectVersions() and the next staging try
      // again.
    }
  }
}

/** Before the download: the archive must later have the digest that is signed. */
function refuseUnsigned({ version, sha256, signature }: Wanted, keys: readonly string[]): void {
  if (keys.length === 0) return;
  const what = `version ${version}`;
  if (signature === undefined) {
    const message = `${what} was published without a signature for ${architecture}`;
    throw new Failure('BUNDLE_UNSIGNED', message, { version });
  }
  if (isSignedBy(keys, { version, arch: architecture, sha256 }, signature)) return;
  const none = `none of the ${keys.length} keys of bundle.keys has signed ${what}`;
  const message = `${none} for ${architecture} with SHA-256 ${sha256}`;
  throw new Failure('BUNDLE_UNSIGNED', message, { version, sha256 });
}

/**
 * An old version is signed too, and has the faults that later versions mend. The version before stays allowed, as the way back.
 */
function refuseTooOld({ version }: Wanted, lowest: string | undefined): void {
  if (lowest === undefined || !isOlder(version, lowest) || readLinks().previous === version) return;
  const message = `version ${version} is below ${lowest}, the lowest of bundle.lowest`;
  throw new Failure('BUNDLE_TOO_OLD', message, { version, lowest });
}

/** The SHA-256 of the archive from which a version was unpacked. It is written before the folder gets its name. */
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
    if (isFailure(error, 'BAD_DIGEST', 'MANIFEST_MISSING')) return false;
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
  // The digests kept in this boot are not used: they are kept by path, and the files at this path may just have changed.
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

/** When the time is over, the work goes on, but its result is not waited for. */
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
