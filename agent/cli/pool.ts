import { requireBooted } from '../boot/facts/booted.ts';
import { refreshNodeMetrics } from '../boot/verdict/metrics.ts';
import { takeLock } from '../host/lock.ts';
import { readNodeFile } from '../host/node-file.ts';
import { listCarried } from '../pool/carried.ts';
import { type Collected, collect } from '../pool/collect.ts';
import { POOL, strays } from '../pool/entry.ts';
import { type PrefixState, takeInventory } from '../pool/inventory.ts';
import { leavingPrefixes } from '../pool/retire.ts';
import { systemClock } from '../port/clock.ts';
import { requireRoot } from '../port/runtime.ts';
import { parse, verbOf } from './arguments.ts';
import type { Command, CommandIo } from './command.ts';
import { table } from './table.ts';

const help = `Usage: eniboot pool [--json]
       eniboot pool refill [--json]
       eniboot pool collect [--json]

The addresses this node keeps for pods. Without a verb it shows them, by ENI and prefix:
  leased    a pod has it
  ready     a pod could have it now
  resting   its pod is gone; another pod may have it after pool.restSeconds
  in use    not leased, but an ADD has found within 10 minutes that a network namespace carries it; tried last
  retiring  on its way back to EC2
Reads /run/eniboot/pool, and node.json beside it. Pods come and go while it reads, so the result is not a snapshot. Below
the table stand namespaces that carry an address of the pool without a lease: of a pod that gave itself more addresses
(which takes NET_ADMIN), or one that outlived its pod. Looks into the namespaces of /run/netns and of all processes.

  refill    compares the pool with EC2 and brings it between its marks. When fewer than pool.lowWater addresses are ready,
            it adds prefixes or another ENI; when more than pool.lowWater + pool.surplus are, idle ones go back to EC2.
            eniboot-refill.timer runs it, and eniboot-refill.path when a pod finds the pool low.
  collect   frees the addresses of pods that are certainly gone (no link, no network namespace, unknown to the runtime,
            for 10 minutes), and removes links and rules of no pod. eniboot-collect.timer runs it.

  --json    one object: { "total", "leased", "ready", "resting", "inUse", "retiring", "prefixes": [], "strays": [],
            "carried": [ { "address", "eniId", "netns", "pod"? } ], "unseen": [] };
            refill: { "changes": [], "waiting": [] }; collect: { "freed": [], "kept": [], "removed": [] }

Exit codes: 0 shown, or done (also when there was nothing to do); 1 failed, with a code; 2 wrong usage.
`;

export const poolCommand: Command = {
  help,
  async run(args, io) {
    const { values, positionals } = parse('pool', args, { json: { type: 'boolean' } }, 1);
    const json = values.json === true;
    const [word] = positionals;
    const action = word === undefined ? undefined : verbOf('pool', word, ['refill', 'collect']);
    requireRoot(action === undefined ? 'pool' : `pool ${action}`);
    if (action === undefined) return show(json, io);
    return action === 'refill' ? runRefill(json, io) : runCollect(json, io);
  },
};

async function runRefill(json: boolean, io: CommandIo): Promise<number> {
  // The AWS SDK is loaded only for the command that calls EC2.
  const { refill } = await import('../boot/refill/refill.ts');
  const { changes, waiting } = await refill();
  if (json) io.stdout(`${JSON.stringify({ changes, waiting })}\n`);
  else {
    for (const change of changes) io.stdout(`+ ${change}\n`);
    for (const reason of waiting) io.stderr(`waiting: ${reason}\n`);
    if (changes.length === 0 && waiting.length === 0) io.stdout('nothing to do\n');
  }
  return 0;
}

async function runCollect(json: boolean, io: CommandIo): Promise<number> {
  const { freed, kept, removed } = await collectUnderLock(io);
  if (json) io.stdout(`${JSON.stringify({ freed, kept, removed })}\n`);
  else {
    for (const { address, owner } of freed) io.stdout(`+ freed ${address} of ${owner.containerId}\n`);
    for (const address of removed) io.stdout(`+ removed link and rules of ${address}\n`);
    for (const { lease, reason } of kept)
      io.stderr(`kept ${lease.address} of ${lease.owner.containerId}: ${reason}\n`);
    if (freed.length + kept.length + removed.length === 0) io.stdout('nothing to do\n');
  }
  return 0;
}

/** Milliseconds to wait for the lock, which boot, refill or repair may have: collect is not urgent. */
const LOCK_PATIENCE_MS = 60_000;

async function collectUnderLock(io: CommandIo): Promise<Collected> {
  requireBooted('there is no pool to collect');
  const lock = await takeLock(POOL.lock, systemClock, LOCK_PATIENCE_MS);
  try {
    return await collect(systemClock);
  } finally {
    const reason = await refreshNodeMetrics();
    if (reason !== undefined) io.stderr(`metrics were not written: ${reason}\n`);
    lock.release();
  }
}

const parts = ['leased', 'ready', 'resting', 'inUse', 'retiring'] as const;
type Counts = Record<(typeof parts)[number] | 'size', number>;

function show(json: boolean, io: CommandIo): number {
  const { restMs, podEnis } = readNodeFile();
  const prefixes = takeInventory({ nowMs: systemClock.bootMs(), restMs });
  const leaving = leavingPrefixes();
  const all = add(prefixes);
  const foreign = strays();
  const { carried, unseen } = listCarried(podEnis) ?? { carried: [], unseen: [] };
  if (json) {
    const { size, ...counts } = all;
    const shown = prefixes.map((prefix) => ({
      ...prefix,
      leaving: leaving.find((one) => one.cidr === prefix.cidr && one.eniId === prefix.eniId)?.why,
    }));
    io.stdout(
      `${JSON.stringify({ total: size, ...counts, prefixes: shown, strays: foreign, carried, unseen })}\n`,
    );
    return 0;
  }
  // ENIs in the order in which they are filled, then ENIs that are leaving.
  const eniIds = [...podEnis, ...prefixes].map(({ eniId }) => eniId);
  const rows = [...new Set(eniIds)].flatMap((eniId) => {
    const ofEni = prefixes.filter((prefix) => prefix.eniId === eniId);
    return [
      [eniId, ...cells(add(ofEni)), bar(add(ofEni))],
      ...group(ofEni).map(([name, counts]) => [`  ${name}`, ...cells(counts), bar(counts)]),
    ];
  });
  io.stdout(
    table([
      ['', 'total', ...parts.map((part) => names[part] ?? part), ''],
      ...rows,
      ['all', ...cells(all), bar(all)],
    ]),
  );
  io.stdout(
    `bar: ${marks.leased} leased  ${marks.resting} resting  ${marks.inUse} in use  ${marks.retiring} retiring  ${marks.ready} ready\n`,
  );
  for (const { address, netns, pod } of carried)
    io.stdout(
      `${address} is carried by ${pod === undefined ? netns : `pod ${pod} (${netns})`}, without a lease\n`,
    );
  for (const reason of unseen) io.stderr(`not looked into: ${reason}\n`);
  for (const path of foreign) io.stdout(`${path} is not a file of the pool, and is ignored: remove it\n`);
  return 0;
}

/** A row for each prefix, and one row for all single addresses: 200 rows would tell nothing. */
function group(ofEni: PrefixState[]): [string, Counts][] {
  const prefixes = ofEni.filter((prefix) => prefix.size > 1);
  const single = ofEni.filter((prefix) => prefix.size === 1);
  return [
    ...prefixes.map((prefix): [string, Counts] => [prefix.cidr, prefix]),
    ...(single.length === 0 ? [] : [[`${single.length} addresses`, add(single)] as [string, Counts]]),
  ];
}

function add(prefixes: Counts[]): Counts {
  const sum: Counts = { size: 0, leased: 0, ready: 0, resting: 0, inUse: 0, retiring: 0 };
  for (const prefix of prefixes) {
    for (const field of ['size', ...parts] as const) sum[field] += prefix[field];
  }
  return sum;
}

function cells(counts: Counts): string[] {
  return [counts.size, ...parts.map((part) => counts[part])].map(String);
}

const marks = { leased: '#', resting: '~', inUse: '!', retiring: '-', ready: '.' } as const;
/** Headings of columns whose field has another name. */
const names: Partial<Record<(typeof parts)[number], string>> = { inUse: 'in use' };
const BAR_WIDTH = 32;

/** One character for an address, or for several when there are many; a state that occurs has at least one. */
function bar(counts: Counts): string {
  const scale = Math.min(1, BAR_WIDTH / Math.max(1, counts.size));
  const busy = (['leased', 'resting', 'inUse', 'retiring'] as const)
    .map((part) => marks[part].repeat(counts[part] === 0 ? 0 : Math.max(1, Math.round(counts[part] * scale))))
    .join('');
  return `[${busy.padEnd(Math.round(counts.size * scale), marks.ready)}]`;
}
