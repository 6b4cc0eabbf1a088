// Metrics of what runs between boots, for Prometheus: plugin calls and EC2 calls, each noted by the process that made it, and
// the pool.

import { STATE_DIR } from '../../host/names.ts';
import { readCounters } from '../../host/nft.ts';
import { readNodeFile } from '../../host/node-file.ts';
import { fold, tallied } from '../../host/tally.ts';
import { messageOf } from '../../messages/failure.ts';
import { deniedBy, readCounts } from '../../policy/counts.ts';
import { type PrefixState, takeInventory } from '../../pool/inventory.ts';
import { systemClock } from '../../port/clock.ts';
import { writeAtomic } from '../../port/fs.ts';
import { guardCounters } from '../node-rules/nft-guard.ts';
import { BUCKETS, exposition, type Histogram, type Sample } from './series.ts';

const FILE = `${STATE_DIR}/metrics/node.prom`;

/** Counts and histograms since this boot, by the fields of the lines that made them. */
interface Totals {
  calls: Record<string, number>;
  seconds: Record<string, Histogram>;
  unshared: Record<string, number>;
  ec2: Record<string, number>;
}

/**
 * Writes node.prom. The caller holds the pool's lock: two runs at once would count some lines twice. Returns why the file could
 * not be written, if so; metrics never fail a run.
 */
export async function refreshNodeMetrics(): Promise<string | undefined> {
  try {
    const { restMs } = readNodeFile();
    const prefixes = takeInventory({ nowMs: systemClock.bootMs(), restMs });
    const totals = fold<Totals>(none(), addLine);
    const drops = guardSamples(await readCounters());
    writeAtomic(
      FILE,
      exposition([...samplesOf(totals), ...drops, ...policySamples(), ...poolSamples(prefixes)]),
    );
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

function policySamples(): Sample[] {
  const counts = readCounts();
  if (counts === undefined) return [];
  return [
    ...deniedBy(counts).map(
      ({ packets, ...labels }): Sample => ({
        name: 'eniboot_policy_denied_packets_total',
        labels,
        value: packets,
      }),
    ),
    ...Object.entries(counts.pods).map(
      ([state, value]): Sample => ({ name: 'eniboot_policy_pods', labels: { state }, value }),
    ),
    { name: 'eniboot_policy_put_back_total', labels: {}, value: counts.putBack.times },
  ];
}

/** Plugin calls that have ended since this boot, by `PLUGIN COMMAND CODE`. Writes nothing, and needs no lock. */
export function countedCalls(): Readonly<Record<string, number>> {
  return tallied<Totals>(none(), addLine).calls;
}

function none(): Totals {
  return { calls: {}, seconds: {}, unshared: {}, ec2: {} };
}

/**
 * Adds one line: `cni PLUGIN COMMAND CODE PHASE=MILLISECONDS…`, `unshared` or `ec2 ACTION OUTCOME`. Another version may have
 * written it, so an unknown line is skipped.
 */
function addLine(totals: Totals, line: string): void {
  const [kind, ...words] = line.split(' ');
  if (kind === 'cni') {
    const [plugin = '', command = '', code = '', ...phases] = words;
    count(totals.calls, [plugin, command, code]);
    for (const one of phases) {
      const [phase = '', ms] = one.split('=');
      observe(totals.seconds, [plugin, command, phase, code === 'OK' ? 'ok' : 'failed'], Number(ms) / 1000);
    }
  } else if (kind === 'unshared') count(totals.unshared, []);
  else if (kind === 'ec2') count(totals.ec2, words.slice(0, 2));
}

function count(counts: Record<string, number>, words: string[]): void {
  const key = words.join(' ');
  counts[key] = (counts[key] ?? 0) + 1;
}

function observe(histograms: Record<string, Histogram>, words: string[], seconds: number): void {
  if (!Number.isFinite(seconds)) return;
  const key = words.join(' ');
  const histogram = histograms[key] ?? { counts: Array<number>(BUCKETS.length + 1).fill(0), sum: 0 };
  const at = BUCKETS.findIndex((bound) => seconds <= bound);
  const bucket = at === -1 ? BUCKETS.length : at;
  histogram.counts[bucket] = (histogram.counts[bucket] ?? 0) + 1;
  histogram.sum += seconds;
  histograms[key] = histogram;
}

function samplesOf(totals: Totals): Sample[] {
  const of = <Value extends number | Histogram>(
    name: Sample['name'],
    labels: string[],
    values: Record<string, Value>,
  ): Sample[] =>
    Object.entries(values).map(([key, value]) => {
      const words = key.split(' ');
      return { name, labels: Object.fromEntries(labels.map((label, at) => [label, words[at] ?? ''])), value };
    });
  return [
    ...of('eniboot_cni_calls_total', ['plugin', 'command', 'code'], totals.calls),
    ...of('eniboot_cni_seconds', ['plugin', 'command', 'phase', 'outcome'], totals.seconds),
    ...of('eniboot_cni_unshared_total', [], totals.unshared),
    ...of('eniboot_ec2_calls_total', ['action', 'outcome'], totals.ec2),
  ];
}

function guardSamples(counts: Awaited<ReturnType<typeof readCounters>>): Sample[] {
  return Object.keys(guardCounters).flatMap((reason): Sample[] => {
    const value = counts.get(reason)?.packets;
    return value === undefined ? [] : [{ name: 'eniboot_guard_drops_total', labels: { reason }, value }];
  });
}

const POOL_STATES = ['leased', 'ready', 'resting', 'inUse', 'retiring'] as const;

function poolSamples(prefixes: PrefixState[]): Sample[] {
  return [...new Set(prefixes.map((prefix) => prefix.eniId))].flatMap((eni) =>
    POOL_STATES.map((field): Sample => {
      const ofEni = prefixes.filter((prefix) => prefix.eniId === eni);
      const value = ofEni.reduce((sum, prefix) => sum + prefix[field], 0);
      const state = field === 'inUse' ? 'in-use' : field;
      return { name: 'eniboot_pool_addresses', labels: { eni, state }, value };
    }),
  );
}
