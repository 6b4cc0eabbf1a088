// time limit: 300 s
// refill is killed with SIGKILL while the pool grows and while it shrinks: right at EC2 calls, at changes of the pool's files and at
// random moments. After each kill no pod can get an address that EC2 does not have, and no address exists twice; the next runs
// finish, and then markers, entries, egress set and EC2 agree.
//
// RUNS and SEED in the environment are the number of random moments and their seed; the seed is printed.
import { watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { ENIBOOT, type Node } from '../boot/node.ts';
import {
  assigned,
  bootedNode,
  deadAddresses,
  end,
  entries,
  lease,
  markers,
  poolDirectory,
  poolProblems,
  refill,
} from './node.ts';

const runs = Number(process.env['RUNS'] ?? 3);
const seed = Number(process.env['SEED'] ?? Date.now() % 1_000_000);
const random = generator(seed);

let cloud: Cloud;
test.before(async () => {
  console.log(`SEED=${seed} RUNS=${runs}`);
  cloud = await startCloud();
});
test.after(() => cloud.stop());

/** Starts a refill and kills it at the moment; resolves when its process is gone. False when it ended before. */
async function killed(node: Node, moment: Promise<unknown>): Promise<boolean> {
  const child = node.instance.spawn(ENIBOOT, ['pool', 'refill'], { stdio: 'ignore' });
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()));
  const first = await Promise.race([moment.then(() => 'kill' as const), ended.then(() => 'end' as const)]);
  child.kill('SIGKILL');
  await ended;
  await cloud.settled();
  return first === 'kill';
}

type Moment = (node: Node) => Promise<unknown>;

const atCall =
  (nth: number): Moment =>
  async () => {
    const before = cloud.calls.length;
    while (cloud.calls.length < before + nth) await delay(1);
  };
const afterMs =
  (ms: number): Moment =>
  () =>
    delay(ms);
const atFileChange =
  (directory: string, nth: number): Moment =>
  (node) =>
    new Promise((resolve) => {
      let seen = 0;
      const watcher = watch(join(poolDirectory(node.instance), directory), () => {
        seen += 1;
        if (seen < nth) return;
        watcher.close();
        resolve(undefined);
      });
      watcher.on('error', () => {});
      watcher.unref();
    });

async function holds(node: Node, when: string): Promise<void> {
  assert.equal(poolProblems(node.instance), [], when);
  assert.equal(await deadAddresses(node.instance), [], when);
}

/** Runs refill until it has nothing to do; the pause after a failed growth is skipped. */
async function converge(node: Node, when: string): Promise<void> {
  for (let run = 0; run < 6; run += 1) {
    await node.instance.run('rm', ['-f', '/run/eniboot/pool/refill.json']);
    const { exitCode, stderr, changes, waiting } = await refill(node);
    assert.is(exitCode, 0, `${when}: ${stderr}`);
    await cloud.settled();
    if (changes.length === 0 && waiting.length === 0) break;
  }
  await holds(node, when);
  // A prefix that went back minutes ago and was assigned again, in an answer that the killed run never read, is added only when
  // its reminder in leaving/ is over: a describe may lag behind for so long.
  const reminded = entries(node.instance, 'leaving').map((name) => name.split(',')[0]?.replace('-', '/'));
  const [marked, inEc2] = [markers(node.instance), assigned(node.instance)].map((all) =>
    all.filter((one) => !reminded.includes(one.split(' ')[1])),
  );
  assert.equal(marked, inEc2, `${when}: markers and EC2 agree`);
  assert.equal(entries(node.instance, 'retiring'), [], when);
  assert.equal(entries(node.instance, 'leaving-enis'), [], when);
  assert.equal(cloud.leakReport(), [], when);
  const pods = node.instance.enis.filter((eni) => eni.tags.get('eniboot:role') === 'pods');
  assert.ok(pods.length >= 1 && pods.length <= 2, `${when}: ${pods.length} pod ENIs`);
}

const moments: [string, Moment][] = [
  ...[1, 2, 3, 4, 5, 6, 7, 8].map((nth): [string, Moment] => [`at EC2 call ${nth}`, atCall(nth)]),
  ...[1, 5, 17].flatMap((nth): [string, Moment][] => [
    [`at change ${nth} of free/`, atFileChange('free', nth)],
    [`at change ${nth} of retiring/`, atFileChange('retiring', nth)],
    [`at change ${nth} of owned/`, atFileChange('owned', nth)],
  ]),
  ...Array.from({ length: runs }, (): [string, Moment] => {
    const ms = Math.round(random() * 700);
    return [`after ${ms} ms`, afterMs(ms)];
  }),
];

test(`${moments.length} kills while it grows and as many while it shrinks`, async () => {
  // t3.small: 3 prefixes on an ENI, so that growing and giving back concern prefixes and an ENI.
  const node = await bootedNode(cloud, '{ target: 16, restSeconds: 1 }', { type: 't3.small' });
  let reached = 0;
  for (const [name, moment] of moments) {
    lease(node.instance, 40);
    const grows = `killed ${name} while growing`;
    if (await killed(node, moment(node))) reached += 1;
    await holds(node, grows);
    await converge(node, grows);
    lease(node.instance, 40 - entries(node.instance, 'leased').length);
    await converge(node, grows);
    assert.is(entries(node.instance, 'leased').length, 40, grows);

    end(node.instance, 40, 0);
    const shrinks = `killed ${name} while shrinking`;
    if (await killed(node, moment(node))) reached += 1;
    await holds(node, shrinks);
    await converge(node, shrinks);
    assert.is(entries(node.instance, 'leased').length, 0, shrinks);
  }
  console.log(`${reached} of ${moments.length * 2} kills came before the run's own end`);
  assert.ok(reached > moments.length, `only ${reached} of ${moments.length * 2} kills came in time`);
});

/** Numerical Recipes' linear congruential generator: uniform in [0, 1), the same for the same seed. */
function generator(from: number): () => number {
  let state = from >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

test.run();
