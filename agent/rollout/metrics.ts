// A rollout as Prometheus metrics, for a textfile collector or a push gateway on the operator's machine. Pure.
import type { Summary } from './summary.ts';

const OUTCOMES = [
  'updated',
  'already',
  'failed',
  'passedOver',
  'gone',
  'unreachable',
  'restored',
  'unrestored',
] as const;

/** A rollout and its Region. */
type Placed = Summary & { region: string };

/** Text format 0.0.4. Source: Prometheus, "Exposition formats". */
export function prometheusText(summaries: readonly Placed[]): string {
  const of = ({ region, cluster, id }: Placed) => ({ region, cluster, id });
  const each = (samples: (one: Placed) => Sample[]) => summaries.flatMap(samples);
  return [
    ...metric(
      'eniboot_rollout_info',
      'The rollout of a cluster that is recorded.',
      each((one) => {
        const { version, direction, state } = one;
        return [[{ ...of(one), version, direction, state }, 1]];
      }),
    ),
    ...metric(
      'eniboot_rollout_started_seconds',
      'When it began, in seconds since the epoch.',
      each((one) => [[of(one), one.startedMs / 1000]]),
    ),
    ...metric(
      'eniboot_rollout_nodes',
      'Nodes by outcome.',
      each((one) => OUTCOMES.map((outcome) => [{ ...of(one), outcome: snake(outcome) }, one[outcome]])),
    ),
    ...metric(
      'eniboot_rollout_zone_nodes',
      'Nodes of each zone: all, those on the version, failed ones, and those in flight.',
      each((one) =>
        one.zones.flatMap((zone) =>
          (['nodes', 'updated', 'failed', 'inFlight'] as const).map(
            (what): Sample => [{ ...of(one), zone: zone.zoneId, what: snake(what) }, zone[what]],
          ),
        ),
      ),
    ),
    ...metric(
      'eniboot_rollout_remaining_batches',
      'Batches that are still to come.',
      each((one) => [[of(one), one.remaining.batches]]),
    ),
    '',
  ].join('\n');
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

type Sample = [labels: Record<string, string>, value: number];

function metric(name: string, help: string, samples: Sample[]): string[] {
  return [
    `# HELP ${name} ${help}`,
    `# TYPE ${name} gauge`,
    ...samples.map(([labels, value]) => {
      const pairs = Object.entries(labels).map(
        ([key, text]) => `${key}="${text.replace(/[\\"\n]/g, (one) => (one === '\n' ? '\\n' : `\\${one}`))}"`,
      );
      return `${name}{${pairs.join(',')}} ${value}`;
    }),
  ];
}
