// `npm run check`: all checks of the sources that do not run them.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { page as configurationPage, withTable } from './config/reference.ts';
import { docsProblems } from './docs.ts';
import { errnoProblems } from './errnos.ts';
import { folderProblems } from './folders.ts';
import { ensureBundles } from './packer/bundles.ts';
import { type PackerTools, packerTools } from './packer/fetch.ts';
import { templateChecks } from './packer/template.ts';
import { generatedPages, licenceProblems } from './pages.ts';
import { patternProblems } from './patterns.ts';
import { purityProblems } from './purity.ts';
import { wordProblems } from './words.ts';

const root = join(import.meta.dirname, '..');
const bin = (name: string) => join(root, 'node_modules/.bin', name);
const fix = process.argv.includes('--fix');
if (process.argv.includes('--help')) {
  process.stdout.write(
    'Usage: npm run check [-- --fix]\nFormat, lint (with the banned raw imports), types, dead code, folders and files that import one another, plans that read, patterns that may take long, errors taken for absence, shell scripts, the template of packer/, licences, generated pages, what pages name, words.\n',
  );
  process.exit(0);
}

// Building Packer takes too long for a check.
const packer = packerTools();

interface Step {
  name: string;
  run(): string | undefined | Promise<string | undefined>;
}

const steps: Step[] = [
  { name: 'format', run: () => command(bin('biome'), ['check', ...(fix ? ['--write'] : []), '.']) },
  {
    name: 'lint',
    run: () => command(bin('oxlint'), ['--type-aware', '--deny-warnings', ...(fix ? ['--fix'] : [])]),
  },
  { name: 'types', run: () => command(bin('tsc'), ['-p', '.']) },
  { name: 'dead code', run: () => command(bin('knip'), []) },
  { name: 'imports', run: () => folderProblems(root) },
  { name: 'pure plans', run: () => purityProblems(root) },
  { name: 'patterns', run: () => patterns() },
  { name: 'errnos', run: () => errnoProblems(root) },
  { name: 'shell', run: shell },
  ...(packer === undefined ? [] : [{ name: 'packer', run: () => template(packer) }]),
  { name: 'licences', run: () => licenceProblems(root) },
  { name: 'generated pages', run: stalePages },
  { name: 'pages', run: () => docsProblems(root) },
  { name: 'words', run: () => wordProblems(root, ['.']) },
];

let failed = 0;
if (packer === undefined)
  process.stdout.write(
    'left out: packer; `npm run test:packer` builds Packer, about ten minutes, and runs it\n',
  );
for (const step of steps) {
  const started = performance.now();
  const problem = await step.run();
  const time = `${((performance.now() - started) / 1000).toFixed(1)} s`.padStart(7);
  process.stdout.write(`${problem === undefined ? 'ok    ' : 'FAILED'} ${time}  ${step.name}\n`);
  if (problem !== undefined) {
    failed += 1;
    process.stdout.write(`${problem.trimEnd()}\n`);
  }
}
process.exit(failed === 0 ? 0 : 1);

/** The output of a failed command; undefined when it succeeded. */
function command(file: string, args: string[]): string | undefined {
  const result = spawnSync(file, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
  return result.status === 0
    ? undefined
    : `${result.stdout ?? ''}${result.stderr ?? ''}${result.error?.message ?? ''}`;
}

function patterns(): string | undefined {
  const listed = spawnSync('git', ['ls-files', 'agent', 'cni'], { cwd: root, encoding: 'utf8' }).stdout;
  const problems = listed
    .split('\n')
    .filter((path) => path.endsWith('.ts') && existsSync(join(root, path)))
    .flatMap((path) => patternProblems(path, readFileSync(join(root, path), 'utf8')));
  return problems.length === 0 ? undefined : problems.join('\n');
}

function shell(): string | undefined {
  const listed = spawnSync('git', ['ls-files'], { cwd: root, encoding: 'utf8' }).stdout.split('\n');
  const scripts = listed.filter((path) => path !== '' && isShell(path));
  return command('shellcheck', ['--severity=info', ...scripts]);
}

function template(tools: PackerTools): string | undefined {
  ensureBundles((line) => process.stdout.write(`${line}\n`));
  const problems = [...templateChecks(tools)].flatMap(([what, problem]) =>
    problem === undefined ? [] : [`${what}: ${problem}`],
  );
  return problems.length === 0 ? undefined : problems.join('\n');
}

function isShell(path: string): boolean {
  if (path.endsWith('.sh')) return true;
  if (/\.[a-z]+$/.test(path)) return false;
  try {
    return /^#!\/(usr\/bin\/env |bin\/)(ba)?sh/.test(readFileSync(join(root, path), 'utf8').slice(0, 20));
  } catch {
    return false;
  }
}

function stalePages(): string | undefined {
  const configuration = readFileSync(configurationPage, 'utf8');
  if (withTable(configuration) !== configuration)
    return 'out of date: docs/configuration.md; run: node_modules/.bin/node test/config/reference.ts';
  const stale = Object.entries(generatedPages(root)).filter(
    ([path, wanted]) => !existsSync(join(root, path)) || readFileSync(join(root, path), 'utf8') !== wanted,
  );
  return stale.length === 0
    ? undefined
    : `out of date: ${stale.map(([path]) => path).join(', ')}; run: node_modules/.bin/node test/pages.ts`;
}
