import { type CheckGroup, checkGroups, groupOf } from '../boot/checks/groups.ts';
import { checkNeighboursOfBooted } from '../boot/checks/neighbours.ts';
import { isBooted, requireBooted } from '../boot/facts/booted.ts';
import { patientContext } from '../boot/look.ts';
import type { Check, Phase } from '../boot/phase.ts';
import { checkRunning } from '../boot/running.ts';
import { sequence } from '../boot/sequence.ts';
import { isFailure } from '../messages/failure.ts';
import { INTERRUPTED, interruption, requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import { groupedText } from './checks-text.ts';
import type { Command } from './command.ts';

const help = `Usage: eniboot check [--probe] [--json]

Is this node healthy now? Checks again everything that a boot verifies, what only a running node can show (the runtime
answers, every leased address has a sandbox, kubelet is up), and other programs that drop pods' packets or send them elsewhere
(firewalls, VPNs: docs/neighbours.md). Rows stand in groups, each with what a failure in it means for pods. A READY node is
compared with the configuration it booted with. Changes nothing and may be run at any time. Needs root.

  --probe     also sends packets as a pod does, from a namespace made for it with one address of the pool: to
              the node and back, to the VPC's resolver by the pod ENI and through the node's source NAT (no answer is a
              warning), and to the metadata service, which must refuse. All of it is removed again, whatever happens

  --json      one object: { "healthy": true, "checks": [ { "id", "group", "result", "summary", "evidence", "code"?,
              "remedy"? } ], "groups": { NAME: { "title", "means" } } }

Exit codes: 0 healthy (warnings included); 1 at least one check fails; 2 wrong usage.
`;

export const checkCommand: Command = {
  help,
  async run(args, io) {
    const { values } = parse('check', args, { probe: { type: 'boolean' }, json: { type: 'boolean' } });
    requireRoot('check');
    const checks = [...(await checkNode()), ...(values.probe === true ? await probeNode() : [])];
    if (checks.includes(STOPPED)) {
      io.stderr('eniboot: interrupted; what the probe had made was taken away\n');
      return INTERRUPTED;
    }
    const healthy = checks.every((check) => check.result !== 'fail');
    if (values.json === true) io.stdout(`${json(healthy, checks)}\n`);
    else io.stdout(groupedText(grouped(checks), io.isTTY));
    return healthy ? 0 : 1;
  },
};

/** Stands for all rows of a probe that was interrupted. */
const STOPPED: Check = { id: 'probe', result: 'skip', summary: 'interrupted', evidence: {} };

async function probeNode(): Promise<Check[]> {
  requireBooted('there is no pool to lease an address from');
  const { probe } = await import('../boot/checks/probe.ts');
  const stopped = interruption();
  return probe(stopped).catch((error: unknown) => {
    if (stopped.aborted) return [STOPPED];
    throw error;
  });
}

const names = Object.keys(checkGroups) as CheckGroup[];

function grouped(checks: Check[]): { title: string; means: string; checks: Check[] }[] {
  const ofGroup = (name: CheckGroup) => checks.filter((check) => (groupOf(check) ?? 'runtime') === name);
  return names.map((name) => ({ ...checkGroups[name], checks: ofGroup(name) }));
}

function json(healthy: boolean, checks: Check[]): string {
  const groups = names.map((name) => [
    name,
    { title: checkGroups[name].title, means: checkGroups[name].means },
  ]);
  const rows = checks.map(({ id, ...rest }) => ({ id, group: groupOf({ id }) ?? 'runtime', ...rest }));
  return JSON.stringify({ healthy, checks: rows, groups: Object.fromEntries(groups) });
}

/** Results of the phases and of a look at the running units. Reads only. */
export async function checkNode(): Promise<Check[]> {
  const rows: Check[] = [];

  async function run<Observed>(phase: Phase<Observed>): Promise<Observed | undefined> {
    try {
      const observed = await phase.observe();
      rows.push(...phase.judge(observed));
      return observed;
    } catch (error) {
      rows.push(toCheck(phase.name, error));
      return undefined;
    }
  }

  const { node } = await sequence(patientContext('look', isBooted()), run);
  // When the node cannot be observed, other programs that may have caused it can still be found.
  return [...rows, ...(node === undefined ? await checkNeighboursOfBooted() : await checkRunning())];
}

function toCheck(phase: string, error: unknown): Check {
  if (!isFailure(error)) throw error;
  return { id: phase, result: 'fail', code: error.code, summary: error.message, evidence: error.facts };
}
