// time limit: 240 s
// Malformed input of every kind: the specification's code, no defect, no remains. FUZZ in the environment is the number of
// inputs (4,000 by default), SEED their seed; `npm run test:fuzz` takes more, and runs 10,000 as processes.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { executable, prepare, type Tally } from './fuzz.ts';
import { fuzz } from './fuzz-run.ts';

const SEED = Number(process.env['SEED'] ?? Math.floor(Math.random() * 2 ** 31));
const INPUTS = Number(process.env['FUZZ'] ?? 4_000);
const show = (what: string, { inputs, codes }: Tally) =>
  process.stdout.write(`${what}: ${inputs} inputs, answers by code ${JSON.stringify(codes)}, seed ${SEED}\n`);

test.before(() => prepare(executable));

test('damaged calls are answered with the code for their damage', async () => {
  const tally = await fuzz('calls', Math.round(INPUTS * 0.8), SEED);
  show('calls', tally);
  for (const code of [0, 1, 2, 3, 4, 6, 7, 8, 102])
    assert.ok((tally.codes[code] ?? 0) > 0, `code ${code} was reached`);
});

test('damaged files of the node and the pool cause no defect and lose no address', async () => {
  const tally = await fuzz('state', Math.round((INPUTS * 0.2) / 5), SEED);
  show('state', tally);
  for (const code of [0, 11, 50, 102]) assert.ok((tally.codes[code] ?? 0) > 0, `code ${code} was reached`);
});

test('processes answer as the same call does in-process', async () => {
  show('processes', await fuzz('processes', Math.round(INPUTS * 0.02), SEED));
});

test.run();
