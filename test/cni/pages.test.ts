// The pages that answer a list of demands with names of tests: each named test exists, and no number is left out. And the page of
// what is left on a machine, held against the sources.
import { readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const root = join(import.meta.dirname, '../..');
const read = (path: string) => readFileSync(join(root, path), 'utf8');

/** Titles as they stand in a source, without its escapes. */
function assertTestsExist(page: string): number {
  const named = [...read(page).matchAll(/`(test\/[\w./-]+\.ts)` “([^”]+)”/g)];
  for (const [, path = '', title = ''] of named) {
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

test('docs/what-it-touches.md has every file that the sources keep in /run/eniboot and /var/lib/eniboot', () => {
  const page = read('docs/what-it-touches.md');
  const sources = ['agent', 'cni'].flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts'))
      .map((name) => read(`${folder}/${name}`)),
  );
  // A name that is a constant of the same file stands for its text.
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
  assert.ok(kept.length > 15, 'the pattern still finds them');
  // Their lifetime and meaning stand there as one line for all.
  const named = kept.filter((name) => !name.endsWith('.prom'));
  assert.equal(
    named.filter((name) => !page.includes(name)),
    [],
  );
});

test.run();
