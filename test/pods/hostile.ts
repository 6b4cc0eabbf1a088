// Hostile pods on a real ipvlan: the attempts of test/hostile, on nodes of their own, which the attempts damage.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { startCloud } from '../aws/index.ts';
import { fieldOf, NODE_CONFIG, NODE_TYPE, PROGRAM, placePods } from '../hostile/field.ts';
import { type Outcome, playHostile, problemsOf } from '../hostile/run.ts';
import type { Bench } from '../vm/bench.ts';
import { dualStackCloud } from './dual-stack.ts';
import { bootPodNode, type PodNode } from './node.ts';

/** Path of attacker.py in the guest. */
export const GUEST_PROGRAM = '/usr/libexec/e2e/attacker.py';

/** Outcomes by the address families of pods. An error also has them, as `facts.hostile`. */
export async function playInVms(bench: Bench): Promise<Record<string, Outcome>> {
  const hostile: Record<string, Outcome> = {};
  try {
    const problems: string[] = [];
    for (const family of ['ipv4', 'dual-stack'] as const) {
      hostile[family] = await play(bench, family);
      problems.push(...problemsOf(hostile[family]).map((problem) => `${family}: ${problem}`));
    }
    if (problems.length > 0) throw new Error(problems.join('\n'));
    return hostile;
  } catch (error) {
    throw Object.assign(error as Error, { facts: { hostile } });
  }
}

async function play(bench: Bench, ipFamily: 'ipv4' | 'dual-stack'): Promise<Outcome> {
  const six = ipFamily === 'dual-stack';
  const cloud = await (six ? dualStackCloud() : startCloud());
  const nodes: PodNode[] = [];
  try {
    const config = {
      ...NODE_CONFIG,
      pods: { ...NODE_CONFIG.pods, ipFamily },
      kubernetes: { serviceCidrs: ['172.20.0.0/16', ...(six ? ['fd00:10:96::/108'] : [])] },
    };
    const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
    // Not the hop limit of IMDS must stop the pods here: it is set to its largest value.
    const booted = zones.map(({ id }, at) =>
      bootPodNode(bench, cloud, at === 0 ? 'one' : 'two', {
        ...{ type: NODE_TYPE, subnet: id, config, imds: { hopLimit: 64 } },
      }),
    );
    nodes.push(...(await Promise.all(booted)));
    const [one, two] = nodes;
    if (one === undefined || two === undefined) throw new Error('a node is missing');
    const sh = async (host: 'one' | 'two' | 'vpc', script: string): Promise<string> => {
      if (host !== 'vpc') return (host === 'one' ? one : two).sh(script, 300_000 * bench.patience);
      return (await promisify(execFile)('sh', ['-ec', script], { timeout: 60_000 })).stdout;
    };
    const pods = await placePods(withIpv6(one), withIpv6(two));
    const eni = one.node.instance.enis[1]?.id ?? '';
    return await playHostile(
      {
        ipvlan: true,
        stages: ['plain', 'loose', 'iptables', 'ipvs', 'nftables'],
        wait: Math.min(12, Math.ceil(4 * bench.patience)),
        program: { one: GUEST_PROGRAM, two: GUEST_PROGRAM, vpc: PROGRAM },
        eniPort: one.node.instance.deviceOf(eni) ?? '',
        internetPid: cloud.internet.pid,
        field: () => fieldOf(cloud, one.node.instance, two.node.instance, pods, sh),
        sh,
        renew: async () => {
          await one.sh('ip netns pids d | xargs -r kill');
          await one.deletePod('d');
          pods.d = await withIpv6(one).addPod('d');
        },
      },
      (line) => process.stdout.write(`    ${line}\n`),
    );
  } finally {
    await Promise.all(nodes.map((node) => node.node.end()));
    await cloud.stop();
  }
}

/** Adds a pod's IPv6 address, from its result. */
function withIpv6(node: PodNode) {
  return {
    deletePod: node.deletePod,
    addPod: async (name: string) => {
      const pod = await node.addPod(name);
      const ips = pod.result.ips as { address: string }[];
      return { address: pod.address, address6: ips[1]?.address.split('/')[0] };
    },
  };
}
