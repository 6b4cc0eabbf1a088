// Properties for every input: the attach plan, the flattened egress table, retries (patience), the deadline.
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AddressRequest, Ec2, Eni } from '../../agent/aws/ec2.ts';
import type { InstanceLimits } from '../../agent/aws/limits/limits.ts';
import { type CallRecord, withPatience } from '../../agent/aws/patience.ts';
import { POD_ROLE, ROLE_TAG } from '../../agent/aws/tags.ts';
import type { AttachStep } from '../../agent/boot/change.ts';
import { openDeadline } from '../../agent/boot/deadline.ts';
import { type EgressAction, flatten } from '../../agent/boot/node-rules/nft-text.ts';
import { planAttach, podEnisOf, poolSizeOf } from '../../agent/boot/phases/attach/plan.ts';
import { rangeOf, toAddress } from '../../agent/host/ipv4.ts';
import { Failure, type FailureCode, isFailure } from '../../agent/messages/failure.ts';
import type { Clock } from '../../agent/port/clock.ts';

/** A clock that moves only when a task sleeps. */
function virtualClock(startMs = 1_000_000): Clock & { wallMs: number; advance(ms: number): void } {
  let now = startMs;
  return {
    wallMs: 0,
    bootMs: () => now,
    now() {
      return new Date(this.wallMs + now);
    },
    async sleep(ms, signal) {
      // A sleep whose race is already decided moves no time.
      await Promise.resolve();
      if (signal !== undefined) return new Promise(() => {});
      now += ms;
    },
    advance(ms) {
      now += ms;
    },
  };
}

// --- the attach plan -------------------------------------------------------------------------------------

interface World {
  attached: Eni[];
  unattached: Eni[];
  limits: InstanceLimits;
  addressing: 'prefixes' | 'addresses';
  target: number;
  ipv6: boolean;
}

function eni(
  id: string,
  index: number | undefined,
  pods: boolean,
  size: AddressRequest,
  protectedEni = true,
): Eni {
  return {
    eniId: id,
    mac: '02:00:00:00:00:01',
    subnetId: 'subnet-1',
    vpcId: 'vpc-1',
    status: index === undefined ? 'available' : 'in-use',
    description: '',
    primaryAddress: '10.0.0.4',
    secondaryAddresses:
      size.kind === 'addresses' ? Array.from({ length: size.count }, (_, at) => `10.1.0.${at}`) : [],
    prefixes:
      size.kind === 'prefixes' ? Array.from({ length: size.count }, (_, at) => `10.2.${at}.0/28`) : [],
    ipv6Prefixes: [],
    tags: pods ? { [ROLE_TAG]: POD_ROLE } : {},
    securityGroupIds: [],
    attachment:
      index === undefined
        ? undefined
        : {
            attachmentId: `attach-${id}`,
            instanceId: 'i-1',
            deviceIndex: index,
            networkCard: 0,
            status: 'attached',
            deleteOnTermination: protectedEni,
          },
  };
}

const worlds: fc.Arbitrary<World> = fc
  .record({
    enis: fc.integer({ min: 1, max: 8 }),
    addresses: fc.integer({ min: 2, max: 16 }),
    addressing: fc.constantFrom('prefixes' as const, 'addresses' as const),
    target: fc.integer({ min: 1, max: 300 }),
    ipv6: fc.boolean(),
    others: fc.uniqueArray(
      fc.record({
        index: fc.integer({ min: 1, max: 10 }),
        pods: fc.boolean(),
        held: fc.integer({ min: 0, max: 15 }),
        protectedEni: fc.boolean(),
        prefixed: fc.boolean(),
      }),
      { selector: (one) => one.index, maxLength: 8 },
    ),
    left: fc.array(fc.integer({ min: 0, max: 15 }), { maxLength: 3 }),
  })
  .map(({ enis, addresses, addressing, target, ipv6, others, left }) => ({
    limits: { enis, defaultCardEnis: enis, addressesPerEni: addresses, nitro: true, cards: 1 },
    addressing,
    target,
    ipv6,
    attached: [
      eni('eni-boot', 0, false, { kind: addressing, count: 0 }),
      ...others.slice(0, enis - 1).map((one) => ({
        ...eni(
          `eni-${one.index}`,
          one.index,
          one.pods,
          { kind: addressing, count: Math.min(one.held, addresses - 1) },
          one.protectedEni,
        ),
        ipv6Prefixes: one.prefixed ? [IPV6_PREFIX] : [],
      })),
    ],
    unattached: left.map((held, at) =>
      eni(`eni-left-${at}`, undefined, true, { kind: addressing, count: Math.min(held, addresses - 1) }),
    ),
  }));

function plan(world: World): AttachStep[] | 'no room' {
  try {
    return planAttach({ ...world, full: new Set(), exhausted: false });
  } catch (error) {
    if (isFailure(error, 'ENI_LIMIT')) return 'no room';
    throw error;
  }
}

/** The world after EC2 has carried out the steps. */
function carriedOut(world: World, steps: AttachStep[]): World {
  let attached = [...world.attached];
  let unattached = [...world.unattached];
  for (const step of steps) {
    if (step.kind === 'protect') {
      attached = attached.map((one) =>
        one.eniId === step.eniId && one.attachment !== undefined
          ? { ...one, attachment: { ...one.attachment, deleteOnTermination: true } }
          : one,
      );
    } else if (step.kind === 'assign') {
      attached = attached.map((one) => (one.eniId === step.eniId ? grown(one, step.addresses) : one));
    } else if (step.kind === 'assign-ipv6') {
      attached = attached.map((one) =>
        one.eniId === step.eniId ? { ...one, ipv6Prefixes: [...one.ipv6Prefixes, IPV6_PREFIX] } : one,
      );
    } else if (step.kind === 'adopt') {
      const found = unattached.find((one) => one.eniId === step.eniId);
      assert.ok(found !== undefined, 'only an existing ENI is adopted');
      unattached = unattached.filter((one) => one.eniId !== step.eniId);
      attached.push({ ...eni(step.eniId, step.deviceIndex, true, step0), ...addressesOf(found as Eni) });
    } else {
      attached.push({
        ...eni(`eni-new-${step.deviceIndex}`, step.deviceIndex, true, step.addresses),
        ipv6Prefixes: world.ipv6 ? [IPV6_PREFIX] : [],
      });
    }
  }
  return { ...world, attached, unattached };
}

const IPV6_PREFIX = '2001:db8:1:2:3::/80';
const step0: AddressRequest = { kind: 'addresses', count: 0 };

function addressesOf(one: Eni): Pick<Eni, 'prefixes' | 'secondaryAddresses'> {
  return { prefixes: one.prefixes, secondaryAddresses: one.secondaryAddresses };
}

function grown(one: Eni, more: AddressRequest): Eni {
  const added = eni('x', undefined, true, more);
  return {
    ...one,
    prefixes: [...one.prefixes, ...added.prefixes],
    secondaryAddresses: [...one.secondaryAddresses, ...added.secondaryAddresses],
  };
}

test('the attach plan never goes over a limit and never uses an index twice', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const steps = plan(world);
      if (steps === 'no room') return;
      const { attached, limits } = { ...carriedOut(world, steps) };
      assert.ok(attached.length <= Math.max(limits.defaultCardEnis, world.attached.length), 'ENIs');
      const indexes = attached.map((one) => one.attachment?.deviceIndex);
      assert.is(new Set(indexes).size, indexes.length, 'one ENI at each index');
      for (const one of attached) {
        assert.ok(1 + one.prefixes.length + one.secondaryAddresses.length <= limits.addressesPerEni);
      }
    }),
    { numRuns: 2000 },
  );
});

test('the attach plan does not touch ENIs of other programs', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const steps = plan(world);
      if (steps === 'no room') return;
      const ours = new Set([...podEnisOf(world.attached), ...world.unattached].map((one) => one.eniId));
      for (const step of steps) if ('eniId' in step) assert.ok(ours.has(step.eniId), step.summary);
    }),
    { numRuns: 1000 },
  );
});

test('the attach plan reaches the target, or the most that the limits allow, and then is empty', () => {
  fc.assert(
    fc.property(worlds, (world) => {
      const steps = plan(world);
      if (steps === 'no room') {
        assert.ok(world.attached.length >= world.limits.defaultCardEnis);
        return;
      }
      // An ENI that a killed run left may be smaller than possible: the next plan fills it.
      let after = carriedOut(world, steps);
      const second = plan(after);
      if (second !== 'no room') after = carriedOut(after, second);
      const third = plan(after);
      assert.equal(
        third === 'no room' ? [] : third.filter((step) => step.kind !== 'adopt').map((step) => step.summary),
        [],
        'nothing is left to do',
      );
      const pods = podEnisOf(after.attached);
      assert.ok(pods.length >= 1, 'at least one pod ENI');
      const size = pods.reduce((sum, one) => sum + poolSizeOf(one), 0);
      const full =
        after.attached.length >= world.limits.defaultCardEnis &&
        pods.every(
          (one) => 1 + one.prefixes.length + one.secondaryAddresses.length >= world.limits.addressesPerEni,
        );
      assert.ok(size >= world.target || full, `${size} of ${world.target}, not full`);
      assert.ok(pods.every((one) => one.attachment?.deleteOnTermination === true));
    }),
    { numRuns: 2000 },
  );
});

// --- the egress table ------------------------------------------------------------------------------------

const actions: EgressAction[] = ['route', 'snat', 'snat-keep-port'];
const rows = fc.array(
  fc.record({
    // Few bits, so that CIDRs often contain or touch each other.
    cidr: fc.tuple(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 22, max: 32 })).map(([at, length]) => {
      const { first } = rangeOf(`10.0.${at % 4}.${at}/${length}`);
      return `${toAddress(first)}/${length}`;
    }),
    action: fc.constantFrom(...actions),
  }),
  { maxLength: 12 },
);

/** For one address: the row with the longest prefix wins, and the later row among equal ones. */
function oracle(table: { cidr: string; action: EgressAction }[], address: number): EgressAction | undefined {
  let best: { length: number; action: EgressAction } | undefined;
  for (const { cidr, action } of table) {
    const { first, last } = rangeOf(cidr);
    const length = Number(cidr.split('/')[1]);
    if (address < first || address > last) continue;
    if (best === undefined || length >= best.length) best = { length, action };
  }
  return best?.action;
}

test('flatten() gives every address the action of a longest-prefix match', () => {
  fc.assert(
    fc.property(rows, (table) => {
      const flat = flatten(table);
      for (let at = 1; at < flat.length; at += 1) {
        assert.ok((flat[at - 1]?.last ?? 0) < (flat[at]?.first ?? 0), 'disjoint and in order');
      }
      const { first } = rangeOf('10.0.0.0/22');
      for (let address = first; address < first + 1024; address += 1) {
        const found = flat.find((range) => range.first <= address && address <= range.last);
        assert.is(found?.action, oracle(table, address), toAddress(address));
      }
    }),
    { numRuns: 300 },
  );
});

// --- patience --------------------------------------------------------------------------------------------

type Answer = 'accepted' | FailureCode;

/** An EC2 whose deleteEni gives these answers, and then succeeds. */
function scripted(answers: Answer[], clock: { advance(ms: number): void }): Ec2 {
  const left = [...answers];
  return {
    deleteEni: async () => {
      clock.advance(20);
      const answer = left.shift() ?? 'accepted';
      if (answer !== 'accepted') throw new Failure(answer, 'scripted');
    },
  } as unknown as Ec2;
}

test('patience: full jitter within its bounds, permanent failures at once, no attempt after the end', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.constantFrom<Answer>(
          'accepted',
          'EC2_THROTTLED',
          'EC2_UNAVAILABLE',
          'EC2_AUTH',
          'EC2_DENIED',
          'EC2_REFUSED',
        ),
        { maxLength: 12 },
      ),
      fc.integer({ min: 0, max: 60_000 }),
      fc.integer({ min: 0, max: 999 }),
      async (answers, budget, luck) => {
        const clock = virtualClock();
        const end = clock.bootMs() + budget;
        const records: (CallRecord & { at: number })[] = [];
        let throttledMs = 0;
        const ec2 = withPatience(scripted(answers, clock), {
          clock,
          until: () => end,
          onThrottled: (ms) => {
            throttledMs += ms;
          },
          onCall: (record) => records.push({ ...record, at: clock.bootMs() }),
          random: () => luck / 1000,
        });
        const outcome = await ec2.deleteEni('eni-1').then(
          () => 'accepted' as Answer,
          (error: unknown) => (isFailure(error) ? error.code : 'INTERNAL'),
        );
        assert.is(records.at(-1)?.outcome, outcome, 'the last attempt decides');
        for (const [at, record] of records.entries()) {
          if (at < records.length - 1) {
            const pause = (records[at + 1]?.at ?? 0) - record.at - 20;
            assert.ok(pause >= 0 && pause <= 21_000, `a pause of ${pause} ms`);
            assert.ok(
              ['EC2_THROTTLED', 'EC2_UNAVAILABLE', 'EC2_AUTH'].includes(record.outcome),
              'only transient failures are tried again',
            );
          }
        }
        const last = records.at(-1);
        if (records.length > 1)
          assert.ok((last?.at ?? 0) - 20 <= end + 1_000, 'no attempt begins long after the end');
        if (!answers.includes('EC2_THROTTLED'))
          assert.is(throttledMs, 0, 'only throttling extends the deadline');
      },
    ),
    { numRuns: 500 },
  );
});

test('patience: mutating calls never go faster than the bucket', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.integer({ min: 0, max: 1500 }), { minLength: 1, maxLength: 60 }),
      async (gaps) => {
        const clock = virtualClock();
        const began: number[] = [];
        const ec2 = withPatience(
          {
            createTags: async () => {
              began.push(clock.bootMs());
            },
          } as unknown as Ec2,
          { clock, until: () => Number.POSITIVE_INFINITY, onThrottled: () => {}, onCall: () => {} },
        );
        for (const gap of gaps) {
          clock.advance(gap);
          await ec2.createTags('i-1', {});
        }
        // In every window: a burst of 8, then one call a second.
        for (const [from, start] of began.entries()) {
          for (let to = from; to < began.length; to += 1) {
            const seconds = ((began[to] ?? 0) - start) / 1000;
            assert.ok(to - from + 1 <= 8 + seconds + 1e-6, `${to - from + 1} calls in ${seconds} s`);
          }
        }
      },
    ),
    { numRuns: 200 },
  );
});

// --- the deadline ----------------------------------------------------------------------------------------

test('the deadline: restarts and steps of the wall clock do not move it; throttling does, up to its limit', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 10, max: 3600 }),
      fc.integer({ min: 0, max: 600 }),
      fc.array(
        fc.oneof(
          fc.record({ kind: fc.constant('restart' as const), ms: fc.integer({ min: 0, max: 60_000 }) }),
          fc.record({ kind: fc.constant('throttled' as const), ms: fc.integer({ min: 0, max: 200_000 }) }),
          fc.record({ kind: fc.constant('step' as const), ms: fc.integer({ min: -1e10, max: 1e10 }) }),
        ),
        { maxLength: 15 },
      ),
      (seconds, extension, events) => {
        const clock = virtualClock();
        const start = clock.bootMs();
        let deadline = openDeadline(clock, false);
        deadline.begin();
        deadline.configure(seconds, extension);
        let extended = 0;
        let runs = 1;
        for (const event of events) {
          if (event.kind === 'step') clock.wallMs += event.ms;
          else if (event.kind === 'throttled') {
            const added = deadline.extend(event.ms);
            assert.is(added, Math.min(event.ms, extension * 1000 - extended));
            extended += added;
          } else {
            clock.advance(event.ms);
            deadline = openDeadline(clock, false);
            deadline.begin();
            deadline.configure(seconds, extension);
            runs += 1;
          }
          assert.is(deadline.at(), start + seconds * 1000 + extended);
          assert.is(deadline.attempts, runs);
        }
        deadline.close();
        clock.advance(5_000);
        const next = openDeadline(clock, false);
        assert.is(next.startedMs, clock.bootMs(), 'after a verdict a run has time of its own');
        next.close();
      },
    ),
    { numRuns: 300 },
  );
});

test.run();
