// The generated table against figures that AWS documents, and the fallback with answers of DescribeInstanceTypes.

import { readFileSync, statSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { limitsFromDescribe, limitsOf, limitsSources } from '../../agent/aws/limits/limits.ts';
import { isFailure } from '../../agent/messages/failure.ts';

const file = new URL('../../agent/aws/limits/limits.generated.json', import.meta.url);

test('common types have the limits that AWS documents', async () => {
  assert.equal(await limitsOf('m5.large'), {
    enis: 3,
    defaultCardEnis: 3,
    addressesPerEni: 10,
    nitro: true,
    cards: 1,
    baselineMbps: 750,
  });
  assert.equal(shape(await limitsOf('t3.micro')), [2, 2, true]);
  assert.equal(shape(await limitsOf('c5.18xlarge')), [15, 50, true]);
  assert.equal(shape(await limitsOf('m4.large')), [2, 10, false]);
  assert.equal(shape(await limitsOf('m5.metal')), [15, 50, true]);
});

test('a type with several network cards: the limit of the default card is separate', async () => {
  const p5 = await limitsOf('p5.48xlarge');
  assert.equal([p5?.cards, p5?.enis, p5?.defaultCardEnis], [32, 64, 2]);
  assert.is(p5?.baselineMbps, 100_000, 'and so is its bandwidth: 3,200 Gbit/s are of all 32');
  const b300 = await limitsOf('p6-b300.48xlarge');
  assert.equal([b300?.cards, b300?.baselineMbps], [17, undefined], '6,400 Gbit/s are not of 17 cards alike');
});

test('an unknown type is undefined, also when its name is a property of every object', async () => {
  for (const type of ['m99.large', '', 'constructor', '__proto__', 'toString'])
    assert.is(await limitsOf(type), undefined);
});

test('every row has plausible limits', async () => {
  const { types } = JSON.parse(readFileSync(file, 'utf8'));
  const names = Object.keys(types);
  assert.ok(names.length > 1300, `${names.length} types`);
  for (const name of names) {
    const limits = await limitsOf(name);
    assert.ok(limits !== undefined && /^[a-z][a-z0-9-]*\.[a-z0-9-]+$/.test(name), name);
    assert.ok(limits.defaultCardEnis >= 1 && limits.defaultCardEnis <= 24, name);
    assert.ok(limits.addressesPerEni >= 2 && limits.addressesPerEni <= 64, name);
    assert.ok(limits.enis >= limits.defaultCardEnis && limits.cards >= 1, name);
    assert.ok(limits.baselineMbps === undefined || limits.baselineMbps > 0, name);
    for (const number of Object.values(limits))
      assert.ok(typeof number === 'boolean' || Number.isInteger(number), name);
  }
});

test('the table is dated, small, and names its sources', async () => {
  const sources = await limitsSources();
  assert.is(sources.length, 2);
  for (const source of sources) {
    assert.match(source.published, /^20\d\d-\d\d-\d\d$/);
    assert.match(source.version, /^v\d+\.\d+\.\d+$/);
    assert.match(source.sum, /^h1:/);
  }
  assert.ok(statSync(file).size < 60_000);
});

test('DescribeInstanceTypes: one card', () => {
  const limits = limitsFromDescribe('m9.large', {
    Hypervisor: 'nitro',
    BareMetal: false,
    NetworkInfo: {
      MaximumNetworkInterfaces: 3,
      DefaultNetworkCardIndex: 0,
      Ipv4AddressesPerInterface: 10,
      NetworkCards: [{ NetworkCardIndex: 0, MaximumNetworkInterfaces: 3, BaselineBandwidthInGbps: 0.75 }],
    },
  });
  assert.equal(limits, {
    enis: 3,
    defaultCardEnis: 3,
    addressesPerEni: 10,
    nitro: true,
    cards: 1,
    baselineMbps: 750,
  });
});

test('DescribeInstanceTypes: the default card may be any of several', () => {
  const limits = limitsFromDescribe('p9.48xlarge', {
    BareMetal: true,
    NetworkInfo: {
      MaximumNetworkInterfaces: 9,
      DefaultNetworkCardIndex: 1,
      Ipv4AddressesPerInterface: 50,
      NetworkCards: [
        { NetworkCardIndex: 0, MaximumNetworkInterfaces: 7, BaselineBandwidthInGbps: 100 },
        { NetworkCardIndex: 1, MaximumNetworkInterfaces: 2 },
      ],
    },
  });
  assert.equal(limits, { enis: 9, defaultCardEnis: 2, addressesPerEni: 50, nitro: true, cards: 2 });
});

test('DescribeInstanceTypes: the bandwidth is that of the default card, neither a sum nor a mean', () => {
  const limits = limitsFromDescribe('p9.96xlarge', {
    Hypervisor: 'nitro',
    NetworkInfo: {
      MaximumNetworkInterfaces: 24,
      DefaultNetworkCardIndex: 0,
      Ipv4AddressesPerInterface: 50,
      NetworkCards: [
        { NetworkCardIndex: 0, MaximumNetworkInterfaces: 4, BaselineBandwidthInGbps: 37.5 },
        { NetworkCardIndex: 1, MaximumNetworkInterfaces: 10, BaselineBandwidthInGbps: 400 },
        { NetworkCardIndex: 2, MaximumNetworkInterfaces: 10 },
      ],
    },
  });
  assert.is(limits.baselineMbps, 37_500);
});

test('DescribeInstanceTypes: a missing or partial answer fails with a code, and is never guessed', () => {
  const partial = [
    undefined,
    {},
    { NetworkInfo: {} },
    { NetworkInfo: { MaximumNetworkInterfaces: 3 } },
    { NetworkInfo: { Ipv4AddressesPerInterface: 10 } },
    {
      NetworkInfo: {
        MaximumNetworkInterfaces: 4,
        Ipv4AddressesPerInterface: 10,
        DefaultNetworkCardIndex: 5,
        NetworkCards: [{ NetworkCardIndex: 0 }, { NetworkCardIndex: 1 }],
      },
    },
  ];
  for (const info of partial)
    assert.throws(
      () => limitsFromDescribe('x1.new', info),
      (error: unknown) => isFailure(error, 'INSTANCE_TYPE_UNKNOWN'),
    );
});

test("without a list of cards the instance's limit is the limit of its only card", () => {
  const limits = limitsFromDescribe('m3.medium', {
    Hypervisor: 'xen',
    NetworkInfo: { MaximumNetworkInterfaces: 2, Ipv4AddressesPerInterface: 6 },
  });
  assert.equal(limits, { enis: 2, defaultCardEnis: 2, addressesPerEni: 6, nitro: false, cards: 1 });
});

function shape(limits: Awaited<ReturnType<typeof limitsOf>>) {
  return [limits?.defaultCardEnis, limits?.addressesPerEni, limits?.nitro];
}

test.run();
