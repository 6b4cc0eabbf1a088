// Kubernetes' own conformance tests of sig-network, on a cluster of two nodes that eniboot has booted: scheduler,
// controllers, kube-proxy and cluster DNS as a cluster has them, the images that the tests run, and what the tests said.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { copyFileSync, createWriteStream, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { Bench } from '../vm/bench.ts';
import { ensureContainerRoot } from '../vm/image/image.ts';
import type { LayerEntry } from '../vm/layer.ts';
import { must } from '../vm/must.ts';
import { memberOf, type Nodes, withCluster } from './cluster.ts';
import { ensureBuilt, modules, sourceOf, versionOf } from './fetch.ts';
import { type Result, resultsOf } from './ginkgo.ts';
import { IMAGE, makeArchive } from './image.ts';
import type { KubeNode } from './kube.ts';
import { clean, type Facts, startProxy } from './services.ts';

/** That many has Kubernetes 1.36. */
const TESTS = 47;
const FOCUS = '\\[sig-network\\].*\\[Conformance\\]';

const TOOLS = '/usr/share/e2e/agnhost.tar';
const DNS = '/usr/share/e2e/coredns.tar';
const COREDNS = 'localhost/coredns:1';
const CLUSTER_DNS = '172.20.0.10';

/** Names that the tests' sources have (test/utils/image/manifest.go); here they are names of images made here. */
const named = (name: string) => `registry.k8s.io/${name}`;
const AGNHOST = named('e2e-test-images/agnhost:2.63.0');
const GLIBC_DNS = named('e2e-test-images/glibc-dns-testing:2.0.0');
/** Pods that are endpoints and that nobody talks to. */
const NGINX = named('e2e-test-images/nginx:1.15-4');
const PAUSE = named('pause:3.10.2');

/** What the tests call in their pods: `dig`, `curl`, `nc`, `wget`, a shell. */
const PACKAGES = ['bind9-dnsutils', 'curl', 'iproute2', 'netcat-openbsd', 'wget'];

/** Beside what the nodes of a cluster have. */
export function conformanceLayer(work: string, say: (line: string) => void): LayerEntry[] {
  return [
    { from: makeTools(work, say), to: TOOLS },
    { from: makeCoredns(work, say), to: DNS },
  ];
}

/** agnhost as its own Dockerfile makes it, on Debian in Alpine's place. */
function makeTools(work: string, say: (line: string) => void): string {
  const folder = join(work, 'agnhost');
  const root = join(folder, 'root');
  mkdirSync(root, { recursive: true });
  must(['tar', '-C', root, '--exclude=./dev/*', '-xf', ensureContainerRoot(PACKAGES, say)]);
  copyFileSync(join(ensureBuilt(modules.conformance, say), 'agnhost'), join(root, 'agnhost'));
  const porter = join(sourceOf(modules.conformance, 'k8s.io/kubernetes'), 'test/images/agnhost/porter');
  for (const name of ['localhost.crt', 'localhost.key']) copyFileSync(join(porter, name), join(root, name));
  mkdirSync(join(root, 'uploads'));
  const config = {
    Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    Entrypoint: ['/agnhost'],
    Cmd: ['pause'],
  };
  return makeArchive(folder, ['.'], [{ names: [AGNHOST], config }]);
}

function makeCoredns(work: string, say: (line: string) => void): string {
  const folder = join(work, 'coredns');
  mkdirSync(join(folder, 'root'), { recursive: true });
  copyFileSync(join(ensureBuilt(modules.coredns, say), 'coredns'), join(folder, 'root/coredns'));
  return makeArchive(folder, ['coredns'], [{ names: [COREDNS], config: { Entrypoint: ['/coredns'] } }]);
}

export function runConformance(bench: Bench): Promise<Facts> {
  const config = { kubernetes: { clusterDns: [CLUSTER_DNS] } };
  return withCluster(bench, { controllers: true, config }, async (nodes) => {
    const { cloud, control, one, two } = nodes;
    await Promise.all(
      [one, two].map(async (node) => {
        await loadImages(node);
        await startProxy(memberOf(node), control, 'iptables');
      }),
    );
    say('the nodes have their images');
    await startDns(nodes);
    say('cluster DNS is ready');
    const results = await runTests(nodes, bench.work);
    for (const node of [one, two]) await node.leasedAre(() => addressesOn(node, nodes));
    const wrong = results.filter(({ state }) => state !== 'passed');
    assert.deepEqual(
      wrong.map(({ name }) => name),
      [],
      wrong.map(({ name, said, log }) => `${name}: ${said}\n${log}`).join('\n\n'),
    );
    return {
      'Kubernetes, and its tests': versionOf(modules.conformance),
      'conformance tests of sig-network': `${results.length} of ${results.length} passed`,
      ...Object.fromEntries(results.map(({ name, said }) => [name, said])),
      ...(await clean({ cloud })),
    };
  });
}

/** Of the pods that the API server has on the node, those with addresses of the VPC. */
async function addressesOn({ base }: KubeNode, { control }: Nodes): Promise<string[]> {
  const path = `/api/v1/pods?fieldSelector=spec.nodeName=${base.name}`;
  const { items } = await control.call<PodList>('GET', path);
  return items.flatMap(({ spec, status }) =>
    spec.hostNetwork === true || status.podIP === undefined ? [] : [status.podIP],
  );
}

/** The part of a list of pods that is looked at. */
interface PodList {
  items: { spec: { hostNetwork?: boolean }; status: { podIP?: string } }[];
}

/** Of half an hour and more. */
function say(line: string): void {
  process.stdout.write(`       ${line}\n`);
}

async function loadImages({ sh }: KubeNode): Promise<void> {
  const stored = (name: string) => `containers-storage:${name}`;
  const copies = [
    [`docker-archive:${TOOLS}:${AGNHOST}`, AGNHOST],
    [`docker-archive:${DNS}:${COREDNS}`, COREDNS],
    // Further names of what is there by now.
    [stored(AGNHOST), GLIBC_DNS],
    [stored(AGNHOST), NGINX],
    [stored(IMAGE), PAUSE],
  ];
  for (const [from = '', name = ''] of copies)
    await sh(`skopeo copy --quiet --insecure-policy ${from} ${stored(name)}`, 1_200_000);
}

/** As Kubernetes' own manifest has it (cluster/addons/dns/coredns); other names are the VPC's resolver's. */
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

/** Runs the tests beside the nodes, one after another, and says of each when it has ended. */
async function runTests({ control }: Nodes, work: string): Promise<Result[]> {
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
    ...[`--kubeconfig=${files.config}`, '--provider=skeleton', `--ginkgo.focus=${FOCUS}`],
    ...['--ginkgo.v', '--ginkgo.no-color', '--ginkgo.timeout=6h', '--test.timeout=0'],
    `--ginkgo.json-report=${files.report}`,
  ];
  const child = spawn(program, args, { cwd: work, stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = new Promise((resolve) => child.once('close', resolve));
  const log = createWriteStream(files.log);
  child.stderr.pipe(log);
  let told = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    log.write(`${line}\n`);
    // Ginkgo's line of a test that has ended.
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
  assert.equal(results.length, TESTS, `tests that ran\n${said()}`);
  return results;
}
