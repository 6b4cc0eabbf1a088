import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { remember, whenChanged } from './when-changed.ts';

const root = mkdtempSync(join(tmpdir(), 'eniboot-when-changed-'));
const thing = { root, name: 'thing', inputs: ['source', 'lock'], outputs: ['dist/thing', 'dist/manifest'] };
const make = () => {
  mkdirSync(join(root, 'dist'), { recursive: true });
  for (const name of ['thing', 'manifest']) writeFileSync(join(root, 'dist', name), 'built');
};
const build = (also: string) => whenChanged({ ...thing, also }, make);

mkdirSync(join(root, 'source/deep'), { recursive: true });
writeFileSync(join(root, 'source/deep/one'), '1');
writeFileSync(join(root, 'lock'), '1');

test('it is built once, and not again for an input that was only touched', () => {
  assert.ok(build('a'), 'nothing is there');
  assert.not.ok(build('a'));
  writeFileSync(join(root, 'source/deep/one'), '1');
  assert.not.ok(build('a'));
});

const changes: [string, () => void][] = [
  ['a file has other content', () => writeFileSync(join(root, 'source/deep/one'), '2')],
  ['a file is new', () => writeFileSync(join(root, 'source/two'), '')],
  ['a file can be executed', () => chmodSync(join(root, 'source/two'), 0o755)],
  ['a link is new', () => symlinkSync('two', join(root, 'source/link'))],
  [
    'a link points elsewhere',
    () => {
      rmSync(join(root, 'source/link'));
      symlinkSync('deep', join(root, 'source/link'));
    },
  ],
  ['a file is gone', () => rmSync(join(root, 'source/two'))],
  ['an input that is one file has other content', () => writeFileSync(join(root, 'lock'), '2')],
  ['another program has built it', () => writeFileSync(join(root, 'dist/thing'), 'built elsewhere')],
  ['one output is gone', () => rmSync(join(root, 'dist/manifest'))],
];
for (const [name, change] of changes)
  test(`it is built again, once, when ${name}`, () => {
    change();
    assert.ok(build('a'));
    assert.not.ok(build('a'));
  });

test('it is built again, once, for another commit', () => {
  assert.ok(build('b'));
  assert.not.ok(build('b'));
});

test('what was built together with something else is not built again', () => {
  writeFileSync(join(root, 'lock'), '3');
  make();
  remember({ ...thing, also: 'b' });
  assert.not.ok(build('b'));
});

test('a build that fails is tried again', () => {
  const failing = () =>
    whenChanged({ root, name: 'thing', inputs: ['source'], outputs: [] }, () => {
      throw new Error('no compiler');
    });
  assert.throws(failing, /no compiler/);
  assert.throws(failing, /no compiler/);
});

test.after(() => rmSync(root, { recursive: true }));
test.run();
