// `npm run bench:cni`: the time that a pod waits for the plugin, and its cost. Calls of the executable one at a time and many at
// once, compared with Go's ptp + host-local, called in the same way in the same run. This half builds, starts the measuring half
// in the sandbox (cni-measure.ts) and makes tables of its samples.
import { spawnSync } from 'node:child_process';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { readArguments } from '../arguments.ts';
import { buildExecutable } from '../build/executable.ts';
import { buildMacvlanVariant } from '../build/stand-in.ts';
import { goTools, withoutGoTools } from '../cni/fetch.ts';
import { kernelHasIpvlan } from '../cni/rig.ts';
import type { Call, Plan, Samples } from './cni-measure.ts';
import { plotSvg } from './cni-plot.ts';
import { type Spread, spread, type Target, table, targetTable, writeEvidence } from './report.ts';

const help = `Usage: npm run bench:cni [-- OPTIONS]

Times VERSION, ADD, CHECK and DEL of the executable on a node in the simulated AWS, one at a time and 30 and 110 at once, with
CPU time, memory, child processes and the phases of an ADD, and an ADD that closes the pod for network policies; with Go's ptp + host-local and the floor of the Lyft
chain in the same run. Ends with the table of targets. On a busy machine times are wrong: repeat a run whose timing rows
are not met. Where the kernel has no ipvlan, the executable is built with a macvlan in its place.

  --rounds N       interleaved rounds (default 40; with --quick 5)
  --before COMMIT  also compare with the plugin of that commit: an ADD may take 1.1 times as long
  --quick          few rounds, 30 at once; a timing row that is not met is shown and does not fail the benchmark
  --evidence FILE  write the result as JSON, and the plot beside it as .svg
  --json           print one JSON object only
`;

/** The design's targets. */
const START_RATIO = 6;
const ADD_RATIO = 2;
const BEFORE_RATIO = 1.1;
const BURST_RATIO = 4;
const BURST_MEDIAN_MS = 250;
/** An ADD that closes the pod until its policies are known, and the chained plugin that does so by itself. */
const CLOSED_RATIO = 1.25;
const CHAINED_MORE_MS = 3;
const SPAWNS = 0;
const MEMORY_BYTES = 45e6;
const EXECUTABLE_BYTES = 125e6;

const options = readArguments(help, {
  rounds: {},
  before: 'text',
  quick: 'switch',
  evidence: 'text',
  json: 'switch',
});
const rounds = options.rounds ?? (options.quick ? 5 : 40);
const root = join(import.meta.dirname, '../..');
const arch = process.arch === 'arm64' ? 'arm64' : 'x64';
const cores = availableParallelism();

process.stderr.write('building the executable and the Go plugins …\n');
const executableBytes = statSync(buildExecutable()).size;
spawnSync(process.execPath, [join(root, 'test/cni/fetch.ts')], { stdio: ['ignore', 'ignore', 'inherit'] });
const go = goTools();
if (go === undefined) process.stderr.write(`without the Go plugins: ${withoutGoTools}\n`);
const ipvlan = kernelHasIpvlan();
const variant = ipvlan ? undefined : buildMacvlanVariant();
const before = options.before === undefined ? undefined : buildMacvlanVariant(options.before, !ipvlan);
const plan: Plan = {
  own: variant?.executable,
  before: before?.executable,
  go,
  rounds,
  traces: options.quick ? 3 : 15,
  bursts: options.quick ? [30] : [30, 110],
};
process.stderr.write('measuring …\n');
const measuring = spawnSync(
  'sh',
  [
    join(root, 'test/sandbox.sh'),
    process.execPath,
    join(import.meta.dirname, 'cni-measure.ts'),
    '--plan',
    JSON.stringify(plan),
  ],
  { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
);
for (const built of [variant, before])
  if (built !== undefined) rmSync(built.folder, { recursive: true, force: true });
if (measuring.status !== 0) {
  process.stderr.write('bench:cni: the measuring half failed: see above\n');
  process.exit(1);
}
const { calls, phases, spawns } = JSON.parse(measuring.stdout) as Samples;
const load = loadavg()[0] ?? 0;
const of = (what: string, value: (call: Call) => number): Spread => spread((calls[what] ?? []).map(value));
const wall = (what: string) => of(what, (call) => call.ms);
const cpu = (what: string) => of(what, (call) => call.cpu);
const single = wall('own ADD').median;
const burst = wall('own x30 ADD');

const targets: Target[] = [
  ...(go === undefined
    ? []
    : [
        atMost(
          'start of the plugin / of a Go plugin',
          START_RATIO,
          ratio('own VERSION', 'go VERSION'),
          '×',
          true,
        ),
        atMost('ADD / Go ptp + host-local', ADD_RATIO, ratio('own ADD', 'go ADD'), '×', true),
      ]),
  ...(before === undefined
    ? []
    : [atMost(`ADD / that of ${options.before}`, BEFORE_RATIO, ratio('own ADD', 'before ADD'), '×', true)]),
  atMost('ADD that closes the pod / ADD', CLOSED_RATIO, ratio('closed ADD', 'own ADD'), '×', true),
  atMost(
    'chained eniboot-policy more than a VERSION',
    CHAINED_MORE_MS,
    wall('chained ADD').median - wall('own VERSION').median,
    'ms',
    true,
  ),
  ...(calls['lyft floor'] === undefined
    ? []
    : [atMost('ADD / floor of the Lyft chain', 1, ratio('own ADD', 'lyft floor'), '×', true)]),
  atMost(
    'slowest of 30 at once / (ADD × 30 / cores)',
    BURST_RATIO,
    burst.max / ((single * 30) / cores),
    '×',
    true,
  ),
  atMost(`half of 30 at once are done, on ${cores} cores`, BURST_MEDIAN_MS, burst.median, 'ms', true),
  atMost('child processes of an ADD', SPAWNS, Math.max(...spawns.ADD), '', false),
  atMost('child processes of a CHECK', SPAWNS, Math.max(...spawns.CHECK), '', false),
  atMost('memory of a CNI call, at most', MEMORY_BYTES / 1e6, largest('own') / 1e6, 'MB', false),
  atMost('executable', EXECUTABLE_BYTES / 1e6, executableBytes / 1e6, 'MB', false),
];
const passed = targets.filter((one) => one.met).length;
const late = targets.filter((one) => !one.met && one.timing).length;
const summary = {
  rounds,
  load,
  ipvlan,
  executableBytes,
  calls: Object.fromEntries(
    Object.keys(calls).map((what) => [
      what,
      { ms: wall(what), cpu: cpu(what), rssBytes: of(what, (call) => call.rss).max },
    ]),
  ),
  phases: Object.fromEntries(
    Object.keys(phases[0] ?? {}).map((name) => [name, spread(phases.map((one) => one[name] ?? 0))]),
  ),
  spawns: {
    ADD: Math.max(...spawns.ADD),
    CHECK: Math.max(...spawns.CHECK),
    DEL: Math.max(...spawns.DEL),
  },
  targets,
  passed,
  failed: targets.length - passed,
};
// A busy machine makes times wrong: the short form shows such a row and does not count it.
const failing = targets.filter((one) => !one.met && !(options.quick && one.timing)).length;
if (options.evidence !== undefined) {
  writeEvidence(options.evidence, 'bench:cni', summary);
  writeFileSync(options.evidence.replace(/\.json$/, '.svg'), plot());
}
if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
else print();
process.exit(failing === 0 ? 0 : 1);

function ratio(what: string, of: string): number {
  return wall(what).median / wall(of).median;
}

function largest(who: string): number {
  const all = Object.entries(calls).filter(([what]) => what.startsWith(`${who} `));
  return Math.max(...all.flatMap(([, of]) => of.map((call) => call.rss)));
}

function atMost(what: string, target: number, measured: number, unit: string, timing: boolean): Target {
  const said = `${measured.toFixed(unit === '' ? 0 : unit === '×' ? 2 : 1)} ${unit}`.trim();
  return { what, target: `≤ ${target} ${unit}`.trim(), measured: said, met: measured <= target, timing };
}

function plot(): string {
  const most = Math.max(...plan.bursts);
  const curve = (who: string, name: string, colour: string) => ({
    name,
    colour,
    ends: (calls[`${who} x${most} ADD`] ?? []).map((call) => call.ms),
  });
  const ours = curve('own', 'eniboot', '#06c');
  return plotSvg(go === undefined ? [ours] : [ours, curve('go', 'Go ptp + host-local', '#888')], cores);
}

function print(): void {
  const names: Record<string, string> = {
    own: 'eniboot',
    closed: 'eniboot, closing the pod,',
    chained: 'eniboot-policy, chained,',
    before: `eniboot of ${options.before}`,
    go: 'Go ptp + host-local',
  };
  // What the chained call needs before and after it is like the rest.
  const shown = Object.keys(calls).filter((what) => !what.startsWith('unchained '));
  const rows = shown.map((what) => {
    const [who = '', ...rest] = what.split(' ');
    const [ms, used] = [wall(what), cpu(what)];
    const rss = of(what, (call) => call.rss).max;
    return [
      what === 'lyft floor'
        ? 'floor of the Lyft chain: 3 Go plugins, 16 × iptables'
        : `${names[who] ?? who} ${rest.join(' ')}`,
      `${ms.n}`,
      ...[ms.median, ms.p10, ms.p90, ms.max, used.median].map((one) => one.toFixed(1)),
      rss === 0 ? '' : (rss / 1e6).toFixed(1),
    ];
  });
  const parts = Object.entries(summary.phases).map(([name, { median, p90 }]) => [
    name,
    median.toFixed(1),
    p90.toFixed(1),
  ]);
  const out = [
    `\n${rounds} interleaved rounds on ${arch}, ${cores} cores; ms. The load of this machine is ${load.toFixed(1)}.`,
    ipvlan
      ? ''
      : "This kernel has no ipvlan: a macvlan stands in for each pod's eth0 (test/build/stand-in.ts).",
    '',
    table([['call', 'n', 'median', 'p10', 'p90', 'max', 'CPU', 'MB'], ...rows]),
    '',
    `phases of an ADD, ${phases.length} calls under strace, which slows each a little; ms`,
    table([['phase', 'median', 'p90'], ...parts]),
    `\nchild processes: ADD ${summary.spawns.ADD}, CHECK ${summary.spawns.CHECK}, DEL ${summary.spawns.DEL}\n`,
    targetTable(targets),
    ...(late === 0
      ? []
      : [
          `${late} timing ${late === 1 ? 'row is' : 'rows are'} not met. With a load of ${load.toFixed(1)} that may be the machine: run it again on a quiet one.`,
        ]),
    `\n${passed} passed, ${failing} failed`,
  ];
  process.stdout.write(`${out.join('\n')}\n`);
}
