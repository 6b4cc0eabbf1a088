// What the guards cost: each path they sit on with and without them, one after the other in every round, as ratios.
import { type Spread, spread } from '../bench/report.ts';
import type { PodNode } from './node.ts';
import type { Pair } from './pair.ts';
import { type Figures, measuring } from './paths.ts';

const ROUNDS = 12;

/** With the guards beside without, of each round: above 1 is a loss. */
export interface GuardCost {
  rounds: number;
  paths: Record<string, { latency: Spread; throughput: Spread }>;
}

/** Chains of table inet eniboot that are guards. */
const CHAINS = ['from_enis', 'from_pods', 'to_node', 'through_node', 'replies', 'imds', 'imds_out'];

export async function measureGuards(pair: Pair): Promise<GuardCost> {
  const { one, two, a, b, far } = pair;
  const nodes = [
    { node: one, pods: [a.id, b.id] },
    { node: two, pods: [far.id] },
  ];
  try {
    return await measuring(pair, async ({ measure, internet }) => {
      const paths: Record<string, () => Promise<Figures>> = {
        "within one ENI: the pod's chain": () => measure('ip netns exec a', b.address),
        "to another node: the pod's chain, the ENI's": () => measure('ip netns exec a', far.address),
        "to the Internet: the node's chains": () => measure('ip netns exec a', internet),
      };
      const ratios = Object.fromEntries(
        Object.keys(paths).map((name) => [name, { latency: [] as number[], throughput: [] as number[] }]),
      );
      let present: 'with' | 'without' | undefined;
      for (let round = 0; round < ROUNDS; round += 1) {
        const found: Record<'with' | 'without', Record<string, Figures>> = { with: {}, without: {} };
        // What drifts during a round weighs on both alike.
        for (const half of round % 2 === 0
          ? (['with', 'without'] as const)
          : (['without', 'with'] as const)) {
          // Each round begins with what the one before has ended with.
          if (half !== present)
            for (const { node, pods } of nodes)
              await (half === 'with' ? putBack(node, pods) : takeAway(node, pods));
          present = half;
          for (const [name, path] of Object.entries(paths)) found[half][name] = await path();
        }
        for (const [name, of] of Object.entries(ratios)) {
          const [guarded, open] = [found.with[name], found.without[name]];
          if (guarded === undefined || open === undefined) throw new Error(`${name} was not measured`);
          of.latency.push(guarded.us / open.us);
          of.throughput.push(open.mbit / guarded.mbit);
        }
      }
      return {
        rounds: ROUNDS,
        paths: Object.fromEntries(
          Object.entries(ratios).map(([name, of]) => [
            name,
            { latency: rounded(spread(of.latency)), throughput: rounded(spread(of.throughput)) },
          ]),
        ),
      };
    });
  } finally {
    for (const { node, pods } of nodes) await putBack(node, pods);
  }
}

async function takeAway(node: PodNode, pods: string[]): Promise<void> {
  const chains = [
    ...CHAINS.map((one) => `flush chain inet eniboot ${one}`),
    ...CHAINS.map((one) => `delete chain inet eniboot ${one}`),
  ];
  await node.sh(`nft '${chains.join('; ')}; delete table netdev eniboot'
    for pod in ${pods.join(' ')}; do ip netns exec $pod nft delete table netdev eniboot; done`);
}

/** By the unit, in its sandbox. */
async function putBack(node: PodNode, pods: string[]): Promise<void> {
  await node.sh(`systemctl start eniboot-repair.service
    nft list chain inet eniboot from_pods
    for pod in ${pods.join(' ')}; do ip netns exec $pod nft list chain netdev eniboot own_source; done`);
}

function rounded(of: Spread): Spread {
  return Object.fromEntries(
    Object.entries(of).map(([name, value]) => [name, Math.round(value * 1000) / 1000]),
  ) as unknown as Spread;
}
