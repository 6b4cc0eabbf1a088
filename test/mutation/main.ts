// `npm run test:mutation -- FOLDER`: changes the product in small ways and looks whether a test notices.
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { table, writeEvidence } from '../bench/report.ts';
import { seeded } from '../boot/kill.ts';
import { type Covering, coveringOf, covers, runTest, testsOf } from './covering.ts';
import { type Mutant, mutantsOf } from './mutants.ts';

const help = `Usage: npm run test:mutation -- FOLDER [--seed N] [--sample N] [--minutes N] [--evidence FILE]

Takes a seeded sample of small changes of the sources in FOLDER (agent/rollout, agent/pool, agent/boot, cni): constants, comparisons,
conditions, and, or. For each it runs the test files that run the changed place, the fastest first, until one fails. A change
that no test notices is listed. Only tests that run the sources in their own process take part.

  --seed N      of the sample (default 1)
  --sample N    how many changes (default 100)
  --minutes N   begins no further change after that (default 90)
  --evidence    write counts and survivors to FILE

Exit codes: 0 every change was noticed; 1 some were not; 2 wrong usage. Ends with one line: N noticed, M not, K run by no test.
`;

const root = join(import.meta.dirname, '../..');
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    help: { type: 'boolean' },
    seed: { type: 'string', default: '1' },
    sample: { type: 'string', default: '100' },
    minutes: { type: 'string', default: '90' },
    evidence: { type: 'string' },
  },
});
const [folder = ''] = positionals;
const [seed, sample, minutes] = [values.seed, values.sample, values.minutes].map(Number) as [
  number,
  number,
  number,
];
if (values.help === true || folder === '' || [seed, sample, minutes].some((one) => !Number.isFinite(one))) {
  process.stdout.write(help);
  process.exit(values.help === true ? 0 : 2);
}

/** A test that takes longer would be most of the time. Seconds. */
const LONGEST_TEST = 60;
const WORKERS = 2;
const deadline = performance.now() + minutes * 60_000;

const scratch = mkdtempSync(join(tmpdir(), 'eniboot-mutation-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));
const copies = Array.from({ length: WORKERS }, (_, at) => copyOf(join(scratch, String(at))));

const tests = testsOf(root, folder);
process.stderr.write(`${tests.length} test files reach ${folder}; their coverage comes first\n`);
const coverings = (
  await inCopies(tests, (copy, test) => coveringOf(copy, test, folder, LONGEST_TEST))
).filter((one): one is Covering => one !== undefined);
coverings.sort((a, b) => a.seconds - b.seconds);

const all = sourcesIn(folder).flatMap((file) => mutantsOf(file, readFileSync(join(root, file), 'utf8')));
const chosen = shuffled(all, seed).slice(0, sample);
process.stderr.write(
  `${chosen.length} of ${all.length} changes, seed ${seed}, ${coverings.length} test files\n`,
);

type Fate = { fate: 'noticed'; by: string } | { fate: 'survived' | 'not run' | 'no time' };
let judged = 0;
const fates = await inCopies(chosen, async (copy, mutant) => {
  const fate = performance.now() > deadline ? { fate: 'no time' as const } : await fateOf(copy, mutant);
  judged += 1;
  process.stderr.write(`\r${judged} of ${chosen.length}`);
  return fate;
});
process.stderr.write('\n');

const withFate = (fate: Fate['fate']) => chosen.filter((_, at) => fates[at]?.fate === fate);
const survivors = withFate('survived');
const notRun = withFate('not run');
const rows = (mutants: Mutant[]) =>
  mutants.map(({ file, line, before, after }) => [
    `${file}:${line}`,
    before,
    after === '' ? '(nothing)' : after,
  ]);
if (survivors.length > 0)
  process.stdout.write(`${table([['not noticed', 'was', 'became'], ...rows(survivors)])}\n`);
if (notRun.length > 0)
  process.stdout.write(`${table([['run by no test of this kind', 'was', 'became'], ...rows(notRun)])}\n`);
const noticed = withFate('noticed').length;
if (values.evidence !== undefined)
  writeEvidence(values.evidence, 'mutation', {
    folder,
    seed,
    sample: chosen.length,
    of: all.length,
    noticed,
    survivors,
    notRun,
  });
const late = withFate('no time').length;
if (late > 0) process.stdout.write(`${late} were not tried: ${minutes} minutes were over\n`);
process.stdout.write(`${noticed} noticed, ${survivors.length} not, ${notRun.length} run by no test\n`);
process.exit(survivors.length === 0 ? 0 : 1);

async function fateOf(copy: string, mutant: Mutant): Promise<Fate> {
  const covering = coverings.filter((one) => covers(one, mutant.file, mutant.start));
  if (covering.length === 0) return { fate: 'not run' };
  const path = join(copy, mutant.file);
  const source = readFileSync(path, 'utf8');
  writeFileSync(path, source.slice(0, mutant.start) + mutant.after + source.slice(mutant.end));
  try {
    for (const { test, seconds } of covering) {
      // One that never ends has been noticed.
      const { ok } = await runTest(copy, test, 10 + 4 * seconds);
      if (!ok) return { fate: 'noticed', by: test };
    }
    return { fate: 'survived' };
  } finally {
    writeFileSync(path, source);
  }
}

/** Each item in one of the copies, in as many at a time; the answers in the items' order. */
async function inCopies<T, R>(
  items: readonly T[],
  work: (copy: string, item: T) => Promise<R>,
): Promise<R[]> {
  const answers: R[] = [];
  let next = 0;
  await Promise.all(
    copies.map(async (copy) => {
      for (let at = next++; at < items.length; at = next++) answers[at] = await work(copy, items[at] as T);
    }),
  );
  return answers;
}

function copyOf(path: string): string {
  for (const name of [
    'agent',
    'cni',
    'test',
    'packer',
    'systemd',
    'docs',
    'package.json',
    'tsconfig.json',
    'README.md',
  ])
    cpSync(join(root, name), join(path, name), { recursive: true, verbatimSymlinks: true });
  for (const name of ['node_modules', 'dist']) symlinkSync(join(root, name), join(path, name));
  return path;
}

function sourcesIn(place: string): string[] {
  return readdirSync(join(root, place), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => join(place, name))
    .sort();
}

/** Fisher and Yates. */
function shuffled<T>(items: readonly T[], from: number): T[] {
  const result = [...items];
  const random = seeded(from);
  for (let at = result.length - 1; at > 0; at -= 1) {
    const to = Math.floor(random() * (at + 1));
    [result[at], result[to]] = [result[to] as T, result[at] as T];
  }
  return result;
}
