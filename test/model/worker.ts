// One worker of main.ts, in a sandbox of its own: plays a sequence on a simulated node and prints the result.
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    ops: { type: 'string' },
    seed: { type: 'string' },
    verbose: { type: 'boolean' },
    driver: { type: 'string' },
  },
});
// Only one driver is loaded: each replaces modules that the other needs.
const play =
  values.driver === 'memory'
    ? (await import('./memory.ts')).playInMemory
    : (await import('./native.ts')).playNatively;
const played = await play(Number(values.ops), Number(values.seed), (done, last) => {
  if (values.verbose === true) process.stderr.write(`${last}\n`);
  else if (done % 100 === 0) process.stderr.write(`${done}\n`);
});
process.stdout.write(`${JSON.stringify(played)}\n`);
process.exit(0);
