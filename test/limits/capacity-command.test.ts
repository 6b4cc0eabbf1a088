// `eniboot capacity`, its output for people and for scripts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as v from 'valibot';
import { capacityCommand } from '../../agent/cli/capacity.ts';
import { configSchema } from '../../agent/config/schema.ts';
import { type FailureCode, isFailure } from '../../agent/messages/failure.ts';

test('a table for people', async () => {
  const { code, out, err } = await call('m5.large');
  assert.is(code, 0);
  assert.is(err, '');
  assert.is(
    out,
    `m5.large: 3 ENIs, 10 IPv4 addresses each, Nitro, 750 Mbit/s baseline (published ${published(out)})

addressing  pod ENIs  slots  addresses  max pods  limited by  calculation
prefixes    2         18     288        110       pods.max    (3 ENIs - 1 boot ENI) x (10 - 1) prefixes x 16 = 288, capped at 110 by pods.max
addresses   2         18     18         18        EC2         (3 ENIs - 1 boot ENI) x (10 - 1) addresses = 18
`,
  );
});

test('--json prints one object only', async () => {
  const { code, out } = await call('m5.large', '--json');
  assert.is(code, 0);
  const { type, limits, capacity, sources } = JSON.parse(out);
  assert.is(type, 'm5.large');
  assert.is(limits.addressesPerEni, 10);
  assert.equal(
    capacity.map((row: { unit: string; maxPods: number }) => [row.unit, row.maxPods]),
    [
      ['prefixes', 110],
      ['addresses', 18],
    ],
  );
  assert.is(sources.length, 2);
});

test('a type without Nitro shows no prefixes, a type with many cards names the card that counts', async () => {
  assert.not.match((await call('m4.large')).out, 'x 16');
  assert.match((await call('p5.48xlarge')).out, '64 ENIs on 32 cards, only the default card is used');
});

test('an unknown type and a type without room for pods fail with their codes', async () => {
  const { remedy } = await rejects(call('m99.huge'), 'INSTANCE_TYPE_UNKNOWN');
  assert.not.match(remedy, /eniboot capacity/, 'the command does not recommend itself');
  await rejects(call('hpc6id.32xlarge'), 'NO_POD_CAPACITY');
});

test('wrong usage is refused with the reason', async () => {
  for (const [args, reason] of [
    [[], 'missing'],
    [['m5.large', 'c5.large'], 'unexpected argument c5.large'],
    [['m5.large', '--nope'], '--nope'],
  ] as const) {
    const { message } = await rejects(call(...args), 'USAGE');
    assert.match(message, reason);
  }
});

test('the cap shown is the default of pods.max', async () => {
  const { max } = v.getDefaults(configSchema.entries.pods);
  assert.match(capacityCommand.help, `its default, ${max})`);
  const { out } = await call('m5.24xlarge', '--json');
  assert.is(JSON.parse(out).capacity[0].maxPods, max);
});

async function call(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  let out = '';
  let err = '';
  const code = await capacityCommand.run(args, {
    stdout: (text) => {
      out += text;
    },
    stderr: (text) => {
      err += text;
    },
    isTTY: false,
  });
  return { code, out, err };
}

async function rejects(promise: Promise<unknown>, code: FailureCode) {
  try {
    await promise;
  } catch (error) {
    if (isFailure(error, code)) return error;
    throw error;
  }
  throw new Error(`no ${code}`);
}

function published(text: string): string {
  const day = /\(published (20\d\d-\d\d-\d\d)\)/.exec(text)?.[1];
  assert.ok(day);
  return day;
}

test.run();
