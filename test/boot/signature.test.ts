// What a signature is valid for. OpenSSL is the second implementation.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isOlder } from '../../agent/aws/release.ts';
import { isSignedBy, type Signed, signer } from '../../agent/aws/signature.ts';
import type { Failure } from '../../agent/messages/failure.ts';

const scratch = mkdtempSync(join(tmpdir(), 'signature-'));
const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: scratch });

function keyFile(name: string, ...options: string[]): string {
  openssl('genpkey', '-algorithm', 'ed25519', '-out', name, ...options);
  return join(scratch, name);
}

const ours = signer(readFileSync(keyFile('ours'), 'utf8'), 'ours');
const next = signer(readFileSync(keyFile('next'), 'utf8'), 'next');
const stranger = signer(readFileSync(keyFile('stranger'), 'utf8'), 'stranger');
const sha256 = createHash('sha256').update('an archive').digest('hex');
const what: Signed = { version: '1.4.0', arch: 'x64', sha256 };
const keys = [ours.publicKey, next.publicKey];

const cases: [string, boolean, Signed, string, string[]?][] = [
  ['by a key of the list', true, what, ours.sign(what)],
  ['by the second key of the list, while keys are replaced', true, what, next.sign(what)],
  ['by a key outside of the list', false, what, stranger.sign(what)],
  ['of another version', false, { ...what, version: '1.5.0' }, ours.sign(what)],
  ['of another CPU', false, { ...what, arch: 'arm64' }, ours.sign(what)],
  ['of another archive', false, { ...what, sha256: '0'.repeat(64) }, ours.sign(what)],
  ['that is empty', false, what, ''],
  ['that is not base64', false, what, '§'],
  ['cut short', false, what, ours.sign(what).slice(0, 40)],
  ['with an empty list of keys', false, what, ours.sign(what), []],
  [
    'with a key in the list that is not a point of the curve',
    true,
    what,
    ours.sign(what),
    [`MCowBQYDK2VwAyEA${'/'.repeat(43)}=`, ...keys],
  ],
];
for (const [name, good, signed, signature, list = keys] of cases) {
  test(`a signature ${name} is ${good ? 'taken' : 'refused'}`, () => {
    assert.is(isSignedBy(list, signed, signature), good);
  });
}

test("the keys are OpenSSL's, and so are the signatures", () => {
  const pem = openssl('pkey', '-in', 'ours', '-pubout').toString();
  assert.is(pem.trim().split('\n')[1], ours.publicKey);
  const text = `eniboot bundle 1\nversion 1.4.0\narchitecture x64\nsha256 ${sha256}\n`;
  writeFileSync(join(scratch, 'text'), text);
  openssl('pkeyutl', '-sign', '-rawin', '-inkey', 'ours', '-in', 'text', '-out', 'signed');
  assert.is(readFileSync(join(scratch, 'signed')).toString('base64'), ours.sign(what));
});

for (const [name, text] of [
  [
    'an RSA key',
    openssl('genpkey', '-algorithm', 'RSA', '-out', 'rsa') && readFileSync(join(scratch, 'rsa'), 'utf8'),
  ],
  ['a key with a passphrase', readFileSync(keyFile('locked', '-aes256', '-pass', 'pass:x'), 'utf8')],
  ['a public key', openssl('pkey', '-in', 'ours', '-pubout').toString()],
  ['something else', 'nothing'],
] as const) {
  test(`${name} does not sign: SIGNING_KEY_UNUSABLE`, () => {
    try {
      signer(text, 'FILE');
      assert.unreachable();
    } catch (error) {
      assert.is((error as Failure).code, 'SIGNING_KEY_UNUSABLE');
      assert.match((error as Failure).message, /^FILE: /);
    }
  });
}

test('versions are compared by their numbers', () => {
  const order = [
    '0.9.0',
    '1.0.0-alpha',
    '1.0.0-rc.1',
    '1.0.0-rc.2',
    '1.0.0-rc.10',
    '1.0.0',
    '1.0.0.1',
    '1.0.2',
    '1.0.10',
  ];
  for (const [at, one] of order.entries())
    for (const [other, version] of order.entries())
      assert.is(isOlder(one, version), at < other, `${one} before ${version}`);
});

test.run();
