// `eniboot eni sweep` against the simulated EC2, as an operator runs it: ENIs that ended instances left are marked and later
// deleted, and no other ENI ever is.
import * as fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Eni } from '../../agent/aws/ec2.ts';
import { planSweep, type SweepItem } from '../../agent/aws/sweep-plan.ts';
import { type Cloud, type Instance, startCloud } from '../aws/index.ts';
import { type CallOptions, eniboot, operatorEnvironment } from './executable.ts';

let cloud: Cloud;
let node: Instance;
const GONE = 'i-0dead0000000000aa';

test.before(async () => {
  cloud = await startCloud();
  node = await cloud.launch();
});
test.after(() => cloud.stop());
test.before.each(() => {
  for (const eni of [...cloud.enis.values()])
    if (eni.attachment === undefined)
      cloud.ec2.send('DeleteNetworkInterface', { NetworkInterfaceId: eni.id });
  cloud.faults.ec2.clear();
  cloud.faults.denied.clear();
  cloud.calls.length = 0;
});

test('sweep shows leftovers, marks them in one run and deletes them in a later one', async () => {
  const eni = leftover({ minutes: 40 });
  const shown = await sweep([]);
  assert.is(shown.code, 0, shown.err);
  assert.match(shown.out, new RegExp(`${eni} +${GONE} +demo +40 min +mark +its instance is gone`));
  assert.match(shown.out, /0 would be deleted, 1 marked\. Nothing was changed: that takes --apply\./);
  assert.is(mutations(), 0);

  const marked = await sweep(['--apply']);
  assert.is(marked.code, 0, marked.err);
  assert.match(marked.out, /0 deleted, 1 marked, 0 left alone/);
  assert.ok(cloud.enis.has(eni));

  const tooSoon = await sweep(['--apply']);
  assert.match(tooSoon.out, /marked less than 5 minutes ago/);
  assert.ok(cloud.enis.has(eni));

  cloud.enis.get(eni)?.tags.set('eniboot:sweep-seen', ago(6));
  const deleted = await sweep(['--apply']);
  assert.is(deleted.code, 0, deleted.err);
  assert.match(deleted.out, /1 deleted, 0 marked, 0 left alone/);
  assert.not.ok(cloud.enis.has(eni));
  const live = cloud.calls.map((call) => call.action);
  assert.equal(
    live.slice(-2),
    ['DescribeInstances', 'DeleteNetworkInterface'],
    'the instance is read right before the deletion',
  );
});

test('sweep leaves every ENI that another program may own or an instance may need', async () => {
  const kept = [
    leftover({ minutes: 40, seen: 10, instance: node.id }),
    leftover({ minutes: 20, seen: 10 }),
    leftover({ minutes: 40, seen: 10, tags: { 'eniboot:role': 'other' } }),
    leftover({ minutes: 40, seen: 10, tags: { 'eniboot:created': 'yesterday' } }),
    leftover({ minutes: 40, seen: 10, tags: { 'eniboot:created': ago(-60) } }),
    leftover({ minutes: 40, seen: 10, tags: { 'eniboot:instance': '*' } }),
    leftover({ minutes: 40, seen: 10, tags: { 'eniboot:instance': '' } }),
    leftover({ minutes: 40, seen: 10, tags: { 'eniboot:cluster': 'another' } }),
  ];
  const swept = await sweep(['--apply', '--cluster', 'demo']);
  assert.is(swept.code, 0, swept.err);
  for (const eni of kept) assert.ok(cloud.enis.has(eni), eni);
  assert.is(mutations(), 0, 'not even a mark');
  for (const eni of node.enis) assert.ok(cloud.enis.has(eni.id));
});

test('a stopped instance keeps its ENIs, a terminated one does not', async () => {
  const stopped = await cloud.launch();
  const eni = leftover({ minutes: 40, seen: 10, instance: stopped.id });
  await stopped.stop();
  await sweep(['--apply']);
  assert.ok(cloud.enis.has(eni));
  await stopped.terminate();
  await sweep(['--apply']);
  assert.not.ok(cloud.enis.has(eni));
});

test('an ENI whose instance appears, or that is attached, between plan and deletion is not deleted', async () => {
  const alive = leftover({ minutes: 40, seen: 10, instance: node.id });
  const inUse = leftover({ minutes: 39, seen: 10 });
  // EC2 forgets the live instance once, and answers the second deletion as for an attached ENI.
  cloud.faults.ec2.add({ action: 'DescribeInstances', times: 1, edit: () => ({ Reservations: [] }) });
  cloud.faults.ec2.add({
    action: 'DeleteNetworkInterface',
    times: 1,
    error: 'InvalidParameterValue',
    message: `Network interface '${inUse}' is currently in use.`,
  });
  const swept = await sweep(['--apply', '--json']);
  assert.is(swept.code, 0, swept.err);
  const { enis } = JSON.parse(swept.out) as { enis: (SweepItem & { outcome?: string })[] };
  assert.equal(
    enis.map((eni) => [eni.eniId, eni.outcome, eni.why]),
    [
      [alive, 'kept', 'its instance exists after all'],
      [inUse, 'kept', 'attached meanwhile'],
    ],
  );
  assert.ok(cloud.enis.has(alive) && cloud.enis.has(inUse));
});

test('at most --max ENIs go in one run, the oldest first', async () => {
  const enis = [50, 90, 70].map((minutes) => leftover({ minutes, seen: 10 }));
  const swept = await sweep(['--apply', '--max', '1']);
  assert.match(swept.out, /1 deleted, 0 marked, 2 left alone/);
  assert.equal(
    enis.map((eni) => cloud.enis.has(eni)),
    [true, false, true],
  );
});

test('a lost answer is no failure: the ENI is gone', async () => {
  const eni = leftover({ minutes: 40, seen: 10 });
  cloud.faults.ec2.add({ action: 'DeleteNetworkInterface', lost: 'close', times: 1 });
  const swept = await sweep(['--apply']);
  assert.is(swept.code, 0, swept.err);
  assert.match(swept.out, /1 deleted/);
  assert.not.ok(cloud.enis.has(eni));
});

test('throttling is waited out; a denial ends the run with its code and a list of the work done', async () => {
  const eni = leftover({ minutes: 40, seen: 10 });
  leftover({ minutes: 35 });
  cloud.faults.ec2.add({ action: '*', error: 'RequestLimitExceeded', times: 3 });
  cloud.faults.denied.add('CreateTags');
  const swept = await sweep(['--apply', '--json']);
  assert.is(swept.code, 1);
  const report = JSON.parse(swept.out) as { failure: { code: string }; enis: { outcome?: string }[] };
  assert.is(report.failure.code, 'EC2_DENIED');
  assert.equal(
    report.enis.map((one) => one.outcome),
    ['deleted', undefined],
  );
  assert.not.ok(cloud.enis.has(eni));
  assert.match(swept.err, /eniboot: EC2_DENIED: this role may not call CreateTags/);
});

test('Ctrl-C ends a sweep at the next ENI, with a list of the work done, exit 130', async () => {
  for (let at = 0; at < 12; at += 1) leftover({ minutes: 40 + at, seen: 10 });
  const swept = await sweep(['--apply'], {
    watch: (out, kill) => {
      if (out.includes('2/12')) kill('SIGINT');
    },
  });
  assert.is(swept.code, 130);
  assert.match(swept.out, /interrupted; run it again for the rest\n([2-4]) deleted/);
  assert.not.match(swept.err, /INTERNAL/);
});

test('without credentials, without a region, with a dead endpoint: each ends soon, with a code of its own', async () => {
  const { AWS_ACCESS_KEY_ID: _, ...noKey } = operatorEnvironment(cloud);
  const keyless = await eniboot(['eni', 'sweep'], { env: { ...noKey, AWS_EC2_METADATA_DISABLED: 'true' } });
  assert.is(keyless.code, 1);
  assert.match(keyless.err, /NO_CREDENTIALS/);
  const { AWS_REGION: __, ...noRegion } = operatorEnvironment(cloud);
  const homeless = await eniboot(['eni', 'sweep'], { env: noRegion });
  assert.is(homeless.code, 2);
  assert.match(homeless.err, /USAGE: no AWS region/);
  for (const [env, code, said] of [
    [{ AWS_REGION: '' }, 2, /USAGE: no AWS region/],
    [{ AWS_REGION: '', AWS_DEFAULT_REGION: cloud.region }, 0, /^$/],
    [{ AWS_REGION: 'eu_west 1' }, 2, /USAGE: eu_west 1 is not an AWS region, such as eu-central-1/],
  ] as const) {
    const ended = await eniboot(['eni', 'sweep'], { env: { ...noRegion, ...env } });
    assert.is(ended.code, code, ended.err);
    assert.match(ended.err, said);
  }
  const wrongKey = await eniboot(['eni', 'sweep'], {
    env: { ...operatorEnvironment(cloud), AWS_SECRET_ACCESS_KEY: 'wrong' },
  });
  assert.is(wrongKey.code, 1);
  assert.match(wrongKey.err, /CREDENTIALS_REFUSED[^]*AWS_PROFILE/);
  assert.not.match(wrongKey.out, /would be/);
  assert.ok(wrongKey.ms < 10_000, `took ${wrongKey.ms} ms`);
});

test('property: a deletion is planned only for an ENI of eniboot that is old, marked, unattached and without instance', () => {
  const now = new Date('2030-01-01T12:00:00Z');
  const time = fc.oneof(
    fc.constant(undefined),
    fc.constant('soon'),
    fc
      .integer({ min: -120, max: 300 })
      .map((minutes) => new Date(now.getTime() - minutes * 60_000).toISOString()),
  );
  const anyEni = fc.record({
    role: fc.constantFrom('pods', 'boot', undefined),
    cluster: fc.constantFrom('demo', 'other', undefined),
    instance: fc.constantFrom('i-0aaaaaaaaaaaaaaaa', 'i-0bbbbbbbbbbbbbbbb', '*', '', undefined),
    created: time,
    seen: time,
    status: fc.constantFrom('available', 'in-use', ''),
  });
  fc.assert(
    fc.property(fc.array(anyEni, { maxLength: 20 }), fc.integer({ min: 1, max: 5 }), (drawn, max) => {
      const enis = drawn.map((one, at) => modelEni(`eni-${at}`, one));
      const options = { cluster: 'demo', minAgeMinutes: 30, max };
      const items = planSweep(enis, new Set(['i-0bbbbbbbbbbbbbbbb']), options, now);
      assert.is(items.length, enis.length);
      const deletions = items.filter((item) => item.action === 'delete');
      assert.ok(deletions.length <= max);
      for (const item of deletions) {
        const one = drawn[Number(item.eniId.slice(4))];
        assert.is(one?.role, 'pods');
        assert.is(one?.cluster, 'demo');
        assert.is(one?.instance, 'i-0aaaaaaaaaaaaaaaa');
        assert.is(one?.status, 'available');
        assert.ok(now.getTime() - Date.parse(one?.created ?? '') >= 30 * 60_000);
        assert.ok(now.getTime() - Date.parse(one?.seen ?? '') >= 5 * 60_000);
      }
    }),
    { numRuns: 2_000 },
  );
});

function sweep(args: string[], options: CallOptions = {}) {
  return eniboot(['eni', 'sweep', ...args], { ...options, env: operatorEnvironment(cloud) });
}

interface Leftover {
  minutes: number;
  /** Minutes since the ENI was marked. */
  seen?: number;
  instance?: string;
  tags?: Record<string, string>;
}

function leftover(wanted: Leftover): string {
  const tags = {
    'eniboot:role': 'pods',
    'eniboot:cluster': 'demo',
    'eniboot:instance': wanted.instance ?? GONE,
    'eniboot:created': ago(wanted.minutes),
    ...(wanted.seen === undefined ? {} : { 'eniboot:sweep-seen': ago(wanted.seen) }),
    ...wanted.tags,
  };
  const { NetworkInterface } = cloud.ec2.send('CreateNetworkInterface', {
    SubnetId: [...cloud.subnets.values()].at(-1)?.id,
    TagSpecifications: [
      {
        ResourceType: 'network-interface',
        Tags: Object.entries(tags).map(([Key, Value]) => ({ Key, Value })),
      },
    ],
  }) as { NetworkInterface: { NetworkInterfaceId: string } };
  const eni = cloud.enis.get(NetworkInterface.NetworkInterfaceId);
  if (eni === undefined) throw new Error('not created');
  eni.createdAt = 0; // old enough for every describe to show it
  return eni.id;
}

/** ISO time so many minutes ago, and a little earlier, so that rounding does not matter. */
function ago(minutes: number): string {
  return new Date(Date.now() - minutes * 60_000 - 1_000).toISOString();
}

function mutations(): number {
  return cloud.calls.filter((call) => call.mutating && call.action !== 'CreateNetworkInterface').length;
}

interface Drawn {
  role: string | undefined;
  cluster: string | undefined;
  instance: string | undefined;
  created: string | undefined;
  seen: string | undefined;
  status: string;
}

function modelEni(eniId: string, one: Drawn): Eni {
  const tags = {
    'eniboot:role': one.role,
    'eniboot:cluster': one.cluster,
    'eniboot:instance': one.instance,
    'eniboot:created': one.created,
    'eniboot:sweep-seen': one.seen,
  };
  return {
    eniId,
    mac: '02:00:00:00:00:01',
    subnetId: 'subnet-1',
    vpcId: 'vpc-1',
    status: one.status,
    description: '',
    primaryAddress: '10.0.64.4',
    secondaryAddresses: [],
    prefixes: [],
    ipv6Prefixes: [],
    tags: Object.fromEntries(
      Object.entries(tags).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
    ),
    securityGroupIds: [],
    attachment: undefined,
  };
}

test.run();
