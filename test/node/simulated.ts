// The real kube-proxy and API server without kubelet and container runtime, on two simulated nodes. This runs at full
// speed where a VM is emulated. A stand-in replaces ipvlan where this kernel has none, and IPVS is left out, since few
// kernels have it. In a second form node one is a VM, whose kernel has both.
import { join } from 'node:path';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type PodNode } from '../cni/rig.ts';
import { bootPodNode as bootVmNode } from '../pods/node.ts';
import { type ProxyMode, proxyModes } from '../pods/proxy.ts';
import type { Bench } from '../vm/bench.ts';
import { type ControlPlane, startControlPlane } from './control.ts';
import { ensureBuilt, modules } from './fetch.ts';
import {
  announce,
  type Cluster,
  clean,
  type Facts,
  type Member,
  namespacedProxy,
  servicesWith,
  vmProxy,
} from './services.ts';

export function onSimulatedNodes(bench: Bench): Promise<Facts> {
  return withProxy(bench, ['iptables', 'nftables'], async (cloud, config, subnet) => {
    const node = await bootPodNode(cloud, { config, subnet });
    const pods = { web: await node.addPod('web'), client: await node.addPod('client') };
    for (const pod of ['', 'web', 'client']) await serve(node, pod);
    return {
      one: memberOf('one', node),
      web: pods.web.address,
      client: pods.client.address,
      end: async () => {},
    };
  });
}

export function onVmNode(bench: Bench): Promise<Facts> {
  return withProxy(bench, proxyModes, async (cloud, _config, subnet) => {
    const node = await bootVmNode(bench, cloud, 'one', { subnet });
    const pods = { web: await node.addPod('web'), client: await node.addPod('client') };
    await node.serve(['', 'web', 'client']);
    const one: Member = {
      ...{ name: 'one', address: node.address, sh: node.sh, ask: node.ask, ...vmProxy(node.sh) },
      publicIp: node.node.instance.bootEni.publicIp ?? 'none',
      request: async (pod, url) => {
        await node.sh(`ip netns exec ${pod} curl -sk --max-time 20 ${url} || :`);
      },
    };
    return { one, web: pods.web.address, client: pods.client.address, end: () => node.node.end() };
  });
}

/** Node one, with its pods ready and serving. */
interface NodeOne {
  one: Member;
  web: string;
  client: string;
  end(): Promise<void>;
}

async function withProxy(
  bench: Bench,
  modes: readonly ProxyMode[],
  bootOne: (cloud: Cloud, config: string, subnet: string) => Promise<NodeOne>,
): Promise<Facts> {
  const cloud = await startCloud();
  let control: ControlPlane | undefined;
  let end: NodeOne['end'] | undefined;
  try {
    control = await startControlPlane(cloud, bench.work, []);
    const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
    const config = configText(cloud, `apiServer: { endpoint: "${control.url}", required: true }\n`);
    const two = await bootPodNode(cloud, { config, subnet: zones[1]?.id ?? '' });
    const far = (await two.addPod('far')).address;
    for (const pod of ['', 'far']) await serve(two, pod);
    const first = await bootOne(cloud, config, zones[0]?.id ?? '');
    end = first.end;
    const { one, web, client } = first;
    const cluster: Cluster = { cloud, control, one, two: memberOf('two', two), pods: { web, client, far } };
    for (const { name, address } of [cluster.one, cluster.two]) await registerNode(control, name, address);
    await announce(cluster);
    const facts: Facts = {};
    for (const mode of modes) Object.assign(facts, await servicesWith(mode, cluster));
    return { ...facts, ...(await clean(cluster)) };
  } finally {
    await end?.();
    await control?.stop();
    await cloud.stop();
  }
}

const program = (module: (typeof modules)['pod'], name: string) =>
  join(
    ensureBuilt(module, () => {}),
    name,
  );

/** A command in a pod's namespace, or on the node itself (''). */
function at(pod: string, command: string[]): [file: string, args: string[]] {
  const [file = '', ...args] = pod === '' ? command : ['ip', 'netns', 'exec', pod, ...command];
  return [file, args];
}

/** Starts the server of the tests' container image. */
async function serve({ instance, sh }: PodNode, pod: string): Promise<void> {
  instance.spawn(...at(pod, [program(modules.pod, 'pod'), 'serve']), { stdio: 'ignore' }).unref();
  const listening = at(pod, ['ss', '-Hltn', "'sport = :80'"]).flat().join(' ');
  await sh(`i=0
    until [ -n "$(${listening})" ]; do
      i=$((i + 1)); [ $i -lt 300 ] || { echo 'no server' >&2; exit 1; }; sleep 0.1
    done`);
}

function memberOf(name: string, node: PodNode): Member {
  const { instance } = node;
  const { bootEni } = instance;
  const ask = async (pod: string, to: string) => {
    const { stdout } = await instance.run(...at(pod, [program(modules.pod, 'pod'), 'ask', to]));
    return stdout.trim();
  };
  return {
    ...{ name, address: bootEni.primaryIp, publicIp: bootEni.publicIp ?? 'none', ask },
    request: async (pod, url) => {
      await ask(pod, url);
    },
    sh: (script) => node.sh(script),
    ...namespacedProxy(instance),
  };
}

/** Registers a node, as kubelet does. */
async function registerNode(control: ControlPlane, name: string, address: string): Promise<void> {
  const node = await control.call<object>('POST', '/api/v1/nodes', { metadata: { name } });
  const status = { addresses: [{ type: 'InternalIP', address }] };
  await control.call('PUT', `/api/v1/nodes/${name}/status`, { ...node, status });
}
