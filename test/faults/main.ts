// npm run test:faults: makes system calls fail, or kills the caller at them, and reports the results.
import { spawn } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readArguments } from '../arguments.ts';
import { writeEvidence } from '../bench/report.ts';
import { buildExecutable } from '../build/executable.ts';
import { kernelHasIpvlan } from '../cni/rig.ts';
import type { Played } from './play.ts';

const help = `Usage: npm run test:faults [-- [--count N] [--seed S] [--case TEXT] [--verbose] [--json] [--evidence FILE]]

Makes ADD, DEL, CHECK, GC, STATUS, boot, refill, collect, repair and update fail, or kills them (SIGKILL), at one system call of their
own or of a program that they start. Each must end in time, with a true code or with its effects; run again it must converge;
and the node must be as before: no lease, address, ENI, prefix, link, route, rule, table, namespace, temporary file, lock or
process is left.

  --count N        faults that strike, distributed over the workers (default 200)
  --seed S         seed of the faults (default: random, printed); the machine's timing still differs
  --case TEXT      play one case again, as the report names it: 'add main rename#1 ENOSPC'
  --verbose        print each case on stderr
  --json           print one JSON object only
  --evidence FILE  also writes that object to FILE

Exit codes: 0 every case was right; 1 a case was wrong; 2 wrong usage.
`;

const root = join(import.meta.dirname, '../..');
const options = readArguments(help, {
  count: {},
  seed: { least: 0 },
  case: 'text',
  verbose: 'switch',
  json: 'switch',
  evidence: 'text',
});
const count = options.case === undefined ? (options.count ?? 200) : 1;
const seed = options.seed ?? Math.floor(Math.random() * 1e9);
buildExecutable();
const started = performance.now();
const all: Played[] = [];
const workers = Math.max(1, Math.min(2, availableParallelism(), count));
const endings = await Promise.all(Array.from({ length: workers }, (_, at) => work(at)));

const struck = all.filter((one) => one.line !== undefined);
const wrong = all.filter((one) => one.problems.length > 0);
const broken = endings.filter((one) => one !== undefined);
const missed = options.case === undefined ? struck.length < count : struck.length === 0;
const report = {
  what: 'system calls of the executable and of its programs made to fail, or the caller killed at them',
  kernel: kernelHasIpvlan() ? 'ipvlan' : 'stand-in for ipvlan (macvlan)',
  seed,
  wanted: count,
  struck: struck.length,
  neverReached: all.length - struck.length,
  operations: countBy(struck, ({ text }) => text.split(' ')[0] ?? ''),
  callers: countBy(struck, ({ text }) => (text.split(' ')[1] ?? '').replace(/#.*/, '')),
  calls: countBy(struck, ({ text }) => (text.split(' ')[2] ?? '').replace(/#.*/, '')),
  faults: countBy(struck, ({ text }) => text.split(' ')[3] ?? ''),
  endings: countBy(struck, ({ ended }) => ended),
  slowestMs: Math.max(0, ...struck.map(({ ms }) => ms)),
  wrong: wrong.map(({ text, line, ended, problems }) => ({ case: text, line, ended, problems })),
  broken,
  seconds: Math.round((performance.now() - started) / 1000),
};
if (options.evidence !== undefined) writeEvidence(options.evidence, 'faults', report);
if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
else {
  for (const one of report.wrong)
    process.stdout.write(
      `--case '${one.case}'\n  ${one.line ?? ''}\n  ${one.ended}\n  ${one.problems.join('\n  ')}\n`,
    );
  for (const said of broken) process.stdout.write(`a worker ended: ${said}\n`);
  process.stdout.write(
    `${report.struck} faults struck (${report.neverReached} were never reached), ${wrong.length} went wrong; the slowest took ${report.slowestMs} ms; seed ${seed}, ${report.seconds} s\n`,
  );
}
process.exit(wrong.length === 0 && broken.length === 0 && !missed ? 0 : 1);

/** undefined when the worker did its part, else its error output. */
async function work(at: number): Promise<string | undefined> {
  const share = Math.floor(count / workers) + (at < count % workers ? 1 : 0);
  const args = [`--count=${share}`, `--seed=${seed + at}`];
  if (options.case !== undefined) args.push(`--case=${options.case}`);
  const command = [
    join(root, 'test/sandbox.sh'),
    process.execPath,
    join(import.meta.dirname, 'worker.ts'),
    ...args,
  ];
  const worker = spawn('sh', command, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
  let errors = '';
  worker.stderr.on('data', (chunk: Buffer) => {
    errors = `${errors}${chunk.toString()}`.slice(-4_000);
  });
  createInterface({ input: worker.stdout }).on('line', (said) => {
    const played = JSON.parse(said) as Played;
    all.push(played);
    const { text, line, ended, ms, problems } = played;
    if (options.verbose)
      process.stderr.write(
        `${text} → ${ended}, ${ms} ms\n  ${line ?? 'never reached'}\n${problems.map((one) => `  WRONG: ${one}\n`).join('')}`,
      );
    else if (!options.json && all.length % 50 === 0) process.stderr.write(`${all.length} of ${count}\n`);
  });
  const code = await new Promise<number | null>((resolve) => worker.once('close', resolve));
  return code === 0 ? undefined : `exit ${code}: ${errors}`;
}

function countBy(list: Played[], key: (one: Played) => string): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const one of list) counts[key(one)] = (counts[key(one)] ?? 0) + 1;
  return Object.fromEntries(Object.entries(counts).sort());
}
