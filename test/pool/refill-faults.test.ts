// time limit: 300 s
// refill while EC2 fails, loses answers, lags, refuses, or changes assignments by itself: no address is leased that EC2 does not
// have, and markers and EC2 agree in the end.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { toNumber } from '../../agent/host/ipv4.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import type { Node } from '../boot/node.ts';
import {
  agrees,
  bootClockMs,
  bootedNode,
  deadAddresses,
  end,
  entries,
  lease,
  markers,
  poolDirectory,
  poolProblems,
  refill,
  strangersInEgress,
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

/** A rest of a second. Addresses of ended pods count as released at boot. */
const small = '{ target: 16, lowWater: 8, surplus: 32, restSeconds: 1 }';

const failing: [string, Parameters<Cloud['faults']['ec2']['add']>[0]][] = [
  ['EC2 throttles', { action: '*', error: 'RequestLimitExceeded' }],
  ['EC2 does not answer describes', { action: 'DescribeNetworkInterfaces', unanswered: true }],
  ['the role may not make the call', { action: 'AssignPrivateIpAddresses', error: 'UnauthorizedOperation' }],
];
for (const [name, fault] of failing) {
  test(`${name}: the pool stays as it is, the run fails with a code, and the next runs make no call for a while`, async () => {
    const node = await bootedNode(cloud, small);
    lease(node.instance, 9);
    const before = [markers(node.instance), entries(node.instance, 'free')];
    cloud.faults.ec2.add({ instanceId: node.instance.id, ...fault });
    const failed = await node.eniboot(['pool', 'refill', '--json'], { timeoutMs: 170_000 });
    assert.is(failed.exitCode, 1, failed.stdout);
    assert.match(failed.stdout, /"code":"EC2_(THROTTLED|UNAVAILABLE|DENIED)"/);
    assert.equal([markers(node.instance), entries(node.instance, 'free')], before);
    const calls = cloud.calls.length;
    const again = await refill(node);
    assert.is(again.exitCode, 0);
    assert.match(again.waiting.join(), /the next request is in/);
    assert.is(cloud.calls.length, calls, 'no call in the pause');
    await agrees(cloud, node);
  });
}

test('the answer to an assignment is lost: the assignment is found and used, and not requested twice', async () => {
  const node = await bootedNode(cloud, small);
  lease(node.instance, 9);
  cloud.faults.ec2.add({ action: 'AssignPrivateIpAddresses', lost: 'close', times: 1 });
  for (let run = 0; run < 3; run += 1) await refill(node);
  await agrees(cloud, node);
  const free = entries(node.instance, 'free').length;
  assert.ok(free >= 24 && free <= 40 + 16, `${free} free`);
});

test('the answer to a give-back is lost: EC2 and markers agree, no address is leased in between', async () => {
  const node = await bootedNode(cloud, small);
  lease(node.instance, 16);
  await refill(node);
  lease(node.instance, 32);
  await refill(node);
  end(node.instance, 48, 0);
  cloud.faults.ec2.add({ action: 'UnassignPrivateIpAddresses', lost: 'close', times: 1 });
  await refill(node);
  assert.equal(await deadAddresses(node.instance), []);
  await refill(node);
  await agrees(cloud, node);
  assert.ok(markers(node.instance).length < 5);
});

test('EC2 accepts a give-back and still shows the prefix: the prefix stays out of reach until it is gone', async () => {
  const node = await bootedNode(cloud, small);
  lease(node.instance, 16);
  await refill(node);
  lease(node.instance, 32);
  await refill(node);
  const shown = new Map(node.instance.enis.map((eni) => [eni.id, [...eni.prefixes]]));
  end(node.instance, 48, 0);
  // Describes show the state before the give-back.
  const stale = cloud.faults.ec2.add({
    action: 'DescribeNetworkInterfaces',
    skip: 1,
    edit: (answer: { NetworkInterfaces?: { NetworkInterfaceId?: string; Ipv4Prefixes?: object[] }[] }) => ({
      ...answer,
      NetworkInterfaces: (answer.NetworkInterfaces ?? []).map((eni) => ({
        ...eni,
        Ipv4Prefixes: (shown.get(eni.NetworkInterfaceId ?? '') ?? []).map((Ipv4Prefix) => ({ Ipv4Prefix })),
      })),
    }),
  });
  const { waiting } = await refill(node);
  assert.match(waiting.join(), /EC2 still shows/);
  assert.ok(entries(node.instance, 'retiring').length > 0);
  assert.equal(await deadAddresses(node.instance), []);
  stale.remove();
  await refill(node);
  await agrees(cloud, node);
  assert.is(entries(node.instance, 'retiring').length, 0);
});

test('a prefix was unassigned in EC2: no pod gets its addresses, a pod that has one keeps its lease', async () => {
  const node = await bootedNode(cloud, '{ target: 32, restSeconds: 1 }');
  lease(node.instance, 1);
  const [eni] = node.instance.enis.filter((one) => one.tags.get('eniboot:role') === 'pods');
  const gone = [...(eni?.prefixes ?? [])];
  cloud.ec2.send('UnassignPrivateIpAddresses', { NetworkInterfaceId: eni?.id, Ipv4Prefixes: gone });
  await cloud.settled();
  const { changes, waiting } = await refill(node);
  assert.match(changes.join('\n'), /does not show/);
  assert.match(waiting.join('\n'), /leaves when its pods have ended/);
  assert.equal(await deadAddresses(node.instance), []);
  assert.is(entries(node.instance, 'leased').length, 1);
  assert.ok(entries(node.instance, 'free').length >= 24, 'other addresses replace them');
  end(node.instance, 1, 0);
  await refill(node);
  await agrees(cloud, node);
});

/** A node with two pod ENIs; the first is full of pods, the second has one, in its first prefix. */
async function twoEnis(): Promise<{ node: Node; first: string; second: string; prefix: string }> {
  const node = await bootedNode(cloud, small, { type: 't3.small' });
  for (const pods of [16, 32]) {
    lease(node.instance, pods);
    await refill(node);
  }
  lease(node.instance, 1);
  const [first, second] = node.instance.enis.filter((eni) => eni.tags.get('eniboot:role') === 'pods');
  const last = entries(node.instance, 'leased').at(-1) ?? '';
  assert.match(last, new RegExp(`,${second?.id},`));
  const prefix = second?.prefixes[0] ?? '';
  assert.is(prefix.split('/')[0], last.split(',')[0]);
  return { node, first: first?.id ?? '', second: second?.id ?? '', prefix };
}

/** Ends the pods on an ENI, so that they count as ended long ago. */
function endOn(node: Node, eniId: string): void {
  const pool = poolDirectory(node.instance);
  for (const name of entries(node.instance, 'leased').filter((one) => one.includes(eniId))) {
    const [address] = name.split(',');
    renameSync(join(pool, 'leased', name), join(pool, 'cooling', `${address},${eniId},0`));
  }
}

test('an ENI is not given back while a prefix that EC2 does not show has pods on it', async () => {
  const { node, first, second, prefix } = await twoEnis();
  cloud.ec2.send('UnassignPrivateIpAddresses', { NetworkInterfaceId: second, Ipv4Prefixes: [prefix] });
  await cloud.settled();
  endOn(node, first);
  for (let run = 0; run < 3; run += 1) await refill(node);
  assert.equal(entries(node.instance, 'leaving-enis'), []);
  assert.ok(cloud.enis.has(second), 'the ENI of a living pod is kept');
  assert.equal(poolProblems(node.instance), []);
});

test('a prefix that was moved to another pod ENI while a pod used it is not in the pool twice', async () => {
  const { node, first, second, prefix } = await twoEnis();
  const free = cloud.enis.get(first)?.prefixes.at(-1);
  endOn(node, first);
  const moves: [string, object][] = [
    ['UnassignPrivateIpAddresses', { NetworkInterfaceId: first, Ipv4Prefixes: [free] }],
    ['AssignPrivateIpAddresses', { NetworkInterfaceId: second, Ipv4PrefixCount: 1 }],
    ['UnassignPrivateIpAddresses', { NetworkInterfaceId: second, Ipv4Prefixes: [prefix] }],
    ['AssignPrivateIpAddresses', { NetworkInterfaceId: first, Ipv4PrefixCount: 1 }],
  ];
  for (const [action, request] of moves) {
    cloud.ec2.send(action, request);
    await cloud.settled();
  }
  assert.ok(cloud.enis.get(first)?.prefixes.includes(prefix), 'EC2 has moved it');
  const { waiting } = await refill(node);
  assert.match(
    waiting.join('\n'),
    new RegExp(`${prefix} now belongs to ${first} and is used there once it has left ${second}`),
  );
  assert.equal(
    markers(node.instance).filter((marker) => marker.endsWith(` ${prefix}`)),
    [`${second} ${prefix}`],
  );
  assert.equal(poolProblems(node.instance), []);
});

test('the next run finishes the addition of a killed run, also when no address is missing', async () => {
  const node = await bootedNode(cloud, small);
  await refill(node);
  const pool = poolDirectory(node.instance);
  const [marker = ''] = markers(node.instance);
  const folder = join(pool, 'adding', marker.split(' ')[1]?.replace('/', '-') ?? '');
  mkdirSync(folder);
  const half = entries(node.instance, 'free').slice(8);
  for (const name of half) renameSync(join(pool, 'free', name), join(folder, name));
  const calls = cloud.calls.length;
  await refill(node);
  assert.is(cloud.calls.length, calls, 'no call to EC2 is needed');
  assert.is(entries(node.instance, 'free').length, 16);
  await agrees(cloud, node);
});

test('a give-back that a killed run began leaves nothing of the prefix in the egress set', async () => {
  const node = await bootedNode(cloud, small);
  lease(node.instance, 9);
  await refill(node);
  const pool = poolDirectory(node.instance);
  const [eniId = '', cidr = ''] = markers(node.instance).at(-1)?.split(' ') ?? [];
  const name = cidr.replace('/', '-');
  const last = toNumber(cidr.split('/')[0] ?? '');
  for (const entry of entries(node.instance, 'free'))
    if (toNumber(entry.split(',')[0] ?? '') >= last)
      renameSync(join(pool, 'free', entry), join(pool, 'retiring', entry));
  mkdirSync(join(pool, 'leaving'), { recursive: true });
  writeFileSync(join(pool, 'leaving', `${name},${eniId},given,${bootClockMs()}`), '');
  const { changes } = await refill(node);
  assert.match(changes.join('\n'), new RegExp(`gave ${cidr}`));
  await agrees(cloud, node);
  assert.is(await strangersInEgress(node.instance), 0);
});

test('IMDS alone adds nothing: repair leaves the pool to refill, which asks EC2', async () => {
  const node = await bootedNode(cloud, small);
  const [eni] = node.instance.enis.filter((one) => one.tags.get('eniboot:role') === 'pods');
  const before = markers(node.instance);
  cloud.ec2.send('AssignPrivateIpAddresses', { NetworkInterfaceId: eni?.id, Ipv4PrefixCount: 1 });
  await cloud.settled();
  const { exitCode, stdout } = await node.eniboot(['repair', '--json']);
  assert.is(exitCode, 0, stdout);
  assert.equal(JSON.parse(stdout).changes, []);
  assert.equal(markers(node.instance), before);
  await refill(node);
  await agrees(cloud, node);
});

test('a later run deletes an ENI that could not be detached in time', async () => {
  const node = await bootedNode(cloud, small, { type: 't3.small' });
  lease(node.instance, 16);
  await refill(node);
  lease(node.instance, 32);
  await refill(node);
  end(node.instance, 48, 0);
  cloud.faults.ec2.add({ action: 'DetachNetworkInterface', lost: 'close', times: 1 });
  cloud.faults.ec2.add({ action: 'DeleteNetworkInterface', error: 'InvalidParameterValue', times: 3 });
  for (let run = 0; run < 4; run += 1) await refill(node);
  assert.equal(entries(node.instance, 'leaving-enis'), []);
  assert.is(node.instance.enis.length, 2);
  await agrees(cloud, node);
});

test('a full subnet is not asked again and again, with any number of requests by pods', async () => {
  const node = await bootedNode(cloud, small);
  lease(node.instance, 16);
  cloud.faults.ec2.add({ action: 'AssignPrivateIpAddresses', error: 'InsufficientCidrBlocks' });
  cloud.faults.ec2.add({ action: 'CreateNetworkInterface', error: 'InsufficientFreeAddressesInSubnet' });
  const first = await refill(node);
  assert.is(first.exitCode, 0, first.stderr);
  const calls = cloud.calls.length;
  for (let run = 0; run < 5; run += 1) {
    writeFileSync(join(poolDirectory(node.instance), 'refill-wanted'), '');
    await refill(node);
  }
  assert.is(cloud.calls.length, calls, 'five pods requested a refill, and no call to EC2 was made');
  await agrees(cloud, node);
});

test.run();
