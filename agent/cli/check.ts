import { isBooted, requireBooted } from '../boot/booted.ts';
import { type CheckGroup, checkGroups, groupOf } from '../boot/check-groups.ts';
import { looking } from '../boot/look.ts';
import { checkNeighboursOfBooted } from '../boot/neighbours.ts';
import type { Check } from '../boot/phase.ts';
import { checkRunning } from '../boot/running.ts';
import { isFailure } from '../messages/failure.ts';
import { INTERRUPTED, interruption, requireRoot } from '../port/runtime.ts';
import { parse } from './arguments.ts';
import { groupedText } from './checks-text.ts';
import type { Command } from './command.ts';

const help = `Usage: eniboot check [--probe] [--json]

Is this node healthy now? Looks again at everything a boot verifies, at what only a running node can show (the runtime
answers, every leased address has a sandbox, kubelet is up), and at who else drops pods' packets or sends them elsewhere
(firewalls, VPNs: docs/neighbours.md). Rows stand in groups, each with what a failure in it means for pods. A READY node is
compared with the configuration it booted with. Changes nothing and may be run at any time. Needs root.

  --probe     also sends packets, from a namespace that is made for it and gets one address of the pool, as a pod does: to
              the node and back, to the VPC's resolver by the pod ENI and through the node's source NAT (no answer is a
              warning), to the metadata service, which refuses. Everything is taken away again, whatever happens

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

/** Stands for all rows of a probe that a person has stopped. */
const STOPPED: Check = { id: 'probe', result: 'skip', summary: 'interrupted', evidence: {} };

async function probeNode(): Promise<Check[]> {
  requireBooted('there is no pool to lease an address from');
  const { probe } = await import('../boot/probe.ts');
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
          // Without it nobody knows the rest; who has made it fail may be seen all the same.
          if (phase.name === 'identify') return [...results, ...(await checkNeighboursOfBooted())];
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
