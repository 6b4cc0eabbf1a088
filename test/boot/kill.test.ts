// time limit: 420 s
// The agent is killed after each of its steps and at random moments; the next run finishes the boot.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { phaseNames } from '../../agent/boot/phase.ts';
import { killOnce, type Moment, measureBoot, seeded, showMoment, startKillCloud } from './kill.ts';

/** Number of random moments; test/boot/kill-main.ts runs the full number. */
const RANDOM = Number(process.env['KILLS'] ?? 10);
const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9));

const calls = [
  'DescribeVpcs',
  'CreateNetworkInterface',
  'AttachNetworkInterface',
  'ModifyNetworkInterfaceAttribute',
  'CreateTags',
];
const steps: Moment[] = [
  ...calls.map((action): Moment => ({ kind: 'call', action })),
  ...calls.slice(1, 4).map((action): Moment => ({ kind: 'answer', action, ms: 4 })),
  ...phaseNames.map((phase): Moment => ({ kind: 'phase', phase, state: 'running' })),
  { kind: 'pool', addresses: 1 },
  { kind: 'pool', addresses: 40 },
  { kind: 'file', path: '/run/eniboot/pool/adding' },
  { kind: 'file', path: '/run/eniboot/attach.json' },
  { kind: 'file', path: '/opt/cni/bin/eniboot' },
  { kind: 'file', path: '/etc/cni/net.d/10-eniboot.conflist' },
  { kind: 'file', path: '/run/eniboot/kubelet-released' },
];

const cloud = await startKillCloud();
const usual = await measureBoot(cloud);

for (const moment of steps) {
  test(`killed ${showMoment(moment)}`, async () => {
    const { problems, killed } = await killOnce(cloud, moment);
    assert.equal(problems, []);
    // The last phase takes a millisecond: the boot may end before the kill.
    if (moment.kind === 'call' || moment.kind === 'answer' || moment.kind === 'pool') assert.ok(killed);
  });
}

const random = seeded(seed);
for (let at = 0; at < RANDOM; at += 1) {
  const moment: Moment = { kind: 'time', ms: Math.round(random() * usual * 1.1) };
  test(`killed ${showMoment(moment)} (SEED=${seed})`, async () => {
    const { problems } = await killOnce(cloud, moment);
    assert.equal(problems, []);
  });
}

test('nothing is left of all the instances', () => {
  assert.equal(cloud.leakReport(), []);
});

test.after(() => cloud.stop());
test.run();
