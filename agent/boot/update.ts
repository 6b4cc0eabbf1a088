// An update in place: staged beside the running version, switched by one rename, judged by the node's own health checks,
// and taken back when they fail. A running pod's network is not touched: nothing but links to executables changes. Safe to
// run again at any point, also after a crash in the middle. A reboot in the middle comes up on the version before.
import { basename } from 'node:path';
import { haltParameter, parseHaltFlag } from '../aws/halt-flag.ts';
import { createImds } from '../aws/imds.ts';
import { readIdentity } from '../aws/metadata.ts';
import { RELEASES } from '../aws/release.ts';
import { readParameters } from '../aws/ssm.ts';
import { takeLock } from '../host/lock.ts';
import { LIBEXEC_DIR } from '../host/names.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { POOL_LOCK } from '../pool/pool.ts';
import { systemClock } from '../port/clock.ts';
import { run } from '../port/exec.ts';
import { linkAtomic } from '../port/fs.ts';
import type { Log } from '../port/log.ts';
import { requireBooted } from './booted.ts';
import { archiveOf, parseWanted, stage } from './bundle.ts';
import { checkFiles, readManifest } from './manifest.ts';
import { readBootedConfig } from './node-config.ts';
import { writePin } from './pin.ts';
import { forget, readMark, writeMark } from './update-mark.ts';
import { CURRENT, collectVersions, PREVIOUS, readLinks, restoreLinks, VERSIONS_LOCK } from './versions.ts';

export interface UpdateRequest {
  action: 'update' | 'rollback';
  /** To update to, or to take back. */
  version: string;
  /** SHA-256 of that version's archives, one for each CPU; this machine's has to be among them. */
  digests: readonly string[];
  /** Parameter of the halt flag; default: that of the node's own cluster. */
  haltParameter: string | undefined;
  /** Time for all of it. */
  seconds: number;
}

export interface UpdateResult {
  instanceId: string;
  result: 'updated' | 'already' | 'went-back' | 'untouched' | 'failed';
  /** What runs now, and the digest of its archive; undefined for the one baked into the image. */
  version: string;
  sha256: string | undefined;
  from: string;
  health: Health;
  failure: Failure | undefined;
}

export interface Health {
  healthy: boolean;
  failing: string[];
  warnings: number;
}

/** Share of the time that staging may take: going back needs the rest. */
const STAGING_SHARE = 0.5;
/** Milliseconds of one run of `eniboot check`; it waits 20 s for the cloud and 15 s for the runtime. */
const CHECK_MS = 60_000;
const LOCK_MS = 45_000;
const UNKNOWN: Health = { healthy: false, failing: [], warnings: 0 };

/** Never throws: whatever happens is a result. */
export async function updateNode(request: UpdateRequest, log: Log): Promise<UpdateResult> {
  const from = readLinks().current ?? '';
  const startedMs = systemClock.bootMs();
  let instanceId = '';
  let health = UNKNOWN;
  const end = (result: UpdateResult['result'], failure?: Failure): UpdateResult => {
    const version = readLinks().current ?? '';
    const sha256 = archiveOf(`${LIBEXEC_DIR}/${version}`);
    return { instanceId, result, version, sha256, from, health, failure };
  };
  let versions: { release: () => void } | undefined;
  let pool: { release: () => void } | undefined;
  try {
    requireBooted('an update needs a node that is READY');
    const imds = createImds(systemClock, () => startedMs + request.seconds * 1000);
    const identity = await readIdentity(imds);
    ({ instanceId } = identity);
    versions = await takeLock(VERSIONS_LOCK, systemClock, LOCK_MS);
    const config = readBootedConfig();
    const zone = config.bundle?.parameter.replaceAll('{zone-id}', identity.zoneId);
    const flag = request.haltParameter ?? haltParameter(config.cluster);
    const release = `${RELEASES}/${request.version}`;
    const values = await readParameters([flag, release, ...(zone === undefined ? [] : [zone])], {
      region: identity.region,
      endpoint: config.aws.endpoints.ssm,
      imds,
    });
    const halt = parseHaltFlag(values.get(flag));
    if (halt !== undefined) return end('untouched', new Failure('UPDATE_HALTED', halt.why));

    const change = {
      instanceId,
      from,
      to: request.version,
      zoneSaid: (zone === undefined ? undefined : values.get(zone)) ?? null,
    };
    if (request.action === 'rollback') {
      if (from !== request.version) {
        health = await checkHealth();
        return end('already');
      }
      const back = await findPrevious();
      if (back === undefined)
        return end('failed', new Failure('UPDATE_NO_WAY_BACK', `no intact version beside ${from}`));
      pool = await takePool(from);
      switchTo({ ...change, to: back });
      health = await checkHealth();
      if (health.healthy) settle({ ...change, to: back });
      return end('updated');
    }

    const begun = readMark(instanceId);
    const resumes = begun?.to === request.version && from === request.version;
    if (from === request.version && !resumes) {
      const sha256 = archiveOf(`${LIBEXEC_DIR}/${from}`);
      if (sha256 === undefined || !request.digests.includes(sha256))
        return end('untouched', otherContents(request, sha256));
      health = await checkHealth();
      return end('already');
    }
    if (!resumes) {
      const failure = await prepare(request, release, values.get(release), startedMs);
      if (failure !== undefined) return end('untouched', failure);
    }
    pool = await takePool(from);
    if (!resumes) {
      health = await checkHealth();
      if (!health.healthy)
        return end('untouched', new Failure('UPDATE_UNHEALTHY_BEFORE', health.failing.join(', ')));
      switchTo(change);
    }
    health = await checkHealth();
    if (health.healthy) {
      settle(change);
      pool.release();
      versions.release();
      await collectVersions(log);
      return end('updated');
    }
    const why = health.failing.join(', ');
    restoreLinks(readMark(instanceId)?.links ?? { current: begun?.from ?? from, previous: undefined });
    forget(instanceId);
    health = await checkHealth();
    const failure = new Failure('UPDATE_WENT_BACK', `not healthy on ${request.version}: ${why}`);
    return end(health.healthy ? 'went-back' : 'failed', failure);
  } catch (error) {
    const failure = isFailure(error)
      ? error
      : new Failure('INTERNAL', error instanceof Error ? error.message : String(error), {}, error);
    return end(readLinks().current === from ? 'untouched' : 'failed', failure);
  } finally {
    pool?.release();
    versions?.release();
  }
}

/** Refills, repairs and boots wait while links are switched and judged, not while a version is downloaded. */
async function takePool(from: string): Promise<{ release: () => void }> {
  const lock = await takeLock(POOL_LOCK, systemClock, LOCK_MS);
  const now = readLinks().current ?? '';
  if (now === from) return lock;
  lock.release();
  throw new Failure('ALREADY_RUNNING', `another run has made ${now} the current version meanwhile`, { from });
}

/** Brings the version onto the disk; the reason why it could not be. */
async function prepare(
  request: UpdateRequest,
  name: string,
  text: string | undefined,
  startedMs: number,
): Promise<Failure | undefined> {
  try {
    if (text === undefined) throw new Error(`parameter ${name} does not exist`);
    const wanted = parseWanted(name, text);
    if (!request.digests.includes(wanted.sha256)) return otherContents(request, wanted.sha256);
    const until = startedMs + request.seconds * 1000 * STAGING_SHARE;
    await stage({ ...wanted, until }, systemClock);
    return undefined;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return new Failure('UPDATE_NOT_STAGED', reason, { release: name }, error);
  }
}

function otherContents(request: UpdateRequest, sha256: string | undefined): Failure {
  return new Failure(
    'RELEASE_DIFFERS',
    `${request.version} here is from an archive with SHA-256 ${sha256 ?? 'unknown (baked into the image)'}, not ${request.digests.join(' or ')}`,
  );
}

/** The version kept beside the running one, if its files are what its manifest says. */
async function findPrevious(): Promise<string | undefined> {
  const { previous } = readLinks();
  if (previous === undefined) return undefined;
  const folder = `${LIBEXEC_DIR}/${previous}`;
  try {
    await checkFiles(folder, readManifest(folder));
    return basename(previous);
  } catch (error) {
    if (isFailure(error)) return undefined;
    throw error;
  }
}

interface ChangeOfVersion {
  instanceId: string;
  from: string;
  to: string;
  zoneSaid: string | null;
}

/** The switch is one rename; the mark before it says what it began from. */
function switchTo({ instanceId, from, to }: ChangeOfVersion): void {
  writeMark(instanceId, { from, to, links: readLinks() });
  linkAtomic(PREVIOUS, from);
  linkAtomic(CURRENT, to);
}

function settle({ instanceId, to, zoneSaid }: ChangeOfVersion): void {
  writePin(instanceId, { version: to, zoneSaid });
  forget(instanceId);
}

/** What the current version says of this node: `eniboot check` of that very version, and its plugin's answer. */
async function checkHealth(): Promise<Health> {
  const executable = `${CURRENT}/eniboot`;
  const [check, plugin] = await Promise.all([
    run(executable, ['check', '--json'], { timeoutMs: CHECK_MS }),
    run(executable, [], {
      timeoutMs: 10_000,
      env: { CNI_COMMAND: 'VERSION' },
      input: '{"cniVersion":"1.0.0"}',
    }),
  ]);
  const failing = plugin.exitCode === 0 && plugin.stdout.includes('supportedVersions') ? [] : ['plugin'];
  try {
    const { checks } = JSON.parse(check.stdout) as {
      checks: { id: string; result: string; code?: string }[];
    };
    for (const one of checks) if (one.result === 'fail') failing.push(`${one.id} ${one.code ?? ''}`.trim());
    const warnings = checks.filter((one) => one.result === 'warn').length;
    return { healthy: failing.length === 0, failing, warnings };
  } catch {
    const ending = check.timedOut ? 'ran out of time' : `exit ${check.exitCode ?? check.signal}`;
    return { healthy: false, failing: [...failing, `check: ${ending}`], warnings: 0 };
  }
}
