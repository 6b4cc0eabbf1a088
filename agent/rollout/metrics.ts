// A rollout as Prometheus reads it, for a textfile collector or a push gateway on the operator's side. Pure.
import type { Summary } from './summary.ts';

/** Text format 0.0.4. Source: Prometheus, "Exposition formats". */
export function prometheusText(summary: Summary): string {
  const { cluster, id, version, direction, state, zones } = summary;
  const of = { cluster, id };
  const outcomes = [
    'updated',
    'already',
    'failed',
    'passedOver',
    'gone',
    'unreachable',
    'restored',
    'unrestored',
  ] as const;
  return [
    ...metric('eniboot_rollout_info', 'The rollout of a cluster that is recorded.', [
      [{ ...of, version, direction, state }, 1],
    ]),
    ...metric('eniboot_rollout_started_seconds', 'When it began, in seconds since the epoch.', [
      [of, summary.startedMs / 1000],
    ]),
    ...metric(
      'eniboot_rollout_nodes',
      'Nodes by what became of them.',
      outcomes.map((outcome) => [
        { ...of, outcome: outcome.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) },
        summary[outcome],
      ]),
    ),
    ...metric(
      'eniboot_rollout_zone_nodes',
      'Nodes of each zone: all, those on the version, failed ones, and those in flight.',
      zones.flatMap((zone) =>
        (['nodes', 'updated', 'failed', 'inFlight'] as const).map(
          (what): Sample => [
            { ...of, zone: zone.zoneId, what: what === 'inFlight' ? 'in_flight' : what },
            zone[what],
          ],
        ),
      ),
    ),
    ...metric('eniboot_rollout_remaining_batches', 'Batches that are still to come.', [
      [of, summary.remaining.batches],
    ]),
    '',
  ].join('\n');
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
