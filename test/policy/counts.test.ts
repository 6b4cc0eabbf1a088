// Denied packets are summed whatever happens to the kernel's counters, with a bound on the number of names. And: a node that
// has just booted does not ask the API server at once.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createCounts, deniedBy, readCounts } from '../../agent/policy/counts.ts';
import { serve } from '../../agent/policy/serve.ts';
import { systemClock } from '../../agent/port/clock.ts';

const pods = { isolated: 1, open: 2, pending: 0 };
const saved = () => {
  const counts = readCounts();
  assert.ok(counts);
  return { pods: counts.pods, denied: deniedBy(counts) };
};

test('counters that go on, are put anew, or are those of another run of the service', () => {
  assert.is(readCounts(), undefined);
  const first = createCounts();
  first.denied('pod a ingress', 'x/n', 'ingress', 5);
  first.denied('pod a ingress', 'x/n', 'ingress', 7);
  first.denied('pod b egress', 'x/m', 'egress', 1);
  first.forget('pod a ');
  first.denied('pod a ingress', 'x/n', 'ingress', 9);
  first.save(pods);
  const next = createCounts();
  next.denied('pod a ingress', 'x/n', 'ingress', 10);
  next.denied('pod b egress', 'x/m', 'egress', 1);
  // Another program has made the counter anew.
  next.denied('pod a ingress', 'x/n', 'ingress', 2);
  next.save(pods);
  assert.equal(saved(), {
    pods,
    denied: [
      { policy: 'x/n', direction: 'ingress', packets: 7 + 9 + 1 + 2 },
      { policy: 'x/m', direction: 'egress', packets: 1 },
    ],
  });
});

test('beyond a hundred names the rest has one', () => {
  const denied = createCounts();
  for (let at = 0; at < 500; at += 1) denied.denied(`pod ${at} egress`, `y/n${at}`, 'egress', 2);
  denied.save(pods);
  const all = saved().denied;
  assert.ok(all.length <= 101, `${all.length} series`);
  assert.is(
    all
      .filter(({ policy }) => policy.startsWith('y/') || policy === 'others')
      .reduce((sum, one) => sum + one.packets, 0),
    1000,
  );
});

test('the first start after a boot waits for its part of five seconds before it asks', async () => {
  const stop = new AbortController();
  const slept: number[] = [];
  const clock = {
    ...systemClock,
    sleep: async (ms: number) => {
      slept.push(ms);
      stop.abort();
    },
  };
  const log = { debug: () => log, info: () => log, warn: () => log, error: () => log } as never;
  const api = {
    url: 'https://192.0.2.1',
    identity: () => {
      throw new Error('it asks already');
    },
  };
  await serve(
    { nodeName: 'a', strict: false, api, wanted: () => 'as-started' },
    { clock, log, signal: stop.signal, random: () => 0.9 },
  );
  assert.equal(slept, [4500]);
});

test.run();
