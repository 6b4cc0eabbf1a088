// Blocks as ranges: they cover what the documentation says of each block by itself, for few blocks and for ten thousand.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Block, blocksOf } from '../../agent/policy/blocks.ts';

/** Few bits vary, so that blocks, exceptions and addresses meet, also at the ends of the whole space. */
const address = fc.oneof(
  fc
    .tuple(fc.constantFrom(0, 10, 255), fc.constantFrom(0, 255), fc.nat(255))
    .map(([a, b, c]) => `${a}.${b}.${b}.${c}`),
  fc
    .tuple(fc.constantFrom('::', '2001:db8::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:'), fc.nat(0xffff))
    .map(([prefix, last]) => `${prefix}${last.toString(16)}`),
);
const cidr = fc.tuple(address, fc.double({ min: 0, max: 1, noNaN: true })).map(([text, part]) => {
  const most = text.includes(':') ? 128 : 32;
  return `${text}/${part < 0.1 ? 0 : Math.min(most, Math.round(most - 16 * (1 - part)))}`;
});
/** An exception of the other family excludes nothing. */
const block: fc.Arbitrary<Block> = fc.record({ cidr, except: fc.array(cidr, { maxLength: 4 }) });

const inside = (one: string, of: string) => {
  const [parsed, network] = [ipaddr.parse(one), ipaddr.parseCIDR(of)];
  return parsed.kind() === network[0].kind() && parsed.match(network);
};

test('an address is covered where one of the blocks has it and none of its own exceptions does', () => {
  let covered = 0;
  fc.assert(
    fc.property(fc.array(block, { maxLength: 6 }), fc.array(address, { minLength: 5 }), (list, addresses) => {
      const blocks = blocksOf(list);
      for (const one of addresses) {
        const wanted = list.some(
          (of) => inside(one, of.cidr) && !of.except.some((other) => inside(one, other)),
        );
        assert.is(blocks.covers(one), wanted, one);
        if (wanted) covered += 1;
      }
      for (const ranges of Object.values(blocks.ranges))
        for (const [at, { first, last }] of ranges.entries()) {
          assert.ok(blocks.covers(first) && blocks.covers(last), 'ends are inside');
          assert.ok(
            at === 0 || number(ranges[at - 1]?.last ?? '') + 1n < number(first),
            'in order, and apart',
          );
        }
    }),
    { numRuns: Number(process.env['ENIBOOT_RUNS'] ?? 2000) },
  );
  assert.ok(covered > 1000, `${covered} were covered: too few to say much`);
});

function number(text: string): bigint {
  return BigInt(`0x${Buffer.from(ipaddr.parse(text).toByteArray()).toString('hex')}`);
}

test('blocks that touch are one range, and all addresses are one', () => {
  const of = (...cidrs: string[]) => blocksOf(cidrs.map((one) => ({ cidr: one, except: [] }))).ranges;
  assert.equal(of('10.0.1.0/24', '10.0.0.0/24')[4], [{ first: '10.0.0.0', last: '10.0.1.255' }]);
  assert.equal(of('10.0.0.0/24', '10.0.2.0/24')[4].length, 2);
  assert.equal(of('0.0.0.0/0', '::/0'), {
    4: [{ first: '0.0.0.0', last: '255.255.255.255' }],
    6: [{ first: '::', last: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff' }],
  });
});

test('blocks of a policy that selects no pod here take little memory, and ranges are made once', () => {
  const before = memory();
  const kept = Array.from({ length: 30 }, (_, policy) =>
    blocksOf(
      Array.from({ length: 10_000 }, (_, at) => ({
        cidr: `10.${policy}.${at >> 8}.${at & 255}/32`,
        except: [],
      })),
    ),
  );
  const each = (memory() - before) / kept.length;
  assert.ok(each < 10_000 * 100, `${each} bytes for ten thousand blocks`);
  assert.is(kept[0]?.ranges, kept[0]?.ranges);
  assert.is(kept[0]?.ranges[4].length, 1);
});

/** Bytes that are in use. */
function memory(): number {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
  return process.memoryUsage().heapUsed;
}

test.run();
