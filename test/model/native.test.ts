// time limit: 420 s
// The shipped executable, the real kernel and the simulated EC2 over HTTP, compared with the model after each of some random
// operations. OPS and SEED in the environment are their number and seed; both are printed.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { playNatively } from './native.ts';

const ops = Number(process.env['OPS'] ?? 60);
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);

test(`${ops} operations`, async () => {
  console.log(`SEED=${seed} OPS=${ops}`);
  const { problems, trace, counts } = await playNatively(ops, seed);
  assert.equal(problems, [], `${problems.join('\n')}\nafter\n${trace.slice(-12).join('\n')}`);
  console.log(JSON.stringify(counts));
});

test.run();
