import { isBooted } from '../boot/booted.ts';
import { looking } from '../boot/look.ts';
import type { Check } from '../boot/phase.ts';
import { checkRunning } from '../boot/running.ts';
import { isFailure } from '../messages/failure.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import { checksText } from './checks-text.ts';
import type { Command } from './command.ts';

const help = `Usage: eniboot check [--json]

Is this node healthy now? Looks again at everything a boot verifies, and at what only a running node can show (the
runtime answers, every leased address has a sandbox, kubelet is up). A READY node is compared with the configuration it
booted with. Changes nothing and may be run at any time. Needs root.

  --json      one object: { "healthy": true, "checks": [ { "id", "result", "summary", "evidence", "code"? } ] }

Exit codes: 0 healthy (warnings included); 1 at least one check fails; 2 wrong usage.
`;

export const checkCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('check', args, { json: { type: 'boolean' } });
    requireRoot('check');
    const checks = await checkNode();
    const healthy = checks.every((check) => check.result !== 'fail');
    if (values.json === true) io.stdout(`${JSON.stringify({ healthy, checks })}\n`);
    else io.stdout(checksText(checks, io.isTTY));
    return healthy ? 0 : 1;
  },
};

/** What verify, ready and a look at the running units find. Reads only. */
export async function checkNode(): Promise<Check[]> {
  return looking(async (session, phases) => {
    session.asBooted = isBooted();
    const results: Check[] = [];
    for (const phase of phases) {
      // The earlier phases' eyes set up what verify and ready look at; verify repeats their checks itself.
      if (phase.name === 'identify' || phase.name === 'egress' || phase.name === 'attach') {
        const failed = await phase.observe(session).then(
          () => undefined,
          (error: unknown) => error,
        );
        if (failed !== undefined) {
          results.push(toCheck(phase.name, failed));
          if (phase.name === 'identify') return results;
        }
      }
      if (phase.name === 'verify' || phase.name === 'ready') {
        results.push(
          ...(await phase.verify(session).catch((error: unknown) => [toCheck(phase.name, error)])),
        );
      }
    }
    return [...results, ...(await checkRunning())];
  });
}

function toCheck(phase: string, error: unknown): Check {
  if (!isFailure(error)) throw error;
  return { id: phase, result: 'fail', code: error.code, summary: error.message, evidence: error.facts };
}
