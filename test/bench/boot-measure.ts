// The measuring half of `npm run bench:boot`, inside the sandbox: boots nodes in a simulated AWS and prints one JSON object of
// raw samples. The time in which that AWS worked is measured at its HTTP servers and its device plugging, independently of the
// agent's own report.
import { execFileSync } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import type { Status } from '../../agent/boot/verdict/status.ts';
import { type Cloud, type Instance, type Latency, realisticLatency, startCloud } from '../aws/index.ts';
import { ENIBOOT, launchNode, type Node } from '../boot/node.ts';

/** Milliseconds. */
export interface BootSample {
  wall: number;
  /** Time in which the simulated AWS answered, or plugged a device in. */
  cloud: number;
  /** CPU time of hashing the executable. */
  hashWait: number;
  /** wall − time to enter the namespaces − cloud − hashWait. */
  own: number;
  /** CPU time of the agent and all its children, with hashing. */
  cpu: number;
  /** Waits that the agent itself reports: for IMDS, EC2 and devices. */
  bookedWait: number;
  phases: Record<string, { ms: number; waitMs: number }>;
  imds: number;
  ec2: number;
  /** Accepted mutating calls, by action. */
  mutating: Record<string, number>;
}

const cases = [
  'first',
  'again',
  'restart',
  'first2',
  'restart2',
  'slowFirst',
  'slowRestart',
  'slowFirst2',
] as const;
export type Case = (typeof cases)[number];

export interface Measured {
  boots: Record<Case, BootSample[]>;
  /** Milliseconds of `true` run in the same way: the time to enter the namespaces. */
  enter: number[];
  start: { warm: number[]; cold: number[]; coldBytes: number };
  hash: { warm: number[]; cold: number[] };
  /** Wall milliseconds of a boot whose executable was not in the page cache. */
  coldFirst: number[];
  /** Bytes: the agent's largest memory, and the largest sum of all its children. */
  memory: { agent: number[]; children: number[] };
}

/** Runs a program and writes its CPU time to standard error. */
const TIMED = '"$0" "$@"; code=$?; times >&2; exit $code';

const { values } = parseArgs({ options: { runs: { type: 'string', default: '10' } } });
const runs = Number(values.runs);
const note = (text: string) => process.stderr.write(text);

const instant: Latency = {
  apiMs: 0,
  attachMs: 0,
  deviceMs: 0,
  detachMs: 0,
  describeLagMs: 0,
  imdsLagMs: 0,
  instanceMs: 0,
  pendingMs: 0,
  imageMs: 0,
};
const cloud = await startCloud({ latency: { ...instant } });
const busy = watchCloud(cloud);
const measured: Measured = {
  boots: Object.fromEntries(cases.map((name) => [name, []])) as unknown as Measured['boots'],
  enter: [],
  start: { warm: [], cold: [], coldBytes: 0 },
  hash: { warm: [], cold: [] },
  coldFirst: [],
  memory: { agent: [], children: [] },
};

// Interleaved, so that a noisy moment affects every case a little, not one case alone. The first round warms up.
for (let run = 0; run <= runs; run += 1) {
  note(`\rrun ${run} of ${runs} `);
  await round(run > 0);
}
note('\r                    \r');
await cloud.stop();
process.stdout.write(`${JSON.stringify(measured)}\n`);
process.exit(0);

async function round(keep: boolean): Promise<void> {
  const add = <T>(list: T[], value: T) => {
    if (keep) list.push(value);
  };
  Object.assign(cloud.latency, instant);
  // m5.xlarge: one pod ENI holds 110 pods. t3.medium: 5 prefixes on an ENI, so 110 pods need two.
  const one = await launchNode(cloud, { type: 'm5.xlarge' });
  for (let times = 0; times < 3; times += 1)
    add(measured.enter, (await one.instance.run('sh', ['-c', TIMED, 'true'])).ms);
  add(measured.boots.first, await boot(one));
  add(measured.boots.again, await boot(one));
  await one.reboot();
  add(measured.boots.restart, await boot(one));
  await measureExecutable(one.instance, add);
  await one.instance.terminate();

  const two = await launchNode(cloud, { type: 't3.medium' });
  add(measured.boots.first2, await boot(two));
  await two.reboot();
  add(measured.boots.restart2, await boot(two));
  await two.instance.terminate();

  const sampled = await launchNode(cloud, { type: 'm5.xlarge' });
  const { agent, children } = await peakMemory(sampled.instance);
  add(measured.memory.agent, agent);
  add(measured.memory.children, children);
  await sampled.instance.terminate();

  const cold = await launchNode(cloud, { type: 'm5.xlarge' });
  dropFromCache(cold.instance);
  add(measured.coldFirst, (await boot(cold)).wall);
  await cold.instance.terminate();

  Object.assign(cloud.latency, realisticLatency);
  const slow = await launchNode(cloud, { type: 'm5.xlarge' });
  add(measured.boots.slowFirst, await boot(slow));
  await slow.reboot();
  add(measured.boots.slowRestart, await boot(slow));
  const slow2 = await launchNode(cloud, { type: 't3.medium' });
  add(measured.boots.slowFirst2, await boot(slow2));
  Object.assign(cloud.latency, instant);
  await slow.instance.terminate();
  await slow2.instance.terminate();
}

async function boot(node: Node): Promise<BootSample> {
  await cloud.settled();
  const firstCall = cloud.calls.length;
  const started = performance.now();
  const result = await node.instance.run('sh', ['-c', TIMED, ENIBOOT, 'boot', '--json'], {
    timeoutMs: 120_000,
  });
  const ended = performance.now();
  const status = JSON.parse(result.stdout) as Status;
  if (status.verdict !== 'ready') {
    throw new Error(`a measured boot failed: ${result.stderr}${JSON.stringify(status.failure)}`);
  }
  const calls = cloud.calls.slice(firstCall);
  const mutating: Record<string, number> = {};
  for (const call of calls) {
    if (call.mutating && call.accepted) mutating[call.action] = (mutating[call.action] ?? 0) + 1;
  }
  const wall = ended - started;
  const inCloud = busy(started, ended);
  const hashWait = hashWaitOf(status);
  const enter = [...measured.enter].sort((a, b) => a - b)[measured.enter.length >> 1] ?? 0;
  return {
    wall,
    cloud: inCloud,
    hashWait,
    own: wall - enter - inCloud - hashWait,
    cpu: cpuOf(result.stderr),
    bookedWait: status.cloud.waitMs,
    phases: Object.fromEntries(
      status.phases.map(({ name, ms, waitMs }) => [name, { ms, waitMs: Math.min(ms, waitMs) }]),
    ),
    imds: status.cloud.imdsRequests,
    ec2: calls.length,
    mutating,
  };
}

/** Milliseconds of all children of the shell: the second line of the output of `times`. */
function cpuOf(text: string): number {
  const line = text.trim().split('\n').at(-1) ?? '';
  return [...line.matchAll(/(\d+)m([\d.]+)s/g)].reduce(
    (sum, [, minutes, seconds]) => sum + (Number(minutes) * 60 + Number(seconds)) * 1000,
    0,
  );
}

/** CPU time of hashing, which the agent measures itself and does between its waits. */
function hashWaitOf(status: Status): number {
  const install = status.phases.find((phase) => phase.name === 'install');
  const digests = install?.checks.find((check) => check.id === 'digest')?.evidence['digests'];
  return Array.isArray(digests) ? digests.reduce((sum: number, one: { ms: number }) => sum + one.ms, 0) : 0;
}

/** Returns a function that sums the time in which the cloud worked during a span; overlaps count once. */
function watchCloud(watched: Cloud): (from: number, to: number) => number {
  const spans: { from: number; to: number }[] = [];
  const open = new Map<unknown, { from: number; to: number }>();
  subscribe('http.server.request.start', (message) => {
    const span = { from: performance.now(), to: Number.POSITIVE_INFINITY };
    spans.push(span);
    open.set((message as { request: unknown }).request, span);
  });
  subscribe('http.server.response.finish', (message) => {
    const { request } = message as { request: unknown };
    const span = open.get(request);
    if (span !== undefined) span.to = performance.now();
    open.delete(request);
  });
  watched.ec2.subscribe((event) => {
    if (event.kind !== 'attached') return;
    const span = { from: performance.now(), to: Number.POSITIVE_INFINITY };
    spans.push(span);
    void untilPlugged(watched, span);
  });
  return (from, to) => {
    let sum = 0;
    let reached = from;
    for (const span of spans
      .filter((one) => one.to > from && one.from < to)
      .sort((a, b) => a.from - b.from)) {
      const begin = Math.max(reached, span.from);
      const end = Math.min(to, span.to);
      if (end <= begin) continue;
      sum += end - begin;
      reached = end;
    }
    return sum;
  };
}

/** The model tells its listeners one after the other: the job that plugs the device exists a moment later. */
async function untilPlugged(watched: Cloud, span: { to: number }): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  await watched.settled();
  span.to = performance.now();
}

async function measureExecutable(
  instance: Instance,
  add: (list: number[], value: number) => void,
): Promise<void> {
  const version = async () => (await instance.run(ENIBOOT, ['version'])).ms;
  // In another process, as the agent does it: reads and hashes piece by piece.
  const hasher = `const h = require('node:crypto').createHash('sha256'), fs = require('node:fs'), b = Buffer.alloc(1 << 20), f = fs.openSync(process.argv[1]);
const t = performance.now(); for (let n; (n = fs.readSync(f, b)) > 0; ) h.update(b.subarray(0, n)); h.digest(); console.log(performance.now() - t);`;
  const hash = async () => Number((await instance.run(process.execPath, ['-e', hasher, ENIBOOT])).stdout);
  await version();
  for (let times = 0; times < 3; times += 1) add(measured.start.warm, await version());
  add(measured.hash.warm, await hash());
  dropFromCache(instance);
  add(measured.start.cold, await version());
  dropFromCache(instance);
  add(measured.hash.cold, await hash());
}

/** Drops only this file's pages, by posix_fadvise: other programs on the machine are not slowed down. */
function dropFromCache(instance: Instance): void {
  const file = `${instance.root}${ENIBOOT}`;
  execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0'], { stdio: 'ignore' });
  const left = execFileSync('fincore', ['--bytes', '--noheadings', '--output', 'RES', file]).toString();
  measured.start.coldBytes = Math.max(measured.start.coldBytes, Number(left.trim()));
}

/** Boots with a sampler beside it; not a timed boot, because the sampler takes time itself. */
async function peakMemory(instance: Instance): Promise<{ agent: number; children: number }> {
  const child = instance.spawn(ENIBOOT, ['boot'], { stdio: 'ignore' });
  let agent = 0;
  let children = 0;
  while (child.exitCode === null && child.signalCode === null) {
    const [pid] = childrenOf(child.pid ?? 0);
    if (pid !== undefined && nameOf(pid) === 'eniboot') {
      agent = Math.max(agent, kilobytes(pid, 'VmHWM') * 1024);
      // A child that has not started its program yet shares the agent's memory.
      const started = childrenOf(pid).filter((one) => nameOf(one) !== 'eniboot');
      const sum = started.reduce((total, one) => total + kilobytes(one, 'VmRSS'), 0);
      children = Math.max(children, sum * 1024);
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  return { agent, children };
}

function childrenOf(pid: number): number[] {
  return textOf(`/proc/${pid}/task/${pid}/children`)
    .split(' ')
    .filter((word) => word.trim() !== '')
    .map(Number);
}

function nameOf(pid: number): string {
  return textOf(`/proc/${pid}/comm`).trim();
}

function kilobytes(pid: number, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(textOf(`/proc/${pid}/status`))?.[1] ?? 0);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
