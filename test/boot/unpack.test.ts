// A version is unpacked as its manifest lists it, or refused, from any archive. The archives are made by GNU tar.
import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { unpack } from '../../agent/boot/version/unpack.ts';
import type { Failure } from '../../agent/messages/failure.ts';
import { bounds } from '../../agent/port/bounds.ts';

const scratch = mkdtempSync(join(tmpdir(), 'unpack-'));
let made = 0;

interface Unpacked {
  /** Code and message of the failure, if any. */
  said: string;
  files: string[];
  folder: string;
  bytes: number;
}

/** A script changes a folder that holds a good version; a command writes it as a tar to stdout; both are then unpacked. */
async function unpacked(script: string, pack = 'tar -C "$0" -cf - .'): Promise<Unpacked> {
  const source = join(scratch, `source-${++made}`);
  const folder = join(scratch, `target-${made}`);
  const archive = join(scratch, `${made}.tar.gz`);
  for (const one of [source, folder]) mkdirSync(one);
  const manifest = { version: '1.0.0', files: [{ path: 'eniboot', sha256: '' }], plugins: [] };
  writeFileSync(join(source, 'manifest.json'), JSON.stringify(manifest));
  writeFileSync(join(source, 'eniboot'), '#!/bin/sh\n', { mode: 0o775 });
  writeFileSync(join(source, 'NOTICE'), 'x'.repeat(1_000), { mode: 0o600 });
  execFileSync('sh', ['-euc', `(cd "$0"; ${script}); ${pack} | gzip -6 > "$1"`, source, archive]);
  const said = await unpack(archive, folder, 60_000).then(
    () => 'unpacked',
    (error: Failure) => `${error.code}: ${error.message}`,
  );
  const files = readdirSync(folder).sort();
  const bytes = files.reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
  return { said, files, folder, bytes };
}

for (const [name, pack] of [
  ['tar .', 'tar -C "$0" -cf - .'],
  ['eniboot bundle build', 'tar -C "$0" --format=ustar --sort=name -cf - NOTICE eniboot manifest.json'],
]) {
  test(`an archive of ${name} is unpacked, with eniboot's own modes`, async () => {
    const { said, files, folder } = await unpacked(':', pack);
    assert.is(said, 'unpacked');
    assert.equal(files, ['NOTICE', 'eniboot', 'manifest.json']);
    const modes = files.map((file) => (statSync(join(folder, file)).mode & 0o7777).toString(8));
    assert.equal(modes, ['644', '755', '644']);
    assert.is(readFileSync(join(folder, 'eniboot'), 'utf8'), '#!/bin/sh\n');
    assert.is(readFileSync(join(folder, 'NOTICE'), 'utf8'), 'x'.repeat(1_000));
  });
}

const refusals: [string, string, RegExp, string?][] = [
  ['778 KB that unpack to 800 MB', 'truncate -s 800000000 eniboot', /eniboot unpacks to 800000000 bytes/],
  [
    'files whose sum is too large',
    'rm eniboot; truncate -s 200000000 LICENSE NOTICE',
    /unpacks to over 300000000 bytes/,
  ],
  ['many files', 'for n in $(seq 40); do : > "f$n"; done', /over 32 files/],
  ['a set-user-ID file', 'chmod 4755 eniboot', /eniboot has mode 4755/],
  ['a set-group-ID file', 'chmod 2755 eniboot', /eniboot has mode 2755/],
  ['a sticky file', 'chmod 1755 NOTICE', /NOTICE has mode 1755/],
  ['a symbolic link', 'ln -sf /etc/shadow LICENSE', /LICENSE is a symbolic link/],
  ['a hard link', 'ln eniboot LICENSE', /(LICENSE|eniboot) is a hard link/],
  ['a FIFO', 'mkfifo LICENSE', /LICENSE is a FIFO/],
  ['a folder', 'mkdir lib', /lib\/ is a folder/],
  ['a file outside of the manifest', ': > extra', /extra is not in its manifest/],
  ['the record of its own digest', ': > bundle.sha256', /bundle\.sha256 is not in its manifest/],
  [
    'a name that leads out of the folder',
    ':',
    /"\.\.\/x" is no plain/,
    'tar -C "$0" -P --transform=s,NOTICE,../x, -cf - .',
  ],
  ['an absolute name', ':', /"\/x" is no plain/, 'tar -C "$0" -P --transform=s,^./NOTICE,/x, -cf - .'],
  ['the same name twice', ':', /NOTICE is in it twice/, 'tar -C "$0" -cf - . ./NOTICE --hard-dereference'],
  ['an extended header', ':', /of an unknown kind/, 'tar -C "$0" --format=pax --mtime=@1.5 -cf - .'],
  ['a device', ':', /null is a character device/, 'tar -C /dev -cf - null'],
  ['an archive that ends in the middle', ':', /it ends in the middle/, 'tar -C "$0" -cf - . | head -c 1500'],
  ['no tar', ':', /it is no tar archive/, 'seq 1000'],
];
for (const [name, script, message, pack] of refusals) {
  test(`${name}: BUNDLE_REFUSED`, async () => {
    const { said, bytes } = await unpacked(script, pack);
    assert.match(said, /^BUNDLE_REFUSED: /);
    assert.match(said, message);
    assert.ok(bytes <= bounds.bundleBytes, `${bytes} bytes were written`);
    assert.not.ok(existsSync(join(scratch, 'x')) || existsSync('/x'));
  });
}

for (const [name, bytes] of [
  ['no gzip', Buffer.from('not gzip')],
  ['half a gzip', Buffer.from('1f8b0800000000000003', 'hex')],
] as const) {
  test(`${name}: BUNDLE_REFUSED`, async () => {
    const archive = join(scratch, 'broken.gz');
    writeFileSync(archive, bytes);
    const said = await unpack(archive, scratch, 60_000).then(
      () => 'unpacked',
      (error: Failure) => `${error.code}: ${error.message}`,
    );
    assert.match(
      said,
      /^BUNDLE_REFUSED: the archive is not unpacked: it (is no whole gzip|ends in the middle)/,
    );
  });
}

test('an archive without a manifest is refused', async () => {
  assert.match((await unpacked('rm manifest.json')).said, /^MANIFEST_MISSING: /);
});

test('unpacking ends at its time limit', async () => {
  const { said } = await unpacked(':');
  assert.is(said, 'unpacked');
  const target = mkdtempSync(join(scratch, 'late-'));
  const late = await unpack(join(scratch, `${made}.tar.gz`), target, -1).then(String, String);
  assert.match(late, /was not unpacked within/);
});

test.run();
