import { looking } from '../boot/look.ts';
import { Failure } from '../messages/failure.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';
import { failureObject, failureText } from './failure-text.ts';
import { paint } from './table.ts';

const help = `Usage: eniboot plan [--json]

What \`eniboot boot\` would change on this machine and in EC2 now, phase by phase. Reads IMDS, EC2, the kernel and files;
changes nothing.

  --json      one object: { "phases": [ { "name", "changes": [], "failed"? } ], "failure": { "code", … } }

Exit codes: 0 shown (also when nothing would change); 1 a phase cannot be planned, with a code; 2 wrong usage.
`;

export const planCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('plan', args, { json: { type: 'boolean' } });
    requireRoot('plan');
    const planned = await looking(async (session, phases) => {
      const shown: { name: string; changes: string[]; failed?: string }[] = [];
      let failure: Failure | undefined;
      for (const phase of phases) {
        if (phase.name === 'verify') continue;
        try {
          const observed = await phase.observe(session);
          shown.push({
            name: phase.name,
            changes: phase.plan(observed, session).map((change) => change.summary),
          });
        } catch (error) {
          if (!(error instanceof Failure)) throw error;
          failure = error;
          shown.push({ name: phase.name, changes: [], failed: error.code });
          // Without identify nothing else can be planned; other phases stand by themselves.
          if (phase.name === 'identify') break;
        }
      }
      return { shown, failure };
    });
    const { shown, failure } = planned;
    if (values.json === true) {
      const failed = failure === undefined ? {} : { failure: failureObject(failure) };
      io.stdout(`${JSON.stringify({ phases: shown, ...failed })}\n`);
    } else {
      for (const phase of shown) {
        const none =
          phase.failed === undefined
            ? paint('dim', 'nothing to change', io.isTTY)
            : paint('red', `cannot be planned: ${phase.failed}`, io.isTTY);
        io.stdout(`  ${phase.name.padEnd(9)} ${phase.changes.length === 0 ? none : ''}\n`);
        for (const change of phase.changes) io.stdout(`    + ${change}\n`);
      }
    }
    if (failure === undefined) return 0;
    // Not thrown: what is on standard output is one object already.
    io.stderr(failureText(failureObject(failure), io.isTTY));
    return 1;
  },
};
