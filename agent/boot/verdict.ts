// The verdict leaves the machine: one line on the console, a text file for the metrics collector, READY for
// systemd, a tag for whoever only has the EC2 API. None of these can turn a good boot into a bad one.
import { appendFileSync, rmSync } from 'node:fs';
import { VERDICT_TAG } from '../aws/tags.ts';
import { STATE_DIR } from '../host/names.ts';
import { notifySystemd } from '../host/notify.ts';
import { Failure, isFailure } from '../messages/failure.ts';
import { CLOUD_SILENT } from '../messages/kinds.ts';
import { run } from '../port/exec.ts';
import { succeeded } from '../port/exec-result.ts';
import { readIfPresent, writeAtomic } from '../port/fs.ts';
import { exposition, type Sample, type SeriesName } from './series.ts';
import type { Session } from './session.ts';
import type { Status } from './status.ts';
import { writeStatus } from './status.ts';

const CONSOLE = '/dev/console';
const METRICS = `${STATE_DIR}/metrics/boot.prom`;
/** The tag is for people far away; a slow EC2 must not hold up kubelet for it. */
const TAG_PATIENCE_MS = 3_000;
const TERMINATE_PATIENCE_MS = 30_000;

/** Publishes the final status everywhere. Resolves when all have been told or have failed to listen. */
export async function publish(status: Status, session: Session): Promise<void> {
  // The status before READY, so that whoever READY starts can read it; the tag after it, since it asks EC2.
  keep(status, session);
  await notifySystemd([...(status.verdict === 'ready' ? ['--ready'] : []), summaryOf(status)]);
  if (status.verdict === 'ready' && session.identity !== undefined) {
    const { instanceId } = session.identity;
    attemptTo('forget an earlier reboot', session, () => rmSync(rebootMark(instanceId), { force: true }));
  }
  const refused = await tag(status, session);
  if (refused !== undefined && status.verdict === 'ready') {
    // What reads the tag alone waits for this node in vain: its own places say so.
    status.degraded.push(`${refused.code}: ${refused.message}. ${refused.remedy}`);
    keep(status, session);
    await notifySystemd([summaryOf(status)]);
  }
  // What was written there stays: one line, when nothing can change it any more.
  attemptTo('write to the console', session, () => appendFileSync(CONSOLE, `${consoleLine(status)}\n`));
}

/** In the files that hold the last word. */
function keep(status: Status, session: Session): void {
  attemptTo('write the status file', session, () => writeStatus(status));
  attemptTo('write metrics', session, () => writeAtomic(METRICS, metricsText(status)));
}

/** What systemd shows of the unit. */
function summaryOf(status: Status): string {
  const summary =
    status.verdict === 'ready'
      ? readySummary(status)
      : `FAILED ${status.failure?.code}: ${status.failure?.message}`;
  return `--status=${summary.slice(0, 500)}`;
}

/** `eniboot: READY|FAILED <code> <version> <seconds>s` */
export function consoleLine(status: Status): string {
  const code =
    status.verdict === 'ready' ? (status.degraded.length > 0 ? 'DEGRADED' : 'OK') : status.failure?.code;
  return `eniboot: ${status.verdict === 'ready' ? 'READY' : 'FAILED'} ${code} ${status.version} ${status.seconds}s`;
}

/**
 * What the operator configured for a boot that failed for good, from the whole configuration or, when that
 * could not be read, from the files of the image. `hold` leaves everything as it is, and so does whatever
 * cannot be done: a second failure after a reboot, a reboot systemd refuses, a call EC2 does not take.
 * Returns what was done, in words.
 */
export async function actOnFailure(session: Session): Promise<string> {
  // Loaded here: `eniboot status` shares this module and must not pay for the YAML parser.
  const { configOfFiles } = await import('./node-config.ts');
  const action = (session.hasConfig() ? session.config : configOfFiles())?.boot.onFailure ?? 'hold';
  if (action === 'hold') return 'hold';
  if (session.identity === undefined) return `hold (${action} is configured, but the instance is not known)`;
  const { instanceId, region } = session.identity;
  return action === 'reboot-once' ? rebootOnce(instanceId) : terminate(instanceId, region, session);
}

/** The mark outlives the reboot and goes with the next READY, so that "once" means once in a row. */
async function rebootOnce(instanceId: string): Promise<string> {
  const mark = rebootMark(instanceId);
  if (readIfPresent(mark) !== undefined) return 'hold (rebooted once already)';
  try {
    writeAtomic(mark, '');
  } catch (error) {
    return `hold (a reboot that cannot be noted would repeat for ever: ${String(error)})`;
  }
  const result = await run('systemctl', ['reboot']);
  if (succeeded(result)) return 'reboot';
  rmSync(mark, { force: true });
  return `hold (systemctl reboot: ${result.stderr.trim()})`;
}

async function terminate(instanceId: string, region: string, session: Session): Promise<string> {
  session.phaseEndsAt = session.clock.bootMs() + TERMINATE_PATIENCE_MS;
  session.limitPatience(undefined);
  try {
    const ec2 = await session.ec2(region);
    await ec2.terminateInstance(instanceId);
    return 'terminate';
  } catch (error) {
    return `hold (EC2 did not take the termination: ${String(error)})`;
  }
}

function rebootMark(instanceId: string): string {
  return `${STATE_DIR}/${instanceId}/rebooted`;
}

function readySummary(status: Status): string {
  const pods = `${status.capacity?.maxPods} pods, ${status.podEnis.length} pod ENI`;
  return status.degraded.length === 0 ? `READY: ${pods}` : `READY, degraded: ${status.degraded.join('; ')}`;
}

/**
 * Tags the instance, unless the tag says the same already: a boot that changes nothing makes no change here.
 * @returns why EC2 will not have the tag; nothing when it is there, or EC2 was only slow
 */
async function tag(status: Status, session: Session): Promise<Failure | undefined> {
  if (session.identity === undefined) return undefined;
  const { instanceId } = session.identity;
  const verdict = status.verdict === 'ready' ? 'ready' : `failed:${status.failure?.code}`;
  const value = `${verdict}@${status.version}`;
  // A node that has just found EC2 silent does not ask it again for a label.
  const code = status.failure?.code;
  if (session.ec2Silent || CLOUD_SILENT.some((silent) => silent === code)) return undefined;
  session.phaseEndsAt = Number.POSITIVE_INFINITY;
  session.limitPatience(TAG_PATIENCE_MS);
  try {
    const ec2 = await session.ec2(session.identity.region);
    const tags = await session.waiting(ec2.describeTags(instanceId));
    if (tags[VERDICT_TAG] !== value)
      await session.waiting(ec2.createTags(instanceId, { [VERDICT_TAG]: value }));
  } catch (error) {
    session.log.warn('instance not tagged', { reason: String(error) });
    if (isFailure(error, 'EC2_DENIED', 'EC2_REFUSED'))
      return new Failure('VERDICT_NOT_TAGGED', error.message, error.facts, error);
  }
  return undefined;
}

function attemptTo(what: string, session: Session, action: () => void): void {
  try {
    action();
  } catch (error) {
    session.log.warn(`could not ${what}`, { reason: String(error) });
  }
}

function metricsText(status: Status): string {
  const gauge = (name: SeriesName, value: number, labels: Record<string, string> = {}): Sample => ({
    name,
    labels,
    value,
  });
  return exposition([
    gauge('eniboot_boot_ready', status.verdict === 'ready' ? 1 : 0, {
      version: status.version,
      code: status.failure?.code ?? '',
    }),
    gauge('eniboot_boot_degraded', status.degraded.length > 0 ? 1 : 0),
    gauge('eniboot_boot_seconds', status.seconds),
    gauge('eniboot_boot_attempts', status.attempts),
    ...status.phases.flatMap(({ name, ms, waitMs }) => [
      gauge('eniboot_boot_phase_seconds', ms / 1000, { phase: name, part: 'total' }),
      gauge('eniboot_boot_phase_seconds', waitMs / 1000, { phase: name, part: 'waiting' }),
    ]),
    ...Object.entries(status.cloud.ec2Calls).map(([action, calls]) =>
      gauge('eniboot_boot_ec2_calls', calls, { action }),
    ),
    gauge('eniboot_boot_imds_requests', status.cloud.imdsRequests),
    gauge('eniboot_max_pods', status.capacity?.maxPods ?? 0),
  ]);
}
