// Which answers of EC2 are worth another try: by the SDK over HTTP, since it is the SDK that names what went wrong.
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

test('429, whatever it says: throttled', async () => {
  assert.is((await failure(429, error('Odd'))).code, 'EC2_THROTTLED');
  assert.is((await failure(429, '<html>slow down</html>')).code, 'EC2_THROTTLED');
});

test('a code of AWS that is none of a passing trouble: refused', async () => {
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
  [502, '<html>bad gateway</html>'],
] as const) {
  test(`${status} ${JSON.stringify(body)}: no answer of EC2, so asked again`, async () => {
    const unanswered = await failure(status, body);
    assert.is(unanswered.code, 'EC2_UNAVAILABLE');
    assert.ok(unanswered.transient);
    assert.match(unanswered.message, `HTTP ${status}`);
    assert.not.match(unanswered.message, '\n');
  });
}

test.after(() => {
  server.close();
});
test.run();
