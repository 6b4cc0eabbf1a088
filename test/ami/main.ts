// npm run e2e:ami: builds the image with the real Packer against the simulated EC2.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ensureBundles } from '../packer/bundles.ts';
import { ensurePackerTools, packerTools } from '../packer/fetch.ts';
import { makeNamespaceBase, makeVmBase } from './bases.ts';
import { cases } from './cases.ts';
import { makeHosts } from './hosts.ts';
import type { Job, Result } from './run.ts';

const repository = join(import.meta.dirname, '../..');
const help = `Usage: npm run e2e:ami [-- --quick | --case NAME…] [--json] [--evidence FILE] [--list]

packer build with the real Packer and its real Amazon plugin against the simulated EC2: the build instance is a root of
its own in the simulated network, or a virtual machine (case vm), reached by SSH; dnf installs stand-in packages from
signed stand-in repositories over TLS. Failures must leave no image and nothing else in the account. Needs root.
  --quick          one good build and one failure
  --case NAME      only this case; may be repeated
  --json           one JSON object on stdout, progress on stderr
  --evidence FILE  writes that object to FILE as well; a full run always writes it to docs/evidence
  --list           list the cases and end

Exit codes: 0 all passed, 1 a case failed, 2 wrong usage.
`;
let values: ReturnType<typeof parse>['values'];
try {
  ({ values } = parse());
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${help}`);
  process.exit(2);
}
if (values.help === true || values.list === true) {
  process.stdout.write(
    values.help === true ? help : cases.map((one) => `${one.name.padEnd(20)} ${one.title}\n`).join(''),
  );
  process.exit(0);
}
const unknown = (values.case ?? []).filter((asked) => !cases.some((one) => one.name === asked));
if (unknown.length > 0) {
  process.stderr.write(`no case is called ${unknown.join(', ')}; --list names them\n`);
  process.exit(2);
}
if (process.getuid?.() !== 0) {
  process.stderr.write('e2e:ami needs root: the build instance has users of its own\n');
  process.exit(2);
}
const names = cases
  .filter((one) => values.case?.includes(one.name) ?? (values.quick !== true || one.quick === true))
  .map((one) => one.name);
const say = (line: string) => process[values.json === true ? 'stderr' : 'stdout'].write(`${line}\n`);
process.exitCode = await run();

function parse() {
  return parseArgs({
    options: {
      quick: { type: 'boolean' },
      case: { type: 'string', multiple: true },
      json: { type: 'boolean' },
      evidence: { type: 'string' },
      list: { type: 'boolean' },
      help: { type: 'boolean' },
    },
  });
}

async function run(): Promise<number> {
  // An interrupt also reaches the sandbox and ends it; this process stays to clean up.
  process.on('SIGINT', () => undefined);
  const started = performance.now();
  if (packerTools() === undefined) say('building Packer and its Amazon plugin (once, some minutes)');
  const tools = ensurePackerTools();
  ensureBundles(say);
  const work = mkdtempSync(join(tmpdir(), 'eniboot-ami-'));
  try {
    const chosen = cases.filter((one) => names.includes(one.name));
    const hosts = makeHosts(work);
    const bases: Job['bases'] = {};
    if (chosen.some((one) => one.machines === undefined))
      bases.namespaces = makeNamespaceBase(work, hosts.layer, say);
    if (chosen.some((one) => one.machines === 'vms')) bases.vms = await makeVmBase(work, hosts.layer, say);
    const job: Job = {
      ...tools,
      work,
      names,
      hosts,
      bases,
      results: join(work, 'results.json'),
    };
    writeFileSync(join(work, 'job.json'), JSON.stringify(job));
    spawnSync(
      'sh',
      [
        join(repository, 'test/sandbox.sh'),
        process.execPath,
        join(import.meta.dirname, 'run.ts'),
        join(work, 'job.json'),
      ],
      { stdio: ['ignore', values.json === true ? 2 : 1, 2] },
    );
    const done = existsSync(job.results) ? (JSON.parse(readFileSync(job.results, 'utf8')) as Result[]) : [];
    const missing = names.filter((name) => !done.some((one) => one.name === name));
    const results = [
      ...done,
      ...missing.map((name): Result => ({ name, passed: false, seconds: 0, error: 'did not run' })),
    ];
    const passed = results.filter((one) => one.passed).length;
    const report = {
      name: 'e2e:ami',
      commit: spawnSync('git', ['rev-parse', 'HEAD'], { cwd: repository, encoding: 'utf8' }).stdout.trim(),
      at: new Date().toISOString(),
      passed,
      failed: results.length - passed,
      seconds: Math.round((performance.now() - started) / 1000),
      cases: results,
    };
    const full = results.length === cases.length;
    const evidence = values.evidence ?? (full ? join(repository, 'docs/evidence/e2e-ami.json') : undefined);
    if (evidence !== undefined) {
      mkdirSync(join(evidence, '..'), { recursive: true });
      writeFileSync(evidence, `${JSON.stringify(report, null, 2)}\n`);
    }
    if (values.json === true) process.stdout.write(`${JSON.stringify(report)}\n`);
    else say(`${report.passed} passed, ${report.failed} failed`);
    return report.failed === 0 ? 0 : 1;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
