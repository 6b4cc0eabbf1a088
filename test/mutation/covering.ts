// Which test files run which places of the product, by V8's coverage. Only what runs in a test's own process is seen: where a test
// starts the executable, its sources are those of the build.
import { spawn } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';

interface Range {
  startOffset: number;
  endOffset: number;
  count: number;
}

export interface Covering {
  test: string;
  /** Seconds that it took. */
  seconds: number;
  /** By source file: its functions' ranges, the innermost of which says whether a place was run. */
  ranges: Map<string, Range[]>;
}

export interface Ended {
  ok: boolean;
  seconds: number;
}

/** Runs a test file of a copy of the repository in a sandbox, at most so many seconds. */
export async function runTest(
  root: string,
  test: string,
  seconds: number,
  env: NodeJS.ProcessEnv = {},
): Promise<Ended> {
  const started = performance.now();
  const child = spawn('sh', [join(root, 'test/sandbox.sh'), process.execPath, join(root, test)], {
    cwd: root,
    stdio: 'ignore',
    detached: true,
    env: { ...process.env, ...env },
  });
  const timer = setTimeout(() => {
    if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
  }, seconds * 1000);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearTimeout(timer);
  return { ok: code === 0, seconds: (performance.now() - started) / 1000 };
}

/** Test files that import, over any number of files, one of the folder, and run under Node. */
export function testsOf(root: string, folder: string): string[] {
  const imports = new Map<string, string[]>();
  const reaches = (file: string, seen: Set<string>): boolean => {
    if (file.startsWith(`${folder}/`)) return true;
    if (seen.has(file)) return false;
    seen.add(file);
    const known = imports.get(file) ?? importsOf(root, file);
    imports.set(file, known);
    return known.some((one) => reaches(one, seen));
  };
  return readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join('test', name))
    .filter((file) => !readFileSync(join(root, file), 'utf8').includes("\n// runtime: the executable's"))
    .filter((file) => reaches(file, new Set()))
    .sort();
}

function importsOf(root: string, file: string): string[] {
  const source = readFileSync(join(root, file), 'utf8');
  // Types alone run nothing.
  return [
    ...source.matchAll(/^(?:import (?!type)|export )[^;]*? from '(\.[^']+\.ts)'|import\('(\.[^']+\.ts)'\)/gm),
  ].map(([, one, two]) => relative(root, join(root, dirname(file), one ?? two ?? '')));
}

/** Undefined for a test that fails as it is: it says nothing about a mutant. */
export async function coveringOf(
  root: string,
  test: string,
  folder: string,
  seconds: number,
): Promise<Covering | undefined> {
  const raw = mkdtempSync(join(tmpdir(), 'eniboot-mutation-'));
  try {
    const { ok, seconds: took } = await runTest(root, test, seconds, { NODE_V8_COVERAGE: raw });
    if (!ok) return undefined;
    const ranges = new Map<string, Range[]>();
    const prefix = pathToFileURL(`${root}/`).href;
    for (const name of readdirSync(raw)) {
      const { result } = JSON.parse(readFileSync(join(raw, name), 'utf8')) as {
        result: { url: string; functions: { ranges: Range[] }[] }[];
      };
      for (const { url, functions } of result) {
        const file = url.startsWith(prefix) ? url.slice(prefix.length) : '';
        if (file.startsWith(`${folder}/`))
          ranges.set(file, [...(ranges.get(file) ?? []), ...functions.flatMap((one) => one.ranges)]);
      }
    }
    return { test, seconds: took, ranges };
  } finally {
    rmSync(raw, { recursive: true, force: true });
  }
}

/** Whether the test runs the place. Of several processes of one test, any counts. */
export function covers({ ranges }: Covering, file: string, at: number): boolean {
  const around = (ranges.get(file) ?? []).filter(
    ({ startOffset, endOffset }) => startOffset <= at && at < endOffset,
  );
  const size = ({ startOffset, endOffset }: Range) => endOffset - startOffset;
  const least = Math.min(...around.map(size));
  return around.some((range) => size(range) === least && range.count > 0);
}
