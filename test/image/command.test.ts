// time limit: 180 s
// The commands that an operator types, by the shipped executable, against the simulated AWS over HTTP. The instance of the boot
// test is a simulated one that runs the real `eniboot boot`; its disk is not the image's.
import { writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Policy } from '../../agent/aws/iam.ts';
import { loadConfig } from '../../agent/config/load.ts';
import { userDataSources } from '../../agent/config/userdata.ts';
import type { BootTestResult } from '../../agent/image/boot-test.ts';
import type { ListedImage } from '../../agent/image/release-image.ts';
import { addImage, buildLeftovers } from '../aws/ec2/actions/images.ts';
import { type ApiCall, type Instance, startCloud } from '../aws/index.ts';
import { manage } from '../aws/managed.ts';
import { configText, ENIBOOT, installEniboot } from '../boot/node.ts';
import { eniboot, operatorEnvironment } from '../cli/executable.ts';
import { allowing, type Check, checksOf } from '../cli/policy.ts';

const cloud = await startCloud({
  machineFor: () => ({
    launch: {},
    started: async (instance) => {
      // When an instance is terminated during the boot, its processes end with it.
      await boot(instance).catch((error: unknown) => {
        if (instance.record.state === 'running') throw error;
      });
    },
  }),
});
async function boot(instance: Instance): Promise<void> {
  await installEniboot(instance);
  // The SSM agent registers during the boot.
  manage(cloud, instance);
  await instance.run(ENIBOOT, ['boot', '--json'], { timeoutMs: 120_000 });
}
/** The permissions that each of the operator's calls would have been checked for at that moment. */
const checks: Check[] = [];
const push = cloud.calls.push.bind(cloud.calls);
cloud.calls.push = (...calls: ApiCall[]) => {
  checks.push(
    ...calls.filter((call) => call.instanceId === undefined).flatMap((call) => checksOf(cloud, call)),
  );
  return push(...calls);
};
const env = operatorEnvironment(cloud);
const run = (...args: string[]) => eniboot(['image', ...args], { env });
const userData = '/run/boot-test.yaml';
const nextMonth = new Date(Date.now() + 30 * 86_400_000).toISOString().slice(0, 10);
writeFileSync(userData, `#eniboot-config\n${configText(cloud)}`);
const version = (await eniboot(['version', '--json'])).out;
const image = addImage(cloud.ec2.world, {
  name: 'eniboot-test',
  architecture: 'x86_64',
  tags: { 'eniboot:version': (JSON.parse(version) as { version: string }).version },
});
const subnet = [...cloud.subnets.values()].find((one) => one.tags.get('Name')?.startsWith('nodes-'));
const zone = subnet?.zoneId ?? '';
const bootTest = [
  'boot-test',
  image.id,
  '--subnet',
  subnet?.id ?? '',
  '--user-data',
  userData,
  '--profile',
  'node',
];

test('an impossible request is refused before any call to AWS', async () => {
  cloud.calls.length = 0;
  for (const args of [
    [],
    ['chek'],
    ['boot-test'],
    ['boot-test', 'ami-xyz'],
    ['boot-test', image.id, '--subnet', 'subnet-01234567'],
    ['boot-test', image.id, '--pod-subnet', 'subnet-01234567'],
    ['boot-test', image.id, '--subnet', 'x', '--user-data', userData],
    [...bootTest, '--timeout', '5'],
    [...bootTest, '--instance-type', 'large'],
    ['publish', image.id],
    ['publish', image.id, '--zone', 'eu-west-1a'],
    ['promote', '--zone', zone],
    ['rollback', '--zone', zone],
    ['rollback', '--zone', zone, '--arch', 'x64'],
    ['deprecate', image.id],
    ['deprecate', image.id, '--at', 'tomorrow'],
    ['deprecate', image.id, '--at', '2027-02-31T25:00Z'],
    ['deprecate', image.id, '--at', '2025-01-31'],
  ]) {
    const { code, err } = await run(...args);
    assert.is(code, 2, `${args.join(' ')}: ${err}`);
    assert.match(err, 'eniboot image');
  }
  assert.equal(cloud.calls, []);
});

test('an untested image is not published', async () => {
  const { code, out, err } = await run('publish', image.id, '--zone', zone, '--json');
  assert.is(code, 1);
  assert.match(out, '"code":"IMAGE_UNTESTED"');
  assert.match(err, /what to do: Run `eniboot image boot-test AMI`/);
});

test('a boot test ends READY and terminates its instance, and the image is published, promoted and listed', async () => {
  const tested = await run(...bootTest, '--json');
  assert.is(tested.code, 0, tested.err + tested.out);
  assert.match(tested.err, /^i-\w+ \(m6i\.large\) is launched from ami-/);
  const report = JSON.parse(tested.out) as BootTestResult;
  assert.is(report.verdict, 'ready');
  assert.is(report.status?.['verdict'], 'ready', report.statusMissing);
  assert.match(JSON.stringify(report.status?.['instance']), `"id":"${report.instanceId}"`);
  await cloud.settled();
  assert.equal([...cloud.leakReport(), ...buildLeftovers(cloud.ec2.world)], []);
  for (const verb of ['publish', 'promote']) {
    const done = await run(verb, image.id, '--zone', zone);
    assert.is(done.code, 0, done.err);
    assert.match(done.out, new RegExp(`^/eniboot/image/x86_64/${zone}:1 ${image.id} is `));
  }
  const listed = JSON.parse((await run('list', '--json')).out) as { images: ListedImage[] };
  assert.equal(listed.images[0]?.zones, [{ zoneId: zone, labels: ['candidate', 'stable'] }]);
  assert.match((await run('list')).out, `${zone}: candidate, stable`);
  const refused = await run('deprecate', image.id, '--at', nextMonth, '--json');
  assert.match(refused.out, '"code":"IMAGE_IN_USE"');
  const back = await run('rollback', '--arch', 'x86_64', '--zone', zone, '--json');
  assert.match(back.out, '"code":"IMAGE_UNKNOWN"');
});

for (const [how, signal] of [
  ['by Ctrl-C', 'SIGINT'],
  ['by a closed terminal', 'SIGHUP'],
] as const) {
  test(`interrupted ${how}, the test terminates its instance and records nothing`, () =>
    interruptedBy(signal));
}

async function interruptedBy(signal: NodeJS.Signals): Promise<void> {
  image.tags.delete('eniboot:boot-test');
  const before = cloud.ec2.world.instances.size;
  const plain = ['boot-test', image.id, '--subnet', subnet?.id ?? '', '--pod-subnet', subnet?.id ?? ''];
  let interrupted = false;
  const ended = await eniboot(['image', ...plain], {
    env,
    watchErr: (err, kill) => {
      // Only once: a second Ctrl-C ends the command before it has cleaned up.
      if (interrupted || !/is launched/.test(err)) return;
      interrupted = true;
      kill(signal);
    },
  });
  assert.is(ended.code, 130, ended.err);
  const record = [...cloud.ec2.world.instances.values()].at(-1);
  const sources = userDataSources(record?.userData ?? '');
  assert.equal(loadConfig(sources).config.pods.subnets, { ids: [subnet?.id] });
  assert.is(cloud.ec2.world.instances.size, before + 1);
  // The machine is still powering on. So the test only asks EC2's record.
  assert.not.ok([...cloud.ec2.world.instances.values()].some(({ state }) => state === 'running'));
  assert.not.ok(image.tags.has('eniboot:boot-test'));
}

test('the policy allows every call of these commands, and every statement of it is needed', async () => {
  for (const architecture of ['x86_64', 'arm64'] as const)
    addImage(cloud.ec2.world, {
      name: `Fedora-Cloud-Base-AmazonEC2.${architecture === 'arm64' ? 'aarch64' : architecture}-44-1.6`,
      architecture,
      ownerId: '125523088429',
      readable: true,
    });
  const base = await run('base', '--fedora', '44', '--lock', '/run/base.pkrvars.json');
  assert.is(base.code, 0, base.err);
  const unused = addImage(cloud.ec2.world, { name: 'eniboot-old', architecture: 'x86_64' });
  const deprecated = await run('deprecate', unused.id, '--at', nextMonth);
  assert.is(deprecated.code, 0, deprecated.err);
  const policy = await imagePolicy();
  const used = new Set<string>();
  for (const check of checks) {
    const statement = allowing(policy, check);
    assert.ok(statement !== undefined, `denied: ${JSON.stringify(check)}`);
    used.add(statement.Sid);
  }
  assert.equal([...used].sort(), policy.Statement.map(({ Sid }) => Sid).sort());
});

test('the policy denies calls that these commands never make', async () => {
  const policy = await imagePolicy();
  const other = cloud.ec2.send('RunInstances', {
    ImageId: image.id,
    InstanceType: 'm5.large',
    SubnetId: subnet?.id,
    MinCount: 1,
    MaxCount: 1,
  }) as { Instances: { InstanceId: string }[] };
  const id = other.Instances[0]?.InstanceId ?? '';
  const tagged = (Key: string, Value: string) => [{ ResourceType: 'instance', Tags: [{ Key, Value }] }];
  const launch = { ImageId: image.id, SubnetId: subnet?.id, MinCount: 1, MaxCount: 1 };
  const forbidden: [string, object, 'ec2' | 'ssm'][] = [
    ['RunInstances', launch, 'ec2'],
    ['RunInstances', { ...launch, TagSpecifications: tagged('Name', 'x') }, 'ec2'],
    ['TerminateInstances', { InstanceIds: [id] }, 'ec2'],
    ['GetConsoleOutput', { InstanceId: id }, 'ec2'],
    ['CreateTags', { Resources: [id], Tags: [{ Key: 'eniboot:boot-test', Value: 'ami-1' }] }, 'ec2'],
    ['CreateTags', { Resources: [image.id], Tags: [{ Key: 'eniboot:version', Value: '9' }] }, 'ec2'],
    ['SendCommand', { DocumentName: 'AWS-RunShellScript', InstanceIds: [id] }, 'ssm'],
    ['SendCommand', { DocumentName: 'other', InstanceIds: [] }, 'ssm'],
    ['PutParameter', { Name: '/eniboot/bundle/x' }, 'ssm'],
    ['GetParameterHistory', { Name: '/other' }, 'ssm'],
  ];
  for (const [action, request, service] of forbidden) {
    const asked = checksOf(cloud, {
      ...{ service, action, instanceId: undefined, at: 0, mutating: true, accepted: true, request },
    });
    assert.ok(
      asked.some((check) => allowing(policy, check) === undefined),
      `${action} ${JSON.stringify(request)}`,
    );
  }
});

async function imagePolicy(): Promise<Policy> {
  const { out } = await eniboot([
    ...['iam-policy', 'image', '--account', cloud.ec2.world.accountId, '--region', cloud.region],
  ]);
  return JSON.parse(out) as Policy;
}

test.after(() => cloud.stop().catch(() => undefined));
test.run();
