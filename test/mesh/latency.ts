// Times a request through both sidecars from node to node. Requests from pod to pod and requests between programs with
// host network alternate in one run, so that other load of the machine affects both alike.
import assert from 'node:assert/strict';
import { type Facts, known, noneFailed } from './answers.ts';
import type { World } from './world.ts';

const ROUNDS = 12;
const WARM = 100;
const COUNT = 300;

export async function latency(world: World): Promise<Facts> {
  const { a, clients } = world;
  const host = await a.serve('on-host', 'on-host', 1, true);
  const pod = await a.serve('in-pod', 'in-pod', 1);
  const client = await a.nodes[0]?.run({ name: 'host-client', labels: {}, meshed: true, hostNetwork: true });
  assert.ok(client !== undefined);
  const pairs = {
    pods: { place: clients.a.place, service: 'in-pod' },
    'host network': { place: client.place, service: 'on-host' },
  };
  const times: Record<string, number[]> = { pods: [], 'host network': [] };
  for (const { place, service } of Object.values(pairs)) await known(place, service);
  for (let round = 0; round < ROUNDS; round += 1)
    for (const [name, { place, service }] of Object.entries(pairs)) {
      const answers = await place.ask(service, WARM + COUNT);
      noneFailed(name, answers);
      times[name]?.push(...answers.slice(WARM).map(({ ms }) => ms));
    }
  await Promise.all([host.remove(), pod.remove(), client.remove()]);
  const at = (name: string, share: number) => {
    const sorted = [...(times[name] ?? [])].sort((x, y) => x - y);
    return sorted[Math.ceil(share * sorted.length) - 1] ?? 0;
  };
  const facts: Facts = { 'requests of each kind': ROUNDS * COUNT };
  for (const [what, share] of [
    ['p50', 0.5],
    ['p99', 0.99],
  ] as const) {
    for (const name of Object.keys(pairs)) facts[`${what}, ${name}, ms`] = Number(at(name, share).toFixed(3));
    facts[`${what}, pods / host network`] = Number(
      (at('pods', share) / at('host network', share)).toFixed(2),
    );
  }
  return facts;
}
