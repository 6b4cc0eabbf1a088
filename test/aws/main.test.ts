import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { EXECUTABLE } from '../cli/executable.ts';

const program = new URL('main.ts', import.meta.url).pathname;

test('the simulated AWS, started alone, serves any client on a local port', async () => {
  const child = spawn(process.execPath, [program, '--json', '--nodes', '1', '--port', '4599'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const line = await new Promise<string>((done) =>
    child.stdout.once('data', (chunk: Buffer) => done(chunk.toString())),
  );
  const ready = JSON.parse(line) as {
    endpoint: string;
    region: string;
    credentials: { accessKeyId: string; secretAccessKey: string };
    instances: { id: string }[];
  };
  assert.is(ready.endpoint, 'http://127.0.0.1:4599');
  const { credentials, region, endpoint } = ready;
  const ec2 = new EC2Client({ credentials, region, endpoint, maxAttempts: 1 });
  const found = await ec2.send(new DescribeInstancesCommand({}));
  assert.equal(
    found.Reservations?.map((one) => one.Instances?.[0]?.InstanceId),
    ready.instances.map((one) => one.id),
  );
  ec2.destroy();
  // Its nodes are managed nodes: a rollout succeeds.
  const work = mkdtempSync(join(tmpdir(), 'eniboot-aws-test-'));
  const spec = join(work, 'rollout.yaml');
  writeFileSync(
    spec,
    'what: { bundle: { version: 1.1.0 } }\nwhere: { cluster: demo }\nalarms: [demo]\nbake: { zoneSeconds: 1 }\n',
  );
  const env = {
    PATH: process.env['PATH'],
    AWS_ENDPOINT_URL: endpoint,
    AWS_REGION: region,
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    XDG_STATE_HOME: work,
  };
  const rolled = spawnSync(EXECUTABLE, ['rollout', 'run', spec, '--json'], { encoding: 'utf8', env });
  assert.is(rolled.status, 0, rolled.stdout + rolled.stderr);
  assert.match(rolled.stdout, /"outcome":"updated"/);
  const { accessKeyId, secretAccessKey } = credentials;
  const fired = spawnSync(
    'curl',
    [
      ...['-sS', '--fail-with-body', '--aws-sigv4', `aws:amz:${region}:monitoring`],
      ...['--user', `${accessKeyId}:${secretAccessKey}`, endpoint],
      ...['-H', 'X-Amz-Target: GraniteServiceVersion20100801.SetAlarmState'],
      ...['-d', '{"AlarmName":"demo","StateValue":"ALARM","StateReason":"a try"}'],
    ],
    { encoding: 'utf8' },
  );
  assert.is(fired.status, 0, fired.stdout + fired.stderr);
  const refused = spawnSync(EXECUTABLE, ['rollout', 'plan', spec], { encoding: 'utf8', env });
  assert.match(refused.stderr, /ALARM_FIRING: 1 of 1 alarms are in ALARM: demo: a try/);
  rmSync(work, { recursive: true });
  const ended = new Promise((done) => child.once('exit', done));
  child.kill('SIGTERM');
  assert.is(await ended, 0);
});

test('--help tells its usage, and a bad argument gets an error', () => {
  const help = spawnSync(process.execPath, [program, '--help'], { encoding: 'utf8' });
  assert.is(help.status, 0);
  assert.match(help.stdout, '--endpoint-url');
  const wrong = spawnSync(process.execPath, [program, '--port', 'x'], { encoding: 'utf8' });
  assert.is(wrong.status, 2);
  assert.match(wrong.stderr, '--port must be a whole number, not "x"');
});

test('a signal to npm ends the program that it has started: no shell stands between them', () => {
  const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const [name, script] of Object.entries(scripts))
    assert.match(script, /^exec sh test\/launch\.sh /, `${name} would go on after npm has ended`);
});

test.run();
