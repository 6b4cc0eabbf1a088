// The cost of the guards: each path with and without them, one after the other in every round, as ratios.
import { type Spread, spread } from '../bench/report.ts';
import type { PodNode } from './node.ts';
import type { Pair } from './pair.ts';
import { type Figures, measuring } from './paths.ts';

const ROUNDS = 72;

/** With the guards, divided by without, for each round: above 1 is a loss. */
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
      await Promise.all(nodes.map(({ node, pods }) => keepBoth(node, pods)));
      for (let round = 0; round < ROUNDS; round += 1) {
        for (const [name, path] of Object.entries(paths)) {
          const found = {} as Record<Half, Figures>;
          // Both halves run within seconds, and each is first equally often: a drift affects both alike.
          for (const half of round % 2 === 0 ? HALVES : HALVES.toReversed()) {
            await Promise.all(nodes.map(({ node, pods }) => load(node, pods, half)));
            found[half] = await path();
          }
          ratios[name]?.latency.push(found.with.us / found.without.us);
          ratios[name]?.throughput.push(found.without.mbit / found.with.mbit);
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

const HALVES = ['with', 'without'] as const;
type Half = (typeof HALVES)[number];

/** Writes the rulesets of a node and its pods, with and without the guards, to files that nft loads in one transaction. */
async function keepBoth(node: PodNode, pods: string[]): Promise<void> {
  const keep = (half: Half) => `nft list ruleset >/run/guard-cost-${half}
    for pod in ${pods.join(' ')}; do ip netns exec $pod nft list ruleset >/run/guard-cost-${half}-$pod; done`;
  const chains = [
    ...CHAINS.map((one) => `flush chain inet eniboot ${one}`),
    ...CHAINS.map((one) => `delete chain inet eniboot ${one}`),
  ];
  // The timer of repair is masked here (test/pods/node).
  await node.sh(`${keep('with')}
    nft '${chains.join('; ')}; delete table netdev eniboot'
    for pod in ${pods.join(' ')}; do ip netns exec $pod nft delete table netdev eniboot; done
    ${keep('without')}
    for file in /run/guard-cost-*; do sed -i '1i flush ruleset' $file; done`);
}

async function load(node: PodNode, pods: string[], half: Half): Promise<void> {
  await node.sh(`nft -f /run/guard-cost-${half}
    for pod in ${pods.join(' ')}; do ip netns exec $pod nft -f /run/guard-cost-${half}-$pod; done`);
}

/** Restores the guards by the repair unit, in its sandbox. */
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
