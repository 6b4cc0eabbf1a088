// A suite of cases that run in VMs, as a command: its arguments, the run in a sandbox, the report.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { type Case, type CaseResult, type Job, nameOf, rootOf } from './case.ts';
import type { Suite } from './image/image.ts';
import type { LayerEntry } from './layer.ts';
import { prepareBenches } from './prepare.ts';

export interface VmSuite<Facts> {
  /** The name of its npm script: `e2e:vm`. */
  name: string;
  /** What the suite shows and how long it takes: the middle of the help text. */
  about: string;
  cases: readonly Case<Facts>[];
  /** The program that runs the cases in the sandbox: it calls runCases(). */
  runner: string;
  /**
   * Files of nodes beside those of every VM, for the cases that start from one root. Files that have to be made for this go to
   * `work`, a folder that is removed after the run.
   */
  extra: (chosen: readonly Case<Facts>[], work: string, say: (line: string) => void) => LayerEntry[];
  /** Shown above the last line; empty for nothing. */
  summary: (results: readonly CaseResult<Facts>[]) => string;
}

const repository = join(import.meta.dirname, '../..');

interface Options {
  names: string[];
  json: boolean;
  evidence: string | undefined;
  /** Replaces trixie. */
  image: Suite | undefined;
}

/** Runs the command and resolves to its exit code: 0 all passed, 1 a case failed, 2 wrong usage. */
export async function runSuite<Facts>(suite: VmSuite<Facts>): Promise<number> {
  const options = readArguments(suite);
  if (typeof options === 'number') return options;
  // An interrupt also reaches the sandbox and ends it; this process stays to remove gigabytes of disks.
  process.on('SIGINT', () => undefined);
  const say = (line: string) => process[options.json ? 'stderr' : 'stdout'].write(`${line}\n`);
  const started = performance.now();
  const work = mkdtempSync(join(tmpdir(), 'eniboot-vm-'));
  try {
    const chosen = suite.cases.filter((one) => options.names.includes(one.name));
    const names = [...new Set(chosen.map((one) => nameOf(rootOf(one))))];
    const roots = names.map((name) => {
      const cases = chosen.filter((one) => nameOf(rootOf(one)) === name);
      const files = join(work, `${name}-files`);
      mkdirSync(files);
      const root = rootOf(cases[0] ?? {});
      const image = root.image === 'trixie' ? (options.image ?? 'trixie') : root.image;
      return { ...root, image, name, extra: suite.extra(cases, files, say) };
    });
    const { benches, provenance } = await prepareBenches(work, roots, say);
    const emulated = provenance['accelerator'] !== 'kvm';
    say(`${chosen.length} cases, ${emulated ? 'emulation (no working KVM)' : 'KVM'}`);
    const job = { benches, names: options.names, results: join(work, 'results.json') };
    const results = inSandbox(suite, job, work, options.json);
    const report = {
      name: suite.name,
      ...provenance,
      passed: results.filter((result) => result.passed).length,
      failed: results.filter((result) => !result.passed).length,
      seconds: Math.round((performance.now() - started) / 1000),
      cases: results,
    };
    if (options.evidence !== undefined) {
      mkdirSync(dirname(options.evidence), { recursive: true });
      writeFileSync(options.evidence, `${JSON.stringify(report, null, 2)}\n`);
    }
    if (options.json) process.stdout.write(`${JSON.stringify(report)}\n`);
    else {
      const summary = suite.summary(results);
      say(`${summary === '' ? '' : `\n${summary}\n`}\n${report.passed} passed, ${report.failed} failed`);
    }
    return report.failed === 0 ? 0 : 1;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function readArguments<Facts>(suite: VmSuite<Facts>): Options | number {
  const { name, cases } = suite;
  const help = `Usage: npm run ${name} [-- --quick | --case NAME…] [--release NAME | --arch arm64] [--json] [--evidence FILE] [--list]

${suite.about}
  --quick          one good case and one failure
  --case NAME      only this case; may be repeated. Cases of an hour and more run only when they are named (--list says which)
  --release NAME   the Debian release that nodes run: trixie, or forky, the newest in reach
  --arch arm64     nodes have that CPU, emulated: five times slower, and building its root image takes a quarter of an hour
  --json           one JSON object on stdout, progress on stderr
  --evidence FILE  writes that object to FILE as well; a full run always writes it to docs/evidence
  --list           list the cases and end

A root image is built once, about 90 s. Exit codes: 0 all passed, 1 a case failed, 2 wrong usage.
`;
  let values: ReturnType<typeof parse>['values'];
  try {
    ({ values } = parse());
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${help}`);
    return 2;
  }
  if (values.help === true) {
    process.stdout.write(help);
    return 0;
  }
  if (values.list === true) {
    process.stdout.write(
      cases
        .map(
          ({ name: named, title, long }) => `${named.padEnd(24)} ${title}${long ? ' (by name alone)' : ''}\n`,
        )
        .join(''),
    );
    return 0;
  }
  const unknown = (values.case ?? []).filter((asked) => !cases.some((one) => one.name === asked));
  if (unknown.length > 0) {
    process.stderr.write(`no case is called ${unknown.join(', ')}; --list names them\n`);
    return 2;
  }
  const { release = 'trixie', arch = 'x64' } = values;
  if (
    !['trixie', 'forky'].includes(release) ||
    !['x64', 'arm64'].includes(arch) ||
    (release === 'forky' && arch === 'arm64')
  ) {
    process.stderr.write(
      `--release is trixie or forky, --arch x64 or arm64, and arm64 goes with trixie\n\n${help}`,
    );
    return 2;
  }
  const image = arch === 'arm64' ? 'arm64' : release === 'forky' ? 'forky' : undefined;
  const file = [name.replace(':', '-'), ...(image === undefined ? [] : [image])].join('-');
  const evidence = join(repository, 'docs/evidence', `${file}.json`);
  const wanted = cases.filter((one) => {
    if (values.case !== undefined) return values.case.includes(one.name);
    return values.quick === true ? one.quick === true : one.long !== true;
  });
  return {
    names: wanted.map((one) => one.name),
    image,
    json: values.json === true,
    evidence: values.evidence ?? (values.case === undefined && !values.quick ? evidence : undefined),
  };
}

function parse() {
  return parseArgs({
    options: {
      quick: { type: 'boolean' },
      case: { type: 'string', multiple: true },
      release: { type: 'string' },
      arch: { type: 'string' },
      json: { type: 'boolean' },
      evidence: { type: 'string' },
      list: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
}

function inSandbox<Facts>(suite: VmSuite<Facts>, job: Job, work: string, json: boolean): CaseResult<Facts>[] {
  const jobFile = join(work, 'job.json');
  writeFileSync(jobFile, JSON.stringify(job));
  spawnSync('sh', [join(repository, 'test/sandbox.sh'), process.execPath, suite.runner, jobFile], {
    stdio: ['ignore', json ? 2 : 1, 2],
  });
  const done = existsSync(job.results)
    ? (JSON.parse(readFileSync(job.results, 'utf8')) as CaseResult<Facts>[])
    : [];
  // Cases that a dying runner has not run are reported, too.
  const missing = job.names.filter((name) => !done.some((result) => result.name === name));
  return [
    ...done,
    ...missing.map((name) => ({
      name,
      title: suite.cases.find((one) => one.name === name)?.title ?? '',
      passed: false,
      seconds: 0,
      error: 'did not run: the runner ended before this case',
    })),
  ];
}
