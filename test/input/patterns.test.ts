// The check of patterns: the patterns that it refuses, and good patterns that it accepts.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { patternProblems } from '../patterns.ts';

const refused: [what: string, source: string, says: RegExp][] = [
  [
    'blanks before the end of a line',
    String.raw`text.replace(/[ \t]+(?=\r?\n|$)/g, '')`,
    /begins with a repetition/,
  ],
  ['slashes at the end', String.raw`text.replace(/\/+$/, '')`, /begins with a repetition/],
  ['digits, then words', String.raw`/^\d+\.\d+[\w.]*$/.test(text)`, /two repetitions/],
  ['a repetition of one', String.raw`/^(?:a+)+$/.test(text)`, /repeats a repetition/],
  ['made at run time', 'const a = new RegExp(`x${text}`);', /at run time/],
  ['made at run time, without new', 'const a = RegExp(text);', /at run time/],
  ['a source that cannot be parsed', 'const a = ;', /x\.ts/],
];
for (const [what, source, says] of refused)
  test(`refused: ${what}`, () => {
    const problems = patternProblems('x.ts', `const before = 1;\n${source}\n`);
    assert.is(problems.length, 1, problems.join());
    assert.match(problems[0] ?? '', says);
  });

test('a problem has file and line', () => {
  assert.match(patternProblems('agent/x.ts', '\n\nconst a = /b+$/;\n')[0] ?? '', /^agent\/x\.ts:3: /);
});

test('good patterns have no problem', () => {
  const source = String.raw`[/^\d+\.\d+$/, /[ \t]{1,8}x/, /\s+/g, /^[^=]+=/, /x(?:a|b)*c/].map((one) => one.test(text));`;
  assert.equal(patternProblems('x.ts', source), []);
});

test.run();
