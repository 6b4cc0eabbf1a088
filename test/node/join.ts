// Nodes that join a cluster by themselves, as docs/join.md says and with its files: by plain TLS bootstrap, and by
// kubeadm. Also a node that is not READY, and a node that is replaced.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { startCloud } from '../aws/index.ts';
import type { Bench } from '../vm/bench.ts';
import type { NodeObject } from './cluster.ts';
import {
  type Credentials,
  credentialsOf,
  isKnown,
  type JoinCluster,
  joinSections,
  judgeCertificate,
  nodeNames,
  requests,
  startJoinCluster,
  type Way,
} from './join-cluster.ts';
import { announcedKubeNode, bootKubeNode, type KubeNode } from './kube.ts';
import type { Facts } from './services.ts';

/** Short, so that a test can wait for the end of a certificate; kubelet renews its own before that. */
const CERTIFICATE_SECONDS = 600;
/** Two emulated machines on a busy machine may need longer than a boot's five minutes. */
const SLOW = { boot: { deadlineSeconds: 600 } };
const CERTIFICATE = '/var/lib/kubelet/pki/kubelet-client-current.pem';

export async function joinByThemselves(bench: Bench): Promise<Facts> {
  const cloud = await startCloud();
  const ends: (() => Promise<void>)[] = [() => cloud.stop()];
  const keep = (node: KubeNode) => {
    ends.unshift(() => node.base.node.end());
    return node;
  };
  try {
    const cluster = await startJoinCluster(cloud, bench.work, CERTIFICATE_SECONDS);
    ends.unshift(() => cluster.control.stop());
    const [zoneA = '', zoneB = ''] = [...cloud.subnets.values()]
      .filter((subnet) => subnet.mapPublicIp)
      .map(({ id }) => id);
    const options = { config: { ...SLOW, ...joinSections(cluster, 'tls') }, subnet: zoneA };
    // The cluster has no node until the first one has become READY.
    const one = keep(await notReady(bench, cluster, options));
    const [two] = await Promise.all([
      bootKubeNode(
        bench,
        'crio',
        cloud,
        'two',
        { config: { ...SLOW, ...joinSections(cluster, 'kubeadm') }, subnet: zoneB },
        ['systemd.wants=e2e-kubeadm.service'],
      ).then(keep),
      mended(bench, one, options.config),
    ]);
    const facts: Facts = {
      'a node that is not READY':
        'no Node, no request for a certificate, also where an operator starts kubelet',
    };
    const old = await joined(bench, one, 'tls', cluster, facts);
    await joined(bench, two, 'kubeadm', cluster, facts);
    await withPods(bench, one, two, cluster, facts);
    await replaced(one, old, cluster, facts);
    const three = keep(await bootKubeNode(bench, 'crio', cloud, 'three', options));
    await joined(bench, three, 'tls', cluster, facts);
    await expired(old, cluster, facts);
    cluster.control.assertAlive();
    return facts;
  } finally {
    await Promise.allSettled(ends.map((end) => end()));
  }
}

interface Joining {
  config: Record<string, object>;
  subnet: string;
}

/** The node's boot ends FAILED: the API server gets no request from it, also when an operator starts kubelet by hand. */
async function notReady(bench: Bench, cluster: JoinCluster, { config, subnet }: Joining): Promise<KubeNode> {
  const failing = { ...config, pods: { subnets: { tags: { eniboot: 'nowhere' } } } };
  const { node, line } = await announcedKubeNode(bench, 'crio', cluster.cloud, 'one', {
    config: failing,
    subnet,
  });
  try {
    assert.match(line, /FAILED NO_POD_SUBNET/);
    const byHand = await node.base.node.machine.run(
      'systemctl start kubelet.service',
      120_000 * bench.patience,
    );
    assert.notEqual(byHand.exitCode, 0);
    assert.equal((await node.startOf('kubelet')).process, 0, 'kubelet has not started');
    assert.deepEqual([await nodeNames(cluster), await requests(cluster)], [[], []]);
    return node;
  } catch (error) {
    await node.base.node.end();
    throw error;
  }
}

async function mended(bench: Bench, node: KubeNode, config: Joining['config']): Promise<void> {
  node.base.node.configure(config);
  node.base.node.forgetConsole();
  const start = `systemctl reset-failed eniboot.service kubelet.service
    systemctl start eniboot.service || { eniboot status; exit 1; }`;
  await node.sh(start, 240_000 * bench.patience);
  assert.match(await node.base.node.announced(), /READY/);
}

interface Joined {
  name: string;
  credentials: Credentials;
  /** End of the certificate, in milliseconds since the epoch. */
  end: number;
}

/**
 * The Node becomes Ready and has the values that eniboot set, its certificate is its own, and the token is visible
 * nowhere.
 */
async function joined(
  { patience }: Bench,
  node: KubeNode,
  way: Way,
  cluster: JoinCluster,
  facts: Facts,
): Promise<Joined> {
  const { base, sh } = node;
  const name = await nameOf(node);
  const { metadata, spec, status } = await becomesReady(node, name, cluster, 180_000 * patience);
  const { capacity, instance } = JSON.parse(await sh('cat /run/eniboot/status.json'));
  const internal = status.addresses.filter(({ type }) => type === 'InternalIP');
  assert.deepEqual(
    internal.map(({ address }) => address),
    [base.address],
    'the node IP is the boot ENI’s',
  );
  assert.equal(spec.providerID, `aws:///${instance.zone}/${instance.id}`);
  assert.equal(status.capacity.pods, String(capacity.maxPods));
  const { labels } = metadata;
  assert.equal(labels['topology.kubernetes.io/region'], cluster.cloud.region);
  assert.equal(labels['topology.kubernetes.io/zone'], instance.zone);
  assert.equal(labels['node.kubernetes.io/instance-type'], instance.type);

  // Both from one read of the file: kubelet may be about to renew it.
  const credentials = credentialsOf(await sh(`cat ${CERTIFICATE}`));
  const end = await judgeCertificate(cluster, name, credentials, CERTIFICATE_SECONDS);
  const modes = await sh(`stat -c %a /run/eniboot/join/bootstrap-kubeconfig $(readlink -f ${CERTIFICATE})`);
  assert.equal(modes.trim(), '600\n600');
  const secret = cluster.tokens[way].split('.')[1] ?? '';
  const seen = await sh(`journalctl -b --no-pager | grep -c ${secret} || :
    grep -rls ${secret} /etc /run/eniboot /var/lib/eniboot /var/lib/kubelet || :`);
  assert.equal(seen.trim(), '0\n/run/eniboot/join/bootstrap-kubeconfig');
  if (way === 'kubeadm') {
    const unit = await sh('systemctl show -p Result -p ActiveState kubeadm-join.service');
    assert.match(unit, /Result=success/);
    assert.match(unit, /ActiveState=active/);
  }
  const checked = (await sh('eniboot check')).trim().split('\n').at(-1) ?? '';
  assert.match(checked, / 0 fail/);
  facts[`${base.name}: ${way}`] =
    `Node ${name} Ready, ${spec.providerID}, ${base.address}; eniboot check: ${checked}`;
  return { name, credentials, end };
}

/** The machine's name, once it has one: these machines get it by DHCP, which may come after the boot. */
async function nameOf({ sh }: KubeNode): Promise<string> {
  return (await sh('while hostname | grep -q ^localhost; do sleep 0.5; done; hostname')).trim();
}

async function becomesReady(
  { sh }: KubeNode,
  name: string,
  { control }: JoinCluster,
  waitMs: number,
): Promise<NodeObject> {
  const giveUpAt = performance.now() + waitMs;
  for (let last = ''; ; await delay(1000)) {
    try {
      const node = await control.call<NodeObject>('GET', `/api/v1/nodes/${name}`);
      const ready = node.status.conditions?.find(({ type }) => type === 'Ready');
      if (ready?.status === 'True') return node;
      last = ready?.message ?? 'no condition';
    } catch (error) {
      last = String(error);
    }
    if (performance.now() < giveUpAt) continue;
    const journal = await sh(
      'systemctl --failed --no-pager; journalctl -b --no-pager -n 80 -o cat -u kubelet -u kubeadm-join -u crio',
    );
    assert.fail(`Node ${name} did not get Ready: ${last}\n${journal}`);
  }
}

interface PodObject {
  status: { phase?: string; podIP?: string };
}

/** A pod on each node, with an address of the pool, on ipvlan; each reaches the other with its own address. */
async function withPods(
  { patience }: Bench,
  one: KubeNode,
  two: KubeNode,
  { control }: JoinCluster,
  facts: Facts,
): Promise<void> {
  await Promise.all([one.place('web'), two.place('far')]);
  const addresses: string[] = [];
  for (const [node, pod] of [
    [one, 'web'],
    [two, 'far'],
  ] as const) {
    const name = await nameOf(node);
    const giveUpAt = performance.now() + 180_000 * patience;
    for (;;) {
      const path = `/api/v1/namespaces/default/pods/${pod}-${name}`;
      const found = await control.call<PodObject>('GET', path).catch(() => undefined);
      const { podIP, phase } = found?.status ?? {};
      if (phase === 'Running' && podIP !== undefined) {
        assert.ok(
          (await node.leases()).some(({ address }) => address === podIP),
          `${podIP} is leased`,
        );
        addresses.push(podIP);
        break;
      }
      assert.ok(performance.now() < giveUpAt, `pod ${pod} does not run: ${JSON.stringify(found?.status)}`);
      await delay(1000);
    }
  }
  const [web = '', far = ''] = addresses;
  assert.equal(await one.ask('web', `${far}:80`), web, 'pod to pod of the other node');
  assert.equal(await two.ask('far', `${web}:80`), far, 'and the other way');
  facts['pods of two such nodes'] = `${web} and ${far}, each seen as itself`;
}

/** The instance is terminated, as by a rollout or an Auto Scaling group. */
async function replaced(
  { base }: KubeNode,
  { name, credentials, end }: Joined,
  cluster: JoinCluster,
  facts: Facts,
): Promise<void> {
  const { cloud, control } = cluster;
  const { instance } = base.node;
  const enis = instance.enis.map(({ id }) => id);
  assert.equal(enis.length, 2);
  await instance.terminate();
  await cloud.settled();
  assert.deepEqual(
    enis.filter((id) => cloud.enis.has(id)),
    [],
    'its ENIs are gone, and their addresses with them',
  );
  assert.deepEqual(cloud.leakReport(), []);
  // eniboot is gone with the machine, so it cannot remove the Node. A cloud controller, which watches EC2, does that;
  // here the test does it. The next instance may get the same address, and with it the same name.
  assert.ok((await nodeNames(cluster)).includes(name));
  await control.call('DELETE', `/api/v1/nodes/${name}`);
  assert.ok(Date.now() > end || isKnown(await control.statusFor(credentials, `/api/v1/nodes/${name}`)));
  facts['a node that was terminated'] =
    `${enis.length} ENIs gone; its Node stays, for the cloud controller to remove`;
}

/** The last certificate of the replaced node, of which a copy may exist. Kubernetes cannot revoke it; it ends by itself. */
async function expired(
  { name, credentials, end }: Joined,
  { control }: JoinCluster,
  facts: Facts,
): Promise<void> {
  await delay(Math.max(0, end - Date.now() + 1500));
  const status = await control.statusFor(credentials, `/api/v1/nodes/${name}`);
  assert.equal(status, 401);
  facts['its certificate'] = `good for ${CERTIFICATE_SECONDS} s at most, then ${status}`;
}
