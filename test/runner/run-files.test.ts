// What `npm test` says of files that pass, fail, hang and never come to their first case. The fixtures are test files
// with another name.
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type FileResult, runFiles } from './run-files.ts';

const fixture = (name: string) => join(import.meta.dirname, 'fixtures', `${name}.ts`);

interface Said {
  results: Map<string, FileResult>;
  text: string;
}

async function run(names: string[], cases?: string): Promise<Said> {
  const { write } = process.stdout;
  let text = '';
  process.stdout.write = ((chunk: string) => {
    text += chunk;
    return true;
  }) as typeof process.stdout.write;
  try {
    const results = await runFiles(names.map(fixture), { cases, coverage: undefined });
    return { results: new Map(results.map((one) => [one.file.replace(/^.*\/|\.ts$/g, ''), one])), text };
  } finally {
    process.stdout.write = write;
  }
}

const withoutCase: [name: string, reason: RegExp][] = [
  ['import-throws', /^before the first case: TypeError: no such subnet$/],
  ['before-throws', /^before the first case: Error: the models are missing$/],
  ['never-settles', /^before the first case: a top-level await never settled$/],
  ['case-never-settles', /^a case never settled, and nothing was left that could settle it$/],
  ['no-case', /^no case: is test\.run\(\) called\?$/],
  ['hangs', /^time limit 1 s$/],
];
for (const [name, reason] of withoutCase)
  test(`a file that runs no case says why beside its name and in the summary: ${name}`, async () => {
    const { results, text } = await run([name]);
    const result = results.get(name);
    assert.equal([result?.passed, result?.failed], [0, 1]);
    assert.match(result?.reason ?? '', reason);
    const lines = text.split('\n').filter((line) => line.includes(String(result?.reason)));
    assert.match(lines[0] ?? '', /^FAILED .*\(/, text);
    assert.match(lines.at(-1) ?? '', /^ {2}test\/runner\/fixtures\/[\w-]+\.ts: /, text);
  });

test('a case that fails is counted beside those that pass, with its output and no other reason', async () => {
  const { results, text } = await run(['case-fails', 'cases']);
  const { passed, failed, reason } = results.get('case-fails') as FileResult;
  assert.equal([passed, failed, reason], [1, 1, undefined]);
  assert.match(text, /two is wrong/);
  assert.match(text, /^ {2}test\/runner\/fixtures\/case-fails\.ts: 1 failed$/m);
  const well = results.get('cases') as FileResult;
  assert.equal([well.passed, well.failed, well.reason], [2, 0, undefined]);
});

test('with a pattern only the cases with such a name run, and a file without one is not a failure', async () => {
  const { results } = await run(['case-fails', 'sleeps', 'before-throws'], '^one$');
  assert.equal([results.get('case-fails')?.passed, results.get('case-fails')?.failed], [1, 0]);
  assert.equal([results.get('sleeps')?.passed, results.get('sleeps')?.failed], [1, 0]);
  assert.is(results.get('before-throws')?.failed, 1, 'the set-up of a chosen case fails as ever');
  const none = await run(['sleeps', 'before-throws'], 'two');
  for (const { passed, failed } of none.results.values()) assert.equal([passed, failed], [0, 0]);
});

test('processor time is that of all processes, and none of it is waiting', async () => {
  const { results } = await run(['computes', 'sleeps']);
  const cpu = (name: string) => results.get(name)?.cpuSeconds ?? 0;
  assert.ok(cpu('computes') >= 1, `${cpu('computes')}`);
  assert.ok(cpu('computes') - cpu('sleeps') >= 0.8, `${cpu('computes')}, ${cpu('sleeps')}`);
});

test('a bad pattern and a pattern that no case matches are errors of the command', () => {
  const npmTest = (...args: string[]) => {
    try {
      execFileSync(process.execPath, [join(import.meta.dirname, '../run.ts'), ...args], { stdio: 'pipe' });
      return 'passed';
    } catch (error) {
      const { status, stderr } = error as { status: number; stderr: Buffer };
      return `${status} ${stderr.toString()}`;
    }
  };
  assert.match(npmTest('-t', '('), /^2 .*Invalid regular expression/);
  assert.match(npmTest('--no-such'), /^2 Unknown option/);
});

test.run();
