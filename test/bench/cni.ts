// `npm run bench:cni`: what a pod waits for. Starts of the plugin, ADD and DEL one at a time and 30 at once, beside
// Go's ptp + host-local driven the same way on the same machine in the same run. The first half starts the second in
// the sandbox.
import { execFileSync, spawnSync } from 'node:child_process';
import { availableParallelism, loadavg } from 'node:os';
import { join } from 'node:path';
import { startCloud } from '../aws/index.ts';
import { goTools, withoutGoTools } from '../cni/fetch.ts';
import { bootPodNode, conf, kernelHasIpvlan, type PodNode } from '../cni/rig.ts';

const root = join(import.meta.dirname, '../..');
const args = process.argv.slice(2);
const json = args.includes('--json');
const rounds = args.includes('--quick') ? 10 : 40;

if (args.includes('--help')) {
  process.stdout.write(`Usage: npm run bench:cni [-- [--json] [--quick]]

Times VERSION, ADD and DEL of the executable beside Go's ptp + host-local. Where the kernel has no ipvlan a macvlan
stands in for it: it costs the kernel the same steps, but no packet is sent here.
`);
} else if (args.includes('--inside')) {
  process.stdout.write(await measure());
} else {
  execFileSync(process.execPath, [join(root, 'agent/build/build.ts'), '--no-bundle'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const built = spawnSync(process.execPath, [join(root, 'test/cni/fetch.ts')], { encoding: 'utf8' });
  if (goTools() === undefined) process.stderr.write(`${withoutGoTools}\n${built.stdout}`);
  const inside = spawnSync(
    'sh',
    [join(root, 'test/sandbox.sh'), process.execPath, import.meta.filename, '--inside', ...args],
    {
      cwd: root,
      stdio: 'inherit',
    },
  );
  process.exitCode = inside.status ?? 1;
}

interface Samples {
  [what: string]: number[];
}

/** Boots a node, lets the driver inside it make the calls, and renders what it saw. */
async function measure(): Promise<string> {
  const cloud = await startCloud();
  const node = await bootPodNode(cloud);
  if (!kernelHasIpvlan()) standInWithMacvlan(node);
  const tools = goTools();
  const plan = {
    rounds,
    conf,
    ours: '/opt/cni/bin/eniboot',
    theirs: tools === undefined ? undefined : `${tools}/ptp`,
    path: `/opt/cni/bin:${tools ?? ''}`,
  };
  const result = await node.instance.run(
    process.execPath,
    [join(import.meta.dirname, 'cni-driver.ts'), JSON.stringify(plan)],
    { timeoutMs: 540_000 },
  );
  if (result.exitCode !== 0) throw new Error(result.stderr);
  const samples = JSON.parse(result.stdout) as Samples;
  await cloud.stop();
  return report(samples);
}

/** Costs one shell and one sed for each batch; the driver measures that cost by itself. */
function standInWithMacvlan(node: PodNode): void {
  node.instance.write(
    '/run/stand-in/bin/ip',
    `#!/bin/sh
case $* in *-batch*) sed 's/type ipvlan mode l2$/type macvlan mode bridge/' | /sbin/ip "$@" ;; *) exec /sbin/ip "$@" ;; esac
`,
    0o755,
  );
}

function report(samples: Samples): string {
  const rows = Object.entries(samples).map(([what, values]) => {
    const sorted = [...values].sort((a, b) => a - b);
    const at = (share: number) =>
      sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
    return { what, n: sorted.length, p50: at(0.5), p90: at(0.9), max: at(1) };
  });
  const p50 = (what: string) => rows.find((row) => row.what === what)?.p50 ?? Number.NaN;
  const standIn = Math.max(0, p50('ip of the stand-in') - p50('ip'));
  const net = p50('ADD') - 2 * standIn;
  const ratios = {
    'start: VERSION / ptp VERSION': p50('VERSION') / p50('ptp VERSION'),
    'ADD without the stand-in / ptp + host-local': net / p50('ptp ADD'),
    'slowest of 30 ADDs / (ADD × 30 / cores)':
      (rows.find((row) => row.what === '30 ADDs at once')?.max ?? Number.NaN) /
      ((p50('ADD') * 30) / availableParallelism()),
  };
  const machine = {
    cores: availableParallelism(),
    load: loadavg()[0],
    ipvlan: kernelHasIpvlan(),
    standInMs: standIn,
  };
  if (json) return `${JSON.stringify({ machine, rows, ratios })}\n`;
  const ms = (value: number) => value.toFixed(1).padStart(8);
  return `${'milliseconds'.padEnd(34)}       n     p50     p90     max
${rows.map((row) => `${row.what.padEnd(34)}${String(row.n).padStart(8)}${ms(row.p50)}${ms(row.p90)}${ms(row.max)}`).join('\n')}

${Object.entries(ratios)
  .map(([what, value]) => `${what.padEnd(48)}${value.toFixed(2)}`)
  .join('\n')}
${machine.cores} cores, load ${machine.load?.toFixed(1)}${machine.ipvlan ? '' : `; no ipvlan: macvlan by a shell in front of ip, ${standIn.toFixed(1)} ms for each of two batches`}
`;
}
