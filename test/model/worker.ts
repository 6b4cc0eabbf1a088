// One worker of main.ts, in a sandbox of its own: plays a sequence on a simulated node and prints what came of it.
import { parseArgs } from 'node:util';
import { playNatively } from './native.ts';

const { values } = parseArgs({
  options: { ops: { type: 'string' }, seed: { type: 'string' }, verbose: { type: 'boolean' } },
});
const played = await playNatively(Number(values.ops), Number(values.seed), (done, last) => {
  if (values.verbose === true) process.stderr.write(`${last}\n`);
  else if (done % 100 === 0) process.stderr.write(`${done}\n`);
});
process.stdout.write(`${JSON.stringify(played)}\n`);
process.exit(0);
