// The number of pods that a node can address: known figures, and properties for every type of the table and others.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type InstanceLimits, limitsOf } from '../../agent/aws/limits/limits.ts';
import { capacity } from '../../agent/boot/facts/capacity.ts';
import { isFailure } from '../../agent/messages/failure.ts';

const big = 1_000_000;
const arbitraryLimits = fc
  .record({
    defaultCardEnis: fc.integer({ min: 2, max: 64 }),
    addressesPerEni: fc.integer({ min: 2, max: 128 }),
    nitro: fc.boolean(),
    cards: fc.integer({ min: 1, max: 32 }),
  })
  .map((limits): InstanceLimits => ({ ...limits, enis: limits.defaultCardEnis * limits.cards }));
const arbitraryMax = fc.integer({ min: 1, max: 1000 });

test('figures worked out by hand', async () => {
  // [type, single addresses, with prefixes]
  const known: [string, number, number][] = [
    ['t3.micro', 1, 16],
    ['t3.medium', 10, 160],
    ['c5.large', 18, 288],
    ['c5.xlarge', 42, 672],
    ['m5.4xlarge', 203, 3248],
    ['c5.18xlarge', 686, 10976],
    ['p5.48xlarge', 49, 784],
  ];
  for (const [type, single, prefixed] of known) {
    const limits = await limitsOf(type);
    assert.ok(limits, type);
    assert.is(capacity(limits, 'addresses', big).maxPods, single, type);
    assert.is(capacity(limits, 'prefixes', big).maxPods, prefixed, type);
  }
});

test('auto means prefixes on Nitro and addresses on other types', async () => {
  const nitro = await limitsOf('m5.large');
  const xen = await limitsOf('m4.large');
  assert.ok(nitro && xen);
  assert.is(capacity(nitro, 'auto', 110).unit, 'prefixes');
  assert.is(capacity(xen, 'auto', 110).unit, 'addresses');
});

test('the explanation has the calculation', async () => {
  const limits = await limitsOf('m5.large');
  assert.ok(limits);
  assert.is(
    capacity(limits, 'auto', 110).explain,
    '(3 ENIs - 1 boot ENI) x (10 - 1) prefixes x 16 = 288, capped at 110 by pods.max',
  );
  assert.is(capacity(limits, 'addresses', 110).explain, '(3 ENIs - 1 boot ENI) x (10 - 1) addresses = 18');
  const p5 = await limitsOf('p5.48xlarge');
  assert.ok(p5);
  assert.match(capacity(p5, 'auto', 110).explain, 'on the default card');
});

test("when cap and EC2's limit are equal, the cap is named", async () => {
  const limits = await limitsOf('m5.large');
  assert.ok(limits);
  assert.is(capacity(limits, 'addresses', 18).limitedBy, 'cap');
  assert.is(capacity(limits, 'addresses', 19).limitedBy, 'enis');
});

test('prefixes on a type without Nitro have a failure code', async () => {
  const xen = await limitsOf('m4.large');
  assert.ok(xen);
  assert.throws(
    () => capacity(xen, 'prefixes', 110),
    (error: unknown) => isFailure(error, 'PREFIXES_UNSUPPORTED'),
  );
});

test('a type without room for a pod ENI has a failure code', async () => {
  // One ENI on each of its two cards.
  const hpc = await limitsOf('hpc6id.32xlarge');
  assert.ok(hpc);
  assert.throws(
    () => capacity(hpc, 'auto', 110),
    (error: unknown) => isFailure(error, 'NO_POD_CAPACITY'),
  );
});

test('every published type has room for pods, or fails with the code', async () => {
  const file = new URL('../../agent/aws/limits/limits.generated.json', import.meta.url);
  const without: string[] = [];
  for (const type of Object.keys(JSON.parse(readFileSync(file, 'utf8')).types)) {
    const limits = await limitsOf(type);
    assert.ok(limits);
    try {
      assert.ok(capacity(limits, 'auto', 110).maxPods >= 1, type);
    } catch (error) {
      assert.ok(isFailure(error, 'NO_POD_CAPACITY'), type);
      without.push(type);
    }
  }
  assert.equal(without, ['hpc6id.32xlarge']);
});

test('property: never more pods than addresses or cap, and limitedBy names the limit that applies', () => {
  fc.assert(
    fc.property(
      arbitraryLimits,
      fc.constantFrom('auto' as const, 'addresses' as const),
      arbitraryMax,
      (limits, how, max) => {
        const got = capacity(limits, how, max);
        assert.is(got.maxPods, Math.min(got.addresses, max));
        assert.is(got.limitedBy, got.maxPods === max ? 'cap' : 'enis');
        assert.is(got.addresses % got.slots, 0);
        assert.is(got.addresses / got.slots, got.unit === 'prefixes' ? 16 : 1);
        assert.is(got.slots, got.podEnis * (limits.addressesPerEni - 1));
      },
    ),
  );
});

test('property: one more ENI or one more address an ENI never means fewer pods; other cards change nothing', () => {
  fc.assert(
    fc.property(arbitraryLimits, arbitraryMax, (limits, max) => {
      const { maxPods } = capacity(limits, 'auto', max);
      const moreEnis = { ...limits, defaultCardEnis: limits.defaultCardEnis + 1 };
      const moreAddresses = { ...limits, addressesPerEni: limits.addressesPerEni + 1 };
      assert.ok(capacity(moreEnis, 'auto', max).maxPods >= maxPods);
      assert.ok(capacity(moreAddresses, 'auto', max).maxPods >= maxPods);
      assert.is(capacity({ ...limits, enis: limits.enis + 7 }, 'auto', max).maxPods, maxPods);
    }),
  );
});

test.run();
