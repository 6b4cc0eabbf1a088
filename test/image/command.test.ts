// time limit: 180 s
// The commands an operator types, as the executable that ships, against the simulated AWS over HTTP. The instance of the
// boot test is a simulated one that runs the real `eniboot boot`; its disk is not the image's.
import { writeFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { loadConfig } from '../../agent/config/load.ts';
import { userDataSources } from '../../agent/config/userdata.ts';
import type { ListedImage } from '../../agent/image/release-image.ts';
import { addImage, buildLeftovers } from '../aws/ec2/actions/images.ts';
import { type Instance, startCloud } from '../aws/index.ts';
import { configText, ENIBOOT, installEniboot } from '../boot/node.ts';
import { eniboot, operatorEnvironment } from '../cli/executable.ts';

const cloud = await startCloud({
  machineFor: () => ({
    launch: {},
    started: async (instance) => {
      // An instance that is terminated meanwhile takes its processes with it.
      await boot(instance).catch((error: unknown) => {
        if (instance.record.state === 'running') throw error;
      });
    },
  }),
});
async function boot(instance: Instance): Promise<void> {
  await installEniboot(instance);
  await instance.run(ENIBOOT, ['boot', '--json'], { timeoutMs: 120_000 });
}
const env = operatorEnvironment(cloud);
const run = (...args: string[]) => eniboot(['image', ...args], { env });
const userData = '/run/boot-test.yaml';
writeFileSync(userData, `#eniboot-config\n${configText(cloud)}`);
const version = (await eniboot(['version', '--json'])).out;
const image = addImage(cloud.ec2.world, {
  name: 'eniboot-test',
  architecture: 'x86_64',
  tags: { 'eniboot/version': (JSON.parse(version) as { version: string }).version },
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

test('what cannot be is refused before anything is asked of AWS', async () => {
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

test('a boot test ends READY, its instance goes, and the image is published, promoted and listed', async () => {
  const tested = await run(...bootTest, '--json');
  assert.is(tested.code, 0, tested.err + tested.out);
  assert.match(tested.err, /^i-\w+ \(m6i\.large\) is launched from ami-/);
  assert.is((JSON.parse(tested.out) as { verdict: string }).verdict, 'ready');
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
  const refused = await run('deprecate', image.id, '--at', '2027-01-31', '--json');
  assert.match(refused.out, '"code":"IMAGE_IN_USE"');
  const back = await run('rollback', '--arch', 'x86_64', '--zone', zone, '--json');
  assert.match(back.out, '"code":"IMAGE_UNKNOWN"');
});

test('interrupted by Ctrl-C, the instance goes and nothing is recorded', async () => {
  image.tags.delete('eniboot/boot-test');
  const before = cloud.ec2.world.instances.size;
  const plain = ['boot-test', image.id, '--subnet', subnet?.id ?? '', '--pod-subnet', subnet?.id ?? ''];
  const ended = await eniboot(['image', ...plain], {
    env,
    watchErr: (err, kill) => {
      if (/is launched/.test(err)) kill('SIGINT');
    },
  });
  assert.is(ended.code, 130, ended.err);
  const record = [...cloud.ec2.world.instances.values()].at(-1);
  const sources = userDataSources(record?.userData ?? '');
  assert.equal(loadConfig(sources).config.pods.subnets, { ids: [subnet?.id] });
  assert.is(cloud.ec2.world.instances.size, before + 1);
  // Its machine is still being powered on: only what EC2 says of it is asked.
  assert.not.ok([...cloud.ec2.world.instances.values()].some(({ state }) => state === 'running'));
  assert.not.ok(image.tags.has('eniboot/boot-test'));
});

test.after(() => cloud.stop().catch(() => undefined));
test.run();
