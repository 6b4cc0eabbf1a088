// time limit: 300 s
// Hostile pods on simulated nodes: the attempts of test/hostile that need no real ipvlan.
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { stringify } from 'yaml';
import { startCloud } from '../aws/index.ts';
import { portName } from '../aws/network/network.ts';
import { configText } from '../boot/node.ts';
import { fieldOf, NODE_CONFIG, NODE_TYPE, PROGRAM, placePods } from '../hostile/field.ts';
import { type Outcome, playHostile, problemsOf } from '../hostile/run.ts';
import { bootPodNode, kernelHasIpvlan, type PodNode, variablesOf } from './rig.ts';

for (const family of ['dual-stack', 'ipv4'] as const)
  test(`no attempt of a hostile pod gets through, ${family}`, async () => {
    const problems = problemsOf(await play(family));
    if (problems.length > 0) throw new Error(problems.join('\n'));
  });

async function play(family: 'dual-stack' | 'ipv4'): Promise<Outcome> {
  const cloud = await startCloud({ ipv6: family === 'dual-stack' });
  try {
    const { pods, pool } = NODE_CONFIG;
    const more = stringify({ pool, kubernetes: { serviceCidrs: serviceCidrs(family) } });
    const config = configText(cloud, more, {
      addressing: pods.addressing,
      max: String(pods.max),
      ipFamily: family,
    });
    const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
    const [one, two] = await Promise.all(
      zones.map(({ id }) =>
        bootPodNode(cloud, { type: NODE_TYPE, subnet: id, config, imds: { hopLimit: 64 } }),
      ),
    );
    if (one === undefined || two === undefined) throw new Error('two nodes were asked for');
    for (const { instance } of [one, two]) {
      // As the image's sysctl.d leaves a node: strict, but for the boot ENI.
      const boot = instance.deviceOf(instance.bootEni.id);
      await instance.run('sh', [
        '-ec',
        `cd /proc/sys/net/ipv4/conf; echo 0 >all/rp_filter
        for device in *; do case $device in all|${boot}) ;; *) echo 1 >$device/rp_filter;; esac; done`,
      ]);
    }
    const deletePod = async (name: string) => {
      const { exit, stdout } = await one.cni('DEL', variablesOf(name, `/run/netns/${name}`));
      assert.is(exit, 0, stdout);
      await one.sh(`ip netns pids ${name} | xargs -r kill; ip netns del ${name}`);
    };
    const places = await placePods({ ...one, deletePod }, two);
    const hosts: Record<string, PodNode> = { one, two };
    const sh = async (host: string, script: string): Promise<string> => {
      const node = hosts[host];
      if (node === undefined)
        return (await promisify(execFile)('sh', ['-ec', script], { timeout: 60_000 })).stdout;
      const result = await node.instance.run('sh', ['-ec', script], { timeoutMs: 60_000 });
      if (result.exitCode !== 0)
        throw new Error(`${host}: ${script.slice(-500)}: ${result.stdout}${result.stderr}`);
      return result.stdout;
    };
    const [, eni] = one.instance.enis;
    const outcome = await playHostile(
      {
        ipvlan: kernelHasIpvlan(),
        stages: ['plain', 'loose', 'nftables'],
        wait: 1,
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
      (line) => process.stdout.write(`${line}\n`),
    );
    if (process.env['DEBUG_ROWS']) writeFileSync(`/tmp/rows-${family}.json`, JSON.stringify(outcome));
    return outcome;
  } finally {
    await cloud.stop();
  }
}

function serviceCidrs(family: string): string[] {
  return ['172.20.0.0/16', ...(family === 'ipv4' ? [] : ['fd00:10:96::/108'])];
}

test.run();
