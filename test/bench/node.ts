// `npm run bench:node`: from power-on to the first pod, and many pods at once, on a VM node with the real kubelet and cri-o. This
// half prepares the VM, starts the measuring half in the sandbox (node-measure.ts) and makes tables and a timeline of its
// samples.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { readArguments } from '../arguments.ts';
import { MANIFESTS, manifest } from '../node/kube.ts';
import { nodeLayer } from '../node/layer.ts';
import { nameOf, rootOf } from '../vm/case.ts';
import { prepareBenches } from '../vm/prepare.ts';
import type { Plan, Samples } from './node-measure.ts';
import { nodeSvg } from './node-plot.ts';
import { burstOf, stepsOf } from './node-steps.ts';
import { type Target, table, targetTable, writeEvidence } from './report.ts';

const help = `Usage: npm run bench:node [-- OPTIONS]

Boots a VM node (QEMU; KVM where it works, emulation elsewhere) with the real kubelet and cri-o in the simulated AWS, from
power-on to READY to the first pod, and shows the time and the program of each step. Then gives kubelet many pods at once: time
until all run, the plugin's ADDs as cri-o and as eniboot measured them. Under emulation everything in the VM is 10 to 20 times
slower: only parts and ratios mean something. The first run compiles kubelet and cri-o, many minutes.

  --pods N         pods at once (default 30, then 110; with --quick 5)
  --minutes N      how long a burst may take before it is recorded, running or not (default 25)
  --quick          five pods at once
  --evidence FILE  write the result as JSON, and the timeline beside it as .svg
  --json           print one JSON object only
`;

const options = readArguments(help, {
  // The limit that eniboot writes for kubelet.
  pods: { most: 110 },
  minutes: {},
  quick: 'switch',
  evidence: 'text',
  json: 'switch',
});
const bursts = options.pods === undefined ? (options.quick ? [5] : [30, 110]) : [options.pods];
const minutes = options.minutes ?? 25;
const FIRST_POD = 'first';
const repository = join(import.meta.dirname, '../..');
const say = (line: string) => process.stderr.write(`${line}\n`);
const work = mkdtempSync(join(tmpdir(), 'eniboot-vm-'));
// An interrupt ends the sandbox; this process stays to remove gigabytes of disks.
process.on('SIGINT', () => undefined);
process.exitCode = await main().finally(() => rmSync(work, { recursive: true, force: true }));

async function main(): Promise<number> {
  const root = rootOf({ layer: 'crio' });
  const files = join(work, 'files');
  mkdirSync(files);
  const first = join(files, 'first.json');
  writeFileSync(first, manifest(FIRST_POD));
  const extra = [...nodeLayer('crio', files, say), { from: first, to: `${MANIFESTS}/${FIRST_POD}.json` }];
  const { benches, provenance } = await prepareBenches(work, [{ ...root, extra }], say);
  const bench = benches[nameOf(root)];
  if (bench === undefined) throw new Error('the root image was not prepared');
  const plan: Plan = { bench, firstPod: FIRST_POD, bursts, patienceSeconds: minutes * 60 };
  const planFile = join(work, 'plan.json');
  writeFileSync(planFile, JSON.stringify(plan));
  const measuring = spawnSync(
    'sh',
    [
      join(repository, 'test/sandbox.sh'),
      process.execPath,
      join(import.meta.dirname, 'node-measure.ts'),
      planFile,
    ],
    { stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
  );
  if (measuring.status !== 0) {
    say('bench:node: the measuring half failed: see above');
    return 1;
  }
  const samples = JSON.parse(measuring.stdout) as Samples;
  const steps = stepsOf(samples.boot);
  const results = samples.bursts.map(burstOf);
  const targets = targetsOf(samples);
  const passed = targets.filter(({ met }) => met).length;
  const summary = {
    ...provenance,
    load: loadavg()[0],
    steps,
    phases: samples.boot.phases.map(({ name, ms, waitMs }) => ({ name, ms, waitMs })),
    bursts: results,
    targets,
    passed,
    failed: targets.length - passed,
  };
  if (options.evidence !== undefined) {
    writeEvidence(options.evidence, 'bench:node', summary);
    writeFileSync(
      options.evidence.replace(/\.json$/, '.svg'),
      nodeSvg(steps, results, String(provenance['accelerator'])),
    );
  }
  process.stdout.write(options.json ? `${JSON.stringify(summary)}\n` : report(summary));
  return passed === targets.length ? 0 : 1;
}

function targetsOf({ boot, bursts: measured }: Samples): Target[] {
  const row = (what: string, target: string, said: string, met: boolean): Target => ({
    what,
    target,
    measured: said,
    met,
    timing: false,
  });
  const later = boot.kubelet.process - boot.eniboot.active;
  return [
    row('kubelet starts after READY', '> 0 s', `${later.toFixed(1)} s`, later > 0),
    ...measured.flatMap(({ pods, running, failures, own, left }) => {
      const failed = Math.max(failures.length, own.filter(({ code }) => code !== 'OK').length);
      return [
        row(`${pods} pods at once: running`, `${pods}`, `${running}`, running === pods),
        row(`${pods} pods at once: failed ADDs and CHECKs`, '0', `${failed}`, failed === 0),
        row(`${pods} pods removed: addresses still leased`, '0', `${left.length}`, left.length === 0),
      ];
    }),
  ];
}

interface Summary {
  steps: ReturnType<typeof stepsOf>;
  phases: { name: string; ms: number; waitMs: number }[];
  bursts: ReturnType<typeof burstOf>[];
  targets: Target[];
  passed: number;
  failed: number;
  accelerator?: unknown;
}

function report({ steps, phases, bursts: results, targets, passed, failed, accelerator }: Summary): string {
  const whole = (steps.at(-1)?.to ?? 0) - (steps[0]?.from ?? 0);
  const one = (seconds: number) => seconds.toFixed(1);
  const owners = [...new Set(steps.map(({ owner }) => owner))].map((owner) => {
    const sum = steps
      .filter((step) => step.owner === owner)
      .reduce((total, { from, to }) => total + to - from, 0);
    return [owner, one(sum), `${((100 * sum) / whole).toFixed(1)} %`];
  });
  return [
    accelerator === 'kvm'
      ? ''
      : '\nThe machine was emulated: everything inside it is 10 to 20 times slower than on hardware, the cloud is not.',
    table([
      ['from power-on, s', 'takes', 'whose', 'what'],
      ...steps.map(({ from, to, owner, what }) => [
        one(from - (steps[0]?.from ?? 0)),
        one(to - from),
        owner,
        what,
      ]),
    ]),
    '',
    table([['whose', 's', 'part'], ...owners]),
    '',
    table([
      ["eniboot's phases", 'ms', 'of it waiting'],
      ...phases.map(({ name, ms, waitMs }) => [name, ms.toFixed(0), waitMs.toFixed(0)]),
    ]),
    '',
    table([
      ['pods at once', 'running', 's', 'ADD, cri-o: p50', 'p99', 'ADD, eniboot: p50', 'p99', "ADD's part"],
      ...results.map(({ pods, running, seconds, add, own, addShare }) => [
        `${pods}`,
        `${running}`,
        seconds.toFixed(0),
        ...[add.p50, add.p99, own.p50, own.p99].map((s) => `${s.toFixed(2)} s`),
        `${(100 * addShare).toFixed(1)} %`,
      ]),
    ]),
    '',
    targetTable(targets),
    `\n${passed} passed, ${failed} failed\n`,
  ].join('\n');
}
