// When the pool grows, shrinks or stays: properties over any pool and any marks.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { balance, type Marks } from '../../agent/pool/balance.ts';
import type { PrefixState } from '../../agent/pool/inventory.ts';

const marks: Marks = { target: 32, lowWater: 8, surplus: 32, maxPods: 110 };
const eniIds = ['eni-1', 'eni-2', 'eni-3'];

/** A prefix whose addresses are leased, resting, and the rest ready. */
function prefix(eniId: string, at: number, size: number, leased: number, resting: number): PrefixState {
  const busy = Math.max(0, Math.min(size, leased));
  const tired = Math.min(size - busy, resting);
  return {
    eniId,
    cidr: `10.0.${at}.0/${size === 16 ? 28 : 32}`,
    size,
    leased: busy,
    resting: tired,
    inUse: 0,
    ready: size - busy - tired,
    retiring: 0,
  };
}

const pools = fc
  .array(
    fc.record({
      eni: fc.constantFrom(...eniIds),
      leased: fc.constantFrom(0, 0, 0, 1, 8, 16),
      resting: fc.constantFrom(0, 0, 0, 1, 16),
    }),
    { maxLength: 24 },
  )
  .chain((list) =>
    fc
      .constantFrom(16, 1)
      .map((size) => list.map((one, at) => prefix(one.eni, at, size, one.leased, one.resting))),
  );
const anyMarks = fc
  .record({
    target: fc.integer({ min: 1, max: 200 }),
    lowWater: fc.integer({ min: 0, max: 100 }),
    surplus: fc.integer({ min: 32, max: 200 }),
    maxPods: fc.integer({ min: 1, max: 250 }),
  })
  .map((one) => ({ ...one, target: Math.min(one.target, one.maxPods) }));

/** ENIs with prefixes; ENIs without any are counted apart. */
const enisOf = (pool: PrefixState[]) => eniIds.filter((eniId) => pool.some((one) => one.eniId === eniId));
const total = (pool: PrefixState[], field: 'size' | 'ready' | 'leased') =>
  pool.reduce((sum, one) => sum + one[field], 0);

test('growing by the missing addresses, in whole prefixes, is enough: the pool neither grows again nor shrinks', () => {
  fc.assert(
    fc.property(pools, anyMarks, (pool, wanted) => {
      const first = balance(pool, eniIds, wanted);
      if (first.kind !== 'grow') return;
      assert.ok(first.missing > 0);
      const added = Array.from({ length: Math.ceil(first.missing / 16) }, (_, at) =>
        prefix('eni-3', 100 + at, 16, 0, 0),
      );
      const grown = [...pool, ...added];
      const next = balance(grown, enisOf(grown), wanted);
      assert.is.not(next.kind, 'grow', JSON.stringify(first));
      // Once, growth to the target may exceed it by most of a prefix and leave single addresses over.
      if (total(pool, 'size') >= wanted.target || pool.every((one) => one.size === 16))
        assert.is(next.kind, 'enough', `${JSON.stringify(first)} then ${JSON.stringify(next)}`);
    }),
    { numRuns: 3_000 },
  );
});

test('prefixes that are given back are idle, and the pool keeps its target and the middle of the marks without them', () => {
  let given = 0;
  let enis = 0;
  fc.assert(
    fc.property(pools, anyMarks, (pool, wanted) => {
      const plan = balance(pool, eniIds, wanted);
      if (plan.kind !== 'give') return;
      given += 1;
      enis += plan.eniIds.length;
      const gone = (one: PrefixState) =>
        plan.prefixes.some((other) => other.cidr === one.cidr && other.eniId === one.eniId);
      for (const one of pool.filter(gone)) assert.is(one.ready, one.size, `${one.cidr} is in use`);
      const left = pool.filter((one) => !gone(one));
      assert.ok(total(pool, 'ready') > wanted.lowWater + wanted.surplus);
      assert.ok(plan.prefixes.length === 0 || total(left, 'size') >= wanted.target);
      assert.ok(total(left, 'ready') >= wanted.lowWater + Math.floor(wanted.surplus / 2));
      assert.is.not(balance(left, eniIds, wanted).kind, 'grow');
      assert.ok(plan.eniIds.length <= 1 && !plan.eniIds.includes('eni-1'), 'the first ENI stays');
      for (const eniId of plan.eniIds) assert.not.ok(left.some((one) => one.eniId === eniId));
    }),
    { numRuns: 20_000 },
  );
  assert.ok(given > 100 && enis > 20, `${given} plans gave back, ${enis} an ENI`);
});

test('between the marks no call to EC2 is made', () => {
  for (let leased = 0; leased <= 24; leased += 1)
    assert.equal(
      balance([prefix('eni-1', 1, 16, leased, 0), prefix('eni-1', 2, 16, leased - 16, 0)], eniIds, marks),
      { kind: 'enough' },
      `${leased} leased`,
    );
});

test('below the low-water mark the pool grows to the middle of its marks', () => {
  const pool = [prefix('eni-1', 1, 16, 16, 0), prefix('eni-1', 2, 16, 9, 0)];
  assert.equal(balance(pool, eniIds, marks), { kind: 'grow', missing: 24 - 7 });
});

test('resting addresses are not ready ones', () => {
  const pool = [prefix('eni-1', 1, 16, 0, 16), prefix('eni-1', 2, 16, 0, 10)];
  assert.equal(balance(pool, eniIds, marks), { kind: 'grow', missing: 24 - 6 });
});

test('a full node requests nothing: no further pod could use it', () => {
  const full = Array.from({ length: 7 }, (_, at) => prefix('eni-1', at, 16, 16, 0));
  assert.equal(balance(full, eniIds, { ...marks, target: 110 }), { kind: 'enough' });
  const nearly = [...full.slice(0, 6), prefix('eni-1', 6, 16, 10, 0)];
  assert.equal(
    balance(nearly, eniIds, { ...marks, target: 110 }),
    { kind: 'enough' },
    '4 pods to come, 6 ready',
  );
});

test('a pool below its target grows back to it', () => {
  const pool = [prefix('eni-1', 1, 16, 0, 0)];
  assert.equal(balance(pool, eniIds, { ...marks, target: 110 }), { kind: 'grow', missing: 94 });
});

test('an empty ENI is given back only above the surplus, and never the first', () => {
  const pool = [1, 2, 3].map((at) => prefix('eni-1', at, 16, 0, 0));
  assert.equal(balance(pool, ['eni-1', 'eni-2'], { ...marks, target: 48 }), {
    kind: 'give',
    prefixes: [],
    eniIds: ['eni-2'],
  });
  assert.equal(balance(pool.slice(1), ['eni-1', 'eni-2'], marks), { kind: 'enough' });
  assert.equal(balance(pool, ['eni-1'], { ...marks, target: 48 }), { kind: 'enough' });
});

test('idle prefixes are given back from the last ENI first, and with its last prefix the ENI', () => {
  const pool = [
    prefix('eni-1', 1, 16, 0, 0),
    prefix('eni-1', 2, 16, 0, 0),
    prefix('eni-2', 3, 16, 0, 0),
    prefix('eni-2', 4, 16, 0, 0),
  ];
  assert.equal(balance(pool, ['eni-1', 'eni-2'], { ...marks, target: 16 }), {
    kind: 'give',
    prefixes: [
      { eniId: 'eni-2', cidr: '10.0.4.0/28' },
      { eniId: 'eni-2', cidr: '10.0.3.0/28' },
    ],
    eniIds: ['eni-2'],
  });
});

test.run();
