// The measuring half of `npm run bench:node`, inside the sandbox: boots a VM node with kubelet and cri-o, gives it pods and prints
// one JSON object of raw samples. Moments are seconds on the guest's boot clock.
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Status } from '../../agent/boot/verdict/status.ts';
import { realisticLatency, startCloud } from '../aws/index.ts';
import { bootKubeNode, type KubeNode, MANIFESTS, manifest } from '../node/kube.ts';
import type { Bench } from '../vm/bench.ts';
import { type PodRecord, readRuntimeLog } from './node-log.ts';

export interface Plan {
  bench: Bench;
  /** Name of the pod whose file is on the node's disk at power-on. */
  firstPod: string;
  /** Numbers of pods that kubelet gets at once, one burst after the other. */
  bursts: number[];
  /** Seconds after which a burst is recorded, also when not all of its pods run. */
  patienceSeconds: number;
}

/** A folder on the file system of kubelet's folder, which kubelet does not read. */
const ASIDE = '/etc/kubernetes/aside';

export interface Unit {
  process: number;
  active: number;
}

export interface BootMoments {
  /** The kernel's clock when QEMU started the processor: negative. */
  powerOn: number;
  userspace: number;
  networkOnline: number;
  eniboot: Unit;
  crio: Unit;
  kubelet: Unit;
  /** kubelet reads the first pod's file. */
  seen: number;
  pod: PodRecord;
  /** kubelet reports the pod ready, in whole seconds. */
  podReady: number;
  phases: Status['phases'];
  cloud: Status['cloud'];
}

/** A plugin call as eniboot logged it, milliseconds. */
export interface OwnCall {
  code: string;
  phases: Record<string, number>;
}

export interface Burst {
  pods: number;
  /** All files are in kubelet's folder. */
  from: number;
  /** Pods that kubelet reported running at the end. */
  running: number;
  /** kubelet reported the last pod running; read every few seconds. */
  until: number;
  records: PodRecord[];
  failures: string[];
  own: OwnCall[];
  /** Seconds from the removal of all files until all addresses of the pods are free. */
  removed?: number;
  /** Addresses that were left when that took too long. */
  left: string[];
}

export interface Samples {
  boot: BootMoments;
  bursts: Burst[];
}

const [planFile = ''] = process.argv.slice(2);
const plan = JSON.parse(readFileSync(planFile, 'utf8')) as Plan;
const note = (text: string) => process.stderr.write(`${text}\n`);
const cloud = await startCloud({ latency: { ...realisticLatency } });
const node = await bootKubeNode(plan.bench, 'crio', cloud, 'one', { memoryMiB: 4096 });
const samples: Samples = { boot: await bootMoments(node), bursts: [] };
// The first pod must go: eniboot sets kubelet's limit to 110 pods.
await emptied(node, plan.firstPod);
for (const [at, pods] of plan.bursts.entries()) samples.bursts.push(await burst(node, `b${at}`, pods));
await node.base.node.end();
await cloud.stop();
process.stdout.write(`${JSON.stringify(samples)}\n`);
process.exit(0);

async function bootMoments({ base, sh, running, startOf }: KubeNode): Promise<BootMoments> {
  note(`READY ${(base.node.machine.elapsedMs() / 1000).toFixed(0)} s after power-on`);
  // Both clocks run at the same speed, also under emulation; the error is a round trip.
  const asked = base.node.machine.elapsedMs();
  const now = Number(await sh('cut -d" " -f1 /proc/uptime'));
  const elapsed = (asked + base.node.machine.elapsedMs()) / 2000;
  await running([plan.firstPod]);
  note(`the first pod is ready ${(base.node.machine.elapsedMs() / 1000).toFixed(0)} s after power-on`);
  const toBootClock = await clock(node);
  const { items } = JSON.parse(await node.page('/pods')) as PodList;
  const pod = items[0];
  const ready = pod?.status.conditions.find(({ type }) => type === 'Ready')?.lastTransitionTime ?? '';
  const userspace = await sh('systemctl show --property UserspaceTimestampMonotonic --value');
  const status = JSON.parse(await sh('cat /run/eniboot/status.json')) as Status;
  return {
    powerOn: now - elapsed,
    userspace: Number(userspace) / 1e6,
    networkOnline: (await startOf('network-online.target')).active,
    eniboot: await startOf('eniboot'),
    crio: await startOf('crio'),
    kubelet: await startOf('kubelet'),
    seen: toBootClock(Date.parse(pod?.metadata.annotations['kubernetes.io/config.seen'] ?? '')),
    pod: (await recordsOf(node, toBootClock, plan.firstPod)).records[0] ?? {},
    podReady: toBootClock(Date.parse(ready)),
    phases: status.phases,
    cloud: status.cloud,
  };
}

interface PodList {
  items: {
    metadata: { annotations: Record<string, string> };
    status: { conditions: { type: string; lastTransitionTime: string }[] };
  }[];
}

async function burst(kube: KubeNode, prefix: string, pods: number): Promise<Burst> {
  const names = Array.from({ length: pods }, (_, at) => `${prefix}-${at}`);
  const before = {
    own: (await ownCalls(kube)).length,
    failures: (await recordsOf(kube, (wall) => wall, prefix)).failures.length,
  };
  const from = await placeAll(kube, names);
  const giveUpAt = performance.now() + plan.patienceSeconds * 1000;
  let running = 0;
  while (running < pods && performance.now() < giveUpAt) {
    await delay(3000);
    running = (await kube.pods()).filter(({ name, ready }) => ready && name.startsWith(`${prefix}-`)).length;
    note(`${running} of ${pods} pods are running`);
  }
  const until = Number(await kube.sh('cut -d" " -f1 /proc/uptime'));
  const { records, failures } = await recordsOf(kube, await clock(kube), `${prefix}-`);
  const own = (await ownCalls(kube)).slice(before.own);
  return {
    pods,
    from,
    running,
    until,
    records,
    failures: failures.slice(before.failures),
    own,
    ...(await emptied(kube, `${prefix}-`)),
  };
}

/** Makes all files appear to kubelet in one moment, which is returned. */
async function placeAll({ sh }: KubeNode, names: string[]): Promise<number> {
  const template = manifest('@NAME@', { command: ['/pod', 'pause'], readinessProbe: undefined });
  const moment = await sh(`mkdir -p ${ASIDE}; cat >${ASIDE}/template <<'EOF'\n${template}\nEOF
    for name in ${names.join(' ')}; do sed "s/@NAME@/$name/" ${ASIDE}/template >${ASIDE}/$name.json; done
    cut -d' ' -f1 /proc/uptime; mv ${ASIDE}/*.json ${MANIFESTS}`);
  return Number(moment);
}

/** @param prefix the beginning of the pods' names. */
async function emptied(kube: KubeNode, prefix: string): Promise<{ removed?: number; left: string[] }> {
  const begun = performance.now();
  await kube.sh(`rm ${MANIFESTS}/${prefix}*.json`);
  let left = await kube.leases();
  while (left.length > 0 && performance.now() - begun < plan.patienceSeconds * 1000) {
    await delay(3000);
    left = await kube.leases();
    note(`${left.length} addresses are still leased`);
  }
  if (left.length === 0) return { removed: (performance.now() - begun) / 1000, left: [] };
  return { left: left.map(({ address }) => address) };
}

/** Returns a function from the guest's wall clock (milliseconds) to its boot clock (seconds). */
async function clock({ sh }: KubeNode): Promise<(wall: number) => number> {
  const [wall = 0, boot = 0] = (await sh('date +%s.%N; cut -d" " -f1 /proc/uptime')).split('\n').map(Number);
  return (moment) => boot + moment / 1000 - wall;
}

async function recordsOf(
  { sh }: KubeNode,
  toBootClock: (wall: number) => number,
  prefix: string,
): Promise<{ records: PodRecord[]; failures: string[] }> {
  const { pods, failures } = readRuntimeLog(await sh('journalctl -b --no-pager -o cat -u crio'));
  const records = Object.entries(pods).filter(([name]) => name.startsWith(prefix));
  return {
    records: records.map(([, record]) =>
      Object.fromEntries(Object.entries(record).map(([what, wall]) => [what, toBootClock(wall)])),
    ),
    failures,
  };
}

/** ADDs in the order in which they ended. The timers that summarise the lines are off. */
async function ownCalls({ sh }: KubeNode): Promise<OwnCall[]> {
  const lines = (await sh('cat /run/eniboot/tally')).matchAll(/^cni eniboot ADD (\S+) (.*)$/gm);
  return [...lines].map(([, code = '', text = '']) => ({
    code,
    phases: Object.fromEntries(
      text.split(' ').map((part) => {
        const [phase = '', ms = ''] = part.split('=');
        return [phase, Number(ms)];
      }),
    ),
  }));
}
