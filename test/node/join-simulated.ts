// Joining as far as it is possible without a VM: the files that a simulated node's boot has written, the real kubelet
// and kubeadm, and a real control plane. kubelet ends once it has its certificate, since it has no runtime and no
// cgroups.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { type Instance, startCloud } from '../aws/index.ts';
import { configText, launchNode, type Node } from '../boot/node.ts';
import type { Bench } from '../vm/bench.ts';
import { ensureBuilt, modules } from './fetch.ts';
import {
  credentialsOf,
  EXAMPLES,
  isKnown,
  type JoinCluster,
  joinSections,
  judgeCertificate,
  nodeNames,
  requests,
  revokeToken,
  startJoinCluster,
  type Way,
} from './join-cluster.ts';
import type { Facts } from './services.ts';

const CERTIFICATE_SECONDS = 40;
/** A runtime that accepts calls and does not answer: without a runtime, kubelet ends before it has its certificate. */
const SILENT = '/run/silent.sock';
/** The machine on which this runs may have cgroups of version 1, on which kubelet would otherwise not start. */
const MACHINE = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
containerRuntimeEndpoint: unix://${SILENT}
`;
const CERTIFICATE = '/var/lib/kubelet/pki/kubelet-client-current.pem';
/** kubelet's own variables in the two layouts of docs/join.md. */
const VARIABLES: Record<Way, string> = {
  tls: 'tls/20-join.conf',
  kubeadm: '../../../test/systemd/fixtures/10-kubeadm.conf',
};
const KUBECONFIGS: Record<Way, string> = {
  tls: '/var/lib/kubelet/kubeconfig',
  kubeadm: '/etc/kubernetes/kubelet.conf',
};

export async function joinSimulated(bench: Bench): Promise<Facts> {
  const cloud = await startCloud();
  let cluster: JoinCluster | undefined;
  try {
    cluster = await startJoinCluster(cloud, bench.work, CERTIFICATE_SECONDS);
    const launch = (way: Way, pods = {}) =>
      launchNode(cloud, { config: configOf(cluster as JoinCluster, way, pods) });
    const notReady = await launch('tls', { subnets: { tags: { eniboot: 'nowhere' } } });
    assert.equal((await notReady.boot()).status?.failure?.code, 'NO_POD_SUBNET');
    assert.equal(notReady.kubeletReleased(), false);
    assert.equal(notReady.instance.read('/run/eniboot/join/bootstrap-kubeconfig'), undefined);
    assert.deepEqual([await nodeNames(cluster), await requests(cluster)], [[], []]);

    // The operator names a subnet that exists, and the same machine joins.
    notReady.instance.write('/etc/eniboot/config.yaml', configOf(cluster, 'tls', {}));
    const tls = await ready(notReady);
    tls.instance.write(
      '/var/lib/kubelet/config.yaml',
      readFileSync(join(EXAMPLES, 'tls/config.yaml'), 'utf8'),
    );
    const byTls = await bootstrapped(cluster, tls, 'tls');
    const kubeadm = await ready(await launch('kubeadm'));
    await startedByKubeadm(kubeadm.instance);
    const byKubeadm = await bootstrapped(cluster, kubeadm, 'kubeadm');

    await tls.instance.terminate();
    const left = cloud.leakReport();
    assert.deepEqual(left, [], 'a replaced node leaves no ENI and no address');
    const term = await expires(cluster, byTls);
    await revokeToken(cluster, 'tls');
    const late = await ready(await launch('tls'));
    late.instance.write(
      '/var/lib/kubelet/config.yaml',
      readFileSync(join(EXAMPLES, 'tls/config.yaml'), 'utf8'),
    );
    const refused = await kubelet(late.instance, 'tls', /[Uu]nauthorized/);
    cluster.control.assertAlive();
    return {
      'a node that is not READY': 'no bootstrap kubeconfig, kubelet held, no request for a certificate',
      'plain TLS bootstrap': `${byTls.name} has its certificate after ${byTls.seconds} s`,
      'kubeadm, from the same file': `${byKubeadm.name} has its certificate after ${byKubeadm.seconds} s`,
      'the certificate of a replaced node': term,
      'a token that was revoked': refused,
    };
  } finally {
    await cluster?.control.stop();
    await cloud.stop();
  }
}

function configOf(cluster: JoinCluster, way: Way, pods: object): string {
  const sections = { ...joinSections(cluster, way), ...(Object.keys(pods).length === 0 ? {} : { pods }) };
  const text = configText(cluster.cloud);
  // A second section of the same name would be refused.
  const base = 'pods' in sections ? text.replace(/^pods:\n(?: .*\n)+/m, '') : text;
  return `${base}${stringify(sections)}`;
}

async function ready(node: Node): Promise<Node> {
  const { status, result } = await node.boot();
  assert.equal(status?.verdict, 'ready', `${result.stdout}${result.stderr}`);
  return node;
}

/** Runs kubelet with the flags of its drop-ins until it has a certificate, and checks the certificate. */
async function bootstrapped(cluster: JoinCluster, { instance }: Node, way: Way) {
  const started = performance.now();
  await kubelet(instance, way, undefined);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const kubeconfig = instance.read(KUBECONFIGS[way]) ?? '';
  assert.ok(!kubeconfig.includes(cluster.tokens[way]), "kubelet's own kubeconfig has no token");
  assert.match(kubeconfig, new RegExp(`client-certificate: ${CERTIFICATE}`));
  const name = `ip-${instance.bootEni.primaryIp.replaceAll('.', '-')}`;
  const credentials = credentialsOf(await certificateOf(instance));
  const end = await judgeCertificate(cluster, name, credentials, CERTIFICATE_SECONDS);
  return { name, seconds, credentials, end };
}

/** kubelet's link to the certificate is absolute, so it is read inside the instance. */
async function certificateOf(instance: Instance): Promise<string> {
  return (await instance.run('cat', [CERTIFICATE])).stdout;
}

/** @param says a line that kubelet must print instead of getting a certificate. @returns that line */
async function kubelet(instance: Instance, way: Way, says: RegExp | undefined): Promise<string> {
  const program = join(
    ensureBuilt(modules.kubelet, () => {}),
    'kubelet',
  );
  const variables = readFileSync(join(EXAMPLES, VARIABLES[way]), 'utf8').matchAll(
    /^Environment="?(KUBELET_\w+)=([^"\n]*)"?$/gm,
  );
  const given = new Map([...variables].map(([, name = '', value = '']) => [name, value]));
  const flags = /^ENIBOOT_KUBELET_ARGS="(.*)"$/m.exec(instance.read('/run/eniboot/kubelet.env') ?? '')?.[1];
  const line = `${program} ${[...given.values()].join(' ')} ${flags ?? assert.fail('no flags')}`;
  instance.write('/etc/kubernetes/kubelet.conf.d/90-e2e.conf', MACHINE);
  const silent = instance.spawn('socat', [`UNIX-LISTEN:${SILENT},unlink-early,fork`, 'EXEC:sleep 60'], {
    stdio: 'ignore',
  });
  const log = '/var/log/kubelet.log';
  const child = instance.spawn('sh', ['-c', `exec ${line} >${log} 2>&1`], { stdio: 'ignore' });
  const gone = new Promise((resolve) => child.once('exit', resolve));
  try {
    const giveUpAt = performance.now() + 60_000;
    for (;;) {
      const said = instance.read(log) ?? '';
      const match = says === undefined ? undefined : said.split('\n').find((one) => says.test(one));
      if (match !== undefined) return /err="([^"]*)"/.exec(match)?.[1] ?? match;
      if (says === undefined && (await certificateOf(instance)) !== '') return '';
      const over = performance.now() > giveUpAt || child.exitCode !== null;
      assert.ok(!over, `kubelet got no certificate: ${line}\n${said.slice(-3000)}`);
      await delay(100);
    }
  } finally {
    child.kill('SIGKILL');
    silent.kill('SIGKILL');
    await gone;
  }
}

/** The phase of `kubeadm join` that discovers the cluster and writes kubelet's files. It cannot start a unit here. */
async function startedByKubeadm(instance: Instance): Promise<void> {
  const program = join(
    ensureBuilt(modules.kubeadm, () => {}),
    'kubeadm',
  );
  instance.write('/etc/kubernetes/join.yaml', readFileSync(join(EXAMPLES, 'kubeadm/join.yaml'), 'utf8'));
  const args = ['join', 'phase', 'kubelet-start', '--config=/etc/kubernetes/join.yaml'];
  const { exitCode, stdout, stderr } = await instance.run(program, args, { timeoutMs: 60_000 });
  assert.equal(exitCode, 0, `${stdout}${stderr}`);
  assert.match(instance.read('/etc/kubernetes/pki/ca.crt') ?? '', /BEGIN CERTIFICATE/);
}

/** Kubernetes cannot revoke a certificate: it is valid until its term ends, and not after. */
async function expires(
  { control }: JoinCluster,
  of: { name: string; credentials: { cert: string; key: string }; end: number },
) {
  const path = `/api/v1/nodes/${of.name}`;
  if (Date.now() < of.end - 2000)
    assert.ok(isKnown(await control.statusFor(of.credentials, path)), 'good until then');
  await delay(Math.max(0, of.end - Date.now() + 1500));
  const status = await control.statusFor(of.credentials, path);
  assert.equal(status, 401, 'and no longer');
  return `good for ${CERTIFICATE_SECONDS} s, then ${status}`;
}
