// Cyclonus' tests of network policies: it generates policies, each of nine pods probes every other, and the table of
// results is compared with Cyclonus' own model of the policies.
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Bench } from '../vm/bench.ts';
import { onWholeCluster, say } from './conformance.ts';
import type { ControlPlane } from './control.ts';
import { ensureBuilt, modules, versionOf } from './fetch.ts';
import { enforcing } from './network-policy.ts';
import { clean, type Facts } from './services.ts';

/** Number of cases that Cyclonus has without arguments. */
const CASES = 112;

/** A line of the output of go/cyclonus. */
interface Tested {
  Case: number;
  Of: number;
  Description: string;
  Probes: number;
  Repeated: number;
  Differences: Difference[];
  Error?: string;
}

interface Difference {
  Step: number;
  From: string;
  To: string;
  What: string;
  Wanted: string;
  Found: string;
}

/** Reasons why a probe may end otherwise than Cyclonus' model says. */
const explanations: Record<string, (one: Difference) => boolean> = {
  // kubernetes.io/docs/concepts/services-networking/network-policies: "A Pod cannot block access to itself". The model
  // does not know this; Cyclonus has --ignore-loopback for it.
  'a pod and itself': ({ From, To, Found }) => From === To && Found === 'allowed',
};

export function runCyclonus(bench: Bench): Promise<Facts> {
  return onWholeCluster(bench, enforcing, async (nodes) => ({
    ...(await testByCyclonus(bench.work, nodes.control, { count: CASES })),
    ...(await clean(nodes)),
  }));
}

/**
 * @param count number of cases.
 * @param options of go/cyclonus.
 * @throws with the facts, when a difference is not explained
 */
export async function testByCyclonus(
  work: string,
  control: ControlPlane,
  { count, options = [] }: { count: number; options?: string[] },
): Promise<Facts> {
  const kubeconfig = join(work, 'cyclonus.kubeconfig');
  writeFileSync(kubeconfig, control.kubeconfig('admin'));
  const tested: Tested[] = [];
  const words = await run(kubeconfig, options, (one) => {
    tested.push(one);
    control.assertAlive();
    const how = one.Error ?? `${unexplained(one).length} of ${one.Probes} probes unexplained`;
    say(`case ${one.Case} of ${one.Of}: ${how}; ${one.Description}`);
  });
  const facts = factsOf(tested);
  const wrong = tested.filter((one) => one.Error !== undefined || unexplained(one).length > 0);
  const wanted = process.env['ENIBOOT_FOCUS'] === undefined ? count : tested[0]?.Of;
  if (wrong.length === 0 && tested.length === wanted) return facts;
  const texts = wrong.map((one) => JSON.stringify({ ...one, Differences: unexplained(one) }));
  const message = [`${tested.length} of ${wanted} cases ran`, ...texts, words].join('\n');
  throw Object.assign(new Error(message), { facts });
}

function unexplained({ Differences }: Tested): Difference[] {
  return Differences.filter((one) => !Object.values(explanations).some((explains) => explains(one)));
}

function factsOf(tested: Tested[]): Facts {
  const all = tested.flatMap(({ Differences }) => Differences);
  const sum = (of: 'Probes' | 'Repeated') => tested.reduce((total, one) => total + one[of], 0);
  return {
    Cyclonus: versionOf(modules.cyclonus),
    'its cases': tested.length,
    'cases without an unexplained difference': tested.filter(
      (one) => one.Error === undefined && unexplained(one).length === 0,
    ).length,
    probes: sum('Probes'),
    'steps whose probes were repeated': sum('Repeated'),
    ...Object.fromEntries(
      Object.entries(explanations).map(([why, explains]) => [
        `differences: ${why}`,
        all.filter((one) => explains(one)).length,
      ]),
    ),
    ...Object.fromEntries(
      tested.map((one) => [
        `${one.Case}: ${one.Description}`,
        one.Error ??
          `${one.Probes} probes, ${one.Differences.length} explained differences, ${unexplained(one).length} others`,
      ]),
    ),
  };
}

/** Runs Cyclonus beside the nodes. @returns the end of its output. */
async function run(kubeconfig: string, options: string[], tell: (one: Tested) => void): Promise<string> {
  const program = join(
    ensureBuilt(modules.cyclonus, () => undefined),
    'cyclonus',
  );
  const focus = process.env['ENIBOOT_FOCUS'];
  const child = spawn(
    program,
    // Connects directly to each Service's address: under emulation, cluster DNS would take minutes for the names.
    ['-destination=service-ip', ...options, ...(focus === undefined ? [] : [`-match=${focus}`])],
    { env: { ...process.env, KUBECONFIG: kubeconfig }, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  const ended = new Promise((resolve) => child.once('close', resolve));
  let words = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    words = (words + chunk).slice(-6000);
  });
  for await (const line of createInterface({ input: child.stdout }))
    if (line.startsWith('{')) tell(JSON.parse(line) as Tested);
    else words = `${words}${line}\n`.slice(-6000);
  await ended;
  return words;
}
