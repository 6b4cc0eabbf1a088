// time limit: 120 s
// Lines that several processes write and one adds up: after any kill none is lost, and none is counted twice.
import { spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, readdirSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fold, note, tallied } from '../../agent/host/tally.ts';
import { crashed } from './crash.ts';

const MANY = 9_000; // more than one file of lines takes

function fresh(): string {
  return mkdtempSync(join(tmpdir(), 'tally-'));
}

type Counts = Record<string, number>;
const add = (totals: Counts, line: string): void => {
  totals[line] = (totals[line] ?? 0) + 1;
};
const totalsOf = (folder: string): Counts => fold<Counts>({}, add, folder);

function noteMany(folder: string, count: number, from = 0): void {
  for (let at = from; at < from + count; at += 1) note(`line ${String(at).padStart(30, '0')}`, folder);
}

function eachOnce(totals: Counts, count: number): void {
  assert.is(Object.keys(totals).length, count);
  assert.ok(
    Object.values(totals).every((times) => times === 1),
    'a line was counted more than once',
  );
}

test('lines between folds are added up once, also when the file changes', () => {
  const folder = fresh();
  let noted = 0;
  for (let round = 0; round < 4; round += 1) {
    noteMany(folder, MANY, noted);
    noted += MANY;
    eachOnce(totalsOf(folder), noted);
    eachOnce(totalsOf(folder), noted);
  }
  assert.ok(
    readdirSync(folder).some((name) => /^tally\.\d+$/.test(name)),
    'the file was never changed',
  );
});

test('a reader gets the same totals before and after a fold, and writes nothing', () => {
  const folder = fresh();
  noteMany(folder, MANY);
  const look = () => tallied<Counts>({}, add, folder);
  const files = () => readdirSync(folder).sort().join();
  const before = files();
  eachOnce(look(), MANY);
  eachOnce(look(), MANY);
  assert.is(files(), before);
  totalsOf(folder);
  eachOnce(look(), MANY);
  noteMany(folder, MANY, MANY);
  eachOnce(look(), 2 * MANY);
  eachOnce(totalsOf(folder), 2 * MANY);
});

test('lines of a writer that has the old file open are not lost', () => {
  const folder = fresh();
  noteMany(folder, MANY);
  const slow = openSync(join(folder, 'tally'), 'a');
  totalsOf(folder); // renames the file
  writeSync(slow, 'line of the slow one\n');
  closeSync(slow);
  note('line of the next', folder);
  const totals = totalsOf(folder);
  eachOnce(totals, MANY + 2);
  eachOnce(totalsOf(folder), MANY + 2);
});

test('half a line waits for its other half', () => {
  const folder = fresh();
  writeFileSync(join(folder, 'tally'), 'whole\nhal');
  assert.equal(totalsOf(folder), { whole: 1 });
  writeFileSync(join(folder, 'tally'), 'f\n', { flag: 'a' });
  assert.equal(totalsOf(folder), { whole: 1, half: 1 });
});

test('after a fold is killed before any of its changes, all lines are counted once in the end', () => {
  let moments = 0;
  for (let at = 1; ; at += 1) {
    const folder = fresh();
    noteMany(folder, MANY);
    totalsOf(folder); // the file is renamed
    noteMany(folder, 100, MANY);
    const again = crashed(at, () => totalsOf(folder));
    moments += again ? 1 : 0;
    noteMany(folder, 50, MANY + 100);
    // Twice: a fold that was killed after its rename has left the file to the next fold.
    totalsOf(folder);
    eachOnce(totalsOf(folder), MANY + 150);
    if (!again) break;
  }
  assert.ok(moments >= 3, `only ${moments} moments`);
});

test('after a first fold is killed at any point, all lines are counted once in the end', () => {
  for (let at = 1; ; at += 1) {
    const folder = fresh();
    noteMany(folder, MANY);
    const again = crashed(at, () => totalsOf(folder));
    eachOnce(totalsOf(folder), MANY);
    if (!again) break;
  }
});

test('folds killed at random beside four writers', async () => {
  const folder = fresh();
  const module = join(import.meta.dirname, '../../agent/host/tally.ts');
  const each = 3_000;
  const writer = (name: number) =>
    new Promise<void>((resolve, reject) => {
      const script = `import { note } from ${JSON.stringify(module)};
        for (let at = 0; at < ${each}; at += 1) note('line ${name} ' + String(at).padStart(30, '0'), ${JSON.stringify(folder)});`;
      spawn(process.execPath, ['--input-type=module', '-e', script], {
        stdio: ['ignore', 'inherit', 'inherit'],
      }).once('exit', (code) => (code === 0 ? resolve() : reject(new Error(`writer ${name}: ${code}`))));
    });
  const state = { writing: true };
  const writers = Promise.all([0, 1, 2, 3].map(writer)).finally(() => {
    state.writing = false;
  });
  const script = `import { fold } from ${JSON.stringify(module)};
    for (;;) fold({}, (totals, line) => { totals[line] = (totals[line] ?? 0) + 1; }, ${JSON.stringify(folder)});`;
  let kills = 0;
  for (; state.writing || kills < 5; kills += 1) {
    const folding = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    await new Promise((resolve) => setTimeout(resolve, 150 + Math.random() * 250));
    folding.kill('SIGKILL');
    await new Promise((resolve) => folding.once('exit', resolve));
  }
  await writers;
  totalsOf(folder);
  eachOnce(totalsOf(folder), 4 * each);
});

test('an old file is removed when no process has written to it for a minute', () => {
  const folder = fresh();
  noteMany(folder, MANY);
  totalsOf(folder);
  totalsOf(folder);
  const old = () => readdirSync(folder).filter((name) => /^tally\.\d+$/.test(name));
  assert.is(old().length, 1);
  const real = Date.now;
  Date.now = () => real() + 61_000;
  try {
    eachOnce(totalsOf(folder), MANY);
  } finally {
    Date.now = real;
  }
  assert.equal(old(), []);
});

test('after damage the state begins again with the present lines', () => {
  const folder = fresh();
  noteMany(folder, 10);
  totalsOf(folder);
  for (const text of ['', '{', 'null', '{"current":"a"}', '[]']) {
    writeFileSync(join(folder, 'tally.json'), text);
    eachOnce(totalsOf(folder), 10);
  }
});

test('without a timer the file stops growing, and writing a line never fails', () => {
  const folder = fresh();
  const line = 'x'.repeat(1_000);
  for (let at = 0; at < 5_000; at += 1) note(line, folder);
  assert.ok(statSync(join(folder, 'tally')).size < 4.1 * 1024 * 1024);
  note('nowhere', join(folder, 'not', 'there'));
});

test.run();
