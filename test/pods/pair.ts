// The two nodes that most cases share: two clusters, two zones of one VPC, pods on several ENIs. Booted once, for the first case
// that needs them.
import { type Cloud, startCloud } from '../aws/index.ts';
import type { Pod } from '../cni/rig.ts';
import type { Bench } from '../vm/bench.ts';
import { bootPodNode, type PodNode } from './node.ts';

export interface Pair {
  cloud: Cloud;
  /** Zone a, cluster one: two pod ENIs with three single addresses each. */
  one: PodNode;
  /** Zone b, cluster two: prefixes. */
  two: PodNode;
  /** On node one: `a` and `b` share the first ENI, `c` is on the second. */
  a: Pod;
  b: Pod;
  c: Pod;
  /** On node two. */
  far: Pod;
}

let pair: Promise<Pair> | undefined;

export function nodePair(bench: Bench): Promise<Pair> {
  pair ??= bootPair(bench);
  return pair;
}

/** Ends the nodes; also called for a case with nodes of its own, because there is one VPC at a time. */
export async function endPair(): Promise<void> {
  const shared = await pair?.catch(() => undefined);
  pair = undefined;
  await Promise.all([shared?.one.node.end(), shared?.two.node.end()]);
  await shared?.cloud.stop();
}

async function bootPair(bench: Bench): Promise<Pair> {
  const cloud = await startCloud();
  const zones = [...cloud.subnets.values()].filter((subnet) => subnet.mapPublicIp);
  const [one, two] = await Promise.all([
    bootPodNode(bench, cloud, 'one', {
      // Three ENIs of four addresses.
      type: 't3.small',
      subnet: zones[0]?.id ?? '',
      config: {
        cluster: 'one',
        pods: { addressing: 'addresses', max: 6 },
        pool: { lowWater: 0, restSeconds: 1 },
      },
    }),
    bootPodNode(bench, cloud, 'two', {
      type: 'm5.large',
      subnet: zones[1]?.id ?? '',
      config: { cluster: 'two', pods: { max: 16 }, pool: { lowWater: 0, restSeconds: 1 } },
    }),
  ]);
  const [a, b] = [await one.addPod('a'), await one.addPod('b')];
  // This pod gets the first ENI's third address: the next pod is on the second ENI.
  await one.addPod('third');
  const c = await one.addPod('c');
  await one.deletePod('third');
  const far = await two.addPod('far');
  await Promise.all([ready(one, ['', 'a', 'b', 'c']), ready(two, ['', 'far'])]);
  return { cloud, one, two, a, b, c, far };
}

async function ready(node: PodNode, places: string[]): Promise<void> {
  await node.serve(places);
  await node.capture(places);
}
