// A missing file and an unknown one: only two errors mean that a file is missing.
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  isThere,
  linkIfPresent,
  listIfPresent,
  readBytesIfPresent,
  readIfPresent,
  readJsonIfPresent,
  secondsSinceWritten,
  statIfPresent,
} from '../../agent/port/fs.ts';

const folder = mkdtempSync(join(tmpdir(), 'fs-'));
const file = join(folder, 'file');
const loop = join(folder, 'loop');
writeFileSync(file, '{"a": 1}');
symlinkSync(loop, loop);
mkdirSync(join(folder, 'empty'));
test.after(() => rmSync(folder, { recursive: true }));

/** Each reader, and its result for a missing file. */
const readers: [string, (path: string) => unknown, unknown][] = [
  ['isThere', isThere, false],
  ['statIfPresent', statIfPresent, undefined],
  ['linkIfPresent', linkIfPresent, undefined],
  ['listIfPresent', listIfPresent, []],
  ['readIfPresent', readIfPresent, undefined],
  ['readJsonIfPresent', readJsonIfPresent, undefined],
  ['readBytesIfPresent', (path) => readBytesIfPresent(path, 10), undefined],
  ['secondsSinceWritten', secondsSinceWritten, 0],
];
for (const [name, read, absent] of readers) {
  test(`${name}: ENOENT and ENOTDIR are absence, any other error is thrown`, () => {
    assert.equal(read(join(folder, 'none')), absent);
    assert.equal(read(join(file, 'below')), absent);
    for (const [path, code] of [
      [join(loop, 'below'), 'ELOOP'],
      [join(folder, 'x'.repeat(256)), 'ENAMETOOLONG'],
    ] as const)
      assert.throws(
        () => read(path),
        (error: NodeJS.ErrnoException) => error.code === code && error.message.includes(path),
      );
  });
}

test('a circular link is a link, and reading through it fails', () => {
  assert.is(linkIfPresent(loop), loop);
  assert.is(linkIfPresent(file), undefined);
  assert.throws(() => isThere(loop), /ELOOP/);
});

test('JSON is parsed, and damaged JSON is undefined', () => {
  assert.equal(readJsonIfPresent(file), { a: 1 });
  for (const damaged of ['', '{', 'nothing']) {
    writeFileSync(join(folder, 'damaged'), damaged);
    assert.is(readJsonIfPresent(join(folder, 'damaged')), undefined);
  }
  // A folder is not a damaged file of eniboot.
  assert.throws(() => readJsonIfPresent(join(folder, 'empty')), /EISDIR/);
});

test.run();
