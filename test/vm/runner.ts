// Runs cases one after another in the sandbox that suite.ts has made. Writes progress to standard output, and the results to a
// file.
import { readFileSync, writeFileSync } from 'node:fs';
import { type Case, type CaseResult, type Job, nameOf, rootOf } from './case.ts';

/**
 * Runs the cases that the job on the command line names, and ends the process.
 *
 * @param end ends what the cases have shared.
 */
export async function runCases<Facts>(
  cases: readonly Case<Facts>[],
  end: () => Promise<void> = async () => {},
): Promise<never> {
  const [jobFile = ''] = process.argv.slice(2);
  const job = JSON.parse(readFileSync(jobFile, 'utf8')) as Job;
  const started = performance.now();
  const results: CaseResult<Facts>[] = [];
  for (const one of cases.filter(({ name }) => job.names.includes(name))) {
    say(`${one.name}: ${one.title}`);
    const begun = performance.now();
    const result: CaseResult<Facts> = { name: one.name, title: one.title, passed: false, seconds: 0 };
    try {
      const bench = job.benches[nameOf(rootOf(one))];
      if (bench === undefined) throw new Error('its root image was not prepared');
      result.facts = await one.run(bench);
      result.passed = true;
    } catch (error) {
      result.error = error instanceof Error ? error.message : String(error);
      // The facts that it found out before the failure.
      const { facts } = error as { facts?: Facts };
      if (facts !== undefined) result.facts = facts;
    }
    result.seconds = seconds(begun);
    say(`${one.name}: ${result.passed ? 'passed' : 'FAILED'} in ${result.seconds.toFixed(0)} s`);
    if (result.error !== undefined) process.stdout.write(`${result.error.replace(/^/gm, '    ')}\n`);
    results.push(result);
    writeFileSync(job.results, JSON.stringify(results));
  }
  await end();
  // Sockets and timers of a killed machine must not keep a finished run alive.
  process.exit(0);

  function say(line: string): void {
    const at = seconds(started);
    const clock = `${String(Math.floor(at / 60)).padStart(2)}:${String(Math.floor(at % 60)).padStart(2, '0')}`;
    process.stdout.write(`${clock}  ${line}\n`);
  }
}

function seconds(from: number): number {
  return (performance.now() - from) / 1000;
}
