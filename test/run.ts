// `npm test`: builds what changed, fetches what tests need from outside, and runs the chosen files.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { writeEvidence } from './bench/report.ts';
import { buildExecutable } from './build/executable.ts';
import { type FileResult, inspectFile, runFiles } from './runner/run-files.ts';

const root = join(import.meta.dirname, '..');

const help = `Usage: npm test [-- [-t PATTERN] [--inspect] [--coverage] [--list] [--evidence FILE] [NAME…]]

Runs test/**/*.test.ts; NAME keeps the files whose path contains it. Ends with one line: N passed, N failed.
  -t PATTERN   run only the cases whose name matches this regular expression
  --inspect    run one file under Node's terminal debugger, in its sandbox; a debugger statement stops it
  --coverage   report line coverage of what ran in-process (the executable itself is covered by its own tests)
  --list       name the files and stop
  --evidence   write counts, times and versions to FILE
`;

const options = readOptions();
const { names } = options;
if (options.help) {
  process.stdout.write(help);
  process.exit(0);
}
const files = find(join(root, 'test'))
  .filter((file) => names.length === 0 || names.some((name) => file.includes(name)))
  .sort();
if (options.list) {
  process.stdout.write(files.map((file) => `${relative(root, file)}\n`).join(''));
  process.exit(0);
}

const coverage = options.coverage ? join(root, 'coverage/raw') : undefined;
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

if (options.inspect) process.exit(await inspect());
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => process.exit(130));
const started = performance.now();
const results = await runFiles(files, { cases: options.cases, coverage });
const passed = total((one) => one.passed);
let failed = total((one) => one.failed);
if (files.length === 0) {
  process.stderr.write('no test file found\n');
  failed += 1;
} else if (passed + failed === 0) {
  process.stderr.write(`no case matches -t ${options.cases}\n`);
  failed += 1;
}
if (coverage !== undefined) await reportCoverage(coverage);
const seconds = Math.round((performance.now() - started) / 1000);
if (options.evidence !== undefined)
  writeEvidence(options.evidence, 'test', {
    files: results.map(({ file, passed, failed, seconds }) => ({
      file,
      passed,
      failed,
      seconds: Math.round(seconds),
    })),
    passed,
    failed,
    seconds,
  });
process.stdout.write(
  `${files.length} files in ${seconds} s, ${Math.round(total((one) => one.cpuSeconds ?? 0))} s of processors\n`,
);
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exit(failed === 0 ? 0 : 1);

/** Resolves to the debugger's exit code. */
async function inspect(): Promise<number> {
  const [file, ...more] = files;
  if (file === undefined || more.length > 0) {
    process.stderr.write(`--inspect takes one file, and ${files.length} match; --list names them\n`);
    return 2;
  }
  if (!process.stdin.isTTY) {
    process.stderr.write('--inspect needs a terminal\n');
    return 2;
  }
  // Ctrl-C is the debugger's.
  process.on('SIGINT', () => undefined);
  return inspectFile(file, options.cases);
}

function total(of: (result: FileResult) => number): number {
  return results.reduce((sum, result) => sum + of(result), 0);
}

function readOptions() {
  const known = {
    cases: { type: 'string', short: 't' },
    inspect: { type: 'boolean', default: false },
    coverage: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    evidence: { type: 'string' },
    help: { type: 'boolean', default: false },
  } as const;
  try {
    const { values, positionals } = parseArgs({ options: known, allowPositionals: true });
    const cases = values.cases === undefined ? undefined : new RegExp(values.cases).source;
    return { ...values, cases, names: positionals };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${help}`);
    process.exit(2);
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
