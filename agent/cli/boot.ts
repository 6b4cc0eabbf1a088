import { isBooted } from '../boot/booted.ts';
import type { BundleState } from '../boot/bundle.ts';
import { handOver, isSuccessor } from '../boot/hand-over.ts';
import { startIfDue } from '../boot/ready.ts';
import { runSequence } from '../boot/sequence.ts';
import { readStatus, type Status, writeStatus } from '../boot/status.ts';
import { takeBackUnjudged } from '../boot/update-mark.ts';
import { actOnFailure, consoleLine, publish } from '../boot/verdict.ts';
import { collectVersions } from '../boot/versions.ts';
import { journalWatcher, statusFileWatcher, systemdWatcher } from '../boot/watchers.ts';
import { systemClock } from '../port/clock.ts';
import { runInPlace } from '../port/hand-over.ts';
import { createLog } from '../port/log.ts';
import { environment, finish, INTERRUPTED, interruption, requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { failureLines } from './failure-text.ts';
import { planCommand } from './plan.ts';
import { terminalWatcher } from './progress.ts';

const help = `Usage: eniboot boot [--dry-run] [--json]

Turns this EC2 instance into a node and says so, or says why not. Runs the phases
  identify → reserve → egress → attach → install → kubelet → verify → ready
under one deadline (boot.deadlineSeconds, 5 minutes). May be run any number of times, also while pods run: it leaves
alone what is as it should be. eniboot.service runs it at boot; kubelet starts only after READY.

  --dry-run   show what would be changed, phase by phase, and change nothing (the same as \`eniboot plan\`)
  --json      print the final status as one JSON object (docs/status.md) and nothing else on stdout

The verdict goes to /run/eniboot/status.json, the console, the instance tag eniboot:verdict and
/var/lib/eniboot/metrics/boot.prom. \`eniboot status\` shows it; docs/failures.md lists every code with its remedy.

Exit codes: 0 READY (also degraded); 1 FAILED, with a code; 2 wrong usage.
`;

/** The other version keeps the boot's deadline itself; this is the longest a timer can be. */
const NO_LIMIT_MS = 2 ** 31 - 1;
/** runInPlace(), of what is no executable. */
const NOT_STARTED = 127;

export const bootCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('boot', args, { 'dry-run': { type: 'boolean' }, json: { type: 'boolean' } });
    if (values['dry-run'] === true) return planCommand.run(values.json === true ? ['--json'] : [], io);
    requireRoot('boot');
    // Under systemd the journal gets one structured line a phase; a person gets the short table.
    const journal = environment('JOURNAL_STREAM') !== undefined;
    const log = createLog({ level: journal ? 'info' : 'warn', form: journal ? 'json' : 'text' });
    const terminal = terminalWatcher(io);
    const sequence = (handedOver: 'to-us' | 'back' | undefined, bundle?: BundleState) =>
      runSequence({
        clock: systemClock,
        log,
        handedOver,
        bundle,
        watchers: [
          statusFileWatcher(log),
          systemdWatcher,
          ...(journal ? [journalWatcher(log)] : []),
          ...(journal || values.json === true ? [] : [terminal]),
        ],
      }).finally(() => terminal.stop());
    const successor = isSuccessor();
    const living = isBooted();
    if (!successor) sayWhenInterrupted(living, io);
    // Only the first boot of a machine: on one that is up, an update may be about to judge.
    const before =
      living || successor
        ? undefined
        : await takeBackUnjudged().catch((error: unknown) => {
            log.error(
              'whether a reboot came before an update was judged cannot be told; this version boots',
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
    let outcome = await sequence(successor ? 'to-us' : undefined);
    const { handOver: executable, session: begun } = outcome;
    if (executable !== undefined && begun.bundle !== undefined) {
      log.info("handing over to the zone's version", { executable });
      const remainingMs = outcome.status.remainingSeconds * 1000;
      const bundle = await handOver(executable, ['boot', ...args], begun.bundle, remainingMs);
      if (bundle === undefined) return 0;
      log.error("the zone's version did not come up; going on with this one", {
        executable,
        reason: bundle.reason,
      });
      outcome = await sequence('back', bundle);
    }
    const { status, session } = outcome;
    if (successor && status.verdict !== 'ready') {
      log.error('boot failed; the version before goes on', failureFields(status));
      return 1;
    }
    await publish(status, session);
    try {
      if (values.json === true) io.stdout(`${JSON.stringify(status)}\n`);
      else if (!journal) io.stdout(summary(status));
    } catch (error) {
      // The verdict stands in other places too, and what follows from it is still to be done.
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
    // A later run on a node whose pods live is no reason to take the machine from under them.
    const action = living ? 'hold (this boot was READY before)' : await actOnFailure(session);
    log.error('boot failed', { ...failureFields(status), action });
    return 1;
  },
};

/**
 * What a run has done stays, and the next goes on from there. A node that was READY is so still, and its status says so. One that has
 * become READY runs kubelet: what is left of the run is to tell that.
 */
function sayWhenInterrupted(living: boolean, io: CommandIo): void {
  const before = living ? readStatus() : undefined;
  interruption().addEventListener('abort', () => {
    if (!living && isBooted()) {
      io.stderr('the node is already READY; this run ends once its verdict is published\n');
      return;
    }
    if (before !== undefined) writeStatus(before);
    io.stderr(
      before === undefined
        ? 'interrupted: there is no verdict yet; `eniboot boot` goes on\n'
        : 'interrupted: the earlier verdict stands; `eniboot boot` looks again\n',
    );
    finish(INTERRUPTED);
  });
}

/** `message` is winston's own field. */
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
