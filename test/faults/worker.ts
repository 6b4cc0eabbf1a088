// One worker of main.ts, in a sandbox of its own: prints one JSON line for each case.
import { parseArgs } from 'node:util';
import { playFaults } from './play.ts';

const { values } = parseArgs({
  options: { count: { type: 'string' }, seed: { type: 'string' }, case: { type: 'string' } },
});
await playFaults(
  values.case === undefined ? { count: Number(values.count), seed: Number(values.seed) } : [values.case],
  (played) => process.stdout.write(`${JSON.stringify(played)}\n`),
);
process.exit(0);
