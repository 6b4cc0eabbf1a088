import { bootNode, type Watcher } from '../boot/boot.ts';
import { isBooted } from '../boot/facts/booted.ts';
import type { BundleState } from '../boot/facts/bundle-state.ts';
import { startIfDue } from '../boot/phases/ready.ts';
import { readStatus, type Status, writeStatus } from '../boot/verdict/status.ts';
import { actOnFailure, consoleLine, publish } from '../boot/verdict/verdict.ts';
import { handOver, isSuccessor } from '../boot/version/hand-over.ts';
import { takeBackUnjudged } from '../boot/version/update-mark.ts';
import { collectVersions } from '../boot/version/versions.ts';
import { journalWatcher, statusFileWatcher, systemdWatcher } from '../boot/watchers.ts';
import { systemClock } from '../port/clock.ts';
import { createLog } from '../port/log.ts';
import { runInPlace } from '../port/run-in-place.ts';
import { environment, finish, INTERRUPTED, interruption, requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { failureLines } from './failure-text.ts';
import { planCommand } from './plan.ts';
import { terminalWatcher } from './progress.ts';

const help = `Usage: eniboot boot [--dry-run] [--json]

Turns this EC2 instance into a node and says so, or says why it cannot. Runs the phases
  identify → reserve → egress → attach → install → kubelet → verify → ready
under one deadline (boot.deadlineSeconds, 5 minutes). May be run any number of times, also while pods run: what is as it
should be is not changed. eniboot.service runs it at boot; kubelet starts only after READY.

  --dry-run   show what would be changed, phase by phase, and change nothing (the same as \`eniboot plan\`)
  --json      print the final status as one JSON object (docs/status.md) and nothing else on stdout

The verdict goes to /run/eniboot/status.json, the console, the instance tag eniboot:verdict and
/var/lib/eniboot/metrics/boot.prom. \`eniboot status\` shows it; docs/failures.md lists every code with its remedy.

Exit codes: 0 READY (also degraded); 1 FAILED, with a code; 2 wrong usage.
`;

/** Milliseconds, the longest timer: in effect no limit, since the other version keeps to the boot's deadline itself. */
const NO_LIMIT_MS = 2 ** 31 - 1;
/** Exit code of runInPlace() for a file that cannot be executed. */
const NOT_STARTED = 127;

export const bootCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('boot', args, { 'dry-run': { type: 'boolean' }, json: { type: 'boolean' } });
    if (values['dry-run'] === true) return planCommand.run(values.json === true ? ['--json'] : [], io);
    requireRoot('boot');
    // Under systemd the journal gets one structured line for each phase; on a terminal a person gets the short table.
    const journal = environment('JOURNAL_STREAM') !== undefined;
    const log = createLog({ level: journal ? 'info' : 'warn', form: journal ? 'json' : 'text' });
    const terminal = terminalWatcher(io);
    const successor = isSuccessor();
    const living = isBooted();
    const interruptible = successor ? [] : [sayWhenInterrupted(living, io)];
    const boot = (handedOver: 'to-us' | 'back' | undefined, bundle?: BundleState) =>
      bootNode({
        clock: systemClock,
        log,
        handedOver,
        bundle,
        watchers: [
          ...interruptible,
          statusFileWatcher(log),
          systemdWatcher,
          ...(journal ? [journalWatcher(log)] : []),
          ...(journal || values.json === true ? [] : [terminal.watch]),
        ],
      }).finally(() => terminal.stop());
    // Only in the first boot run of a machine: on a node that is up, an update in place may still be running its checks.
    const before =
      living || successor
        ? undefined
        : await takeBackUnjudged().catch((error: unknown) => {
            log.error(
              'it cannot be told whether a reboot came before an update was judged; this version boots',
              {
                reason: String(error),
              },
            );
            return undefined;
          });
    if (before !== undefined) {
      log.warn('a reboot came before the update was judged; the version before boots', {
        executable: before,
      });
      const code = await runInPlace(before, ['boot', ...args], { env: {}, timeoutMs: NO_LIMIT_MS });
      if (code !== NOT_STARTED) return code ?? 1;
    }
    let outcome = await boot(successor ? 'to-us' : undefined);
    const { handOver: executable, context: begun } = outcome;
    if (executable !== undefined && begun.bundle !== undefined) {
      log.info("handing over to the zone's version", { executable });
      const remainingMs = outcome.status.remainingSeconds * 1000;
      const bundle = await handOver(executable, ['boot', ...args], begun.bundle, remainingMs);
      if (bundle === undefined) return 0;
      log.error("the zone's version did not come up; going on with this one", {
        executable,
        reason: bundle.reason,
      });
      outcome = await boot('back', bundle);
    }
    const { status, context } = outcome;
    if (successor && status.verdict !== 'ready') {
      log.error('boot failed; the version before goes on', failureFields(status));
      return 1;
    }
    await publish(status, context);
    try {
      if (values.json === true) io.stdout(`${JSON.stringify(status)}\n`);
      else if (!journal) io.stdout(summary(status));
    } catch (error) {
      // The verdict is published in other places too, and the steps that follow from it must still run.
      log.warn('verdict not printed', { reason: String(error) });
    }
    if (status.verdict === 'ready') {
      await collectVersions(log);
      await startIfDue().catch((error: unknown) =>
        log.warn('kubelet not started; eniboot-repair.timer tries again', { reason: String(error) }),
      );
      log.info('boot ended', { line: consoleLine(status) });
      return 0;
    }
    // When pods run already, a later failed run must not shut the machine down under them.
    const action = living ? 'hold (this boot was READY before)' : await actOnFailure(context);
    log.error('boot failed', { ...failureFields(status), action });
    return 1;
  },
};

/**
 * When a run is interrupted, its changes stay, and the next run continues from there. On a node that was READY before, the
 * earlier status is written again. When this run has already made the node READY, kubelet runs, and only the verdict is still
 * to be published: the run ends by itself.
 *
 * @returns a watcher that comes before the one that writes the status. It reads the earlier one when this run first has
 *   something to tell, which is under the lock: until then another run may still have been at work.
 */
function sayWhenInterrupted(living: boolean, io: CommandIo): Watcher {
  let before: Status | undefined;
  interruption().addEventListener('abort', () => {
    if (!living && isBooted()) {
      io.stderr('the node is already READY; this run ends once its verdict is published\n');
      return;
    }
    if (before !== undefined) writeStatus(before);
    io.stderr(
      living
        ? 'interrupted: the earlier verdict stands; `eniboot boot` looks again\n'
        : 'interrupted: there is no verdict yet; `eniboot boot` goes on\n',
    );
    finish(INTERRUPTED);
  });
  return () => {
    if (living) before ??= readStatus();
  };
}

/** winston reserves `message`, so the failure's message is logged as `reason`. */
function failureFields({ failure }: Status): Record<string, unknown> {
  const { message: reason, ...others } = failure ?? { message: '' };
  return { ...others, reason };
}

function summary(status: Status): string {
  const lines = [consoleLine(status)];
  for (const reason of status.degraded) lines.push(`  degraded: ${reason}`);
  if (status.failure !== undefined) {
    const [first, ...rest] = failureLines(status.failure);
    lines.push(`  in ${status.failure.phase}: ${first}`, ...rest);
  }
  return `${lines.join('\n')}\n`;
}
