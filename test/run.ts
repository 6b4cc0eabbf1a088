// The test runner: uvu files, each in a process and sandbox of its own, killed when it runs out of time.
// uvu alone exits 0 when it finds no file and waits for ever for a test that hangs.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { writeEvidence } from './bench/report.ts';
import { buildExecutable } from './build/executable.ts';

const root = join(import.meta.dirname, '..');
/** Seconds a file may take unless its first lines say `// time limit: N s`. */
const DEFAULT_LIMIT = 120;

const help = `Usage: npm test [-- [--coverage] [--list] [--evidence FILE] [NAME…]]

Runs test/**/*.test.ts; NAME keeps the files whose path contains it. Ends with one line: N passed, N failed.
  --coverage   report line coverage of what ran in-process (the executable itself is covered by its own tests)
  --list       name the files and stop
  --evidence   write counts, times and versions to FILE
`;

const args = process.argv.slice(2);
const evidenceAt = args.indexOf('--evidence');
const evidence = evidenceAt === -1 ? undefined : args.splice(evidenceAt, 2)[1];
if (args.includes('--help')) {
  process.stdout.write(help);
  process.exit(0);
}
const names = args.filter((arg) => !arg.startsWith('--'));
const files = find(join(root, 'test'))
  .filter((file) => names.length === 0 || names.some((name) => file.includes(name)))
  .sort();
if (args.includes('--list')) {
  process.stdout.write(files.map((file) => `${relative(root, file)}\n`).join(''));
  process.exit(0);
}

const coverage = args.includes('--coverage') ? join(root, 'coverage/raw') : undefined;
if (coverage !== undefined) {
  rmSync(coverage, { recursive: true, force: true });
  mkdirSync(coverage, { recursive: true });
}

// Black-box tests run the executable as it ships.
buildExecutable();

// Sandboxes have no network: what a folder's tests need from outside is fetched before.
for (const fetch of new Set(
  files.map((file) => join(dirname(file), 'fetch.ts')).filter((path) => existsSync(path)),
)) {
  execFileSync(process.execPath, [fetch], { stdio: ['ignore', 'ignore', 'inherit'] });
}

interface Outcome {
  passed: number;
  failed: number;
}
const outcomes: (Outcome & { file: string; seconds: number })[] = [];
const totals: Outcome = { passed: 0, failed: 0 };
const running = new Set<number>();
// What tests write for a moment, and may not come to remove.
const scratch = mkdtempSync(join(tmpdir(), 'eniboot-test-'));
process.on('exit', () => {
  for (const pid of running) killGroup(pid);
  rmSync(scratch, { recursive: true, force: true });
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));
const queue = [...files];
const started = performance.now();
await Promise.all(Array.from({ length: Math.max(1, Math.min(2, availableParallelism())) }, worker));
if (files.length === 0) {
  process.stderr.write('no test file found\n');
  totals.failed += 1;
}
if (coverage !== undefined) await reportCoverage(coverage);
const seconds = Math.round((performance.now() - started) / 1000);
if (evidence !== undefined) writeEvidence(evidence, 'test', { files: outcomes, ...totals, seconds });
process.stdout.write(`${files.length} files in ${seconds} s\n`);
process.stdout.write(`${totals.passed} passed, ${totals.failed} failed\n`);
process.exit(totals.failed === 0 ? 0 : 1);

async function worker(): Promise<void> {
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    const outcome = await runFile(file);
    totals.passed += outcome.passed;
    totals.failed += outcome.failed;
  }
}

async function runFile(file: string): Promise<Outcome> {
  const begun = performance.now();
  const seconds = await limitOf(file);
  const child = spawn('sh', [join(root, 'test/sandbox.sh'), process.execPath, file], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: {
      ...process.env,
      TMPDIR: scratch,
      ...(coverage === undefined ? {} : { NODE_V8_COVERAGE: coverage }),
    },
  });
  if (child.pid !== undefined) running.add(child.pid);
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    killGroup(child.pid);
  }, seconds * 1000);
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  running.delete(child.pid ?? 0);
  clearTimeout(timer);
  const plain = output.replace(/\u001b\[[0-9;]*m/g, '');
  const total = sum(plain, /^ *Total: +(\d+)/gm);
  const passed = sum(plain, /^ *Passed: +(\d+)/gm);
  // A file that failed without a failing test (crash, time-out, no test at all) counts as one failure.
  const failed = Math.max(total - passed, code === 0 && total > 0 ? 0 : 1);
  outcomes.push({
    file: relative(root, file),
    passed,
    failed,
    seconds: Math.round((performance.now() - begun) / 1000),
  });
  // A file that leaves tests out is told apart from one that has run them all.
  const skipped = sum(plain, /^ *Skipped: +(\d+)/gm);
  const time = `${((performance.now() - begun) / 1000).toFixed(1)} s`.padStart(8);
  process.stdout.write(
    `${failed === 0 ? 'ok    ' : 'FAILED'} ${time} ${String(passed).padStart(5)}  ${relative(root, file)}${skipped > 0 ? `  (${skipped} skipped)` : ''}${late ? `  (time limit ${seconds} s)` : ''}\n`,
  );
  if (failed > 0)
    process.stdout.write(
      `${plain
        .trim()
        .split('\n')
        .slice(-200)
        .map((line) => `    ${line}`)
        .join('\n')}\n`,
    );
  return { passed, failed };
}

function sum(text: string, pattern: RegExp): number {
  let result = 0;
  for (const match of text.matchAll(pattern)) result += Number(match[1]);
  return result;
}

async function limitOf(file: string): Promise<number> {
  const { readFile } = await import('node:fs/promises');
  const head = (await readFile(file, 'utf8')).slice(0, 600);
  return Number(/^\/\/ time limit: (\d+) s/m.exec(head)?.[1] ?? DEFAULT_LIMIT);
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended meanwhile.
  }
}

function find(folder: string): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return find(path);
    return name.endsWith('.test.ts') ? [path] : [];
  });
}

async function reportCoverage(raw: string): Promise<void> {
  const args = [
    'report',
    '--temp-directory',
    raw,
    '--include',
    'agent/**',
    '--include',
    'cni/**',
    '--all',
    '--reporter',
    'text-summary',
    '--reporter',
    'lcovonly',
    '--reports-dir',
    join(root, 'coverage'),
  ];
  await new Promise((resolve) => {
    spawn(join(root, 'node_modules/.bin/c8'), args, {
      cwd: root,
      stdio: ['ignore', 'inherit', 'inherit'],
    }).on('close', resolve);
  });
}
