// Publishes the verdict: one line on the console, a text file for the metrics collector, READY for systemd, and a tag for
// operators and programs that have only the EC2 API. An error here cannot turn a good boot into a bad one.
import { appendFileSync, rmSync } from 'node:fs';
import { VERDICT_TAG } from '../../aws/tags.ts';
import { STATE_DIR } from '../../host/names.ts';
import { notifySystemd } from '../../host/notify.ts';
import { Failure, isFailure } from '../../messages/failure.ts';
import { isSilentCode } from '../../messages/kinds.ts';
import { run } from '../../port/exec.ts';
import { succeeded } from '../../port/exec-result.ts';
import { readIfPresent, writeAtomic } from '../../port/fs.ts';
import type { Context } from '../context.ts';
import { exposition, type Sample, type SeriesName } from './series.ts';
import type { Status } from './status.ts';
import { writeStatus } from './status.ts';

const CONSOLE = '/dev/console';
const METRICS = `${STATE_DIR}/metrics/boot.prom`;
/** Milliseconds. The tag is for readers far away, so a slow EC2 must not delay kubelet. */
const TAG_PATIENCE_MS = 3_000;
const TERMINATE_PATIENCE_MS = 30_000;

/** Publishes the final status everywhere. Resolves when every receiver has been told or has failed. */
export async function publish(status: Status, context: Context): Promise<void> {
  // The status is written before READY, so that the units that READY starts can read it. The tag comes after it, since it asks
  // EC2.
  keep(status, context);
  await notifySystemd([...(status.verdict === 'ready' ? ['--ready'] : []), summaryOf(status)]);
  if (status.verdict === 'ready' && context.known.identity !== undefined) {
    const { instanceId } = context.known.identity;
    attemptTo('forget an earlier reboot', context, () => rmSync(rebootMark(instanceId), { force: true }));
  }
  const refused = await tag(status, context);
  if (refused !== undefined && status.verdict === 'ready') {
    // A program that reads only the tag never sees this verdict, so the status on the node says why.
    status.degraded.push(`${refused.code}: ${refused.message}. ${refused.remedy}`);
    keep(status, context);
    await notifySystemd([summaryOf(status)]);
  }
  // A line on the console cannot be taken back, so it is written once, when nothing can change it any more.
  attemptTo('write to the console', context, () => appendFileSync(CONSOLE, `${consoleLine(status)}\n`));
}

/** Writes the files that hold the latest status. */
function keep(status: Status, context: Context): void {
  attemptTo('write the status file', context, () => writeStatus(status));
  attemptTo('write metrics', context, () => writeAtomic(METRICS, metricsText(status)));
}

/** The text that systemd shows for the unit. */
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
 * Does what the operator configured for a boot that failed for good. The action comes from the whole configuration or, when
 * that could not be read, from the files of the image. `hold` leaves everything as it is. So does an action that cannot be
 * done: a second failure after a reboot, a reboot that systemd refuses, a call that EC2 does not accept. Returns what was done,
 * in words.
 */
export async function actOnFailure(context: Context): Promise<string> {
  // Imported here: `eniboot status` shares this module and must not pay for the YAML parser.
  const { configOfFiles } = await import('../facts/config.ts');
  const action = (context.known.config ?? configOfFiles())?.boot.onFailure ?? 'hold';
  if (action === 'hold') return 'hold';
  if (context.known.identity === undefined)
    return `hold (${action} is configured, but the instance is not known)`;
  const { instanceId, region } = context.known.identity;
  return action === 'reboot-once' ? rebootOnce(instanceId) : terminate(instanceId, region, context);
}

/** The mark outlives the reboot and is removed by the next READY, so that "once" means once in a row. */
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

async function terminate(instanceId: string, region: string, context: Context): Promise<string> {
  context.phaseEndsAt = context.clock.bootMs() + TERMINATE_PATIENCE_MS;
  context.limitPatience(undefined);
  try {
    const ec2 = await context.ec2(region);
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
 * Tags the instance, unless it has this tag already: a boot that changes nothing makes no change here.
 * @returns why EC2 refuses the tag; undefined when the tag is there, or when EC2 was only slow
 */
async function tag(status: Status, context: Context): Promise<Failure | undefined> {
  if (context.known.identity === undefined) return undefined;
  const { instanceId } = context.known.identity;
  const verdict = status.verdict === 'ready' ? 'ready' : `failed:${status.failure?.code}`;
  const value = `${verdict}@${status.version}`;
  // A node that has just found EC2 silent does not ask it again for a tag.
  const { attached, vpcCidrs } = context.cloud;
  if (isFailure(attached ?? vpcCidrs) || isSilentCode(status.failure?.code)) return undefined;
  context.phaseEndsAt = Number.POSITIVE_INFINITY;
  context.limitPatience(TAG_PATIENCE_MS);
  try {
    const ec2 = await context.ec2(context.known.identity.region);
    const tags = await context.waiting(ec2.describeTags(instanceId));
    if (tags[VERDICT_TAG] !== value)
      await context.waiting(ec2.createTags(instanceId, { [VERDICT_TAG]: value }));
  } catch (error) {
    context.log.warn('instance not tagged', { reason: String(error) });
    if (isFailure(error, 'EC2_DENIED', 'EC2_REFUSED'))
      return new Failure('VERDICT_NOT_TAGGED', error.message, error.facts, error);
  }
  return undefined;
}

function attemptTo(what: string, context: Context, action: () => void): void {
  try {
    action();
  } catch (error) {
    context.log.warn(`could not ${what}`, { reason: String(error) });
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
