// Kubernetes' own conformance tests of sig-network, on a cluster of two nodes that eniboot has booted. Scheduler,
// controllers, kube-proxy and cluster DNS are those of a usual cluster. This file has the images that the tests run,
// and reads the tests' results.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { ProxyMode } from '../pods/proxy.ts';
import type { Bench } from '../vm/bench.ts';
import { ensureContainerRoot } from '../vm/image/image.ts';
import type { LayerEntry } from '../vm/layer.ts';
import { must } from '../vm/must.ts';
import { memberOf, type Nodes, withCluster } from './cluster.ts';
import type { ControlPlane } from './control.ts';
import { ensureBuilt, modules, sourceOf, versionOf } from './fetch.ts';
import { type Result, resultsOf } from './ginkgo.ts';
import { IMAGE, makeArchive } from './image.ts';
import type { KubeNode } from './kube.ts';
import { clean, type Facts, startProxy } from './services.ts';

/** Options of a whole cluster. */
export interface ClusterOptions {
  /** Its pods run only what tests of network policies need, and look up no name. */
  lean?: true;
  /** Default: iptables. */
  mode?: ProxyMode;
  /** Sections of a node's configuration, by the node's name. */
  config?: (node: string) => Record<string, unknown>;
  /** Runs after the nodes have joined. */
  prepare?: (nodes: Nodes) => Promise<void>;
}

/** A part of Kubernetes' own tests. */
export interface UpstreamTests {
  /** What they are, in the plural, for messages. */
  what: string;
  /** Ginkgo's pattern for their names. */
  focus: string;
  /** Pattern of the names that are left out. */
  skip?: string;
  /** Number of these tests in Kubernetes 1.36. */
  count: number;
  /** Each of the tests must fail. */
  fail?: true;
  /** Called repeatedly while the tests run; returns more facts. */
  meanwhile?: (nodes: readonly Pick<KubeNode, 'sh'>[]) => Promise<Facts>;
}

const TOOLS = '/usr/share/e2e/agnhost.tar';
const DNS = '/usr/share/e2e/coredns.tar';
const COREDNS = 'localhost/coredns:1';
const CLUSTER_DNS = '172.20.0.10';

/**
 * Image names in the sources of the tests (test/utils/image/manifest.go). Here they are names of images that are made
 * here.
 */
const named = (name: string) => `registry.k8s.io/${name}`;
const AGNHOST = named('e2e-test-images/agnhost:2.63.0');
const GLIBC_DNS = named('e2e-test-images/glibc-dns-testing:2.0.0');
/** Its pods are only endpoints; no test sends them a request. */
const NGINX = named('e2e-test-images/nginx:1.15-4');
/** Its pods run the commands that Cyclonus gives them. */
const CYCLONUS_WORKER = 'docker.io/mfenwick100/cyclonus-worker:latest';
const PAUSE = named('pause:3.10.2');

/** Commands that the tests call in their pods: `dig`, `curl`, `nc`, `wget`, a shell. */
const PACKAGES = ['bind9-dnsutils', 'curl', 'iproute2', 'netcat-openbsd', 'wget'];

const agnhost = {
  Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
  Entrypoint: ['/agnhost'],
  Cmd: ['pause'],
};

/**
 * The files that these nodes have beside those of the nodes of a cluster.
 *
 * @param tests `conformance`, or `policy`, whose pods need less.
 */
export function conformanceLayer(tests: string, work: string, say: (line: string) => void): LayerEntry[] {
  // These programs run beside the nodes, where there is no network from which they could be built.
  for (const module of [modules.controllers, modules.conformance, modules.cyclonus]) ensureBuilt(module, say);
  return tests === 'policy'
    ? [{ from: makeLeanTools(work, say), to: TOOLS }]
    : [
        { from: makeTools(work, say), to: TOOLS },
        { from: makeCoredns(work, say), to: DNS },
      ];
}

/** agnhost as its own Dockerfile makes it, but on Debian instead of Alpine. */
function makeTools(work: string, say: (line: string) => void): string {
  const folder = join(work, 'agnhost');
  const root = join(folder, 'root');
  mkdirSync(root, { recursive: true });
  must(['tar', '-C', root, '--exclude=./dev/*', '-xf', ensureContainerRoot(PACKAGES, say)]);
  copyFileSync(join(ensureBuilt(modules.conformance, say), 'agnhost'), join(root, 'agnhost'));
  const porter = join(sourceOf(modules.conformance, 'k8s.io/kubernetes'), 'test/images/agnhost/porter');
  for (const name of ['localhost.crt', 'localhost.key']) copyFileSync(join(porter, name), join(root, name));
  mkdirSync(join(root, 'uploads'));
  return makeArchive(folder, ['.'], [{ names: [AGNHOST], config: agnhost }]);
}

/** The part of agnhost that tests of network policies use, and Cyclonus' worker. */
function makeLeanTools(work: string, say: (line: string) => void): string {
  const folder = join(work, 'lean');
  mkdirSync(join(folder, 'root'), { recursive: true });
  const programs = { agnhost: modules.policyTools, worker: modules.worker };
  for (const [name, module] of Object.entries(programs))
    copyFileSync(join(ensureBuilt(module, say), name), join(folder, 'root', name));
  return makeArchive(folder, Object.keys(programs), [{ names: [AGNHOST], config: agnhost }]);
}

function makeCoredns(work: string, say: (line: string) => void): string {
  const folder = join(work, 'coredns');
  mkdirSync(join(folder, 'root'), { recursive: true });
  copyFileSync(join(ensureBuilt(modules.coredns, say), 'coredns'), join(folder, 'root/coredns'));
  return makeArchive(folder, ['coredns'], [{ names: [COREDNS], config: { Entrypoint: ['/coredns'] } }]);
}

export function runConformance(bench: Bench): Promise<Facts> {
  return runUpstream(bench, {
    what: 'conformance tests of sig-network',
    focus: '\\[sig-network\\].*\\[Conformance\\]',
    count: 47,
  });
}

/** Two nodes with scheduler, controllers, kube-proxy, cluster DNS, and the images that tests run. */
export function onWholeCluster<T>(
  bench: Bench,
  { mode = 'iptables', lean, config: sections, prepare }: ClusterOptions,
  use: (nodes: Nodes) => Promise<T>,
): Promise<T> {
  const config = (node: string) => ({
    kubernetes: { clusterDns: [CLUSTER_DNS], serviceCidrs: ['172.20.0.0/16'] },
    // Two emulated machines boot at the same time here.
    boot: { deadlineSeconds: 600 },
    ...sections?.(node),
  });
  return withCluster(bench, { controllers: true, config }, async (nodes) => {
    const { control, one, two } = nodes;
    await Promise.all(
      [one, two].map(async (node) => {
        await loadImages(node, lean === true);
        await startProxy(memberOf(node), control, mode);
      }),
    );
    say('the nodes have their images');
    await prepare?.(nodes);
    if (lean !== true) {
      await startDns(nodes);
      say('cluster DNS is ready');
    }
    const found = await use(nodes);
    for (const node of [one, two]) await node.leasedAre(() => addressesOn(node, nodes));
    return found;
  });
}

export function runUpstream(bench: Bench, tests: UpstreamTests & ClusterOptions): Promise<Facts> {
  return onWholeCluster(bench, tests, async (nodes) => ({
    ...(await testUpstream(bench.work, nodes.control, tests, [nodes.one, nodes.two])),
    ...(await clean(nodes)),
  }));
}

/** @param nodes that `meanwhile` looks at. @throws with the facts, when a test did not end as it must */
export async function testUpstream(
  work: string,
  control: ControlPlane,
  tests: UpstreamTests,
  nodes: readonly Pick<KubeNode, 'sh'>[],
): Promise<Facts> {
  const over = { yet: false };
  const asking = (async () => {
    let more: Facts = {};
    for (; !over.yet; await delay(5000)) more = (await tests.meanwhile?.(nodes)) ?? {};
    return more;
  })();
  const results = await runTests(control, work, tests).finally(() => {
    over.yet = true;
  });
  const wanted = tests.fail === true ? 'failed' : 'passed';
  const wrong = results.filter(({ state }) => state !== wanted);
  const facts: Facts = {
    'Kubernetes, and its tests': versionOf(modules.conformance),
    [tests.what]: `${results.length - wrong.length} of ${results.length} ${wanted}`,
    ...Object.fromEntries(results.map(({ name, said }) => [name, said])),
    ...(await asking),
  };
  if (wrong.length === 0) return facts;
  const text = wrong.map(({ name, said, log }) => `${name}: ${said}\n${log}`).join('\n\n');
  throw Object.assign(new Error(`not ${wanted}:\n${text}`), { facts });
}

/** The addresses of those pods on the node, by the API server, that have addresses of the VPC. */
async function addressesOn({ base }: KubeNode, { control }: Nodes): Promise<string[]> {
  const path = `/api/v1/pods?fieldSelector=spec.nodeName=${base.name}`;
  const { items } = await control.call<PodList>('GET', path);
  return items.flatMap(({ spec, status }) =>
    spec.hostNetwork === true || status.podIP === undefined ? [] : [status.podIP],
  );
}

/** The fields of a list of pods that are used here. */
interface PodList {
  items: { spec: { hostNetwork?: boolean }; status: { podIP?: string } }[];
}

/** Reports progress: a run takes half an hour and more. */
export function say(line: string): void {
  process.stdout.write(`       ${line}\n`);
}

async function loadImages({ sh }: KubeNode, lean: boolean): Promise<void> {
  const stored = (name: string) => `containers-storage:${name}`;
  const archived = (archive: string, name: string) => `docker-archive:${archive}:${name}`;
  // Some of these are further names of images that are there by then.
  const others = lean
    ? [[stored(AGNHOST), CYCLONUS_WORKER]]
    : [
        [archived(DNS, COREDNS), COREDNS],
        [stored(AGNHOST), GLIBC_DNS],
        [stored(AGNHOST), NGINX],
        [stored(IMAGE), PAUSE],
      ];
  for (const [from = '', name = ''] of [[archived(TOOLS, AGNHOST), AGNHOST], ...others])
    await sh(`skopeo copy --quiet --insecure-policy ${from} ${stored(name)}`, 1_200_000);
}

/** As in Kubernetes' own manifest (cluster/addons/dns/coredns). The VPC's resolver answers for all other names. */
async function startDns({ control }: Nodes): Promise<void> {
  const [namespace, name, labels] = ['kube-system', 'coredns', { 'k8s-app': 'kube-dns' }];
  const corefile = `.:53 {
    errors
    health
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }
    forward . /etc/resolv.conf
    cache 30
    reload
    loadbalance
}
`;
  const rules = [
    { apiGroups: [''], resources: ['services', 'pods', 'namespaces'], verbs: ['list', 'watch'] },
    { apiGroups: ['discovery.k8s.io'], resources: ['endpointslices'], verbs: ['list', 'watch'] },
  ];
  const probe = (path: string, port: number) => ({ httpGet: { path, port }, timeoutSeconds: 20 });
  const container = {
    ...{ name, image: COREDNS, imagePullPolicy: 'Never', args: ['-conf', '/etc/coredns/Corefile'] },
    volumeMounts: [{ name: 'config', mountPath: '/etc/coredns', readOnly: true }],
    livenessProbe: { ...probe('/health', 8080), initialDelaySeconds: 60, failureThreshold: 5 },
    readinessProbe: probe('/ready', 8181),
    securityContext: { capabilities: { add: ['NET_BIND_SERVICE'], drop: ['ALL'] } },
  };
  const of = `/namespaces/${namespace}`;
  const roles = '/apis/rbac.authorization.k8s.io/v1';
  const role = { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name };
  const ports = [
    { name: 'dns', port: 53, protocol: 'UDP' },
    { name: 'dns-tcp', port: 53, protocol: 'TCP' },
  ];
  const objects: [path: string, object: object][] = [
    [`/api/v1${of}/serviceaccounts`, { metadata: { name } }],
    [`${roles}/clusterroles`, { metadata: { name }, rules }],
    [
      `${roles}/clusterrolebindings`,
      { metadata: { name }, roleRef: role, subjects: [{ kind: 'ServiceAccount', name, namespace }] },
    ],
    [`/api/v1${of}/configmaps`, { metadata: { name }, data: { Corefile: corefile } }],
    [
      `/apis/apps/v1${of}/deployments`,
      {
        metadata: { name, labels },
        spec: {
          selector: { matchLabels: labels },
          template: {
            metadata: { labels },
            spec: {
              ...{ serviceAccountName: name, dnsPolicy: 'Default', containers: [container] },
              volumes: [{ name: 'config', configMap: { name } }],
            },
          },
        },
      },
    ],
    [
      `/api/v1${of}/services`,
      {
        metadata: { name: 'kube-dns', labels },
        spec: { selector: labels, clusterIP: CLUSTER_DNS, ports },
      },
    ],
  ];
  for (const [path, object] of objects) await control.call('POST', path, object);
  const path = `/apis/apps/v1${of}/deployments/${name}`;
  const giveUpAt = performance.now() + 600_000;
  for (; ; await delay(1000)) {
    control.assertAlive();
    const { status } = await control.call<{ status: { readyReplicas?: number } }>('GET', path);
    if (status.readyReplicas === 1) return;
    const pods = await control.call<object>('GET', `/api/v1${of}/pods`);
    assert.ok(performance.now() < giveUpAt, `cluster DNS is not ready: ${JSON.stringify(pods, null, 1)}`);
  }
}

/** Runs the tests beside the nodes, one after another, and reports the end of each. */
async function runTests(
  control: ControlPlane,
  work: string,
  { focus, skip, count }: UpstreamTests,
): Promise<Result[]> {
  const program = join(
    ensureBuilt(modules.conformance, () => undefined),
    'e2e.test',
  );
  const files = {
    config: join(work, 'e2e.kubeconfig'),
    report: join(work, 'e2e.json'),
    log: join(work, 'e2e.log'),
  };
  writeFileSync(files.config, control.kubeconfig('admin'));
  const args = [
    ...[
      `--kubeconfig=${files.config}`,
      '--provider=skeleton',
      `--ginkgo.focus=${process.env['ENIBOOT_FOCUS'] ?? focus}`,
    ],
    ...['--ginkgo.v', '--ginkgo.no-color', '--ginkgo.timeout=6h', '--test.timeout=0'],
    ...(skip === undefined ? [] : [`--ginkgo.skip=${skip}`]),
    `--ginkgo.json-report=${files.report}`,
  ];
  const child = spawn(program, args, { cwd: work, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const log = createWriteStream(files.log);
  child.stderr.pipe(log);
  let told = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    log.write(`${line}\n`);
    // Ginkgo's line for a test that has ended.
    const state = /^• (?:\[(FAILED|PANICKED|TIMEDOUT)\] )?\[([\d.]+) seconds\]$/.exec(line);
    if (state !== null) say(`${++told} tests, the last ${state[1] ?? 'passed'} in ${state[2]} s`);
  }
  await ended;
  control.assertAlive();
  const said = () => readFileSync(files.log, 'utf8').slice(-6000);
  assert.ok(existsSync(files.report), `the tests ended without a report\n${said()}`);
  const results = resultsOf(readFileSync(files.report, 'utf8'), ({ place, name }) =>
    `${place} ${name}`.replaceAll(/ ?\[(sig-network|Conformance|NodeConformance|LinuxOnly)\] ?/g, ' ').trim(),
  );
  if (process.env['ENIBOOT_FOCUS'] === undefined)
    assert.equal(results.length, count, `tests that ran\n${said()}`);
  return results;
}
