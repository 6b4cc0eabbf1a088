// time limit: 300 s
// Halts and what follows them: resume, rollback, take-over, abandon, another version; and the views of a rollout for other programs.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { eniboot } from '../cli/executable.ts';
import { STAND_IN, UNHEALTHY } from './bundles.ts';
import { codeIn, startOperator, WAITS } from './operator.ts';

const { cloud, bundles, home, env, run, of, spec, versions, stop } = await startOperator();

test('halt stops a rollout, rollback takes back the nodes that it touched', async () => {
  bundles.publish('7.4.0', STAND_IN);
  const path = spec('7.4.0', WAITS.replaceAll(': 1', ': 60'), 'steps: { concurrency: 1 }');
  let halted: Promise<unknown> | undefined;
  const rolled = await eniboot(['rollout', 'run', path], {
    env,
    watch: (out) => {
      if (halted === undefined && /wait 60 s/.test(out)) halted = of('halt', '--why', 'drill');
    },
  });
  await halted;
  assert.is(rolled.code, 1, rolled.out);
  assert.match(rolled.err, /ROLLOUT_HALTED: drill/);
  const touched = (await versions()).filter((version) => version === '7.4.0').length;
  assert.ok(touched >= 1 && touched < 3, rolled.out);
  const back = await of('rollback');
  assert.is(back.code, 0, back.err);
  assert.equal(await versions(), ['0.1.0', '0.1.0', '0.1.0']);
  assert.match((await of('report')).out, new RegExp(`Taken back: ${touched} nodes`));
});

test('an alarm that goes off in a wait and is OK again halts the rollout by name; plan and status show it as a gate', async () => {
  cloud.cloudwatch.set('errors', 'OK');
  bundles.publish('7.5.0', STAND_IN);
  const path = spec('7.5.0', WAITS.replace('zoneSeconds: 1', 'zoneSeconds: 20'), 'alarms: [errors]');
  assert.match((await run('rollout', 'plan', path)).out, /^watches 1 alarm in state OK \(errors\)$/m);
  // The first zone has one node, which is its canary.
  let fired = false;
  const rolled = await eniboot(['rollout', 'run', path], {
    env,
    watch: (out) => {
      if (fired || !/wait 20 s after the zone/.test(out)) return;
      fired = true;
      cloud.cloudwatch.set('errors', 'ALARM', 'Threshold Crossed');
      cloud.cloudwatch.set('errors', 'OK');
    },
  });
  assert.is(rolled.code, 1, rolled.out);
  const why = /the alarm errors went off at \S+Z: Threshold Crossed \(it is OK again\)/;
  assert.match(rolled.err, new RegExp(`ROLLOUT_HALTED: ${why.source}`));
  assert.is((await versions()).filter((version) => version === '7.5.0').length, 1);
  assert.match(
    (await of('status')).out,
    new RegExp(`^gate: 1 alarm \\(errors\\), since \\S+Z: ${why.source}$`, 'm'),
  );
  assert.match((await of('report')).out, why);
  assert.is((await of('rollback')).code, 0);
  assert.equal(await versions(), ['0.1.0', '0.1.0', '0.1.0']);
  cloud.faults.denied.add('DescribeAlarms');
  const denied = await run('rollout', 'run', path, '--json');
  cloud.faults.denied.delete('DescribeAlarms');
  assert.is(codeIn(denied.out), 'CLOUDWATCH_DENIED');
});

test('events go to a file and to a program, and Prometheus reads the state', async () => {
  bundles.publish('7.2.9', STAND_IN);
  const [file, piped] = [join(home, 'events.jsonl'), join(home, 'piped.jsonl')];
  const oneNode = spec('7.2.9', 'where: { cluster: demo, zones: [euw1-az2] }');
  const rolled = await run('rollout', 'run', oneNode, '--on-event', file);
  assert.is(rolled.code, 0, rolled.err);
  const back = await of('rollback', '--on-event', `|cat >${piped}`);
  assert.is(back.code, 0, back.err);
  for (const path of [file, piped]) {
    const events = readFileSync(path, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { kind: string; atMs: number });
    assert.ok(events.every((one) => one.atMs > 0));
    assert.is(events.at(-1)?.kind, 'ended');
  }
  const text = (await of('status', '--prometheus')).out;
  assert.match(
    text,
    /^eniboot_rollout_info\{region="eu-west-1",cluster="demo",id="[^"]+",version="7\.2\.9",direction="back",state="rolled-back"\} 1$/m,
  );
  assert.match(
    text,
    /^eniboot_rollout_nodes\{region="eu-west-1",cluster="demo",id="[^"]+",outcome="restored"\} [1-9]\d*$/m,
  );
  assert.match((await run('rollout', 'run', oneNode, '--on-event', '/nowhere/events')).err, /FILE_WRITE/);
  const gone = await of('rollback', '--on-event', '|exit 3');
  assert.is(gone.code, 0);
});

test('a halted rollout is abandoned or taken over, and a corrected version replaces it', async () => {
  bundles.publish('7.2.1', UNHEALTHY);
  bundles.publish('7.2.2', STAND_IN);
  const bad = await run('rollout', 'run', spec('7.2.1'));
  assert.match(bad.err, /ROLLOUT_HALTED/);
  const { id } = JSON.parse((await of('status', '--json')).out) as { id: string };
  const busy = await run('rollout', 'run', spec('7.2.2'));
  assert.match(busy.err, /ROLLOUT_BUSY/);
  assert.match(busy.err, /--over ID/);
  assert.match((await run('rollout', 'run', spec('7.2.2'), '--over', 'another')).err, /ROLLOUT_BUSY/);
  const mended = await run('rollout', 'run', spec('7.2.2'), '--over', id);
  assert.is(mended.code, 0, mended.err);
  assert.equal([...new Set(await versions())], ['7.2.2']);
  assert.is((await of('takeover')).code, 0);
  assert.is((await of('rollback')).code, 0);
  assert.match((await run('rollout', 'run', spec('7.2.1'))).err, /ROLLOUT_HALTED/);
  assert.match((await of('abandon')).out, /7\.2\.1 in demo: abandoned; 0 of \d+ nodes run it/);
  assert.match((await of('resume')).out, /nothing to go on with: it was abandoned/);
});

test.after(stop);
test.run();
