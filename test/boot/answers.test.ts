// Which answers of EC2 are tried again. Tested through the SDK over HTTP, because the SDK names the error.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createEc2 } from '../../agent/aws/ec2-sdk.ts';
import type { Imds } from '../../agent/aws/imds.ts';
import type { Failure } from '../../agent/messages/failure.ts';

let answer = { status: 200, body: '' };
const server = createServer((request, response) => {
  request.resume();
  response.writeHead(answer.status);
  response.end(answer.body);
});
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));

const imds: Imds = {
  requests: 0,
  readBytes: async () => undefined,
  read: async (path) =>
    path.endsWith('/')
      ? 'role'
      : JSON.stringify({
          AccessKeyId: 'AKID',
          SecretAccessKey: 'key',
          Token: 'token',
          Expiration: new Date(Date.now() + 3_600_000).toISOString(),
        }),
};
const ec2 = await createEc2({
  region: 'eu-west-1',
  endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
  imds,
});

async function failure(status: number, body: string): Promise<Failure> {
  answer = { status, body };
  try {
    await ec2.describeAttachedEnis('i-0123456789abcdef0');
  } catch (error) {
    return error as Failure;
  }
  throw new Error(`${status} was taken for an answer`);
}

function enis(items: string): string {
  return `<DescribeNetworkInterfacesResponse><networkInterfaceSet>${items}</networkInterfaceSet></DescribeNetworkInterfacesResponse>`;
}

function error(code: string): string {
  return `<Response><Errors><Error><Code>${code}</Code><Message>words</Message></Error></Errors></Response>`;
}

for (const code of [
  'RequestLimitExceeded',
  'EC2ThrottledException',
  'RequestThrottled',
  'RequestThrottledException',
  'TooManyRequestsException',
  'SlowDown',
  'BandwidthLimitExceeded',
  'PriorRequestNotComplete',
]) {
  test(`${code}: throttled`, async () => assert.is((await failure(400, error(code))).code, 'EC2_THROTTLED'));
}

test('status 429 means throttled, with any body', async () => {
  assert.is((await failure(429, error('Odd'))).code, 'EC2_THROTTLED');
  assert.is((await failure(429, '<html>slow down</html>')).code, 'EC2_THROTTLED');
});

test('an error code of AWS that is not transient means refused', async () => {
  const refused = await failure(400, error('InvalidParameterValue'));
  assert.is(refused.code, 'EC2_REFUSED');
  assert.is(refused.facts['ec2Code'], 'InvalidParameterValue');
});

for (const [status, body] of [
  [403, '<html><body>the proxy says no</body></html>'],
  [403, 'the proxy says no'],
  [403, ''],
  [404, '<html></html>'],
  [408, error('RequestTimeoutException')],
  [302, ''],
  [200, 'half an answ<'],
  [200, ''],
  [200, '<html><body>log in first</body></html>'],
  [200, '<DescribeInstancesResponse></DescribeInstancesResponse>'],
  [200, enis('<item><attachment><attachTime>soon</attachTime></attachment></item>')],
  [200, `${enis('').slice(0, 80)}`],
  [200, enis('<a>'.repeat(100_000))],
  [400, error('a'.repeat(5 * 1024 * 1024))],
  [500, ' '.repeat(5 * 1024 * 1024)],
  [502, '<html>bad gateway</html>'],
] as const) {
  test(`${status} ${JSON.stringify(body.slice(0, 100))}: not an answer of EC2, so it is tried again`, async () => {
    const unanswered = await failure(status, body);
    assert.is(unanswered.code, 'EC2_UNAVAILABLE');
    assert.ok(unanswered.transient);
    // An answer that is refused before the SDK has read it has no status.
    assert.match(
      unanswered.message,
      /HTTP \d{3}|longer than 4194304 bytes|no answer to DescribeNetworkInterfaces/,
    );
    assert.not.match(unanswered.message, '\n');
  });
}

test('an answer without any ENI is a valid answer', async () => {
  answer = { status: 200, body: `<?xml version="1.0" encoding="UTF-8"?>\n${enis('')}` };
  assert.equal(await ec2.describeAttachedEnis('i-0123456789abcdef0'), []);
});

const WHOLE = `<item><networkInterfaceId>eni-0a</networkInterfaceId><macAddress>02:00:00:00:00:01</macAddress>
<subnetId>subnet-0a</subnetId><vpcId>vpc-0a</vpcId><availabilityZone>eu-west-1a</availabilityZone>
<privateIpAddress>10.0.0.4</privateIpAddress><privateIpAddressesSet><item><primary>false</primary>
<privateIpAddress>10.0.0.5</privateIpAddress></item></privateIpAddressesSet><ipv4PrefixSet><item>
<ipv4Prefix>10.0.1.0/28</ipv4Prefix></item></ipv4PrefixSet><ipv6PrefixSet><item>
<ipv6Prefix>2001:db8::/80</ipv6Prefix></item></ipv6PrefixSet><groupSet><item><groupId>sg-0a</groupId></item></groupSet>
<attachment><attachmentId>eni-attach-0a</attachmentId><instanceId>i-0a</instanceId><deviceIndex>1</deviceIndex>
<networkCardIndex>0</networkCardIndex></attachment></item>`;

test("an ENI is read from EC2's description", async () => {
  answer = { status: 200, body: enis(WHOLE) };
  const [eni] = await ec2.describeAttachedEnis('i-0123456789abcdef0');
  assert.equal(eni?.prefixes, ['10.0.1.0/28']);
  assert.is(eni?.attachment?.deviceIndex, 1);
});

/** Each field with values that it cannot have: none of them may become a part of the node. */
const IMPOSSIBLE: Record<string, string[]> = {
  networkInterfaceId: ['', 'eni', '../eni-0a', 'eni-0a/../..', 'eni-0a b'],
  macAddress: ['', '02:00:00:00:00', 'lo'],
  subnetId: ['', 'x'],
  vpcId: ['', 'x'],
  privateIpAddress: [
    '10.0.0',
    '10.0.0.256',
    '10.0.0.04',
    '0.0.0.0',
    '127.0.0.1',
    '169.254.169.254',
    '224.0.0.1',
    '::1',
  ],
  ipv4Prefix: ['', '10.0.1.0', '10.0.1.0/27', '10.0.1.1/28', '10.0.1.0/028', '10.0.1.0/28 ', '0.0.0.0/0'],
  ipv6Prefix: ['', '2001:db8::/64', '2001:db8::', 'x/80'],
  groupId: ['', 'x'],
  attachmentId: ['', 'a b'],
  instanceId: ['', '../i-0a'],
  deviceIndex: ['-1', '1.5', '1e300', 'one', '100000'],
  networkCardIndex: ['-1', 'x'],
};

for (const [name, values] of Object.entries(IMPOSSIBLE)) {
  test(`an answer with an impossible value, ${name}, is not an answer of EC2`, async () => {
    for (const value of values) {
      const body = enis(WHOLE.replace(new RegExp(`<${name}>[^<]*`), `<${name}>${value}`));
      const found = await failure(200, body);
      assert.is(found.code, 'EC2_UNAVAILABLE', value);
      assert.match(found.message, /makes no sense/, value);
    }
  });
}

test('an ENI without a required field is refused', async () => {
  for (const name of [
    'networkInterfaceId',
    'macAddress',
    'subnetId',
    'vpcId',
    'attachmentId',
    'deviceIndex',
  ]) {
    const found = await failure(200, enis(WHOLE.replace(new RegExp(`<${name}>[^<]*</${name}>`), '')));
    assert.match(found.message, new RegExp(`${name} is nothing`, 'i'));
  }
});

test('two ENIs of an instance share no address, index or MAC; an answer may hold one ENI twice', async () => {
  answer = { status: 200, body: enis(`${WHOLE}${WHOLE}`) };
  assert.is((await ec2.describeAttachedEnis('i-0123456789abcdef0')).length, 1);
  const other = WHOLE.replace('eni-0a', 'eni-0b');
  const found = await failure(200, enis(`${WHOLE}${other}`));
  assert.match(found.message, /a value of two ENIs is "02:00:00:00:00:01"/);
});

test.after(() => {
  server.close();
});
test.run();
