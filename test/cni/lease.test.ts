// Leases on a pool in the sandbox's own /run: order, rest, races; no address is lost or leased twice.
import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isFailure } from '../../agent/messages/failure.ts';
import { NEVER_USED, POOL_DIR, splitName } from '../../agent/pool/entry.ts';
import { forgetInUse, inUse, noteInUse } from '../../agent/pool/in-use.ts';
import { takeInventory } from '../../agent/pool/inventory.ts';
import { findLease, listLeases, releaseLease, takeLease, undoLease } from '../../agent/pool/lease.ts';
import { noteLease, noteOf } from '../../agent/pool/lease-note.ts';
import { addToPool, claim } from '../../agent/pool/prefixes.ts';

const options = { eniIds: ['eni-a', 'eni-b'], restMs: 60_000, nowMs: 1_000_000, lowWater: 0 };
let next = 0;
const owner = () => ({ containerId: `c${(next += 1)}`, ifName: 'eth0' });

test.before.each(() => rmSync(POOL_DIR, { recursive: true, force: true }));

function put(state: string, address: string, eniId: string, rest: string | number): void {
  mkdirSync(`${POOL_DIR}/${state}`, { recursive: true });
  for (const one of ['free', 'leased', 'cooling', 'retiring'])
    mkdirSync(`${POOL_DIR}/${one}`, { recursive: true });
  writeFileSync(`${POOL_DIR}/${state}/${address},${eniId},${rest}`, '');
}

test('the first ENI is filled before the second, prefix by prefix', () => {
  addToPool({ eniId: 'eni-b', cidr: '10.0.0.16/28' }, NEVER_USED);
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.48/28' }, NEVER_USED);
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.32/28' }, NEVER_USED);
  const taken = Array.from({ length: 48 }, () => takeLease(owner(), options));
  assert.equal(
    taken.map((lease) => lease.address),
    Array.from({ length: 48 }, (_, at) => `10.0.0.${at < 32 ? 32 + at : at - 16}`),
  );
  assert.is(taken[40]?.eniId, 'eni-b');
});

test('the fullest prefix is preferred, so that another can become idle', () => {
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/28' }, NEVER_USED);
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.32/28' }, NEVER_USED);
  const first = Array.from({ length: 20 }, () => takeLease(owner(), options));
  for (const lease of first.slice(0, 14)) releaseLease(lease, options.nowMs - 70_000);
  // 10.0.0.16/28 has 2 leases left, 10.0.0.32/28 has 4.
  assert.match(takeLease(owner(), options).address, /^10\.0\.0\.(3[2-9]|4[0-7])$/);
});

test('within a prefix the longest-rested address comes first, and resting ones are not leased', () => {
  put('cooling', '10.0.0.17', 'eni-a', options.nowMs - 61_000);
  put('cooling', '10.0.0.18', 'eni-a', options.nowMs - 90_000);
  put('cooling', '10.0.0.19', 'eni-a', options.nowMs - 59_999);
  put('free', '10.0.0.20', 'eni-a', options.nowMs - 70_000);
  // Not decimal numbers. retire() takes them for unreadable, so no pod may get these addresses either.
  for (const [at, stamp] of ['unreadable', '1e3', '-5', '0x10', ' 7', '12.5', '', '3,4'].entries())
    put('free', `10.0.0.${23 + at}`, 'eni-a', stamp);
  put('free', '10.0.0.22', 'eni-c', 0);
  const order = [1, 2, 3].map(() => takeLease(owner(), options).address);
  assert.equal(order, ['10.0.0.18', '10.0.0.20', '10.0.0.17']);
  try {
    takeLease(owner(), options);
    assert.unreachable('the other addresses are resting, unreadable, or of an ENI without a device');
  } catch (error) {
    assert.ok(isFailure(error, 'POOL_EXHAUSTED'), String(error));
  }
  assert.ok(readdirSync(POOL_DIR).includes('refill-wanted'));
});

test('addresses that an earlier boot may have used rest after this boot; newly assigned ones do not', () => {
  const early = { ...options, nowMs: 20_000 };
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/28' }, 0);
  assert.throws(
    () => takeLease(owner(), early),
    (error: unknown) => isFailure(error, 'POOL_EXHAUSTED'),
  );
  addToPool({ eniId: 'eni-b', cidr: '10.0.0.32/28' }, NEVER_USED);
  assert.is(takeLease(owner(), early).address, '10.0.0.32');
  assert.is(takeLease(owner(), { ...early, nowMs: 60_000 }).address, '10.0.0.16');
});

test('a refill is asked for only below the low-water mark', () => {
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/28' }, NEVER_USED);
  for (let left = 15; left >= 4; left -= 1) takeLease(owner(), { ...options, lowWater: 4 });
  assert.not.ok(readdirSync(POOL_DIR).includes('refill-wanted'));
  takeLease(owner(), { ...options, lowWater: 4 });
  assert.ok(readdirSync(POOL_DIR).includes('refill-wanted'));
});

test('a lease is found by its owner only; a second release does nothing; an undone lease leaves no trace', () => {
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/28' }, NEVER_USED);
  const before = readdirSync(`${POOL_DIR}/free`);
  const mine = { containerId: 'a.b_c-d', ifName: 'net,1' };
  const lease = takeLease(mine, options);
  assert.equal(findLease(mine)?.address, lease.address);
  assert.is(findLease({ containerId: 'a.b_c-d', ifName: 'eth0' }), undefined);
  assert.equal(listLeases()[0]?.owner, mine);
  undoLease(lease);
  assert.equal(readdirSync(`${POOL_DIR}/free`), before);
  const again = takeLease(mine, options);
  assert.is(releaseLease(again, 123), true);
  assert.is(releaseLease(again, 456), false);
  assert.equal(readdirSync(`${POOL_DIR}/cooling`), [`${again.address},eni-a,123`]);
});

test("a note has the pod's UID; one of an earlier version has none", () => {
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/28' }, NEVER_USED);
  const lease = takeLease(owner(), options);
  const pod = { namespace: 'x', name: 'p' };
  const note = { netns: '/run/netns/p', network: 'eniboot', madeMs: 7 };
  for (const named of [pod, { ...pod, uid: 'b5b2-7' }, undefined]) {
    assert.ok(noteLease(lease, { ...note, pod: named }));
    assert.equal(noteOf(lease), { ...note, pod: named, limits: {} });
  }
  const [name = ''] = readdirSync(`${POOL_DIR}/leased`);
  writeFileSync(
    `${POOL_DIR}/leased/${name}`,
    `${lease.owner.containerId}\n/run/netns/p\neniboot\nx/p\n{}\n7\n`,
  );
  assert.equal(noteOf(lease), { ...note, pod, limits: {} });
});

test('an address in use comes last, in any ENI and prefix, and does not count as free', () => {
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/30' }, NEVER_USED);
  addToPool({ eniId: 'eni-b', cidr: '10.0.0.32/30' }, NEVER_USED);
  for (const last of [16, 17, 18]) noteInUse({ address: `10.0.0.${last}`, eniId: 'eni-a' }, options.nowMs);
  // The note names another ENI, so it is about another address.
  noteInUse({ address: '10.0.0.32', eniId: 'eni-a' }, options.nowMs);
  const order = Array.from({ length: 5 }, () => takeLease(owner(), { ...options, lowWater: 1 }).address);
  assert.equal(order, ['10.0.0.19', '10.0.0.32', '10.0.0.33', '10.0.0.34', '10.0.0.35']);
  assert.ok(
    readdirSync(POOL_DIR).includes('refill-wanted'),
    'the last address that counts as free is leased',
  );
  const late = Array.from({ length: 3 }, () => takeLease(owner(), options).address).sort();
  assert.equal(late, ['10.0.0.16', '10.0.0.17', '10.0.0.18']);
});

test('the newest note of an address counts for ten minutes, or until the kernel accepts the address', () => {
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/31' }, NEVER_USED);
  const place = { address: '10.0.0.16', eniId: 'eni-a' };
  noteInUse(place, options.nowMs - 700_000);
  assert.is(inUse(options.nowMs).size, 0);
  noteInUse(place, options.nowMs - 599_999);
  assert.equal([...inUse(options.nowMs)], ['10.0.0.16,eni-a']);
  assert.is(readdirSync(`${POOL_DIR}/in-use`).length, 1);
  assert.is(takeInventory({ nowMs: options.nowMs, restMs: 0 }).find((one) => one.inUse === 1)?.ready, 1);
  assert.is(takeLease(owner(), options).address, '10.0.0.17');
  forgetInUse(place);
  assert.equal(readdirSync(`${POOL_DIR}/in-use`), []);
});

test('an ADD passes over the addresses that it has tried, and fails after the last', () => {
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/31' }, NEVER_USED);
  const passOver = new Set(['10.0.0.16']);
  assert.is(takeLease(owner(), { ...options, passOver }).address, '10.0.0.17');
  assert.throws(
    () => takeLease(owner(), { ...options, passOver }),
    (error: unknown) => isFailure(error, 'POOL_EXHAUSTED'),
  );
});

test('a full pool names only what is there: resting addresses, addresses in use', () => {
  const refused = () => {
    try {
      takeLease(owner(), options);
    } catch (error) {
      return String(error);
    }
    return 'leased';
  };
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/32' }, NEVER_USED);
  takeLease(owner(), options);
  assert.not.match(refused(), /rest after|without a lease/);
  put('cooling', '10.0.0.19', 'eni-a', options.nowMs);
  assert.match(refused(), /1 rest after their pod is gone/);
});

test('an address is out of circulation only when no pod has it and the pool has an entry', () => {
  addToPool({ eniId: 'eni-a', cidr: '10.0.0.16/31' }, NEVER_USED);
  const { address } = takeLease(owner(), options);
  const never = () => assert.unreachable('a leased address is not moved') as never;
  assert.is(claim(address, never), 'leased');
  assert.is(claim('10.0.0.99', never), 'absent');
  const other = claim('10.0.0.17', () => true);
  assert.ok(typeof other === 'object' && other.eniId === 'eni-a');
  // Its entry is between two folders.
  rmSync(`${POOL_DIR}/free`, { recursive: true });
  assert.is(claim('10.0.0.17', never), 'leased');
});

test('a name of another form is no entry', () => {
  for (const name of ['', '10.0.0.1', '10.0.0.1,eni-a']) assert.is(splitName(name), undefined, name);
  assert.equal(splitName('10.0.0.1,eni-a,c,eth0'), { address: '10.0.0.1', eniId: 'eni-a', rest: 'c,eth0' });
});

test('neither the plugin nor the pool reads the wall clock, which may step', () => {
  const root = join(import.meta.dirname, '../..');
  for (const folder of ['cni', 'agent/pool']) {
    for (const name of readdirSync(join(root, folder)).filter((one) => one.endsWith('.ts'))) {
      const code = readFileSync(join(root, folder, name), 'utf8').replaceAll('performance.now()', '');
      assert.not.match(code, /\bDate\b|\.now\(\)/, `${folder}/${name}`);
    }
  }
});

test('20 processes take and release leases all the time: no address is held twice, none is lost', async () => {
  for (const cidr of ['10.0.0.16/28', '10.0.0.32/28']) addToPool({ eniId: 'eni-a', cidr }, NEVER_USED);
  const program = `
    import { takeLease, releaseLease } from ${JSON.stringify(`${import.meta.dirname}/../../agent/pool/lease.ts`)};
    import { isFailure } from ${JSON.stringify(`${import.meta.dirname}/../../agent/messages/failure.ts`)};
    import { closeSync, openSync, rmSync } from 'node:fs';
    const options = { eniIds: ['eni-a'], restMs: 0, nowMs: 1000, lowWater: 0 };
    let taken = 0, exhausted = 0;
    for (let round = 0; round < 60; round += 1) {
      let lease;
      try { lease = takeLease({ containerId: 'p' + process.pid + '-' + round, ifName: 'eth0' }, options); }
      catch (error) { if (!isFailure(error, 'POOL_EXHAUSTED')) throw error; exhausted += 1; continue; }
      taken += 1;
      // Held by two at once, and the second of them fails here.
      closeSync(openSync('/run/held-' + lease.address, 'wx'));
      rmSync('/run/held-' + lease.address);
      releaseLease(lease, 0);
    }
    console.log(JSON.stringify({ taken, exhausted }));`;
  const outcomes = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      child.stdout.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      const code = await new Promise((resolve) => child.on('close', resolve));
      assert.is(code, 0);
      return JSON.parse(text) as { taken: number; exhausted: number };
    }),
  );
  const taken = outcomes.reduce((sum, one) => sum + one.taken, 0);
  assert.ok(taken > 600, `${taken} of 1200 rounds got an address`);
  const addresses = ['free', 'cooling', 'leased'].flatMap((state) =>
    readdirSync(`${POOL_DIR}/${state}`).map((name) => name.split(',')[0]),
  );
  assert.is(addresses.length, 32);
  assert.is(new Set(addresses).size, 32);
});

test.run();
