// A cluster without kubelet and container runtime, which runs at full speed where a VM is emulated. Pods of the real
// API server become namespaces of two simulated nodes, by ADD. Controllers, kube-proxy and eniboot-policy are real.
import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { stringify } from 'yaml';
import { startCloud } from '../aws/index.ts';
import { configText, ENIBOOT } from '../boot/node.ts';
import { bootPodNode, type PodNode, variablesOf } from '../cni/rig.ts';
import type { Bench } from '../vm/bench.ts';
import { testUpstream } from './conformance.ts';
import { type ControlPlane, startControlPlane } from './control.ts';
import { testByCyclonus } from './cyclonus.ts';
import { ensureBuilt, modules } from './fetch.ts';
import { IDENTITY, knowsCluster, makeIdentity, netpol, policyOf, withoutPolicies } from './network-policy.ts';
import { clean, type Facts, namespacedProxy, startProxy } from './services.ts';

/** Number of cases that Cyclonus has with all tags. */
const CYCLONUS_CASES = 230;

export function runCyclonusSimulated(bench: Bench): Promise<Facts> {
  return onSimulatedCluster(bench, (control) =>
    testByCyclonus(bench.work, control, {
      count: CYCLONUS_CASES,
      // The kernel of this machine may have no SCTP.
      options: ['-protocols=TCP,UDP', '-exclude=', '-settle-seconds=1'],
    }),
  );
}

export function runNetworkPolicySimulated(bench: Bench): Promise<Facts> {
  return onSimulatedCluster(bench, (control, nodes) =>
    testUpstream(bench.work, control, { ...netpol(), skip: 'SCTPConnectivity', count: 47 }, nodes),
  );
}

/** The control of both test suites: no policy is enforced. */
export function runNetworkPolicyOff(bench: Bench): Promise<Facts> {
  return onSimulatedCluster(
    bench,
    (control, nodes) =>
      testUpstream(bench.work, control, { ...withoutPolicies, skip: 'SCTPConnectivity' }, nodes),
    { enforces: false },
  );
}

const pathTo = (module: (typeof modules)['pod'], name: string) =>
  join(
    ensureBuilt(module, () => undefined),
    name,
  );

async function onSimulatedCluster(
  bench: Bench,
  use: (control: ControlPlane, nodes: readonly PodNode[]) => Promise<Facts>,
  { enforces = true }: { enforces?: boolean } = {},
): Promise<Facts> {
  const cloud = await startCloud();
  const ends: (() => Promise<unknown>)[] = [() => cloud.stop()];
  try {
    const control = await startControlPlane(cloud, bench.work, [], { controllers: 'all' });
    ends.unshift(() => control.stop());
    const token = await makeIdentity(control);
    const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
    const nodes = new Map<string, PodNode>();
    for (const [at, name] of ['one', 'two'].entries()) {
      const config = {
        apiServer: { endpoint: control.url, required: true },
        kubernetes: { serviceCidrs: ['172.20.0.0/16'] },
        ...(enforces ? { policy: policyOf(name) } : {}),
      };
      const node = await bootPodNode(cloud, {
        subnet: zones[at]?.id ?? '',
        config: configText(cloud, stringify(config)),
        files: { [`${IDENTITY}/ca.crt`]: control.ca, [`${IDENTITY}/token`]: token },
      });
      nodes.set(name, node);
      const { instance, sh } = node;
      await control.call('POST', '/api/v1/nodes', { metadata: { name } });
      const proxy = namespacedProxy(instance);
      await startProxy({ name, sh, ...proxy }, control, 'iptables');
      ends.unshift(proxy.endProxy);
      if (!enforces) continue;
      const service = instance.spawn(ENIBOOT, ['policy', 'serve'], {
        stdio: ['ignore', 'ignore', 'inherit'],
      });
      ends.unshift(async () => service.kill());
      await knowsCluster(sh, async () => '');
    }
    const kubelets = startKubelets(control, nodes, makePodRoot(bench.work));
    ends.unshift(kubelets.end);
    const facts = await use(control, [...nodes.values()]);
    return { ...facts, ...(await clean({ cloud })) };
  } finally {
    for (const end of ends) await end();
  }
}

interface ApiPod {
  metadata: { namespace: string; name: string; uid: string };
  spec: {
    nodeName?: string;
    containers: { name: string; image: string; command: string[]; env?: { name: string; value: string }[] }[];
  };
}

/** A folder in the node that names the namespace of each pod, for kubelet-exec. */
const PODS = '/run/e2e-pods';
/** Well below the five minutes after which the control plane takes a node for lost. */
const HEARTBEAT_MS = 60_000;

/** The files that pods would have from their image; these pods have no image. */
function makePodRoot(work: string): string {
  const folder = join(work, 'pod-root');
  mkdirSync(folder);
  for (const [name, module] of Object.entries({ agnhost: modules.policyTools, worker: modules.worker }))
    copyFileSync(pathTo(module, name), join(folder, name));
  return folder;
}

/**
 * The kubelets of all nodes: each pod that the API server has on a node becomes a namespace with the pod's servers.
 *
 * @param programs folder with the programs that the pods run.
 */
function startKubelets(
  control: ControlPlane,
  nodes: ReadonlyMap<string, PodNode>,
  programs: string,
): { end(): Promise<void> } {
  const placed = new Map<string, { node: PodNode; netns: string; file: string }>();
  const executors = [...nodes.values()].map(({ instance }) =>
    instance.spawn(pathTo(modules.policyTools, 'kubelet-exec'), [`-pods=${PODS}`, `-root=${programs}`], {
      stdio: 'inherit',
    }),
  );
  let made = 0;

  async function beat(name: string, { instance }: PodNode): Promise<void> {
    const now = await control.call<object>('GET', `/api/v1/nodes/${name}`);
    const room = { cpu: '16', memory: '64Gi', pods: '110' };
    const status = {
      ...{ capacity: room, allocatable: room },
      addresses: [{ type: 'InternalIP', address: instance.bootEni.primaryIp }],
      conditions: [{ type: 'Ready', status: 'True', lastHeartbeatTime: new Date().toISOString() }],
      daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
    };
    await control.call('PUT', `/api/v1/nodes/${name}/status`, { ...now, status });
  }

  async function place(pod: ApiPod): Promise<void> {
    const { namespace, name, uid } = pod.metadata;
    const node = nodes.get(pod.spec.nodeName ?? '');
    if (node === undefined) return;
    const [netns, file] = [`p${++made}`, `${PODS}/${namespace}_${name}`];
    placed.set(uid, { node, netns, file });
    const args = `K8S_POD_NAMESPACE=${namespace};K8S_POD_NAME=${name}`;
    const { address } = await node.addPod(netns, { CNI_ARGS: args });
    await node.sh(`mkdir -p ${PODS}; echo ${netns} >${file}`);
    for (const { command, env = [] } of pod.spec.containers) {
      const [server = '', ...rest] = command;
      const variables = env.map((one) => `${one.name}=${one.value}`);
      const line = ['netns', 'exec', netns, 'env', ...variables, join(programs, server), ...rest];
      node.instance.spawn('ip', line, { stdio: 'ignore' }).unref();
    }
    const path = `/api/v1/namespaces/${namespace}/pods/${name}`;
    const now = await control.call<object>('GET', path);
    const startedAt = new Date().toISOString();
    const status = {
      ...{ phase: 'Running', podIP: address, podIPs: [{ ip: address }], startTime: startedAt },
      conditions: ['Ready', 'ContainersReady', 'Initialized'].map((type) => ({ type, status: 'True' })),
      containerStatuses: pod.spec.containers.map(({ name: container, image }) => ({
        ...{ name: container, image, imageID: image, ready: true, restartCount: 0 },
        state: { running: { startedAt } },
      })),
    };
    await control.call('PUT', `${path}/status`, { ...now, status });
  }

  async function remove(uid: string): Promise<void> {
    const found = placed.get(uid);
    placed.delete(uid);
    if (found === undefined) return;
    const { node, netns, file } = found;
    await node.sh(`rm -f ${file}; ip netns pids ${netns} | xargs -r kill -9`);
    await node.cni('DEL', variablesOf(netns, `/run/netns/${netns}`));
    await node.sh(`ip netns del ${netns}`);
  }

  const over = { yet: false };
  const ended = (async () => {
    for (let beatAt = 0; !over.yet; await delay(200)) {
      if (performance.now() >= beatAt) {
        for (const [name, node] of nodes) await beat(name, node);
        beatAt = performance.now() + HEARTBEAT_MS;
      }
      const { items } = await control.call<{ items: ApiPod[] }>('GET', '/api/v1/pods');
      const there = new Set(items.map(({ metadata }) => metadata.uid));
      for (const uid of placed.keys()) if (!there.has(uid)) await remove(uid);
      for (const pod of items) if (!placed.has(pod.metadata.uid)) await place(pod);
    }
  })();
  // A failure reaches the caller that waits for `end`.
  ended.catch(() => undefined);

  return {
    end: async () => {
      over.yet = true;
      await ended;
      for (const one of executors) one.kill();
      for (const uid of placed.keys()) await remove(uid);
    },
  };
}
