// What a node joins its cluster with: written for root alone, shown nowhere, put back by repair, gone with the configuration.
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { startCloud } from '../aws/index.ts';
import {
  CA,
  CA_HASH,
  EXPIRED,
  joiningText,
  OTHER_CA,
  OTHER_CA_HASH,
  putToken,
  TOKEN,
  TOKEN_PARAMETER,
} from './join-material.ts';
import { configText, ENIBOOT, launchNode, type Node } from './node.ts';
import { planOf } from './planned.ts';

const KUBECONFIG = '/run/eniboot/join/bootstrap-kubeconfig';
const CLUSTER_CA = '/run/eniboot/join/ca.crt';
const RELEASED = '/run/eniboot/kubelet-released';
const CERTIFICATE = '/var/lib/kubelet/pki/kubelet-client-current.pem';
const WITHOUT = `kubelet has its certificate, and no token for the day when that ends: JOIN_TOKEN_UNUSABLE: ssm:${TOKEN_PARAMETER} holds no bootstrap token (six and sixteen lower-case letters or digits with a dot between them)`;
const OTHER_TOKEN = 'abcdef.0123456789abcdef';
const cloud = await startCloud();
const sections = (changes = {}) => configText(cloud, joiningText(changes));
const modeOf = ({ instance }: Node, path: string) => statSync(join(instance.root, path)).mode & 0o777;
const kubeletFlags = ({ instance }: Node) => instance.read('/run/eniboot/kubelet.env') ?? '';

test.after.each(() => cloud.faults.clear());
test.after(() => cloud.stop());

async function ready(config: string): Promise<Node> {
  const node = await launchNode(cloud, { config });
  const { status, result } = await node.boot();
  assert.is(status?.verdict, 'ready', `${result.stdout}${result.stderr}`);
  return node;
}

async function repaired(node: Node): Promise<{ changes: string[]; failures: { code: string }[] }> {
  return JSON.parse((await node.eniboot(['repair', '--json'])).stdout);
}

test('a bootstrap kubeconfig for root alone: the API server, the CA, and the token of a SecureString', async () => {
  putToken(cloud);
  const node = await ready(sections());
  const { clusters, users, contexts, ...rest } = parse(node.instance.read(KUBECONFIG) ?? '');
  assert.equal(clusters, [
    {
      name: 'demo',
      cluster: {
        server: 'https://10.0.0.250:6443',
        'certificate-authority-data': Buffer.from(CA).toString('base64'),
      },
    },
  ]);
  assert.equal(users, [{ name: 'bootstrap', user: { token: TOKEN } }]);
  assert.equal(contexts, [{ name: 'bootstrap', context: { cluster: 'demo', user: 'bootstrap' } }]);
  assert.is(rest['current-context'], 'bootstrap');
  assert.is(modeOf(node, KUBECONFIG), 0o600);
  assert.is(node.instance.read(CLUSTER_CA), CA);
  assert.match(kubeletFlags(node), ` --bootstrap-kubeconfig=${KUBECONFIG}"`);
  assert.is(modeOf(node, '/run/eniboot/config.json'), 0o600);
  assert.not.match(node.instance.read('/run/eniboot/config.json') ?? '', TOKEN);
  assert.equal(
    (await planOf(node)).phases.flatMap(({ changes }) => changes),
    [],
  );
});

test('nothing says the token: plan, boot, status, check, log, metrics, bundle', async () => {
  putToken(cloud);
  const node = await launchNode(cloud, { config: sections() });
  const said: string[] = [];
  const run = async (...args: string[]) => {
    const { stdout, stderr } = await node.eniboot(args);
    said.push(stdout, stderr);
  };
  await run('plan');
  await run('boot');
  await run('plan', '--json');
  for (const args of [['status', '--json'], ['check'], ['check', '--json'], ['config', 'show']])
    await run(...args);
  assert.match(said.join('\n'), `write ${KUBECONFIG}: what kubelet joins demo with, its token from ssm:`);
  await run('support-bundle', '--output', '/tmp/bundle.tar.gz');
  const bundle = await node.instance.run('sh', ['-c', 'tar -xzOf /tmp/bundle.tar.gz']);
  assert.match(bundle.stdout, '/run/eniboot/join/bootstrap-kubeconfig');
  said.push(bundle.stdout, node.instance.consoleLog());
  const files = await node.instance.run('grep', [
    '-rls',
    TOKEN.slice(7),
    '/run/eniboot',
    '/etc',
    '/var/lib/eniboot',
  ]);
  assert.is(files.stdout.trim(), KUBECONFIG);
  assert.not.match(said.join('\n'), TOKEN.slice(7));
});

test('repair writes it again, asks Parameter Store only when it is gone, and gives it its mode back', async () => {
  putToken(cloud);
  const node = await ready(sections());
  cloud.faults.ssm.add({ action: '*', unanswered: true });
  assert.equal(await repaired(node), { changes: [], failures: [] });
  await node.instance.run('chmod', ['644', KUBECONFIG]);
  const again = `write ${KUBECONFIG}: what kubelet joins demo with, its token from ssm:${TOKEN_PARAMETER}`;
  cloud.faults.clear();
  assert.equal(await repaired(node), { changes: [again], failures: [] });
  assert.is(modeOf(node, KUBECONFIG), 0o600);
  const before = node.instance.read(KUBECONFIG);
  await node.instance.run('rm', ['-r', '/run/eniboot/join']);
  assert.equal(await repaired(node), { changes: [again, `write ${CLUSTER_CA}`], failures: [] });
  assert.is(node.instance.read(KUBECONFIG), before);
});

test('a token that was changed is taken by the next boot, not by repair', async () => {
  putToken(cloud);
  const node = await ready(sections());
  putToken(cloud, 'abcdef.0123456789abcdef');
  assert.equal(await repaired(node), { changes: [], failures: [] });
  assert.is((await planOf(node)).phases.find(({ name }) => name === 'kubelet')?.changes.length, 1);
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.match(node.instance.read(KUBECONFIG) ?? '', 'token: abcdef.0123456789abcdef\n');
});

test('a half-written file, which holds a token too, goes with the next repair', async () => {
  putToken(cloud);
  const node = await ready(sections());
  const half = '/run/eniboot/join/.bootstrap-kubeconfig.999999.tmp';
  node.instance.write(half, `token: ${TOKEN}`);
  assert.equal(await repaired(node), { changes: [], failures: [] });
  assert.is(node.instance.read(half), undefined);
});

test('released from a warm pool, kubelet gets the token of that moment, and is held until it can be read', async () => {
  putToken(cloud);
  const node = await launchNode(cloud, { config: sections(), lifecycleState: 'Warmed:Running' });
  const { instance } = node;
  assert.is((await node.boot()).status?.verdict, 'ready');
  putToken(cloud, 'withdrawn');
  assert.equal(await repaired(node), { changes: [], failures: [] }, 'it still waits in the warm pool');
  instance.record.lifecycleState = 'InService';
  const { failures } = await repaired(node);
  assert.equal(
    failures.map(({ code }) => code),
    ['JOIN_TOKEN_UNUSABLE'],
  );
  assert.is(instance.read(RELEASED), undefined);
  putToken(cloud, OTHER_TOKEN);
  assert.ok((await repaired(node)).changes.includes(`write ${RELEASED}: releases kubelet`));
  assert.match(instance.read(KUBECONFIG) ?? '', `token: ${OTHER_TOKEN}\n`);
  putToken(cloud);
  assert.equal((await repaired(node)).changes, [], 'a released kubelet keeps its token');
});

test('a node that has joined boots while its token cannot be read, and says so; one that has not joined fails', async () => {
  putToken(cloud);
  const node = await ready(sections());
  const { instance } = node;
  putToken(cloud, 'withdrawn');
  for (const [certificate, verdict] of [
    [undefined, 'failed'],
    [EXPIRED, 'failed'],
    ['cut off', 'failed'],
    [CA, 'ready'],
  ] as const) {
    await node.reboot();
    if (certificate !== undefined) instance.write(CERTIFICATE, certificate);
    const { status } = await node.boot();
    assert.is(status?.verdict, verdict, JSON.stringify(status?.failure));
    assert.is(status?.failure?.code, verdict === 'failed' ? 'JOIN_TOKEN_UNUSABLE' : undefined);
    const said = verdict === 'failed' ? [] : [WITHOUT];
    assert.equal(status?.degraded, said);
  }
  assert.is(instance.read(KUBECONFIG), undefined);
  assert.is(instance.read(CLUSTER_CA), CA);
  const { stdout } = await instance.run(ENIBOOT, ['check', '--json'], { timeoutMs: 60_000 });
  assert.match(stdout, '"id":"kubelet-join","group":"runtime","result":"warn"');
  assert.equal(await repaired(node), { changes: [], failures: [] });
  putToken(cloud);
  assert.is((await repaired(node)).changes.length, 1);
  assert.match(instance.read(KUBECONFIG) ?? '', `token: ${TOKEN}\n`);
});

test('without the section the files go, and so does the flag', async () => {
  putToken(cloud);
  const node = await ready(sections());
  node.instance.write('/etc/eniboot/config.yaml', configText(cloud));
  const planned = (await planOf(node)).phases.find(({ name }) => name === 'kubelet')?.changes ?? [];
  assert.ok(planned.includes(`remove ${KUBECONFIG}: no \`join\` any more`), planned.join('\n'));
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready');
  assert.is(node.instance.read(KUBECONFIG), undefined);
  assert.is(node.instance.read(CLUSTER_CA), undefined);
  assert.not.match(kubeletFlags(node), 'bootstrap');
});

test('a token of digits stays text; a file may hold it, and two CAs while one replaces the other', async () => {
  const token = '123456.1234567890123456';
  const node = await launchNode(cloud, {
    config: sections({
      ...{
        token: '/etc/eniboot/join-token',
        ca: '/etc/eniboot/ca.crt',
        caCertHashes: [OTHER_CA_HASH, CA_HASH],
      },
    }),
    files: {
      '/etc/eniboot/join-token': `${token}\n`,
      '/etc/eniboot/ca.crt': `# old\n${CA}# new\n${OTHER_CA}`,
    },
  });
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.is(parse(node.instance.read(KUBECONFIG) ?? '').users[0].user.token, token);
  assert.is(node.instance.read(CLUSTER_CA), `${CA}${OTHER_CA}`);
  assert.equal(await repaired(node), { changes: [], failures: [] });
  const { stdout } = await node.instance.run(ENIBOOT, ['check', '--json'], { timeoutMs: 60_000 });
  assert.match(stdout, '"id":"kubelet-join","group":"runtime","result":"pass"');
});

test.run();
