// npm run e2e:mesh: two clusters in one VPC, and a mesh of real Envoys over pods' own addresses.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { table } from '../../agent/cli/table.ts';
import { readArguments } from '../arguments.ts';
import { writeEvidence } from '../bench/report.ts';
import { buildExecutable } from '../build/executable.ts';
import { kernelHasIpvlan } from '../cni/rig.ts';
import { ensureBuilt, modules } from '../node/fetch.ts';
import { cases } from './cases.ts';
import { ensureEnvoy, ensureProtocol } from './fetch.ts';
import type { Job, Result } from './run.ts';

const repository = join(import.meta.dirname, '../..');
const help = `Usage: npm run e2e:mesh [-- --quick | --case NAME] [--json] [--evidence FILE] [--list]

Two clusters in two zones of one simulated VPC, each with a real API server, nodes that eniboot boots and pods that its CNI
plugin attaches; real Envoys as sidecars of pods in both and of an instance outside Kubernetes, told by a control plane that
watches both clusters. The first run compiles the control plane, many minutes.

  --quick          without the cases migration, kube-proxy and latency
  --case NAME      only this case
  --json           one JSON object on stdout, progress on stderr
  --evidence FILE  writes that object to FILE as well; a full run writes it to docs/evidence without being asked
  --list           name the cases and stop

Exit codes: 0 all passed, 1 a case failed, 2 wrong usage.
`;

const options = readArguments(help, {
  quick: 'switch',
  case: cases.map(({ name }) => name),
  json: 'switch',
  evidence: 'text',
  list: 'switch',
});
if (options.list) {
  process.stdout.write(cases.map(({ name, title }) => `${name.padEnd(14)} ${title}\n`).join(''));
  process.exit(0);
}
const chosen = cases.filter(
  ({ name, quick }) =>
    (options.case === undefined || options.case === name) && (!options.quick || quick === true),
);
process.exitCode = run();

function run(): number {
  // An interrupt reaches the sandbox too and ends it; this process stays to clean up.
  process.on('SIGINT', () => undefined);
  const started = performance.now();
  const say = (line: string) => process[options.json ? 'stderr' : 'stdout'].write(`${line}\n`);
  const { cluster, controllers, etcd, coredns } = modules;
  for (const module of [cluster, controllers, etcd, coredns]) ensureBuilt(module, say);
  ensureEnvoy();
  ensureProtocol();
  buildExecutable();
  say(kernelHasIpvlan() ? 'pods on ipvlan' : 'pods on a stand-in for ipvlan, which this kernel has not');
  const work = mkdtempSync(join(tmpdir(), 'eniboot-mesh-'));
  try {
    const job: Job = { names: chosen.map(({ name }) => name), work, results: join(work, 'results.json') };
    writeFileSync(join(work, 'job.json'), JSON.stringify(job));
    spawnSync(
      'sh',
      [
        ...[join(repository, 'test/sandbox.sh'), process.execPath],
        ...[join(import.meta.dirname, 'run.ts'), join(work, 'job.json')],
      ],
      { stdio: ['ignore', options.json ? 2 : 1, 2] },
    );
    const results = resultsOf(job);
    const passed = results.filter((one) => one.passed).length;
    const failed = results.length - passed;
    const seconds = Math.round((performance.now() - started) / 1000);
    const report = { ipvlan: kernelHasIpvlan(), passed, failed, seconds, cases: results };
    const full = chosen.length === cases.length;
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

/** A case that did not run counts as failed. */
function resultsOf({ names, results }: Job): Result[] {
  const done = existsSync(results) ? (JSON.parse(readFileSync(results, 'utf8')) as Result[]) : [];
  const missing = names.filter((name) => !done.some((one) => one.name === name));
  return [
    ...done,
    ...missing.map((name) => ({ name, title: '', passed: false, seconds: 0, error: 'did not run' })),
  ];
}
