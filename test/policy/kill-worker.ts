// One node whose policy service is killed at random moments, while pods and policies come and go. Prints a JSON line for each
// kill. kill-main.ts starts it in a sandbox of its own.
//   kill-worker.ts --count=N --seed=S
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { startCloud } from '../aws/index.ts';
import { seeded } from '../boot/kill.ts';
import { configText, ENIBOOT } from '../boot/node.ts';
import { bootPodNode, type Pod, variablesOf } from '../cni/rig.ts';
import { type ApiObject, startApiServer, TOKEN } from './api-server.ts';
import { eventually } from './eventually.ts';
import { endAt, lets, type PodObject, type PolicyObject, type World } from './oracle.ts';
import { type Prober, prober } from './prober.ts';
import { labels, policy } from './random-cluster.ts';

/** docs/network-policy.md promises this. */
const RIGHT_WITHIN_MS = 2000;
/** A pair that is not right by then is wrong, not late. */
const PATIENCE_MS = 15_000;
const MOST_PODS = 6;
const LEAST_PODS = 3;
const PORTS = [80, 81];
const STREAM_PORT = 7000;
const IDENTITY = '/var/lib/eniboot-policy';
/** Policies that select no pod, so that these namespaces always have a policy and their new pods start closed. */
const ISOLATING = ['x', 'y'];

const { values } = parseArgs({ options: { count: { type: 'string' }, seed: { type: 'string' } } });
const seed = Number(values.seed);
const random = seeded(seed);
const upTo = (most: number) => Math.floor(random() * (most + 1));
const sample = <T>(of: fc.Arbitrary<T>): T => {
  const [one] = fc.sample(of, { numRuns: 1, seed: upTo(2 ** 30) });
  if (one === undefined) throw new Error('nothing was sampled');
  return one;
};
const oneOf = <T>(list: readonly T[]): T => {
  const one = list[upTo(list.length - 1)];
  if (one === undefined) throw new Error('one of nothing');
  return one;
};

interface Known extends Pod {
  key: string;
  prober: Prober;
}
interface Pair {
  from: Known;
  to: Known;
  protocol: 'TCP' | 'UDP';
  port: number;
}

const cloud = await startCloud();
const api = await startApiServer(new URL(cloud.endpoints.ec2).hostname);
const world: World = { namespaces: [], pods: [], policies: [] };
for (const name of [...ISOLATING, 's']) {
  const object = { metadata: { name, labels: { app: name === 'x' ? 'a' : 'b' } } };
  world.namespaces.push(object);
  api.put('namespaces', object);
}
const node = await bootPodNode(cloud, {
  config: configText(
    cloud,
    `apiServer: { endpoint: "${api.url}" }
pool: { target: 48, restSeconds: 3 }
policy: { nodeName: one, identity: { ca: ${IDENTITY}/ca.crt, token: ${IDENTITY}/token } }
`,
  ),
  files: { [`${IDENTITY}/ca.crt`]: api.ca, [`${IDENTITY}/token`]: TOKEN },
});

const pods: Known[] = [];
let names = 0;

async function addPod(namespace: string, own: Record<string, string>): Promise<Known> {
  names += 1;
  const name = `p${names}`;
  const pod = await node.addPod(name, { CNI_ARGS: `K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}` });
  const started = prober((file, args) => inPod(name, file, args));
  await started.call({ listen: { ports: PORTS, addresses: [pod.address] } });
  putPod({
    metadata: { namespace, name, labels: own, creationTimestamp: '2026-11-01T00:00:00Z' },
    spec: { containers: [{ ports: [{ name: 'http', containerPort: oneOf(PORTS) }] }] },
    status: { phase: 'Running', podIPs: [{ ip: pod.address }] },
  });
  return { ...pod, key: `${namespace}/${name}`, prober: started };
}

function inPod(name: string, file: string, args: string[]) {
  return node.instance.spawn('ip', ['netns', 'exec', name, file, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
}

const keyOf = ({ metadata }: { metadata: { namespace: string; name: string } }) =>
  `${metadata.namespace}/${metadata.name}`;

function putPod(object: PodObject): void {
  world.pods = [...world.pods.filter((one) => keyOf(one) !== keyOf(object)), object];
  api.put('pods', { ...object, spec: { ...object.spec, nodeName: 'one' } } as ApiObject);
}

async function deletePod(pod: Known): Promise<void> {
  pods.splice(pods.indexOf(pod), 1);
  const object = world.pods.find((one) => keyOf(one) === pod.key);
  world.pods = world.pods.filter((one) => one !== object);
  if (object !== undefined) api.remove('pods', object);
  pod.prober.end();
  await node.cni('DEL', variablesOf(pod.id, pod.netns));
  await node.sh(`ip netns del ${pod.id}`);
}

function putPolicy(object: PolicyObject): void {
  world.policies = [...world.policies.filter((one) => keyOf(one) !== keyOf(object)), object];
  api.put('networkpolicies', object as ApiObject);
}

/** One random change of the cluster. The API server is told of it; a change of a pod is also made on the node. */
async function change(late: Set<Known> | undefined): Promise<void> {
  const kinds = ['policy', 'policy', 'no policy', 'labels', 'add', 'delete'];
  // Without the service, the interesting changes are new pods.
  const kind = oneOf(late === undefined ? kinds : [...kinds, 'add', 'add', 'delete']);
  if (kind === 'add' && pods.length < MOST_PODS) {
    const pod = await addPod(oneOf(ISOLATING), sample(labels));
    pods.push(pod);
    late?.add(pod);
  } else if (kind === 'delete' && pods.length > LEAST_PODS) await deletePod(oneOf(pods));
  else if (kind === 'labels') {
    const { key } = oneOf(pods);
    const object = world.pods.find((one) => keyOf(one) === key);
    if (object !== undefined) putPod({ ...object, metadata: { ...object.metadata, labels: sample(labels) } });
  } else if (kind === 'no policy') {
    const object = world.policies.find(({ metadata }) => metadata.name.startsWith('n'));
    if (object === undefined) return;
    world.policies = world.policies.filter((one) => one !== object);
    api.remove('networkpolicies', object);
  } else {
    const metadata = { namespace: oneOf(ISOLATING), name: oneOf(['n1', 'n2', 'n3']) };
    putPolicy({ ...sample(policy), metadata });
  }
}

function allPairs(): Pair[] {
  return pods.flatMap((from) =>
    pods
      .filter((to) => to !== from)
      .flatMap((to) =>
        (['TCP', 'UDP'] as const).flatMap((protocol) =>
          PORTS.map((port): Pair => ({ from, to, protocol, port })),
        ),
      ),
  );
}

async function reached(pairs: readonly Pair[], ms: number): Promise<Map<Pair, boolean>> {
  const found = new Map<Pair, boolean>();
  await Promise.all(
    pods.map(async (from) => {
      const own = pairs.filter((pair) => pair.from === from);
      const reach = own.map(({ to, protocol, port }) => [protocol, from.address, to.address, port]);
      const answers = await from.prober.call<boolean[]>({ reach, ms });
      for (const [at, pair] of own.entries()) found.set(pair, answers[at] === true);
    }),
  );
  return found;
}

/** What the documentation says of a pair in this cluster. */
function fate(of: World, { from, to, protocol, port }: Pair): boolean {
  const [source, target] = [endAt(of, from.address), endAt(of, to.address)];
  return (
    lets(of, 'egress', source, target, protocol, port) && lets(of, 'ingress', target, source, protocol, port)
  );
}

const pairText = ({ from, to, protocol, port }: Pair) => `${from.key} to ${to.key} by ${protocol} ${port}`;

/** Pairs whose result is not allowed. Nothing changes meanwhile, so a pair without an answer is tried for longer. */
async function problemsNow(may: (pair: Pair) => ReadonlySet<boolean>): Promise<string[]> {
  const found = await reached(allPairs(), 250);
  const lost = [...found].filter(([pair, is]) => !is && !may(pair).has(false)).map(([pair]) => pair);
  for (const [pair, is] of lost.length === 0 ? [] : await reached(lost, 1500)) found.set(pair, is);
  return [...found]
    .filter(([pair, is]) => !may(pair).has(is))
    .map(([pair, is]) => `${pairText(pair)} is ${is ? 'let through' : 'denied'}`);
}

/** What the kernel has refused, mostly for a pod that is being deleted. */
const refused: string[] = [];
/** How the service has ended without a kill. */
const ended: string[] = [];

function startService() {
  const child = node.instance.spawn(ENIBOOT, ['policy', 'serve'], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    said = `${said}${chunk}`.slice(-2000);
    if (String(chunk).includes('rules were refused')) refused.push(String(chunk));
  });
  child.once('close', (code, signal) => {
    if (signal !== 'SIGKILL') ended.push(`the service has ended by itself, ${code}: ${said}`);
  });
  return child;
}

let service = startService();

async function kill(): Promise<void> {
  const closed = new Promise((resolve) => service.once('close', resolve));
  if (!service.kill('SIGKILL')) return;
  await closed;
}

/**
 * `ms`: until the end of a look that found all pairs right. A pair that is late is one problem, and is waited for: the next
 * round begins when everything is right.
 */
async function settled(startedAt: number): Promise<{ ms: number; wrong: string[] }> {
  for (;;) {
    const begun = performance.now() - startedAt;
    const found = await reached(allPairs(), 200);
    const ms = performance.now() - startedAt;
    if ([...found].every(([pair, is]) => is === fate(world, pair)))
      return { ms, wrong: begun <= RIGHT_WITHIN_MS ? [] : [`right only after ${Math.round(ms)} ms`] };
    if (begun <= PATIENCE_MS) continue;
    return { ms, wrong: await problemsNow((pair) => new Set([fate(world, pair)])) };
  }
}

// Pods that no change touches, and what they send without pause. The sets of their rules are those in which other pods come and
// go.
for (const name of ISOLATING)
  putPolicy({
    metadata: { namespace: name, name: 'always' },
    spec: { podSelector: { matchLabels: { app: 'none' } }, policyTypes: ['Ingress', 'Egress'] },
  });
const anywhere = (app: string) => [{ namespaceSelector: {}, podSelector: { matchLabels: { app } } }];
putPolicy({
  metadata: { namespace: 's', name: 'always' },
  spec: {
    podSelector: { matchLabels: { tier: 'judged' } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ from: anywhere('a') }],
    egress: [{ to: anywhere('a') }],
  },
});
const stable: Known[] = [];
for (const own of [{ app: 'a', tier: 'judged' }, { app: 'a' }, { app: 'b' }])
  stable.push(await addPod('s', own));
for (let at = 0; at < MOST_PODS - 1; at += 1) pods.push(await addPod(oneOf(ISOLATING), sample(labels)));
const streams = stable.map(({ id }) => prober((file, args) => inPod(id, file, args), 'stream.py'));
interface Counts {
  sent: Record<string, number>;
  received: Record<string, number>;
}

/** judged ↔ a: through; judged ↔ b: not. */
const judged = 0;
const ways = [
  { from: 1, to: judged, through: true },
  { from: 2, to: judged, through: false },
  { from: judged, to: 1, through: true },
  { from: judged, to: 2, through: false },
];
const addressOf = (at: number) => stable[at]?.address ?? '';

async function streamed(): Promise<{ sent: number; lost: number; denied: number; leaked: number }> {
  await Promise.all(streams.map((one) => one.call({ pause: true })));
  await delay(20);
  const counts = await Promise.all(streams.map((one) => one.call<Counts>({ counts: true })));
  const total = { sent: 0, lost: 0, denied: 0, leaked: 0 };
  for (const { from, to, through } of ways) {
    const sent = counts[from]?.sent[addressOf(to)] ?? 0;
    const received = counts[to]?.received[addressOf(from)] ?? 0;
    if (through) {
      total.sent += sent;
      total.lost += sent - received;
    } else {
      total.denied += sent;
      total.leaked += received;
    }
  }
  await Promise.all(streams.map((one) => one.call({ pause: false })));
  return total;
}

await eventually('the first rules', async () => (await settled(performance.now())).wrong.length === 0);
for (const [at, one] of streams.entries()) await one.call({ receive: [addressOf(at), STREAM_PORT] });
for (const { from, to } of ways)
  await streams[from]?.call({ send: [addressOf(from), addressOf(to), STREAM_PORT] });

let before = await streamed();
for (let kills = 0; kills < Number(values.count); kills += 1) {
  const problems: string[] = [];
  const snapshots: World[] = [{ ...world }];
  const remember = () => snapshots.push({ ...world });
  /** Pods that the killed service may not know: closed until the next service knows them. */
  const late = new Set<Known>();
  const known = new Set(pods);
  for (let left = upTo(3); left > 0; left -= 1) {
    await change(undefined);
    remember();
    await delay(upTo(60));
  }
  const afterMs = upTo(120);
  await delay(afterMs);
  await kill();
  // A quarter of the services is killed again while starting.
  const again = random() < 0.25 && kills + 1 < Number(values.count);
  for (let left = upTo(3); left > 0; left -= 1) {
    await change(late);
    remember();
  }
  const may = (pair: Pair): ReadonlySet<boolean> => {
    if (late.has(pair.from) || late.has(pair.to)) return new Set([false]);
    const fates = new Set(snapshots.map((one) => fate(one, pair)));
    if (!known.has(pair.from) || !known.has(pair.to)) fates.add(false);
    return fates;
  };
  problems.push(...(await problemsNow(may)).map((one) => `the service dead: ${one}`));
  if (again) {
    service = startService();
    await delay(upTo(500));
    await kill();
    kills += 1;
    const mayNow = (pair: Pair) => new Set([...may(pair), fate(world, pair)]);
    problems.push(...(await problemsNow(mayNow)).map((one) => `killed while it started: ${one}`));
  }
  const startedAt = performance.now();
  service = startService();
  const { ms, wrong } = await settled(startedAt);
  problems.push(...wrong);
  problems.push(...ended.splice(0));
  const now = await streamed();
  if (now.lost > before.lost) problems.push(`${now.lost - before.lost} datagrams were lost`);
  if (now.leaked > before.leaked) problems.push(`${now.leaked - before.leaked} datagrams leaked`);
  before = now;
  process.stdout.write(
    `${JSON.stringify({ kills: again ? 2 : 1, afterMs, late: late.size, changes: snapshots.length - 1, ms: Math.round(ms), problems })}\n`,
  );
}
process.stdout.write(`${JSON.stringify({ total: before, refused: refused.length })}\n`);
process.exit(0);
