// Two nodes of one cluster, in two zones, with an API server: kubelets that have joined it, pods that reach pods of the
// other node, and Services by kube-proxy.
import assert from 'node:assert/strict';
import { type Cloud, startCloud } from '../aws/index.ts';
import { proxyModes } from '../pods/proxy.ts';
import type { Bench } from '../vm/bench.ts';
import { type ControlPlane, startControlPlane } from './control.ts';
import { bootKubeNode, type KubeNode } from './kube.ts';
import {
  agreed,
  announce,
  type Cluster,
  clean,
  type Facts,
  type Member,
  servicesWith,
  vmProxy,
} from './services.ts';

/** cri-o maps host ports itself, without a plugin. */
const HOST_PORT = 8081;

export interface Nodes {
  cloud: Cloud;
  control: ControlPlane;
  one: KubeNode;
  two: KubeNode;
}

/**
 * Boots two nodes in two zones, joins them to a cluster, and removes everything after `use`.
 *
 * @param controllers starts a scheduler and controllers too.
 * @param config sections of a node's configuration, by its name.
 */
export async function withCluster<T>(
  bench: Bench,
  {
    controllers = false,
    config = () => ({}),
  }: { controllers?: boolean; config?: (node: string) => Record<string, unknown> },
  use: (nodes: Nodes) => Promise<T>,
): Promise<T> {
  const cloud = await startCloud();
  const ends: (() => Promise<void>)[] = [() => cloud.stop()];
  try {
    const control = await startControlPlane(
      cloud,
      bench.work,
      ['one', 'two'],
      controllers ? { controllers: 'all' } : {},
    );
    ends.unshift(() => control.stop());
    const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
    const boot = async (name: string, zone: number) => {
      const node = await bootKubeNode(bench, 'crio', cloud, name, {
        subnet: zones[zone]?.id ?? '',
        config: { apiServer: { endpoint: control.url, required: true }, ...config(name) },
      });
      ends.unshift(() => node.base.node.end());
      await join(node, control);
      return node;
    };
    const [one, two] = await Promise.all([boot('one', 0), boot('two', 1)]);
    return await use({ cloud, control, one, two });
  } finally {
    for (const end of ends) await end();
  }
}

export function inCluster(bench: Bench): Promise<Facts> {
  return withCluster(bench, {}, async ({ cloud, control, one, two }) => {
    const nodes = [one, two];
    await one.place('web', { ports: [{ containerPort: 80, hostPort: HOST_PORT }] });
    await one.place('client');
    await two.place('far');
    const [onOne, onTwo] = await Promise.all([one.running(['web', 'client']), two.running(['far'])]);
    const ip = (pod: string) => ({ ...onOne, ...onTwo })[pod]?.ip ?? '';
    const cluster: Cluster = {
      ...{ cloud, control, one: memberOf(one), two: memberOf(two), hostPort: HOST_PORT },
      pods: { web: ip('web'), client: ip('client'), far: ip('far') },
    };

    const facts: Facts = { ...(await toldTheApi(nodes, cluster)) };
    await one.base.serve(['']);
    Object.assign(facts, await acrossNodes(cluster));
    await announce(cluster);
    for (const mode of proxyModes) Object.assign(facts, await servicesWith(mode, cluster));
    for (const node of nodes) {
      const counter = await node.sh("nstat -asz TcpExtIPReversePathFilter | awk '/^Tcp/ { print $2 }'");
      assert.equal(counter.trim(), '0', `packets that node ${node.base.name} lost to a reverse-path filter`);
    }
    const checked = await one.sh('eniboot check');
    return {
      ...{ ...facts, 'eniboot check on node one': checked.trim().split('\n').at(-1) ?? '' },
      ...(await clean(cluster)),
    };
  });
}

/** Does the operator's part: sets a name, writes a kubeconfig, and starts kubelet with it. */
async function join(node: KubeNode, control: ControlPlane): Promise<void> {
  const { name } = node.base;
  await node.sh(`hostnamectl hostname ${name}
    cat >/var/lib/kubelet/kubeconfig <<'EOF'\n${control.kubeconfig(name)}\nEOF
    mkdir -p /etc/systemd/system/kubelet.service.d
    cat >/etc/systemd/system/kubelet.service.d/20-cluster.conf <<'EOF'
[Service]
Environment=KUBELET_KUBECONFIG_ARGS=--kubeconfig=/var/lib/kubelet/kubeconfig
EOF
    systemctl daemon-reload
    systemctl restart kubelet`);
}

export function memberOf(node: KubeNode): Member {
  const { base } = node;
  // A client that gets no answer ends with an error.
  const ask = (pod: string, to: string) => node.ask(pod, to).catch(() => '');
  return {
    ...{ name: base.name, address: base.address, sh: node.sh },
    publicIp: base.node.instance.bootEni.publicIp ?? 'none',
    ask: (place, to) => (place === '' ? base.ask('', to) : ask(place, to)),
    request: async (pod, url) => {
      await ask(pod, url);
    },
    ...vmProxy(node.sh),
  };
}

/** The parts of a Node of the API that tests look at. */
export interface NodeObject {
  metadata: { labels: Record<string, string> };
  spec: { providerID: string };
  status: {
    addresses: { type: string; address: string }[];
    capacity: { pods: string };
    conditions: { type: string; status: string; message: string }[];
  };
}

/** What kubelet has told the API server is what eniboot decided, and the API shows a pod's own address. */
async function toldTheApi(nodes: KubeNode[], { control, pods }: Cluster): Promise<Facts> {
  const facts: Facts = {};
  for (const node of nodes) {
    const { name, address } = node.base;
    const { metadata, spec, status } = await control.call<NodeObject>('GET', `/api/v1/nodes/${name}`);
    const { capacity, instance } = JSON.parse(await node.sh('cat /run/eniboot/status.json'));
    const wanted = [
      { type: 'InternalIP', address },
      { type: 'Hostname', address: name },
    ];
    assert.deepEqual(status.addresses, wanted, `addresses of node ${name}`);
    assert.equal(spec.providerID, `aws:///${instance.zone}/${instance.id}`);
    assert.equal(metadata.labels['topology.kubernetes.io/zone'], instance.zone);
    assert.equal(metadata.labels['node.kubernetes.io/instance-type'], instance.type);
    assert.equal(status.capacity.pods, String(capacity.maxPods));
    const ready = status.conditions.find(({ type }) => type === 'Ready');
    assert.equal(ready?.status, 'True', ready?.message);
    facts[`node ${name} in the API`] = `Ready, ${address}, ${instance.zone}, ${status.capacity.pods} pods`;
  }
  for (const [pod, address] of Object.entries({ 'web-one': pods.web, 'far-two': pods.far })) {
    const path = `/api/v1/namespaces/default/pods/${pod}`;
    const { status } = await control.call<{ status: { podIP: string } }>('GET', path);
    assert.equal(status.podIP, address, `podIP of ${pod} in the API`);
  }
  return facts;
}

async function acrossNodes({ cloud, one, two, pods }: Cluster): Promise<Facts> {
  const { web, client, far } = pods;
  return agreed({
    'pod to pod of the other node': [await one.ask('client', `${far}:80`), client],
    'and the other way': [await two.ask('far', `${web}:80`), far],
    'pod to the other node': [await two.ask('far', `${one.address}:80`), far],
    'node to pod of the other node': [await one.ask('', `${far}:80`), one.address],
    'pod of node one to the Internet': [await one.ask('client', cloud.internet.curlTarget), one.publicIp],
    'pod of node two to the Internet': [await two.ask('far', cloud.internet.curlTarget), two.publicIp],
  });
}
