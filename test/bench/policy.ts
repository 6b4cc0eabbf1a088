// `npm run bench:policy`: what network policies cost a node, and how long they take. This half builds, starts the measuring half
// in the sandbox (policy-measure.ts) and makes tables of what it measured.
import { spawnSync } from 'node:child_process';
import { loadavg } from 'node:os';
import { join } from 'node:path';
import { readArguments } from '../arguments.ts';
import { buildExecutable } from '../build/executable.ts';
import { kernelHasIpvlan } from '../cni/rig.ts';
import type { Measured, Plan } from './policy-measure.ts';
import { spread, type Target, table, targetTable, writeEvidence } from './report.ts';

const help = `Usage: npm run bench:policy [-- OPTIONS]

A node of 110 pods in a cluster of 10,000 pods and 500 policies, with pods that come and go 20 times a second: the time from the
API server's word to the kernel of the last pod that it is about, the service's processor time and memory, and what the API
server sends; for changes that touch none of the node's pods up to all of them. Then a packet's processor time from pod to pod,
without a policy and with sets of 10,000 at both ends. Ends with the table of targets. A busy machine spoils times.

  --quick          a smaller cluster; a timing row that is not met is shown as such and does not fail the benchmark
  --evidence FILE  write the result as JSON
  --json           print one object and nothing else
`;

const FATE_MS = 1000;
const CPU_SHARE = 5;
/** Pods that the share of a core is asked for. */
const USUAL = 10;
const MEMORY_MB = 150;
const PACKET_RATIO = 1.4;

const options = readArguments(help, { quick: 'switch', evidence: 'text', json: 'switch' });
const plan: Plan = options.quick
  ? {
      ...{ pods: 1000, policies: 100, local: 20, changesPerSecond: 20, seconds: 3, touched: [0, 10, 20] },
      ...{ rounds: 1, packets: 20_000, blocks: 1000 },
    }
  : {
      ...{
        pods: 10_000,
        policies: 500,
        local: 110,
        changesPerSecond: 20,
        seconds: 30,
        touched: [0, 10, 50, 110],
      },
      ...{ rounds: 7, packets: 300_000, blocks: 10_000 },
    };
const root = join(import.meta.dirname, '../..');
process.stderr.write('building the executable …\n');
buildExecutable();
process.stderr.write('measuring …\n');
const measuring = spawnSync(
  'sh',
  [
    ...[join(root, 'test/sandbox.sh'), process.execPath, join(import.meta.dirname, 'policy-measure.ts')],
    ...['--plan', JSON.stringify(plan)],
  ],
  { cwd: root, stdio: ['ignore', 'pipe', 'inherit'], encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 },
);
if (measuring.status !== 0) {
  process.stderr.write('bench:policy: the measuring half failed: see above\n');
  process.exit(1);
}
const measured = JSON.parse(measuring.stdout) as Measured;
const load = loadavg()[0] ?? 0;

const churn = measured.churn.map(({ ms, ...rest }) => {
  const sorted = [...ms].sort((a, b) => a - b);
  const p99 = sorted[Math.max(0, Math.ceil(0.99 * sorted.length) - 1)] ?? 0;
  return { ...rest, seen: ms.length, ms: { ...spread(ms), p99 } };
});
const packet = {
  without: spread(measured.packet.without).median,
  members: spread(measured.packet.members).median,
  blocks: spread(measured.packet.blocks).median,
};
const usual = churn.find(({ touched }) => touched === USUAL);
const slowest = Math.max(...churn.map(({ ms }) => ms.p99));
const unseen = churn.filter(({ touched, seen, changes }) => touched > 0 && seen < 0.9 * changes);

const targets: Target[] = [
  atMost('change to kernel, 99 of 100, the slowest row', FATE_MS, slowest, 'ms', true),
  atMost(
    `processor time, each change touching ${USUAL} pods`,
    CPU_SHARE,
    100 * (usual?.cpu ?? 0),
    '% of a core',
    true,
  ),
  atMost('memory of the service, at most', MEMORY_MB, measured.memoryBytes / 1e6, 'MB', false),
  atMost(
    'a packet with sets of addresses at both ends / without',
    PACKET_RATIO,
    packet.members / packet.without,
    '×',
    true,
  ),
  atMost('rows whose changes were not all seen', 0, unseen.length, '', false),
];
const passed = targets.filter((one) => one.met).length;
const failing = targets.filter((one) => !one.met && !(options.quick && one.timing)).length;
const summary = {
  plan,
  load,
  ipvlan: kernelHasIpvlan(),
  ...{ startMs: measured.startMs, startCpuMs: measured.startCpuMs, startBytes: measured.startBytes },
  ...{
    watches: measured.watches,
    memoryBytes: measured.memoryBytes,
    churn,
    packet,
    blocksMs: measured.blocksMs,
  },
  packetRatios: { members: packet.members / packet.without, blocks: packet.blocks / packet.without },
  ...{ targets, passed, failed: targets.length - passed },
};
if (options.evidence !== undefined) writeEvidence(options.evidence, 'bench:policy', summary);
if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
else print();
process.exit(failing === 0 ? 0 : 1);

function atMost(what: string, target: number, is: number, unit: string, timing: boolean): Target {
  const said = `${is.toFixed(unit === '' ? 0 : unit === '×' ? 2 : 1)} ${unit}`.trim();
  return { what, target: `≤ ${target} ${unit}`.trim(), measured: said, met: is <= target, timing };
}

function print(): void {
  const rows = churn.map(({ touched, changes, ms, cpu, bytesPerChange }) => [
    `${touched}`,
    `${changes}`,
    ...(touched === 0 ? ['', '', ''] : [ms.median, ms.p99, ms.max].map((one) => one.toFixed(0))),
    (100 * cpu).toFixed(1),
    (bytesPerChange / 1000).toFixed(1),
  ]);
  const ratio = (one: number) => (one / packet.without).toFixed(2);
  const out = [
    `\n${plan.pods} pods, ${plan.policies} policies, ${plan.local} pods on the node, ${plan.changesPerSecond} changes a second. The load of this machine is ${load.toFixed(1)}.`,
    `start: all pods right after ${(measured.startMs / 1000).toFixed(1)} s, with ${(measured.startCpuMs / 1000).toFixed(1)} s of processor time and ${(measured.startBytes / 1e6).toFixed(1)} MB from the API server`,
    '',
    table([
      [
        'pods touched',
        'changes',
        'to kernel: median',
        'p99',
        'max ms',
        'CPU % of a core',
        'kB from the API server a change',
      ],
      ...rows,
    ]),
    '',
    table([
      ['a packet from pod to pod', 'ns of processor time', 'ratio'],
      ['without a policy', packet.without.toFixed(0), '1'],
      [`${plan.pods} addresses at both ends`, packet.members.toFixed(0), ratio(packet.members)],
      [`${plan.blocks} blocks at both ends`, packet.blocks.toFixed(0), ratio(packet.blocks)],
    ]),
    `\n${plan.blocks} blocks for two pods, both directions, stand ${measured.blocksMs.toFixed(0)} ms after the API server's word\n`,
    targetTable(targets),
    `\n${passed} passed, ${failing} failed`,
  ];
  process.stdout.write(`${out.join('\n')}\n`);
}
