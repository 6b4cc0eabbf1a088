// The rollouts' properties with any number of runs: `npm run test:rollout`.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { readArguments } from '../arguments.ts';
import { writeEvidence } from '../bench/report.ts';

const help = `Usage: npm run test:rollout [-- [--runs N] [--seed S] [--evidence FILE]]

  --runs N         random fleets, faults and killed operators for each property (default 2000)
  --seed S         seed of the runs (default: random, printed)
  --evidence FILE  also writes counts, seed and times to FILE

Exit codes: 0 every property held; 1 a property did not hold; 2 wrong usage.
`;

const {
  runs = 2000,
  seed = Math.floor(Math.random() * 2 ** 31),
  evidence,
} = readArguments(help, { runs: {}, seed: { least: 0 }, evidence: 'text' });
process.stdout.write(`${runs} runs of each property, seed ${seed}\n`);
const started = performance.now();
const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, 'property.test.ts')], {
  env: { ...process.env, ENIBOOT_RUNS: String(runs), ENIBOOT_SEED: String(seed) },
  stdio: ['ignore', 'pipe', 'inherit'],
  encoding: 'utf8',
  maxBuffer: 64 * 1024 * 1024,
});
process.stdout.write(stdout);
const seconds = Math.round((performance.now() - started) / 1000);
// uvu writes its dots into the same line.
const [told = '{"properties":[]}'] = /\{"properties":.*\}/.exec(stdout) ?? [];
const { properties } = JSON.parse(told) as { properties: { runs: number }[] };
const held = properties.filter((one) => one.runs >= runs).length;
const failed = status === 0 && held > 0 ? properties.length - held : Math.max(1, properties.length - held);
if (evidence !== undefined)
  writeEvidence(evidence, 'rollout', { seed, runs, properties, passed: held, failed, seconds });
process.stdout.write(`${held} passed, ${failed} failed\n`);
process.exit(failed === 0 ? 0 : 1);
