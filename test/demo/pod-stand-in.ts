// A stand-in for a pod where the kernel has no ipvlan: a namespace with a pool address behind one veth, which
// is the part of a pod's network that egress concerns.
import type { Instance } from '../aws/index.ts';

export interface PodStandIn {
  /** The answer to an HTTP GET sent from the pod address; empty when none came within 2 s. */
  fetch(url: string): Promise<string>;
  remove(): Promise<void>;
}

export async function createPodStandIn(instance: Instance, address: string): Promise<PodStandIn> {
  const script = `set -e
ip netns add pod
ip link add enbpod type veth peer name eth0 netns pod
ip link set enbpod up
ip route add ${address}/32 dev enbpod
ip -n pod link set lo up
ip -n pod addr add ${address}/32 dev eth0
ip -n pod link set eth0 up
ip -n pod route add default dev eth0
echo 1 > /proc/sys/net/ipv4/conf/enbpod/proxy_arp`;
  const result = await instance.run('sh', ['-c', script]);
  if (result.exitCode !== 0) throw new Error(`no stand-in for a pod: ${result.stderr}`);
  const client = `const r = require('node:http').get(process.argv[1], { timeout: 2000 }, (a) => { a.setEncoding('utf8'); a.on('data', (d) => process.stdout.write(d)); });
r.on('timeout', () => r.destroy()); r.on('error', () => process.exit(1));`;
  return {
    fetch: async (url) =>
      (
        await instance.run('ip', ['netns', 'exec', 'pod', process.execPath, '-e', client, url], {
          timeoutMs: 6_000,
        })
      ).stdout.trim(),
    remove: async () => {
      await instance.run('ip', ['netns', 'delete', 'pod']);
    },
  };
}
