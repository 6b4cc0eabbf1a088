// `npm run bench:boot`: the cost of a boot for this machine and EC2. This half builds, starts the measuring half in the sandbox
// (boot-measure.ts) and makes tables of its samples.
import { spawnSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { readArguments } from '../arguments.ts';
import { buildExecutable } from '../build/executable.ts';
import type { BootSample, Case, Measured } from './boot-measure.ts';
import { type Spread, spread, type Target, table, targetTable, writeEvidence } from './report.ts';

const help = `Usage: npm run bench:boot [-- OPTIONS]

Boots nodes in the simulated AWS with the real executable and measures: the agent's own time (wall minus the time in
which the simulated cloud worked), its phases, CPU time, memory, start-up cold and warm, IMDS requests and EC2 calls.
Ends with the table of targets. On a busy machine times are wrong: repeat a run whose timing rows are not met.

  --runs N         interleaved runs (default 10; with --quick 2)
  --quick          few runs; a timing row that is not met is shown and does not fail the benchmark
  --evidence FILE  write the result as JSON
  --json           print one JSON object only
`;

/** The design's targets. */
const OWN_MS = 300;
const IMDS_REQUESTS = 40;
const EXECUTABLE_BYTES = 125e6;
const MEMORY_BYTES = 150e6;

const names: Record<Case, string> = {
  first: 'from nothing, one pod ENI',
  again: 'run again, nothing to do',
  restart: 'after a reboot, ENI in place',
  first2: 'from nothing, two pod ENIs',
  restart2: 'after a reboot, two in place',
  slowFirst: 'from nothing, cloud as slow as EC2',
  slowRestart: 'after a reboot, cloud as slow as EC2',
  slowFirst2: 'two from nothing, cloud as slow as EC2',
};

const options = readArguments(help, { runs: {}, quick: 'switch', evidence: 'text', json: 'switch' });
const runs = options.runs ?? (options.quick ? 2 : 10);
const root = join(import.meta.dirname, '../..');
const arch = process.arch === 'arm64' ? 'arm64' : 'x64';
process.stderr.write('building the executable …\n');
const executableBytes = statSync(buildExecutable()).size;
const measuring = spawnSync(
  'sh',
  [
    join(root, 'test/sandbox.sh'),
    process.execPath,
    join(import.meta.dirname, 'boot-measure.ts'),
    '--runs',
    `${runs}`,
  ],
  { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
);
if (measuring.status !== 0) {
  process.stderr.write('bench:boot: the measuring half failed: see above\n');
  process.exit(1);
}
const measured = JSON.parse(measuring.stdout) as Measured;
const load = loadavg()[0] ?? 0;
const of = (name: Case, value: (sample: BootSample) => number): Spread =>
  spread(measured.boots[name].map(value));
const mutating = (name: Case, ...without: string[]): number =>
  Math.max(
    ...measured.boots[name].map((sample) =>
      Object.entries(sample.mutating)
        .filter(([action]) => !without.includes(action))
        .reduce((sum, [, times]) => sum + times, 0),
    ),
  );

const targets: Target[] = [
  ...(['first', 'again', 'restart'] as const).map((name): Target => {
    const own = of(name, (sample) => sample.own);
    return {
      what: `own time, ${names[name]}`,
      target: `≤ ${OWN_MS} ms`,
      measured: `${ms(own.median)} (p10 ${ms(own.p10)}, p90 ${ms(own.p90)})`,
      met: own.median <= OWN_MS,
      timing: true,
    };
  }),
  ...(['again', 'restart', 'restart2'] as const).map((name) =>
    count(`EC2 mutating calls, ${names[name]}`, 0, mutating(name)),
  ),
  count(`EC2 mutating calls, ${names.first}`, 4, Math.max(mutating('first'), mutating('slowFirst'))),
  count(
    'EC2 mutating calls for each pod ENI where two are needed',
    3,
    Math.max(mutating('first2', 'CreateTags'), mutating('slowFirst2', 'CreateTags')) / 2,
  ),
  ...(['restart2', 'first2', 'slowFirst2'] as const).map((name) =>
    count(`IMDS requests, ${names[name]}`, IMDS_REQUESTS, of(name, (sample) => sample.imds).max),
  ),
  size('executable', EXECUTABLE_BYTES, executableBytes),
  size('memory of the agent, at most', MEMORY_BYTES, spread(measured.memory.agent).max),
];
const passed = targets.filter((one) => one.met).length;
const late = targets.filter((one) => !one.met && one.timing).length;
const summary = {
  runs,
  load,
  executableBytes,
  cases: Object.fromEntries(
    (Object.keys(names) as Case[]).map((name) => [
      name,
      {
        wall: of(name, (sample) => sample.wall),
        cloud: of(name, (sample) => sample.cloud),
        hashWait: of(name, (sample) => sample.hashWait),
        own: of(name, (sample) => sample.own),
        bookedOwn: of(name, (sample) => sample.wall - sample.bookedWait - sample.hashWait),
        cpu: of(name, (sample) => sample.cpu),
        imds: of(name, (sample) => sample.imds),
        ec2: of(name, (sample) => sample.ec2),
        mutating: measured.boots[name][0]?.mutating,
        phases: phaseSpreads(name),
      },
    ]),
  ),
  start: { warm: spread(measured.start.warm), cold: spread(measured.start.cold) },
  cachedBytesWhenCold: measured.start.coldBytes,
  enter: spread(measured.enter),
  hash: { warm: spread(measured.hash.warm), cold: spread(measured.hash.cold) },
  coldFirst: spread(measured.coldFirst),
  memory: { agent: spread(measured.memory.agent), children: spread(measured.memory.children) },
  targets,
  passed,
  failed: targets.length - passed,
};
// A busy machine makes times wrong: the short form shows such a row and does not count it.
const failing = targets.filter((one) => !one.met && !(options.quick && one.timing)).length;
if (options.evidence !== undefined) writeEvidence(options.evidence, 'bench:boot', summary);
if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
else print();
process.exit(failing === 0 ? 0 : 1);

function print(): void {
  const enter = spread(measured.enter).median;
  const out = [
    `\n${runs} interleaved runs on ${arch}; medians, in ms. The load of this machine is ${load.toFixed(1)}.\n`,
    table([
      ['boot', 'wall', 'cloud', 'hash', 'own', 'p10–p90', 'CPU', 'IMDS', 'EC2', 'of these mutating'],
      ...(Object.keys(names) as Case[]).map((name) => {
        const slow = name.startsWith('slow');
        const own = of(name, (sample) =>
          slow ? sample.wall - enter - sample.bookedWait - sample.hashWait : sample.own,
        );
        return [
          names[name],
          ...[
            of(name, (sample) => sample.wall),
            of(name, (sample) => (slow ? sample.bookedWait : sample.cloud)),
            of(name, (sample) => sample.hashWait),
            own,
          ].map((one) => one.median.toFixed(0)),
          `${own.p10.toFixed(0)}–${own.p90.toFixed(0)}`,
          of(name, (sample) => sample.cpu).median.toFixed(0),
          `${of(name, (sample) => sample.imds).max}`,
          `${of(name, (sample) => sample.ec2).max}`,
          Object.entries(measured.boots[name][0]?.mutating ?? {})
            .map(([action, times]) => `${times} ${action}`)
            .join(', ') || '0',
        ];
      }),
    ]),
    `\nown = wall − ${enter.toFixed(0)} ms to enter the instance − cloud − hash. cloud: the simulated AWS answered or plugged in`,
    'a device, measured there; for a cloud as slow as EC2, the waits that the agent reports. hash: CPU time of the digest, which the agent computes between its waits.\n',
    phaseTable(),
    '',
    table([
      ['', 'warm', 'p10–p90', 'not in the page cache'],
      startRow('executable start (eniboot version)', measured.start.warm, measured.start.cold),
      startRow('hashing the executable', measured.hash.warm, measured.hash.cold),
      startRow(
        'boot from nothing, wall',
        measured.boots.first.map((sample) => sample.wall),
        measured.coldFirst,
      ),
    ]),
    `\nmemory: agent ${mb(spread(measured.memory.agent).max)}, its children at most ${mb(spread(measured.memory.children).max)} at once; executable ${mb(executableBytes)}\n`,
    targetTable(targets),
    ...(late === 0
      ? []
      : [
          `${late} timing ${late === 1 ? 'row is' : 'rows are'} not met. With a load of ${load.toFixed(1)} that may be the machine: run it again on a quiet one.`,
        ]),
    `${passed} passed, ${failing} failed`,
  ];
  process.stdout.write(`${out.join('\n')}\n`);
}

function phaseSpreads(name: Case): Record<string, { own: Spread; wait: Spread }> {
  const phases = Object.keys(measured.boots[name][0]?.phases ?? {});
  const at = (phase: string, value: (one: { ms: number; waitMs: number }) => number) =>
    spread(measured.boots[name].map(({ phases: all }) => value(all[phase] ?? { ms: 0, waitMs: 0 })));
  return Object.fromEntries(
    phases.map((phase) => [
      phase,
      { own: at(phase, (one) => one.ms - one.waitMs), wait: at(phase, (one) => one.waitMs) },
    ]),
  );
}

/** Each phase's own milliseconds, as the agent reports them (without the executable's start and the verdict). */
function phaseTable(): string {
  const shown = ['first', 'again', 'restart', 'slowFirst'] as const;
  const spreads = shown.map((name) => phaseSpreads(name));
  return table([
    ['phase, own (waiting)', ...shown.map((name) => names[name])],
    ...Object.keys(spreads[0] ?? {}).map((phase) => [
      phase,
      ...spreads.map((one) => `${one[phase]?.own.median ?? 0} (${one[phase]?.wait.median ?? 0})`),
    ]),
  ]);
}

function startRow(what: string, warm: number[], cold: number[]): string[] {
  const { median, p10, p90 } = spread(warm);
  return [what, ms(median), `${p10.toFixed(0)}–${p90.toFixed(0)}`, ms(spread(cold).median)];
}

function count(what: string, limit: number, seen: number): Target {
  return {
    what,
    target: limit === 0 ? '0' : `≤ ${limit}`,
    measured: `${seen}`,
    met: seen <= limit,
    timing: false,
  };
}

function size(what: string, limit: number, bytes: number): Target {
  return { what, target: `≤ ${mb(limit)}`, measured: mb(bytes), met: bytes <= limit, timing: false };
}

function ms(value: number): string {
  return `${value.toFixed(0)} ms`;
}

function mb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
