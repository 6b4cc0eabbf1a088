// time limit: 300 s
// The zone's bundle. A node with an older version comes up on the zone's version; when that fails, on its own, and says so.
import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { signer } from '../../agent/aws/signature.ts';
import type { Context } from '../../agent/boot/context.ts';
import type { BundleState } from '../../agent/boot/facts/bundle-state.ts';
import type { NodeFacts } from '../../agent/boot/facts/facts.ts';
import { install } from '../../agent/boot/phases/install.ts';
import { startCloud } from '../aws/index.ts';
import { packStored } from '../rollout/bundles.ts';
import { configText, ENIBOOT, launchNode, type Node } from './node.ts';

const built = join(import.meta.dirname, '../../dist', process.arch === 'arm64' ? 'arm64' : 'x64');
const parameter = '/eniboot/bundle/euw1-az1';
const cloud = await startCloud();
const served = new Map<string, Buffer>();
const asked: string[] = [];
const server = createServer((request, response) => {
  asked.push(request.url ?? '');
  const body = served.get(request.url ?? '');
  // The answer begins and never ends.
  if (request.url === '/9.7.0.tar.gz') return void response.writeHead(200).write('.');
  response.writeHead(body === undefined ? 404 : 200).end(body);
});
const host = new URL(cloud.endpoints.ec2).hostname;
await new Promise<void>((resolve) => server.listen(8080, host, resolve));
const scratch = mkdtempSync(join(tmpdir(), 'bundles-'));

interface PublishOptions {
  executable?: string;
  sha256?: string;
  parameter?: string;
}

/** Publishes a bundle of `version`, with this executable or with the given text in its place. */
function publish(version: string, options: PublishOptions = {}): void {
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
  packStored(folder, `${folder}.tar.gz`);
  const bundle = readFileSync(`${folder}.tar.gz`);
  served.set(`/${version}.tar.gz`, bundle);
  announce(
    version,
    options.sha256 ?? createHash('sha256').update(bundle).digest('hex'),
    options.parameter ?? parameter,
  );
}

function announce(version: string, sha256: string, name = parameter): void {
  const source = { url: `http://${host}:8080/${version}.tar.gz`, sha256 };
  setParameter(JSON.stringify({ version, x64: source, arm64: source }), name);
}

function setParameter(value: string, name = parameter): void {
  cloud.ssm.send('PutParameter', { Name: name, Value: value, Type: 'String', Overwrite: true });
}

const LIBEXEC = '/usr/libexec/eniboot';

async function targets(node: Node, ...names: string[]): Promise<string[]> {
  const { stdout } = await node.instance.run(
    'readlink',
    names.map((name) => `${LIBEXEC}/${name}`),
  );
  return stdout.trim().split('\n');
}

/** Leaves versions that an image update and a killed run may have left beside the running version. */
async function leaveOldVersions(node: Node): Promise<void> {
  await node.instance.run('sh', [
    '-euc',
    `cd ${LIBEXEC}
     mkdir -p 0.0.8 0.0.9 9.1.0 .staging/9.0.0
     for version in 0.0.8 0.0.9; do echo '{"version":"'$version'","files":[],"plugins":[]}' > $version/manifest.json; done
     echo '{"version":"9.1.0","files":[],"plugins":[]}' > 9.1.0/manifest.json
     printf %064d 1 > 9.1.0/bundle.sha256
     echo kept > not-a-version
     ln -s 0.0.9 previous`,
  ]);
}

const config = configText(cloud, 'bundle: {}\n');

test("a node with an older version comes up on the zone's version and keeps its own", async () => {
  publish('9.1.0');
  const node = await launchNode(cloud, { config });
  await leaveOldVersions(node);
  const { result, status } = await node.boot();
  assert.is(result.exitCode, 0, result.stderr);
  assert.is(status?.verdict, 'ready');
  assert.equal(await targets(node, 'current', 'previous', '../../../opt/cni/bin/eniboot'), [
    '9.1.0',
    '0.1.0',
    `${LIBEXEC}/current/eniboot`,
  ]);
  assert.equal(status?.bundle, { running: '9.1.0', wanted: '9.1.0', behind: false });
  // There were: a folder of that name from another archive, older versions and a half-staged version.
  assert.equal(
    node.instance.read(`${LIBEXEC}/9.1.0/bundle.sha256`)?.trim(),
    createHash('sha256')
      .update(served.get('/9.1.0.tar.gz') ?? '')
      .digest('hex'),
  );
  assert.equal((await node.instance.run('ls', ['-A', LIBEXEC])).stdout.trim().split('\n').sort(), [
    '0.1.0',
    '9.1.0',
    'current',
    'kubelet-version',
    'not-a-version',
    'previous',
  ]);
  assert.is(
    status?.phases.flatMap((phase) => phase.checks).some((check) => check.id === 'bundle'),
    false,
  );
  assert.ok(node.kubeletReleased());
  assert.equal(cloud.leakReport(), []);
  announce('9.1.0', '2'.repeat(64));
  const again = await node.boot();
  assert.is(again.status?.verdict, 'ready');
  assert.is(again.status?.bundle?.behind, true);
  assert.match(again.status?.bundle?.reason ?? '', /other contents need another version/);
  assert.equal(
    again.status?.phases.flatMap((phase) => phase.changes),
    [],
  );
});

for (const [name, prepare, reason] of [
  [
    'a bundle with another digest',
    () => publish('9.2.0', { executable: '', sha256: '0'.repeat(64) }),
    /SHA-256/,
  ],
  ['a missing bundle', () => announce('9.3.0', '0'.repeat(64)), /404/],
  [
    'a version that does not become READY',
    () => publish('9.4.0', { executable: '#!/bin/sh\nexit 1\n' }),
    /9\.4\.0 was handed this boot/,
  ],
  ['a parameter that is not JSON', () => setParameter('latest'), /names no version/],
] as const) {
  test(`${name}: the node comes up on its own version and tells that the zone has another`, async () => {
    prepare();
    const node = await launchNode(cloud, { config });
    const { result, status } = await node.boot();
    assert.is(result.exitCode, 0, result.stderr);
    assert.is(status?.verdict, 'ready');
    const check = status?.phases.flatMap((phase) => phase.checks).find((one) => one.id === 'bundle');
    assert.is(check?.result, 'warn');
    assert.match(check?.summary ?? '', reason);
    assert.is(status?.bundle?.behind, true);
    assert.match(status?.bundle?.reason ?? '', reason);
    const keys = status?.phases.flatMap((phase) => phase.checks).find((one) => one.id === 'bundle-keys');
    assert.is(`${keys?.result}: ${keys?.summary}`, 'skip: versions need no signature: bundle.keys is empty');
    assert.equal(await targets(node, 'current'), ['0.1.0']);
    const left = (await node.instance.run('ls', ['-A', LIBEXEC])).stdout;
    assert.not.match(left, /staging|9\./);
  });
}

test("with keys, the zone's version is followed when one of them has signed it, and is not downloaded otherwise", async () => {
  const key = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
  const { publicKey, sign } = signer(key, 'key');
  const signed = configText(cloud, `bundle: { keys: ["${publicKey}"] }\n`);
  publish('9.0.5');
  const node = await launchNode(cloud, { config: signed });
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready');
  assert.match(
    status?.bundle?.reason ?? '',
    /^BUNDLE_UNSIGNED: version 9\.0\.5 was published without a signature/,
  );
  const row = status?.phases.flatMap((phase) => phase.checks).find((check) => check.id === 'bundle-keys');
  assert.is(row?.result, 'pass');
  assert.equal(
    asked.filter((path) => path.includes('9.0.5')),
    [],
  );
  const sha256 = createHash('sha256')
    .update(served.get('/9.0.5.tar.gz') ?? '')
    .digest('hex');
  const of = (arch: 'x64' | 'arm64') => ({
    url: `http://${host}:8080/9.0.5.tar.gz`,
    sha256,
    signature: sign({ version: '9.0.5', arch, sha256 }),
  });
  setParameter(JSON.stringify({ version: '9.0.5', x64: of('x64'), arm64: of('arm64') }));
  await node.reboot();
  assert.equal((await node.boot()).status?.bundle, { running: '9.0.5', wanted: '9.0.5', behind: false });
});

test('plan, check and repair neither download nor switch a version', async () => {
  setParameter('nothing yet');
  const node = await launchNode(cloud, { config });
  assert.is((await node.boot()).status?.verdict, 'ready');
  publish('9.5.0', { executable: '#!/bin/sh\nexit 1\n' });
  const plan = await node.eniboot(['plan', '--json']);
  assert.is(plan.exitCode, 0, plan.stderr);
  assert.equal(
    (JSON.parse(plan.stdout) as { phases: { changes: string[] }[] }).phases.flatMap((phase) => phase.changes),
    ["stage the zone's version 9.5.0 and hand this boot over to it"],
  );
  const reads = () => cloud.calls.filter((call) => call.service === 'ssm' && !call.mutating).length;
  const before = reads();
  const repair = await node.eniboot(['repair', '--json']);
  assert.equal(JSON.parse(repair.stdout), { changes: [], failures: [] });
  await node.eniboot(['check', '--json']);
  assert.is(reads(), before);
  assert.equal(
    asked.filter((path) => path.includes('9.5.0')),
    [],
  );
  assert.equal(await targets(node, 'current'), ['0.1.0']);

  // When it is called by the path of another version, repair restores missing files and leaves `current` where it points.
  await node.instance.run('sh', [
    '-euc',
    `cd ${LIBEXEC}; mkdir 9.6.0; cp 0.1.0/manifest.json 9.6.0; ln -sfn 9.6.0 current; rm /opt/cni/bin/eniboot`,
  ]);
  const other = await node.instance.run(ENIBOOT.replace('current', '0.1.0'), ['repair', '--json'], {
    timeoutMs: 60_000,
  });
  assert.equal(JSON.parse(other.stdout), { changes: ['install plugin eniboot'], failures: [] });
  assert.equal(await targets(node, 'current'), ['9.6.0']);
});

test('repair, after the boot has chosen a version, restores `current`, stages nothing and keeps `previous`', () => {
  const bundle: BundleState = {
    running: '0.1.0',
    wanted: '9.9.0',
    reason: 'the answer is 404',
    ahead: false,
    source: undefined,
    staged: undefined,
  };
  const observed = {
    manifest: { version: '0.1.0', files: [], plugins: [] },
    folder: `${LIBEXEC}/0.1.0`,
    digests: [],
    bundle,
    current: '0.0.9',
    version: '0.1.0',
    links: {},
  };
  const phase = install({ bundle } as Context, {} as NodeFacts);
  const changes = (decides: boolean) =>
    phase.plan?.({ ...observed, decides }).map((change) => change.summary);
  assert.equal(changes(false), ['make 0.1.0 current']);
  assert.equal(changes(true), ['keep 0.0.9 as previous', 'make 0.1.0 current']);
});

test('a download or a version that hangs is ended in time for the node to come up on its own version', async () => {
  // This version switches both links as eniboot does, and leaves a child process behind.
  const hangs = `#!/bin/sh
cd ${LIBEXEC} && ln -sfn 9.8.0 current && ln -sfn 0.1.0 previous
sleep 600 & echo $! > /run/child-of-successor
wait\n`;
  publish('9.8.0', { executable: hangs, parameter: '/eniboot/hanging-version' });
  announce('9.7.0', '0'.repeat(64), '/eniboot/hanging-download');
  const configured = (name: string, seconds: number) =>
    configText(cloud, `bundle: { parameter: ${name} }\nboot: { deadlineSeconds: ${seconds} }\n`);
  const version = await launchNode(cloud, { config: configured('/eniboot/hanging-version', 40) });
  const download = await launchNode(cloud, { config: configured('/eniboot/hanging-download', 30) });
  await leaveOldVersions(version);
  const [ofVersion, ofDownload] = await Promise.all([version.boot(), download.boot()]);

  assert.is(ofVersion.status?.verdict, 'ready', ofVersion.result.stderr);
  assert.match(ofVersion.status?.bundle?.reason ?? '', /did not come up: it had no verdict after \d+ s/);
  assert.equal(await targets(version, 'current', 'previous'), ['0.1.0', '0.0.9']);
  const child = version.instance.read('/run/child-of-successor')?.trim();
  assert.match(child ?? '', /^\d+$/);
  assert.is((await version.instance.run('kill', ['-0', String(child)])).exitCode, 1);

  assert.is(ofDownload.status?.verdict, 'ready', ofDownload.result.stderr);
  assert.match(ofDownload.status?.bundle?.reason ?? '', /not complete within/);
  assert.ok((ofDownload.status?.seconds ?? 99) < 30);
});

test.after(async () => {
  server.close();
  await cloud.stop();
});
test.run();
