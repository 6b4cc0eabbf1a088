// npm run e2e:mesh: two clusters in one VPC, and a mesh of real Envoys over pods' own addresses.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cacheFolder } from '../../agent/build/cache.ts';
import { table } from '../../agent/cli/table.ts';
import { readArguments } from '../arguments.ts';
import { writeEvidence } from '../bench/report.ts';
import { buildExecutable } from '../build/executable.ts';
import { kernelHasIpvlan } from '../cni/rig.ts';
import { ensureBuilt, modules } from '../node/fetch.ts';
import { underOtherKernel } from '../vm/other-kernel.ts';
import { cases } from './cases.ts';
import { ensureEnvoy, ensureProtocol } from './fetch.ts';
import type { Job, Result } from './run.ts';

const repository = join(import.meta.dirname, '../..');
const help = `Usage: npm run e2e:mesh [-- --quick | --case NAME] [--vm] [--json] [--evidence FILE] [--list]

Two clusters in two zones of one simulated VPC, each with a real API server, nodes that eniboot boots and pods that its CNI
plugin attaches; real Envoys as sidecars of pods in both and of an instance outside Kubernetes, told by a control plane that
watches both clusters. The first run compiles the control plane, many minutes.

  --quick          without the cases migration, kube-proxy and latency
  --case NAME      only this case
  --vm             in QEMU, where the kernel has ipvlan; without KVM twenty times slower
  --json           one JSON object on stdout, progress on stderr
  --evidence FILE  writes that object to FILE as well; a full run writes it to docs/evidence without being asked
  --list           name the cases and stop

Exit codes: 0 all passed, 1 a case failed, 2 wrong usage.
`;

/** Emulated programs take ten to twenty times as long, and wait for one another. */
const EMULATED = 30;

const options = readArguments(help, {
  quick: 'switch',
  case: cases.map(({ name }) => name),
  json: 'switch',
  evidence: 'text',
  list: 'switch',
  vm: 'switch',
});
if (options.list) {
  process.stdout.write(cases.map(({ name, title }) => `${name.padEnd(14)} ${title}\n`).join(''));
  process.exit(0);
}
const chosen = cases.filter(
  ({ name, quick }) =>
    (options.case === undefined || options.case === name) && (!options.quick || quick === true),
);
process.exitCode = await run();

async function run(): Promise<number> {
  // An interrupt reaches the sandbox too and ends it; this process stays to clean up.
  process.on('SIGINT', () => undefined);
  const started = performance.now();
  const say = (line: string) => process[options.json ? 'stderr' : 'stdout'].write(`${line}\n`);
  const { cluster, controllers, etcd, coredns } = modules;
  for (const module of [cluster, controllers, etcd, coredns]) ensureBuilt(module, say);
  ensureEnvoy();
  ensureProtocol();
  buildExecutable();
  const ipvlan = options.vm || kernelHasIpvlan();
  say(ipvlan ? 'pods on ipvlan' : 'pods on a stand-in for ipvlan, which this kernel has not');
  const work = mkdtempSync(join(options.vm ? cacheFolder('vm') : tmpdir(), 'eniboot-mesh-'));
  try {
    const names = chosen.map(({ name }) => name);
    const job: Job = { names, work, results: join(work, 'results.json'), patience: 1 };
    if (options.vm) await inVm(job, say);
    else {
      writeFileSync(join(work, 'job.json'), JSON.stringify(job));
      const [file = '', ...args] = commandFor(join(work, 'job.json'));
      spawnSync(file, args, { stdio: ['ignore', options.json ? 2 : 1, 2] });
    }
    const results = resultsOf(job);
    const passed = results.filter((one) => one.passed).length;
    const failed = results.length - passed;
    const seconds = Math.round((performance.now() - started) / 1000);
    const report = { ipvlan, passed, failed, seconds, cases: results };
    const full = chosen.length === cases.length && !options.vm;
    const file = options.evidence ?? (full ? join(repository, 'docs/evidence/e2e-mesh.json') : undefined);
    if (file !== undefined) writeEvidence(file, 'e2e:mesh', report);
    if (options.json) process.stdout.write(`${JSON.stringify({ name: 'e2e:mesh', ...report })}\n`);
    else {
      const facts = results.flatMap((one) =>
        Object.entries(one.facts ?? {}).map(([k, v]) => [one.name, k, String(v)]),
      );
      if (facts.length > 0) say(`\n${table([['case', 'what', 'found'], ...facts])}`);
      say(`${passed} passed, ${failed} failed`);
    }
    return failed === 0 ? 0 : 1;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function commandFor(job: string): string[] {
  return [
    'sh',
    join(repository, 'test/sandbox.sh'),
    process.execPath,
    join(import.meta.dirname, 'run.ts'),
    job,
  ];
}

/** Data and logs stay in the other machine's memory, but for the ends of the logs. */
async function inVm(job: Job, say: (line: string) => void): Promise<void> {
  const file = join(job.work, 'job.json');
  const data = '/tmp/mesh';
  const result = await underOtherKernel(
    job.work,
    (isEmulated) => {
      writeFileSync(file, JSON.stringify({ ...job, work: data, patience: isEmulated ? EMULATED : 1 }));
      const environment = ['HOME', 'PATH', 'XDG_CACHE_HOME', 'NODE_COMPILE_CACHE']
        .filter((name) => process.env[name] !== undefined)
        .map((name) => `export ${name}='${process.env[name]}'`);
      return `${environment.join('\n')}
mkdir ${data}
cd '${repository}' && ${commandFor(file)
        .map((part) => `'${part}'`)
        .join(' ')}
for log in ${data}/*.log ${data}/*/*.log; do [ -e "$log" ] && { echo "$log:"; tail -n 5 "$log"; } >>'${job.work}/logs'; done
`;
    },
    say,
  );
  if (result.exitCode !== 0) say(`the other machine ended with ${result.exitCode}`);
}

/** A case that did not run counts as failed. */
function resultsOf({ names, results }: Job): Result[] {
  const done = existsSync(results) ? (JSON.parse(readFileSync(results, 'utf8')) as Result[]) : [];
  const missing = names.filter((name) => !done.some((one) => one.name === name));
  return [
    ...done,
    ...missing.map((name) => ({ name, title: '', passed: false, seconds: 0, error: 'did not run' })),
  ];
}
