// `npm run test:policy`: kills the policy service at many random moments and proves that the rules in force stay in force.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { readArguments } from '../arguments.ts';
import { spread, writeEvidence } from '../bench/report.ts';
import { buildExecutable } from '../build/executable.ts';

const help = `Usage: npm run test:policy [-- [--count N] [--seed S] [--json] [--evidence FILE]]

Kills eniboot-policy.service (SIGKILL) at random moments on a simulated node, while pods and policies come and go. With the
service dead, each pair of pods whose fate did not change is let through or denied as before, and a new pod reaches no other;
2 s after it is started again, every pair is as the policies say. Datagrams between pods of no change are sent every 5 ms all
the while: none may be lost, and none may get through where it is denied.

  --count N        kills in all (default 300; --quick: 10)
  --quick          few
  --seed S         of what is done (default: random, printed); the times of the machine still differ
  --json           one object on stdout and nothing else
  --evidence FILE  also writes that object to FILE

Exit codes: 0 nothing was wrong; 1 something was; 2 wrong usage.
`;

interface Kill {
  kills: number;
  late: number;
  changes: number;
  /** From the start of the service until all pairs are right. */
  ms: number;
  problems: string[];
}
interface Total {
  total: { sent: number; lost: number; denied: number; leaked: number };
  refused: number;
}

const options = readArguments(help, {
  count: {},
  seed: { least: 0 },
  quick: 'switch',
  json: 'switch',
  evidence: 'text',
});
const { count = options.quick ? 10 : 300, seed = Math.floor(Math.random() * 1e9) } = options;
const root = join(import.meta.dirname, '../..');
buildExecutable();
const worker = spawn(
  'sh',
  [
    join(root, 'test/sandbox.sh'),
    process.execPath,
    join(import.meta.dirname, 'kill-worker.ts'),
    `--count=${count}`,
    `--seed=${seed}`,
  ],
  { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] },
);
const kills: Kill[] = [];
let end: Total | undefined;
createInterface({ input: worker.stdout }).on('line', (text) => {
  const line = JSON.parse(text) as Kill | Total;
  if ('total' in line) {
    end = line;
    return;
  }
  kills.push(line);
  if (!options.json && kills.length % 20 === 0) process.stderr.write(`${killed()} of ${count}\n`);
});
const code = await new Promise<number | null>((resolve) => worker.once('close', resolve));

const wrong = kills.flatMap(({ problems }, at) => problems.map((problem) => `round ${at + 1}: ${problem}`));
const times = spread(kills.map(({ ms }) => ms));
const report = {
  seed,
  kills: killed(),
  changes: kills.reduce((sum, { changes }) => sum + changes, 0),
  podsAddedWithoutService: kills.reduce((sum, { late }) => sum + late, 0),
  rightAfterMs: times,
  datagrams: end?.total,
  refusedTransactions: end?.refused,
  wrong,
};
const passed = code === 0 && wrong.length === 0 && killed() >= count && (end?.total.sent ?? 0) > 0;
if (options.evidence !== undefined) writeEvidence(options.evidence, 'test:policy', report);
if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
else {
  for (const one of wrong) process.stdout.write(`${one}\n`);
  const { sent = 0, lost = 0, denied = 0, leaked = 0 } = end?.total ?? {};
  process.stdout.write(
    `${report.kills} kills among ${report.changes} changes, ${report.podsAddedWithoutService} pods added while it was dead; right again after ${times.median.toFixed(0)} ms (at most ${times.max.toFixed(0)}).
${sent} datagrams sent and ${lost} lost, ${denied} denied and ${leaked} leaked; seed ${seed}
${passed ? '1 passed, 0 failed' : '0 passed, 1 failed'}
`,
  );
}
process.exit(passed ? 0 : 1);

function killed(): number {
  return kills.reduce((sum, one) => sum + one.kills, 0);
}
