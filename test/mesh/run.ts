// Runs all cases in one world, in the sandbox that main.ts made.
import { readFileSync, writeFileSync } from 'node:fs';
import type { Facts } from './answers.ts';
import { cases } from './cases.ts';
import { setPatience } from './place.ts';
import { startWorld, type World } from './world.ts';

export interface Job {
  names: string[];
  /** Folder for logs and data. */
  work: string;
  /** Path for the results. */
  results: string;
  /** How many times longer than on this machine everything may take. */
  patience: number;
}

export interface Result {
  name: string;
  title: string;
  passed: boolean;
  seconds: number;
  facts?: Facts;
  error?: string;
}

const started = performance.now();
const say = (line: string) => {
  const seconds = Math.round((performance.now() - started) / 1000);
  const clock = [Math.floor(seconds / 60), seconds % 60].map((one) => String(one).padStart(2, '0')).join(':');
  process.stdout.write(`${clock}  ${line}\n`);
};

async function main(job: Job): Promise<void> {
  setPatience(job.patience);
  const chosen = cases.filter(({ name }) => job.names.includes(name));
  let world: World | undefined;
  const results: Result[] = [];
  for (const { name, title, run } of chosen) {
    const begun = performance.now();
    const result: Result = { name, title, passed: false, seconds: 0 };
    try {
      world ??= await startWorld(job.work, say);
      say(`${name}: ${title}`);
      result.facts = await run(world);
      result.passed = true;
    } catch (error) {
      result.error = error instanceof Error ? error.message : String(error);
    }
    result.seconds = Math.round((performance.now() - begun) / 1000);
    say(`${name}: ${result.passed ? 'passed' : 'FAILED'} in ${result.seconds} s`);
    if (result.error !== undefined) process.stdout.write(`${result.error.replace(/^/gm, '    ')}\n`);
    results.push(result);
    writeFileSync(job.results, JSON.stringify(results));
    // After a failure the world is not as the next case expects it, so the remaining cases count as not run.
    if (!result.passed) break;
  }
  await world?.end();
}

await main(JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Job);
process.exit(0);
