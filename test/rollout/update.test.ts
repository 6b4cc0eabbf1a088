// time limit: 500 s
// `eniboot update` on simulated nodes: real executables, real links, real health checks.
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { signer } from '../../agent/aws/signature.ts';
import type { NodeReport } from '../../agent/rollout/node-report.ts';
import { startCloud } from '../aws/index.ts';
import { configText, launchNode, type Node } from '../boot/node.ts';
import { STAND_IN, serveBundles, UNHEALTHY, WITHOUT_GUARDS } from './bundles.ts';

const cloud = await startCloud();
const bundles = await serveBundles(cloud);
const digests = {
  good: bundles.publish('9.1.0', STAND_IN),
  bad: bundles.publish('9.2.0', UNHEALTHY),
  old: bundles.publish('9.0.0', WITHOUT_GUARDS, []),
  crashes: bundles.publish('9.3.0', '#!/bin/sh\nkill -SEGV $$\n'),
};
const LIBEXEC = '/usr/libexec/eniboot';

async function bootedNode(config = configText(cloud)): Promise<Node> {
  const node = await launchNode(cloud, { config });
  const { status, result } = await node.boot();
  assert.is(status?.verdict, 'ready', result.stderr);
  return node;
}

/** A PATH with the stand-ins first. */
const env = { PATH: '/opt/stand-ins:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };

async function update(node: Node, version: string, sha256: string, ...more: string[]) {
  const args = ['update', '--version', version, '--digests', sha256, '--json', ...more];
  const result = await node.eniboot(args, { env });
  assert.ok(result.stdout.length < 2_500 && result.stdout.trim().split('\n').length === 1, result.stderr);
  return { exitCode: result.exitCode, report: JSON.parse(result.stdout) as NodeReport };
}

async function links(node: Node): Promise<string[]> {
  const { stdout } = await node.instance.run('readlink', [`${LIBEXEC}/current`, `${LIBEXEC}/previous`]);
  return stdout.trim().split('\n');
}

/** The parts of a node's network that an update could change. */
async function network(node: Node): Promise<string> {
  const shown = await node.instance.run('sh', [
    '-c',
    'nft list ruleset; ip rule; ip route show table all; ip -o link',
  ]);
  // A device's link-local address appears by itself, a second after the device.
  return shown.stdout.replace(/counter packets \d+ bytes \d+|^.*fe80::.*\n/gm, '');
}

test('a good version is switched to; a second update does nothing; a rollback takes it back', async () => {
  const node = await bootedNode();
  await node.instance.run('mkdir', [`${LIBEXEC}/0.0.8`]);
  const before = await network(node);
  const first = await update(node, '9.1.0', digests.good);
  assert.is(first.exitCode, 0, JSON.stringify(first.report));
  assert.equal(
    { ...first.report, seconds: 0, warnings: 0 },
    {
      eniboot: 'update',
      schema: 1,
      node: node.instance.id,
      result: 'updated',
      version: '9.1.0',
      sha256: digests.good,
      from: '0.1.0',
      healthy: true,
      failing: [],
      warnings: 0,
      seconds: 0,
    },
  );
  assert.equal(await links(node), ['9.1.0', '0.1.0']);
  const kept = (await node.instance.run('ls', ['-A', LIBEXEC])).stdout.trim().split('\n').sort();
  assert.equal(kept, ['0.1.0', '9.1.0', 'current', 'kubelet-version', 'previous']);
  assert.is((await update(node, '9.1.0', digests.good)).report.result, 'already');
  assert.is(await network(node), before);
  const back = await update(node, '9.1.0', digests.good, '--action', 'rollback');
  assert.is(back.report.result, 'updated', JSON.stringify(back.report));
  assert.is(back.report.version, '0.1.0');
  assert.equal(await links(node), ['0.1.0', '9.1.0']);
  assert.is((await update(node, '9.1.0', digests.good, '--action', 'rollback')).report.result, 'already');
});

test('a version without guards finds none, and a version with guards makes them again', async () => {
  const node = await bootedNode();
  const tables = async () => (await node.instance.run('nft', ['list', 'tables'])).stdout;
  assert.match(await tables(), /netdev eniboot/);
  const down = await update(node, '9.0.0', digests.old);
  assert.is(down.report.result, 'updated', JSON.stringify(down.report));
  assert.not.match(await tables(), /netdev eniboot/);
  assert.match(await tables(), /inet eniboot/);
  const up = await update(node, '9.0.0', digests.old, '--action', 'rollback');
  assert.equal([up.report.result, up.report.healthy], ['updated', true], JSON.stringify(up.report));
  assert.match(await tables(), /netdev eniboot/);
});

for (const [name, version, sha256, failing] of [
  ['whose health checks fail', '9.2.0', digests.bad, /egress EGRESS_TABLE_DIFFERS/],
  ['that crashes', '9.3.0', digests.crashes, /plugin, check: exit/],
] as const) {
  test(`a version ${name}: the node goes back by itself`, async () => {
    const node = await bootedNode();
    const { exitCode, report } = await update(node, version, sha256);
    assert.is(exitCode, 1);
    assert.is(report.result, 'went-back');
    assert.is(report.code, 'UPDATE_WENT_BACK');
    assert.match(report.message ?? '', failing);
    assert.is(report.version, '0.1.0');
    assert.is(report.healthy, true);
    assert.equal(await links(node), ['0.1.0']);
  });
}

test('nothing is changed when halted, not healthy, not staged, or of another digest', async () => {
  const node = await bootedNode();
  const refused = async (code: string, version: string, sha256: string) => {
    const { exitCode, report } = await update(node, version, sha256);
    assert.is(exitCode, 1);
    assert.equal([report.result, report.code, report.version], ['untouched', code, '0.1.0']);
    assert.is(report.node, node.instance.id);
    assert.equal(await links(node), ['0.1.0']);
  };
  const sh = (script: string) => node.instance.run('sh', ['-c', `cd /run/eniboot; ${script}`]);
  await sh('mkdir away; mv config.json away');
  await refused('BOOTED_CONFIG_DAMAGED', '9.1.0', digests.good);
  await sh('mv status.json away');
  await refused('NOT_BOOTED', '9.1.0', digests.good);
  await sh('mv away/* .; rmdir away');
  cloud.ssm.put('/eniboot/rollout/demo/halt', '{"halted":true,"why":"smoke"}');
  await refused('UPDATE_HALTED', '9.1.0', digests.good);
  cloud.ssm.put('/eniboot/rollout/demo/halt', '{"halted":false}');
  await refused('RELEASE_DIFFERS', '9.1.0', '0'.repeat(64));
  await refused('UPDATE_NOT_STAGED', '9.9.9', digests.good);
  await node.instance.run('nft', ['delete', 'table', 'inet', 'eniboot']);
  await refused('UPDATE_UNHEALTHY_BEFORE', '9.1.0', digests.good);
  const noWay = await update(node, '0.1.0', digests.good, '--action', 'rollback');
  assert.equal([noWay.report.result, noWay.report.code], ['failed', 'UPDATE_NO_WAY_BACK']);
});

test('an update that is no longer wanted, or has expired, changes nothing, and its answer tells so', async () => {
  const node = await bootedNode();
  const wanted = '/eniboot/rollout/demo/wanted';
  const asked = ['--rollout', 'one', '--wanted', wanted];
  const says = (value: object) => cloud.ssm.put(wanted, JSON.stringify(value));
  const seconds = (later: number) => String(Math.floor(Date.now() / 1000) + later);
  const refused = async (code: string, ...more: string[]) => {
    const { exitCode, report } = await update(node, '9.1.0', digests.good, ...asked, ...more);
    assert.is(exitCode, 1);
    assert.equal([report.result, report.code, report.version], ['untouched', code, '0.1.0']);
    assert.equal(await links(node), ['0.1.0']);
  };
  // The zone's parameter does not exist yet.
  await refused('UPDATE_NOT_WANTED');
  for (const value of [{ rollout: 'two', direction: 'forward' }, { rollout: 'one', direction: 'back' }, {}]) {
    says(value);
    await refused('UPDATE_NOT_WANTED');
  }
  cloud.ssm.put(wanted, 'no JSON');
  await refused('UPDATE_NOT_WANTED');
  says({ rollout: 'one', direction: 'forward' });
  await refused('UPDATE_EXPIRED', '--until', seconds(-5));
  await refused('UPDATE_EXPIRED', '--until', seconds(5));
  // The zone's parameter is set back during the download.
  bundles.delay(3_000);
  const updating = update(node, '9.1.0', digests.good, ...asked, '--until', seconds(300));
  for (let looks = 0; looks < 100; looks += 1) {
    const { stdout } = await node.instance.run('ls', ['-a', LIBEXEC]);
    if (stdout.includes('.staging')) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  says({ rollout: 'one', direction: 'back' });
  const { report } = await updating;
  bundles.delay(0);
  assert.equal([report.result, report.code], ['untouched', 'UPDATE_NOT_WANTED'], report.message);
  says({ rollout: 'one', direction: 'forward' });
  const last = await update(node, '9.1.0', digests.good, ...asked, '--until', seconds(300));
  assert.is(last.report.result, 'updated', JSON.stringify(last.report));
});

test('a rollback takes back only the version that its rollout brought, to the version before it', async () => {
  const node = await bootedNode();
  const other = bundles.publish('9.12.0', STAND_IN);
  const by = (rollout: string) => ['--rollout', rollout];
  const back = (rollout: string) => [...by(rollout), '--action', 'rollback'];
  assert.is((await update(node, '9.1.0', digests.good, ...by('one'))).report.result, 'updated');
  assert.is((await update(node, '9.12.0', other, ...by('two'))).report.result, 'updated');
  assert.is((await update(node, '9.12.0', other, ...back('two'))).report.version, '9.1.0');
  // Rolled out again, the version is on the node already. `previous` is the version that was taken back.
  assert.is((await update(node, '9.1.0', digests.good, ...by('three'))).report.result, 'already');
  const kept = await update(node, '9.1.0', digests.good, ...back('three'));
  assert.equal(
    [kept.report.result, kept.report.code, kept.report.version],
    ['already', 'UPDATE_NOT_OF_ROLLOUT', '9.1.0'],
  );
  assert.equal(await links(node), ['9.1.0', '9.12.0']);
});

test('a throttled Parameter Store and a busy archive server only delay an update', async () => {
  const node = await bootedNode();
  // As when many nodes of a batch call in the same second.
  const throttled = cloud.faults.ssm.add({
    action: 'GetParameters',
    instanceId: node.instance.id,
    error: 'ThrottlingException',
    times: 5,
  });
  bundles.refuse(2);
  const { report } = await update(node, '9.1.0', digests.good);
  assert.is(report.result, 'updated', JSON.stringify(report));
  assert.is(throttled.hits, 5);
});

test('at a gate a node reports faults since its switch, and none from before it', async () => {
  // A copy of the build: a stand-in script would not survive the reboot.
  const sha256 = bundles.publish('9.13.0');
  const node = await bootedNode();
  const { instance } = node;
  const asked = ['--rollout', 'one'];
  const failing = (code: string, times: number) =>
    instance.run('sh', [
      '-c',
      `for i in $(seq ${times}); do echo "cni eniboot ADD ${code} total=1.0" >>/run/eniboot/tally; done`,
    ]);
  /** Stands in for systemctl: systemd does not run in a simulated instance. */
  const unit = (restarts: number, result: string, invocation: string) =>
    instance.write(
      '/opt/stand-ins/systemctl',
      `#!/bin/sh
case "$*" in
*InvocationID*) printf 'Id=eniboot.service\\nNRestarts=${restarts}\\nResult=success\\nExecMainStatus=0\\nInvocationID=a\\n\\n'
  printf 'Id=eniboot-repair.service\\nNRestarts=0\\nResult=${result}\\nExecMainStatus=70\\nInvocationID=${invocation}\\n' ;;
*) exit 1 ;;
esac
`,
      0o755,
    );
  const counters = async (...more: string[]) =>
    (await update(node, '9.13.0', sha256, '--action', 'check', ...more)).report.counters;
  await failing('KERNEL_CHANGE', 7);
  unit(3, 'signal', 'before');
  assert.is((await update(node, '9.13.0', sha256, ...asked)).report.result, 'updated');
  assert.equal(await counters(...asked), { restarts: 0, failedAdds: 0, drops: 0 });
  // Another rollout has not switched it.
  assert.is(await counters('--rollout', 'two'), undefined);
  await failing('KERNEL_CHANGE', 2);
  // ADDs that failed for want of an address, or without a pod, are no fault of the version.
  await failing('POOL_EXHAUSTED', 5);
  await failing('NETNS_GONE', 5);
  await failing('OK', 5);
  unit(4, 'exit-code', 'after');
  assert.equal(await counters(...asked), { restarts: 2, failedAdds: 2, drops: 0 });
  // Asked for the same update again, the node has switched already and keeps its counters.
  assert.is((await update(node, '9.13.0', sha256, ...asked)).report.result, 'updated');
  assert.is((await counters(...asked))?.failedAdds, 2);
  // A unit's counter begins again, and after a reboot all counters do.
  unit(1, 'success', 'later');
  assert.is((await counters(...asked))?.restarts, 1);
  await node.reboot();
  assert.is((await node.boot()).status?.verdict, 'ready');
  // More than before the switch, but in an earlier boot.
  await failing('KERNEL_CHANGE', 9);
  unit(5, 'success', 'later');
  assert.equal(await counters(...asked), { restarts: 5, failedAdds: 9, drops: 0 });
});

test('a node that ran the version before the rollout counts from the time it was asked', async () => {
  const node = await bootedNode();
  assert.is((await update(node, '9.1.0', digests.good)).report.result, 'updated');
  await node.instance.run('sh', [
    '-c',
    'echo "cni eniboot ADD KERNEL_CHANGE total=1.0" >>/run/eniboot/tally',
  ]);
  const asked = ['--rollout', 'one'];
  assert.is((await update(node, '9.1.0', digests.good, ...asked)).report.result, 'already');
  const { report } = await update(node, '9.1.0', digests.good, ...asked, '--action', 'check');
  // systemd does not answer there: the node cannot tell restarts.
  assert.equal(report.counters, { failedAdds: 0, drops: 0 });
});

test('of two updates at once one switches the node and the other finds it updated', async () => {
  const node = await bootedNode();
  const both = await Promise.all([1, 2].map(() => update(node, '9.1.0', digests.good)));
  assert.equal(both.map(({ report }) => report.result).sort(), ['already', 'updated']);
});

test('a node reports `updated` again to the rollout that updated it, and `already` to another rollout', async () => {
  const node = await bootedNode();
  const asked = async (rollout: string) =>
    (await update(node, '9.1.0', digests.good, '--rollout', rollout)).report.result;
  assert.is(await asked('20260101-000000-aaaaaaaa'), 'updated');
  assert.is(await asked('20260101-000000-aaaaaaaa'), 'updated');
  assert.is(await asked('20260102-000000-bbbbbbbb'), 'already');
});

test('a version whose checks hang is taken back before the time is over, with any time', async () => {
  const sha256 = bundles.publish(
    '9.7.0',
    STAND_IN.replace('exec', '[ "$1" = check ] && exec sleep 100\nexec'),
  );
  const node = await bootedNode();
  const { stdout } = await node.instance.run(
    'timeout',
    // Called as the SSM agent calls it.
    [
      '--signal=KILL',
      '60',
      `${LIBEXEC}/current/eniboot`,
      ...['update', '--version', '9.7.0', '--digests', sha256, '--seconds', '60', '--json'],
    ],
    { timeoutMs: 90_000 },
  );
  assert.match(stdout, /"result":"went-back"/, stdout);
  assert.equal(await links(node), ['0.1.0']);
});

test('a switch that cannot be recorded is undone', async () => {
  const node = await bootedNode();
  await node.instance.run('mkdir', ['-p', `/var/lib/eniboot/${node.instance.id}/version.json/in-the-way`]);
  const { report } = await update(node, '9.1.0', digests.good);
  assert.equal([report.result, report.version, report.healthy], ['went-back', '0.1.0', true]);
  assert.equal(await links(node), ['0.1.0']);
});

test('a version is taken back also when nothing can be recorded', async () => {
  const node = await bootedNode();
  assert.is((await update(node, '9.1.0', digests.good)).report.result, 'updated');
  const pin = `/var/lib/eniboot/${node.instance.id}/version.json`;
  await node.instance.run('sh', ['-c', `rm ${pin}; mkdir -p ${pin}/in-the-way`]);
  const { report } = await update(node, '9.1.0', digests.good, '--action', 'rollback');
  assert.equal([report.result, report.version, report.healthy], ['updated', '0.1.0', true]);
});

/** Makes a folder a file system of its own. Bytes that are written to it are too many; files can be removed. */
const FULL = `kept=$(mktemp -d); cp -a $1/. $kept; mount -t tmpfs -o size=16k full $1; cp -a $kept/. $1; rm -r $kept
  dd if=/dev/zero of=$1/filler bs=4k count=9 || :`;
for (const [state, fill] of [
  ['has room', ':'],
  ['is full', FULL],
] as const)
  test(`a rollback that cannot switch, while the disk of its notes ${state}, goes back when it is run again`, async () => {
    const node = await bootedNode();
    const asked = ['--rollout', 'one'];
    assert.is((await update(node, '9.1.0', digests.good, ...asked)).report.result, 'updated');
    const notes = `/var/lib/eniboot/${node.instance.id}`;
    const must = async (script: string) => {
      const { exitCode, stderr } = await node.instance.run('sh', ['-euc', script, 'sh', notes]);
      assert.is(exitCode, 0, stderr);
    };
    await must(`${fill}; mount --rbind ${LIBEXEC} ${LIBEXEC}; mount -o remount,bind,ro ${LIBEXEC}`);
    const back = async () =>
      (await update(node, '9.1.0', digests.good, ...asked, '--action', 'rollback')).report;
    const stuck = await back();
    assert.equal([stuck.result, stuck.version], ['untouched', '9.1.0'], stuck.message);
    await must(`mount -o remount,bind,rw ${LIBEXEC}; rm -f $1/filler`);
    const again = await back();
    assert.equal([again.result, again.version, again.code], ['updated', '0.1.0', undefined], again.message);
  });

test('a version that was taken back stays so over a reboot, even when the version before was not healthy', async () => {
  const sha256 = bundles.publish('9.8.0');
  const node = await bootedNode();
  assert.is((await update(node, '9.8.0', sha256)).report.result, 'updated');
  // A fault that repair cannot correct.
  const conflist = '/etc/cni/net.d/10-eniboot.conflist';
  await node.instance.run('sh', ['-c', `rm ${conflist}; mkdir ${conflist}`]);
  const { report } = await update(node, '9.8.0', sha256, '--action', 'rollback');
  assert.equal([report.result, report.version, report.healthy], ['updated', '0.1.0', false]);
  await node.instance.run('rmdir', [conflist]);
  await node.reboot();
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.is((await links(node))[0], '0.1.0');
});

test('refill works as always during a download', async () => {
  const node = await bootedNode();
  bundles.delay(6_000);
  const ended: string[] = [];
  const updating = update(node, '9.1.0', digests.good).then((one) => {
    ended.push('update');
    return one;
  });
  // Until the update downloads: then the folder of the staged version exists.
  for (let looks = 0; looks < 100; looks += 1) {
    const { stdout } = await node.instance.run('ls', ['-a', LIBEXEC]);
    if (stdout.includes('.staging')) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  const refilled = await node.eniboot(['pool', 'refill', '--json']);
  ended.push('refill');
  assert.is(refilled.exitCode, 0, refilled.stdout + refilled.stderr);
  bundles.delay(0);
  assert.is((await updating).report.result, 'updated');
  assert.equal(ended, ['refill', 'update']);
});

test('an update that is killed at any moment and run again ends on the new version and keeps the old one', async () => {
  const node = await bootedNode();
  for (const [at, ms] of [40, 150, 300, 500, 800].entries()) {
    const version = `9.4.${at}`;
    const sha256 = bundles.publish(version, STAND_IN);
    const [from] = await links(node);
    await node.instance.run('timeout', [
      '--signal=KILL',
      `${ms / 1000}`,
      `${LIBEXEC}/current/eniboot`,
      'update',
      '--version',
      version,
      '--digests',
      sha256,
    ]);
    const { report } = await update(node, version, sha256);
    assert.ok(report.healthy && ['updated', 'already'].includes(report.result), JSON.stringify(report));
    assert.equal(await links(node), [version, from]);
  }
});

test('an update that was killed between its two links keeps the version before it, also when it goes back', async () => {
  const node = await bootedNode();
  assert.is((await update(node, '9.1.0', digests.good)).report.result, 'updated');
  assert.is((await update(node, '9.1.0', digests.good, '--action', 'rollback')).report.result, 'updated');
  // The state of a node where an update to 9.2.0 was killed after the first of two renames.
  const began = { from: '0.1.0', to: '9.2.0', links: { current: '0.1.0', previous: '9.1.0' } };
  node.instance.write(`/var/lib/eniboot/${node.instance.id}/update.json`, JSON.stringify(began));
  await node.instance.run('ln', ['-sfn', '0.1.0', `${LIBEXEC}/previous`]);
  assert.is((await update(node, '9.2.0', digests.bad)).report.result, 'went-back');
  assert.equal(await links(node), ['0.1.0', '9.1.0']);
});

test('a reboot before the new version was judged comes up on the version before', async () => {
  const sha256 = bundles.publish('9.6.0');
  const node = await bootedNode();
  assert.is((await update(node, '9.6.0', sha256)).report.result, 'updated');
  // The record of a node that lost its power between the switch and the health check.
  const mark = `/var/lib/eniboot/${node.instance.id}/update.json`;
  const began = { from: '0.1.0', to: '9.6.0', links: { current: '0.1.0' } };
  node.instance.write(mark, JSON.stringify(began));
  await node.instance.run('rm', [`/var/lib/eniboot/${node.instance.id}/version.json`]);
  await node.reboot();
  const { status, result } = await node.boot();
  assert.is(status?.verdict, 'ready', result.stderr);
  assert.match(result.stderr, /before the update was judged/);
  assert.is((await links(node))[0], '0.1.0');
  assert.is(node.instance.read(mark), undefined);
  // After its health check the version stays.
  assert.is((await update(node, '9.6.0', sha256)).report.result, 'updated');
  await node.reboot();
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.equal(await links(node), ['9.6.0', '0.1.0']);
});

test("a node that was updated keeps the version over a reboot, until its zone's parameter changes", async () => {
  const zoneSays = (digit: string) => {
    const archive = { url: 'http://127.0.0.1:9/', sha256: digit.repeat(64) };
    const release = { version: '0.1.0', x64: archive, arm64: archive };
    cloud.ssm.put('/eniboot/bundle/euw1-az1', JSON.stringify(release));
  };
  zoneSays('0');
  const sha256 = bundles.publish('9.5.0');
  const node = await bootedNode(configText(cloud, 'bundle: {}\n'));
  assert.is((await update(node, '9.5.0', sha256)).report.result, 'updated');
  await node.reboot();
  const again = await node.boot();
  assert.is(again.status?.verdict, 'ready', again.result.stderr);
  assert.equal(again.status?.bundle, { running: '9.5.0', wanted: '0.1.0', behind: false });
  assert.equal(await links(node), ['9.5.0', '0.1.0']);
  // The same value again, as a rollback writes it: a node that the rollback could not reach follows its zone at its next boot.
  zoneSays('0');
  assert.is((await node.boot()).status?.bundle?.behind, true);
});

test('a node that came up on a withdrawn version follows its zone again', async () => {
  const zoneOf = '/eniboot/bundle/euw1-az1';
  const zoneSays = (version: string) =>
    cloud.ssm.put(zoneOf, cloud.ssm.parameters.get(`/eniboot/releases/${version}`)?.at(-1)?.value ?? '');
  const [old, bad] = [bundles.publish('9.14.0'), bundles.publish('9.16.0')];
  zoneSays('9.16.0');
  const node = await bootedNode(configText(cloud, 'bundle: {}\n'));
  assert.equal(await links(node), ['9.16.0', '0.1.0']);
  const leave = (...more: string[]) => update(node, '9.16.0', bad, '--rollout', 'one', ...more);
  // No rollout has switched it, so no rollback takes it back to an earlier version.
  const kept = await leave('--action', 'rollback');
  assert.equal([kept.report.result, kept.report.code], ['already', 'UPDATE_NOT_OF_ROLLOUT']);
  const wanted = await leave('--action', 'follow');
  assert.equal([wanted.report.result, wanted.report.code], ['already', 'UPDATE_NOT_OF_ROLLOUT']);
  zoneSays('9.14.0');
  bundles.refuse(1);
  const back = await leave('--action', 'follow');
  assert.equal([back.report.result, back.report.version, back.report.sha256], ['updated', '9.14.0', old]);
  assert.equal(await links(node), ['9.14.0', '9.16.0']);
  assert.is((await leave('--action', 'follow')).report.result, 'already');
  await node.reboot();
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.equal(await links(node), ['9.14.0', '9.16.0']);
  // When the version cannot be staged, the node stays as it is.
  cloud.ssm.put(zoneOf, 'nothing that can be read');
  const stuck = await update(node, '9.14.0', old, '--rollout', 'one', '--action', 'follow');
  assert.equal([stuck.report.result, stuck.report.code], ['untouched', 'UPDATE_NOT_STAGED']);
  // The zone's parameter is gone: the node returns to the version before it followed its zone.
  cloud.ssm.parameters.delete(zoneOf);
  const first = await update(node, '9.14.0', old, '--rollout', 'one', '--action', 'follow');
  assert.equal([first.report.result, first.report.version], ['updated', '9.16.0'], first.report.message);
});

test('with keys, an unsigned version is refused before it is downloaded, and so is one that is too old', async () => {
  const pem = () =>
    generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
  const [ours, stranger] = [pem(), pem()];
  const { publicKey } = signer(ours, 'ours');
  const [low, high] = [bundles.publish('9.10.0', STAND_IN), bundles.publish('9.11.0', STAND_IN)];
  const node = await bootedNode(configText(cloud, `bundle: { keys: ["${publicKey}"], lowest: 9.11.0 }\n`));
  // The server refuses: an update that downloads ends with another code.
  bundles.refuse(1_000);
  const refusals: [string, () => void, string, string, string][] = [
    ['unsigned', () => {}, '9.11.0', high, 'BUNDLE_UNSIGNED'],
    ['by a stranger', () => bundles.sign('9.11.0', stranger), '9.11.0', high, 'BUNDLE_UNSIGNED'],
    ['of another version', () => bundles.sign('9.11.0', ours, '9.9.9'), '9.11.0', high, 'BUNDLE_UNSIGNED'],
    ['too old', () => bundles.sign('9.10.0', ours), '9.10.0', low, 'BUNDLE_TOO_OLD'],
  ];
  for (const [name, prepare, version, sha256, code] of refusals) {
    prepare();
    const { report } = await update(node, version, sha256);
    assert.is(`${report.result} ${report.code}`, `untouched ${code}`, `${name}: ${report.message}`);
  }
  bundles.refuse(0);
  bundles.sign('9.11.0', ours);
  assert.is((await update(node, '9.11.0', high)).report.result, 'updated');
  // A rollback needs no signature.
  assert.is((await update(node, '9.11.0', high, '--action', 'rollback')).report.result, 'updated');
  assert.is((await links(node))[0], '0.1.0');
});

test('a version whose removal was cut short is staged anew', async () => {
  const node = await bootedNode();
  assert.is((await update(node, '9.1.0', digests.good)).report.result, 'updated');
  assert.is((await update(node, '9.1.0', digests.good, '--action', 'rollback')).report.result, 'updated');
  await node.instance.run('rm', [`${LIBEXEC}/9.1.0/eniboot`]);
  const { report } = await update(node, '9.1.0', digests.good);
  assert.equal([report.result, report.version], ['updated', '9.1.0'], report.message);
});

test('an archive with a set-user-ID file is refused by its code', async () => {
  const node = await bootedNode();
  bundles.publish('9.9.0', STAND_IN);
  const sha256 = bundles.repack('9.9.0', 'chmod 4755 eniboot');
  const { report } = await update(node, '9.9.0', sha256);
  assert.is(`${report.result} ${report.code}`, 'untouched BUNDLE_REFUSED', report.message);
  assert.not.match((await node.instance.run('ls', ['-A', LIBEXEC])).stdout, /9\.9\.0|staging/);
});

test.after(async () => {
  bundles.stop();
  await cloud.stop();
});
test.run();
