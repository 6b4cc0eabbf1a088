// Every read from outside has a limit that applies during the read, and going beyond it is distinguished from every other way to
// fail.
import { spawn } from 'node:child_process';
import { createServer, get, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { userDataSources } from '../../agent/config/userdata.ts';
import { must } from '../../agent/host/command.ts';
import type { Failure } from '../../agent/messages/failure.ts';
import { bounds } from '../../agent/port/bounds.ts';
import { run } from '../../agent/port/exec.ts';
import { endingOf, notRun, succeeded } from '../../agent/port/exec-result.ts';
import { runSync } from '../../agent/port/exec-sync.ts';
import { type Incoming, readBody } from '../../agent/port/net.ts';

const MiB = 1024 * 1024;

async function reasonOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason as { code: string },
  );
  return error?.code ?? 'none';
}

/** The result of readBody for an answer, and the number of bytes that the server could send of it. */
async function served(
  limits: { maxBytes: number; timeoutMs: number },
  answer: (send: (bytes: Buffer) => Promise<void>, end: () => void) => Promise<void>,
): Promise<{ reason: string; body: Buffer | undefined; sent: number }> {
  let sent = 0;
  let over = false;
  const closed = Promise.withResolvers<string>();
  const server: Server = createServer((_request, response) => {
    response.on('close', () => {
      over = true;
      closed.resolve('closed');
    });
    response.writeHead(200);
    const send = async (bytes: Buffer) => {
      if (over) return;
      sent += bytes.length;
      if (!response.write(bytes))
        await Promise.race([new Promise((resolve) => response.once('drain', resolve)), delay(2_000)]);
    };
    void answer(send, () => response.end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const incoming = await new Promise<Incoming>((resolve) => {
    get({ port, host: '127.0.0.1' }, resolve);
  });
  let body: Buffer | undefined;
  const reason = await reasonOf(
    readBody(incoming, limits).then((whole) => {
      body = whole;
      return whole;
    }),
  );
  // A client that gave up must have closed the connection.
  if (reason !== 'none') assert.is(await Promise.race([closed.promise, delay(2_000, 'open')]), 'closed');
  server.close();
  server.closeAllConnections();
  return { reason, body, sent };
}

const MEGABYTE = Buffer.alloc(MiB, 'x');

test('a body up to the limit is read whole', async () => {
  const { reason, body } = await served({ maxBytes: MiB, timeoutMs: 5_000 }, async (send, end) => {
    await send(MEGABYTE);
    end();
  });
  assert.is(reason, 'none');
  assert.is(body?.length, MiB);
});

test('a body that never ends is given up at its size limit', async () => {
  const { reason, sent } = await served({ maxBytes: 2 * MiB, timeoutMs: 10_000 }, async (send) => {
    for (let at = 0; at < 200; at += 1) await send(MEGABYTE);
  });
  assert.is(reason, 'EMSGSIZE');
  assert.ok(sent < 30 * MiB, `${sent} bytes were taken`);
});

test('a body that comes byte by byte is given up at its time limit', async () => {
  const { reason, sent } = await served({ maxBytes: MiB, timeoutMs: 300 }, async (send) => {
    for (let at = 0; at < 100; at += 1) {
      await send(Buffer.from('.'));
      await delay(20);
    }
  });
  assert.is(reason, 'ETIMEDOUT');
  assert.ok(sent < 40, `${sent} drops were waited for`);
});

const YES = ['-c', `yes | head -c ${bounds.programBytes + MiB}`];

test('a program with too much output has no exit code, and a reason of its own', async () => {
  for (const result of [await run('sh', YES), runSync('sh', YES)]) {
    assert.is(result.overflowed, true);
    assert.is(succeeded(result), false);
    assert.is(endingOf(result), `said more than ${bounds.programBytes} bytes`);
    assert.is(notRun(result), undefined);
  }
  const failure = await must('KERNEL_QUERY', 'sh', YES).catch((error: unknown) => error as Failure);
  assert.is((failure as Failure).code, 'KERNEL_QUERY');
  assert.match((failure as Failure).message, /said more than/);
});

test('a program with much output below the limit, and a program that fails, end normally', async () => {
  const much = ['-c', `yes | head -c ${MiB}`];
  for (const result of [await run('sh', much), runSync('sh', much)]) {
    assert.is(result.stdout.length, MiB);
    assert.is(succeeded(result), true);
  }
  for (const result of [await run('sh', ['-c', 'exit 3']), runSync('sh', ['-c', 'exit 3'])]) {
    assert.is(endingOf(result), 'exit 3');
    assert.is(result.errno, undefined);
  }
  for (const result of [
    await run('sleep', ['5'], { timeoutMs: 50 }),
    runSync('sleep', ['5'], { timeoutMs: 50 }),
  ]) {
    assert.is(endingOf(result), 'ran out of time');
    assert.is(notRun(result), undefined);
  }
  for (const result of [await run('no-such', []), runSync('no-such', [])])
    assert.is(notRun(result)?.code, 'TOOL_MISSING');
});

/** Runs a script that imports from the sources, with few descriptors. */
function withFewFiles(script: string): Promise<string> {
  const source = `
    import { openSync } from 'node:fs';
    const agent = ${JSON.stringify(join(import.meta.dirname, '../../agent'))};
    const { run } = await import(agent + '/port/exec.ts');
    const { runSync } = await import(agent + '/port/exec-sync.ts');
    const { must } = await import(agent + '/host/command.ts');
    const { notRun } = await import(agent + '/port/exec-result.ts');
    const { failureOf } = await import(agent + '/messages/kinds.ts');
    await run('true', []); runSync('true', []);
    try { for (;;) openSync('/dev/null', 'r'); } catch {}
    ${script}`;
  const child = spawn('prlimit', ['--nofile=60:60', process.execPath, '--input-type=module', '-e', source]);
  let said = '';
  child.stdout.on('data', (text: Buffer) => {
    said += text.toString();
  });
  child.stderr.on('data', (text: Buffer) => {
    said += text.toString();
  });
  return new Promise((resolve) => child.on('close', () => resolve(said.trim())));
}

test('without a file descriptor left, no error is called a defect, a damaged file or a missing tool', async () => {
  const codes = await withFewFiles(`
    const codes = [];
    const code = async (work) => { try { codes.push(await work()); } catch (error) { codes.push(failureOf(error).code); } };
    await code(() => openSync('/etc/hostname', 'r'));
    await code(async () => notRun(await run('true', []))?.code);
    await code(() => notRun(runSync('true', []))?.code);
    await code(() => must('KERNEL_QUERY', 'true', []));
    process.stdout.write(codes.join(' '));`);
  assert.is(codes, Array(4).fill('SYSTEM_EXHAUSTED').join(' '));
});

test('standard input byte by byte takes no more memory than as a whole', async () => {
  const bytes = 20_000;
  const source = `
    const { readInput } = await import(${JSON.stringify(join(import.meta.dirname, '../../agent/port/runtime.ts'))});
    const before = process.memoryUsage();
    const text = readInput(1024 * 1024);
    const after = process.memoryUsage();
    process.stdout.write(text.length + ' ' + (after.arrayBuffers - before.arrayBuffers));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let said = '';
  child.stdout.on('data', (text: Buffer) => {
    said += text.toString();
  });
  const ended = new Promise((resolve) => child.on('close', resolve));
  // A pipe passes on what it has. So each byte is written only after the one before was read.
  for (let at = 0; at < bytes; at += 1) {
    child.stdin.write('x');
    if (at % 20 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  child.stdin.end();
  await ended;
  const [length, memory] = said.split(' ').map(Number);
  assert.is(length, bytes);
  assert.ok((memory ?? Number.NaN) < 2 * MiB, `${memory} bytes for ${bytes}`);
});

/** A MIME message of many parts, each a gzip of `inside`. */
function mime(parts: number, inside: string | Buffer): Buffer {
  const part = gzipSync(inside).toString('base64');
  const headers = ['Content-Type: application/vnd.eniboot.config+yaml', 'Content-Transfer-Encoding: base64'];
  return Buffer.from(
    [
      'Content-Type: multipart/mixed; boundary="b"',
      'MIME-Version: 1.0',
      '',
      ...Array.from({ length: parts }, () => ['--b', ...headers, '', part]).flat(),
      '--b--',
      '',
    ].join('\n'),
  );
}

const bomb = (parts: number, each: number) => gzipSync(mime(parts, Buffer.alloc(each, '#')));

test('user data: the number of documents is limited', () => {
  const few = userDataSources(mime(2, mime(50, '#')));
  assert.is(few.filter((source) => 'content' in source).length, 100);
  const [only, ...others] = userDataSources(mime(2, mime(51, '#')));
  assert.ok(only !== undefined && 'refused' in only);
  assert.equal(others, []);
});

test('user data: all parts and layers together unpack to no more than the limit of one document', () => {
  const small = bomb(2, 1_000);
  assert.is(userDataSources(small).filter((source) => 'content' in source).length, 2);
  const packed = bomb(500, 900_000);
  assert.ok(packed.length < 16 * 1024, `${packed.length} bytes are user data`);
  const sources = userDataSources(packed);
  const held = sources.reduce((sum, one) => sum + ('content' in one ? one.content.length : 0), 0);
  assert.ok(held <= bounds.userDataBytes, `${held} bytes are held`);
  assert.ok(sources.length <= bounds.userDataDocuments, `${sources.length} documents`);
  assert.ok(
    sources.some((source) => 'refused' in source),
    'the user data is refused',
  );
});

test.run();
