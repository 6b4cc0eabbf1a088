// time limit: 240 s
// The bundle of a booted node with secrets planted in all its sources: no secret may be in the bundle.
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { roleCredentials } from '../aws/imds/tree.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { ENIBOOT, launchNode, type Node } from '../boot/node.ts';

interface Report {
  file: string;
  bytes: number;
  sha256: string;
  parts: { name: string; sha256: string; bytes: number; removed: number; cut: number; problem?: string }[];
}

/** Each secret is planted somewhere, and must not be in the bundle. */
const secrets = {
  userData: 'user-data-password-8kq2',
  environment: 'wJalrXUtnFEMI/K7MDENG+bPxRfiCYzEXAMPLEKEY',
  session: 'IQoJb3JpZ2luX2VjEXAMPLEsessionTOKEN0123456789abcdefABCDEF',
  keyId: 'AKIAIOSFODNN7EXAMPLE',
  bearer: 'bearer-3f9a0c71d2',
  basic: 'dXNlcjpzZWNyZXQtYmFzaWM=',
  jwt: 'eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJrdWJlbGV0In0.c2lnbmF0dXJlLW9mLWEtdG9rZW4',
  bootstrap: 'abcdef.0123456789abcdef',
  kubeToken: 'kube-user-token-7711',
  clientKey: 'LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQ==',
  pemLine: 'MIIEowIBAAKCAQEAu1SU1LfVLPHCozMxH2Mo4lgOEePzNm0tRgeLezV6ffAt0gun',
  url: 'hunter2-in-a-url',
  json: 'value of a json secret',
  flag: 'given-as-a-flag-55',
};
const kubeconfig = `apiVersion: v1
users:
- name: kubelet
  user:
    token: ${secrets.kubeToken}
    client-key-data: ${secrets.clientKey}
`;
const logText = `Nov 23 02:00:00 node eniboot[1]: Authorization: Bearer ${secrets.bearer}
Nov 23 02:00:00 node kubelet[2]: --bootstrap-token ${secrets.flag} joining with ${secrets.bootstrap}
Nov 23 02:00:00 node kubelet[2]: GET https://admin:${secrets.url}@registry.example.com/v2/
Nov 23 02:00:01 node crio[3]: {"auth":"${secrets.basic}","Password": "${secrets.json}"}
Nov 23 02:00:01 node kubelet[2]: jwt ${secrets.jwt} key ${secrets.keyId}
Nov 23 02:00:02 node cloud[4]: -----BEGIN RSA PRIVATE KEY-----
Nov 23 02:00:02 node cloud[4]: ${secrets.pemLine}
Nov 23 02:00:02 node cloud[4]: -----END RSA PRIVATE KEY-----
Nov 23 02:00:03 node eniboot[1]: AWS_SECRET_ACCESS_KEY=${secrets.environment} AWS_SESSION_TOKEN=${secrets.session}
Nov 23 02:00:04 node eniboot[1]: phase egress done
`;

let cloud: Cloud;
let node: Node;
const folder = mkdtempSync(join(tmpdir(), 'eniboot-bundle-'));

test.before(async () => {
  cloud = await startCloud();
  node = await launchNode(cloud, {
    userData: `#cloud-config\npassword: ${secrets.userData}\n`,
    podEnis: 0,
  });
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready', JSON.stringify(status?.failure));
  const { instance } = node;
  // A simulated instance has no systemd: this stands in for journalctl.
  instance.write('/opt/stand-in/journalctl', `#!/bin/sh\ncat /opt/stand-in/log\n`, 0o755);
  instance.write('/opt/stand-in/dmesg', '#!/bin/sh\ncat /opt/stand-in/log\n', 0o755);
  instance.write('/opt/stand-in/log', logText);
  const written = instance.read('/run/eniboot/status.json') ?? '{}';
  const planted = { ...JSON.parse(written), planted: { accessToken: secrets.kubeToken, note: kubeconfig } };
  instance.write('/run/eniboot/status.json', JSON.stringify(planted));
  instance.write('/etc/crio/crio.conf.d/10-eniboot.conf', kubeconfig);
  instance.write('/etc/eniboot/config.d/50-wrong.yaml', `password: ${secrets.json}\n`);
});
test.after(async () => {
  rmSync(folder, { recursive: true, force: true });
  await cloud.stop();
});

const environment = {
  PATH: '/opt/stand-in:/usr/sbin:/usr/bin:/sbin:/bin',
  AWS_SECRET_ACCESS_KEY: secrets.environment,
  AWS_SESSION_TOKEN: secrets.session,
};

test('no planted secret, no credential and no token is in the bundle; all other text is', async () => {
  const report = await bundle([]);
  const text = unpack(report);
  for (const [name, secret] of Object.entries(secrets))
    assert.not.ok(text.includes(secret), `${name} is in it`);
  const { accessKeyId, secretAccessKey, sessionToken } = roleCredentials(node.instance.id);
  for (const secret of [accessKeyId, secretAccessKey, sessionToken]) assert.not.ok(text.includes(secret));
  assert.ok(report.parts.some((part) => part.removed > 0));
  for (const expected of [
    node.instance.id,
    node.instance.bootEni.id,
    node.instance.enis[1]?.id ?? 'no pod ENI',
    node.instance.enis[1]?.prefixes[0] ?? 'no prefix',
    'table inet eniboot',
    '"verdict": "ready"',
    'phase egress done',
    'net/ipv4/conf/ens5/rp_filter',
    '/run/eniboot/pool/free/',
    'fwmark',
    '10-eniboot.conflist',
  ])
    assert.ok(
      text.includes(expected) || text.includes(expected.replace(': ', ':')),
      `${expected} is missing`,
    );
});

test('the manifest has the digest of every file, and tells which files are missing and which were cut', async () => {
  const report = await bundle([]);
  const to = extract(report);
  const manifest = JSON.parse(readFileSync(join(to, 'MANIFEST.json'), 'utf8')) as {
    files: Report['parts'];
  };
  assert.equal(manifest.files, report.parts);
  assert.equal(readdirSync(to).sort(), ['MANIFEST.json', ...report.parts.map((part) => part.name)].sort());
  for (const part of report.parts) {
    const bytes = readFileSync(join(to, part.name));
    assert.is(createHash('sha256').update(bytes).digest('hex'), part.sha256, part.name);
    assert.is(bytes.length, part.bytes);
  }
  assert.match(
    report.parts.find((part) => part.name === 'version-crio.txt')?.problem ?? '',
    'is not installed',
  );
  rmSync(to, { recursive: true });
});

test('the file is complete, readable only for root, in a folder only for root, and never replaces another', async () => {
  const report = await bundle([]);
  assert.match(
    report.file,
    new RegExp(`^/var/lib/eniboot/support/eniboot-${node.instance.id}-\\d{8}T\\d{9}Z\\.tar\\.gz$`),
  );
  const path = join(node.instance.root, report.file);
  assert.is(statSync(path).mode & 0o777, 0o600);
  assert.is(statSync(join(path, '..')).mode & 0o777, 0o700);
  assert.is(createHash('sha256').update(readFileSync(path)).digest('hex'), report.sha256);
  const again = await node.eniboot(['support-bundle', '--output', report.file], { env: environment });
  assert.is(again.exitCode, 2);
  assert.match(again.stderr, 'exists already');
  assert.is(again.stdout, '', 'refused before collecting');
  node.instance.write('/var/tmp-target', 'untouched');
  await node.instance.run('ln', ['-s', '/var/tmp-target', '/var/link.tar.gz']);
  assert.is(
    (await node.eniboot(['support-bundle', '--output', '/var/link.tar.gz'], { env: environment })).exitCode,
    2,
  );
  assert.is(node.instance.read('/var/tmp-target'), 'untouched');
  const nowhere = await node.eniboot(['support-bundle', '--json', '--output', '/nowhere/x.tar.gz'], {
    env: environment,
  });
  assert.is(nowhere.exitCode, 1);
  assert.is(JSON.parse(nowhere.stdout).failure.code, 'FILE_WRITE');
});

test('a flood of logs stays below 20 MB and keeps the end', async () => {
  // Lines of hexadecimal digits hardly compress. Prepared here, because the command has only 10 s, also on a busy machine.
  const flood = randomBytes(12_500_000)
    .toString('hex')
    .replace(/.{100}/g, '$&\n');
  node.instance.write('/opt/stand-in/flood', flood);
  node.instance.write(
    '/opt/stand-in/journalctl',
    '#!/bin/sh\ncat /opt/stand-in/flood /opt/stand-in/log\n',
    0o755,
  );
  const report = await bundle([]);
  assert.ok(report.bytes < 20_000_000, `${report.bytes} bytes`);
  const journal = report.parts.find((part) => part.name === 'journal-eniboot.txt');
  assert.ok((journal?.cut ?? 0) > 20_000_000, `cut ${journal?.cut}: ${journal?.problem}`);
  assert.match(unpack(report), 'phase egress done');
  node.instance.write('/opt/stand-in/journalctl', `#!/bin/sh\ncat /opt/stand-in/log\n`, 0o755);
});

test('without IMDS and EC2 a bundle is still made, and tells so', async () => {
  const rule = cloud.faults.imds.add({ status: 500 });
  const report = await bundle([]);
  assert.match(unpack(report), 'IMDS_ERROR');
  rule.remove();
});

test('Ctrl-C leaves nothing, exit 130', async () => {
  const support = join(node.instance.root, 'var/lib/eniboot/support');
  const before = readdirSync(support).sort();
  const rule = cloud.faults.imds.add({ delayMs: 5_000 });
  const child = node.instance.spawn(ENIBOOT, ['support-bundle'], {
    env: environment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  child.stdout?.on('data', (piece: Buffer) => {
    out += piece.toString();
    if (out.includes('IMDS')) child.kill('SIGINT');
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  rule.remove();
  assert.is(code, 130);
  assert.equal(readdirSync(support).sort(), before);
});

test('only root may make a bundle', async () => {
  const result = await node.instance.run('setpriv', [
    '--reuid=65534',
    '--clear-groups',
    ENIBOOT,
    'support-bundle',
    '--json',
  ]);
  if (result.stderr.includes('setresuid failed')) return; // this namespace maps only one user
  assert.is(result.exitCode, 1);
  assert.is(JSON.parse(result.stdout).failure.code, 'NOT_ROOT');
});

async function bundle(args: string[]): Promise<Report> {
  const result = await node.eniboot(['support-bundle', '--json', ...args], { env: environment });
  assert.is(result.exitCode, 0, result.stderr);
  return JSON.parse(result.stdout) as Report;
}

function extract(report: Report): string {
  const to = mkdtempSync(join(folder, 'x-'));
  execFileSync('tar', [
    '--extract',
    '--gzip',
    '--file',
    join(node.instance.root, report.file),
    '--directory',
    to,
  ]);
  return to;
}

/** Every file of the bundle, names included, as one text; the bundle is removed. */
function unpack(report: Report): string {
  const to = extract(report);
  const text = readdirSync(to)
    .map((name) => `${name}\n${readFileSync(join(to, name), 'utf8')}`)
    .join('\n');
  rmSync(to, { recursive: true });
  rmSync(join(node.instance.root, report.file));
  assert.not.ok(existsSync(join(node.instance.root, report.file)));
  return text;
}

test.run();
