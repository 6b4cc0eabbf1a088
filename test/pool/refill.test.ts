// time limit: 180 s
// refill against the simulated EC2: the pool grows and shrinks by its marks and agrees with EC2.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import {
  agrees,
  bootClockMs,
  bootedNode,
  end,
  entries,
  lease,
  markers,
  poolDirectory,
  refill,
} from './node.ts';

let cloud: Cloud;
test.before(async () => {
  cloud = await startCloud();
});
test.after(() => cloud.stop());
test.after.each(async () => {
  cloud.faults.clear();
  for (const instance of cloud.instances.values()) if (instance.pid > 0) await instance.terminate();
});

/** Mutating calls of a run. */
async function changing(work: () => Promise<unknown>): Promise<string[]> {
  const before = cloud.calls.length;
  await work();
  return cloud.calls
    .slice(before)
    .map((call) => call.action)
    .filter((action) => !action.startsWith('Describe'));
}

/** A rest of a second. Addresses of ended pods count as released at boot. */
const small = '{ target: 16, lowWater: 8, surplus: 32, restSeconds: 1 }';

test('without anything to do refill tells so, changes nothing, and does not call EC2 again for minutes', async () => {
  const node = await bootedNode(cloud, small);
  assert.equal(await changing(() => refill(node)), []);
  const before = cloud.calls.length;
  const second = await node.eniboot(['pool', 'refill']);
  assert.is(second.exitCode, 0);
  assert.is(second.stdout, 'nothing to do\n');
  assert.is(second.stderr, '');
  assert.is(cloud.calls.length, before);
  await agrees(cloud, node);
});

test('below the low-water mark: one call for several prefixes, up to the middle of the marks', async () => {
  const node = await bootedNode(cloud, small);
  lease(node.instance, 9);
  const calls = await changing(async () => {
    const { changes } = await refill(node);
    assert.is(changes.length, 2, changes.join());
  });
  assert.equal(calls, ['AssignPrivateIpAddresses']);
  assert.is(entries(node.instance, 'free').length, 39);
  await agrees(cloud, node);
  assert.equal(await changing(() => refill(node)), [], 'the next run changes nothing');
});

test('a full ENI: another is created, attached, brought up and given to the plugin', async () => {
  // t3.small: 3 ENIs of 4 addresses, so 3 prefixes for each pod ENI.
  const node = await bootedNode(cloud, small, { type: 't3.small' });
  lease(node.instance, 16);
  await refill(node);
  lease(node.instance, 32);
  const { changes, exitCode } = await refill(node);
  assert.is(exitCode, 0);
  assert.is(new Set(changes.map((change) => change.split(' of ')[1])).size, 1, changes.join());
  const pods = node.instance.enis.filter((eni) => eni.tags.get('eniboot:role') === 'pods');
  assert.is(pods.length, 2);
  const file = JSON.parse(node.instance.read('/run/eniboot/node.json') ?? '{}') as {
    podEnis: { eniId: string; subnetCidr: string }[];
  };
  assert.equal(
    file.podEnis.map((eni) => eni.eniId),
    pods.map((eni) => eni.id),
  );
  assert.ok(file.podEnis.every((eni) => eni.subnetCidr === '10.0.64.0/20'));
  const enis = await node.eniboot(['enis', '--ec2']);
  assert.is(enis.exitCode, 0, enis.stdout + enis.stderr);
  await agrees(cloud, node);

  // Its pods end again: prefixes go back, the ENI with its last prefix, and never the last ENI.
  end(node.instance, 48, 0);
  const given: string[] = [];
  for (let run = 0; run < 4; run += 1) given.push(...(await refill(node)).changes);
  assert.match(given.join('\n'), new RegExp(`gave ${pods[1]?.id} back to EC2`));
  const left = node.instance.enis.filter((eni) => eni.tags.get('eniboot:role') === 'pods');
  assert.equal(
    left.map((eni) => eni.id),
    [pods[0]?.id],
  );
  assert.ok(entries(node.instance, 'free').length + entries(node.instance, 'cooling').length >= 16);
  const told = JSON.parse(node.instance.read('/run/eniboot/node.json') ?? '{}') as { podEnis: unknown[] };
  assert.is(told.podEnis.length, 1);
  await agrees(cloud, node);
});

test('a fragmented subnet: one run fills the pool with single addresses', async () => {
  const node = await bootedNode(cloud, small);
  lease(node.instance, 9);
  const [eni] = node.instance.enis.slice(1);
  const { space } = cloud.subnets.get(eni?.subnetId ?? '') ?? {};
  const taken: string[] = [];
  for (let block = 0; block < 256; block += 1) {
    const address = `10.0.${64 + Math.floor(block / 16)}.${(block % 16) * 16 + 8}`;
    if (space?.takeThis(address) === true) taken.push(address);
  }
  await refill(node);
  for (const address of taken) space?.release(address);
  assert.is(eni?.secondaryIps.length, 13, 'one for each slot');
  assert.ok(entries(node.instance, 'free').length >= 24, 'up to the middle of the marks');
  await agrees(cloud, node);
});

test('an ENI in the pool that the plugin was not told of is told at the next run', async () => {
  const node = await bootedNode(cloud, small);
  await refill(node);
  const path = '/run/eniboot/node.json';
  const told = node.instance.read(path) ?? '';
  // As a run leaves it that was killed before its last write.
  await node.instance.run('sh', [
    '-c',
    `echo '${JSON.stringify({ ...JSON.parse(told), podEnis: [] })}' > ${path}`,
  ]);
  assert.is((await refill(node)).exitCode, 0);
  assert.equal(JSON.parse(node.instance.read(path) ?? ''), JSON.parse(told));
});

test('an ENI that IMDS does not know yet is given to the plugin nevertheless', async () => {
  const { imdsLagMs } = cloud.latency;
  const node = await bootedNode(cloud, small, { type: 't3.small' });
  lease(node.instance, 16);
  await refill(node);
  lease(node.instance, 32);
  cloud.latency.imdsLagMs = 60_000;
  try {
    assert.is((await refill(node)).exitCode, 0);
  } finally {
    cloud.latency.imdsLagMs = imdsLagMs;
  }
  const pods = node.instance.enis.filter((eni) => eni.tags.get('eniboot:role') === 'pods');
  const told = JSON.parse(node.instance.read('/run/eniboot/node.json') ?? '') as {
    podEnis: { eniId: string; subnetCidr: string }[];
  };
  assert.is(pods.length, 2);
  assert.equal(
    told.podEnis.map(({ eniId, subnetCidr }) => [eniId, subnetCidr]),
    pods.map((eni) => [eni.id, '10.0.64.0/20']),
  );
});

test('no prefix is given back before it has rested', async () => {
  const node = await bootedNode(cloud, '{ target: 16, restSeconds: 30 }');
  lease(node.instance, 16);
  await refill(node);
  lease(node.instance, 32);
  await refill(node);
  assert.is(markers(node.instance).length, 5);
  end(node.instance, 48, bootClockMs());
  assert.equal(await changing(() => refill(node)), [], 'all addresses rest');
  assert.is(entries(node.instance, 'retiring').length, 0);
  const pool = await node.eniboot(['pool', '--json']);
  assert.is((JSON.parse(pool.stdout) as { resting: number }).resting, 48);
  await agrees(cloud, node);
});

test('single addresses are added and given back in the same way', async () => {
  // t2.medium is not a Nitro type: 3 ENIs of 6 addresses, so 10 pods.
  const node = await bootedNode(cloud, '{ target: 3, lowWater: 2, surplus: 32, restSeconds: 1 }', {
    type: 't2.medium',
  });
  assert.is(markers(node.instance).length, 3);
  lease(node.instance, 2);
  await refill(node);
  assert.is(markers(node.instance).length, 10, 'as many as further pods need');
  assert.is(node.instance.enis.length, 3);
  await agrees(cloud, node);
});

test('a pool below its target, because the subnet was full at boot, grows back to it', async () => {
  cloud.faults.ec2.add({
    action: 'CreateNetworkInterface',
    error: 'InsufficientFreeAddressesInSubnet',
    skip: 1,
  });
  const node = await bootedNode(cloud, '{ target: 90 }', { type: 't3.small' });
  assert.is(markers(node.instance).length, 3);
  cloud.faults.clear();
  await refill(node);
  assert.is(markers(node.instance).length, 6);
  await agrees(cloud, node);
});

test('the flag is removed first, also when the run fails', async () => {
  const node = await bootedNode(cloud, small);
  const flag = join(poolDirectory(node.instance), 'refill-wanted');
  writeFileSync(flag, '');
  lease(node.instance, 10);
  cloud.faults.ec2.add({ action: '*', error: 'UnauthorizedOperation' });
  await refill(node);
  assert.is(node.instance.read('/run/eniboot/pool/refill-wanted'), undefined);
});

test("the first refill deletes an ENI of eniboot that a reboot left detached, and no other program's", async () => {
  const node = await bootedNode(cloud, small);
  const [pod] = node.instance.enis.filter((eni) => eni.tags.get('eniboot:role') === 'pods');
  const make = (tags: Record<string, string>) =>
    cloud.ec2.send('CreateNetworkInterface', {
      SubnetId: pod?.subnetId,
      TagSpecifications: [
        {
          ResourceType: 'network-interface',
          Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
        },
      ],
    }) as { NetworkInterface?: { NetworkInterfaceId?: string } };
  const ours = make(Object.fromEntries(pod?.tags ?? [])).NetworkInterface?.NetworkInterfaceId ?? '';
  const foreign = make({ 'eniboot:role': 'pods', 'eniboot:instance': 'i-0another' });
  await cloud.settled();
  const { changes } = await refill(node);
  assert.equal(changes, [`deleted ${ours}, which was attached to nothing`]);
  assert.not.ok(cloud.enis.has(ours));
  const other = foreign.NetworkInterface?.NetworkInterfaceId ?? '';
  assert.ok(cloud.enis.has(other));
  cloud.ec2.send('DeleteNetworkInterface', { NetworkInterfaceId: other });
  await agrees(cloud, node);
});

test('refill leaves a node that never became READY to boot', async () => {
  const { launchNode } = await import('../boot/node.ts');
  const node = await launchNode(cloud);
  for (const action of ['refill', 'collect']) {
    const result = await node.eniboot(['pool', action, '--json']);
    assert.is(result.exitCode, 1);
    assert.match(result.stdout, /"code":"NOT_BOOTED"/);
  }
  assert.is(cloud.calls.filter((call) => call.instanceId === node.instance.id).length, 0);
});

test('after a reboot the pool equals EC2 again, and earlier leases are gone', async () => {
  const node = await bootedNode(cloud, small);
  lease(node.instance, 9);
  await refill(node);
  await node.reboot();
  const { status } = await node.boot();
  assert.is(status?.verdict, 'ready');
  assert.is(entries(node.instance, 'leased').length, 0);
  await agrees(cloud, node);
  await refill(node);
  assert.is(entries(node.instance, 'free').length, 32, 'no pod is left, so one prefix is given back');
  await agrees(cloud, node);
});

test.run();
