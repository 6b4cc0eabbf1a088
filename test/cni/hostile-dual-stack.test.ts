// time limit: 400 s
// Hostile pods with IPv6 beside IPv4: no attempt of test/hostile gets through that should not, and each would without the guard.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { problemsOf } from '../hostile/run.ts';
import { playNatively } from './hostile.ts';

test('what hostile pods try', async () => {
  const problems = problemsOf(await playNatively('dual-stack'));
  assert.ok(problems.length === 0, problems.join('\n'));
});

test.run();
