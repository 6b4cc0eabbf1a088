import { takeBack } from '../boot/install.ts';
import { runSequence } from '../boot/sequence.ts';
import type { Status } from '../boot/status.ts';
import { actOnFailure, consoleLine, publish } from '../boot/verdict.ts';
import { journalWatcher, statusFileWatcher, systemdWatcher } from '../boot/watchers.ts';
import { systemClock } from '../port/clock.ts';
import { runInPlace } from '../port/hand-over.ts';
import { createLog } from '../port/log.ts';
import { environment, requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';
import { failureLines } from './failure-text.ts';
import { planCommand } from './plan.ts';
import { terminalWatcher } from './progress.ts';

const help = `Usage: eniboot boot [--dry-run] [--json]

Turns this EC2 instance into a node and says so, or says why not. Runs the phases
  identify → reserve → egress → attach → install → kubelet → verify → ready
under one deadline (boot.deadlineSeconds, 5 minutes). May be run any number of times, also while pods live: what is
as it should be is left alone. eniboot.service runs it at boot; kubelet starts only after READY.

  --dry-run   show what would be changed, phase by phase, and change nothing (the same as \`eniboot plan\`)
  --json      print the final status as one JSON object (docs/status.md) and nothing else on stdout

The verdict stands in /run/eniboot/status.json, on the console, in the instance tag eniboot/verdict and in
/var/lib/eniboot/metrics/boot.prom. \`eniboot status\` shows it; docs/failures.md lists every code with its remedy.

Exit codes: 0 READY (also degraded); 1 FAILED, with a code; 2 wrong usage.
`;

/** Set for a version that is handed a boot another one began. */
const HANDED_OVER = 'ENIBOOT_HANDED_OVER';

export const bootCommand: Command = {
  name: 'boot',
  summary: 'make this instance a node: all phases, one verdict',
  help,
  async run(args, io) {
    const { values } = parse('boot', args, { 'dry-run': { type: 'boolean' }, json: { type: 'boolean' } });
    if (values['dry-run'] === true) return planCommand.run(values.json === true ? ['--json'] : [], io);
    requireRoot('boot');
    // Under systemd the journal gets one structured line a phase; a person gets the short table.
    const journal = environment('JOURNAL_STREAM') !== undefined;
    const log = createLog({ level: journal ? 'info' : 'warn', form: journal ? 'json' : 'text' });
    const terminal = terminalWatcher(io);
    const sequence = (handedOver: 'to-us' | 'back' | undefined) =>
      runSequence({
        clock: systemClock,
        log,
        handedOver,
        watchers: [
          statusFileWatcher(log),
          systemdWatcher,
          ...(journal ? [journalWatcher(log)] : []),
          ...(journal || values.json === true ? [] : [terminal]),
        ],
      }).finally(() => terminal.stop());
    const successor = environment(HANDED_OVER) !== undefined;
    let outcome = await sequence(successor ? 'to-us' : undefined);
    if (outcome.handOver !== undefined) {
      log.info("handing over to the zone's version", { executable: outcome.handOver });
      if ((await runInPlace(outcome.handOver, ['boot', ...args], { [HANDED_OVER]: '1' })) === 0) return 0;
      log.error("the zone's version did not come up; going on with this one", {
        executable: outcome.handOver,
      });
      takeBack();
      outcome = await sequence('back');
    }
    const { status, session } = outcome;
    if (successor && status.verdict !== 'ready') {
      log.error('boot failed; the version before goes on', failureFields(status));
      return 1;
    }
    await publish(status, session);
    if (values.json === true) io.stdout(`${JSON.stringify(status)}\n`);
    else if (!journal) io.stdout(summary(status));
    if (status.verdict === 'ready') {
      log.info('boot ended', { line: consoleLine(status) });
      return 0;
    }
    log.error('boot failed', { ...failureFields(status), action: await actOnFailure(status, session) });
    return 1;
  },
};

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
