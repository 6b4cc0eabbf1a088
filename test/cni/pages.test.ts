// Pages that list demands with names of tests: each named test exists, and no number is left out. And the page of the files
// that stay on a machine, compared with the sources.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

/** Titles as they are in a source, without its escapes. */
function assertTestsExist(page: string): number {
  const named = [...read(page).matchAll(/`(test\/[\w./-]+\.ts)` (“[^”]+”(?:, “[^”]+”)*)/g)].flatMap(
    ([, path = '', titles = '']) =>
      [...titles.matchAll(/“([^”]+)”/g)].map(([, title = '']) => ({ path, title })),
  );
  for (const { path, title } of named) {
    const source = read(path).replaceAll("\\'", "'");
    const stands = ["'", '"', '`'].some((quote) => source.includes(`${quote}${title}${quote}`));
    assert.ok(stands, `${page}: ${path} has no test “${title}”`);
  }
  return named.length;
}

test('docs/lyft-faults.md has every fault once, and its tests exist', () => {
  const page = 'docs/lyft-faults.md';
  const numbers = [...read(page).matchAll(/^\| 3\.(\d+) \|/gm)].map(([, number]) => Number(number));
  assert.equal(
    numbers,
    Array.from({ length: 36 }, (_, at) => at + 1),
  );
  assert.ok(assertTestsExist(page) >= 30);
});

test('the tests of each demand of the specification exist', () => {
  assert.ok(assertTestsExist('test/cni/README.md') >= 23);
});

test('every fault that was found in rollouts has a test', () => {
  const page = 'test/rollout/README.md';
  const numbers = new Set([...read(page).matchAll(/^\| (\d+) \|/gm)].map(([, number]) => Number(number)));
  assert.equal(
    [...numbers],
    Array.from({ length: 13 }, (_, at) => at + 1),
  );
  assert.ok(assertTestsExist(page) >= 25);
});

test('docs/what-it-touches.md has every file that the sources keep in /run/eniboot and /var/lib/eniboot', () => {
  const page = read('docs/what-it-touches.md');
  const sources = ['agent', 'cni'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => read(`${folder}/${name}`)),
  );
  // A constant of the same file is replaced by its text.
  const spelled = (source: string, path: string) =>
    path.replace(
      /\$\{(\w+)\}/g,
      (whole, name) => new RegExp(`^const ${name} = '(.*)';$`, 'm').exec(source)?.[1] ?? whole,
    );
  const kept = sources.flatMap((source) =>
    [...source.matchAll(/\$\{(?:RUN_DIR|STATE_DIR)\}\/([^`'\n]+)/g)].map(([, path = '']) =>
      basename(spelled(source, path)),
    ),
  );
  assert.ok(kept.length > 15, 'the pattern finds the files');
  // The page has one line for all of these.
  const named = kept.filter((name) => !name.endsWith('.prom'));
  assert.equal(
    named.filter((name) => !page.includes(name)),
    [],
  );
});

test.run();
