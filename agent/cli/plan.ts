import type { Change } from '../boot/change.ts';
import { patientContext } from '../boot/look.ts';
import type { Phase } from '../boot/phase.ts';
import { sequence } from '../boot/sequence.ts';
import { render } from '../kernel/render.ts';
import type { Failure } from '../messages/failure.ts';
import { failureOf } from '../messages/kinds.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import type { Command } from './command.ts';
import { failureObject, failureText } from './failure-text.ts';
import { paint } from './table.ts';

const help = `Usage: eniboot plan [--json]

What \`eniboot boot\` would change on this machine and in EC2 now, phase by phase. Reads IMDS, EC2, the kernel and files;
changes nothing. Shows the first round of each phase, as boot carries it out, up to the first phase that has changes.
What depends on the result of those changes is provisional: boot observes again after them, until nothing is left to change.
Below a change of the kernel's network stand the commands with which the same can be done by hand.

  --json      one object: { "phases": [ { "name", "changes": [], "provisional"?, "failed"? } ],
              "failure": { "code", … } }

Exit codes: 0 shown (also when nothing would change); 1 a phase cannot be planned, with a code; 2 wrong usage.
`;

export const planCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('plan', args, { json: { type: 'boolean' } });
    requireRoot('plan');
    const { shown, failure } = await planNode();
    if (values.json === true) {
      const failed = failure === undefined ? {} : { failure: failureObject(failure) };
      const phases = shown.map(({ name, changes, ...rest }) => ({
        ...{ name, changes: changes.map((change) => change.summary) },
        ...rest,
      }));
      io.stdout(`${JSON.stringify({ phases, ...failed })}\n`);
    } else {
      for (const phase of shown) {
        io.stdout(`  ${phase.name.padEnd(9)} ${remark(phase, io.isTTY)}\n`);
        for (const change of phase.changes) {
          io.stdout(`    + ${change.summary}\n`);
          for (const operation of change.do === 'kernel' ? change.operations : [])
            io.stdout(`        ${paint('dim', render(operation), io.isTTY)}\n`);
        }
      }
    }
    if (failure === undefined) return 0;
    // Not thrown: standard output has its one object already.
    io.stderr(failureText(failureObject(failure), io.isTTY));
    return 1;
  },
};

interface Planned {
  name: string;
  changes: Change[];
  failed?: string;
  /** The phase depends on the result of changes before it. */
  provisional?: true;
}

/** The first round of each phase. */
async function planNode(): Promise<{ shown: Planned[]; failure: Failure | undefined }> {
  const shown: Planned[] = [];
  let failure: Failure | undefined;

  async function run<Observed>({ name, observe, plan }: Phase<Observed>): Promise<Observed | undefined> {
    if (plan === undefined) return undefined;
    const depends = shown.some((phase) => phase.changes.length > 0);
    const provisional = depends ? ({ provisional: true } as const) : {};
    try {
      const observed = await observe();
      shown.push({ name, changes: plan(observed), ...provisional });
      return observed;
    } catch (error) {
      failure = failureOf(error);
      shown.push({ name, changes: [], failed: failure.code, ...provisional });
      return undefined;
    }
  }

  await sequence(patientContext('look', false), run);
  return { shown, failure };
}

function remark({ changes, failed, provisional }: Planned, colour: boolean): string {
  if (failed !== undefined) return paint('red', `cannot be planned: ${failed}`, colour);
  if (changes.length === 0) return paint('dim', 'nothing to change', colour);
  return provisional === true ? paint('dim', 'provisional', colour) : '';
}
