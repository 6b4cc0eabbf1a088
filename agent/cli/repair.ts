import { repair } from '../boot/repair.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';
import { failureLines } from './failure-text.ts';

const help = `Usage: eniboot repair [--json]

Puts back what other programs have changed on this node since it booted: the node's nftables tables, policy rule and
kernel settings, devices of pod ENIs, NetworkManager's configuration, plugins and drop-ins. In living pods: the guard and
the mode of their interface, their kernel settings, and what they have about their node: its addresses, the VPC's routes,
its MTU.
Creates, attaches and gives back nothing in EC2.
eniboot-repair.timer runs it. It does nothing on a node that never became READY: run \`eniboot boot\` there.

  --json      one object: { "changes": [], "failures": [ { "phase", "code", "message", "remedy", "facts" } ] }

Exit codes: 0 everything is as it should be now; 1 something could not be put back; 2 wrong usage.
`;

export const repairCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('repair', args, { json: { type: 'boolean' } });
    requireRoot('repair');
    const { changes, failures } = await repair();
    if (values.json === true) {
      io.stdout(`${JSON.stringify({ changes, failures })}\n`);
    } else {
      for (const change of changes) io.stdout(`+ ${change}\n`);
      if (changes.length === 0 && failures.length === 0) io.stdout('nothing to repair\n');
      for (const { phase, ...failure } of failures)
        io.stderr(`eniboot: ${phase}: ${failureLines(failure).join('\n')}\n`);
    }
    return failures.length === 0 ? 0 : 1;
  },
};
