import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { userDataSources } from '../../agent/config/userdata.ts';

const yaml = 'cluster: prod\npods:\n  subnets:\n    ids: [subnet-0a1b2c3d]\n';
const marked = `#eniboot-config\n${yaml}`;

/** The parts found, as `name: text` or `name! problem`. */
function found(userData: Uint8Array | string): string[] {
  return userDataSources(userData).map((source) =>
    'refused' in source
      ? `${source.name}! ${source.refused.problem}`
      : 'passedOver' in source
        ? `${source.name}? ${source.passedOver.problem}`
        : `${source.name}: ${Buffer.from(source.content).toString('utf8')}`,
  );
}

interface Part {
  headers: string[];
  body: string;
}

function multipart(parts: Part[], end = '\n'): string {
  const lines = [
    'Content-Type: multipart/mixed;',
    '  boundary="==BOUNDARY=="',
    'MIME-Version: 1.0',
    '',
    ...parts.flatMap((part) => ['--==BOUNDARY==', ...part.headers, '', part.body]),
    '--==BOUNDARY==--',
    '',
  ];
  return lines.join('\n').replaceAll('\n', end);
}

const script: Part = {
  headers: ['Content-Type: text/x-shellscript; charset="us-ascii"'],
  body: '#!/bin/sh\necho "cluster: other"',
};
const typed: Part = { headers: ['Content-Type: application/vnd.eniboot.config+yaml'], body: yaml.trimEnd() };

test('a text with the marker', () => {
  assert.equal(found(marked), [`user data: ${marked}`]);
  assert.equal(found(`#eniboot-config  \r\n${yaml}`).length, 1);
});

test('user data for other programs is passed over', () => {
  for (const other of [
    '',
    '#!/bin/sh\ntrue\n',
    '#cloud-config\nruncmd: [true]\n',
    'I2Nsb3VkLWNvbmZpZwpydW5jbWQ6IFt0cnVlXQo=',
    multipart([script]),
    gzipSync('#cloud-config\n'),
    '{"ignition": {"version": "3.4.0"}}',
  ]) {
    assert.equal(found(other), []);
  }
});

test('gzip, base64 and both, as tools and people wrap user data', () => {
  assert.equal(found(gzipSync(marked)), [`user data: ${marked}`]);
  assert.equal(found(Buffer.from(marked).toString('base64')), [`user data: ${marked}`]);
  assert.equal(found(gzipSync(marked).toString('base64')), [`user data: ${marked}`]);
  const wrapped = Buffer.from(marked)
    .toString('base64')
    .replace(/(.{40})/g, '$1\n');
  assert.equal(found(`${wrapped}\n`), [`user data: ${marked}`]);
});

test('a MIME part with the media type, among others', () => {
  for (const end of ['\n', '\r\n']) {
    const [one, ...others] = found(multipart([script, typed], end));
    assert.equal(others, []);
    assert.is(one?.replaceAll('\r', ''), `user data, part 2: ${yaml.trimEnd()}`);
  }
});

test("a MIME part with the marker is read with any type; its file name is in the part's name", () => {
  const part = {
    headers: ['Content-Type: text/x-eniboot-config', 'Content-Disposition: attachment; filename="node.yaml"'],
    body: marked.trimEnd(),
  };
  assert.equal(found(multipart([part])), [`user data, part 1 (node.yaml): ${marked.trimEnd()}`]);
});

test('encodings of a MIME part', () => {
  const type = 'Content-Type: application/vnd.eniboot.config+yaml';
  const base64 = {
    headers: [type, 'Content-Transfer-Encoding: base64'],
    body: Buffer.from(yaml).toString('base64'),
  };
  const gzipped = { ...base64, body: gzipSync(yaml).toString('base64') };
  const printable = {
    headers: [type, 'Content-Transfer-Encoding: quoted-printable'],
    body: 'cluster: prod=\n\naws: {tags: {owner: J=C3=BCrgen}}',
  };
  assert.equal(found(multipart([base64, gzipped, printable])), [
    `user data, part 1: ${yaml}`,
    `user data, part 2: ${yaml}`,
    'user data, part 3: cluster: prod\naws: {tags: {owner: Jürgen}}',
  ]);
});

test('a whole MIME message gzipped, or in base64, or inside another', () => {
  const inner = multipart([typed]);
  assert.is(found(gzipSync(inner)).length, 1);
  assert.is(found(Buffer.from(inner).toString('base64')).length, 1);
  const other = inner.replaceAll('==BOUNDARY==', '==INNER==').split('\n\n');
  const nested = { headers: (other[0] ?? '').split('\n'), body: other.slice(1).join('\n\n') };
  assert.is(found(multipart([script, nested])).length, 1);
});

test('several parts for eniboot keep their order', () => {
  const second = { ...typed, body: 'pods: {max: 20}' };
  assert.equal(
    userDataSources(multipart([typed, script, second])).map((source) => source.name),
    ['user data, part 1', 'user data, part 3'],
  );
});

test('a cut message is refused, because half a configuration may be valid', () => {
  const whole = multipart([script, typed]);
  assert.equal(found(whole.slice(0, whole.indexOf('    ids:'))), [
    'user data, part 2! ends before its closing MIME boundary',
  ]);
});

test('a misspelt marker and broken gzip are refused, not passed over', () => {
  assert.match(found(`# eniboot-config\n${yaml}`)[0] ?? '', /nearly but not #eniboot-config/);
  assert.match(found(`#eniboot_config\n${yaml}`)[0] ?? '', /nearly but not #eniboot-config/);
  assert.match(found(gzipSync(marked).subarray(0, 40))[0] ?? '', /gzip that cannot be unpacked/);
});

test('a gzip bomb is refused', () => {
  assert.match(found(gzipSync(Buffer.alloc(64 * 1024 * 1024)))[0] ?? '', /over 1 MiB/);
});

test('any user data ends without an exception or a hang', () => {
  const piece = fc.constantFrom(
    'Content-Type: multipart/mixed; boundary="b"',
    'Content-Type: text/plain',
    'Content-Transfer-Encoding: base64',
    '',
    '--b',
    '--b--',
    marked,
    'AAAA',
    '\u0000',
  );
  const soup = fc.array(piece, { maxLength: 12 }).map((pieces) => Buffer.from(pieces.join('\n')));
  const zipped = fc
    .uint8Array({ maxLength: 64 })
    .map((bytes) => Buffer.concat([Buffer.from([0x1f, 0x8b]), bytes]));
  fc.assert(
    fc.property(fc.oneof(soup, zipped, fc.uint8Array({ maxLength: 400 })), (bytes) => {
      for (const source of userDataSources(bytes)) assert.type(source.name, 'string');
    }),
    { numRuns: 2000 },
  );
  const colons = 'a: b\n'.repeat(5000);
  assert.equal(userDataSources(colons), []);
});

test.run();
