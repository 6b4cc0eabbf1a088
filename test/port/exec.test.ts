import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import { is } from 'uvu/assert';
import { lookAfresh, lookOnce, run } from '../../agent/port/exec.ts';

const folder = mkdtempSync(join(tmpdir(), 'exec-'));
test.after(() => rmSync(folder, { recursive: true }));

/** Runs a program that notes each start in a file. Returns a function for the number of starts. */
function counted(name: string) {
  const file = join(folder, name);
  const start = (...more: string[]) => run('sh', ['-c', `echo started >> ${file}`, ...more]);
  const starts = () => readFileSync(file, 'utf8').split('\n').length - 1;
  return { start, starts };
}

test('within one look, a program runs once with the same arguments', async () => {
  const { start, starts } = counted('once');
  const [first, second] = await lookOnce(() => Promise.all([start(), start().then(() => start())]));
  is(first, second);
  is(starts(), 1);
  await lookOnce(() => Promise.all([start('a'), start('b')]));
  is(starts(), 3);
});

test('the next look runs it again, and so does every call outside a look', async () => {
  const { start, starts } = counted('again');
  await lookOnce(() => start());
  await lookOnce(() => start());
  await start();
  await start();
  is(starts(), 4);
});

test('a caller that waits for a change sees the machine afresh, also within a look', async () => {
  const { start, starts } = counted('afresh');
  await lookOnce(async () => {
    await start();
    await lookAfresh(async () => {
      await start();
      await start();
    });
    await start();
  });
  is(starts(), 3);
});

test('a program that is given input runs each time', async () => {
  const file = join(folder, 'input');
  const write = () => run('tee', ['-a', file], { input: 'x' });
  await lookOnce(() => Promise.all([write(), write()]));
  is(readFileSync(file, 'utf8'), 'xx');
});

test.run();
