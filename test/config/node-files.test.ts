// Sources that a node reads by itself: the real /etc, in a mount namespace that lays the test's files over it.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const program = join(import.meta.dirname, 'run-config.ts');
const minimal = 'cluster: prod\npods: {subnets: {tags: {role: pods}}}\n';

/**
 * Runs `eniboot config` with these files in /etc/eniboot (a value `-> x` makes a link to x) and, if given, this user data in the
 * metadata service.
 */
function onNode(files: Record<string, string | Uint8Array>, args: string[], userData?: string | Uint8Array) {
  const root = mkdtempSync(join(tmpdir(), 'eniboot-etc-'));
  try {
    chmodSync(root, 0o755);
    for (const [name, content] of Object.entries(files)) {
      const path = join(root, 'eniboot', name);
      mkdirSync(dirname(path), { recursive: true });
      if (typeof content === 'string' && content.startsWith('-> ')) symlinkSync(content.slice(3), path);
      else writeFileSync(path, content);
    }
    const user = process.getuid?.() === 0 ? [] : ['--map-root-user'];
    const steps = [
      'ip link set lo up',
      'ip address add 169.254.169.254/32 dev lo',
      'mount -t overlay overlay -o "lowerdir=$1:/etc" /etc',
      'shift',
      'exec "$@"',
    ];
    const command = ['--mount', '--net', 'sh', '-euc', steps.join('\n'), 'sh', root];
    const env = userData === undefined ? {} : { STAND_IN_USER_DATA: join(root, 'user-data') };
    if (userData !== undefined) writeFileSync(join(root, 'user-data'), userData);
    const result = spawnSync('unshare', [...user, ...command, process.execPath, program, ...args], {
      encoding: 'utf8',
      timeout: 20_000,
      env: { ...process.env, ...env },
    });
    return { code: result.status, out: result.stdout, err: result.stderr };
  } finally {
    rmSync(root, { recursive: true });
  }
}

test('config.yaml, then the drop-ins by name', () => {
  const { code, out, err } = onNode(
    {
      'config.yaml': minimal,
      'config.d/20-late.yaml': 'pods: {max: 20}\n',
      'config.d/10-early.yaml': 'pods: {max: 10}\nboot: {deadlineSeconds: 200}\n',
      'config.d/.hidden.yaml': 'zorp: 1\n',
      'config.d/README': 'zorp: 1\n',
      'config.d/20-late.yaml~': 'zorp: 1\n',
      'config.d/20-late.yaml.rpmsave': 'zorp: 1\n',
    },
    ['show'],
  );
  assert.match(err, /^note: the user data was not read/);
  assert.is(code, 0);
  assert.match(out, /^pods\.max +20 +\/etc\/eniboot\/config\.d\/20-late\.yaml:1$/m);
  assert.match(out, /^boot\.deadlineSeconds +200 +\/etc\/eniboot\/config\.d\/10-early\.yaml:2$/m);
  assert.match(out, /^cluster +"prod" +\/etc\/eniboot\/config\.yaml:1$/m);
});

test('the user data of the instance comes last', () => {
  const { code, out, err } = onNode(
    { 'config.yaml': minimal, 'config.d/10.yaml': 'pods: {max: 10}\n' },
    ['show'],
    gzipSync('#eniboot-config\npods:\n  max: 30\n'),
  );
  assert.is(err, '');
  assert.is(code, 0);
  assert.match(out, /^pods\.max +30 +user data:3$/m);
});

test('user data alone suffices, and parts for other programs change nothing', () => {
  assert.is(onNode({ 'other.txt': '' }, ['check'], `#eniboot-config\n${minimal}`).out, 'valid: user data\n');
  const script = '#!/bin/sh\ntrue\n';
  assert.is(onNode({ 'config.yaml': minimal }, ['check'], script).out, 'valid: /etc/eniboot/config.yaml\n');
});

test('nothing there', () => {
  const { code, err } = onNode({ 'other.txt': '' }, ['check']);
  assert.is(code, 1);
  assert.match(err, /^CONFIG_MISSING/m);
});

test('drop-ins alone suffice', () => {
  assert.is(onNode({ 'config.d/10.yaml': minimal }, ['check']).code, 0);
});

test('a drop-in whose name would not be read is an error', () => {
  for (const name of ['10-node.yml', '10-node.YAML', '10-node.json', '10-node.yaml.txt']) {
    const { code, out } = onNode({ 'config.yaml': minimal, [`config.d/${name}`]: 'pods: {max: 10}\n' }, [
      'check',
    ]);
    assert.is(code, 1);
    assert.match(out, /is not read: only names in \.yaml are/);
    assert.match(out, /Rename it to 10-node\.yaml/);
  }
});

test('dangling links and folders are errors', () => {
  const { code, out } = onNode(
    { 'config.yaml/x': '', 'config.d/10.yaml': '-> /nowhere/at-all', 'config.d/20.yaml': minimal },
    ['check'],
  );
  assert.is(code, 1);
  assert.match(out, /config\.yaml: error: the document is a folder/);
  assert.match(out, /10\.yaml: error: the document is a link to a file that does not exist/);
  assert.match(out, /2 errors/);
});

test('a dangling link in place of config.yaml is not taken for an absent file', () => {
  const { code, out } = onNode({ 'config.yaml': '-> /nowhere/at-all', 'config.d/20.yaml': minimal }, [
    'check',
  ]);
  assert.is(code, 1);
  assert.match(out, /config\.yaml: error: the document is a link to a file/);
});

test('reading a link to an endless file ends', () => {
  const { code, out } = onNode({ 'config.yaml': '-> /dev/zero' }, ['check']);
  assert.is(code, 1);
  assert.match(out, /larger than 64 KiB/);
});

test.run();
