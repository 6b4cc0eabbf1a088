// Every wait for a child ends: for a child that prints nothing, that is stopped, or that leaves a process behind which has its
// output open.
import { rmSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { waitForLinks } from '../../agent/host/links.ts';
import { takeLock } from '../../agent/host/lock.ts';
import { isFailure } from '../../agent/messages/failure.ts';
import { systemClock } from '../../agent/port/clock.ts';
import { run } from '../../agent/port/exec.ts';
import type { ExecResult } from '../../agent/port/exec-result.ts';
import { runSync } from '../../agent/port/exec-sync.ts';
import { follow } from '../../agent/port/follow.ts';
import { hold } from '../../agent/port/hold.ts';
import { runInPlace } from '../../agent/port/run-in-place.ts';

const LIMIT_MS = 500;
/** Time that a wait may take beyond its limit: other programs run on this machine. */
const SLACK_MS = 4_000;

/** The result of the work; fails the test when the work does not end. */
async function bounded<T>(work: Promise<T>, limitMs = LIMIT_MS): Promise<T> {
  const timer = new AbortController();
  const late = delay(limitMs + SLACK_MS, undefined, { signal: timer.signal }).then(() => {
    throw new Error(`no end within ${limitMs + SLACK_MS} ms`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    timer.abort();
    late.catch(() => {});
  }
}

/** Scripts that do not end by themselves, or whose output does not. */
const endless = {
  'says nothing': 'exec sleep 60',
  'is stopped': 'kill -STOP $$',
  'leaves a child with its output': 'sleep 60 & exit 0',
  'has a child with its output, and waits for it': 'sleep 60; true',
};

for (const [what, script] of Object.entries(endless)) {
  const ended = (result: ExecResult) => assert.ok(result.timedOut, JSON.stringify(result));
  test(`a program that ${what}`, async () =>
    ended(await bounded(run('sh', ['-c', script], { timeoutMs: LIMIT_MS }))));

  test(`a program of the CNI path that ${what}`, () => {
    const began = performance.now();
    ended(runSync('sh', ['-c', script], { timeoutMs: LIMIT_MS }));
    assert.ok(performance.now() - began < LIMIT_MS + SLACK_MS);
  });

  test(`events of a program that ${what}`, async () => {
    const events = follow('sh', ['-c', script], LIMIT_MS);
    assert.is(await bounded(events.next()), 'ended');
    assert.is(await bounded(events.next()), 'ended');
  });

  test(`a holder that ${what}`, async () => {
    const error = await bounded(
      hold('sh', ['-c', script], LIMIT_MS).then(
        () => undefined,
        (thrown: unknown) => thrown,
      ),
    );
    assert.match(String(error), /said nothing for 0\.5 s/);
  });

  test(`a version in this one's place that ${what}`, async () => {
    const code = await bounded(runInPlace('sh', ['-c', script], { env: {}, timeoutMs: LIMIT_MS }));
    assert.is(code, what === 'leaves a child with its output' ? 0 : undefined);
  });
}

test('events that are stopped end, also when another process has the output open', async () => {
  const events = follow('sh', ['-c', 'sleep 60 & exec sleep 60'], 60_000);
  const next = events.next();
  events.stop();
  assert.is(await bounded(next), 'ended');
});

test('output before the end is kept', async () => {
  const { stdout, stderr, exitCode } = await bounded(
    run('sh', ['-c', 'echo out; echo err >&2; sleep 60 & exit 3'], { timeoutMs: LIMIT_MS }),
  );
  assert.equal([stdout, stderr, exitCode], ['out\n', 'err\n', 3]);
});

test('a device that comes together with the end of the time is found', async () => {
  let looks = 0;
  const found = await bounded(
    waitForLinks(() => {
      looks += 1;
      return looks === 3;
    }, 10),
  );
  assert.ok(found, 'the devices of the last look');
});

test('a device is found without an event: it may have come before anything listened', async () => {
  const begun = performance.now();
  await bounded(waitForLinks(() => performance.now() - begun > 300, 30_000));
});

test('a lock whose holder cannot report it fails, and no process keeps the lock', async () => {
  const path = '/run/lock/held';
  // As on a full disk: the holder's line cannot be written, and the caller would wait for it for ever.
  writeFileSync('/run/flock', '#!/bin/sh\nshift 2\nexec /usr/bin/flock --no-fork "$@" >/dev/full\n', {
    mode: 0o755,
  });
  const before = process.env['PATH'];
  process.env['PATH'] = `/run:${before}`;
  try {
    const error = await bounded(
      takeLock(path, systemClock, 0).then(
        () => undefined,
        (thrown: unknown) => thrown,
      ),
      1_000,
    );
    assert.ok(isFailure(error, 'FILE_WRITE', 'ALREADY_RUNNING'), String(error));
  } finally {
    process.env['PATH'] = before;
    rmSync('/run/flock');
  }
  const lock = await bounded(takeLock(path, systemClock, 0));
  lock.release();
});

test('a lock is free as soon as it is released, also when its holder is stopped', async () => {
  const path = '/run/lock/stopped';
  const lock = await takeLock(path, systemClock, 0);
  const holder = await run('sh', [
    '-c',
    `for one in /proc/[0-9]*/fd/*; do
      [ "$(readlink $one)" = ${path} ] && echo "$one" | cut -d/ -f3; done`,
  ]);
  const pid = Number(holder.stdout.trim().split('\n')[0]);
  process.kill(pid, 'SIGSTOP');
  lock.release();
  const again = await bounded(takeLock(path, systemClock, 2_000), 2_000);
  again.release();
});

test.run();
