// time limit: 180 s
// Another program changes a node after its boot: `check` names the change, `repair` undoes it. A boot that fails later does
// not stop running pods.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Check } from '../../agent/boot/phase.ts';
import { listSandboxes } from '../../agent/host/sandboxes.ts';
import { type FailureCode, isFailure } from '../../agent/messages/failure.ts';
import { startCloud } from '../aws/index.ts';
import { ENIBOOT, launchNode } from './node.ts';

const cloud = await startCloud();
const node = await launchNode(cloud);
const { instance } = node;
const podEni = () => instance.deviceOf(instance.enis[1]?.id ?? '') ?? '';
const bootEni = instance.deviceOf(instance.bootEni.id) ?? '';

async function shell(script: string): Promise<void> {
  const { exitCode, stderr } = await instance.run('sh', ['-ec', script]);
  assert.is(exitCode, 0, stderr);
}

async function failing(environment: string[] = []): Promise<FailureCode[]> {
  const { stdout, stderr } = await instance.run('env', [...environment, ENIBOOT, 'check', '--json'], {
    timeoutMs: 60_000,
  });
  assert.ok(stdout.startsWith('{'), stderr);
  const { healthy, checks } = JSON.parse(stdout) as { healthy: boolean; checks: Check[] };
  const failed = checks.filter((check) => check.result === 'fail');
  assert.is(healthy, failed.length === 0);
  return failed.map((check) => check.code ?? 'INTERNAL');
}

test('repair before a boot fails with NOT_BOOTED', async () => {
  const { exitCode, stderr } = await node.eniboot(['repair']);
  assert.is(exitCode, 1);
  assert.match(stderr, 'NOT_BOOTED');
});

test('a booted node is healthy, and repair finds nothing', async () => {
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.equal(await failing(), []);
  const { stdout } = await node.eniboot(['repair', '--json']);
  assert.equal(JSON.parse(stdout), { changes: [], failures: [] });
});

const drifts: { name: string; script: () => string; code: FailureCode }[] = [
  { name: 'nft flush ruleset', script: () => 'nft flush ruleset', code: 'EGRESS_TABLE_DIFFERS' },
  {
    name: 'a rule of the table is deleted',
    script: () => 'nft flush chain inet eniboot clamp',
    code: 'EGRESS_TABLE_DIFFERS',
  },
  {
    name: 'the policy rule is deleted',
    script: () => 'ip rule del priority 512',
    code: 'EGRESS_RULE_MISSING',
  },
  {
    name: 'rp_filter is strict again',
    script: () => `echo 1 > /proc/sys/net/ipv4/conf/${bootEni}/rp_filter`,
    code: 'SYSCTL_DIFFERS',
  },
  {
    name: 'forwarding is off',
    script: () => 'echo 0 > /proc/sys/net/ipv4/ip_forward',
    code: 'SYSCTL_DIFFERS',
  },
  { name: 'a pod ENI is down', script: () => `ip link set ${podEni()} down`, code: 'POD_ENI_DOWN' },
  {
    name: 'a pod ENI has another MTU',
    script: () => `ip link set ${podEni()} mtu 1500`,
    code: 'POD_ENI_MTU',
  },
  {
    name: 'a pod ENI has an address',
    script: () => `ip address add 10.0.64.99/20 dev ${podEni()}`,
    code: 'POD_ENI_CONFIGURED',
  },
  {
    name: 'a pod ENI has a route and no address',
    script: () => `ip route add 192.0.2.0/24 dev ${podEni()} scope link`,
    code: 'POD_ENI_CONFIGURED',
  },
  { name: 'a plugin is gone', script: () => 'rm /opt/cni/bin/eniboot', code: 'PLUGINS_MISSING' },
  {
    name: 'a plugin is the file of another program',
    script: () => 'rm /opt/cni/bin/eniboot; echo other > /opt/cni/bin/eniboot',
    code: 'PLUGINS_MISSING',
  },
  {
    name: "kubelet's drop-in is edited",
    script: () => 'echo "maxPods: 500" >> /etc/kubernetes/kubelet.conf.d/10-eniboot.conf',
    code: 'KUBELET_FILES_DIFFER',
  },
  {
    name: 'the conflist is edited',
    script: () => 'echo "{}" > /etc/cni/net.d/10-eniboot.conflist',
    code: 'CONFLIST_DIFFERS',
  },
  { name: 'node.json is gone', script: () => 'rm /run/eniboot/node.json', code: 'NODE_NOT_READY' },
  {
    name: 'node.json is damaged',
    script: () => 'truncate -s 100 /run/eniboot/node.json',
    code: 'NODE_FILE_DAMAGED',
  },
];

for (const drift of drifts) {
  test(`${drift.name}: ${drift.code}, and repaired`, async () => {
    await shell(drift.script());
    assert.ok((await failing()).includes(drift.code), `check reports ${drift.code}`);
    const { exitCode, stdout } = await node.eniboot(['repair', '--json']);
    const { changes } = JSON.parse(stdout) as { changes: string[] };
    assert.is(exitCode, 0, stdout);
    assert.ok(changes.length > 0, 'repair lists its changes');
    assert.equal(await failing(), [], 'healthy again');
  });
}

test('a damaged configuration of this boot: check, repair and refill name boot as the remedy, and boot restores the file', async () => {
  await shell('truncate -s 20 /run/eniboot/config.json');
  assert.equal(await failing(), ['BOOTED_CONFIG_DAMAGED']);
  const { stdout, stderr } = await node.eniboot(['check']);
  assert.match(`${stdout}${stderr}`, /\/run\/eniboot\/config\.json[^]*`eniboot boot`/);
  for (const args of [['repair'], ['pool', 'refill']]) {
    const refused = await node.eniboot(args);
    assert.is(refused.exitCode, 1);
    assert.match(refused.stderr, /BOOTED_CONFIG_DAMAGED[^]*`eniboot boot`/);
  }
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.equal(await failing(), []);
});

test('the configuration of this boot is gone: check, repair and refill say so, and boot writes it again', async () => {
  await shell('rm /run/eniboot/config.json');
  assert.equal(await failing(), ['BOOTED_CONFIG_DAMAGED']);
  for (const args of [['repair'], ['pool', 'refill']]) {
    const { exitCode, stderr } = await node.eniboot(args);
    assert.is(exitCode, 1);
    assert.match(stderr, /BOOTED_CONFIG_DAMAGED[^]*config\.json is gone[^]*`eniboot boot`/);
  }
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.equal(await failing(), []);
});

test('the runtime or kubelet does not run: RUNTIME_DOWN, KUBELET_DOWN', async () => {
  // A stand-in for systemctl: systemd does not run in a simulated instance.
  instance.write(
    '/opt/stand-ins/systemctl',
    `#!/bin/sh
printf 'Id=crio.service\\nLoadState=loaded\\nActiveState=failed\\n\\n'
printf 'Id=containerd.service\\nLoadState=not-found\\nActiveState=inactive\\n\\n'
printf 'Id=kubelet.service\\nLoadState=loaded\\nActiveState=inactive\\n'
`,
    0o755,
  );
  const codes = await failing(['PATH=/opt/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin']);
  assert.equal(codes.sort(), ['KUBELET_DOWN', 'RUNTIME_DOWN']);
});

test('without a container runtime there is no list of sandboxes: NO_SANDBOX_LIST', async () => {
  // This process's own sandbox has no runtime's socket in /run.
  const failure = await listSandboxes().catch((error: unknown) => error);
  assert.ok(isFailure(failure, 'NO_SANDBOX_LIST'), String(failure));
});

test('check and repair made no call that changes EC2', () => {
  const booted = cloud.calls.findLastIndex((call) => call.action === 'CreateTags');
  assert.equal(
    cloud.calls.slice(booted + 1).filter((call) => call.mutating),
    [],
  );
});

test.after(() => cloud.stop());
test.run();
