// `npm run bench:rollout`: the orchestrator rolls a version out to thousands of modelled nodes, on virtual time.

import { writeFileSync } from 'node:fs';
import { readArguments } from '../arguments.ts';
import { type Target, table, targetTable, writeEvidence } from './report.ts';
import { type Measured, rollOut } from './rollout/measure.ts';
import { plotSvg } from './rollout/plot.ts';

const help = `Usage: npm run bench:rollout [-- OPTIONS]

Rolls a version out to fleets of modelled nodes in three zones: the product's own spec, plan and orchestrator with their
default steps, waits and budgets, under the simulated EC2, SSM and Parameter Store with their request limits. Nodes take
30 to 90 s for an update, and 0.2 % of them fail. The fleet changes meanwhile: in an hour EC2 ends 2 % of the nodes, and an
autoscaler replaces each of them. Time is virtual, so the simulated hours take seconds. CPU time and
memory are those of the operator's process alone: the orchestrator and the AWS SDK in the shipped runtime, over HTTP
without TLS. The simulation is another process.

  --nodes N        one fleet of this size (default: 5000 and 20000)
  --seed N         seed of all random numbers (default 1)
  --quick          1000 and 5000 nodes
  --evidence FILE  write the result as JSON, and the plot beside it as .svg
  --json           print one JSON object only

Exit codes: 0 all targets met; 1 a target was not met; 2 wrong usage.
`;

/** The limit that the study of Run Command gives: thousands of nodes must not need thousands of calls a minute. */
const CALLS_PER_MINUTE = 500;
const PROCESSOR_SECONDS = 60;
const MEMORY_MB = 300;
/** The first look at a large fleet reads pages faster than the limit allows; no other calls should be throttled. */
const THROTTLED = 0.05;
/** Share of the fleet whose updates fail; it is within the default budget. */
const FAILING = 0.002;
/** Share of the fleet that is replaced in an hour. */
const CHURN = 0.02;

const options = readArguments(help, {
  nodes: { least: 3, most: 100_000 },
  seed: { least: 0 },
  quick: 'switch',
  evidence: 'text',
  json: 'switch',
});
const seed = options.seed ?? 1;
const sizes = options.nodes === undefined ? (options.quick ? [1000, 5000] : [5000, 20_000]) : [options.nodes];

const fleets: Measured[] = [];
for (const nodes of sizes) {
  process.stderr.write(`${nodes} nodes … `);
  const began = performance.now();
  fleets.push(await rollOut({ nodes, seed, failing: FAILING, churn: CHURN }));
  process.stderr.write(`${((performance.now() - began) / 1000).toFixed(0)} s\n`);
}
const targets = fleets.flatMap((fleet): Target[] => {
  const of = (what: string) => `${what}, ${fleet.nodes} nodes`;
  const { calls } = fleet;
  return [
    {
      what: of('the rollout ends by itself'),
      target: 'done',
      measured: fleet.state,
      met: fleet.state === 'done',
      timing: false,
    },
    {
      what: of('living nodes that run another version in the end, and are not named'),
      target: '0',
      measured: `${fleet.missed}`,
      met: fleet.missed === 0,
      timing: false,
    },
    {
      what: of('nodes that were asked twice'),
      target: '0',
      measured: `${fleet.twice}`,
      met: fleet.twice === 0,
      timing: false,
    },
    {
      what: of('API calls in the busiest minute'),
      target: `≤ ${CALLS_PER_MINUTE}`,
      measured: `${calls.busiestMinute} (${(calls.busiestMinute / fleet.nodes).toFixed(2)} a node)`,
      met: calls.busiestMinute <= CALLS_PER_MINUTE,
      timing: false,
    },
    {
      what: of('calls that were throttled and repeated'),
      target: `≤ ${THROTTLED * 100} %`,
      measured: `${((calls.throttled / calls.all) * 100).toFixed(1)} %`,
      met: calls.throttled <= calls.all * THROTTLED,
      timing: false,
    },
    {
      what: of('largest parameter'),
      target: '≤ 4096 bytes',
      measured: `${fleet.largestParameter}`,
      met: fleet.largestParameter <= 4096,
      timing: false,
    },
    {
      what: of("processor time of the operator's process"),
      target: `≤ ${PROCESSOR_SECONDS} s`,
      measured: `${fleet.processorSeconds.toFixed(1)} s`,
      met: fleet.processorSeconds <= PROCESSOR_SECONDS,
      timing: true,
    },
    {
      what: of("resident memory of the operator's process, at most"),
      target: `≤ ${MEMORY_MB} MB`,
      measured: `${fleet.memoryMb.toFixed(0)} MB`,
      met: fleet.memoryMb <= MEMORY_MB,
      timing: false,
    },
  ];
});
const passed = targets.filter((one) => one.met).length;
const failed = targets.length - passed;
const summary = {
  seed,
  fleets: fleets.map((fleet) => ({ ...fleet, course: undefined })),
  targets,
  passed,
  failed,
};
if (options.evidence !== undefined) {
  writeEvidence(options.evidence, 'bench:rollout', summary);
  writeFileSync(options.evidence.replace(/\.json$/, '.svg'), plotSvg(fleets));
}
if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
else {
  const figures: [string, (fleet: Measured) => string][] = [
    ['takes', (fleet) => hours(fleet.simulatedSeconds)],
    ['of it waits', (fleet) => `${fleet.bakeSeconds / 60} min`],
    ['instances launched meanwhile', (fleet) => `${fleet.launched}`],
    ['instances ended meanwhile', (fleet) => `${fleet.terminated}`],
    ['updated', (fleet) => `${fleet.updated}`],
    ['failed', (fleet) => `${fleet.failed}`],
    ['gone before they were asked', (fleet) => `${fleet.gone}`],
    ['commands', (fleet) => `${fleet.commands}`],
    ['API calls', (fleet) => `${fleet.calls.all}`],
    ['in a minute, median', (fleet) => `${fleet.calls.median}`],
  ];
  const heads = fleets.map((fleet) => `${fleet.nodes} nodes`);
  const actions = [...new Set(fleets.flatMap((fleet) => Object.keys(fleet.calls.byAction)))].sort();
  const allowed = (action: string) =>
    fleets.map((fleet) => fleet.calls.byAction[action]?.allowedAMinute).find((one) => one !== undefined);
  process.stdout.write(
    `${table([['', ...heads], ...figures.map(([what, of]) => [what, ...fleets.map(of)])])}\n\n${table([
      ['API action', 'allowed a minute', ...heads.flatMap((one) => [one, 'busiest minute', 'throttled'])],
      ...actions.map((action) => [
        action,
        `${allowed(action)}`,
        ...fleets.flatMap(({ calls }) => {
          const { all = 0, busiestMinute = 0, throttled = 0 } = calls.byAction[action] ?? {};
          return [`${all}`, `${busiestMinute}`, `${throttled}`];
        }),
      ]),
    ])}\n\n${targetTable(targets)}\n\n${passed} passed, ${failed} failed\n`,
  );
}
process.exit(failed === 0 ? 0 : 1);

function hours(seconds: number): string {
  return `${Math.floor(seconds / 3600)} h ${String(Math.round((seconds % 3600) / 60)).padStart(2, '0')} min`;
}
