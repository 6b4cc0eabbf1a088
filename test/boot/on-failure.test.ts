// `onFailure`: what a boot that failed permanently does to its machine. Reporting a verdict to EC2 or systemd cannot change
// the verdict.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startCloud } from '../aws/index.ts';
import { configText, ENIBOOT, launchNode, type Node } from './node.ts';

const cloud = await startCloud();
const failing = (action: string) =>
  configText(cloud, `boot: { onFailure: ${action} }\n`).replace('eniboot: pods', 'eniboot: nowhere');

/** A systemctl that records its calls: systemd does not run in a simulated instance. */
function systemctl(node: Node, exit: number): { PATH: string } {
  node.instance.write(
    '/run/stand-in/systemctl',
    `#!/bin/sh\necho "$*" >> /run/stand-in/asked\nexit ${exit}\n`,
    0o755,
  );
  return { PATH: '/run/stand-in:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
}

function terminated(node: Node): boolean {
  return cloud.calls.some(
    (call) => call.action === 'TerminateInstances' && call.accepted && call.instanceId === node.instance.id,
  );
}

test('hold: the machine stays as it is', async () => {
  const node = await launchNode(cloud, { config: failing('hold') });
  const { result, status } = await node.boot({ env: systemctl(node, 0) });
  assert.is(result.exitCode, 1);
  assert.is(status?.failure?.code, 'NO_POD_SUBNET');
  assert.is(node.instance.read('/run/stand-in/asked'), undefined);
  assert.not.ok(terminated(node));
});

test('reboot-once: the first failure reboots, a second failure holds', async () => {
  const node = await launchNode(cloud, { config: failing('reboot-once') });
  const first = await node.boot({ env: systemctl(node, 0) });
  assert.is(node.instance.read('/run/stand-in/asked'), 'reboot\n');
  assert.match(first.result.stderr, /action=reboot/);
  await node.reboot();
  const second = await node.boot({ env: systemctl(node, 0) });
  assert.match(second.result.stderr, /rebooted once already/);
  assert.is(node.instance.read('/run/stand-in/asked'), undefined);
});

test('reboot-once: after a READY boot the next failure reboots again', async () => {
  const node = await launchNode(cloud, { config: failing('reboot-once') });
  await node.boot({ env: systemctl(node, 0) });
  await node.reboot();
  node.instance.write('/etc/eniboot/config.yaml', configText(cloud));
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.is(node.instance.read(`/var/lib/eniboot/${node.instance.id}/rebooted`), undefined);
});

test('reboot-once: a reboot that systemd refuses is not counted', async () => {
  const node = await launchNode(cloud, { config: failing('reboot-once') });
  const { result } = await node.boot({ env: systemctl(node, 1) });
  assert.match(result.stderr, /hold \(systemctl reboot/);
  assert.is(node.instance.read(`/var/lib/eniboot/${node.instance.id}/rebooted`), undefined);
});

test('terminate: the boot calls TerminateInstances', async () => {
  const node = await launchNode(cloud, { config: failing('terminate') });
  await node.boot();
  assert.ok(terminated(node));
});

test('terminate: also for a failure in identify, before the whole configuration is known', async () => {
  const config = configText(cloud, 'boot: { onFailure: terminate }\n');
  const node = await launchNode(cloud, { config, userData: '#eniboot-config\nclutser: typo\n' });
  await node.boot();
  assert.match(node.instance.consoleLog(), /FAILED CONFIG_INVALID/);
  assert.ok(terminated(node));
});

test('a later failure on a node that was READY does not disturb its pods', async () => {
  const node = await launchNode(cloud, { config: configText(cloud, 'boot: { onFailure: terminate }\n') });
  assert.is((await node.boot()).status?.verdict, 'ready');
  node.instance.write(
    '/etc/eniboot/config.yaml',
    failing('terminate').replace('cluster: demo', 'clutser: demo'),
  );
  const { result, status } = await node.boot();
  assert.is(status?.failure?.code, 'CONFIG_INVALID');
  assert.match(result.stderr, /this boot was READY before/);
  assert.not.ok(terminated(node));
  assert.ok(node.kubeletReleased());
});

test('a throttled tag neither delays READY nor makes the next boot fail', async () => {
  const node = await launchNode(cloud);
  const fault = cloud.faults.ec2.add({
    action: 'DescribeTags',
    error: 'RequestLimitExceeded',
    instanceId: node.instance.id,
  });
  const started = performance.now();
  const first = await node.boot();
  assert.is(first.status?.verdict, 'ready');
  assert.ok(performance.now() - started < 30_000, 'the boot waited for the tag');
  fault.remove();
  const second = await node.boot();
  assert.is(second.status?.verdict, 'ready');
  assert.is(second.status?.attempts, 1);
  const tags = cloud.calls.filter(
    (call) => call.action === 'CreateTags' && call.accepted && call.instanceId === node.instance.id,
  );
  assert.is(tags.length, 1, 'the second boot sets the tag');
});

test('a boot whose standard output cannot be written does not fail', async () => {
  const node = await launchNode(cloud);
  const { exitCode, stderr } = await node.instance.run('sh', ['-c', `${ENIBOOT} boot > /dev/full`], {
    timeoutMs: 60_000,
  });
  assert.is(exitCode, 0, stderr);
  assert.match(node.instance.consoleLog(), /eniboot: READY OK/);
});

test('a dry run does not act on a failure', async () => {
  const node = await launchNode(cloud, { config: failing('terminate') });
  await node.instance.run(ENIBOOT, ['boot', '--dry-run'], { timeoutMs: 60_000 });
  assert.not.ok(terminated(node));
});

test.after(() => cloud.stop());
test.run();
