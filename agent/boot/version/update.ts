// An update in place: staged beside the running version, switched by one rename, judged by the node's own health checks, and
// taken back when they fail. The network of running pods goes on: only links to executables change, and the version that is
// then current brings the node's tables and its pods' guards to its own form. An update can be run again at any point, also
// after a crash in the middle. After a reboot in the middle, the node comes up on the version before.
import { basename } from 'node:path';
import { haltParameter, parseHaltFlag } from '../../aws/halt-flag.ts';
import { createImds } from '../../aws/imds.ts';
import { readIdentity } from '../../aws/metadata.ts';
import { RELEASES } from '../../aws/release.ts';
import { type ReadParameter, readVersioned, type SsmOptions } from '../../aws/ssm.ts';
import { isWanted } from '../../aws/wanted.ts';
import type { Config } from '../../config/schema.ts';
import { type Lock, takeLock } from '../../host/lock.ts';
import { LIBEXEC_DIR, NODE_TABLES } from '../../host/names.ts';
import { removeTable } from '../../host/nft.ts';
import { Failure, isFailure, messageOf } from '../../messages/failure.ts';
import { failureOf } from '../../messages/kinds.ts';
import { POOL } from '../../pool/entry.ts';
import { systemClock } from '../../port/clock.ts';
import { run } from '../../port/exec.ts';
import { endingOf } from '../../port/exec-result.ts';
import { linkAtomic } from '../../port/fs.ts';
import type { Log } from '../../port/log.ts';
import { DownloadError } from '../../port/net.ts';
import { requireBooted } from '../facts/booted.ts';
import type { Source } from '../facts/bundle-state.ts';
import { readBootedConfig } from '../facts/config.ts';
import type { Check } from '../phase.ts';
import { type Counters, countersSince, noteBaseline } from '../verdict/counters.ts';
import { archiveOf, parseWanted, stage } from './bundle.ts';
import { checkFiles, readManifest } from './manifest.ts';
import { forgetPin, type Pin, readPin, writePin } from './pin.ts';
import { forget, readMark, writeMark } from './update-mark.ts';
import { CURRENT, collectVersions, PREVIOUS, readLinks, restoreLinks, VERSIONS_LOCK } from './versions.ts';

export interface UpdateRequest {
  /**
   * `rollback` leaves the version for what ran before the rollout that asks. `follow` leaves it for the version that the zone's
   * parameter names, as a boot would. `check` changes nothing: it reports the running version and its health.
   */
  action: 'update' | 'rollback' | 'follow' | 'check';
  /** The version to update to, to take back, or to ask about. */
  version: string;
  /** SHA-256 of that version's archives, one for each CPU architecture; this machine's archive must have one of them. */
  digests: readonly string[];
  /** Parameter of the halt flag; default: that of the node's own cluster. */
  haltParameter: string | undefined;
  /** Seconds for everything, going back included: the caller kills the update then. */
  seconds: number;
  /** ID of the rollout that asks; undefined for an operator. */
  rollout: string | undefined;
  /** Parameter that says which rollout is wanted (aws/wanted.ts); undefined for an operator. */
  wantedParameter: string | undefined;
  /** The update does not go on after this moment: milliseconds since the epoch by the wall clock; undefined for an operator. */
  untilMs: number | undefined;
}

export interface UpdateResult {
  instanceId: string;
  result: 'updated' | 'already' | 'went-back' | 'untouched' | 'failed';
  /** The version that runs now, and the digest of its archive; undefined for the version of the image. */
  version: string;
  sha256: string | undefined;
  from: string;
  health: Health;
  /**
   * What went wrong since the rollout switched the node. Only in a `check`, and only when the switch noted the counts before
   * it.
   */
  counters: Counters | undefined;
  failure: Failure | undefined;
}

export interface Health {
  healthy: boolean;
  failing: string[];
  warnings: number;
}

/** Share of the time that staging may take: going back needs the rest. */
const STAGING_SHARE = 0.5;
/** Milliseconds for one run of `eniboot check`; it waits 20 s for the cloud and 15 s for the runtime. */
const CHECK_MS = 60_000;
const LOCK_MS = 45_000;
/** Milliseconds for one run of `eniboot repair`. */
const REPAIR_MS = 30_000;
/** Milliseconds kept for links, locks and the start of a program. */
const MARGIN_MS = 5_000;
/** With less time than this, a check is not begun. */
const LEAST_CHECK_MS = 5_000;
const DOWNLOADS = 3;
/** With less time than this, an update is not begun. */
const LEAST_MS = 20_000;
const UNKNOWN: Health = { healthy: false, failing: [], warnings: 0 };

/** Never throws: every failure is a result. */
export async function updateNode(request: UpdateRequest, log: Log): Promise<UpdateResult> {
  let from = readLinks().current ?? '';
  const startedMs = systemClock.bootMs();
  const leftMs = (request.untilMs ?? Number.POSITIVE_INFINITY) - systemClock.now().getTime();
  const allMs = Math.min(request.seconds * 1000, leftMs);
  const until = startedMs + allMs - MARGIN_MS;
  // In whole milliseconds: a program's time-out accepts no fractions.
  const stagingUntil = startedMs + Math.floor(allMs * STAGING_SHARE);
  /** One of `count` checks that share the remaining time. */
  const checkOneOf = (count: number) =>
    checkHealth(Math.min(CHECK_MS, Math.floor((until - systemClock.bootMs()) / count)));
  let instanceId = '';
  let health = UNKNOWN;
  let counters: Counters | undefined;
  const end = (result: UpdateResult['result'], failure?: Failure): UpdateResult => {
    const version = readLinks().current ?? '';
    const sha256 = archiveOf(`${LIBEXEC_DIR}/${version}`);
    return { instanceId, result, version, sha256, from, health, counters, failure };
  };
  let versions: Lock | undefined;
  let pool: Lock | undefined;
  try {
    const imds = createImds(systemClock, () => startedMs + Math.max(LEAST_MS, allMs));
    const identity = await readIdentity(imds);
    ({ instanceId } = identity);
    requireBooted('an update needs a node that is READY');
    if (allMs < LEAST_MS) return end('untouched', expired(request));
    if (request.action === 'check') {
      health = await checkOneOf(1);
      counters = await countersSince({ instanceId, version: from, rollout: request.rollout });
      return end('already');
    }
    versions = await takeLock(VERSIONS_LOCK, systemClock, LOCK_MS);
    // The process that had the lock before may have switched.
    from = readLinks().current ?? '';
    const config = readBootedConfig();
    const zone = config.bundle?.parameter.replaceAll('{zone-id}', identity.zoneId);
    const flag = request.haltParameter ?? haltParameter(config.cluster);
    const release = `${RELEASES}/${request.version}`;
    const wanted = request.wantedParameter === undefined ? [] : [request.wantedParameter];
    const options = { region: identity.region, endpoint: config.aws.endpoints.ssm, imds };
    const read = (names: string[]) => readPatiently(names, options, stagingUntil);
    const values = await read([flag, release, ...wanted, ...(zone === undefined ? [] : [zone])]);
    const refusal = refusalOf(request, flag, values);
    if (refusal !== undefined) return end('untouched', refusal);

    const begun = readMark(instanceId);
    const zoneSaid = (zone === undefined ? undefined : values.get(zone)) ?? null;
    const pin = { version: request.version, from: begun?.from ?? from, zoneSaid, rollout: request.rollout };
    if (request.action !== 'update') {
      if (from !== request.version) {
        health = await checkOneOf(1);
        return end('already');
      }
      const wayBack =
        request.action === 'rollback'
          ? wayBackOf(request.rollout, instanceId, from)
          : await zoneWayOf(from, zone, zoneSaid?.value, config.bundle, stagingUntil);
      if (isFailure(wayBack)) return end('untouched', wayBack);
      if (wayBack === undefined) {
        health = await checkOneOf(1);
        return end('already', new Failure('UPDATE_NOT_OF_ROLLOUT', `${from} ran here before it`));
      }
      const back = await findIntact(wayBack.version);
      if (back === undefined)
        return end('failed', new Failure('UPDATE_NO_WAY_BACK', `no intact version beside ${from}`));
      pool = await takePool(from);
      // The pin is settled before the version is judged: from then on, nothing leads back to the version that is taken back.
      let settled = false;
      try {
        settle(instanceId, { ...pin, version: back });
        settled = true;
      } catch {
        // A full disk may be what is wrong with the version. Without a pin, the node follows its zone when it boots.
      }
      switchTo(from, back);
      // Not before the switch: a rollback that cannot switch finds its way back in these notes when it is run again.
      if (!settled) {
        forget(instanceId);
        forgetPin(instanceId);
      }
      pool.release();
      await adopt(until);
      health = await checkOneOf(1);
      return end('updated');
    }

    const resumes = begun?.to === request.version && from === request.version;
    if (from === request.version && !resumes) {
      const sha256 = archiveOf(`${LIBEXEC_DIR}/${from}`);
      if (sha256 === undefined || !request.digests.includes(sha256))
        return end('untouched', otherContents(request, sha256));
      health = await checkOneOf(1);
      const now = readPin(instanceId);
      // When the rollout did not switch this node itself, the counters count from the moment when it found the version here.
      await noteBaseline({ instanceId, version: from, rollout: request.rollout }, true).catch(
        () => undefined,
      );
      const ours = request.rollout !== undefined && now?.version === from && now.rollout === request.rollout;
      return end(ours ? 'updated' : 'already');
    }
    if (!resumes) {
      const said = values.get(release)?.value;
      const failure = await prepare(request, release, said, config.bundle, stagingUntil);
      if (failure !== undefined) return end('untouched', failure);
      // Staging may have taken minutes, so the parameters are read again.
      const late = refusalOf(request, flag, await read([flag, ...wanted]));
      if (late !== undefined) return end('untouched', late);
    }
    pool = await takePool(from);
    if (!resumes) {
      health = await checkOneOf(3);
      if (!health.healthy)
        return end('untouched', new Failure('UPDATE_UNHEALTHY_BEFORE', health.failing.join(', ')));
      // Noted before the switch, so that a gate counts only what happened after it, however the update ends.
      await noteBaseline({ instanceId, version: request.version, rollout: request.rollout });
      // An update to this version that was killed between its two links has set the first: its mark has what they were before.
      const links = begun?.from === from && begun.to === request.version ? begun.links : readLinks();
      writeMark(instanceId, { from, to: request.version, rollout: request.rollout, links });
      switchTo(from, request.version);
    }
    pool.release();
    await adopt(until);
    pool = await takePool(request.version);
    let why: string;
    try {
      health = await checkOneOf(2);
      if (health.healthy) settle(instanceId, pin);
      why = health.failing.join(', ');
    } catch (error) {
      health = UNKNOWN;
      why = messageOf(error);
    }
    if (health.healthy) {
      pool.release();
      versions.release();
      await collectVersions(log);
      return end('updated');
    }
    restoreLinks(readMark(instanceId)?.links ?? { current: begun?.from ?? from, previous: undefined });
    forget(instanceId);
    pool.release();
    await adopt(until);
    health = await checkOneOf(1);
    const failure = new Failure('UPDATE_WENT_BACK', `not healthy on ${request.version}: ${why}`);
    return end(health.healthy ? 'went-back' : 'failed', failure);
  } catch (error) {
    return end(readLinks().current === from ? 'untouched' : 'failed', failureOf(error));
  } finally {
    pool?.release();
    versions?.release();
  }
}

/** Refills, repairs and boots wait while links are switched and judged. They do not wait while a version is downloaded. */
async function takePool(from: string): Promise<Lock> {
  const lock = await takeLock(POOL.lock, systemClock, LOCK_MS);
  const now = readLinks().current ?? '';
  if (now === from) return lock;
  lock.release();
  throw new Failure('ALREADY_RUNNING', `another run has made ${now} the current version meanwhile`, { from });
}

/** Tries a throttled call again: many nodes of a batch ask in the same second. */
async function readPatiently(
  names: string[],
  options: SsmOptions,
  until: number,
): Promise<Map<string, ReadParameter>> {
  for (let pause = 1_000; ; pause = Math.min(20_000, pause * 2)) {
    try {
      return await readVersioned(names, options);
    } catch (error) {
      const wait = pause * (0.5 + Math.random());
      if (!isFailure(error) || !error.transient || systemClock.bootMs() + wait > until) throw error;
      await systemClock.sleep(wait);
    }
  }
}

/** Brings the version onto the disk. Returns the reason when that fails. */
async function prepare(
  request: UpdateRequest,
  name: string,
  text: string | undefined,
  demands: Config['bundle'],
  until: number,
): Promise<Failure | undefined> {
  try {
    if (text === undefined) throw new Error(`parameter ${name} does not exist`);
    const wanted = parseWanted(name, text);
    if (!request.digests.includes(wanted.sha256)) return otherContents(request, wanted.sha256);
    await stagePatiently({ ...wanted, until }, demands);
    return undefined;
  } catch (error) {
    return notStaged(name, error);
  }
}

async function stagePatiently(source: Source, demands: Config['bundle']): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await stage(source, demands, systemClock);
      return;
    } catch (error) {
      if (!(error instanceof DownloadError) || !error.transient || attempt === DOWNLOADS) throw error;
      await systemClock.sleep(attempt * 2_000 * (0.5 + Math.random()));
    }
  }
}

/** @param name of the parameter that says what was to be staged */
function notStaged(name: string, error: unknown): Failure {
  if (isFailure(error, 'BUNDLE_REFUSED', 'BUNDLE_UNSIGNED', 'BUNDLE_TOO_OLD')) return error;
  return new Failure('UPDATE_NOT_STAGED', messageOf(error), { release: name }, error);
}

/**
 * Stages the version that the zone's parameter names. Without such a parameter: the version that ran before the node followed
 * it. The result has the shape of wayBackOf: undefined when the running version is the one that the zone wants, or came with
 * the image.
 */
async function zoneWayOf(
  running: string,
  name: string | undefined,
  said: string | undefined,
  demands: Config['bundle'],
  until: number,
): Promise<{ version: string } | Failure | undefined> {
  if (name === undefined || said === undefined) {
    const { previous } = readLinks();
    return previous === undefined ? undefined : { version: previous };
  }
  try {
    const wanted = parseWanted(name, said);
    if (wanted.version === running) return undefined;
    await stagePatiently({ ...wanted, until }, demands);
    return { version: wanted.version };
  } catch (error) {
    return notStaged(name, error);
  }
}

function otherContents(request: UpdateRequest, sha256: string | undefined): Failure {
  const found = sha256 ?? 'unknown (baked into the image)';
  const what = `${request.version} here is from an archive with SHA-256 ${found}`;
  return new Failure('RELEASE_DIFFERS', `${what}, not ${request.digests.join(' or ')}`);
}

/** Why nothing may be changed, by the present values in Parameter Store. */
function refusalOf(
  request: UpdateRequest,
  flag: string,
  values: Map<string, ReadParameter>,
): Failure | undefined {
  const { action, rollout, wantedParameter, untilMs } = request;
  const halt = parseHaltFlag(values.get(flag)?.value);
  if (halt !== undefined) return new Failure('UPDATE_HALTED', halt.why);
  if (untilMs !== undefined && systemClock.now().getTime() >= untilMs) return expired(request);
  if (wantedParameter === undefined || rollout === undefined) return undefined;
  const direction = action === 'update' ? 'forward' : 'back';
  const said = values.get(wantedParameter)?.value;
  return isWanted(said, { rollout, direction })
    ? undefined
    : new Failure('UPDATE_NOT_WANTED', `${wantedParameter} says ${(said ?? 'nothing').slice(0, 100)}`);
}

function expired({ untilMs = 0 }: UpdateRequest): Failure {
  return new Failure('UPDATE_EXPIRED', `it expired at ${new Date(untilMs).toISOString()}`);
}

/**
 * The version to go back to: for a rollout the version that ran before it, for an operator the one that is kept. undefined when
 * the rollout did not bring the running version.
 */
function wayBackOf(
  rollout: string | undefined,
  instanceId: string,
  running: string,
): { version: string | undefined } | undefined {
  if (rollout === undefined) return { version: readLinks().previous };
  // The update was interrupted after the switch and before the pin was settled.
  const mark = readMark(instanceId);
  if (mark?.to === running && mark.rollout === rollout) return { version: mark.from };
  const pin = readPin(instanceId);
  if (pin?.rollout !== rollout) return undefined;
  // A pin of another version: an earlier rollback has noted where it goes, and could not switch.
  return { version: pin.version === running ? (pin.from ?? readLinks().previous) : pin.version };
}

/** That version, if its folder exists and its files match its manifest. */
async function findIntact(version: string | undefined): Promise<string | undefined> {
  if (version === undefined) return undefined;
  const folder = `${LIBEXEC_DIR}/${basename(version)}`;
  try {
    await checkFiles(folder, readManifest(folder));
    return basename(version);
  } catch (error) {
    if (isFailure(error)) return undefined;
    throw error;
  }
}

/** The switch is one rename. */
function switchTo(from: string, to: string): void {
  linkAtomic(PREVIOUS, from);
  linkAtomic(CURRENT, to);
}

/**
 * Lets the current version repair the node: it may keep another form in the kernel than the version before. The repair takes
 * the pool's lock itself. The current version does not know the tables that it does not keep, so these are removed first: a
 * table that is not kept up to date would hold new pods to the addresses of today.
 */
async function adopt(until: number): Promise<void> {
  try {
    // Versions before the guards kept one table.
    const { tables = ['inet'] } = readManifest(CURRENT);
    for (const family of NODE_TABLES) if (!tables.includes(family)) await removeTable(family);
    const left = Math.floor((until - systemClock.bootMs()) / 3);
    await run(`${CURRENT}/eniboot`, ['repair'], { timeoutMs: Math.max(1, Math.min(REPAIR_MS, left)) });
  } catch {
    // The health check says what is wrong.
  }
}

/** Pins the version: this node keeps it over reboots, until its zone's parameter is written again. */
function settle(instanceId: string, pin: Pin): void {
  writePin(instanceId, pin);
  forget(instanceId);
}

/** The health of this node according to the current version: its own `eniboot check`, and its plugin's answer. */
async function checkHealth(timeoutMs: number): Promise<Health> {
  if (timeoutMs < LEAST_CHECK_MS)
    return { healthy: false, failing: ['check: no time is left for it'], warnings: 0 };
  const executable = `${CURRENT}/eniboot`;
  const [check, plugin] = await Promise.all([
    run(executable, ['check', '--json'], { timeoutMs }),
    run(executable, [], {
      timeoutMs: Math.min(10_000, timeoutMs),
      env: { CNI_COMMAND: 'VERSION' },
      input: '{"cniVersion":"1.0.0"}',
    }),
  ]);
  const failing = plugin.exitCode === 0 && plugin.stdout.includes('supportedVersions') ? [] : ['plugin'];
  try {
    const { checks } = JSON.parse(check.stdout) as { checks: Pick<Check, 'id' | 'result' | 'code'>[] };
    for (const one of checks) if (one.result === 'fail') failing.push(`${one.id} ${one.code ?? ''}`.trim());
    const warnings = checks.filter((one) => one.result === 'warn').length;
    return { healthy: failing.length === 0, failing, warnings };
  } catch {
    return { healthy: false, failing: [...failing, `check: ${endingOf(check)}`], warnings: 0 };
  }
}
