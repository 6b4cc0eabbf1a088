// A boot is repeated: the second makes no change and no mutating call, `check` and `plan` change nothing at all, and the
// numbers of calls stay within the design's limits.
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { POD_ROLE, ROLE_TAG } from '../../agent/aws/tags.ts';
import { type Instance, startCloud } from '../aws/index.ts';
import { configText, ENIBOOT, launchNode } from './node.ts';

const cloud = await startCloud();

/** All that eniboot could change on a machine, including /run and its own files. */
async function everything(instance: Instance): Promise<string> {
  const script = `
ip -4 -o address | sed 's/valid_lft.*//'; ip link; ip -4 route show table all; ip rule; nft list ruleset
sysctl -a 2>/dev/null | grep -E 'ip_forward|rp_filter|accept_ra|addr_gen' || cat /proc/sys/net/ipv4/conf/*/rp_filter
find /etc /opt /usr/libexec/eniboot /var/lib /run -xdev \\( -type f -o -type l -o -type d \\) -printf '%p %s %C@ %l\\n'
`;
  const { stdout } = await instance.run('sh', ['-c', script], { timeoutMs: 30_000 });
  assert.ok(stdout.length > 1000);
  return stdout;
}

function callsOf(instance: Instance, from = 0) {
  return cloud.calls.slice(from).filter((call) => call.instanceId === instance.id);
}

for (const args of [
  ['plan'],
  ['plan', '--json'],
  ['boot', '--dry-run'],
  ['boot', '--dry-run', '--json'],
  ['check', '--json'],
]) {
  test(`eniboot ${args.join(' ')} changes nothing on a machine that never booted`, async () => {
    const { instance, eniboot } = await launchNode(cloud);
    const before = await everything(instance);
    await eniboot(args);
    assert.is(await everything(instance), before);
    assert.equal(
      callsOf(instance).filter((call) => call.mutating),
      [],
    );
  });
}

test('a run that is interrupted on a READY node changes neither its verdict nor the time of the next run', async () => {
  const extra = 'boot: { deadlineSeconds: 10 }\n';
  const { instance, boot, eniboot } = await launchNode(cloud, { config: configText(cloud, extra) });
  assert.is((await boot()).status?.verdict, 'ready');
  const before = instance.read('/run/eniboot/status.json');
  const lock = await instance.run('stat', ['--format', '%a', '/run/eniboot/pool/lock']);
  assert.is(lock.stdout, '600\n', 'only root can open the lock');
  cloud.latency.apiMs = 3_000;
  const run = instance.spawn(ENIBOOT, ['boot'], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  run.stderr?.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const booting = () => /"verdict": "booting"/.test(instance.read('/run/eniboot/status.json') ?? '');
  for (let tries = 0; !booting() && tries < 500; tries += 1) await delay(20);
  assert.ok(booting(), said);
  run.kill('SIGINT');
  const code = await new Promise((done) => run.once('close', done));
  cloud.latency.apiMs = 0;
  assert.is(code, 130, said);
  assert.match(said, /^interrupted: the earlier verdict stands/m);
  assert.is(instance.read('/run/eniboot/status.json'), before);
  await delay(10_500);
  const next = await boot();
  assert.is(next.status?.verdict, 'ready', next.result.stderr);
  assert.is((await eniboot(['status'])).exitCode, 0);
});

test('a run that is interrupted keeps the verdict of the run that it has waited for', async () => {
  const { instance, boot, eniboot } = await launchNode(cloud);
  assert.is((await boot()).status?.verdict, 'ready');
  cloud.latency.apiMs = 1_500;
  const booting = async () => {
    const text = () => instance.read('/run/eniboot/status.json') ?? '';
    for (let tries = 0; !text().includes('"booting"') && tries < 500; tries += 1) await delay(20);
  };
  const first = instance.spawn(ENIBOOT, ['boot'], { stdio: 'ignore' });
  await booting();
  const second = instance.spawn(ENIBOOT, ['boot'], { stdio: 'ignore' });
  const ended = new Promise((done) => second.once('close', done));
  await new Promise((done) => first.once('close', done));
  await booting();
  second.kill('SIGINT');
  assert.is(await ended, 130);
  cloud.latency.apiMs = 0;
  const { exitCode, stdout } = await eniboot(['status']);
  assert.is(exitCode, 0, stdout);
});

test("from nothing to 110 pods takes at most 4 mutating calls, including the verdict's tag", async () => {
  const { instance, boot } = await launchNode(cloud);
  const { status } = await boot();
  assert.is(status?.verdict, 'ready');
  assert.is(status?.capacity?.maxPods, 110);
  const accepted = callsOf(instance).filter((call) => call.mutating && call.accepted);
  assert.ok(accepted.length <= 4, accepted.map((call) => call.action).join(', '));
  assert.ok((status?.cloud.imdsRequests ?? 99) <= 40, `${status?.cloud.imdsRequests} IMDS requests`);
});

test('with two pod ENIs in place: no mutating call but the tag, at most 40 IMDS requests', async () => {
  const tags = { [ROLE_TAG]: POD_ROLE };
  const { instance, boot } = await launchNode(cloud, {
    podEnis: [
      { prefixes: 4, tags },
      { prefixes: 4, tags },
    ],
  });
  const from = cloud.imds.length;
  const { status } = await boot();
  assert.is(status?.verdict, 'ready');
  assert.is(status?.podEnis.length, 2);
  const requests = cloud.imds.slice(from).filter((request) => request.instanceId === instance.id).length;
  assert.ok(requests <= 40, `${requests} IMDS requests`);
  const accepted = callsOf(instance).filter((call) => call.mutating && call.accepted);
  assert.equal(
    accepted.map((call) => call.action),
    ['CreateTags'],
  );
});

test('a second boot changes nothing, on the machine or in EC2; nor do plan and check after it', async () => {
  const { instance, boot, eniboot } = await launchNode(cloud);
  assert.is((await boot()).status?.verdict, 'ready');
  const own = /^\/(run\/eniboot|var\/lib\/eniboot)(\/|\b)/;
  const others = (text: string) =>
    text
      .split('\n')
      .filter((line) => !own.test(line))
      .join('\n');
  const before = await everything(instance);
  const calls = cloud.calls.length;
  const second = await boot();
  assert.is(second.status?.verdict, 'ready');
  assert.equal(
    second.status?.phases.flatMap((phase) => phase.changes),
    [],
  );
  // It writes only its own status, deadline and metrics again.
  const after = await everything(instance);
  assert.is(others(after), others(before));
  await eniboot(['plan']);
  await eniboot(['check']);
  assert.is(await everything(instance), after);
  // check and plan do not write their own records either: they compute the digests again and do not store them.
  await instance.run('rm', ['/run/eniboot/digests.json', '/run/eniboot/vpc-cidrs.json']);
  const without = await everything(instance);
  await eniboot(['plan']);
  await eniboot(['check']);
  assert.is(await everything(instance), without);
  assert.equal(
    callsOf(instance, calls).filter((call) => call.mutating),
    [],
  );
});

test('after a reboot: READY without a mutating call', async () => {
  const { instance, boot, reboot, kubeletReleased } = await launchNode(cloud);
  assert.is((await boot()).status?.verdict, 'ready');
  const enis = instance.enis.map((eni) => eni.id);
  const calls = cloud.calls.length;
  await reboot();
  assert.not.ok(kubeletReleased());
  assert.is((await boot()).status?.verdict, 'ready');
  assert.ok(kubeletReleased());
  assert.equal(
    callsOf(instance, calls).filter((call) => call.mutating),
    [],
  );
  assert.equal(
    instance.enis.map((eni) => eni.id),
    enis,
  );
});

test.after(() => cloud.stop());
test.run();
