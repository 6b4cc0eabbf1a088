import {
  CloudWatchClient,
  DescribeAlarmHistoryCommand,
  DescribeAlarmsCommand,
} from '@aws-sdk/client-cloudwatch';
import {
  AttachNetworkInterfaceCommand,
  CreateNetworkInterfaceCommand,
  DescribeInstancesCommand,
  DescribeInstanceTypesCommand,
  DescribeNetworkInterfacesCommand,
  DescribeSubnetsCommand,
  EC2Client,
  type EC2ClientConfig,
  ModifyNetworkInterfaceAttributeCommand,
  paginateDescribeNetworkInterfaces,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import {
  GetParameterCommand,
  GetParametersCommand,
  PutParameterCommand,
  SSMClient,
} from '@aws-sdk/client-ssm';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { startCloud } from './index.ts';
import { takeRefused } from './requests/refused.ts';

const cloud = await startCloud();
const pods = [...cloud.subnets.values()].find((subnet) => subnet.tags.get('eniboot') === 'pods');
const SubnetId = pods?.id;

function client(more: EC2ClientConfig = {}): EC2Client {
  return new EC2Client({
    region: cloud.region,
    endpoint: cloud.endpoints.ec2,
    credentials: cloud.operator,
    maxAttempts: 1,
    requestHandler: { requestTimeout: 300, throwOnRequestTimeout: true },
    ...more,
  });
}

async function nameOf(promise: Promise<unknown>): Promise<string> {
  try {
    await promise;
  } catch (error) {
    return error instanceof Error ? error.name : String(error);
  }
  return 'none';
}

test.before.each(() => {
  cloud.faults.clear();
});
test.after(() => cloud.stop());

test('the SDK reads an instance and its interfaces in full', async () => {
  const node = await cloud.launch({
    podEnis: [{ prefixes: 2, tags: { 'a&b': '<c> "d"' } }],
    tags: { role: 'node' },
  });
  const found = await client().send(new DescribeInstancesCommand({ InstanceIds: [node.id] }));
  const instance = found.Reservations?.[0]?.Instances?.[0];
  assert.is(instance?.State?.Name, 'running');
  assert.is(instance?.State?.Code, 16);
  assert.ok(instance?.LaunchTime instanceof Date);
  assert.is(instance?.PublicIpAddress, node.bootEni.publicIp);
  assert.is(instance?.MetadataOptions?.HttpPutResponseHopLimit, 1);
  assert.equal(instance?.Tags, [
    { Key: 'Name', Value: 'node' },
    { Key: 'role', Value: 'node' },
  ]);
  assert.is(instance?.NetworkInterfaces?.length, 2);
  const podEni = node.enis[1];
  const mine = await client().send(
    new DescribeNetworkInterfacesCommand({ NetworkInterfaceIds: [podEni?.id ?? ''] }),
  );
  const eni = mine.NetworkInterfaces?.[0];
  assert.equal(eni?.TagSet, [{ Key: 'a&b', Value: '<c> "d"' }]);
  assert.is(eni?.Ipv4Prefixes?.length, 2);
  assert.is(eni?.Attachment?.DeviceIndex, 1);
  assert.is(eni?.Attachment?.DeleteOnTermination, true);
  assert.is(eni?.SourceDestCheck, true);
  await node.terminate();
});

test('create, attach and mark for deletion through the SDK', async () => {
  const node = await cloud.launch();
  const ec2 = client();
  const made = await ec2.send(
    new CreateNetworkInterfaceCommand({ SubnetId, Ipv4PrefixCount: 1, Description: 'pods' }),
  );
  const NetworkInterfaceId = made.NetworkInterface?.NetworkInterfaceId ?? '';
  const attached = await ec2.send(
    new AttachNetworkInterfaceCommand({ NetworkInterfaceId, InstanceId: node.id, DeviceIndex: 1 }),
  );
  await ec2.send(
    new ModifyNetworkInterfaceAttributeCommand({
      NetworkInterfaceId,
      Attachment: { AttachmentId: attached.AttachmentId, DeleteOnTermination: true },
    }),
  );
  const instance = cloud.enis.get(NetworkInterfaceId)?.attachment;
  assert.is(instance?.deleteOnTermination, true);
  await ec2.send(new TerminateInstancesCommand({ InstanceIds: [node.id] }));
  while (node.record.state !== 'terminated') await new Promise((done) => setTimeout(done, 5));
  assert.equal(cloud.leakReport(), []);
});

test('subnets and instance types are described, page by page', async () => {
  const ec2 = client();
  const subnets = await ec2.send(
    new DescribeSubnetsCommand({
      Filters: [
        { Name: 'tag:eniboot', Values: ['pods'] },
        { Name: 'availability-zone', Values: ['eu-west-1a'] },
      ],
    }),
  );
  assert.equal(
    subnets.Subnets?.map((one) => [one.CidrBlock, one.AvailabilityZoneId]),
    [['10.0.64.0/20', 'euw1-az1']],
  );
  const types = await ec2.send(new DescribeInstanceTypesCommand({ InstanceTypes: ['m5.xlarge'] }));
  assert.is(types.InstanceTypes?.[0]?.NetworkInfo?.MaximumNetworkInterfaces, 4);
  assert.is(types.InstanceTypes?.[0]?.NetworkInfo?.Ipv4AddressesPerInterface, 15);
  const made = await Promise.all(
    Array.from({ length: 7 }, () => ec2.send(new CreateNetworkInterfaceCommand({ SubnetId }))),
  );
  await new Promise((done) => setTimeout(done, 30));
  const seen: string[] = [];
  for await (const page of paginateDescribeNetworkInterfaces({ client: ec2, pageSize: 5 }, {}))
    seen.push(...(page.NetworkInterfaces ?? []).map((eni) => eni.NetworkInterfaceId ?? ''));
  for (const one of made) assert.ok(seen.includes(one.NetworkInterface?.NetworkInterfaceId ?? ''));
  assert.is(cloud.leakReport().length, 7);
  for (const leak of cloud.leakReport())
    cloud.ec2.send('DeleteNetworkInterface', { NetworkInterfaceId: leak.id });
});

test('a wrong key, a wrong secret, a wrong clock and no signature are refused', async () => {
  const look = (ec2: EC2Client): Promise<unknown> => ec2.send(new DescribeSubnetsCommand({}));
  assert.is(
    await nameOf(look(client({ credentials: { accessKeyId: 'AKIANOBODY', secretAccessKey: 'x' } }))),
    'AuthFailure',
  );
  assert.is(
    await nameOf(look(client({ credentials: { ...cloud.operator, secretAccessKey: 'wrong' } }))),
    'SignatureDoesNotMatch',
  );
  assert.is(await nameOf(look(client({ systemClockOffset: -3_600_000 }))), 'RequestExpired');
  assert.is(await nameOf(look(client({ region: 'us-east-1' }))), 'SignatureDoesNotMatch');
  const unsigned = await fetch(cloud.endpoints.ec2, {
    method: 'POST',
    body: 'Action=DescribeSubnets&Version=2016-11-15',
  });
  assert.is(unsigned.status, 403);
  assert.match(await unsigned.text(), 'MissingAuthenticationToken');
});

test('an unknown parameter is refused, not ignored', async () => {
  const ec2 = client();
  ec2.middlewareStack.add(
    (next) => (args) => {
      const request = args.request as { body: string; headers: Record<string, string> };
      request.body += '&SubnetIdd=x';
      request.headers['content-length'] = String(request.body.length);
      return next(args);
    },
    { step: 'build', priority: 'low' },
  );
  assert.is(await nameOf(ec2.send(new DescribeSubnetsCommand({}))), 'UnknownParameter');
  assert.equal(
    takeRefused().map(({ action, error }) => [action, error.code]),
    [['DescribeSubnets', 'UnknownParameter']],
  );
  // A fault does not hide a malformed request: the request is checked first, also where the fault strikes before the call.
  for (const fault of [{ error: 'InternalError' }, { unanswered: true }, { close: true }]) {
    cloud.faults.ec2.add({ action: 'DescribeSubnets', ...fault, times: 1 });
    assert.is(await nameOf(ec2.send(new DescribeSubnetsCommand({}))), 'UnknownParameter');
    assert.is(takeRefused().length, 1, JSON.stringify(fault));
    cloud.faults.ec2.clear();
  }
  const ssm = new SSMClient({
    ...{ region: cloud.region, endpoint: cloud.endpoints.ssm, credentials: cloud.operator, maxAttempts: 1 },
  });
  cloud.faults.ssm.add({ action: 'GetParameter', error: 'InternalServerError', times: 1 });
  assert.is(
    await nameOf(ssm.send(new GetParameterCommand({ Name: 'n'.repeat(2049) }))),
    'ValidationException',
  );
  assert.is(takeRefused().length, 1);
});

test('a request can be refused, delayed, ignored or cut off before anything happens', async () => {
  const create = (): Promise<unknown> => client().send(new CreateNetworkInterfaceCommand({ SubnetId }));
  const before = cloud.enis.size;
  const rule = cloud.faults.ec2.add({ action: 'CreateNetworkInterface', error: 'InternalError', times: 1 });
  assert.is(await nameOf(create()), 'InternalError');
  assert.is(rule.hits, 1);
  cloud.faults.ec2.add({ action: '*', unanswered: true, times: 1 });
  assert.is(await nameOf(create()), 'TimeoutError');
  cloud.faults.ec2.add({ action: '*', close: true, times: 1 });
  assert.is.not(await nameOf(create()), 'none');
  cloud.faults.denied.add('CreateNetworkInterface');
  assert.is(await nameOf(create()), 'UnauthorizedOperation');
  assert.is(
    await nameOf(client().send(new CreateNetworkInterfaceCommand({ SubnetId, DryRun: true }))),
    'UnauthorizedOperation',
  );
  cloud.faults.clear();
  assert.is(
    await nameOf(client().send(new CreateNetworkInterfaceCommand({ SubnetId, DryRun: true }))),
    'DryRunOperation',
  );
  assert.is(cloud.enis.size, before);
});

test('a call whose response is lost was carried out, and its client token finds the result', async () => {
  const request = { SubnetId, ClientToken: 'boot-1', Ipv4PrefixCount: 1 };
  for (const lost of ['close', 'hang'] as const) {
    cloud.faults.ec2.add({ action: 'CreateNetworkInterface', lost, times: 1 });
    assert.is.not(
      await nameOf(client().send(new CreateNetworkInterfaceCommand({ ...request, ClientToken: lost }))),
      'none',
    );
    const before = cloud.enis.size;
    const again = await client().send(new CreateNetworkInterfaceCommand({ ...request, ClientToken: lost }));
    assert.is(cloud.enis.size, before);
    cloud.ec2.send('DeleteNetworkInterface', {
      NetworkInterfaceId: again.NetworkInterface?.NetworkInterfaceId,
    });
  }
});

test('a fault can change an answer', async () => {
  cloud.faults.ec2.add({ action: 'DescribeSubnets', edit: () => ({ Subnets: [] }), times: 1 });
  const lie = await client().send(new DescribeSubnetsCommand({}));
  assert.equal(lie.Subnets ?? [], []);
  const truth = await client().send(new DescribeSubnetsCommand({}));
  assert.is(truth.Subnets?.length, 4);
});

test("an instance's own credentials work, and its calls carry its name", async () => {
  const node = await cloud.launch();
  const script = `
    T=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token)
    curl -sf -H "X-aws-ec2-metadata-token: $T" http://169.254.169.254/latest/meta-data/iam/security-credentials/eniboot-node`;
  const pair = JSON.parse((await node.run('sh', ['-c', script])).stdout) as {
    AccessKeyId: string;
    SecretAccessKey: string;
    Token: string;
  };
  const credentials = {
    accessKeyId: pair.AccessKeyId,
    secretAccessKey: pair.SecretAccessKey,
    sessionToken: pair.Token,
  };
  await client({ credentials }).send(new DescribeSubnetsCommand({}));
  assert.is(cloud.calls.at(-1)?.instanceId, node.id);
  const stale = { ...credentials, sessionToken: 'old' };
  assert.is(await nameOf(client({ credentials: stale }).send(new DescribeSubnetsCommand({}))), 'AuthFailure');
  await node.terminate();
});

test('parameters have versions and labels', async () => {
  const ssm = new SSMClient({
    region: cloud.region,
    endpoint: cloud.endpoints.ssm,
    credentials: cloud.operator,
    maxAttempts: 1,
  });
  const first = await ssm.send(new PutParameterCommand({ Name: '/eniboot/x', Value: 'one', Type: 'String' }));
  assert.is(first.Version, 1);
  assert.is(
    await nameOf(ssm.send(new PutParameterCommand({ Name: '/eniboot/x', Value: 'two', Type: 'String' }))),
    'ParameterAlreadyExists',
  );
  assert.is(cloud.ssm.put('/eniboot/x', 'two'), 2);
  cloud.ssm.send('LabelParameterVersion', { Name: '/eniboot/x', ParameterVersion: 1, Labels: ['stable'] });
  const values = await Promise.all(
    ['/eniboot/x', '/eniboot/x:1', '/eniboot/x:stable'].map(
      async (Name) => (await ssm.send(new GetParameterCommand({ Name }))).Parameter?.Value,
    ),
  );
  assert.equal(values, ['two', 'one', 'one']);
  const several = await ssm.send(new GetParametersCommand({ Names: ['/eniboot/x', '/eniboot/y'] }));
  assert.equal(several.InvalidParameters, ['/eniboot/y']);
  assert.ok(several.Parameters?.[0]?.LastModifiedDate instanceof Date);
  assert.is(await nameOf(ssm.send(new GetParameterCommand({ Name: '/eniboot/y' }))), 'ParameterNotFound');
});

test('alarms are told over the wire, with times, pages and errors as AWS writes them', async () => {
  const cloudwatch = new CloudWatchClient({
    region: cloud.region,
    endpoint: cloud.endpoints.ec2,
    credentials: cloud.operator,
    maxAttempts: 1,
  });
  cloud.cloudwatch.set('errors', 'OK');
  cloud.cloudwatch.set('errors', 'ALARM', 'Threshold "Crossed"');
  const alarms = () => cloudwatch.send(new DescribeAlarmsCommand({ AlarmNames: ['errors', 'none'] }));
  const [alarm] = (await alarms()).MetricAlarms ?? [];
  assert.equal([alarm?.StateValue, alarm?.StateReason], ['ALARM', 'Threshold "Crossed"']);
  const sinceMs = Date.now() - (alarm?.StateTransitionedTimestamp?.getTime() ?? 0);
  assert.ok(sinceMs >= 0 && sinceMs < 60_000, String(sinceMs));
  const history = (more: object) =>
    cloudwatch.send(
      new DescribeAlarmHistoryCommand({ AlarmName: 'errors', HistoryItemType: 'StateUpdate', ...more }),
    );
  assert.is((await history({ StartDate: new Date(Date.now() - 60_000) })).AlarmHistoryItems?.length, 2);
  const page = await history({ MaxRecords: 1, ScanBy: 'TimestampAscending' });
  assert.is((await history({ MaxRecords: 1, NextToken: page.NextToken })).AlarmHistoryItems?.length, 1);
  assert.is(await nameOf(cloudwatch.send(new DescribeAlarmsCommand({ NextToken: 'x' }))), 'InvalidNextToken');
  cloud.faults.cloudwatch.add({ action: 'DescribeAlarms', error: 'Throttling', times: 1 });
  assert.is(await nameOf(alarms()), 'Throttling');
  cloud.faults.denied.add('DescribeAlarms');
  assert.is(await nameOf(alarms()), 'AccessDenied');
});

test.run();
