// A prefix leaves the pool: killed at every change of the file system, and with pods starting or ending at every one.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { listEntries, listOwned, NEVER_USED } from '../../agent/pool/entry.ts';
import { releaseLease, takeLease } from '../../agent/pool/lease.ts';
import { addToPool, finishAdding } from '../../agent/pool/prefixes.ts';
import {
  expireGone,
  forget,
  halfRetired,
  isReadyToLeave,
  leavingPrefixes,
  retire,
  startLeaving,
  unretire,
  welcomeBack,
} from '../../agent/pool/retire.ts';
import { crashed, interrupted } from './crash.ts';
import { emptyPool, listing, violations } from './oracle.ts';

const ENI = 'eni-0aaaaaaaaaaaaaaa1';
const leaver = { eniId: ENI, cidr: '10.0.64.16/28' };
const stayer = { eniId: ENI, cidr: '10.0.64.32/28' };
const rest = { nowMs: 1_000_000, restMs: 60_000 };
const lease = { eniIds: [ENI], ...rest, lowWater: 0 };

function freshPool(): void {
  emptyPool();
  addToPool(leaver, 0);
  addToPool(stayer, 0);
}

/** The part of refill that gives a prefix back, with EC2 as a set. */
function giveBack(ec2: Set<string>): void {
  finishAdding();
  for (const owned of halfRetired()) unretire(owned);
  if (leavingPrefixes().length === 0 && ec2.has(leaver.cidr) && retire(leaver, rest))
    startLeaving(leaver, 'given', rest.nowMs);
  for (const one of leavingPrefixes()) {
    ec2.delete(one.cidr);
    forget(one, rest.nowMs);
  }
}

test('a prefix is added: after a kill at any change the next run ends like an undisturbed one', () => {
  freshPool();
  const expected = listing();
  let points = 0;
  for (let at = 1; ; at += 1) {
    emptyPool();
    const killed = crashed(at, freshPool);
    assert.equal(violations(false), [], `killed before change ${at}`);
    finishAdding();
    assert.equal(violations(true), [], `finished after a kill before change ${at}`);
    addToPool(leaver, 0);
    addToPool(stayer, 0);
    assert.equal(listing(), expected);
    if (!killed) break;
    points = at;
  }
  assert.ok(points > 60, `${points} points`);
});

test('a prefix is given back: after a kill at any change no address is doubled or lost, or given back while a pod could get it', () => {
  let points = 0;
  for (let at = 1; ; at += 1) {
    freshPool();
    const ec2 = new Set([leaver.cidr, stayer.cidr]);
    const killed = crashed(at, () => giveBack(ec2));
    assert.equal(violations(false), [], `killed before change ${at}`);
    if (!ec2.has(leaver.cidr)) {
      const takeable = [...listEntries('free'), ...listEntries('cooling')].map((entry) => entry.address);
      assert.not.ok(
        takeable.some((address) => address < '10.0.64.32'),
        'a pod could get an address that EC2 has taken',
      );
    }
    giveBack(ec2);
    assert.equal(violations(true), [], `again after a kill before change ${at}`);
    assert.equal(
      listOwned().map((owned) => owned.cidr),
      [...ec2],
      'markers and EC2 agree',
    );
    if (!killed) break;
    points = at;
  }
  assert.ok(points > 30, `${points} points`);
});

test('a pod that comes at any moment while a prefix is retired keeps its address, or gets one that stays', () => {
  for (let at = 1; ; at += 1) {
    freshPool();
    const ec2 = new Set([leaver.cidr, stayer.cidr]);
    const got: string[] = [];
    const inTime = interrupted(
      at,
      () => got.push(takeLease({ containerId: `c${at}`, ifName: 'eth0' }, lease).address),
      () => giveBack(ec2),
    );
    assert.equal(violations(false), [], `a pod came before change ${at}`);
    assert.equal(listEntries('retiring'), [], 'addresses that cannot leave are put back');
    const prefix = (got[0] ?? '') < '10.0.64.32' ? leaver : stayer;
    if (got.length > 0) assert.ok(ec2.has(prefix.cidr), `EC2 was given ${prefix.cidr} with ${got[0]} in use`);
    if (!inTime) break;
  }
});

test('a pod that ends at any moment while its prefix is retired rests in full', () => {
  for (let at = 1; ; at += 1) {
    freshPool();
    const ec2 = new Set([leaver.cidr, stayer.cidr]);
    const pod = takeLease({ containerId: 'c', ifName: 'eth0' }, lease);
    const inTime = interrupted(
      at,
      () => releaseLease(pod, rest.nowMs),
      () => giveBack(ec2),
    );
    assert.equal(violations(false), []);
    assert.equal(listEntries('retiring'), [], 'addresses that cannot leave are put back');
    assert.ok(ec2.has(leaver.cidr), `given back while ${pod.address} rests`);
    if (!inTime) break;
  }
});

test('only addresses that have rested are retired, with stamps of any form', () => {
  for (const [stamp, yes] of [
    ['0', true],
    [NEVER_USED, true],
    ['940000', true],
    ['940001', false],
    ['1000001', false],
    ['', false],
    ['yesterday', false],
    ['1e3', false],
    ['-5', false],
    ['0x10', false],
    [' 7', false],
    ['12.5', false],
    ['1'.padEnd(25, '0'), false],
  ] as const) {
    emptyPool();
    addToPool(leaver, stamp as unknown as number);
    assert.is(retire(leaver, rest), yes, `stamp ${JSON.stringify(stamp)}`);
    assert.is(isReadyToLeave(leaver, rest), yes);
    assert.is(listEntries(yes ? 'retiring' : 'free').length, 16);
  }
});

test('a prefix that has just left is not added again until EC2 assigns it again, or minutes have passed', () => {
  freshPool();
  giveBack(new Set([leaver.cidr, stayer.cidr]));
  assert.not.ok(addToPool(leaver, 0), 'an old describe must not bring it back');
  expireGone(rest.nowMs + 299_999);
  assert.not.ok(addToPool(leaver, 0));
  forget(leaver, rest.nowMs + 100_000);
  expireGone(rest.nowMs + 399_999);
  assert.not.ok(addToPool(leaver, 0), 'counted from the end of its leaving, not from the begin');
  welcomeBack(ENI, [leaver.cidr]);
  assert.ok(addToPool(leaver, NEVER_USED), 'EC2 has given it again');
  giveBack(new Set([leaver.cidr, stayer.cidr]));
  expireGone(rest.nowMs + 300_000);
  assert.ok(addToPool(leaver, 0), 'after minutes a describe shows it: it is assigned');
  assert.equal(violations(true), []);
});

test.run();
