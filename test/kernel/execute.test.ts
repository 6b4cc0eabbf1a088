// The executor on a real kernel: operations on existing and on missing objects, and listings.
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fetchPackage, runtimes } from '../../agent/build/npm-package.ts';

const root = join(import.meta.dirname, '../..');

test('operations have their effect on a real kernel, and no other', async () => {
  const runtime = await fetchPackage(runtimes[process.arch === 'arm64' ? 'arm64' : 'x64'], root);
  const script = join(import.meta.dirname, 'on-kernel.ts');
  const { status, stdout, stderr } = spawnSync(join(runtime, 'bin/bun'), ['run', script], {
    encoding: 'utf8',
  });
  assert.is(stdout, '');
  assert.is(status, 0, stderr);
});

test.run();
