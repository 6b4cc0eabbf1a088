// What happens to the mesh, and what must hold then. The cases share one world, in this order; the last case ends a
// cluster.
import assert from 'node:assert/strict';
import { clean } from '../node/services.ts';
import { type Facts, known, next, noneFailed, once, tally } from './answers.ts';
import { flows, forgetFlows } from './flows.ts';
import type { RunningPod } from './kubelet.ts';
import { latency } from './latency.ts';
import { lost } from './lost.ts';
import { migration } from './migration.ts';
import { type Load, until } from './place.ts';
import { proxied } from './proxied.ts';
import { comeAndGo } from './turnover.ts';
import type { World } from './world.ts';

export interface MeshCase {
  name: string;
  title: string;
  /** The case is part of `--quick`. */
  quick?: true;
  run(world: World): Promise<Facts>;
}

export const cases: readonly MeshCase[] = [
  {
    name: 'addresses',
    title: 'pods of both clusters and the instance ask one another: each is seen with its own address',
    quick: true,
    run: addresses,
  },
  {
    name: 'zones',
    title: 'the own zone first; the other cluster when the zone has no endpoint',
    quick: true,
    run: zones,
  },
  {
    name: 'turnover',
    title: 'pods come and go under load: no request is lost, no resting address is an endpoint',
    quick: true,
    run: comeAndGo,
  },
  {
    name: 'migration',
    title: 'a service moves from the instance to pods under load',
    run: migration,
  },
  {
    name: 'kube-proxy',
    title: 'the same packets with kube-proxy and without',
    run: proxied,
  },
  {
    name: 'latency',
    title: 'a request through both sidecars: pods beside host network',
    run: latency,
  },
  {
    name: 'cluster-lost',
    title: 'a cluster loses its API server, then all its nodes: the mesh goes on with the other',
    quick: true,
    run: lost,
  },
];

async function addresses(world: World): Promise<Facts> {
  const { a, b, legacy, clients, cloud } = world;
  const [inA, inB] = await Promise.all([a.serve('only-a', 'only-a', 1), b.serve('only-b', 'only-b', 1)]);
  await world.announceLegacy('only-legacy', true);
  forgetFlows();
  const askers = [clients.a, clients.b, legacy].map(({ place, address }) => ({ place, address }));
  const asked = { 'only-a': inA.address, 'only-b': inB.address, 'only-legacy': legacy.address };
  const facts: Facts = {};
  for (const { place, address } of askers)
    for (const [service, server] of Object.entries(asked)) {
      if (server === address) continue;
      await known(place, service);
      const answers = await place.ask(service, 10);
      noneFailed(`${place.name} asks ${service}`, answers);
      const seen = [...new Set(answers.map(({ answer }) => answer?.from))];
      assert.deepEqual(seen, [address], `${service} saw ${place.name} with another address than its own`);
      facts[`${place.name} (${address}) asks ${service} (${server}): seen`] = seen.join();
      const carried = flows().find((flow) => flow.from === address && flow.to === server);
      assert.ok(carried !== undefined, `the VPC carried nothing from ${address} to ${server}`);
    }
  // This includes the health checks of every sidecar: every sender to the mesh's port must be a member of the mesh.
  const pods = [inA, inB, ...world.echo.a, ...world.echo.b, clients.a, clients.b];
  const members = new Set([legacy.address, ...pods.map(({ address }) => address)]);
  const strangers = flows().filter(({ from, to }) => !members.has(from) || !members.has(to));
  assert.deepEqual(strangers, [], 'packets to the mesh with an address that no part of the mesh has');
  facts['pairs of addresses that the VPC carried, all of members'] = flows().length;
  for (const { state } of [a, b])
    assert.deepEqual((await state()).refused, [], 'no sidecar refused anything');
  await world.announceLegacy('only-legacy', false);
  await Promise.all([inA.remove(), inB.remove()]);
  return { ...facts, ...(await clean({ cloud })) };
}

async function zones({ a, b, clients, echo }: World): Promise<Facts> {
  const loads = { a: clients.a.place.load(50, once('echo')), b: clients.b.place.load(50, once('echo')) };
  await Promise.all([next(loads.a, 20), next(loads.b, 20)]);
  const [homeA, homeB] = await Promise.all([next(loads.a, 100), next(loads.b, 100)]);
  assert.deepEqual(Object.keys(tally(homeA, 'zone')), [a.zone], 'zone a asks zone a');
  assert.deepEqual(Object.keys(tally(homeB, 'zone')), [b.zone], 'zone b asks zone b');
  await setReady(echo.a, false);
  const awayMs = await only(loads.a, b.zone);
  const away = await next(loads.a, 100);
  assert.deepEqual(Object.keys(tally(away, 'zone')), [b.zone], 'without an endpoint in zone a, zone b');
  await setReady(echo.a, true);
  const backMs = await only(loads.a, a.zone);
  const back = await next(loads.a, 100);
  assert.deepEqual(Object.keys(tally(back, 'zone')), [a.zone], 'zone a again');
  const [allA, allB] = await Promise.all([loads.a.end(), loads.b.end()]);
  noneFailed('client of zone a', allA);
  noneFailed('client of zone b', allB);
  return {
    'requests without retries, none lost': allA.length + allB.length,
    'answers while the own zone had endpoints, all of it': homeA.length + homeB.length + back.length,
    'until the other cluster answered, ms': awayMs,
    'until the own zone answered again, ms': backMs,
  };
}

async function setReady(pods: readonly RunningPod[], ready: boolean): Promise<void> {
  await Promise.all(pods.map((pod) => pod.setReady(ready)));
}

/**
 * Waits until all answers of the last second are from this zone: as long as one of two endpoints still waits for its first
 * health check (at most a second), Envoy sends 30 % elsewhere (overprovisioning factor 1.4). Milliseconds from the call to the
 * last answer from another zone.
 */
async function only(load: Load, zone: string): Promise<number> {
  const started = Date.now();
  let lastOther = started;
  await until(`${zone} alone answers`, 10_000, () => {
    const other = load.answers.findLast(({ answer }) => answer?.zone !== zone);
    lastOther = Math.max(started, other?.at ?? started);
    const answered = load.answers.some(({ at }) => at > lastOther);
    return answered && Date.now() - lastOther >= 1_000;
  });
  return Math.round(lastOther - started);
}
