import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { DescribeInstancesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const program = new URL('main.ts', import.meta.url).pathname;

test('started alone it serves any client on a local port', async () => {
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
  const ended = new Promise((done) => child.once('exit', done));
  child.kill('SIGTERM');
  assert.is(await ended, 0);
});

test('it says how to use it, and what is wrong with an argument', () => {
  const help = spawnSync(process.execPath, [program, '--help'], { encoding: 'utf8' });
  assert.is(help.status, 0);
  assert.match(help.stdout, '--endpoint-url');
  const wrong = spawnSync(process.execPath, [program, '--port', 'x'], { encoding: 'utf8' });
  assert.is(wrong.status, 2);
  assert.match(wrong.stderr, '--port must be a whole number, not "x"');
});

test('what npm starts is the program itself: a signal to npm ends it, instead of a shell that stands between', () => {
  const { scripts } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    scripts: Record<string, string>;
  };
  for (const [name, script] of Object.entries(scripts))
    assert.match(script, /^exec sh test\/launch\.sh /, `${name} would outlive the end of npm`);
});

test.run();
