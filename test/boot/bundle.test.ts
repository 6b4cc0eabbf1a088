// The zone's bundle: a node that is behind comes up on the zone's version, or on its own and says so.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startCloud } from '../aws/index.ts';
import { configText, launchNode } from './node.ts';

const built = join(import.meta.dirname, '../../dist', process.arch === 'arm64' ? 'arm64' : 'x64');
const parameter = '/eniboot/bundle/euw1-az1';
const cloud = await startCloud();
const served = new Map<string, Buffer>();
const server = createServer((request, response) => {
  const body = served.get(request.url ?? '');
  response.writeHead(body === undefined ? 404 : 200).end(body);
});
const host = new URL(cloud.endpoints.ec2).hostname;
await new Promise<void>((resolve) => server.listen(8080, host, resolve));
const scratch = mkdtempSync(join(tmpdir(), 'bundles-'));

/** A bundle that says it is `version`, with this executable or another text in its place. */
function publish(version: string, options: { executable?: string; sha256?: string } = {}): void {
  const folder = join(scratch, version);
  mkdirSync(folder);
  if (options.executable === undefined) execFileSync('cp', [join(built, 'eniboot'), folder]);
  else writeFileSync(join(folder, 'eniboot'), options.executable, { mode: 0o755 });
  const sha256 = createHash('sha256')
    .update(readFileSync(join(folder, 'eniboot')))
    .digest('hex');
  writeFileSync(
    join(folder, 'manifest.json'),
    JSON.stringify({ version, files: [{ path: 'eniboot', sha256 }], plugins: ['eniboot'] }),
  );
  const bundle = execFileSync('sh', ['-c', `tar -C "$0" -cf - . | gzip -1`, folder], { maxBuffer: 1e9 });
  served.set(`/${version}.tar.gz`, bundle);
  announce(version, options.sha256 ?? createHash('sha256').update(bundle).digest('hex'));
}

function announce(version: string, sha256: string): void {
  const source = { url: `http://${host}:8080/${version}.tar.gz`, sha256 };
  setParameter(JSON.stringify({ version, x64: source, arm64: source }));
}

function setParameter(value: string): void {
  cloud.ssm.send('PutParameter', { Name: parameter, Value: value, Type: 'String', Overwrite: true });
}

const config = configText(cloud, 'bundle: {}\n');

test("a node that is behind comes up on the zone's version and keeps its own", async () => {
  publish('9.1.0');
  const node = await launchNode(cloud, { config });
  const { result, status } = await node.boot();
  assert.is(result.exitCode, 0, result.stderr);
  assert.is(status?.verdict, 'ready');
  const links = await node.instance.run('readlink', [
    '/usr/libexec/eniboot/current',
    '/usr/libexec/eniboot/previous',
    '/opt/cni/bin/eniboot',
  ]);
  assert.equal(links.stdout.trim().split('\n'), ['9.1.0', '0.1.0', '/usr/libexec/eniboot/current/eniboot']);
  assert.is(
    status?.phases.flatMap((phase) => phase.checks).some((check) => check.id === 'bundle'),
    false,
  );
  assert.ok(node.kubeletReleased());
  assert.equal(cloud.leakReport(), []);
  const again = await node.boot();
  assert.is(again.status?.verdict, 'ready');
  assert.equal(
    again.status?.phases.flatMap((phase) => phase.changes),
    [],
  );
});

for (const [name, prepare, reason] of [
  ['a bundle with another digest', () => publish('9.2.0', { sha256: '0'.repeat(64) }), /SHA-256/],
  ['a bundle that is not there', () => announce('9.3.0', '0'.repeat(64)), /404/],
  [
    'a version that does not come up',
    () => publish('9.4.0', { executable: '#!/bin/sh\nexit 1\n' }),
    /9\.4\.0 was handed this boot/,
  ],
  ['a parameter that is no JSON', () => setParameter('latest'), /names no version/],
] as const) {
  test(`${name}: the node comes up on its own version and says that it is behind`, async () => {
    prepare();
    const node = await launchNode(cloud, { config });
    const { result, status } = await node.boot();
    assert.is(result.exitCode, 0, result.stderr);
    assert.is(status?.verdict, 'ready');
    const check = status?.phases.flatMap((phase) => phase.checks).find((one) => one.id === 'bundle');
    assert.is(check?.result, 'warn');
    assert.match(check?.summary ?? '', reason);
    assert.is((await node.instance.run('readlink', ['/usr/libexec/eniboot/current'])).stdout.trim(), '0.1.0');
    const left = (await node.instance.run('ls', ['-A', '/usr/libexec/eniboot'])).stdout;
    assert.not.match(left, /staging/);
  });
}

test.after(async () => {
  server.close();
  await cloud.stop();
});
test.run();
