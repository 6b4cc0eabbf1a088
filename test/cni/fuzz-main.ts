// The plugins' fuzz test with any number of inputs: `npm run test:fuzz`. Starts itself again in a sandbox.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { readArguments } from '../arguments.ts';
import { writeEvidence } from '../bench/report.ts';
import { buildExecutable } from '../build/executable.ts';
import { executable, prepare } from './fuzz.ts';
import { fuzz } from './fuzz-run.ts';

const help = `Usage: npm run test:fuzz [-- [--inputs N] [--processes N] [--seed S] [--evidence FILE]]

  --inputs N       malformed calls in-process, and as many calls with damaged files (default 10000)
  --processes N    of these calls as real processes (default 10000)
  --seed S         seed of the inputs (default: random, printed)
  --evidence FILE  also writes counts, seed and times to FILE

Exit codes: 0 every answer was right; 1 an answer was wrong; 2 wrong usage.
`;

const root = join(import.meta.dirname, '../..');
const {
  inputs = 10_000,
  processes = 10_000,
  seed = Math.floor(Math.random() * 2 ** 31),
  evidence,
} = readArguments(help, {
  inputs: { least: 0 },
  processes: { least: 0 },
  seed: { least: 0 },
  evidence: 'text',
});
if (process.env['ENIBOOT_FUZZ_SANDBOX'] === undefined) {
  buildExecutable();
  const again = [join(root, 'test/sandbox.sh'), process.execPath, import.meta.filename, `--seed=${seed}`];
  const { status } = spawnSync('sh', [...again, ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, ENIBOOT_FUZZ_SANDBOX: '1' },
  });
  process.exit(status ?? 1);
}

prepare(executable);
const started = performance.now();
const parts = {
  calls: await run('calls', 'calls', inputs),
  files: await run('damaged files', 'state', Math.ceil(inputs / 5)),
  processes: await run('processes', 'processes', processes),
};
const seconds = Math.round((performance.now() - started) / 1000);
if (evidence !== undefined) writeEvidence(evidence, 'fuzz', { seed, ...parts, seconds });

async function run(what: string, part: Parameters<typeof fuzz>[0], count: number) {
  const tally = await fuzz(part, count, seed);
  process.stdout.write(
    `${what}: ${tally.inputs} inputs, answers by code ${JSON.stringify(tally.codes)}, seed ${seed}\n`,
  );
  return tally;
}
