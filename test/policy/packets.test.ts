// The fate of packets in a real kernel, compared with the oracle. Needs root and the runtime from which the executable is made.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { runtimes } from '../../agent/build/npm-package.ts';

const arch = process.arch === 'arm64' ? 'arm64' : 'x64';
const runtime = join(import.meta.dirname, '../../node_modules', runtimes[arch], 'bin/bun');
const runs = process.env['ENIBOOT_RUNS'] ?? '15';
const seed = process.env['ENIBOOT_SEED'] ?? String(Math.floor(Math.random() * 2 ** 31));

test(`what is decided is what happens to packets (seed ${seed})`, () => {
  const main = new URL('packets-main.ts', import.meta.url).pathname;
  const said = execFileSync(runtime, [main, runs, seed], { encoding: 'utf8' });
  const {
    wrong,
    let: through,
    denied,
  } = JSON.parse(said) as { wrong: string[]; let: number; denied: number };
  assert.equal(wrong, []);
  assert.ok(
    through > 100 && denied > 100,
    `${through} were let through and ${denied} denied: too few to say much`,
  );
});

test.run();
