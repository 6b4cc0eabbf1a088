// The real kube-proxy and API server with simulated nodes, at full speed where a VM is emulated: what of Services needs
// no VM. ipvlan is a stand-in where this kernel has none. IPVS is left to the VM: few kernels have it.
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type PodNode } from '../cni/rig.ts';
import type { Bench } from '../vm/bench.ts';
import { type ControlPlane, startControlPlane } from './control.ts';
import { ensureBuilt, modules } from './fetch.ts';
import { announce, type Cluster, clean, type Facts, type Member, servicesWith } from './services.ts';

export async function onSimulatedNodes(bench: Bench): Promise<Facts> {
  const cloud = await startCloud();
  let control: ControlPlane | undefined;
  try {
    control = await startControlPlane(cloud, bench.work, []);
    const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
    const config = configText(cloud, `apiServer: { endpoint: "${control.url}", required: true }\n`);
    const boot = (zone: number) => bootPodNode(cloud, { config, subnet: zones[zone]?.id ?? '' });
    const [one, two] = [await boot(0), await boot(1)];
    const pods = {
      web: (await one.addPod('web')).address,
      client: (await one.addPod('client')).address,
      far: (await two.addPod('far')).address,
    };
    for (const pod of ['', 'web', 'client']) await serve(one, pod);
    for (const pod of ['', 'far']) await serve(two, pod);
    const cluster: Cluster = { cloud, control, one: memberOf('one', one), two: memberOf('two', two), pods };
    await register(cluster);
    await announce(cluster);
    return {
      ...(await servicesWith('iptables', cluster)),
      ...(await servicesWith('nftables', cluster)),
      ...(await clean(cluster)),
    };
  } finally {
    await control?.stop();
    await cloud.stop();
  }
}

const program = (module: (typeof modules)['pod'], name: string) =>
  join(
    ensureBuilt(module, () => {}),
    name,
  );

/** In a pod's namespace, or on the node itself (''). */
function at(pod: string, command: string[]): [file: string, args: string[]] {
  const [file = '', ...args] = pod === '' ? command : ['ip', 'netns', 'exec', pod, ...command];
  return [file, args];
}

/** The server of the tests' container image. */
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
  const proxy = program(modules.cluster, 'kube-proxy');
  let running: ChildProcess | undefined;
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
    startProxy: async () => {
      const shell = `exec ${proxy} --config=/var/lib/kube-proxy/config.yaml >/run/kube-proxy.log 2>&1`;
      running = instance.spawn('sh', ['-c', shell], { stdio: 'ignore' });
    },
    proxyLog: () => node.sh('tail -n 40 /run/kube-proxy.log'),
    endProxy: async () => {
      const ended = new Promise((resolve) => running?.once('exit', resolve));
      running?.kill('SIGTERM');
      await ended;
      const { exitCode, stderr } = await instance.run(proxy, ['--cleanup']);
      assert.equal(exitCode, 0, stderr);
    },
  };
}

/** What kubelet does with a node of its own. */
async function register({ control, one, two }: Cluster): Promise<void> {
  for (const { name, address } of [one, two]) {
    const node = await control.call<object>('POST', '/api/v1/nodes', { metadata: { name } });
    const status = { addresses: [{ type: 'InternalIP', address }] };
    await control.call('PUT', `/api/v1/nodes/${name}/status`, { ...node, status });
  }
}
