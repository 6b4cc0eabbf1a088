// One worker of main.ts, in a sandbox of its own: plays a sequence on a simulated node and prints what came of it.
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    ops: { type: 'string' },
    seed: { type: 'string' },
    verbose: { type: 'boolean' },
    driver: { type: 'string' },
  },
});
// Each replaces or needs what the other must not have: only one of them is loaded.
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
