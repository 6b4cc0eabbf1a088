// The simulated AWS refuses every request that AWS refuses, and the run of a test that sends one fails.
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createCloudWatch } from './cloudwatch/cloudwatch.ts';
import type { ServiceName } from './fetch.ts';
import { AwsError, createEc2, virtualScheduler } from './index.ts';
import { documentedRules } from './requests/documented.ts';
import { takeRefused } from './requests/refused.ts';
import { createSsm } from './ssm/ssm.ts';

const scheduler = virtualScheduler();
const plenty = () => ({ capacity: 10_000, refill: 10_000 });
const ec2 = createEc2({
  scheduler,
  subnets: [{ cidr: '10.0.0.0/24', zone: 'eu-west-1a' }],
  bucketOf: plenty,
});
const ssm = createSsm({
  scheduler,
  calls: [],
  denied: new Set(),
  arnPrefix: 'arn:aws:ssm:eu-west-1:123456789012',
  accountId: '123456789012',
  tagsOf: () => undefined,
  imageExists: () => true,
  isInAlarm: () => false,
  bucketOf: plenty,
});
const cloudwatch = createCloudWatch({ scheduler, calls: [], denied: new Set(), bucketOf: plenty });
const senders = { ec2, ssm, cloudwatch };
const SubnetId = [...ec2.world.subnets.keys()][0];
const instance = 'i-01234567890abcdef';
const tags = (Tags: object[]) => ({ Resources: [SubnetId], Tags });
const filter = (count: number) => ({ Name: 'vpc-id', Values: Array.from({ length: count }, () => 'vpc-1') });
const command = { DocumentName: 'AWS-RunShellScript', InstanceIds: [instance] };
const launch = { ImageId: 'ami-01234567', MinCount: 1, MaxCount: 1, SubnetId };

/** Refused by AWS's model: problem, action, request, code. */
const byModel: [ServiceName, string, string, object, string][] = [
  ['ec2', 'an unknown parameter', 'DescribeSubnets', { SubnetIdd: ['x'] }, 'UnknownParameter'],
  ['ec2', 'an unknown one deep inside', 'CreateTags', tags([{ key: 'a' }]), 'UnknownParameter'],
  ['ec2', 'a required one left out', 'CreateTags', { Tags: [] }, 'MissingParameter'],
  ['ec2', 'text for a number', 'DescribeSubnets', { MaxResults: '5' }, 'InvalidParameterValue'],
  ['ec2', 'one value for a list', 'DescribeSubnets', { SubnetIds: 'x' }, 'InvalidParameterValue'],
  ['ec2', 'a value for a structure', 'CreateTags', tags(['a' as never]), 'InvalidParameterValue'],
  ['ec2', 'a number too small', 'DescribeNetworkInterfaces', { MaxResults: 4 }, 'InvalidParameterValue'],
  ['ec2', 'a number too large', 'DescribeNetworkInterfaces', { MaxResults: 1001 }, 'InvalidParameterValue'],
  [
    'ec2',
    'a value that is none of an enumeration',
    'RunInstances',
    { ...launch, MetadataOptions: { HttpTokens: 'always' } },
    'InvalidParameterValue',
  ],
  [
    'ec2',
    'a text too long',
    'CreateImage',
    { InstanceId: instance, Name: 'abc', Description: 'x'.repeat(256) },
    'InvalidParameterValue',
  ],
  ['ssm', 'an unknown parameter', 'GetParameter', { Nam: '/x' }, 'ValidationException'],
  ['ssm', 'a required one left out', 'SendCommand', {}, 'ValidationException'],
  ['ssm', 'a number for a text', 'GetParameter', { Name: 7 }, 'SerializationException'],
  ['ssm', 'a fraction', 'SendCommand', { ...command, TimeoutSeconds: 60.5 }, 'SerializationException'],
  ['ssm', 'too short a time', 'SendCommand', { ...command, TimeoutSeconds: 10 }, 'ValidationException'],
  ['ssm', 'a long comment', 'SendCommand', { ...command, Comment: 'c'.repeat(101) }, 'ValidationException'],
  [
    'ssm',
    'a malformed instance ID',
    'SendCommand',
    { ...command, InstanceIds: ['i-1'] },
    'ValidationException',
  ],
  [
    'ssm',
    'too many instances',
    'SendCommand',
    { ...command, InstanceIds: Array.from({ length: 51 }, (_, at) => `i-${String(at).padStart(17, '0')}`) },
    'ValidationException',
  ],
  [
    'ssm',
    'too many values of a target',
    'SendCommand',
    { ...command, InstanceIds: [], Targets: [{ Key: 'InstanceIds', Values: Array(51).fill(instance) }] },
    'ValidationException',
  ],
  ['ssm', 'a share of zero nodes', 'SendCommand', { ...command, MaxConcurrency: '0' }, 'ValidationException'],
  ['ssm', 'too many names', 'GetParameters', { Names: Array(11).fill('/x') }, 'ValidationException'],
  ['ssm', 'too large a page', 'GetParametersByPath', { Path: '/', MaxResults: 11 }, 'ValidationException'],
  [
    'ssm',
    'a document name of forbidden characters',
    'CreateDocument',
    { Name: 'a b', Content: 'x' },
    'ValidationException',
  ],
  [
    'ssm',
    'an empty list of labels',
    'LabelParameterVersion',
    { Name: '/x', Labels: [] },
    'ValidationException',
  ],
  [
    'cloudwatch',
    'more than 100 names',
    'DescribeAlarms',
    { AlarmNames: Array.from({ length: 101 }, (_, at) => `alarm-${at}`) },
    'ValidationError',
  ],
  ['cloudwatch', 'too large a page', 'DescribeAlarmHistory', { MaxRecords: 101 }, 'ValidationError'],
  ['cloudwatch', 'another kind of alarm', 'DescribeAlarms', { AlarmTypes: ['Metric'] }, 'ValidationError'],
];

/** Refused by a rule of AWS's documentation: at least one request for each rule. */
const byRule: typeof byModel = [
  ['ec2', 'a tag key too long', 'CreateTags', tags([{ Key: 'k'.repeat(128) }]), 'InvalidParameterValue'],
  [
    'ec2',
    'a tag value too long',
    'CreateTags',
    tags([{ Key: 'k', Value: 'v'.repeat(257) }]),
    'InvalidParameterValue',
  ],
  ['ec2', 'a reserved tag key', 'CreateTags', tags([{ Key: 'AWS:x' }]), 'InvalidParameterValue'],
  ['ec2', 'a tag key twice', 'CreateTags', tags([{ Key: 'k' }, { Key: 'k' }]), 'InvalidParameterValue'],
  [
    'ec2',
    'too many tags',
    'CreateTags',
    tags(Array.from({ length: 51 }, (_, at) => ({ Key: `k${at}` }))),
    'TagLimitExceeded',
  ],
  [
    'ec2',
    'tags of a new ENI',
    'CreateNetworkInterface',
    { SubnetId, TagSpecifications: [{ ResourceType: 'network-interface', Tags: [{ Key: '' }] }] },
    'InvalidParameterValue',
  ],
  [
    'ec2',
    'too many resources',
    'CreateTags',
    { Resources: Array(1001).fill(SubnetId), Tags: [{ Key: 'k' }] },
    'InvalidParameterValue',
  ],
  [
    'ec2',
    'a client token too long',
    'CreateNetworkInterface',
    { SubnetId, ClientToken: 't'.repeat(65) },
    'InvalidParameterValue',
  ],
  [
    'ec2',
    'too many filters',
    'DescribeSubnets',
    { Filters: Array(51).fill(filter(1)) },
    'FilterLimitExceeded',
  ],
  ['ec2', 'too many values of filters', 'DescribeSubnets', { Filters: [filter(201)] }, 'FilterLimitExceeded'],
  ['ec2', 'too small a page', 'DescribeTags', { MaxResults: 4 }, 'InvalidParameterValue'],
  [
    'ec2',
    'pages of IDs',
    'DescribeInstances',
    { InstanceIds: [instance], MaxResults: 5 },
    'InvalidParameterCombination',
  ],
  [
    'ec2',
    'a forbidden character in an image name',
    'CreateImage',
    { InstanceId: instance, Name: 'a:b' },
    'InvalidAMIName.Malformed',
  ],
  [
    'ec2',
    'a group name',
    'CreateSecurityGroup',
    { GroupName: 'sg-1', Description: 'd', VpcId: 'vpc-1' },
    'InvalidParameterValue',
  ],
  ['ec2', 'plain user data', 'RunInstances', { ...launch, UserData: '#!' }, 'InvalidUserData.Malformed'],
  [
    'ec2',
    'too much user data',
    'RunInstances',
    { ...launch, UserData: Buffer.alloc(16_385).toString('base64') },
    'InvalidUserData.Malformed',
  ],
  [
    'ec2',
    'a date that has passed',
    'EnableImageDeprecation',
    { ImageId: 'ami-01234567', DeprecateAt: new Date(0) },
    'InvalidParameterValue',
  ],
  [
    'ssm',
    'a parameter name of forbidden characters',
    'PutParameter',
    { Name: '/a b', Value: 'x' },
    'ValidationException',
  ],
  ['ssm', 'a reserved parameter name', 'PutParameter', { Name: '/SSM/x', Value: 'x' }, 'ValidationException'],
  [
    'ssm',
    'a name that is not fully qualified',
    'PutParameter',
    { Name: 'a/b', Value: 'x' },
    'ValidationException',
  ],
  ['ssm', 'too deep a name', 'PutParameter', { Name: '/a'.repeat(16), Value: 'x' }, 'ValidationException'],
  [
    'ssm',
    'too long a name',
    'PutParameter',
    { Name: `/${'a'.repeat(1000)}`, Value: 'x' },
    'ValidationException',
  ],
  [
    'ssm',
    'a reserved document name',
    'CreateDocument',
    { Name: 'amazon-x', Content: 'x' },
    'InvalidDocument',
  ],
  [
    'ssm',
    'an instance twice',
    'SendCommand',
    { ...command, InstanceIds: [instance, instance] },
    'DuplicateInstanceId',
  ],
  [
    'ssm',
    'neither IDs nor targets',
    'SendCommand',
    { DocumentName: 'AWS-RunShellScript' },
    'ValidationException',
  ],
];

for (const [service, what, action, request, code] of [...byModel, ...byRule])
  test(`${service} ${action}: ${what}`, () => {
    let thrown: unknown;
    try {
      senders[service].send(action, request);
    } catch (error) {
      thrown = error;
    }
    assert.instance(thrown, AwsError, 'refused');
    const refused = takeRefused();
    assert.equal(
      refused.map((one) => [one.service, one.action, one.error.code]),
      [[service, action, code]],
      (thrown as AwsError).message,
    );
  });

test('every rule of the documentation refuses something above, and has a source', () => {
  const seen = new Set<object>();
  for (const [service, , action, request] of byRule) {
    const rule = documentedRules.find(
      (one) =>
        one.service === service && one.problem(request as never, action, scheduler.now()) !== undefined,
    );
    assert.ok(rule !== undefined, action);
    seen.add(rule);
  }
  assert.is(seen.size, documentedRules.length);
  for (const { source } of documentedRules) assert.match(source, /^https:\/\/docs\.aws\.amazon\.com\//);
});

test('well-formed requests pass, also with members that have no value', () => {
  ec2.send('DescribeSubnets', { SubnetIds: undefined, Filters: [{ Name: 'vpc-id', Values: ['vpc-1'] }] });
  ec2.send('CreateTags', tags([{ Key: 'k'.repeat(127), Value: '' }]));
  ec2.send('DescribeInstanceTypes', { InstanceTypes: ['m5.xlarge'] });
  ssm.send('PutParameter', { Name: '/eniboot/x', Value: 'x', Type: 'String' });
  assert.equal(takeRefused(), []);
});

test('a run that sends a malformed request fails, and names the request', () => {
  const program = `
    import { createEc2 } from '${join(import.meta.dirname, 'index.ts')}';
    try { createEc2().send('DescribeSubnets', { SubnetIdd: [] }); } catch {}`;
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  assert.is(status, 1);
  assert.match(
    stderr,
    'a request that AWS refuses: ec2 DescribeSubnets: UnknownParameter: The parameter SubnetIdd',
  );
});

test('without the models no request is carried out, unless the checks are switched off', () => {
  const program = `
    import { createEc2 } from '${join(import.meta.dirname, 'index.ts')}';
    createEc2().send('DescribeSubnets', {});`;
  const env = { ...process.env, XDG_CACHE_HOME: '/nonexistent' };
  const args = ['--input-type=module', '-e', program];
  assert.throws(
    () => execFileSync(process.execPath, args, { env, stdio: 'pipe' }),
    /node test\/aws\/fetch\.ts/,
  );
  execFileSync(process.execPath, args, { env: { ...env, ENIBOOT_REQUESTS_UNCHECKED: '1' } });
});

test('a check costs less than 0.5 ms: a fleet of thousands is simulated', () => {
  const started = performance.now();
  const calls = 5_000;
  for (let at = 0; at < calls; at += 1)
    ec2.send('DescribeSubnets', { Filters: [{ Name: 'vpc-id', Values: ['vpc-1'] }] });
  const each = (performance.now() - started) / calls;
  assert.ok(each < 0.5, `${each} ms for each call`);
});

test.run();
