// time limit: 400 s
// Cases that failed once. They name the path of the call instead of its number, which changes with the code.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Played, playFaults } from './play.ts';

const found = [
  // A file staged beside a complete version made the update fail, and stayed.
  'update main unlinkat@/usr/libexec/eniboot/.staging#3 ENOMEM',
  // A program that cannot be started was reported as a defect of eniboot: the first program is the lock's.
  'repair main vfork#2 ENOMEM',
  // The executable's digest failed once, and every later try of the boot got the same failure.
  'first-boot main statx@/usr/libexec/eniboot/0.1.0/eniboot#1 EACCES',
];

const played = new Map<string, Played>();
await playFaults(found, (one) => void played.set(one.text, one));

for (const text of found) {
  test(text, () => {
    const one = played.get(text);
    assert.ok(one?.line !== undefined, 'the run did not make the call');
    assert.equal(one?.problems, []);
  });
}

test.run();
