// Pods are made and deleted under load.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Facts, failures, noneFailed, once, tally } from './answers.ts';
import { DRAIN_MS, type RunningPod } from './kubelet.ts';
import { type Load, patient, until } from './place.ts';
import { ADMIN_PORT } from './sidecar.ts';
import type { World } from './world.ts';

/** Milliseconds between the slice that says ready and the first request. */
const NEW_MS = 2000;
const ROUNDS = 3;

export async function comeAndGo(world: World): Promise<Facts> {
  const watch = watchResting(world);
  let turns: Facts;
  try {
    turns = await turnOver(world);
  } finally {
    await watch.stop();
  }
  assert.ok(watch.looks() > 0, 'no address rested while it was looked');
  assert.deepEqual([...watch.violations], [], 'an address that rests was an endpoint');
  return {
    ...turns,
    'looks at resting addresses beside endpoints, none of them one': watch.looks(),
    ...(await byForce(world)),
  };
}

async function turnOver({ a, clients }: World): Promise<Facts> {
  const load = clients.a.place.load(100, once('echo'));
  const first: number[] = [];
  const last: number[] = [];
  for (let round = 1; round <= ROUNDS; round += 1) {
    const pod = await a.serve('echo', `new-${round}`, round % 2);
    const said = await a.saidReady('echo', pod.address);
    const took = await firstAnswer(load, pod, said);
    assert.ok(
      took <= patient(NEW_MS),
      `${pod.name} got its first request ${took} ms after its slice said ready`,
    );
    first.push(took);
    const { at } = await pod.remove();
    const late = Math.max(...answersOf(load, pod).map((one) => one.at)) - at;
    assert.ok(late <= patient(DRAIN_MS), `${pod.name} got a request ${late} ms after it was deleted`);
    last.push(late);
  }
  const answers = await load.end();
  noneFailed('pods that come and go, without retries', answers);
  return {
    'pods that came and went': ROUNDS,
    'requests without retries, none lost': answers.length,
    'first request after the slice said ready, at most, ms': Math.round(Math.max(0, ...first)),
    'last request after the deletion, at most, ms': Math.round(Math.max(0, ...last)),
  };
}

/**
 * `--force`: the pod does not drain. Its address rests while sidecars still have it for a moment; that is the purpose
 * of the rest.
 */
async function byForce({ a, clients }: World): Promise<Facts> {
  const pod = await a.serve('echo', 'forced', 0);
  const load = clients.a.place.load(50, 'echo', once('echo'));
  await firstAnswer(load, pod, Date.now());
  const { released } = await pod.removeByForce();
  await until(
    'the address is no endpoint',
    10_000,
    async () => !(await endpointsOf(clients.a)).includes(pod.address),
  );
  const goneMs = Date.now() - released;
  await delay(500);
  const answers = await load.end();
  const retried = answers.filter(({ to }) => to === 'echo');
  noneFailed('a pod deleted by force, with retries', retried);
  const single = answers.filter(({ to }) => to === once('echo'));
  return {
    'deleted by force: requests lost with retries': failures(retried).length,
    'deleted by force: requests lost without': `${failures(single).length} of ${single.length}`,
    'deleted by force: the address was an endpoint for, at most, ms': Math.max(0, goneMs),
  };
}

function answersOf(load: Load, pod: RunningPod) {
  return load.answers.filter(({ answer }) => answer?.by === pod.name);
}

/** Milliseconds from `since` to the first request that this pod answered. */
async function firstAnswer(load: Load, pod: RunningPod, since: number): Promise<number> {
  await until(
    `${pod.name} answers: ${JSON.stringify(tally(load.answers))}`,
    10_000,
    () => answersOf(load, pod).length > 0,
  );
  return (answersOf(load, pod)[0]?.at ?? 0) - since;
}

/** Addresses to which a sidecar would send requests now. */
async function endpointsOf({ place }: RunningPod): Promise<string[]> {
  const said = await place.output('curl', '-s', `http://127.0.0.1:${ADMIN_PORT}/clusters`);
  return [...said.matchAll(/^[^:]+::([0-9.]+):\d+::cx_active::/gm)].map(([, address = '']) => address);
}

/** Looks during other work for resting addresses that are endpoints of a control plane or of a sidecar. */
function watchResting({ a, b, clients }: World) {
  const end = new AbortController();
  const violations = new Set<string>();
  let looks = 0;
  // The pool has a file for each address, whose name contains the address. The file is in `cooling` when the address
  // has had a pod.
  const resting = () =>
    [a, b].flatMap(({ nodes }) =>
      nodes.flatMap(({ node }) =>
        readdirSync(join(node.instance.root, 'run/eniboot/pool/cooling')).map(
          (name) => name.split(',')[0] ?? '',
        ),
      ),
    );
  const looking = (async () => {
    while (!end.signal.aborted) {
      const before = resting();
      const states = await Promise.all([a.state(), b.state()]);
      const known = [
        ...states.flatMap(({ mesh }) =>
          Object.values(mesh).flatMap((one) => one.map(({ address }) => address)),
        ),
        ...(await endpointsOf(clients.a)),
      ];
      // An address that rested before and after has rested all the time in between: no pod gets an address before it
      // has rested for a minute.
      const after = resting();
      for (const address of before)
        if (after.includes(address) && known.includes(address)) violations.add(address);
      if (before.length > 0) looks += 1;
      await delay(50);
    }
  })();
  return {
    violations,
    looks: () => looks,
    stop: async () => {
      end.abort();
      await looking;
    },
  };
}
