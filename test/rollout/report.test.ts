// The report of a rollout, as Markdown and as a page: gates, canaries, windows, Regions, and nodes that write markup.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { beginRollout, prepare } from '../../agent/rollout/begin.ts';
import type { Event } from '../../agent/rollout/mirror.ts';
import { orchestrate } from '../../agent/rollout/orchestrate.ts';
import type { Progress, Rollout } from '../../agent/rollout/progress.ts';
import { type ReportPart, reportHtml, reportMarkdown } from '../../agent/rollout/report.ts';
import { loadSpec } from '../../agent/rollout/spec.ts';
import { closedIn } from '../../agent/rollout/window.ts';
import {
  CLUSTER,
  createFleet,
  type Fleet,
  type FleetOptions,
  NEW,
  onFleetTime,
  operatorOf,
} from './fleet.ts';

interface Ran {
  region: string;
  rollout: Rollout;
  progress: Progress;
  events: Event[];
}

/** A whole rollout, with its events. */
async function ran(
  options: FleetOptions,
  lines: string[] = [],
  prepared: (fleet: Fleet) => void = () => {},
): Promise<Ran> {
  const fleet = createFleet(options);
  prepared(fleet);
  const spec = loadSpec(
    'rollout.yaml',
    `what: { bundle: { version: ${NEW} } }
where: { cluster: ${CLUSTER} }
bake: { canarySeconds: 60, shareSeconds: 60, zoneSeconds: 60 }
budget: { zonePercent: 20, fleetPercent: 20 }
${lines.join('\n')}
`,
  );
  const { aws } = operatorOf(fleet);
  const { clock } = fleet;
  const events: Event[] = [];
  const work = async () => {
    const owner = { who: 'test', token: 'test-token' };
    const record = await beginRollout(aws, clock, owner, await prepare(aws, spec));
    const progress = await orchestrate({
      aws,
      clock,
      record,
      stopped: new AbortController().signal,
      gate: async ({ after }) => ({ passed: after !== 'zone', said: `slo says ${after}` }),
      tell: (happening) => void events.push({ atMs: fleet.scheduler.now(), ...happening }),
    });
    return { region: 'eu-west-1', rollout: record.rollout, progress, events };
  };
  return onFleetTime(fleet, work());
}

const elsewhere = (one: Ran): Ran => ({ ...one, events: [] });

/** Rows of the table with this title, cell by cell. */
function rowsOf(parts: readonly ReportPart[], title: string): string[][] {
  const [, rest = ''] = reportMarkdown(parts).split(`## ${title}\n`);
  const table = rest.split('\n## ')[0] ?? '';
  const lines = table.split('\n').filter((line) => line.startsWith('|'));
  return lines.slice(2).map((line) =>
    line
      .split(/(?<!\\)\|/)
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

/** The page's HTML without its texts. */
const skeleton = (html: string) =>
  html
    .replace(/<style>.*?<\/style>/s, '')
    .match(/<[^>]*>/g)
    ?.map((tag) => /^<\/?\w+/.exec(tag)?.[0]);

test('gates: the report shows what each checked, its result, and which one stopped the rollout', async () => {
  const one = await ran({ zones: [12, 12] }, ['gate: { command: [slo] }']);
  assert.is(one.progress.state, 'halted');
  assert.equal(rowsOf([one], 'Gates'), [
    ['euw1-az1', 'after the canary', 'health of 1 nodes', 'passed', '1 good, 0 not'],
    ['euw1-az1', 'after the canary', 'gate.command', 'passed', 'slo says canary'],
    ['euw1-az1', 'after the share', 'health of 2 nodes', 'passed', '2 good, 0 not'],
    ['euw1-az1', 'after the share', 'gate.command', 'passed', 'slo says share'],
    ['euw1-az1', 'after the zone', 'health of 12 nodes', 'passed', '12 good, 0 not'],
    ['euw1-az1', 'after the zone', 'gate.command', 'stopped it', 'slo says zone'],
  ]);
  const far = rowsOf([elsewhere(one)], 'Gates');
  assert.equal(
    far.map((row) => row[3]),
    ['passed', 'passed', 'passed', 'passed', 'passed', 'stopped it'],
  );
  assert.match(
    far.at(-1)?.[4] ?? '',
    /gate\.command behind the wait after the zone in euw1-az1: slo says zone/,
  );
  assert.match(reportHtml([one]), /<td>stopped it<\/td><td>slo says zone<\/td>/);
});

test('gates: the report names nodes that were no longer healthy, and gates that were not reached', async () => {
  const one = await ran({ zones: [12, 12], behaviourOf: () => 'sickens' });
  assert.is(one.progress.state, 'halted');
  const [canary, ...others] = rowsOf([one], 'Gates');
  assert.is(canary?.[3], 'stopped it');
  assert.match(canary?.[4] ?? '', /^i-0+ unhealthy: .*; 0 good, 1 not$/);
  assert.ok(others.length > 0 && others.every((row) => row[3] === 'not reached'));
});

test('canaries: the report shows the stratum and outcome of each, and strata without a canary', async () => {
  // In the first zone 3 nodes may go first; the other strata are among its last nodes.
  const one = await ran(
    { zones: [12, 30] },
    ['budget: { zonePercent: 0, fleetPercent: 0 }'].slice(1),
    (fleet) => {
      for (const [at, node] of fleet.nodes.slice(0, 12).entries())
        fleet.typeOf.set(node.instanceId, `c${at < 4 ? 5 : at}i.large`);
    },
  );
  const canaries = rowsOf([one], 'Canaries');
  assert.is(canaries.length >= 3, true);
  assert.match(canaries[0]?.[2] ?? '', /^x64, ami-0123456789abcdef0, c5i$/);
  assert.ok(canaries.every((row) => row[3] === 'updated'));
  const bare = rowsOf([one], 'Without a canary');
  assert.ok(
    bare.some((row) => row[0] === 'euw1-az1' && row[2] === '1'),
    JSON.stringify(bare),
  );
  const { strata, ...old } = one.rollout;
  assert.ok(strata !== undefined);
  assert.match(reportMarkdown([{ ...one, rollout: old }]), /Not recorded: an older version of eniboot/);
});

test('canaries: the report shows the one that failed, and those that were not asked after it', async () => {
  const one = await ran({ zones: [12], behaviourOf: () => 'goes-back' }, ['steps: { canaries: 3 }']);
  assert.equal(
    rowsOf([one], 'Canaries').map((row) => row[3]),
    ['went-back', 'not judged', 'not judged'],
  );
});

test('windows: the report shows what waited and how long, from the events and from the record alone', async () => {
  // The rollout begins at midnight, UTC.
  const one = await ran({ zones: [8, 8] }, [
    "when: { timeZone: UTC, windows: [{ from: '02:00', to: '02:05' }, { from: '09:00', to: '12:00' }] }",
  ]);
  assert.is(one.progress.state, 'done');
  for (const part of [one, elsewhere(one)]) {
    const rows = rowsOf([part], 'Windows');
    assert.equal(rows[0]?.slice(0, 2), ['euw1-az1', 'canary']);
    assert.match(rows[0]?.[3] ?? '', / 02:00:00Z$/);
    assert.match(rows[0]?.[4] ?? '', /^(1 h 59|2 h 00) min$/);
    assert.match(rows[1]?.[3] ?? '', / 09:00:00Z$/, JSON.stringify(rows));
    assert.match(reportMarkdown([part]), /It has waited 8 h 5\d min for them\./);
    assert.match(reportMarkdown([part]), /only in mon, tue, wed, thu, fri, sat, sun 02:00–02:05; .* \(UTC\)/);
    const page = reportHtml([part]);
    assert.ok((page.match(/<rect class="shut"/g) ?? []).length >= 2);
    // A batch that waits is not shown as at work.
    assert.match(
      page,
      />2026-01-01 02:00:00Z<\/th><td>euw1-az1<\/td><td>canary(, 1 nodes)?<\/td><td>\d\d s</,
    );
  }
  assert.not.match(reportMarkdown([await ran({ zones: [2] })]), /Windows/);
});

const iso = (text: string) => Date.parse(`2026-${text}Z`);
test('closed times: over midnight, on some days, and at a change of the clocks', () => {
  const closed = (timeZone: string, days: string[], from: string, to: string, begin: string, end: string) =>
    closedIn({ timeZone, windows: [{ days: days as never, from, to }] }, iso(begin), iso(end)).map(
      ({ fromMs, toMs }) => [fromMs, toMs].map((ms) => new Date(ms).toISOString().slice(5, 16)).join(' '),
    );
  const all = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
  // 2026-01-01 is a Thursday.
  assert.equal(closed('UTC', all, '22:00', '02:30', '01-01T00:00:30', '01-02T01:00:00'), [
    '01-01T02:30 01-01T22:00',
  ]);
  assert.equal(closed('UTC', ['fri'], '09:00', '10:00', '01-01T08:00:00', '01-02T12:00:00'), [
    '01-01T08:00 01-02T09:00',
    '01-02T10:00 01-02T12:00',
  ]);
  // On 2026-03-29 at 01:00 UTC the clocks of Berlin go from 02:00 to 03:00.
  assert.equal(closed('Europe/Berlin', all, '03:00', '04:00', '03-29T00:00:00', '03-29T04:00:00'), [
    '03-29T00:00 03-29T01:00',
    '03-29T02:00 03-29T04:00',
  ]);
  assert.equal(closed('Asia/Kolkata', all, '09:00', '10:00', '01-01T03:00:00', '01-01T05:00:00'), [
    '01-01T03:00 01-01T03:30',
    '01-01T04:30 01-01T05:00',
  ]);
});

const EVIL = '"><script>alert(1)</script><img src=x onerror=y>\n# h\n| a | [b](http://c) `d` &amp;';
test('texts of nodes, programs and people are plain text in the page and in Markdown', async () => {
  const calm = await ran({ zones: [12, 12], behaviourOf: (node) => (node === 9 ? 'goes-back' : 'good') }, [
    'gate: { command: [slo] }',
  ]);
  const [canary] = calm.rollout.zones[0]?.nodes ?? [];
  const evilEvents = (said: string): Event[] =>
    calm.events.map((event) => {
      if (event.kind === 'node') return { ...event, judgement: { ...event.judgement, reason: said } };
      if (event.kind === 'gate') return { ...event, said };
      if (event.kind === 'halted') return { ...event, why: said };
      return event;
    });
  const part = (said: string): Ran => ({
    ...calm,
    region: said,
    rollout: {
      ...calm.rollout,
      startedBy: said,
      strata: {
        canaries: [{ zoneId: 'euw1-az1', instanceId: canary ?? '', standsFor: [said] }],
        uncovered: [{ zoneId: 'euw1-az1', stratum: said, nodes: 1 }],
      },
    },
    progress: { ...calm.progress, why: said },
    events: evilEvents(said),
  });
  for (const count of [1, 2]) {
    const evil = reportHtml(Array.from({ length: count }, () => part(EVIL)));
    const good = reportHtml(Array.from({ length: count }, () => part('harmless')));
    assert.equal(skeleton(evil), skeleton(good));
    assert.match(evil, /&lt;script&gt;/);
    const lines = (text: string) => text.split('\n').length;
    const [bad, fine] = [part(EVIL), part('harmless')].map((one) =>
      reportMarkdown(Array.from({ length: count }, () => one)),
    );
    assert.is(lines(bad ?? ''), lines(fine ?? ''));
    assert.not.match(bad ?? '', /(?<!\\)<script|(?<!\\)\[b\]|^# h/m);
  }
});

test('the page is self-contained: no script, no link but to its own sections, tables with headers for screen readers', async () => {
  const one = await ran({ zones: [12, 12] });
  const parts: ReportPart[] = [
    one,
    { ...elsewhere(one), region: 'us-east-1' },
    { region: 'ap-south-1', cluster: CLUSTER, version: NEW },
  ];
  const page = reportHtml(parts);
  assert.not.match(page, /<script|src=|href="[^#]|url\(|@import/);
  for (const [, target] of page.matchAll(/href="#([^"]+)"/g)) assert.match(page, `id="${target}"`);
  assert.is((page.match(/href="#/g) ?? []).length, 3);
  assert.match(page, /<h1>1\.1\.0 in 3 Regions<\/h1>/);
  assert.match(page, /Not begun: 1\.1\.0 has reached no node of modelled\./);
  assert.match(page, /color-scheme:light dark/);
  assert.match(page, /@media \(prefers-color-scheme:dark\)/);
  assert.is((page.match(/<svg [^>]*role="img" aria-label=/g) ?? []).length, 2);
  const tables = page.match(/<table .*?<\/table>/gs) ?? [];
  assert.ok(tables.length > 8);
  for (const table of tables) {
    assert.match(table, /^<table aria-label="/);
    assert.match(table, /<th scope="row">/);
  }
  // Every element is closed again, in order.
  const open: string[] = [];
  for (const [, end, name = ''] of page.matchAll(/<(\/?)(\w+)/g)) {
    if (name === 'meta') continue;
    if (end === '') open.push(name);
    else assert.is(open.pop(), name);
  }
  assert.equal(open, []);
  const text = reportMarkdown(parts);
  assert.match(text, /^# 1\.1\.0 in 3 Regions$/m);
  assert.match(text, /^\| ap-south-1 \| modelled \| Not begun: /m);
});

test.run();
