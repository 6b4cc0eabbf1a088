// The wall clock is wrong by an hour, or steps during the boot. Signatures depend on the clock, deadlines must not.
// The simulated AWS moves its own clock: for the node this is the same.
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { realScheduler } from '../aws/ec2/scheduler.ts';
import { startCloud } from '../aws/index.ts';
import { configText, launchNode } from './node.ts';

const HOUR_MS = 3_600_000;
let ahead = 0;
const cloud = await startCloud({
  scheduler: { now: () => Date.now() + ahead, after: realScheduler.after },
});

test('the wall clock is an hour late until chrony steps it: READY', async () => {
  // Launched before the clock moves: afterwards EC2 would not show an instance that was launched an hour from now.
  const node = await launchNode(cloud);
  ahead = HOUR_MS;
  const booting = node.boot();
  await delay(3_000);
  assert.is(node.kubeletReleased(), false, 'EC2 refuses every signature until then');
  ahead = 0;
  const { status } = await booting;
  assert.is(status?.verdict, 'ready');
  assert.equal(status?.degraded, []);
  assert.ok(
    cloud.calls.some((call) => call.instanceId === undefined && call.error !== undefined),
    'EC2 has refused a signature',
  );
});

test('the wall clock stays an hour late: EC2_AUTH at the deadline, which the clock does not move', async () => {
  ahead = HOUR_MS;
  const node = await launchNode(cloud, { config: configText(cloud, 'boot: { deadlineSeconds: 10 }\n') });
  const started = performance.now();
  const { status } = await node.boot();
  ahead = 0;
  assert.is(status?.failure?.code, 'EC2_AUTH');
  assert.match(status?.failure?.remedy ?? '', /clock/);
  assert.ok(performance.now() - started < 25_000);
  assert.not.ok(node.kubeletReleased());
  assert.equal(cloud.leakReport(), []);
});

test.after(() => cloud.stop());
test.run();
