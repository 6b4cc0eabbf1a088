// The migration of the talk: a service on an instance gets pods beside it in both clusters, and then loses the
// instance.
import assert from 'node:assert/strict';
import { type Facts, known, next, noneFailed, once, tally } from './answers.ts';
import { until } from './place.ts';
import type { World } from './world.ts';

export async function migration(world: World): Promise<Facts> {
  const { a, b, clients, announceLegacy } = world;
  await announceLegacy('ledger', true);
  await Promise.all([known(clients.a.place, 'ledger'), known(clients.b.place, 'ledger')]);
  const loads = [clients.a.place.load(50, once('ledger')), clients.b.place.load(50, once('ledger'))];
  const facts: Facts = {};
  const step = async (what: string): Promise<Record<string, number>> => {
    const answers = (await Promise.all(loads.map((load) => next(load, 100)))).flat();
    const shares = tally(answers);
    const percent = Object.entries(shares).map(
      ([by, count]) => `${by} ${((count / answers.length) * 100).toFixed(0)} %`,
    );
    facts[what] = percent.sort().join(', ');
    return shares;
  };
  assert.deepEqual(Object.keys(await step('instance alone')), ['legacy']);
  const answersFrom = (pod: string) =>
    until(`${pod} answers`, 10_000, () =>
      loads.some((load) => load.answers.some(({ answer }) => answer?.by === pod)),
    );
  const pods = [await a.serve('ledger', 'ledger-a')];
  await answersFrom('ledger-a');
  const beside = await step('a pod of cluster a beside it');
  assert.ok((beside['legacy'] ?? 0) > 0 && (beside['ledger-a'] ?? 0) > 0, 'both answer');
  pods.push(await b.serve('ledger', 'ledger-b'));
  await answersFrom('ledger-b');
  const both = await step('a pod of each cluster beside it');
  assert.ok(
    ['legacy', 'ledger-a', 'ledger-b'].every((one) => (both[one] ?? 0) > 0),
    'all three answer',
  );
  await announceLegacy('ledger', false);
  const withdrawn = Date.now();
  await until('the instance gets no request', 5000, () => {
    const recent = loads.flatMap(({ answers }) => answers.filter(({ at }) => at > Date.now() - 300));
    return recent.length > 0 && !Object.keys(tally(recent)).includes('legacy');
  });
  assert.deepEqual(Object.keys(await step('pods alone')).sort(), ['ledger-a', 'ledger-b']);
  const answers = (await Promise.all(loads.map((load) => load.end()))).flat();
  noneFailed('the migration', answers);
  const last = Math.max(...answers.filter(({ answer }) => answer?.by === 'legacy').map(({ at }) => at));
  await Promise.all(pods.map((pod) => pod.remove()));
  return {
    ...facts,
    'requests without retries, none lost': answers.length,
    'last request to the instance after it was withdrawn, ms': Math.round(Math.max(0, last - withdrawn)),
  };
}
