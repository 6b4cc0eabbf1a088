// Hostile pods on simulated nodes: the attacks of test/hostile that need no real ipvlan.
import { execFile } from 'node:child_process';
import { loadavg } from 'node:os';
import { promisify } from 'node:util';
import * as assert from 'uvu/assert';
import { stringify } from 'yaml';
import { startCloud } from '../aws/index.ts';
import { portName } from '../aws/network/network.ts';
import { configText } from '../boot/node.ts';
import { fieldOf, NODE_CONFIG, NODE_TYPE, PROGRAM, placePods } from '../hostile/field.ts';
import { type Outcome, playHostile } from '../hostile/run.ts';
import { bootPodNode, kernelHasIpvlan, variablesOf } from './rig.ts';

export async function playNatively(family: 'dual-stack' | 'ipv4'): Promise<Outcome> {
  const cloud = await startCloud({ ipv6: family === 'dual-stack' });
  try {
    const { pods, pool } = NODE_CONFIG;
    const serviceCidrs = ['172.20.0.0/16', ...(family === 'ipv4' ? [] : ['fd00:10:96::/108'])];
    const config = configText(cloud, stringify({ pool, kubernetes: { serviceCidrs } }), {
      addressing: pods.addressing,
      max: String(pods.max),
      ipFamily: family,
    });
    const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
    const [one, two] = await Promise.all(
      zones.map(({ id }) =>
        // Not the hop limit of IMDS must stop the pods here: it is set to its largest value.
        bootPodNode(cloud, { type: NODE_TYPE, subnet: id, config, imds: { hopLimit: 64 } }),
      ),
    );
    if (one === undefined || two === undefined) throw new Error('a node is missing');
    const sh = async (host: 'one' | 'two' | 'vpc', script: string): Promise<string> => {
      if (host === 'vpc')
        return (await promisify(execFile)('sh', ['-ec', script], { timeout: 60_000 })).stdout;
      const { instance } = host === 'one' ? one : two;
      const result = await instance.run('sh', ['-ec', script], { timeoutMs: 60_000 });
      if (result.exitCode === 0) return result.stdout;
      throw new Error(`${host}: ${script.slice(-500)}: ${result.stdout}${result.stderr}`);
    };
    for (const [host, { instance }] of [
      ['one', one],
      ['two', two],
    ] as const) {
      // The reverse-path filters as the image's sysctl.d sets them: strict, except on the boot ENI.
      const boot = instance.deviceOf(instance.bootEni.id);
      await sh(
        host,
        `cd /proc/sys/net/ipv4/conf; echo 0 >all/rp_filter
        for device in *; do case $device in all|${boot}) ;; *) echo 1 >$device/rp_filter;; esac; done`,
      );
    }
    const deletePod = async (name: string) => {
      const { exit, stdout } = await one.cni('DEL', variablesOf(name, `/run/netns/${name}`));
      assert.is(exit, 0, stdout);
      await one.sh(`ip netns pids ${name} | xargs -r kill; ip netns del ${name}`);
    };
    const places = await placePods({ ...one, deletePod }, two);
    const [, eni] = one.instance.enis;
    return await playHostile(
      {
        ipvlan: kernelHasIpvlan(),
        stages: ['plain', 'loose', 'nftables'],
        // Seconds; more on a busy machine.
        wait: Math.min(4, Math.max(1, (loadavg()[0] ?? 0) / 4)),
        program: { one: PROGRAM, two: PROGRAM, vpc: PROGRAM },
        eniPort: eni === undefined ? '' : portName(eni),
        internetPid: cloud.internet.pid,
        field: () => fieldOf(cloud, one.instance, two.instance, places, sh),
        sh,
        renew: async () => {
          await deletePod('d');
          places.d = await one.addPod('d');
        },
      },
      () => {},
    );
  } finally {
    await cloud.stop();
  }
}
