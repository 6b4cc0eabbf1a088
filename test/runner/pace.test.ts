import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { leavesRoom, runPaced } from './pace.ts';

const GiB = 2 ** 30;
const rows: [name: string, load: Parameters<typeof leavesRoom>[0], room: boolean][] = [
  [
    'a third of a processor of two is idle',
    { running: 2, idle: 0.17, available: 8 * GiB, bounded: false },
    true,
  ],
  ['both compute', { running: 2, idle: 0.1, available: 8 * GiB, bounded: false }, false],
  ['all wait, but eight run', { running: 8, idle: 1, available: 8 * GiB, bounded: false }, false],
  [
    'a file bounds time, and half is idle',
    { running: 2, idle: 0.5, available: 8 * GiB, bounded: true },
    true,
  ],
  [
    'a file bounds time, and a third is idle',
    { running: 2, idle: 0.33, available: 8 * GiB, bounded: true },
    false,
  ],
  ['a file bounds time, and three run', { running: 3, idle: 1, available: 8 * GiB, bounded: true }, false],
  ['all wait, but memory is short', { running: 2, idle: 1, available: 1.9 * GiB, bounded: false }, false],
];
for (const [name, load, room] of rows)
  test(`${name}: ${room ? 'one more file starts' : 'no further file starts'}`, () => {
    assert.is(leavesRoom(load), room);
  });

test('every item runs once, in order, and the last one is waited for', async () => {
  const started: number[] = [];
  const ended: number[] = [];
  const job = async (item: number) => {
    started.push(item);
    await delay(item === 1 ? 200 : 10);
    ended.push(item);
  };
  await runPaced([1, 2, 3, 4, 5], job, () => false);
  assert.equal(started, [1, 2, 3, 4, 5]);
  assert.equal(ended.toSorted(), [1, 2, 3, 4, 5]);
  assert.ok(ended.indexOf(2) < ended.indexOf(1), 'at least two at once');
});

test('more than two run where there is room for them', async () => {
  const running = Promise.withResolvers<void>();
  const asked: [number[], number][] = [];
  let started = 0;
  const job = async () => {
    started += 1;
    if (started === 4) running.resolve();
    await running.promise;
  };
  await runPaced([1, 2, 3, 4], job, (now, next) => asked.push([[...now], next]) > 0);
  assert.equal(asked, [
    [[1, 2], 3],
    [[1, 2, 3], 4],
  ]);
});

test.run();
