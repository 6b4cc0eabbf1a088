// time limit: 240 s
// The pool under any sequence of events: thousands of random operations (pods come and go, the pool grows and gives back, EC2 loses
// prefixes, the node reboots), each of them killed before a random change of the file system, or with another operation running
// inside it. EC2 is a set; the pool's answers are compared with it and with a list of pods.
//
// OPS and SEED in the environment are the number of operations and their seed; the seed is printed.
import { mkdirSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Refilled, reconcile } from '../../agent/boot/refill/reconcile.ts';
import { toNumber } from '../../agent/host/ipv4.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { listEntries, listOwned, NEVER_USED, POOL_DIR } from '../../agent/pool/entry.ts';
import { findLease, listLeases, releaseLease, takeLease, undoLease } from '../../agent/pool/lease.ts';
import { addToPool, finishAdding } from '../../agent/pool/prefixes.ts';
import {
  DESCRIBE_LAG_MS,
  expireGone,
  forget,
  halfRetired,
  leavingPrefixes,
  retire,
  startLeaving,
  unretire,
  welcomeBack,
} from '../../agent/pool/retire.ts';
import { Crash, crashed, interrupted } from './crash.ts';
import { emptyPool, violations } from './oracle.ts';

const OPS = Number(process.env['OPS'] ?? 10_000);
const SEED = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
let state = SEED >>> 0;
/** Numerical Recipes' linear congruential generator; its low bits are poor, so the high ones are used. */
function below(limit: number): number {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * limit);
}

const REST_MS = 60_000;
const ENIS = ['eni-0aaaaaaaaaaaaaaa1', 'eni-0aaaaaaaaaaaaaaa2'];
const PREFIXES = ENIS.flatMap((eniId, eni) =>
  [0, 1, 2, 3].map((at) => ({ eniId, cidr: `10.0.${64 + eni}.${at * 16}/28` })),
);

let nowMs = 0;
let serial = 0;
/** Assigned prefixes, and prefixes that a describe still shows although they are gone. */
const ec2 = new Set<string>();
/** Container ID to address: pods whose ADD succeeded and whose DEL has not. */
const pods = new Map<string, string>();
/** Container IDs for which the runtime will send DEL: ADDs that were killed or failed, DELs that were killed. */
const owed = new Set<string>();
/** Boot-clock milliseconds since when an address has had no pod. */
const endedAt = new Map<string, number>();
/** Boot-clock milliseconds since when EC2 no longer has a prefix. */
const goneSince = new Map<string, number>();
const done: Record<string, number> = {};

const keyOf = (one: { eniId: string; cidr: string }) => `${one.eniId} ${one.cidr}`;
const prefixOf = (address: string) => {
  const [a, b, c, d = '0'] = address.split('.');
  return `${a}.${b}.${c}.${Math.floor(Number(d) / 16) * 16}/28`;
};
const ownerOf = (containerId: string) => ({ containerId, ifName: 'eth0' });

function add(): void {
  serial += 1;
  const containerId = `c${serial}`;
  try {
    const lease = takeLease(ownerOf(containerId), { eniIds: ENIS, restMs: REST_MS, nowMs, lowWater: 8 });
    const { address } = lease;
    assert.not.ok([...pods.values()].includes(address), `${address} has two pods`);
    assert.ok(
      ec2.has(`${lease.eniId} ${prefixOf(address)}`) || wasLost(lease.eniId, address),
      `${address} is dead`,
    );
    const ended = endedAt.get(address);
    assert.ok(
      ended === undefined || nowMs - ended >= REST_MS,
      `${address} has rested ${nowMs - (ended ?? 0)} ms`,
    );
    if (below(10) === 0) undoLease(lease);
    else pods.set(containerId, address);
  } catch (error) {
    // A runtime sends DEL for an ADD that was killed.
    if (error instanceof Crash) owed.add(containerId);
    if (!isFailure(error, 'POOL_EXHAUSTED')) throw error;
  }
}

/** Prefixes that EC2 has lost and no refill has noticed yet. */
const lost = new Set<string>();
function wasLost(eniId: string, address: string): boolean {
  return lost.has(`${eniId} ${prefixOf(address)}`);
}

function del(containerId: string | undefined): void {
  if (containerId === undefined) return;
  const address = pods.get(containerId);
  pods.delete(containerId);
  owed.add(containerId);
  const lease = findLease(ownerOf(containerId));
  if (lease !== undefined) {
    if (address !== undefined) assert.is(lease.address, address);
    // From here on the address has no pod, at whatever time the rename happens.
    endedAt.set(lease.address, nowMs);
    releaseLease(lease, nowMs);
  }
  owed.delete(containerId);
}

function anyOf<T>(values: Iterable<T>): T | undefined {
  const all = [...values];
  return all[below(all.length)];
}

function grow(): void {
  const prefix = anyOf(PREFIXES.filter((one) => !ec2.has(keyOf(one))));
  if (prefix === undefined) return;
  ec2.add(keyOf(prefix));
  // EC2 may have assigned the prefix to another node meanwhile: its addresses then begin without a rest.
  if (!listOwned().some((one) => keyOf(one) === keyOf(prefix)))
    for (const address of endedAt.keys()) if (prefixOf(address) === prefix.cidr) endedAt.delete(address);
  lost.delete(keyOf(prefix));
  welcomeBack(prefix.eniId, [prefix.cidr]);
  addToPool(prefix, NEVER_USED);
}

/** The work of refill, with EC2 as a set. */
function refill(): void {
  finishAdding();
  for (const owned of halfRetired()) unretire(owned);
  expireGone(nowMs);
  // A describe may show the state of some minutes before.
  const stale = below(3) === 0;
  const shown = PREFIXES.filter((one) => {
    const since = goneSince.get(keyOf(one));
    return ec2.has(keyOf(one)) || (stale && since !== undefined && nowMs - since < DESCRIBE_LAG_MS);
  });
  const pods = ENIS.map((eniId) => ({
    eniId,
    cidrs: shown.filter((one) => one.eniId === eniId).map((one) => one.cidr),
  }));
  const seenLost = [...lost];
  const said: Refilled = { changes: [], waiting: [] };
  reconcile(pods, { nowMs, restMs: REST_MS }, said);
  for (const key of seenLost) if (!shown.some((one) => keyOf(one) === key)) lost.delete(key);
  for (const one of shown) addToPool(one, 0);
  const idle = anyOf(listOwned());
  if (
    below(2) === 0 &&
    idle !== undefined &&
    ec2.has(keyOf(idle)) &&
    retire(idle, { nowMs, restMs: REST_MS })
  ) {
    startLeaving(idle, 'given', nowMs);
  }
  for (const one of leavingPrefixes().filter((leaving) => leaving.why === 'given')) {
    const leased = listEntries('leased').filter((entry) => prefixOf(entry.address) === one.cidr);
    assert.equal(leased, [], `${one.cidr} is given back under a pod`);
    for (const [address, ended] of endedAt)
      if (prefixOf(address) === one.cidr)
        assert.ok(nowMs - ended >= REST_MS, `${address} is given back unrested`);
    if (ec2.delete(keyOf(one))) goneSince.set(keyOf(one), nowMs);
    forget(one, nowMs);
  }
}

function lose(): void {
  const prefix = anyOf(ec2);
  if (prefix === undefined || below(4) > 0) return;
  ec2.delete(prefix);
  goneSince.set(prefix, nowMs);
  lost.add(prefix);
}

function reboot(): void {
  if (below(20) > 0) return;
  emptyPool();
  nowMs = below(1_000);
  pods.clear();
  owed.clear();
  lost.clear();
  goneSince.clear();
  // The same as tmpfiles.d before the agent runs.
  mkdirSync(POOL_DIR, { recursive: true });
  // After a restart it is not known when pods ended: they count as ended when the node started.
  for (const address of endedAt.keys()) endedAt.set(address, 0);
  for (const one of PREFIXES) if (ec2.has(keyOf(one))) addToPool(one, 0);
}

const operations: Record<string, () => void> = {
  add,
  add2: add,
  add3: add,
  del: () => del(anyOf(pods.keys())),
  del2: () => del(anyOf(pods.keys())),
  redel: () => del(anyOf(owed)),
  grow,
  refill,
  lose,
  reboot,
  wait: () => {
    nowMs += below(90_000);
  },
};
const quick: (() => void)[] = [add, () => del(anyOf(pods.keys())), () => del(anyOf(owed))];

test(`${OPS} operations, killed and interrupted anywhere`, () => {
  console.log(`SEED=${SEED} OPS=${OPS}`);
  emptyPool();
  grow();
  grow();
  for (let op = 0; op < OPS; op += 1) {
    const name = anyOf(Object.keys(operations)) ?? 'wait';
    const work = operations[name] ?? add;
    const way = name === 'reboot' ? 2 : below(3);
    // A pod's call makes one or two changes, refill dozens.
    const points = ['grow', 'refill'].includes(name) ? 40 : 3;
    if (way === 0) {
      if (crashed(1 + below(points), work)) done[`${name} killed`] = (done[`${name} killed`] ?? 0) + 1;
    } else if (way === 1) {
      const other = anyOf(quick) ?? add;
      // Each call of a pod is a process: calls interrupt the holder of the lock, and one another.
      if (interrupted(1 + below(points), other, work))
        done[`${name} interrupted`] = (done[`${name} interrupted`] ?? 0) + 1;
    } else work();
    done[name] = (done[name] ?? 0) + 1;
    assert.equal(violations(false), [], `after ${name}, operation ${op}, seed ${SEED}`);
    for (const [containerId, address] of pods)
      assert.is(findLease(ownerOf(containerId))?.address, address, `${containerId} lost its lease`);
  }
  for (const containerId of [...pods.keys(), ...owed]) del(containerId);
  for (let run = 0; run < 8; run += 1) {
    nowMs += 400_000;
    refill();
  }
  assert.equal(listLeases(), []);
  assert.equal(violations(true), []);
  assert.equal(
    listOwned()
      .map(keyOf)
      .sort((a, b) => toNumber(a.split(/[ /]/)[1] ?? '') - toNumber(b.split(/[ /]/)[1] ?? '')),
    PREFIXES.map(keyOf).filter((key) => ec2.has(key)),
    'markers and EC2 agree',
  );
  console.log(JSON.stringify(done));
});

test.run();
