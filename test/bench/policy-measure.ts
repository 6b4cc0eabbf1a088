// The measuring half of `npm run bench:policy`, inside the sandbox: a node with its pods, a stand-in for the API server with a
// whole cluster, and the service as it is installed. In: `--plan JSON`. Out: what was measured as JSON.
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startCloud } from '../aws/index.ts';
import { configText, ENIBOOT } from '../boot/node.ts';
import { bootPodNode, type Pod, type PodNode } from '../cni/rig.ts';
import { type ApiObject, type ApiStandIn, startApiServer, TOKEN } from '../policy/api-server.ts';
import { eventually } from '../policy/eventually.ts';

export interface Plan {
  /** Of the cluster, the node's among them. */
  pods: number;
  policies: number;
  /** Of the node, which are in namespaces of ten. */
  local: number;
  changesPerSecond: number;
  /** Seconds of each rate of touched pods. */
  seconds: number;
  /** Pods of the node that each change touches. */
  touched: number[];
  rounds: number;
  packets: number;
  blocks: number;
}

export interface Churn {
  touched: number;
  changes: number;
  /** Milliseconds from the API server's word to the last of the node's watched pods. */
  ms: number[];
  /** Of one core. */
  cpu: number;
  bytesPerChange: number;
}

export interface Measured {
  /** Milliseconds from the start of the service until the rules of all pods stand. */
  startMs: number;
  startCpuMs: number;
  startBytes: number;
  watches: number;
  memoryBytes: number;
  churn: Churn[];
  /** Nanoseconds of processor time of a packet from pod to pod. */
  packet: Record<'without' | 'members' | 'blocks', number[]>;
  /** From the API server's word of a policy of so many blocks until it stands. */
  blocksMs: number;
}

const IDENTITY = '/var/lib/eniboot-policy';
const IN_NAMESPACE = 10;
const PORT = 7000;
/** Two beside the node's, for packets between them. */
const PACKET_PODS = 2;
/** Pods that come while one lives. */
const LIVES = 10;
/** As a pod of a Deployment has it, with its managedFields. */
const POD_BYTES = 4000;
/** Clock ticks of /proc/PID/stat: getconf CLK_TCK, 100 on all of Linux's ports that matter here. */
const TICKS = 100;

async function measure(plan: Plan): Promise<Measured> {
  const cloud = await startCloud();
  const api = await startApiServer(new URL(cloud.endpoints.ec2).hostname);
  const node = await bootPodNode(cloud, {
    type: 'm5.4xlarge',
    config: configText(
      cloud,
      `apiServer: { endpoint: "${api.url}" }
pool: { target: ${plan.local + PACKET_PODS} }
policy: { nodeName: one, identity: { ca: ${IDENTITY}/ca.crt, token: ${IDENTITY}/token } }
`,
      { max: `${plan.local + PACKET_PODS}` },
    ),
    files: { [`${IDENTITY}/ca.crt`]: api.ca, [`${IDENTITY}/token`]: TOKEN },
  });
  const local: Pod[] = [];
  for (let at = 0; at < plan.local; at += 1) local.push(await addPod(node, api, at));
  fill(api, plan);
  const before = api.sentBytes();
  const startedAt = performance.now();
  const service = serve(node);
  await eventually('the rules of all pods', async () => (await isolated(node, local.at(-1))) === true);
  const startMs = performance.now() - startedAt;
  const pid = await pidOf(node);
  const startCpuMs = cpuMsOf(await stat(node, pid));
  const startBytes = api.sentBytes() - before;
  const churn: Churn[] = [];
  for (const touched of plan.touched) churn.push(await churned(node, api, plan, local, touched, pid));
  const status = await node.sh(`cat /proc/${pid}/status`);
  const memoryBytes = 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1]);
  const packet = await packets(node, api, plan);
  service.kill();
  return {
    ...{ startMs, startCpuMs, startBytes, watches: api.watches(), memoryBytes, churn },
    ...packet,
  };
}

const namespaceOf = (at: number) => `here-${Math.floor(at / IN_NAMESPACE)}`;

async function addPod(node: PodNode, api: ApiStandIn, at: number): Promise<Pod> {
  const [name, namespace] = [`p${at}`, namespaceOf(at)];
  const pod = await node.addPod(name, { CNI_ARGS: `K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}` });
  putPod(api, { namespace, name, app: `app-${at % IN_NAMESPACE}`, ip: pod.address, nodeName: 'one' });
  return pod;
}

function putPod(
  api: ApiStandIn,
  of: { namespace: string; name: string; app: string; ip: string; nodeName: string },
): void {
  api.put('pods', {
    metadata: {
      ...{ namespace: of.namespace, name: of.name, labels: { app: of.app } },
      ...{ creationTimestamp: '2026-11-01T00:00:00Z', annotations: { filler: 'x'.repeat(POD_BYTES) } },
    },
    spec: { nodeName: of.nodeName, containers: [{ ports: [{ name: 'http', containerPort: 80 }] }] },
    status: { phase: 'Running', podIPs: [{ ip: of.ip }] },
  } as unknown as ApiObject);
}

/** `touch-N`: its pods are let in by policies of the first N pods of the node. */
const touching = (touched: number) => `touch-${touched}`;

function fill(api: ApiStandIn, plan: Plan): void {
  const namespaces = Math.ceil(plan.local / IN_NAMESPACE);
  for (let at = 0; at < namespaces; at += 1) putNamespace(api, `here-${at}`);
  for (const one of plan.touched) putNamespace(api, touching(one));
  const others = 40;
  for (let at = 0; at < others; at += 1) putNamespace(api, `there-${at}`);
  for (let at = 0; at < plan.pods - plan.local; at += 1)
    putPod(api, {
      ...{ namespace: `there-${at % others}`, name: `q${at}`, app: `app-${at % IN_NAMESPACE}` },
      ...{ ip: addressOf(at), nodeName: `node-${at % 100}` },
    });
  for (let at = 0; at < plan.policies; at += 1) {
    const isLocal = at < plan.local;
    const touchedBy = plan.touched.filter((touched) => isLocal && at < touched);
    const from = [
      { podSelector: {} },
      ...touchedBy.map((touched) => ({ namespaceSelector: { matchLabels: { name: touching(touched) } } })),
      // Watched everywhere: the most that a node can be asked.
      ...(at === 0 ? [{ namespaceSelector: {}, podSelector: { matchLabels: { app: 'monitor' } } }] : []),
    ];
    putPolicy(api, isLocal ? namespaceOf(at) : `there-${at % others}`, `n${at}`, {
      podSelector: { matchLabels: { app: `app-${at % IN_NAMESPACE}` } },
      policyTypes: ['Ingress'],
      ingress: [{ from, ports: [{ port: 80 }, { port: 'http' }] }],
    });
  }
}

function putNamespace(api: ApiStandIn, name: string): void {
  api.put('namespaces', { metadata: { name, labels: { name } } } as unknown as ApiObject);
}

function putPolicy(api: ApiStandIn, namespace: string, name: string, spec: object): void {
  api.put('networkpolicies', { metadata: { namespace, name }, spec } as unknown as ApiObject);
}

const addressOf = (at: number) => `10.${128 + (at >> 16)}.${(at >> 8) & 255}.${at & 255}`;

function serve(node: PodNode): ChildProcess {
  return node.instance.spawn(ENIBOOT, ['policy', 'serve'], { stdio: ['ignore', 'ignore', 'inherit'] });
}

async function pidOf(node: PodNode): Promise<number> {
  return Number((await node.sh("pgrep -f '^[^ ]*eniboot policy serve$' | head -1")).trim());
}

/** Isolated by rules, which are more than what ADD has closed it by. */
async function isolated(node: PodNode, pod: Pod | undefined): Promise<boolean> {
  const { stdout } = await node.inPod(pod?.id ?? '', 'nft', ['list', 'tables']);
  if (!stdout.includes('eniboot_policy')) return false;
  const { exitCode, stdout: chain } = await node.inPod(
    ...[pod?.id ?? '', 'nft', ['list', 'chain', 'inet', 'eniboot_policy', 'ingress']],
  );
  return exitCode === 0 && chain.includes('@m4/');
}

const stat = (node: PodNode, pid: number) => node.sh(`cat /proc/${pid}/stat`);

function cpuMsOf(text: string): number {
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS;
}

/** What the kernel tells of a pod's elements, from now on: by address, when it came. */
function monitor(node: PodNode, pod: Pod): { seen: Map<string, number>; end(): void } {
  const seen = new Map<string, number>();
  const child = node.instance.spawn(
    ...['ip', ['netns', 'exec', pod.id, 'stdbuf', '-oL', 'nft', 'monitor', 'elements']],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  if (child.stdout === null) throw new Error('nft monitor has no pipe');
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [, verb, address] = /^(add|delete) element .*\{ ([\d.]+) \}/.exec(line) ?? [];
    if (verb !== undefined && !seen.has(`${verb} ${address}`))
      seen.set(`${verb} ${address}`, performance.now());
  });
  return { seen, end: () => child.kill() };
}

/** Pods that come and go in a namespace whose pods touch so many of the node's. */
async function churned(
  node: PodNode,
  api: ApiStandIn,
  plan: Plan,
  local: readonly Pod[],
  touched: number,
  pid: number,
): Promise<Churn> {
  const watched = [...new Set([0, touched >> 1, touched - 1])].filter((at) => at >= 0 && at < touched);
  const monitors = watched.flatMap((at) => {
    const pod = local[at];
    return pod === undefined ? [] : [monitor(node, pod)];
  });
  await delay(500);
  const told = new Map<string, number>();
  const [cpu, bytes, startedAt] = [cpuMsOf(await stat(node, pid)), api.sentBytes(), performance.now()];
  const changes = plan.seconds * plan.changesPerSecond;
  for (let at = 0; at < changes; at += 1) {
    // One comes, and one goes that came a second before. Each address once: what the monitors say is about one change.
    const pod = at % 2 === 0 ? at / 2 : (at - 1) / 2 - LIVES;
    const ip = `10.${100 + touched}.${pod >> 8}.${pod & 255}`;
    const of = { namespace: touching(touched), name: `c${pod}`, app: 'c', ip, nodeName: 'node-1' };
    if (pod >= 0) told.set(`${at % 2 === 0 ? 'add' : 'delete'} ${ip}`, performance.now());
    if (at % 2 === 0) putPod(api, of);
    else if (pod >= 0) api.remove('pods', { metadata: { namespace: of.namespace, name: of.name } });
    await delay(Math.max(0, startedAt + ((at + 1) * 1000) / plan.changesPerSecond - performance.now()));
  }
  await delay(500);
  const seconds = (performance.now() - startedAt) / 1000;
  const used = (cpuMsOf(await stat(node, pid)) - cpu) / 1000 / seconds;
  for (const one of monitors) one.end();
  const ms = [...told].flatMap(([change, at]) => {
    const seen = monitors.map((one) => one.seen.get(change));
    const missing = seen.some((one) => one === undefined);
    return seen.length === 0 || missing ? [] : [Math.max(...seen.map((one) => one ?? 0)) - at];
  });
  const sent = (api.sentBytes() - bytes) / told.size;
  return { touched, changes: told.size, ms, cpu: used, bytesPerChange: sent };
}

/** A packet from one pod to another on the same ENI, interleaved: without a policy, and with sets and ranges at both ends. */
async function packets(
  node: PodNode,
  api: ApiStandIn,
  plan: Plan,
): Promise<Pick<Measured, 'packet' | 'blocksMs'>> {
  const namespace = 'packets';
  putNamespace(api, namespace);
  const [from, to] = [await packetPod(node, api, plan.local), await packetPod(node, api, plan.local + 1)];
  await listen(node, to);
  const anyPod = [{ namespaceSelector: {} }];
  const blocks = Array.from({ length: plan.blocks - 1 }, (_, at) => ({
    ipBlock: { cidr: `172.${16 + (at >> 14)}.${(at >> 6) & 255}.${(at & 63) * 4}/32` },
  })).concat([{ ipBlock: { cidr: '10.0.0.0/8' } }]);
  const forms = { without: undefined, members: anyPod, blocks };
  const packet: Measured['packet'] = { without: [], members: [], blocks: [] };
  const standing = { without: '', members: 'm4/', blocks: 'b4/' };
  let blocksMs = 0;
  for (let round = 0; round < plan.rounds; round += 1)
    for (const form of ['without', 'members', 'blocks'] as const) {
      const peers = forms[form];
      const saidAt = performance.now();
      for (const [name, type, rules] of [
        ['in', 'Ingress', { ingress: [{ from: peers }] }],
        ['out', 'Egress', { egress: [{ to: peers }] }],
      ] as const)
        if (peers === undefined) api.remove('networkpolicies', { metadata: { namespace, name } });
        else putPolicy(api, namespace, name, { podSelector: {}, policyTypes: [type], ...rules });
      await eventually(form, async () => {
        const both = await Promise.all(
          [from, to].map((pod) => node.inPod(pod.id, 'nft', ['list', 'ruleset'])),
        );
        return both.every(({ stdout }) =>
          standing[form] === ''
            ? !stdout.includes('eniboot_policy')
            : ['in', 'out'].every((name) => stdout.includes(`@${standing[form]}${namespace}/${name}/`)),
        );
      });
      if (form === 'blocks') blocksMs = performance.now() - saidAt;
      const script = fileURLToPath(new URL('policy-send.py', import.meta.url));
      const { stdout } = await node.inPod(from.id, 'python3', [
        script,
        to.address,
        `${PORT}`,
        `${plan.packets}`,
      ]);
      packet[form].push(Number(stdout));
    }
  return { packet, blocksMs };
}

async function packetPod(node: PodNode, api: ApiStandIn, at: number): Promise<Pod> {
  const name = `p${at}`;
  const pod = await node.addPod(name, { CNI_ARGS: `K8S_POD_NAMESPACE=packets;K8S_POD_NAME=${name}` });
  putPod(api, { namespace: 'packets', name, app: 'packets', ip: pod.address, nodeName: 'one' });
  return pod;
}

/** A socket that no program reads: what does not fit into its buffer has been let through all the same. */
async function listen(node: PodNode, pod: Pod): Promise<void> {
  const program = `import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("${pod.address}", ${PORT})); print("up", flush=True); time.sleep(9999)`;
  const child = node.instance.spawn('ip', ['netns', 'exec', pod.id, 'python3', '-c', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise<void>((resolve) => child.stdout?.once('data', () => resolve()));
}

if (process.argv[1] === import.meta.filename) {
  const { values } = parseArgs({ options: { plan: { type: 'string', default: '{}' } } });
  process.stdout.write(JSON.stringify(await measure(JSON.parse(values.plan) as Plan)));
  process.exit(0);
}
