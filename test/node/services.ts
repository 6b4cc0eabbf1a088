// Services by the real kube-proxy in each of its modes. They are written through the API, and requests to them come
// from everywhere. The two nodes may be VMs with kubelets or simulated nodes; the same must hold for both.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Cloud, Instance } from '../aws/index.ts';
import { askFromInternet } from '../pods/flow.ts';
import type { ProxyMode } from '../pods/proxy.ts';
import type { ControlPlane } from './control.ts';
import { ensureBuilt, modules } from './fetch.ts';

export type Facts = Record<string, string | number>;

/** The functions of a node that this file uses. */
export interface Member {
  name: string;
  address: string;
  publicIp: string;
  /**
   * The answer of ADDRESS:PORT to a pod, or to the node itself (''): the address that the server saw; empty without an
   * answer.
   */
  ask(place: string, to: string): Promise<string>;
  /** Requests an https URL from a pod. The answer, and who sends it, do not matter. */
  request(pod: string, url: string): Promise<void>;
  sh(script: string, timeoutMs?: number): Promise<string>;
  /** Starts kube-proxy, whose configuration is in /var/lib/kube-proxy. */
  startProxy(): Promise<void>;
  /** The end of kube-proxy's output. */
  proxyLog(): Promise<string>;
  /** Ends kube-proxy and lets it remove its rules. */
  endProxy(): Promise<void>;
}

/** The functions that start and end kube-proxy need. */
type Proxied = Pick<Member, 'name' | 'sh' | 'startProxy' | 'proxyLog' | 'endProxy'>;

/** kube-proxy on a simulated node, as a process. */
export function namespacedProxy(instance: Instance): Pick<Member, 'startProxy' | 'proxyLog' | 'endProxy'> {
  const program = join(
    ensureBuilt(modules.cluster, () => {}),
    'kube-proxy',
  );
  const log = '/run/kube-proxy.log';
  let running: ChildProcess | undefined;
  return {
    startProxy: async () => {
      const shell = `exec ${program} --config=/var/lib/kube-proxy/config.yaml >${log} 2>&1`;
      running = instance.spawn('sh', ['-c', shell], { stdio: 'ignore' });
    },
    proxyLog: async () => instance.read(log)?.slice(-4000) ?? '',
    endProxy: async () => {
      const ended = new Promise((resolve) => running?.once('exit', resolve));
      running?.kill('SIGTERM');
      await ended;
      const { exitCode, stderr } = await instance.run(program, ['--cleanup']);
      assert.equal(exitCode, 0, stderr);
    },
  };
}

/** kube-proxy as a unit of a VM. */
export function vmProxy(sh: Member['sh']): Pick<Member, 'startProxy' | 'proxyLog' | 'endProxy'> {
  return {
    startProxy: async () => {
      await sh('systemctl start kube-proxy');
    },
    proxyLog: () => sh('journalctl -u kube-proxy -n 40 -o cat --no-pager'),
    endProxy: async () => {
      // kube-proxy 1.36.3 leaves chains behind with iptables 1.8.11 (nft), which refuses to remove them in kube-proxy's
      // order.
      const tables = ['nat', 'filter', 'mangle'].flatMap((table) => [`ip ${table}`, `ip6 ${table}`]);
      const rest = tables.map((table) => `nft delete table ${table} 2>/dev/null || :`).join('\n');
      await sh(`systemctl stop kube-proxy\nkube-proxy --cleanup || {\n${rest}\n}`, 300_000);
    },
  };
}

export interface Cluster {
  cloud: Cloud;
  control: ControlPlane;
  one: Member;
  two: Member;
  /** Addresses of pods: `web` and `client` on node one, `far` on node two. */
  pods: { web: string; client: string; far: string };
  /** A port of node one that is mapped to `web`, when a program maps one. */
  hostPort?: number;
}

/** The client in the Internet. */
const INTERNET = '203.0.113.80';

const [here, elsewhere, local] = [
  { name: 'here', clusterIP: '172.20.0.10', nodePort: 30010, policy: 'Cluster', pod: 'web' },
  { name: 'elsewhere', clusterIP: '172.20.0.11', nodePort: 30011, policy: 'Cluster', pod: 'far' },
  { name: 'local', clusterIP: '172.20.0.12', nodePort: 30012, policy: 'Local', pod: 'web' },
] as const;

/** Writes Services and EndpointSlices, as a cluster's own controllers do. */
export async function announce({ control, one, two, pods }: Cluster): Promise<void> {
  for (const { name, clusterIP, nodePort, policy, pod } of [here, elsewhere, local]) {
    await control.call('POST', '/api/v1/namespaces/default/services', {
      metadata: { name },
      spec: {
        ...{ type: 'NodePort', clusterIP, externalTrafficPolicy: policy },
        ports: [{ port: 80, nodePort }],
      },
    });
    await control.call('POST', '/apis/discovery.k8s.io/v1/namespaces/default/endpointslices', {
      metadata: { name, labels: { 'kubernetes.io/service-name': name } },
      addressType: 'IPv4',
      ports: [{ port: 80, protocol: 'TCP', name: '' }],
      endpoints: [
        {
          ...{ addresses: [pods[pod]], conditions: { ready: true } },
          nodeName: (pod === 'far' ? two : one).name,
        },
      ],
    });
  }
}

/** Requests by name: the address that the server saw, and the address that it should see. */
type Talks = Record<string, [seen: string, wanted: string]>;

/** Names all differences, not only the first. */
export function agreed(talks: Talks, prefix = ''): Facts {
  const wrong = Object.entries(talks).filter(([, [seen, wanted]]) => seen !== wanted);
  const named = wrong.map(([what, [seen, wanted]]) => `${prefix}${what}: seen '${seen}', not '${wanted}'`);
  assert.deepEqual(named, []);
  return Object.fromEntries(Object.entries(talks).map(([what, [seen]]) => [`${prefix}${what}: seen`, seen]));
}

/** Runs kube-proxy on node one in this mode, and leaves the node without it. */
export async function servicesWith(mode: ProxyMode, cluster: Cluster): Promise<Facts> {
  const { cloud, control, one, two, pods, hostPort } = cluster;
  const { web, client, far } = pods;
  const silence = await one.ask('client', `${here.clusterIP}:80`);
  assert.equal(silence, '', 'without kube-proxy no program answers for a Service');
  await startProxy(one, control, mode);
  const node = one.address;
  const internet = (port: number) => askFromInternet(cloud, `${one.publicIp}:${port}`);
  const before = control.clientsOf('/version').length;
  await one.request('client', 'https://172.20.0.1/version');
  const facts = agreed(
    {
      'kubernetes.default, in its audit log': [control.clientsOf('/version').slice(before).join(), client],
      'Service, pod on the node': [await one.ask('client', `${here.clusterIP}:80`), client],
      'Service, pod on the other node': [await one.ask('client', `${elsewhere.clusterIP}:80`), client],
      // kube-proxy masquerades a packet that returns to its sender, on any network.
      'Service, the pod itself': [await one.ask('web', `${here.clusterIP}:80`), node],
      'Service from the node, pod on it': [await one.ask('', `${here.clusterIP}:80`), node],
      'Service from the node, pod elsewhere': [await one.ask('', `${elsewhere.clusterIP}:80`), node],
      'NodePort, Cluster, from the other node': [await two.ask('', `${node}:${here.nodePort}`), node],
      'NodePort, Cluster, from its pod': [await two.ask('far', `${node}:${here.nodePort}`), node],
      'NodePort, Cluster, pod elsewhere': [await two.ask('', `${node}:${elsewhere.nodePort}`), node],
      'NodePort, Cluster, from the Internet': [internet(here.nodePort), node],
      'NodePort, Local, from the other node': [await two.ask('', `${node}:${local.nodePort}`), two.address],
      'NodePort, Local, from its pod': [await two.ask('far', `${node}:${local.nodePort}`), far],
      'NodePort, Local, from a pod of the node': [
        await one.ask('client', `${node}:${local.nodePort}`),
        client,
      ],
      'NodePort, Local, from the Internet': [internet(local.nodePort), INTERNET],
      ...(hostPort === undefined
        ? {}
        : {
            'hostPort, from the other node': [await two.ask('', `${node}:${hostPort}`), two.address],
            'hostPort, from its pod': [await two.ask('far', `${node}:${hostPort}`), far],
            'hostPort, from the Internet': [internet(hostPort), INTERNET],
          }),
      'pod to the pod beside it': [await one.ask('client', `${web}:80`), client],
    },
    `kube-proxy, ${mode}: `,
  );
  await one.endProxy();
  return facts;
}

/** Starts kube-proxy as an operator does where pods have addresses of the VPC: without cluster CIDR, with strict ARP. */
export async function startProxy(node: Proxied, control: ControlPlane, mode: ProxyMode): Promise<void> {
  const configuration = {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    clientConnection: { kubeconfig: '/var/lib/kube-proxy/kubeconfig' },
    hostnameOverride: node.name,
    mode,
    // The size of the conntrack table is a setting of the machine. A simulated node is a network namespace, which
    // cannot set it.
    conntrack: { maxPerCore: 0 },
    ...(mode === 'ipvs' ? { ipvs: { strictARP: true } } : {}),
  };
  await node.sh(`mkdir -p /var/lib/kube-proxy; cd /var/lib/kube-proxy
    cat >kubeconfig <<'EOF'\n${control.kubeconfig('kube-proxy')}\nEOF
    cat >config.yaml <<'EOF'\n${JSON.stringify(configuration)}\nEOF`);
  await node.startProxy();
  const written = /^kubeproxy_sync_proxy_rules_last_timestamp_seconds(\{.*\})? [1-9]/m;
  const giveUpAt = performance.now() + 300_000;
  while (!written.test(await node.sh('curl -s http://127.0.0.1:10249/metrics || :'))) {
    assert.ok(performance.now() < giveUpAt, `kube-proxy has written no rules: ${await node.proxyLog()}`);
    await delay(300);
  }
  assert.equal(await node.sh('curl -sf http://127.0.0.1:10249/proxyMode'), mode);
}

/** Must hold whatever pods did: no packet left or came with an address that its ENI does not have. */
export async function clean({ cloud }: Pick<Cluster, 'cloud'>): Promise<Facts> {
  await cloud.settled();
  assert.deepEqual(await cloud.network.spoofed(), [], 'no packet left with an address its ENI does not have');
  assert.deepEqual(await cloud.network.undelivered(), [], 'nor came one for such an address');
  return { 'packets with a wrong address': 0 };
}
