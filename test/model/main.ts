// npm run test:model: random operations, any number, spread over several nodes.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { readArguments } from '../arguments.ts';
import { writeEvidence } from '../bench/report.ts';
import { buildStandIn } from '../build/stand-in.ts';
import { kernelHasIpvlan } from '../cni/rig.ts';
import type { Played } from './play.ts';

const help = `Usage: npm run test:model [-- --ops N] [--seed S] [--verbose] [--json] [--evidence FILE]

Plays random operations (pods come and go, refill, collect, GC, repair, kill -9 of any of them, reboots, EC2 faults,
lost prefixes and namespaces) on simulated nodes, and compares pool, kernel and EC2 with a model after each.
  --driver NAME    memory: the product's code in this process, on a modelled kernel, virtual time and EC2's state
                   machine; kills between any two changes; a seed always plays the same (default)
                   native: the executable, this kernel, EC2 over HTTP; kills after so many milliseconds
  --ops N          operations in all (default 2000 in memory, 300 natively)
  --seed S         seed of the operations (default: random, printed)
  --verbose        print each operation and its outcome, on stderr
  --json           print one JSON object only
  --evidence FILE  also writes that object to FILE

Exit codes: 0 no difference; 1 a difference; 2 wrong usage.
`;

const root = join(import.meta.dirname, '../..');
const given = readArguments(help, {
  driver: ['memory', 'native'],
  ops: {},
  seed: { least: 0 },
  verbose: 'switch',
  json: 'switch',
  evidence: 'text',
});
const driver = given.driver ?? 'memory';
const options = {
  ...given,
  driver,
  ops: given.ops ?? (driver === 'memory' ? 2000 : 300),
  seed: given.seed ?? Math.floor(Math.random() * 1e9),
};
if (options.driver === 'native') buildStandIn();
const started = performance.now();
const workers = Math.max(1, Math.min(2, availableParallelism(), options.ops));
const shares = Array.from({ length: workers }, (_, at) => ({
  seed: options.seed + at,
  ops: Math.floor(options.ops / workers) + (at < options.ops % workers ? 1 : 0),
}));
const results = await Promise.all(shares.map(work));

const counts: Record<string, number> = {};
for (const { played } of results)
  for (const [kind, count] of Object.entries(played?.counts ?? {}))
    counts[kind] = (counts[kind] ?? 0) + count;
const sum = (of: (played: Played) => number) =>
  results.reduce((total, { played }) => total + (played === undefined ? 0 : of(played)), 0);
const failures = results.filter(({ played }) => played === undefined || played.problems.length > 0);
const report = {
  what: 'random operations on simulated nodes: pool files, kernel and EC2 compared with a model after each',
  driver: options.driver,
  kernel:
    options.driver === 'memory' ? 'modelled' : kernelHasIpvlan() ? 'ipvlan' : 'stand-in for ipvlan (veth)',
  seed: options.seed,
  operations: options.ops,
  nodes: workers,
  counts: Object.fromEntries(Object.entries(counts).sort()),
  added: sum((played) => played.added),
  exhausted: sum((played) => played.exhausted),
  differences: failures.map(({ share, played, said }) => ({
    seed: share.seed,
    problems: played?.problems ?? [`the worker ended: ${said}`],
    trace: played?.trace.slice(-10) ?? [],
  })),
  seconds: Math.round((performance.now() - started) / 1000),
};
if (options.evidence !== undefined) writeEvidence(options.evidence, `model-${options.driver}`, report);
if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
else {
  for (const { seed, problems, trace } of report.differences)
    process.stdout.write(`seed ${seed}:\n  ${problems.join('\n  ')}\n after\n  ${trace.join('\n  ')}\n`);
  process.stdout.write(
    `${report.operations} operations on ${report.nodes} nodes, ${report.added} pods added, ${report.differences.length} nodes differed from the model; seed ${report.seed}, ${report.seconds} s\n`,
  );
}
process.exit(failures.length === 0 ? 0 : 1);

async function work(share: { seed: number; ops: number }) {
  const args = [
    `--driver=${options.driver}`,
    `--ops=${share.ops}`,
    `--seed=${share.seed}`,
    ...(options.verbose ? ['--verbose'] : []),
  ];
  const command = [
    join(root, 'test/sandbox.sh'),
    process.execPath,
    join(import.meta.dirname, 'worker.ts'),
    ...args,
  ];
  const worker = spawn('sh', command, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let out = '';
  let said = '';
  worker.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString();
  });
  worker.stderr.on('data', (chunk: Buffer) => {
    if (!options.json) process.stderr.write(chunk);
    said = `${said}${chunk.toString()}`.slice(-4000);
  });
  await new Promise((resolve) => worker.once('close', resolve));
  const played = out === '' ? undefined : (JSON.parse(out) as Played);
  return { share, played, said };
}
