// Runs test files, each in a process and sandbox of its own, ended when it takes too long, and prints what became of them.
// uvu alone exits 0 when it finds no file and waits for ever for a case that hangs.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import type { Readable } from 'node:stream';
import { fetchPackage, runtimes } from '../../agent/build/npm-package.ts';
import { CASES } from './cases.ts';
import { type Outcome, outcomeOf } from './outcome.ts';
import { runPaced, watchMachine } from './pace.ts';

const root = join(import.meta.dirname, '../..');
const PRELOAD = join(import.meta.dirname, 'preload.ts');
/** Seconds for a file whose first lines do not say `// time limit: N s`. */
const DEFAULT_LIMIT = 120;
/** So many files are named at the end, by their wall time. */
const SLOWEST = 10;
/** Runs the sandbox, then writes to descriptor 3 how much processor time it has used. Source: dash(1), "times". */
const TIMED = 'sh "$@" 3>&-; status=$?; times >&3; exit $status';

export interface FileResult extends Outcome {
  /** Path from the repository's root. */
  file: string;
  /** Wall time. */
  seconds: number;
  /** Seconds of processors that its processes have used together; undefined: it was ended before it could be said. */
  cpuSeconds: number | undefined;
}

export interface RunOptions {
  /** A regular expression: only the cases with such a name run. */
  cases: string | undefined;
  /** Folder for V8's coverage of the files' own processes. */
  coverage: string | undefined;
}

interface Ended {
  output: string;
  code: number | null;
  late: boolean;
  cpuSeconds: number | undefined;
}

/**
 * Prints a line for each file as it ends, then the slowest files and the failed ones.
 *
 * Files whose first lines say `// bounds time` start first, and have at most one more beside them than there are processors, while
 * most of a processor is idle: their cases fail where a program takes too long. Then come those with the longest time limit, so that none is left to run alone at the end.
 */
export async function runFiles(files: readonly string[], options: RunOptions): Promise<FileResult[]> {
  const results: FileResult[] = [];
  const running = new Set<number>();
  // What tests write for a moment, and may not come to remove.
  const scratch = mkdtempSync(join(tmpdir(), 'eniboot-test-'));
  const clear = () => {
    for (const pid of running) killGroup(pid);
    rmSync(scratch, { recursive: true, force: true });
  };
  process.on('exit', clear);
  const inOrder = [...files].sort(
    (a, b) => Number(boundsTime(b)) - Number(boundsTime(a)) || limitOf(b) - limitOf(a) || a.localeCompare(b),
  );
  const isRoom = watchMachine();
  const runOne = async (path: string) => {
    const begun = performance.now();
    const limit = limitOf(path);
    const ended = await runFile(path, limit, { ...options, scratch, running });
    const result: FileResult = {
      ...outcomeOf({
        output: ended.output,
        code: ended.code,
        limit: ended.late ? limit : undefined,
        someCases: options.cases !== undefined,
      }),
      file: relative(root, path),
      seconds: (performance.now() - begun) / 1000,
      cpuSeconds: ended.cpuSeconds,
    };
    results.push(result);
    printFile(result, ended.output);
  };
  await runPaced(inOrder, runOne, (now, next) => isRoom(now.length, [...now, next].some(boundsTime)));
  process.off('exit', clear);
  clear();
  printSummary(results);
  return results;
}

/** Runs a file under Node's terminal debugger, without a time limit. Resolves to its exit code. */
export async function inspectFile(path: string, cases: string | undefined): Promise<number> {
  const child = spawn('sh', [join(root, 'test/sandbox.sh'), process.execPath, 'inspect', path], {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      NODE_OPTIONS: `--import ${PRELOAD}`,
      ...(cases === undefined ? {} : { [CASES]: cases }),
    },
  });
  return await new Promise((resolve) => child.on('close', (code) => resolve(code ?? 1)));
}

async function runFile(
  path: string,
  limit: number,
  { cases, coverage, scratch, running }: RunOptions & { scratch: string; running: Set<number> },
): Promise<Ended> {
  const child = spawn(
    'sh',
    ['-c', TIMED, 'timed', join(root, 'test/sandbox.sh'), ...(await commandOf(path))],
    {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
      detached: true,
      env: {
        ...process.env,
        TMPDIR: scratch,
        // fork(2) copies the table of a test's pages, 100 MB of them: with huge pages a program starts in 2 ms less of processor.
        // Source: glibc manual, "Memory Allocation Tunables".
        GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
        ...(cases === undefined ? {} : { [CASES]: cases }),
        // Coverage of functions from the compile cache is less exact. Source: nodejs.org/api/module.html.
        ...(coverage === undefined ? {} : { NODE_V8_COVERAGE: coverage, NODE_DISABLE_COMPILE_CACHE: '1' }),
      },
    },
  );
  const { pid } = child;
  if (pid !== undefined) running.add(pid);
  let output = '';
  let times = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  (child.stdio[3] as Readable).on('data', (chunk: Buffer) => {
    times += chunk.toString();
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    killGroup(pid);
  }, limit * 1000);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  clearTimeout(timer);
  if (pid !== undefined) running.delete(pid);
  return { output, code, late, cpuSeconds: cpuSecondsIn(times) };
}

/** What speaks to a real kernel itself needs foreign calls, which Node has none of. */
async function commandOf(path: string): Promise<string[]> {
  if (!/^\/\/ runtime: the executable's$/m.test(headOf(path)))
    return [process.execPath, '--import', PRELOAD, path];
  const own = runtimes[process.arch === 'arm64' ? 'arm64' : 'x64'];
  return [join(await fetchPackage(own, root), 'bin/bun'), '--preload', PRELOAD, path];
}

function limitOf(path: string): number {
  return Number(/^\/\/ time limit: (\d+) s/m.exec(headOf(path))?.[1] ?? DEFAULT_LIMIT);
}

function boundsTime(path: string): boolean {
  return /^\/\/ bounds time$/m.test(headOf(path));
}

function headOf(path: string): string {
  return readFileSync(path, 'utf8').slice(0, 600);
}

/** `0m0.00s 0m0.00s` of the shell itself, and a second line of everything that it has waited for. */
function cpuSecondsIn(times: string): number | undefined {
  const parts = [...times.matchAll(/(\d+)m([\d.]+)s/g)].map(
    ([, minutes, seconds]) => Number(minutes) * 60 + Number(seconds),
  );
  return parts.length < 4 ? undefined : parts.reduce((sum, part) => sum + part, 0);
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

function printFile(result: FileResult, output: string): void {
  const { failed, passed, skipped, reason, file } = result;
  const notes = [skipped > 0 ? `${skipped} skipped` : undefined, reason].filter((note) => note !== undefined);
  const note = notes.length === 0 ? '' : `  (${notes.join('; ')})`;
  process.stdout.write(
    `${failed === 0 ? 'ok    ' : 'FAILED'} ${timesOf(result)} ${String(passed).padStart(5)}  ${file}${note}\n`,
  );
  if (failed === 0) return;
  const lines = output.trim().split('\n').slice(-200);
  process.stdout.write(lines.map((line) => `    ${line}\n`).join(''));
}

function printSummary(results: readonly FileResult[]): void {
  if (results.length > SLOWEST) {
    process.stdout.write(`\nthe ${SLOWEST} slowest files: wall time, processor time\n`);
    const slowest = [...results].sort((a, b) => b.seconds - a.seconds).slice(0, SLOWEST);
    for (const result of slowest) process.stdout.write(`${timesOf(result)}  ${result.file}\n`);
  }
  const failed = results.filter((result) => result.failed > 0);
  if (failed.length > 0) process.stdout.write('\nfailed\n');
  for (const { file, failed: cases, reason } of failed)
    process.stdout.write(`  ${file}: ${reason ?? `${cases} failed`}\n`);
  process.stdout.write('\n');
}

function timesOf({ seconds, cpuSeconds }: FileResult): string {
  const wall = `${seconds.toFixed(1)} s`.padStart(8);
  return `${wall} ${cpuSeconds === undefined ? '-'.padStart(8) : `${cpuSeconds.toFixed(1)} s`.padStart(8)}`;
}
