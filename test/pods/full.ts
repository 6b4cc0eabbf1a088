// A node is filled with as many pods as it holds, and emptied again.
import assert from 'node:assert/strict';
import { setTimeout as delay } from 'node:timers/promises';
import { startCloud } from '../aws/index.ts';
import { conf, variablesOf } from '../cni/rig.ts';
import type { Bench } from '../vm/bench.ts';
import { bootPodNode, type PodNode } from './node.ts';
import { endPair } from './pair.ts';

export interface FullFacts {
  pods: number;
  /** Pods on each ENI. */
  perEni: number[];
  /** Milliseconds in the VM for one namespace and one ADD, one after another. */
  addMs: { p50: number; max: number };
  deleteMs: { p50: number; max: number };
  /** Number of pods that another pod asked, on another ENI where there is one. */
  asked: number;
  [figure: string]: unknown;
}

interface Filling {
  addressing: 'addresses' | 'prefixes';
  pods: number;
  kernelArguments: string[];
}

/** Pods that one round trip to the guest makes. */
const BATCH = 25;

/** Fills an m5.4xlarge: 8 ENIs of 30 addresses. */
export async function fill(bench: Bench, { addressing, pods, kernelArguments }: Filling): Promise<FullFacts> {
  await endPair();
  const cloud = await startCloud();
  const node = await bootPodNode(
    bench,
    cloud,
    'full',
    {
      type: 'm5.4xlarge',
      config: { pods: { addressing, max: pods }, pool: { lowWater: 0 }, boot: { deadlineSeconds: 1200 } },
    },
    kernelArguments,
  );
  try {
    await node.sh('mkdir -p /run/e2e');
    const names = Array.from({ length: pods }, (_, at) => `p${at}`);
    const added = await each(
      node,
      names,
      (name) => `ip netns add ${name}; ${call('ADD', name)} >/run/e2e/result-${name}`,
    );
    const results = await node.sh('cd /run/e2e; for file in result-*; do cat $file; done');
    const addresses = [...results.matchAll(/"address":"([0-9.]+)\//g)].map(([, address = '']) => address);
    assert.equal(addresses.length, pods, 'a result for each pod');
    assert.equal(new Set(addresses).size, pods, 'no address twice');
    const [, ...enis] = node.node.instance.enis;
    const leases = (await node.sh('ls /run/eniboot/pool/leased')).trim().split('\n');
    const perEni = enis.map((eni) => leases.filter((lease) => lease.includes(`,${eni.id},`)).length);
    assert.equal(leases.length, pods);

    if (addressing === 'addresses') {
      await node.sh('ip netns add more');
      const more = await node.cni('ADD', variablesOf('more', '/run/netns/more'));
      assert.equal(more.json?.code, 11, `one more than the node holds: ${more.stdout}`);
      const status = await node.cni('STATUS');
      assert.equal(status.exit, 0, 'a full node is a healthy node');
    }
    const asked = await askAround(
      node,
      sample(
        leases,
        enis.map((eni) => eni.id),
      ),
    );

    const deleted = await each(node, names, (name) => `${call('DEL', name)}; ip netns del ${name}`);
    assert.deepEqual(await node.leftovers(), []);
    await cloud.settled();
    assert.deepEqual(await cloud.network.spoofed(), []);
    return { pods, perEni, addMs: figures(added), deleteMs: figures(deleted), asked };
  } finally {
    await node.node.end();
    await cloud.stop();
  }
}

function call(command: string, name: string): string {
  const variables = Object.entries({ ...variablesOf(name, `/run/netns/${name}`), CNI_PATH: '/opt/cni/bin' });
  const environment = variables.map(([key, value]) => `${key}=${value}`).join(' ');
  return `echo '${JSON.stringify(conf)}' | CNI_COMMAND=${command} ${environment} /opt/cni/bin/eniboot`;
}

/** Runs a line for each pod, one after another, and resolves to how long each took there, in milliseconds. */
async function each(node: PodNode, names: string[], line: (name: string) => string): Promise<number[]> {
  const took: number[] = [];
  for (let from = 0; from < names.length; from += BATCH) {
    const script = names
      .slice(from, from + BATCH)
      .map((name) => `${line(name)}; cut -d' ' -f1 /proc/uptime >&2`);
    const { exitCode, stdout, stderr } = await node.node.machine.run(
      `set -e; cut -d' ' -f1 /proc/uptime >&2\n${script.join('\n')}`,
      600_000,
    );
    assert.equal(exitCode, 0, `${stdout}${stderr}`);
    const moments = stderr.trim().split('\n').map(Number);
    moments.forEach((moment, at) => at > 0 && took.push((moment - (moments[at - 1] ?? 0)) * 1000));
    process.stdout.write(`       ${from + script.length} of ${names.length}\n`);
    await delay(0);
  }
  return took;
}

/** The first and the last pod on each ENI. */
function sample(leases: string[], eniIds: string[]): { name: string; address: string }[] {
  return eniIds.flatMap((eniId) => {
    const here = leases.filter((lease) => lease.includes(`,${eniId},`));
    return [...new Set([here[0], here.at(-1)])].flatMap((lease) => {
      const [address = '', , name = ''] = lease?.split(',') ?? [];
      return lease === undefined ? [] : [{ name, address }];
    });
  });
}

/** Each sampled pod asks the pod after the next, which is on another ENI, and the server must see the client's own address. */
async function askAround(node: PodNode, pods: { name: string; address: string }[]): Promise<number> {
  await node.serve(pods.map(({ name }) => name));
  for (const [at, { name, address }] of pods.entries()) {
    const other = pods[(at + 2) % pods.length];
    assert.ok(other);
    assert.equal(await node.ask(name, `${other.address}:80`), address, `${name} asks ${other.name}`);
  }
  return pods.length;
}

function figures(ms: number[]): { p50: number; max: number } {
  const sorted = [...ms].sort((a, b) => a - b).map(Math.round);
  return { p50: sorted[Math.floor(sorted.length / 2)] ?? 0, max: sorted.at(-1) ?? 0 };
}
