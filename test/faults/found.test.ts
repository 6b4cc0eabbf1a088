// time limit: 400 s
// Cases that went wrong once, told by the path that the call names instead of by its number, which changes with the code.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Played, playFaults } from './play.ts';

const found = [
  // What was staged beside a version that is whole failed the update, and stayed.
  'update main unlinkat@/usr/libexec/eniboot/.staging#3 ENOMEM',
  // A program that cannot be started was a defect of eniboot's: the first is the lock's.
  'repair main vfork#2 ENOMEM',
  // The executable's digest failed once, and every later try of the boot was given that same failure.
  'first-boot main statx@/usr/libexec/eniboot/0.1.0/eniboot#1 EACCES',
];

const played = new Map<string, Played>();
await playFaults(found, (one) => void played.set(one.text, one));

for (const text of found) {
  test(text, () => {
    const one = played.get(text);
    assert.ok(one?.line !== undefined, 'the call was never made');
    assert.equal(one?.problems, []);
  });
}

test.run();
