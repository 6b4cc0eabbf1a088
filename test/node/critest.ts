// critest, the validation tests of the container runtime interface (CRI) by its authors, on a node that eniboot has
// booted: its cases about a pod's network, the images that they run, and their results.
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startCloud } from '../aws/index.ts';
import type { Bench } from '../vm/bench.ts';
import { ensureImage } from '../vm/image/image.ts';
import type { LayerEntry } from '../vm/layer.ts';
import { must } from '../vm/must.ts';
import { ensureBuilt, modules, versionOf } from './fetch.ts';
import { type Result, resultsOf } from './ginkgo.ts';
import { makeArchive } from './image.ts';
import { bootKubeNode, type KubeNode } from './kube.ts';
import type { Runtime } from './layer.ts';

/** Parts of the names of the chosen cases. */
const FOCUS = [
  'Networking',
  'PodSandbox runtime should support basic operations',
  'PodSandbox runtime should support sysctls',
  'Idempotence',
  'Multiple Containers.*should support network',
  'HostNetwork is',
  'portforward',
];

const HOST_PORT = 'runtime should support port mapping with host port and container port [Conformance]';

/**
 * The case connects to 127.0.0.1, for which an unchanged node maps no host ports. After this preparation for each
 * runtime the case is run again. cri-o maps host ports itself, but leaves packets from 127.0.0.1 to the machine: these
 * are the two lines of cri-tools' own CI (.github/workflows/crio.yml). containerd leaves host ports to a plugin after
 * the first one.
 */
const HOST_PORTS: Record<Runtime, { what: string; prepare: (node: KubeNode) => Promise<unknown> }> = {
  crio: {
    what: 'with what cri-tools’ own CI sets',
    prepare: ({ sh }) =>
      sh(`sysctl -qw net.ipv4.conf.all.route_localnet=1
        iptables -t nat -I POSTROUTING -s 127.0.0.0/8 ! -d 127.0.0.0/8 -j MASQUERADE`),
  },
  containerd: { what: 'with portmap behind eniboot', prepare: chainPortmap },
};

const ARCHIVE = '/usr/share/e2e/critest.tar';
const IMAGES = '/usr/share/e2e/critest-images.yaml';
/** Folder of the reference plugins in the guest. */
const PLUGINS = '/opt/e2e/cni';

const BOX = 'localhost/critest-box:1';
const WEB = 'localhost/critest-web:1';
/** Names in critest's sources that no option changes. Here they are names of the images above. */
const WEB_TOO = 'registry.k8s.io/e2e-test-images/httpd:2.4.39-4';
const HOST_WEB = 'gcr.io/k8s-staging-cri-tools/hostnet-nginx-amd64:latest';

/**
 * The files that these nodes have beside those of every node of these tests.
 *
 * @param plugins folder of the reference plugins.
 */
export function critestLayer(work: string, plugins: string, say: (line: string) => void): LayerEntry[] {
  const program = join(ensureBuilt(modules.critest, say), 'critest');
  const names = join(work, 'critest-images.yaml');
  writeFileSync(names, `defaultTestContainerImage: ${BOX}\nwebServerTestImage: ${WEB}\n`);
  return [
    { from: program, to: '/usr/bin/critest' },
    { from: plugins, to: PLUGINS },
    { from: names, to: IMAGES },
    { from: makeImages(work, say), to: ARCHIVE },
  ];
}

/** The commands that critest calls in its containers. All are busybox, which also serves the page that critest asks for. */
const APPLETS = ['sh', 'cat', 'echo', 'hostname', 'httpd', 'netstat', 'sleep', 'top'];

function makeImages(work: string, say: (line: string) => void): string {
  const folder = join(work, 'critest');
  const root = join(folder, 'root');
  for (const name of ['bin', 'www']) mkdirSync(join(root, name), { recursive: true });
  // The static busybox of the nodes' own image.
  must([
    'debugfs',
    '-R',
    `dump -p /usr/bin/busybox ${join(root, 'bin/busybox')}`,
    ensureImage('trixie', say).root,
  ]);
  for (const name of APPLETS) symlinkSync('busybox', join(root, 'bin', name));
  writeFileSync(join(root, 'www/index.html'), 'served\n');
  const env = { Env: ['PATH=/bin'] };
  const serve = (port: number) => ({ ...env, Entrypoint: ['httpd', '-f', '-p', `${port}`, '-h', '/www'] });
  return makeArchive(
    folder,
    ['bin', 'www'],
    [
      { names: [BOX], config: { ...env, Cmd: ['sh'] } },
      { names: [WEB, WEB_TOO], config: serve(80) },
      { names: [HOST_WEB], config: serve(12003) },
    ],
  );
}

export async function runCritest(bench: Bench, runtime: Runtime): Promise<Record<string, string>> {
  const cloud = await startCloud();
  const node = await bootKubeNode(bench, runtime, cloud, 'one');
  try {
    await node.networkIs(true);
    // A kubelet that runs would remove pods that it has not asked for. READY comes before kubelet has started, and a
    // stop before its start would stop nothing, so this waits for the start.
    await node.startsAgain('kubelet', 0);
    await node.sh('systemctl stop kubelet');
    await loadImages(node);
    const results = await critest(node, FOCUS);
    const facts: Record<string, string> = { critest: versionOf(modules.critest) };
    for (const { name, said } of results) facts[name] = said;
    const failing = results.filter(({ state }) => state !== 'passed').map(({ name }) => name);
    assert.deepEqual(failing, [HOST_PORT], JSON.stringify(facts, null, 1));
    const { what, prepare } = HOST_PORTS[runtime];
    await prepare(node);
    const [again] = await critest(node, ['host port and container port']);
    assert.equal(again?.state, 'passed', again?.said);
    facts[`${HOST_PORT}, ${what}`] = again.said;
    await node.emptied();
    await cloud.settled();
    assert.deepEqual(
      await cloud.network.spoofed(),
      [],
      'no packet left with an address its ENI does not have',
    );
    return facts;
  } finally {
    await node.base.node.end();
    await cloud.stop();
  }
}

async function loadImages({ sh, runtime }: KubeNode): Promise<void> {
  if (runtime === 'containerd') {
    await sh(`ctr --namespace k8s.io images import --local ${ARCHIVE}`);
    return;
  }
  for (const name of [BOX, WEB, WEB_TOO, HOST_WEB])
    await sh(
      `skopeo copy --quiet --insecure-policy docker-archive:${ARCHIVE}:${name} containers-storage:${name}`,
    );
}

/** A list of the operator's own whose name sorts before that of the boot's list: containerd takes the first by name. */
async function chainPortmap({ sh, networkIs }: KubeNode): Promise<void> {
  const list = JSON.parse(await sh('cat /etc/cni/net.d/10-eniboot.conflist'));
  list.plugins.push({ type: 'portmap', capabilities: { portMappings: true } });
  await sh(`ln -s ${PLUGINS}/portmap /opt/cni/bin/portmap
    cat >/etc/cni/net.d/05-chained.conflist <<'EOF'\n${JSON.stringify(list)}\nEOF`);
  await networkIs(true);
}

/** A case that critest itself skips is a result, with its reason. */
async function critest(node: KubeNode, focus: string[]): Promise<Result[]> {
  const socket = { crio: '/run/crio/crio.sock', containerd: '/run/containerd/containerd.sock' }[node.runtime];
  const args = [
    `--runtime-endpoint unix://${socket} --test-images-file ${IMAGES}`,
    ...focus.map((part) => `--ginkgo.focus '${part}'`),
    '--ginkgo.no-color --ginkgo.json-report /run/e2e/critest.json',
  ];
  const script = `mkdir -p /run/e2e; cd /run/e2e; rm -f critest.json
    critest ${args.join(' ')} >critest.log 2>&1 || :
    cat critest.json || { tail -n 60 critest.log; exit 1; }`;
  return resultsOf(await node.sh(script, 3_000_000), ({ place, name }) =>
    // Some cases of different groups have the same name.
    name.startsWith('runtime should') ? name : `${place}: ${name}`,
  );
}
