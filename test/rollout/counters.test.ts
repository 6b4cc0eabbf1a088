// Counters of faults since a node's switch count at the gates, beside its health at that moment. Modelled nodes, virtual time.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import type { Judgement } from '../../agent/rollout/judge.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import { takenBack } from '../../agent/rollout/progress.ts';
import { takeRecord } from '../../agent/rollout/record.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { CLUSTER, createFleet, type Fleet, NEW, OLD, onFleetTime, operatorOf } from './fleet.ts';

const never = new AbortController().signal;
const owner = { who: 'test', token: 'token' };

/** `from` gives the counters of a node, by zone and place; every gate reads them. */
async function rollOut(gate: string, from: (zone: number, node: number) => unknown) {
  const fleet = createFleet({ zones: [20, 30] });
  let before = 0;
  for (const [zone, count] of [20, 30].entries()) {
    for (const [at, node] of fleet.nodes.slice(before, before + count).entries())
      node.counters = from(zone, at);
    before += count;
  }
  const { aws, clock } = operatorOf(fleet);
  const judgements: Judgement[] = [];
  const spec = loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${NEW} } }
where: { cluster: ${CLUSTER} }
bake: { canarySeconds: 60, shareSeconds: 60, zoneSeconds: 60 }
${gate}
`,
  );
  const progress = await onFleetTime(
    fleet,
    (async () => {
      const record = await beginRollout(aws, clock, owner, await prepare(aws, spec));
      const tell = (one: { kind: string; judgement?: Judgement }) => {
        if (one.judgement !== undefined) judgements.push(one.judgement);
      };
      return orchestrate({ aws, clock, record, tell, stopped: never });
    })(),
  );
  return { fleet, progress, judgements };
}

const touched = (fleet: Fleet) => fleet.nodes.filter((node) => node.runs > 0).length;
const none = { restarts: 0, failedAdds: 0, drops: 0 };

for (const [what, gate, counters, why] of [
  [
    'whose unit restarted during the wait',
    '',
    { ...none, restarts: 1 },
    "1 restarts of eniboot's units since the switch, 0 may be",
  ],
  ['on which six ADDs failed', '', { ...none, failedAdds: 6 }, '6 failed ADDs since the switch, 5 may be'],
  [
    'that drops packets, where a limit is set',
    'gate: { counters: { drops: 10 } }',
    { ...none, drops: 11 },
    '11 packets dropped by guards since the switch, 10 may be',
  ],
  [
    'that does not report a counter of the spec',
    'gate: { counters: { restarts: 3 } }',
    undefined,
    "it does not say how many restarts of eniboot's units there were since the switch",
  ],
  [
    'that reports only some counters',
    'gate: { counters: { failedAdds: 3 } }',
    { restarts: 0 },
    'it does not say how many failed ADDs there were since the switch',
  ],
  [
    'that reports a text as a counter',
    '',
    { restarts: 'none' },
    'exit 0 without a report|the node reported nothing',
  ],
  ['that reports a negative counter', '', { ...none, restarts: -1 }, 'the node reported nothing'],
] as const)
  test(`a canary ${what} is found at its gate, before a second node is touched`, async () => {
    const { fleet, progress, judgements } = await rollOut(gate, (zone, node) =>
      zone === 0 && node === 0 ? counters : none,
    );
    assert.is(progress.state, 'halted');
    assert.match(progress.why ?? '', /^gate behind the wait after the canary in euw1-az1: the canary failed/);
    assert.match(progress.why ?? '', new RegExp(why));
    assert.match(judgements.at(-1)?.reason ?? '', new RegExp(why));
    assert.is(touched(fleet), 1);
    // A rollback brings it back, as any node that has failed.
    const { aws, clock } = operatorOf(fleet);
    const back = await onFleetTime(
      fleet,
      (async () => {
        const record = await takeRecord(aws, clock, owner, CLUSTER);
        await record.save(takenBack(record.rollout, record.progress, clock.now().getTime()));
        return orchestrate({ aws, clock, record, tell: () => {}, stopped: never });
      })(),
    );
    assert.is(back.state, 'rolled-back', back.why);
    assert.ok(fleet.nodes.every((node) => node.version === OLD));
  });

for (const [what, gate, counters] of [
  ['at their limits', '', { restarts: 0, failedAdds: 5, drops: 1e9 }],
  [
    "within the spec's limits",
    'gate: { counters: { restarts: 2, failedAdds: 50, drops: 10 } }',
    { restarts: 2, failedAdds: 50, drops: 10 },
  ],
  ['of a version that does not count', '', undefined],
  ['of a node without systemd', '', { failedAdds: 0, drops: 0 }],
  ['with an unknown counter of a newer version', '', { ...none, futureFaults: 7 }],
] as const)
  test(`a rollout goes on with counters ${what}`, async () => {
    const { progress } = await rollOut(gate, () => counters);
    assert.is(progress.state, 'done', progress.why);
    assert.is(progress.updated, 50);
  });

test('after a zone the nodes that exceed a limit count against its budget', async () => {
  const { fleet, progress } = await rollOut('', (zone, node) =>
    zone === 0 && node > 10 ? { ...none, failedAdds: 100 } : none,
  );
  assert.is(progress.state, 'halted');
  assert.match(
    progress.why ?? '',
    /gate behind the wait after the zone .*9 nodes failed in euw1-az1, 0 may: i-\S+: 100 failed ADDs/,
  );
  assert.is(touched(fleet), 20);
});

test.run();
