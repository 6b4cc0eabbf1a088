// time limit: 240 s
// The product's code on a modelled kernel, virtual time and EC2's state machine, compared with the model after each of many
// random operations. OPS and SEED in the environment are their number and seed; the same seed plays the same.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { playInMemory } from './memory.ts';

const ops = Number(process.env['OPS'] ?? 600);
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);

test(`${ops} operations`, async () => {
  console.log(`SEED=${seed} OPS=${ops}`);
  const { problems, trace, counts } = await playInMemory(ops, seed);
  assert.equal(problems, [], `${problems.join('\n')}\nafter\n${trace.slice(-12).join('\n')}`);
  console.log(JSON.stringify(counts));
});

test.run();
