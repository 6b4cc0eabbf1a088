// What must hold on a node with a real kubelet and a real container runtime. Each case says what happens to the node.
import assert from 'node:assert/strict';
import { type Cloud, startCloud } from '../aws/index.ts';
import { askFromInternet } from '../pods/flow.ts';
import type { Bench } from '../vm/bench.ts';
import type { Case } from '../vm/case.ts';
import { inCluster } from './cluster.ts';
import { runConformance } from './conformance.ts';
import { runCritest } from './critest.ts';
import { runCyclonus } from './cyclonus.ts';
import { holdKubelet } from './held.ts';
import { joinByThemselves } from './join.ts';
import { joinSimulated } from './join-simulated.ts';
import { announcedKubeNode, bootKubeNode, type KubeNode } from './kube.ts';
import type { Runtime } from './layer.ts';
import { runNetworkPolicyTests } from './network-policy.ts';
import { onSimulatedNodes, onVmNode } from './simulated.ts';
import { runCyclonusSimulated, runNetworkPolicyOff, runNetworkPolicySimulated } from './simulated-cluster.ts';

/** cri-o maps host ports itself, without a plugin. */
const HOST_PORT = 8081;

/** The facts that a case has found, for the evidence. */
export type Facts = Record<string, string | number>;

export const cases: readonly Case<Facts>[] = [
  {
    name: 'pods-crio',
    title:
      'cri-o: a failed boot keeps kubelet off; mended, kubelet runs pods with VPC addresses as eniboot told it',
    quick: true,
    layer: 'crio',
    run: (bench) => failThenRun(bench, 'crio'),
  },
  {
    name: 'pods-containerd',
    title: 'containerd: the same',
    layer: 'containerd',
    run: (bench) => failThenRun(bench, 'containerd'),
  },
  {
    name: 'held',
    title: 'cri-o: the boot fails in one way after another, and kubelet never runs; then it does',
    layer: 'crio',
    run: holdKubelet,
  },
  {
    name: 'restarts-crio',
    title:
      'cri-o: containers, sandboxes, runtime, kubelet and node end and come back; addresses stay or are given back',
    layer: 'crio',
    run: (bench) => survive(bench, 'crio'),
  },
  {
    name: 'restarts-containerd',
    title: 'containerd: the same',
    layer: 'containerd',
    run: (bench) => survive(bench, 'containerd'),
  },
  {
    name: 'cluster',
    title:
      'two nodes of a cluster, API server and etcd: pods across nodes, Services by kube-proxy in its three modes (cri-o)',
    layer: 'cluster',
    run: inCluster,
  },
  {
    name: 'join',
    title:
      'nodes join a cluster by themselves, by TLS bootstrap and by kubeadm; one that is not READY, one that is replaced (cri-o)',
    layer: 'join',
    run: joinByThemselves,
  },
  {
    name: 'join-simulated',
    title: 'the same as far as certificates go, on simulated nodes: kubelet, kubeadm, API server, no VM',
    quick: true,
    layer: 'proxy',
    run: joinSimulated,
  },
  {
    name: 'conformance',
    title:
      "two nodes of a whole cluster: Kubernetes' own conformance tests of sig-network, all of them (cri-o; kube-proxy in iptables mode)",
    layer: 'cluster+conformance',
    run: runConformance,
  },
  {
    name: 'network-policy',
    long: true,
    title:
      "two nodes of a whole cluster: Kubernetes' own NetworkPolicy tests, all of them (cri-o; kube-proxy in iptables mode)",
    layer: 'cluster+policy',
    run: (bench) => runNetworkPolicyTests(bench, 'iptables'),
  },
  {
    name: 'network-policy-nftables',
    long: true,
    title: 'the same with kube-proxy in nftables mode',
    layer: 'cluster+policy',
    run: (bench) => runNetworkPolicyTests(bench, 'nftables'),
  },
  {
    name: 'network-policy-simulated',
    long: true,
    title:
      "two simulated nodes of a cluster whose other parts are real: Kubernetes' own NetworkPolicy tests, but for SCTP's",
    layer: 'cluster+policy',
    run: runNetworkPolicySimulated,
  },
  {
    name: 'network-policy-off',
    long: true,
    title: 'the same without policies in force: the tests of a denial fail',
    layer: 'cluster+policy',
    run: runNetworkPolicyOff,
  },
  {
    name: 'cyclonus',
    long: true,
    title: "two nodes of a whole cluster: Cyclonus' default cases, each difference explained",
    layer: 'cluster+policy',
    run: runCyclonus,
  },
  {
    name: 'cyclonus-simulated',
    long: true,
    title: "the same two simulated nodes: all of Cyclonus' cases, of TCP and UDP",
    layer: 'cluster+policy',
    run: runCyclonusSimulated,
  },
  {
    name: 'services-simulated',
    title: 'Services by kube-proxy in iptables and nftables mode on two simulated nodes, API server and etcd',
    quick: true,
    layer: 'proxy',
    run: onSimulatedNodes,
  },
  {
    name: 'critest-crio',
    title: "cri-o: critest's cases of a pod's network pass on a node that eniboot booted",
    layer: 'crio+critest',
    run: (bench) => runCritest(bench, 'crio'),
  },
  {
    name: 'critest-containerd',
    title: 'containerd: the same',
    layer: 'containerd+critest',
    run: (bench) => runCritest(bench, 'containerd'),
  },
  {
    name: 'services-vm',
    title: 'the same with a VM as node one, in its three modes: pods on a real ipvlan',
    layer: 'proxy',
    run: onVmNode,
  },
];

async function failThenRun(bench: Bench, runtime: Runtime): Promise<Facts> {
  const cloud = await startCloud();
  const { node, line } = await announcedKubeNode(bench, runtime, cloud, 'one', {
    config: { pods: { subnets: { tags: { eniboot: 'nowhere' } } } },
  });
  try {
    assert.match(line, /FAILED NO_POD_SUBNET/);
    await node.place(
      'web',
      runtime === 'crio' ? { ports: [{ containerPort: 80, hostPort: HOST_PORT }] } : {},
    );
    await node.place('client');
    const unready = await node.networkIs(false);
    assert.equal((await node.startOf('kubelet')).process, 0, 'kubelet does not start where the boot failed');

    // The operator names a subnet that exists, and starts the boot again.
    node.base.node.configure({});
    node.base.node.forgetConsole();
    await node.sh('systemctl start eniboot.service', 240_000 * bench.patience);
    assert.match(await node.base.node.announced(), /READY/);
    const readyAt = performance.now();
    await node.networkIs(true);
    const pods = await node.running(['web', 'client']);
    const podsAfterMs = performance.now() - readyAt;
    const [agent, kubelet] = [await node.startOf('eniboot'), await node.startOf('kubelet')];
    assert.ok(
      kubelet.process >= agent.active,
      `kubelet started at ${kubelet.process} s, and eniboot was READY at ${agent.active} s`,
    );

    const told = await kubeletAsTold(node);
    const talked = await talk(node, cloud, pods['web']?.ip ?? '', pods['client']?.ip ?? '');
    const checked = await node.sh('eniboot check');
    assert.match(checked, /each of 2 leased addresses has its sandbox/);
    const probed = await probes(node);
    const status = await statusReachesRuntime(node);
    return {
      ...{ 'failed boot': line.trim(), 'then the runtime says': unready },
      ...{ 'READY at, s': agent.active, 'kubelet at, s': kubelet.process },
      'two pods ready, s after READY': Math.round(podsAfterMs / 1000),
      ...told,
      ...talked,
      'eniboot check': checked.trim().split('\n').at(-1) ?? '',
      ...probed,
      ...status,
      ...(await emptied(node, cloud, ['web', 'client'])),
    };
  } finally {
    await node.base.node.end();
    await cloud.stop();
  }
}

/** What kubelet took from the drop-in and the flags, read from kubelet's own pages, and what kubelet set in the kernel. */
async function kubeletAsTold(node: KubeNode): Promise<Facts> {
  const { kubeletconfig: used } = JSON.parse(await node.page('/configz'));
  const { capacity, instance } = JSON.parse(await node.sh('cat /run/eniboot/status.json'));
  assert.equal(used.maxPods, capacity.maxPods);
  assert.equal(used.cgroupDriver, 'systemd');
  assert.equal(used.providerID, `aws:///${instance.zone}/${instance.id}`);
  const socket = {
    crio: 'unix:///var/run/crio/crio.sock',
    containerd: 'unix:///run/containerd/containerd.sock',
  };
  assert.equal(
    used.containerRuntimeEndpoint,
    socket[node.runtime],
    "eniboot's drop-in wins over the operator's file",
  );
  const environment = await node.sh(`tr '\\0' '\\n' </proc/$(${pidOf('web')})/environ`);
  const nodeIp = /^NODE_IP=(.*)$/m.exec(environment)?.[1];
  assert.equal(nodeIp, node.base.address, 'the node IP is the address of the boot ENI');

  // What is reserved is kept from the pods by a limit on their common cgroup, which is systemd's slice.
  const reservedMiB = Number(/^(\d+)Mi$/.exec(used.kubeReserved.memory)?.[1]);
  const memory = await node.sh(
    'grep MemTotal: /proc/meminfo | tr -dc 0-9; echo; cat /sys/fs/cgroup/kubepods.slice/memory.max',
  );
  const [totalKiB = 0, limit = 0] = memory.trim().split('\n').map(Number);
  assert.ok(reservedMiB > 0);
  assert.equal(
    limit,
    totalKiB * 1024 - reservedMiB * 1024 * 1024,
    'memory of all pods: all but the reserved',
  );
  const cgroup = await node.sh(`cat /proc/$(${pidOf('web')})/cgroup`);
  assert.match(cgroup, /kubepods\.slice\/.*\.scope/, "a container's cgroup is a scope that systemd made");
  return {
    'max-pods': used.maxPods,
    'node IP': nodeIp,
    'reserved memory': used.kubeReserved.memory,
    'reserved CPU': used.kubeReserved.cpu,
    'cgroup driver': used.cgroupDriver,
  };
}

/** Script that prints the process ID of a pod's container. */
function pidOf(pod: string): string {
  const label = `"io.kubernetes.pod.name=${pod}-$(hostname)"`;
  return `crictl inspect --output go-template --template '{{.info.pid}}' $(crictl ps -q --state running --label ${label})`;
}

/** The server of each connection must see the right address. */
async function talk(node: KubeNode, cloud: Cloud, web: string, client: string): Promise<Facts> {
  const { instance } = node.base.node;
  const leases = await node.leases();
  for (const address of [web, client]) {
    const lease = leases.find((one) => one.address === address);
    assert.ok(lease, `${address} is leased`);
    const eni = instance.enis.find(({ id }) => id === lease.eniId);
    assert.ok(eni !== undefined && eni.id !== instance.bootEni.id, `${address} is of a pod ENI`);
  }
  const link = JSON.parse(await node.sh(`nsenter -t $(${pidOf('web')}) -n ip -d -j address show dev eth0`));
  assert.equal(link[0].linkinfo.info_kind, 'ipvlan');
  assert.equal(link[0].addr_info[0].local, web);

  await node.base.serve(['']);
  const publicIp = instance.bootEni.publicIp ?? 'none';
  const seen = {
    'pod to pod': [await node.ask('client', `${web}:80`), client],
    'pod to its node': [await node.ask('client', `${node.base.address}:80`), client],
    'node to pod': [await node.base.ask('', `${web}:80`), node.base.address],
    'pod to the Internet': [await node.ask('client', cloud.internet.curlTarget), publicIp],
    // containerd leaves host ports to a plugin after eniboot: e2e:pods, case chained.
    ...(node.runtime === 'crio'
      ? { 'Internet to hostPort': [askFromInternet(cloud, `${publicIp}:${HOST_PORT}`), '203.0.113.80'] }
      : {}),
  };
  for (const [what, [found, wanted]] of Object.entries(seen)) assert.equal(found, wanted, what);
  return Object.fromEntries(Object.entries(seen).map(([what, [found = '']]) => [`${what}: seen`, found]));
}

/** The runtime calls CNI's STATUS, and its own status then says the same. */
async function statusReachesRuntime(node: KubeNode): Promise<Facts> {
  // cri-o asks until STATUS has succeeded once, and after that only when cni_status_grace_period is set.
  const notice = node.runtime === 'crio' ? '; systemctl restart crio' : '';
  const away = async (file: string) => {
    await node.sh(`cp ${file} /run/away; rm ${file}${notice}`);
    const message = await node.networkIs(false);
    // The file is put in place by a rename, as the boot does it.
    await node.sh(`cp /run/away ${file}.new; mv ${file}.new ${file}`);
    await node.networkIs(true);
    return message;
  };
  const refused = await away('/run/eniboot/node.json');
  assert.match(refused, /has not finished booting this node/, "STATUS's own words");
  const without = await away('/etc/cni/net.d/10-eniboot.conflist');
  assert.doesNotMatch(without, /has not finished booting this node/);
  return { 'STATUS refused: the runtime says': refused, 'without a conflist it says': without };
}

/** kubelet's probes come from the node's address. */
async function probes(node: KubeNode): Promise<Facts> {
  const log = await node.sh('cat /var/log/pods/default_web-*/serve/0.log');
  const probers = new Set([...log.matchAll(/probed by (\S+)/g)].map(([, address]) => address));
  assert.deepEqual([...probers], [node.base.address], 'probes come from the node IP');
  return { 'probed by': [...probers].join() };
}

/** Removes all pods. Nothing of them may be left on the node, and EC2 and the pool must agree on the node's addresses. */
async function emptied(node: KubeNode, cloud: Cloud, names: string[]): Promise<Facts> {
  for (const name of names) await node.remove(name);
  await node.running([]);
  await node.emptied();
  await cloud.settled();
  assert.deepEqual(await cloud.network.spoofed(), [], 'no packet left with an address its ENI does not have');
  const [, podEni] = node.base.node.instance.enis;
  const free = (await node.sh('ls /run/eniboot/pool/free /run/eniboot/pool/cooling')).match(/^\d+\.\S+,/gm);
  assert.equal(
    free?.length,
    (podEni?.prefixes.length ?? 0) * 16,
    'the pool holds what EC2 gave, all of it unleased',
  );
  return { 'after the pods': `${free?.length} addresses, none leased` };
}

interface Event {
  what: string;
  /** Script that runs on the node. */
  does: string;
  /** What the pod `web` has afterwards: the same sandbox with its address, or a new sandbox with a new address. */
  address: 'kept' | 'new';
  /** The pod's container has been restarted. */
  restarted?: true;
  /** A unit that has a new process afterwards. */
  unit?: string;
}

const SANDBOX = 'crictl pods -q --state ready --label "io.kubernetes.pod.name=web-$(hostname)"';

/** In shell: the process that the runtime leaves with a container: conmon, or containerd's shim. */
const shimOf = (pod: string) => `shim=$(awk '/^PPid/ { print $2 }' /proc/$(${pidOf(pod)})/status)
  grep -qE '^(conmon|containerd-shim)' /proc/$shim/comm`;

function eventsOf(runtime: Runtime): Event[] {
  return [
    {
      what: 'liveness probe failed',
      does: `crictl exec --sync $(crictl ps -q --state running --label "io.kubernetes.pod.name=web-$(hostname)") /pod ask http://127.0.0.1:8080/sick`,
      address: 'kept',
      restarted: true,
    },
    { what: 'container killed', does: `kill -9 $(${pidOf('web')})`, address: 'kept', restarted: true },
    { what: 'kubelet restarted', does: 'systemctl restart kubelet', address: 'kept', unit: 'kubelet' },
    { what: 'kubelet killed', does: 'systemctl kill -s KILL kubelet', address: 'kept', unit: 'kubelet' },
    { what: 'runtime restarted', does: `systemctl restart ${runtime}`, address: 'kept', unit: runtime },
    {
      what: 'runtime killed',
      does: `systemctl kill -s KILL --kill-whom=main ${runtime}`,
      address: 'kept',
      unit: runtime,
    },
    ...shimEvents[runtime],
    { what: 'sandbox stopped', does: `crictl stopp $(${SANDBOX})`, address: 'new' },
    { what: 'sandbox stopped and removed', does: `crictl rmp --force $(${SANDBOX})`, address: 'new' },
  ];
}

/** With containerd one shim holds all containers of a pod; with cri-o each container has a conmon. */
const shimEvents: Record<Runtime, Event[]> = {
  // cri-o keeps no pause process for a pod whose containers have PID namespaces of their own. A container without its
  // conmon ends when it writes its next line. No runtime notices this; kubelet's probe does.
  crio: [
    { what: 'conmon killed', does: `${shimOf('web')}\nkill -9 $shim`, address: 'kept', restarted: true },
  ],
  containerd: [
    {
      what: 'pause process killed',
      does: `kill -9 $(crictl inspectp --output go-template --template '{{.info.pid}}' $(${SANDBOX}))`,
      address: 'new',
    },
    { what: 'shim killed', does: `${shimOf('web')}\nkill -9 $shim`, address: 'new' },
  ],
};

async function survive(bench: Bench, runtime: Runtime): Promise<Facts> {
  const cloud = await startCloud();
  const node = await bootKubeNode(bench, runtime, cloud, 'one');
  try {
    const names = ['web', 'client'];
    // kubelet must react to a server that says it is sick. A slow answer of a busy machine must not count as sick.
    const livenessProbe = {
      httpGet: { path: '/healthz', port: 8080 },
      ...{ periodSeconds: 2, timeoutSeconds: 60, failureThreshold: 2 },
    };
    await node.place('web', { livenessProbe });
    await node.place('client');
    await node.running(names);
    const facts: Facts = {};
    for (const event of eventsOf(runtime)) facts[event.what] = await told(node, event, names);

    const held = node.base.node.instance.enis.map(({ id }) => id);
    await node.base.reboot();
    await node.running(names);
    await settled(node, names);
    assert.deepEqual(
      node.base.node.instance.enis.map(({ id }) => id),
      held,
      'the reboot took the ENIs that were there',
    );
    facts['node rebooted'] = (await node.running(names))['web']?.ip ?? '';
    return { ...facts, ...(await emptied(node, cloud, names)) };
  } finally {
    await node.base.node.end();
    await cloud.stop();
  }
}

/** Adds to a failure the event, and the logs of kubelet and the runtime. */
async function told(node: KubeNode, event: Event, names: string[]): Promise<string> {
  try {
    return await happens(node, event, names);
  } catch (error) {
    const journal = await node.sh(
      `crictl ps -a || :; journalctl -b --no-pager -n 80 -o short-monotonic -u kubelet -u ${node.runtime}`,
    );
    throw new Error(`after: ${event.what}: ${error instanceof Error ? error.message : error}\n${journal}`, {
      cause: error,
    });
  }
}

/** @returns what became of the address of `web`. */
async function happens(node: KubeNode, event: Event, names: string[]): Promise<string> {
  const before = (await node.running(names))['web'];
  assert.ok(before);
  const processBefore = event.unit === undefined ? 0 : (await node.startOf(event.unit)).process;
  await node.sh(event.does);
  if (event.unit !== undefined) await node.startsAgain(event.unit, processBefore);
  const { web, client } = await node.running(names, (pods) => {
    const now = pods.find(({ name }) => name === 'web');
    if (event.address === 'new') return now?.ip !== before.ip;
    return event.restarted === undefined || (now?.restarts ?? 0) > before.restarts;
  });
  assert.ok(web && client);
  if (event.address === 'kept') assert.equal(web.ip, before.ip, event.what);
  await settled(node, names);
  assert.equal(await node.ask('client', `${web.ip}:80`), client.ip, `after: ${event.what}`);
  return event.address === 'kept' ? `${web.ip} kept` : `${before.ip}, then ${web.ip}`;
}

/**
 * Waits until the pool has leased exactly the addresses of these pods: the addresses of old sandboxes have been given
 * back.
 */
async function settled(node: KubeNode, names: string[]): Promise<void> {
  await node.leasedAre(async () => Object.values(await node.running(names)).map(({ ip }) => ip));
}
