// time limit: 400 s
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

async function update(node: Node, version: string, sha256: string, ...more: string[]) {
  const result = await node.eniboot(['update', '--version', version, '--digests', sha256, '--json', ...more]);
  assert.ok(result.stdout.length < 2_500 && result.stdout.trim().split('\n').length === 1, result.stderr);
  return { exitCode: result.exitCode, report: JSON.parse(result.stdout) as NodeReport };
}

async function links(node: Node): Promise<string[]> {
  const { stdout } = await node.instance.run('readlink', [`${LIBEXEC}/current`, `${LIBEXEC}/previous`]);
  return stdout.trim().split('\n');
}

/** What of the network of a node an update could have changed. */
async function network(node: Node): Promise<string> {
  const shown = await node.instance.run('sh', [
    '-c',
    'nft list ruleset; ip rule; ip route show table all; ip -o link',
  ]);
  // A device's link-local address appears by itself, a second after the device.
  return shown.stdout.replace(/counter packets \d+ bytes \d+|^.*fe80::.*\n/gm, '');
}

test('a good version is switched to, again does nothing, and is taken back', async () => {
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

test('a version that keeps no guards finds none, and the one that does has them again', async () => {
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
  await node.instance.run('mv', ['/run/eniboot/config.json', '/run/eniboot/config.away']);
  await refused('NOT_BOOTED', '9.1.0', digests.good);
  await node.instance.run('mv', ['/run/eniboot/config.away', '/run/eniboot/config.json']);
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

test('what is no longer wanted, or has expired, changes nothing; the answer says so', async () => {
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
  // Nobody has said anything yet.
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
  // It is turned back while the archive is on its way.
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

test('a rollout takes back what it has brought, to what ran before it, and nothing else', async () => {
  const node = await bootedNode();
  const other = bundles.publish('9.12.0', STAND_IN);
  const by = (rollout: string) => ['--rollout', rollout];
  const back = (rollout: string) => [...by(rollout), '--action', 'rollback'];
  assert.is((await update(node, '9.1.0', digests.good, ...by('one'))).report.result, 'updated');
  assert.is((await update(node, '9.12.0', other, ...by('two'))).report.result, 'updated');
  assert.is((await update(node, '9.12.0', other, ...back('two'))).report.version, '9.1.0');
  // Rolled out once more, it is here already: beside it lies the version that was taken back.
  assert.is((await update(node, '9.1.0', digests.good, ...by('three'))).report.result, 'already');
  const kept = await update(node, '9.1.0', digests.good, ...back('three'));
  assert.equal(
    [kept.report.result, kept.report.code, kept.report.version],
    ['already', 'UPDATE_NOT_OF_ROLLOUT', '9.1.0'],
  );
  assert.equal(await links(node), ['9.1.0', '9.12.0']);
});

test('a Parameter Store that throttles and a busy store of archives cost time, and nothing else', async () => {
  const node = await bootedNode();
  // As when many nodes of a batch ask in the same second.
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

test('of two at once one updates the node and the other finds it updated', async () => {
  const node = await bootedNode();
  const both = await Promise.all([1, 2].map(() => update(node, '9.1.0', digests.good)));
  assert.equal(both.map(({ report }) => report.result).sort(), ['already', 'updated']);
});

test('asked again by the rollout that has updated it, a node says that it is updated; another finds it there', async () => {
  const node = await bootedNode();
  const asked = async (rollout: string) =>
    (await update(node, '9.1.0', digests.good, '--rollout', rollout)).report.result;
  assert.is(await asked('20260101-000000-aaaaaaaa'), 'updated');
  assert.is(await asked('20260101-000000-aaaaaaaa'), 'updated');
  assert.is(await asked('20260102-000000-bbbbbbbb'), 'already');
});

test('a version whose checks hang is taken back before the time is over, however short it is', async () => {
  const sha256 = bundles.publish(
    '9.7.0',
    STAND_IN.replace('exec', '[ "$1" = check ] && exec sleep 100\nexec'),
  );
  const node = await bootedNode();
  const { stdout } = await node.instance.run(
    'timeout',
    // As the SSM agent does.
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

test('what cannot be noted down after the switch is switched back', async () => {
  const node = await bootedNode();
  await node.instance.run('mkdir', ['-p', `/var/lib/eniboot/${node.instance.id}/version.json/in-the-way`]);
  const { report } = await update(node, '9.1.0', digests.good);
  assert.equal([report.result, report.version, report.healthy], ['went-back', '0.1.0', true]);
  assert.equal(await links(node), ['0.1.0']);
});

test('a version is taken back also where nothing can be noted down any more', async () => {
  const node = await bootedNode();
  assert.is((await update(node, '9.1.0', digests.good)).report.result, 'updated');
  const pin = `/var/lib/eniboot/${node.instance.id}/version.json`;
  await node.instance.run('sh', ['-c', `rm ${pin}; mkdir -p ${pin}/in-the-way`]);
  const { report } = await update(node, '9.1.0', digests.good, '--action', 'rollback');
  assert.equal([report.result, report.version, report.healthy], ['updated', '0.1.0', true]);
});

test('a version that was taken back stays so over a reboot, even where the one before was not healthy', async () => {
  const sha256 = bundles.publish('9.8.0');
  const node = await bootedNode();
  assert.is((await update(node, '9.8.0', sha256)).report.result, 'updated');
  // What repair cannot put back.
  const conflist = '/etc/cni/net.d/10-eniboot.conflist';
  await node.instance.run('sh', ['-c', `rm ${conflist}; mkdir ${conflist}`]);
  const { report } = await update(node, '9.8.0', sha256, '--action', 'rollback');
  assert.equal([report.result, report.version, report.healthy], ['updated', '0.1.0', false]);
  await node.instance.run('rmdir', [conflist]);
  await node.reboot();
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.is((await links(node))[0], '0.1.0');
});

test('while a version is downloaded the pool is refilled as always', async () => {
  const node = await bootedNode();
  bundles.delay(6_000);
  const ended: string[] = [];
  const updating = update(node, '9.1.0', digests.good).then((one) => {
    ended.push('update');
    return one;
  });
  // Until it is at the download: what is staged has its folder by then.
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

test('killed at any moment and run again, it ends on the new version with the old one kept', async () => {
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

test('a reboot before the new version was judged comes up on the version before', async () => {
  const sha256 = bundles.publish('9.6.0');
  const node = await bootedNode();
  assert.is((await update(node, '9.6.0', sha256)).report.result, 'updated');
  // As a node that lost its power between the switch and the judgement.
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
  // Judged, it stays.
  assert.is((await update(node, '9.6.0', sha256)).report.result, 'updated');
  await node.reboot();
  assert.is((await node.boot()).status?.verdict, 'ready');
  assert.equal(await links(node), ['9.6.0', '0.1.0']);
});

test('a node that was updated keeps the version over a reboot, until its zone is told something new', async () => {
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
  // The same again, as a rollback writes it: whoever it could not reach follows the zone with its next boot.
  zoneSays('0');
  assert.is((await node.boot()).status?.bundle?.behind, true);
});

test('with keys, a version that they have not signed is refused before it is downloaded, and so is one that is too old', async () => {
  const pem = () =>
    generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
  const [ours, stranger] = [pem(), pem()];
  const { publicKey } = signer(ours, 'ours');
  const [low, high] = [bundles.publish('9.10.0', STAND_IN), bundles.publish('9.11.0', STAND_IN)];
  const node = await bootedNode(configText(cloud, `bundle: { keys: ["${publicKey}"], lowest: 9.11.0 }\n`));
  // Not to be downloaded: who asks ends with another code.
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
  // The way back is always open.
  assert.is((await update(node, '9.11.0', high, '--action', 'rollback')).report.result, 'updated');
  assert.is((await links(node))[0], '0.1.0');
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
