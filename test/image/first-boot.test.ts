// packer/first-boot.sh on a simulated node: it collects every row of docs/first-boot.md, on a node without the programs, too.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { launchNode } from '../boot/node.ts';

const repository = join(import.meta.dirname, '../..');
const script = readFileSync(join(repository, 'packer/first-boot.sh'), 'utf8');

/** The first cells of the first table under that heading. */
function rowsOfPage(): string[] {
  const page = readFileSync(join(repository, 'docs/first-boot.md'), 'utf8');
  const [, section = ''] = page.split('## What only a real account shows');
  const [, table = ''] = /\| row \|.*\n\|[-|]+\|\n((?:\|.*\n)+)/.exec(section) ?? [];
  return [...table.matchAll(/^\| ([\w-]+) \|/gm)].map(([, row = '']) => row);
}

let cloud: Cloud;
test.before(async () => {
  cloud = await startCloud();
});
test.after(() => cloud.stop());

test('every row of the page is collected, and no more; a secret is not', async () => {
  const node = await launchNode(cloud);
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready');
  node.instance.write('/run/first-boot.sh', script);
  const run = (...args: string[]) =>
    node.instance.run('sh', ['/run/first-boot.sh', ...args], { timeoutMs: 180_000 });

  const listed = (await run('--list')).stdout.trim().split('\n');
  const rows = rowsOfPage();
  assert.equal(
    listed.map((line) => line.split('|')[0]),
    rows,
  );

  const done = await run('--output', '/run/first.tar.gz');
  assert.is(done.exitCode, 0, done.stderr);
  assert.equal(
    done.stdout.split('\n').flatMap((line) => /^(\S+) +exit/.exec(line)?.[1] ?? []),
    rows,
  );
  const unpacked = await node.instance.run('sh', [
    '-ec',
    'cd /run; tar -xzf first.tar.gz; ls eniboot-first-boot; cat eniboot-first-boot/*.txt',
  ]);
  const [names, text] = [unpacked.stdout.split('$ ')[0] ?? '', unpacked.stdout];
  for (const row of rows) assert.match(names, new RegExp(`^${row}\\.txt$`, 'm'));
  assert.match(names, /^support\.tar\.gz$/m);
  assert.match(text, /"verdict":"ready"/);
  assert.match(text, /network\/interfaces\/macs\/[^]*200/);
  for (const secret of ['SecretAccessKey', 'simulated-secret', 'X-aws-ec2-metadata-token: [^"$]'])
    assert.not.match(text, new RegExp(secret));
  const mode = await node.instance.run('stat', ['-c', '%a', '/run/first.tar.gz']);
  assert.is(mode.stdout.trim(), '600');

  // An existing file is not overwritten.
  const again = await run('--output', '/run/first.tar.gz');
  assert.is(again.exitCode, 1);
  assert.match(again.stderr, /is there already/);
  for (const wrong of [['--output'], ['--output', ''], ['--nonsense']])
    assert.is((await run(...wrong)).exitCode, 2, wrong.join(' '));
});

test.run();
