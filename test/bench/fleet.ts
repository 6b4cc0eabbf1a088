// `npm run bench:fleet`: thousands of modelled nodes boot at once against EC2's token buckets, on virtual time.
import { readArguments } from '../arguments.ts';
import { plotSvg, plotText } from './fleet/plot.ts';
import { standIn } from './fleet/stand-ins.ts';
import { spread, type Target, table, targetTable, writeEvidence } from './report.ts';

const help = `Usage: npm run bench:fleet [-- OPTIONS]

Boots a fleet at once in a modelled EC2 region, each node with the agent's own sequence, retries, deadline and attach
logic, against EC2's request buckets (non-mutating 100 and 20 a second, mutating 50 and 5 a second, for each action).
Time is virtual; test/bench/README.md tells which parts are real and which are stand-ins.

  --nodes N        nodes (default 5000; with --quick 1500)
  --capacity N     bucket size of every mutating action (default EC2's: 50)
  --refill N       its refill a second (default EC2's: 5)
  --extension N    boot.throttleExtensionSeconds of the fleet's configuration (default: enough for the bound)
  --seed N         seed of all random numbers (default 1)
  --quick          1500 nodes, without the run with the default deadline
  --evidence FILE  write the result as JSON, and the plot beside it as .svg
  --json           print one JSON object only
`;

const options = readArguments(help, {
  nodes: {},
  capacity: {},
  refill: {},
  extension: { least: 0, most: 3600 },
  seed: { least: 0 },
  quick: 'switch',
  evidence: 'text',
  json: 'switch',
});
/** boot.throttleExtensionSeconds unless configured. */
const DEFAULT_EXTENSION_SECONDS = 300;
const nodes = options.nodes ?? (options.quick ? 1500 : 5000);
const seed = options.seed ?? 1;
const { capacity, refill } = options;
const bucket =
  capacity === undefined && refill === undefined
    ? undefined
    : { capacity: capacity ?? 50, refill: refill ?? 5 };
/** Seconds that a fleet of this size needs at least for one mutating call of each node. */
const expected = Math.max(0, nodes - (bucket?.capacity ?? 50)) / (bucket?.refill ?? 5);
const extensionSeconds =
  options.extension ?? Math.min(3600, Math.max(DEFAULT_EXTENSION_SECONDS, Math.ceil(expected * 1.2)));
const say = (text: string) => process.stderr.write(text);

standIn();
const { simulate } = await import('./fleet/simulate.ts');
say(`${nodes} nodes, all well … `);
const well = await simulate({ nodes, seed, bucket, extensionSeconds, lossRate: 0, killRate: 0 });
say(`${well.wallSeconds.toFixed(0)} s\n`);
const hurtNodes = Math.max(500, Math.ceil(nodes / 5));
say(`${hurtNodes} nodes, 1 % of the answers lost, 10 % of the nodes killed … `);
const hurt = await simulate({
  nodes: hurtNodes,
  seed: seed + 1,
  bucket,
  extensionSeconds,
  lossRate: 0.01,
  killRate: 0.1,
});
say(`${hurt.wallSeconds.toFixed(0)} s\n`);
let byDefault: typeof well | undefined;
if (!options.quick) {
  say(`${nodes} nodes with the default deadline … `);
  byDefault = await simulate({
    nodes,
    seed,
    bucket,
    extensionSeconds: DEFAULT_EXTENSION_SECONDS,
    lossRate: 0,
    killRate: 0,
  });
  say(`${byDefault.wallSeconds.toFixed(0)} s\n`);
}

const boundSeconds = well.bound[0]?.seconds ?? 0;
const lastReady = well.readyAt.at(-1) ?? 0;
/** Seconds of one node: for a fleet so small that no bucket empties, the bound has no meaning. */
const alone = well.readyAt[0] ?? 0;
const limit = 1.1 * boundSeconds + alone;
const calls = (result: typeof well) => Object.values(result.accepted).reduce((sum, count) => sum + count, 0);
const hurtLiving = hurtNodes - hurt.terminated;
const targets: Target[] = [
  {
    what: `all ${nodes} nodes READY`,
    target: `${nodes}`,
    measured: `${well.ready}, ${well.degraded} of them degraded`,
    met: well.ready === nodes && well.degraded === 0,
    timing: false,
  },
  {
    what: 'the last one READY within 1.1 × the bound',
    target: `≤ ${limit.toFixed(0)} s (1.1 × ${boundSeconds.toFixed(0)} s + one boot of ${alone.toFixed(1)} s)`,
    measured: `${lastReady.toFixed(0)} s = ${(lastReady / Math.max(1, boundSeconds)).toFixed(3)} × the bound`,
    met: lastReady <= limit,
    timing: false,
  },
  {
    what: 'mutating calls a node until READY',
    target: '≤ 3 (one pod ENI)',
    measured: `${spread(well.mutatingPerNode).max}`,
    met: spread(well.mutatingPerNode).max <= 3,
    timing: false,
  },
  {
    what: 'ENIs leaked, all well',
    target: '0',
    measured: `${well.enis.unattachedOfLiving + well.enis.leftByDead + well.enis.surplus}`,
    met: well.enis.unattachedOfLiving + well.enis.leftByDead + well.enis.surplus === 0,
    timing: false,
  },
  {
    what: 'living nodes READY with answers lost and agents killed',
    target: `${hurtLiving}`,
    measured: `${hurt.ready} (${hurt.rerun} agents killed and run again, ${hurt.terminated} instances terminated)`,
    met: hurt.ready === hurtLiving && hurt.rerun > 0 && hurt.terminated > 0,
    timing: false,
  },
  {
    what: 'ENIs leaked by living nodes, the same',
    target: '0',
    measured: `${hurt.enis.unattachedOfLiving + hurt.enis.surplus}`,
    met: hurt.enis.unattachedOfLiving + hurt.enis.surplus === 0,
    timing: false,
  },
  {
    what: 'ENIs of terminated nodes after `eni sweep`',
    target: '0',
    measured: `${hurt.enis.afterSweep} (${hurt.enis.leftByDead} before)`,
    met: hurt.enis.afterSweep === 0,
    timing: false,
  },
];
const passed = targets.filter((one) => one.met).length;
const summary = {
  nodes,
  seed,
  bucket: bucket ?? 'EC2',
  extensionSeconds,
  boundSeconds,
  lastReadySeconds: lastReady,
  readySeconds: spread(well.readyAt),
  retriesPerNode: spread(well.retries),
  callsPerNode: calls(well) / nodes,
  byDefault:
    byDefault === undefined
      ? undefined
      : { ready: byDefault.ready, failed: byDefault.failed, lastReadySeconds: byDefault.readyAt.at(-1) },
  runs: { well: without(well), hurt: without(hurt) },
  targets,
  passed,
  failed: targets.length - passed,
};
if (options.evidence !== undefined) {
  writeEvidence(options.evidence, 'bench:fleet', summary);
  const { writeFileSync } = await import('node:fs');
  writeFileSync(options.evidence.replace(/\.json$/, '.svg'), plotSvg(well.readyAt, nodes, boundSeconds));
}
if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
else print();
process.exit(passed === targets.length ? 0 : 1);

function print(): void {
  const retries = spread(well.retries);
  const ready = spread(well.readyAt);
  const out = [
    `\nA fleet of ${nodes} nodes (m5.xlarge, 110 pods each) powered on at the same moment, seed ${seed}\n`,
    table([
      ['action', 'accepted', 'a node', 'refused', 'its bucket needs'],
      ...well.bound.map(({ action, calls: count, seconds }) => [
        action,
        `${count}`,
        (count / nodes).toFixed(2),
        `${well.throttled[action] ?? 0}`,
        `${seconds.toFixed(0)} s`,
      ]),
    ]),
    `\nREADY after ${ready.p10.toFixed(0)} s (p10), ${ready.median.toFixed(0)} s (median), ${ready.p90.toFixed(0)} s (p90), ${ready.max.toFixed(0)} s (last); the bound is ${boundSeconds.toFixed(0)} s`,
    `refused calls a node: ${retries.median} (median), ${retries.max} (most)`,
    `simulated in ${well.wallSeconds.toFixed(0)} s with ${(well.peakBytes / 2 ** 20).toFixed(0)} MiB\n`,
    plotText(well.readyAt, nodes, boundSeconds),
    byDefault === undefined
      ? ''
      : `\nWith the default deadline (5 min, extended by at most 5 min of throttling) ${byDefault.ready} of ${nodes} nodes come up; failed: ${JSON.stringify(byDefault.failed)}.\nA fleet like this needs boot.throttleExtensionSeconds: ${extensionSeconds} (docs/benchmarks.md).`,
    '',
    targetTable(targets),
    `${passed} passed, ${targets.length - passed} failed`,
  ];
  process.stdout.write(`${out.join('\n')}\n`);
}

/** The result without the lists that have a number for each node. */
function without(result: typeof well): object {
  const { readyAt: _readyAt, retries: _retries, mutatingPerNode: _mutating, ...rest } = result;
  return rest;
}
