// time limit: 400 s
// Hostile pods with IPv4 alone: no attack of test/hostile succeeds, and each succeeds without the guard.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { problemsOf } from '../hostile/run.ts';
import { playNatively } from './hostile.ts';

test('no attack of a hostile pod succeeds', async () => {
  const problems = problemsOf(await playNatively('ipv4'));
  assert.ok(problems.length === 0, problems.join('\n'));
});

test.run();
