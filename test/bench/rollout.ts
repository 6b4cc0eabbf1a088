// `npm run bench:rollout`: the orchestrator rolls a version out to thousands of modelled nodes, on virtual time.

import { writeFileSync } from 'node:fs';
import { readArguments } from '../arguments.ts';
import { type Target, table, targetTable, writeEvidence } from './report.ts';
import { type Measured, rollOut } from './rollout/measure.ts';
import { plotSvg } from './rollout/plot.ts';

const help = `Usage: npm run bench:rollout [-- OPTIONS]

Rolls a version out to fleets of modelled nodes in three zones: the product's own spec, plan and orchestrator with their
default steps, waits and budgets, under the simulated EC2, SSM and Parameter Store with their request limits. Nodes take
30 to 90 s for an update, and 0.2 % of them fail. Time is virtual, so the simulated hours take seconds; wall time and
memory are this machine's, for the orchestrator and the simulation together.

  --nodes N        one fleet of this size (default: 5000 and 20000)
  --seed N         of all randomness (default 1)
  --quick          1000 and 5000 nodes
  --evidence FILE  write the result as JSON, and the plot beside it as .svg
  --json           print one object and nothing else

Exit codes: 0 all targets met; 1 one was not; 2 wrong usage.
`;

/** From the study of Run Command: thousands of nodes must not need thousands of calls a minute. */
const CALLS_PER_MINUTE = 500;
const MEMORY_MB = 400;
/** The first look at a large fleet is pages that come faster than they are allowed; nothing else should be. */
const THROTTLED = 0.05;
/** Share of the fleet that may fail by default, and does not here. */
const FAILING = 0.002;

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
  const measured = await rollOut({ nodes, seed, failing: FAILING });
  process.stderr.write(`${measured.wallSeconds.toFixed(0)} s\n`);
  fleets.push(measured);
}
const targets = fleets.flatMap((fleet): Target[] => {
  const of = (what: string) => `${what}, ${fleet.nodes} nodes`;
  const share = fleet.calls.busiestMinute / fleet.nodes;
  return [
    {
      what: of('every node updated once, or failed and told'),
      target: `${fleet.nodes}`,
      measured: `${fleet.updated + fleet.failed}`,
      met: fleet.state === 'done' && fleet.updated + fleet.failed === fleet.nodes && fleet.twice === 0,
      timing: false,
    },
    {
      what: of('API calls in the busiest minute'),
      target: `≤ ${CALLS_PER_MINUTE}`,
      measured: `${fleet.calls.busiestMinute} (${share.toFixed(2)} a node)`,
      met: fleet.calls.busiestMinute <= CALLS_PER_MINUTE,
      timing: false,
    },
    {
      what: of('calls that were throttled and repeated'),
      target: `≤ ${THROTTLED * 100} %`,
      measured: `${((fleet.calls.throttled / fleet.calls.all) * 100).toFixed(1)} %`,
      met: fleet.calls.throttled <= fleet.calls.all * THROTTLED,
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
      what: of('memory, simulation included'),
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
  const rows = fleets.map((fleet) => [
    `${fleet.nodes}`,
    hours(fleet.simulatedSeconds),
    `${fleet.bakeSeconds / 60} min`,
    `${fleet.wallSeconds.toFixed(1)} s`,
    `${fleet.commands}`,
    `${fleet.calls.all}`,
    `${fleet.calls.median}`,
    `${fleet.calls.busiestMinute}`,
    `${fleet.failed}`,
  ]);
  const head = [
    'nodes',
    'takes',
    'of it waits',
    'wall',
    'commands',
    'API calls',
    'a minute',
    'busiest',
    'failed',
  ];
  process.stdout.write(`${table([head, ...rows])}\n\n`);
  const actions = [...new Set(fleets.flatMap((fleet) => Object.keys(fleet.calls.byAction)))].sort();
  process.stdout.write(
    `${table([
      ['API action', ...fleets.map((fleet) => `${fleet.nodes} nodes`)],
      ...actions.map((action) => [action, ...fleets.map((fleet) => `${fleet.calls.byAction[action] ?? 0}`)]),
    ])}\n\n${targetTable(targets)}\n\n${passed} passed, ${failed} failed\n`,
  );
}
process.exit(failed === 0 ? 0 : 1);

function hours(seconds: number): string {
  return `${Math.floor(seconds / 3600)} h ${String(Math.round((seconds % 3600) / 60)).padStart(2, '0')} min`;
}
