// Runs cases one after another; started by main.ts through test/sandbox.sh. Says on standard output what is
// going on, and leaves the results in a file.
import { readFileSync, writeFileSync } from 'node:fs';
import { cases } from './cases.ts';
import type { CaseResult, Job } from './job.ts';

const [jobFile = ''] = process.argv.slice(2);
const job = JSON.parse(readFileSync(jobFile, 'utf8')) as Job;
const started = performance.now();
const results: CaseResult[] = [];

for (const one of cases.filter(({ name }) => job.names.includes(name))) {
  say(`${one.name}: ${one.title}`);
  const begun = performance.now();
  const result: CaseResult = {
    name: one.name,
    title: one.title,
    passed: false,
    seconds: 0,
    error: undefined,
    timings: [],
  };
  try {
    result.timings = await one.run(job.bench);
    result.passed = true;
  } catch (error) {
    result.error = error instanceof Error ? error.message : String(error);
  }
  result.seconds = seconds(begun);
  say(`${one.name}: ${result.passed ? 'passed' : 'FAILED'} in ${result.seconds.toFixed(0)} s`);
  if (result.error !== undefined) process.stdout.write(`${result.error.replace(/^/gm, '    ')}\n`);
  results.push(result);
  writeFileSync(job.results, JSON.stringify(results));
}
// Sockets and timers of a machine that was killed must not keep a finished run alive.
process.exit(0);

function say(line: string): void {
  const at = seconds(started);
  const clock = `${String(Math.floor(at / 60)).padStart(2)}:${String(Math.floor(at % 60)).padStart(2, '0')}`;
  process.stdout.write(`${clock}  ${line}\n`);
}

function seconds(from: number): number {
  return (performance.now() - from) / 1000;
}
