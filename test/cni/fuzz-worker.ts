// One part of the fuzz test, in the executable's own runtime: the plugin uses foreign calls, which Node does not have.
// Prints the tally as one JSON object; tells a wrong answer on standard error.
import { fuzzCalls, fuzzProcesses, fuzzState } from './fuzz.ts';

const parts = { calls: fuzzCalls, state: fuzzState, processes: fuzzProcesses };

const [part = '', count, seed] = process.argv.slice(2);
try {
  process.stdout.write(JSON.stringify(parts[part as keyof typeof parts](Number(count), Number(seed))));
} catch (error) {
  process.stderr.write(error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
}
