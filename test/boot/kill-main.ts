// Kills the agent at many random moments of a boot and proves that the next run converges.
import { execFileSync, spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readArguments } from '../arguments.ts';
import { buildExecutable } from '../build/executable.ts';

const help = `Usage: npm run test:kill [-- [--count N] [--seed S] [--json] [--evidence FILE]]

  --count N        kills in all, spread over the workers (default 200)
  --seed S         seed of the moments (default: random, printed); the machine's timing still differs
  --json           print one JSON object only
  --evidence FILE  also writes that object to FILE

Exit codes: 0 every run after a kill converged; 1 a run did not converge; 2 wrong usage.
`;

interface Line {
  moment: string;
  killed?: boolean;
  during?: string;
  problems: string[];
}

const root = join(import.meta.dirname, '../..');
const {
  count = 200,
  seed = Math.floor(Math.random() * 1e9),
  ...options
} = readArguments(help, {
  count: {},
  seed: { least: 0 },
  json: 'switch',
  evidence: 'text',
});
buildExecutable();
const started = performance.now();
const lines: Line[] = [];
const workers = Math.max(1, Math.min(2, availableParallelism(), count));
const failures = await Promise.all(Array.from({ length: workers }, (_, at) => work(at)));

const wrong = lines.filter((line) => line.problems.length > 0);
const broken = failures.filter((failure) => failure !== undefined);
const seconds = Math.round((performance.now() - started) / 1000);
const during: Record<string, number> = {};
for (const line of lines.filter((one) => one.killed === true)) {
  const phase = line.during ?? 'before or between phases';
  during[phase] = (during[phase] ?? 0) + 1;
}
const version = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
const report = {
  what: 'eniboot boot killed (SIGKILL) at random moments, then run again',
  commit: commit(),
  version: version.version,
  node: process.version,
  date: new Date().toISOString(),
  seed,
  wanted: count,
  runs: lines.filter((line) => line.killed !== undefined).length,
  killed: lines.filter((line) => line.killed === true).length,
  endedBefore: lines.filter((line) => line.killed === false).length,
  during,
  notConverged: wrong,
  broken,
  seconds,
};
if (options.evidence !== undefined) writeFileSync(options.evidence, `${JSON.stringify(report, null, 2)}\n`);
if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
else {
  for (const line of wrong) process.stdout.write(`${line.moment}: ${line.problems.join('\n  ')}\n`);
  for (const failure of broken) process.stdout.write(`a worker ended: ${failure}\n`);
  process.stdout.write(
    `${report.runs} boots, ${report.killed} killed in ${Object.keys(during).length} phases, ${wrong.length} did not converge; seed ${seed}, ${seconds} s\n`,
  );
}
process.exit(wrong.length === 0 && broken.length === 0 && report.killed === count ? 0 : 1);

/** undefined when the worker did its part, else its error output. */
async function work(at: number): Promise<string | undefined> {
  const share = Math.floor(count / workers) + (at < count % workers ? 1 : 0);
  const worker = spawn(
    'sh',
    [
      join(root, 'test/sandbox.sh'),
      process.execPath,
      join(root, 'test/boot/kill-worker.ts'),
      `--count=${share}`,
      `--seed=${seed + at}`,
    ],
    { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let said = '';
  worker.stderr.on('data', (chunk: Buffer) => {
    said = `${said}${chunk.toString()}`.slice(-4000);
  });
  createInterface({ input: worker.stdout }).on('line', (text) => {
    lines.push(JSON.parse(text) as Line);
    if (!options.json && lines.length % 20 === 0) process.stderr.write(`${lines.length} of ${count}\n`);
  });
  const code = await new Promise<number | null>((resolve) => worker.once('close', resolve));
  return code === 0 ? undefined : `exit ${code}: ${said}`;
}

function commit(): string {
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}
