// One worker of main.ts, in a sandbox of its own: prints one JSON line for each case.
import { parseArgs } from 'node:util';
import { parseFault } from './inject.ts';
import { playFaults } from './play.ts';

const { values } = parseArgs({
  options: { count: { type: 'string' }, seed: { type: 'string' }, case: { type: 'string' } },
});
const [, operation = '', fault = ''] = /^(\S+) (.*)$/.exec(values.case ?? '') ?? [];
await playFaults(
  {
    count: Number(values.count),
    seed: Number(values.seed),
    only: values.case === undefined ? undefined : { operation, fault: parseFault(fault) },
  },
  (played) => process.stdout.write(`${JSON.stringify(played)}\n`),
);
process.exit(0);
