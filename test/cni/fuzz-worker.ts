// One part of the fuzz test, in the runtime that the executable has: the plugin asks the kernel by calls that Node lacks.
// Prints the tally as one JSON object; an answer that is wrong is told on standard error.
import { fuzzCalls, fuzzProcesses, fuzzState } from './fuzz.ts';

const parts = { calls: fuzzCalls, state: fuzzState, processes: fuzzProcesses };

const [part = '', count, seed] = process.argv.slice(2);
try {
  process.stdout.write(JSON.stringify(parts[part as keyof typeof parts](Number(count), Number(seed))));
} catch (error) {
  process.stderr.write(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
