// The cost of each path of a packet, compared with the node's own: ipvlan to another node, the unnumbered link to the Internet.
// The measurements are interleaved and reported as ratios: in an emulated machine the times themselves mean nothing.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { spread } from '../bench/report.ts';
import type { Pair } from './pair.ts';

const PORT = 5201;
const ROUNDS = 5;
const TOOL = '/usr/libexec/e2e/path.py';

export interface Figures {
  /** Microseconds from a byte sent to the answer: the median of a round. */
  us: number;
  /** Mbit/s of one TCP connection, from its first byte to the server's message that all bytes have come. */
  mbit: number;
}

export interface Paths {
  rounds: number;
  /** Medians over the rounds. */
  paths: Record<string, Figures>;
  /** A pod's path divided by the node's own path to the same place: times for latency, shares for throughput. */
  ratios: Record<string, { latency: number; throughput: number }>;
}

interface Measuring {
  /** @param place the command prefix of a place on node one. */
  measure(place: string, to: string): Promise<Figures>;
  /** Address of the server in the Internet. */
  internet: string;
}

/** Runs `work` while servers run on node two, in its pod, in pod `b` of node one and in the Internet. */
export async function measuring<T>(
  { one, two, cloud }: Pair,
  work: (measuring: Measuring) => Promise<T>,
): Promise<T> {
  const [internet = ''] = new URL(cloud.internet.curlTarget).hostname.split(':');
  const serveIn = (places: string) => `for place in ${places}; do
    setsid $place python3 ${TOOL} serve ${PORT} >/dev/null 2>&1 & done`;
  await two.sh(serveIn("'ip netns exec far' ''"));
  await one.sh(serveIn("'ip netns exec b'"));
  // The Internet is a namespace of the simulation.
  const server = spawn(
    'nsenter',
    [
      `--target=${cloud.internet.pid}`,
      '--net',
      'python3',
      join(import.meta.dirname, 'node', TOOL),
      'serve',
      `${PORT}`,
    ],
    { stdio: 'ignore' },
  );
  try {
    return await work({
      internet,
      measure: async (place, to) =>
        JSON.parse(await one.sh(`${place} python3 ${TOOL} measure ${to} ${PORT}`)) as Figures,
    });
  } finally {
    server.kill();
    for (const node of [one, two]) await node.sh(`pkill -f '${TOOL} serve' || :`);
  }
}

export async function measurePaths(pair: Pair): Promise<Paths> {
  return measuring(pair, async ({ measure, internet }) => {
    const paths = {
      'node to node': ['', pair.two.address],
      'pod to pod over ipvlan': ['ip netns exec a', pair.far.address],
      'node to the Internet': ['', internet],
      'pod to the Internet over the veth': ['ip netns exec a', internet],
    } as const;
    const found: Record<string, Figures[]> = {};
    for (let round = 0; round < ROUNDS; round += 1)
      for (const [name, [place, to]] of Object.entries(paths))
        (found[name] ??= []).push(await measure(place, to));
    const medians = Object.fromEntries(
      Object.entries(found).map(([name, all]) => [
        name,
        { us: spread(all.map(({ us }) => us)).median, mbit: spread(all.map(({ mbit }) => mbit)).median },
      ]),
    );
    const ratio = (pod: keyof typeof paths, node: keyof typeof paths) => {
      const [of, to] = [medians[pod], medians[node]];
      if (of === undefined || to === undefined) throw new Error(`${pod} was not measured`);
      return { latency: round2(of.us / to.us), throughput: round2(of.mbit / to.mbit) };
    };
    return {
      rounds: ROUNDS,
      paths: medians,
      ratios: {
        ipvlan: ratio('pod to pod over ipvlan', 'node to node'),
        veth: ratio('pod to the Internet over the veth', 'node to the Internet'),
      },
    };
  });
}

function round2(value: number): number {
  return Math.round(value * 100) / 100;
}
