// Boot tests and the zones' parameters, against the simulated EC2 and SSM on virtual time, with each fault.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type ImageAction, type ImageAws, imageActions, imageAws } from '../../agent/aws/images.ts';
import { loadConfig } from '../../agent/config/load.ts';
import { userDataSources } from '../../agent/config/userdata.ts';
import { bootTest } from '../../agent/image/boot-test.ts';
import {
  deprecateImage,
  listImages,
  parameterOf,
  promoteImage,
  publishImage,
  rollBackImage,
} from '../../agent/image/release-image.ts';
import { type FailureCode, isFailure } from '../../agent/messages/failure.ts';
import { addImage } from '../aws/ec2/actions/images.ts';
import type { InstanceRecord } from '../aws/ec2/state.ts';
import { type ApiCall, AwsError, createEc2, virtualScheduler } from '../aws/index.ts';
import { checkRequest } from '../aws/requests/check.ts';
import { createSsm, type Ssm } from '../aws/ssm/ssm.ts';
import { virtualClock } from '../rollout/fleet.ts';

const ZONE = 'euw1-az1';
const NAME = parameterOf('x86_64', ZONE);

interface Faults {
  /** Called for each launched instance, some time later. */
  launched?: (instance: InstanceRecord, at: { ssm: Ssm }) => void;
  launchedMs?: number;
  /** Calls that are refused with this code, the first `times` of them. */
  errors?: Partial<Record<ImageAction, { code: string; times: number }>>;
  /** The first answer to this call is lost. */
  loses?: ImageAction;
  /** Called right after a call was carried out. */
  after?: (action: ImageAction) => void;
  unconfirmed?: boolean;
  /** Removes these fields from the answers to an action, at any depth. */
  leavesOut?: Partial<Record<ImageAction, string[]>>;
}

function region(faults: Faults = {}) {
  const scheduler = virtualScheduler();
  const clock = virtualClock(scheduler);
  const ec2 = createEc2({
    scheduler,
    subnets: [{ cidr: '10.0.0.0/24', zone: 'eu-west-1a' }],
    // An account may have such a default. A launch must ask for its own setting.
    metadataDefaults: { instanceMetadataTags: 'enabled' },
    latency: {
      attachMs: 0,
      detachMs: 0,
      describeLagMs: 3_000,
      instanceMs: 1_000,
      pendingMs: 5_000,
      imageMs: 60_000,
    },
  });
  const { world } = ec2;
  const calls: ApiCall[] = ec2.calls;
  const ssm = createSsm({
    scheduler,
    calls,
    denied: new Set(),
    arnPrefix: `arn:aws:ssm:eu-west-1:${world.accountId}`,
    accountId: world.accountId,
    tagsOf: (id) => world.instances.get(id)?.tags,
    imageExists: (id) => faults.unconfirmed !== true && world.images.has(id),
    isInAlarm: () => false,
  });
  ec2.subscribe((event) => {
    if (event.kind !== 'run') return;
    scheduler.after(faults.launchedMs ?? 30_000, () => faults.launched?.(event.instance, { ssm }));
  });
  let lost = faults.loses;
  const aws: ImageAws = imageAws(
    async (action, request) => {
      await clock.sleep(50);
      const error = faults.errors?.[action];
      try {
        if (error !== undefined && error.times-- > 0) {
          checkRequest(imageActions[action], action, request, scheduler.now());
          throw new AwsError(error.code, 'as the test wants it');
        }
        const answer = (imageActions[action] === 'ec2' ? ec2 : ssm).send(action, request);
        faults.after?.(action);
        if (lost === action) {
          lost = undefined;
          throw Object.assign(new Error('socket hang up'), { name: 'ECONNRESET' });
        }
        return without(answer, faults.leavesOut?.[action] ?? []);
      } catch (thrown) {
        if (!(thrown instanceof AwsError)) throw thrown;
        throw Object.assign(new Error(thrown.message), {
          name: thrown.code,
          $metadata: { httpStatusCode: thrown.status },
        });
      }
    },
    {
      clock,
      until: () => clock.bootMs() + 60_000,
      onThrottled: () => {},
      onCall: () => {},
      random: () => 0.5,
    },
  );
  let count = 0;
  return {
    aws,
    clock,
    ssm,
    world,
    calls,
    scheduler,
    denied: ec2.denied,
    image: (tags: Record<string, string> = { 'eniboot:boot-test': 'passed@2026' }) =>
      addImage(world, {
        name: `eniboot-${++count}`,
        architecture: 'x86_64',
        tags: { 'eniboot:version': '1.0.0', ...tags },
      }),
    /** Runs to its end on virtual time. */
    async to<T>(work: Promise<T>): Promise<T> {
      let done = false;
      const watched = work.finally(() => {
        done = true;
      });
      watched.catch(() => {});
      await scheduler.run(() => done);
      return watched;
    },
    async failing(code: FailureCode, work: Promise<unknown>, message: RegExp): Promise<void> {
      const error: unknown = await this.to(work).then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      assert.ok(isFailure(error, code), `${code}, not ${String(error)}`);
      assert.match(error.message, message);
    },
    labels: () =>
      Object.fromEntries(
        (ssm.parameters.get(NAME) ?? []).flatMap(({ labels, value }) =>
          [...labels].map((one) => [one, value]),
        ),
      ),
    values: () => (ssm.parameters.get(NAME) ?? []).map(({ value }) => value),
    living: () => [...world.instances.values()].filter(({ state }) => state === 'running').length,
    test(
      imageId: string,
      stopped = new AbortController().signal,
      timeoutMs = 600_000,
      tell: (line: string) => void = () => {},
    ) {
      return bootTest(aws, clock, {
        imageId,
        instanceType: undefined,
        subnetId: [...world.subnets.keys()][0] ?? '',
        securityGroupId: undefined,
        profile: 'node',
        userData: 'cluster: boot-test\n',
        timeoutMs,
        stopped,
        tell,
      });
    },
  };
}

function without(answer: object, fields: string[]): object {
  if (fields.length === 0) return answer;
  return JSON.parse(JSON.stringify(answer), (key, value: unknown) => {
    if (fields.includes(key)) return undefined;
    return key === 'LaunchTime' ? new Date(String(value)) : value;
  }) as object;
}

const says =
  (verdict: string): NonNullable<Faults['launched']> =>
  (instance) =>
    void instance.tags.set('eniboot:verdict', verdict);

test("the example's user data is a configuration", () => {
  const text = readFileSync(
    join(import.meta.dirname, '../../docs/examples/two-zones/user-data.yaml.tftpl'),
    'utf8',
  )
    .replace('${cluster}', 'demo')
    .replace('${pod_subnet}', 'subnet-0123456789abcdef0');
  const { config } = loadConfig(userDataSources(text));
  assert.is(config.cluster, 'demo');
  assert.equal(config.pods.subnets, { ids: ['subnet-0123456789abcdef0'] });
});

test('an image whose node gets READY is tagged as passed, and its instance is terminated', async () => {
  const at = region({ launched: says('ready@1.0.0') });
  const image = at.image({});
  const result = await at.to(at.test(image.id));
  assert.is(result.verdict, 'ready');
  assert.is(result.zoneId, ZONE);
  assert.ok(result.seconds >= 30 && result.seconds < 40, `${result.seconds}`);
  assert.match(image.tags.get('eniboot:boot-test') ?? '', /^passed@\d{4}-/);
  const [instance] = at.world.instances.values();
  assert.is(instance?.hopLimit, 1);
  assert.is(instance?.userData, 'cluster: boot-test\n');
  assert.is(instance?.tags.get('eniboot:boot-test'), image.id);
  assert.is(at.living(), 0);
});

test('a field that EC2 leaves out is never taken for an empty text', async () => {
  const zoneless = region({
    launched: says('ready@1.0.0'),
    leavesOut: { DescribeInstances: ['AvailabilityZoneId'] },
  });
  assert.is((await zoneless.to(zoneless.test(zoneless.image({}).id))).zoneId, undefined);
  for (const field of ['Architecture', 'State']) {
    const at = region({ leavesOut: { DescribeImages: [field] } });
    await at.failing(
      'EC2_UNAVAILABLE',
      publishImage(at.aws, at.clock, at.image().id, ZONE),
      new RegExp(field),
    );
    assert.equal([...at.ssm.parameters.keys()], [], field);
  }
});

const FIT = '{"fit":true,"checks":[{"id":"runtime","result":"pass","summary":"cri-o runs"}]}\n';
const answers = (text: string, check = FIT): Faults => ({
  launched: (instance, at) => {
    instance.tags.set('eniboot:verdict', 'ready@1.0.0');
    at.ssm.nodes.set(instance.id, {
      instanceId: instance.id,
      online: true,
      lastPingAt: 0,
      run: (script, ended) => {
        const said = {
          '/usr/libexec/eniboot/current/eniboot status --json': text,
          '/usr/libexec/eniboot/current/eniboot image check --booted --json': check,
        }[script];
        assert.ok(said !== undefined, script);
        ended({ exitCode: said.startsWith('{"fit":false') ? 1 : 0, stdout: said, stderr: '' });
        return () => {};
      },
    });
  },
});

test('the report has the status JSON of a node that SSM reaches', async () => {
  const at = region(answers('{"verdict":"ready","phases":[]}\n'));
  const result = await at.to(at.test(at.image({}).id));
  assert.equal(result.status, { verdict: 'ready', phases: [] });
  assert.is(result.statusMissing, undefined);
  assert.is(result.check?.fit, true);
});

test('an image whose node is READY and unfit has not passed', async () => {
  const unfit = `{"fit":false,"checks":[{"id":"runtime","result":"fail","summary":"crio.service is inactive"},{"id":"swap","result":"pass","summary":"none"}]}\n`;
  const at = region(answers('{"verdict":"ready"}\n', unfit));
  const image = at.image({});
  await at.failing(
    'IMAGE_TEST_FAILED',
    at.test(image.id),
    /READY, but image check --booted fails\. runtime: crio\.service is inactive$/,
  );
  assert.match(image.tags.get('eniboot:boot-test') ?? '', /^failed:IMAGE_UNFIT@/);
  assert.is(at.living(), 0);
});

test('a check that cannot be run is reported as missing, and READY counts', async () => {
  const at = region(answers('{"verdict":"ready"}\n', 'Segmentation fault\n'));
  const result = await at.to(at.test(at.image({}).id));
  assert.match(result.checkMissing ?? '', /is not JSON/);
  assert.is(result.check, undefined);
});

const unheard: [string, Faults, RegExp][] = [
  ['a node without an SSM agent', { launched: says('ready@1.0.0') }, /not managed by SSM after 60 s/],
  ['an answer that was cut', answers('{"verdict":'), /is not JSON/],
  [
    'an operator without the permission',
    { ...answers('{}'), errors: { SendCommand: { code: 'AccessDeniedException', times: 9 } } },
    /SendCommand/,
  ],
];
for (const [name, faults, why] of unheard)
  test(`without the status JSON, the report tells why and the image passes: ${name}`, async () => {
    const at = region(faults);
    const result = await at.to(at.test(at.image({}).id));
    assert.match(result.statusMissing ?? '', why);
    assert.is(result.status, undefined);
    assert.is(result.verdict, 'ready');
    assert.is(at.living(), 0);
  });

test('the verdict of a node that may not tag itself is read from its console', async () => {
  const at = region({
    launched: (instance) => {
      instance.console = '[  20.1] x\neniboot: READY OK 1.0.0 12.5s\n';
    },
  });
  assert.is((await at.to(at.test(at.image({}).id))).verdict, 'ready');
});

const notReady: [string, Faults, RegExp, RegExp | undefined][] = [
  [
    'a boot that fails',
    { launched: says('failed:NO_POD_ENI@1.0.0') },
    /says failed:NO_POD_ENI/,
    /^failed:NO_POD_ENI@/,
  ],
  [
    'another version than the image is tagged with',
    { launched: says('ready@0.9.0') },
    /runs 0\.9\.0/,
    /^failed:VERSION@/,
  ],
  [
    'a console that tells of a failure',
    { launched: (instance) => void (instance.console = 'eniboot: FAILED IMDS_UNREACHABLE 1.0.0 300s') },
    /failed:IMDS_UNREACHABLE/,
    /^failed:IMDS/,
  ],
  ['a node that never reports', {}, /no verdict after 60\d s/, undefined],
  [
    'an instance that EC2 ends',
    { launched: (instance) => void (instance.state = 'terminated') },
    /instance is terminated/,
    undefined,
  ],
];
for (const [name, faults, message, tag] of notReady)
  test(`not passed: ${name}; the instance is terminated, and the image cannot be published`, async () => {
    const at = region(faults);
    const image = at.image({});
    await at.failing('IMAGE_TEST_FAILED', at.test(image.id), message);
    const said = image.tags.get('eniboot:boot-test');
    if (tag === undefined) assert.is(said, undefined);
    else assert.match(said ?? '', tag);
    assert.is(at.living(), 0);
    await at.failing('IMAGE_UNTESTED', publishImage(at.aws, at.clock, image.id, ZONE), /boot test/);
    assert.equal(at.values(), []);
  });

test("an instance that EC2 ends because the caller may not use the image's key is no failed boot", async () => {
  const at = region({ launched: says('ready@1.0.0') });
  const image = at.image({});
  const snapshot = at.world.snapshots.get(image.snapshotId);
  if (snapshot !== undefined) snapshot.keyId = 'arn:aws:kms:eu-west-1:123456789012:key/mine';
  at.denied.add('kms:CreateGrant');
  await at.failing(
    'IMAGE_KEY_UNUSABLE',
    at.test(image.id),
    /terminated: Client\.InternalError: Client error/,
  );
  assert.is(at.living(), 0);
  assert.not.ok(image.tags.has('eniboot:boot-test'), "the image's tag has no result");
  at.denied.clear();
  assert.is((await at.to(at.test(image.id))).verdict, 'ready');
});

test('interrupted during the wait: the instance is terminated, nothing is recorded', async () => {
  const stop = new AbortController();
  const at = region({ launched: () => stop.abort(), launchedMs: 20_000 });
  const image = at.image({});
  const began = at.clock.bootMs();
  assert.is((await at.to(at.test(image.id, stop.signal))).verdict, 'interrupted');
  assert.is(at.living(), 0);
  assert.not.ok(image.tags.has('eniboot:boot-test'));
  assert.ok(at.clock.bootMs() - began < 27_000, 'at once');
});

test('a tested image can be published at once, although EC2 shows a tag a little later', async () => {
  const at = region({ launched: says('ready@1.0.0') });
  const image = at.image({});
  await at.to(at.test(image.id));
  assert.is((await at.to(publishImage(at.aws, at.clock, image.id, ZONE))).imageId, image.id);
});

test('a throttled API and a lost answer start one instance and end it', async () => {
  for (const faults of [
    {
      errors: {
        RunInstances: { code: 'RequestLimitExceeded', times: 3 },
        TerminateInstances: { code: 'RequestLimitExceeded', times: 3 },
        DescribeInstances: { code: 'RequestLimitExceeded', times: 2 },
      },
    },
    { loses: 'RunInstances' },
    { loses: 'TerminateInstances' },
  ] as Faults[]) {
    const at = region({ launched: says('ready@1.0.0'), ...faults });
    await at.to(at.test(at.image({}).id));
    assert.is(at.world.instances.size, 1);
    assert.is(at.living(), 0);
  }
});

test('an instance that cannot be terminated is named', async () => {
  const at = region({
    launched: says('ready@1.0.0'),
    errors: { TerminateInstances: { code: 'UnauthorizedOperation', times: 99 } },
  });
  await at.failing('IMAGE_TEST_LEFT', at.test(at.image({}).id), /^i-\w+ could not be terminated/);
});

test('an instance that a killed boot test left is terminated by the next one; the instance of a test that still runs is not', async () => {
  const at = region({ launched: says('ready@1.0.0') });
  const image = at.image({});
  const launch = (tags: Record<string, string>) =>
    at.to(
      at.aws.runInstance({
        imageId: image.id,
        instanceType: 'm6i.large',
        subnetId: [...at.world.subnets.keys()][0] ?? '',
        securityGroupId: undefined,
        profile: undefined,
        userData: '',
        tags,
        token: crypto.randomUUID(),
      }),
    );
  const left = await launch({ 'eniboot:boot-test': image.id });
  const node = await launch({ 'eniboot:cluster': 'production' });
  at.scheduler.advance(2 * 3_600_000);
  const beside = await launch({ 'eniboot:boot-test': image.id });
  at.scheduler.advance(3_000_000);
  const told: string[] = [];
  await at.to(at.test(image.id, undefined, undefined, (line) => told.push(line)));
  const state = (id: string) => at.world.instances.get(id)?.state;
  assert.not.equal(state(left), 'running');
  assert.equal([state(node), state(beside)], ['running', 'running']);
  assert.match(told[0] ?? '', new RegExp(`^${left} of an earlier boot test .* is terminated`));
});

test('publish makes a candidate of type aws:ec2:image and waits until it can be read; a second publish changes nothing', async () => {
  const at = region();
  const image = at.image();
  const began = at.clock.bootMs();
  const done = await at.to(publishImage(at.aws, at.clock, image.id, ZONE));
  assert.equal(done, { parameter: NAME, version: 1, imageId: image.id });
  assert.is(at.ssm.parameters.get(NAME)?.[0]?.dataType, 'aws:ec2:image');
  assert.ok(at.clock.bootMs() - began >= 2_000, 'it waited for the confirmation');
  await at.to(publishImage(at.aws, at.clock, image.id, ZONE));
  assert.equal(at.values(), [image.id]);
  assert.equal(at.labels(), { candidate: image.id });
});

test('a lost answer of PutParameter is found again by the next publish', async () => {
  const at = region({ loses: 'PutParameter' });
  const image = at.image();
  await at.failing('SSM_FAILED', publishImage(at.aws, at.clock, image.id, ZONE), /PutParameter/);
  at.scheduler.advance(5_000);
  await at.to(publishImage(at.aws, at.clock, image.id, ZONE));
  assert.equal(at.values(), [image.id]);
});

test('publish refuses an image that EC2 does not confirm, one that does not exist, and one that is untested', async () => {
  const at = region({ unconfirmed: true });
  await at.failing(
    'IMAGE_NOT_CONFIRMED',
    publishImage(at.aws, at.clock, at.image().id, ZONE),
    /has not confirmed ami-/,
  );
  await at.failing(
    'IMAGE_UNKNOWN',
    publishImage(at.aws, at.clock, 'ami-0123456789abcdef0', ZONE),
    /sees no image/,
  );
  await at.failing('IMAGE_UNTESTED', publishImage(at.aws, at.clock, at.image({}).id, ZONE), /was never run/);
  assert.equal(at.values(), []);
});

test('promote and roll back move labels, and never change a value', async () => {
  const at = region();
  const [first, second] = [at.image(), at.image()];
  for (const image of [first, second]) {
    await at.to(publishImage(at.aws, at.clock, image.id, ZONE));
    await at.to(promoteImage(at.aws, image.id, ZONE));
  }
  assert.equal(at.labels(), { candidate: second.id, stable: second.id, previous: first.id });
  await at.to(promoteImage(at.aws, second.id, ZONE));
  assert.equal(
    at.labels(),
    { candidate: second.id, stable: second.id, previous: first.id },
    'a second promote changes nothing',
  );
  await at.to(rollBackImage(at.aws, 'x86_64', ZONE));
  assert.is(at.labels()['stable'], first.id);
  await at.to(rollBackImage(at.aws, 'x86_64', ZONE));
  assert.is(at.labels()['stable'], first.id, 'never to the image it came from');
  assert.equal(at.values(), [first.id, second.id]);
  const soon = new Date(at.clock.bootMs() + 86_400_000);
  await at.failing('IMAGE_IN_USE', deprecateImage(at.aws, first.id, soon), /stable or previous in/);
  await at.to(deprecateImage(at.aws, second.id, soon));
  assert.is(second.deprecateAt, soon.toISOString());
  const listed = await at.to(listImages(at.aws));
  assert.equal(
    listed.map(({ imageId, zones }) => [imageId, ...zones.flatMap(({ labels }) => labels)]),
    [
      [first.id, 'previous', 'stable'],
      [second.id, 'candidate'],
    ],
  );
});

test('promote refuses another candidate; roll back refuses an image that was deregistered, or never existed', async () => {
  const at = region();
  const [first, second] = [at.image(), at.image()];
  await at.to(publishImage(at.aws, at.clock, first.id, ZONE));
  await at.failing(
    'IMAGE_LABEL_MOVED',
    promoteImage(at.aws, second.id, ZONE),
    /candidate of \S+ is ami-\w+, not/,
  );
  await at.failing(
    'IMAGE_UNKNOWN',
    rollBackImage(at.aws, 'x86_64', ZONE),
    /no version with the label previous/,
  );
  await at.to(promoteImage(at.aws, first.id, ZONE));
  await at.to(publishImage(at.aws, at.clock, second.id, ZONE));
  await at.to(promoteImage(at.aws, second.id, ZONE));
  at.world.images.delete(first.id);
  await at.failing('IMAGE_UNKNOWN', rollBackImage(at.aws, 'x86_64', ZONE), /sees no image/);
  assert.is(at.labels()['stable'], second.id);
});

test('roll back goes to the image that a zone launched before, with any result of a later test', async () => {
  const at = region();
  const [first, second] = [at.image(), at.image()];
  for (const image of [first, second]) {
    await at.to(publishImage(at.aws, at.clock, image.id, ZONE));
    await at.to(promoteImage(at.aws, image.id, ZONE));
  }
  first.tags.set('eniboot:boot-test', 'failed:NO_POD_ENI@2026');
  await at.to(rollBackImage(at.aws, 'x86_64', ZONE));
  assert.is(at.labels()['stable'], first.id);
  await at.to(promoteImage(at.aws, second.id, ZONE));
  first.state = 'disabled';
  await at.failing('IMAGE_UNKNOWN', rollBackImage(at.aws, 'x86_64', ZONE), /is disabled/);
  assert.is(at.labels()['stable'], second.id);
});

test('the list names images that zones launch although they are gone, and images that another account shares', async () => {
  const at = region();
  const [gone, shared] = [at.image(), at.image()];
  for (const [image, zone] of [
    [gone, ZONE],
    [shared, 'euw1-az2'],
  ] as const) {
    await at.to(publishImage(at.aws, at.clock, image.id, zone));
    await at.to(promoteImage(at.aws, image.id, zone));
  }
  at.world.images.delete(gone.id);
  shared.ownerId = '210987654321';
  const listed = await at.to(listImages(at.aws));
  assert.equal(
    listed.map(({ imageId, arch, state, zones }) => [
      imageId,
      arch,
      state,
      zones.map(({ zoneId }) => zoneId),
    ]),
    [
      [gone.id, 'x86_64', 'gone', [ZONE]],
      [shared.id, 'x86_64', 'available', ['euw1-az2']],
    ],
  );
});

test('a label that another operator moves at the same moment is noticed', async () => {
  let meddle = false;
  const at = region({
    after: (action) => {
      if (!meddle || action !== 'LabelParameterVersion') return;
      at.ssm.send('LabelParameterVersion', { Name: NAME, ParameterVersion: 1, Labels: ['stable'] });
    },
  });
  const [first, second] = [at.image(), at.image()];
  await at.to(publishImage(at.aws, at.clock, first.id, ZONE));
  await at.to(publishImage(at.aws, at.clock, second.id, ZONE));
  meddle = true;
  await at.failing('IMAGE_LABEL_MOVED', promoteImage(at.aws, second.id, ZONE), /stable of \S+ is version 1/);
});

test('labels move on before their version becomes the oldest of 100', async () => {
  const at = region();
  const [old, young] = [at.image(), at.image()];
  await at.to(publishImage(at.aws, at.clock, old.id, ZONE));
  await at.to(promoteImage(at.aws, old.id, ZONE));
  for (let round = 0; round < 60; round++)
    for (const image of [young, old]) await at.to(publishImage(at.aws, at.clock, image.id, ZONE));
  assert.is(at.values().length, 100);
  assert.is(at.labels()['stable'], old.id);
});

test('a label of a deregistered image does not prevent a publish before the parameter is full', async () => {
  const at = region();
  const [gone, other, young] = [at.image(), at.image(), at.image()];
  await at.to(publishImage(at.aws, at.clock, gone.id, ZONE));
  await at.to(promoteImage(at.aws, gone.id, ZONE));
  for (let count = 0; count < 95; count++) {
    at.ssm.send('PutParameter', { Name: NAME, Value: other.id, DataType: 'aws:ec2:image', Overwrite: true });
    at.scheduler.advance(5_000);
  }
  at.world.images.delete(gone.id);
  const began = at.clock.bootMs();
  await at.to(publishImage(at.aws, at.clock, young.id, ZONE));
  assert.is(at.labels()['candidate'], young.id);
  assert.ok(at.clock.bootMs() - began < 30_000, 'it does not wait for an image that can never be confirmed');
});

test('a parameter that other programs have filled is refused with a remedy', async () => {
  const at = region();
  const [old, young] = [at.image(), at.image()];
  await at.to(publishImage(at.aws, at.clock, old.id, ZONE));
  for (let count = 0; count < 99; count++) {
    at.ssm.send('PutParameter', { Name: NAME, Value: old.id, DataType: 'aws:ec2:image', Overwrite: true });
    at.scheduler.advance(5_000);
  }
  await at.failing(
    'IMAGE_VERSION_LIMIT',
    publishImage(at.aws, at.clock, young.id, ZONE),
    /oldest one has a label/,
  );
  assert.is(at.labels()['candidate'], old.id);
});

test.run();
