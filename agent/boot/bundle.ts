// The zone's bundle: which version this node should run stands in a parameter. A node that is behind stages
// that version beside its own and hands over to it; whatever goes wrong on the way, it comes up on the version
// it has and says that it is behind.
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { readParameters } from '../aws/ssm.ts';
import { must } from '../host/command.ts';
import { LIBEXEC_DIR } from '../host/names.ts';
import { Failure } from '../messages/failure.ts';
import { run } from '../port/exec.ts';
import { listIfPresent } from '../port/fs.ts';
import { download } from '../port/net.ts';
import { architecture } from '../port/runtime.ts';
import { checkFiles, readManifest } from './manifest.ts';
import { type Boot, nodeOf } from './phase.ts';

/** What the parameter holds: `{ "version": "1.2.3", "x64": { "url": "https://…", "sha256": "…" }, "arm64": { … } }`. */
interface Wanted {
  version: string;
  url: string;
  sha256: string;
}

export interface BundleState {
  running: string;
  /** The zone's version; undefined when there is no parameter to follow or it could not be read. */
  wanted: string | undefined;
  /** Why this node does not run the wanted version. */
  reason: string | undefined;
  /** Folder of a version that is staged, verified and not the running one. */
  staged: string | undefined;
}

/** A bundle is 60 MB; ten times that is somebody's mistake. */
const MAX_BYTES = 600_000_000;
/** Of the install phase's 60 s, so that what is left is enough to go on without it. */
const STAGE_MS = 40_000;
const STAGING = `${LIBEXEC_DIR}/.staging`;

/** Brings the zone's version onto the disk if this node is behind. Never throws: being behind is not a failure. */
export async function followBundle(boot: Boot, running: string): Promise<BundleState> {
  const { bundle } = boot.config;
  if (bundle === undefined) return { running, wanted: undefined, reason: undefined, staged: undefined };
  let wanted: Wanted | undefined;
  try {
    wanted = await boot.waiting(readWanted(boot, bundle.parameter));
    if (wanted.version === running) return { running, wanted: running, reason: undefined, staged: undefined };
    if (boot.handedOver)
      throw new Error(`version ${wanted.version} was handed this boot and did not come up`);
    const staged = await boot.waiting(stage(wanted));
    return { running, wanted: wanted.version, reason: undefined, staged };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    boot.log.warn("the zone's bundle is not followed", {
      parameter: bundle.parameter,
      wanted: wanted?.version,
      running,
      reason,
    });
    return { running, wanted: wanted?.version, reason, staged: undefined };
  }
}

async function readWanted(boot: Boot, parameter: string): Promise<Wanted> {
  const { identity } = nodeOf(boot);
  const name = parameter.replaceAll('{zone-id}', identity.zoneId);
  const { region } = identity;
  const values = await readParameters([name], {
    region,
    endpoint: boot.config.aws.endpoints.ssm,
    imds: boot.imds,
  });
  const text = values.get(name);
  if (text === undefined) throw new Error(`parameter ${name} does not exist`);
  const value = parseObject(text);
  const source = parseObject(value?.[architecture]);
  const version = value?.['version'];
  if (typeof version !== 'string' || !/^\d+\.\d+\.\d+[\w.-]*$/.test(version))
    throw new Error(`parameter ${name} names no version`);
  const { url, sha256 } = source ?? {};
  if (
    typeof url !== 'string' ||
    !/^https?:\/\//.test(url) ||
    typeof sha256 !== 'string' ||
    !/^[0-9a-f]{64}$/.test(sha256)
  ) {
    throw new Error(`parameter ${name} names no url and sha256 for ${architecture}`);
  }
  return { version, url, sha256 };
}

/** Downloads, verifies and unpacks beside the running version; the folder appears whole or not at all. */
async function stage(wanted: Wanted): Promise<string> {
  const folder = `${LIBEXEC_DIR}/${wanted.version}`;
  if (listIfPresent(LIBEXEC_DIR).includes(wanted.version)) {
    await verifyStaged(folder, wanted);
    return folder;
  }
  rmSync(STAGING, { recursive: true, force: true });
  mkdirSync(STAGING, { recursive: true, mode: 0o755 });
  try {
    const archive = `${STAGING}/bundle.tar.gz`;
    const sha256 = await download(wanted.url, archive, { timeoutMs: STAGE_MS, maxBytes: MAX_BYTES });
    if (sha256 !== wanted.sha256) throw new Error(`the bundle's SHA-256 is ${sha256}, not ${wanted.sha256}`);
    const unpacked = `${STAGING}/${wanted.version}`;
    mkdirSync(unpacked, { mode: 0o755 });
    await must(
      'FILE_WRITE',
      'tar',
      ['--extract', '--gzip', '--no-same-owner', '--file', archive, '--directory', unpacked],
      { timeoutMs: STAGE_MS },
    );
    await verifyStaged(unpacked, wanted);
    // Labels before the switch: a file that keeps a temporary folder's label is not executed (203/EXEC).
    await run('restorecon', ['-R', unpacked]);
    renameSync(unpacked, folder);
    return folder;
  } finally {
    rmSync(STAGING, { recursive: true, force: true });
  }
}

async function verifyStaged(folder: string, wanted: Wanted): Promise<void> {
  const manifest = readManifest(folder);
  if (manifest.version !== wanted.version) {
    throw new Failure('BAD_DIGEST', `the bundle holds version ${manifest.version}, not ${wanted.version}`, {
      folder,
    });
  }
  await checkFiles(folder, manifest);
}

function parseObject(value: unknown): Record<string, unknown> | undefined {
  try {
    const parsed: unknown = typeof value === 'string' ? JSON.parse(value) : value;
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
