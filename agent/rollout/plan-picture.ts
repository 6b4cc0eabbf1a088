// The plan for operators: a table of waves with the blast radius of each, bars, and the same as SVG. Pure.
import type { Prepared } from './begin.ts';
import { total, type Wave, wavesOf } from './plan.ts';
import { subjectOf } from './spec.ts';

const BAR = 40;

const names = {
  canary: 'canary',
  share: 'first share',
  rest: 'rest',
  late: 'latecomers',
  stray: 'came up on it',
  bake: 'wait',
  promote: 'new nodes follow',
};

export function planObject(prepared: Prepared): object {
  const { spec, zones, notes, digests } = prepared;
  return {
    version: subjectOf(spec),
    digests,
    cluster: spec.where.cluster,
    spec,
    nodes: total(zones),
    zones,
    waves: wavesOf(spec, zones),
    ...notes,
  };
}

export function planText(prepared: Prepared): string {
  const { spec, zones, notes } = prepared;
  const waves = wavesOf(spec, zones);
  const nodes = total(zones);
  const rows = waves.map((wave) => [
    wave.zoneId,
    names[wave.kind],
    wave.kind === 'bake' ? `${wave.seconds} s` : wave.nodes === 0 ? '' : String(wave.nodes),
    wave.nodes === 0 ? '' : String(wave.inFlight),
    wave.nodes === 0 ? '' : `${wave.worst} (${wave.worstPercent} % of the zone)`,
    wave.nodes === 0 ? '' : bar(wave, nodes),
  ]);
  const lines = [
    `${subjectOf(spec)} to ${nodes} nodes in ${zones.length} zone${zones.length === 1 ? '' : 's'} of ${spec.where.cluster}`,
    '',
    columns([['zone', 'step', 'nodes', 'in flight', 'at worst', 'of the fleet'], ...rows]),
    '',
    '█ nodes a failure could reach before it halts, ░ nodes of the step',
    'At worst: every node of the step fails. It halts once more nodes have failed than the budget allows; nodes in flight then still end.',
    ...alarmNotes(notes),
    ...canaryLines(notes),
    ...note(notes.unreachable, 'not reachable through SSM: asked last, and again at the end of their zone'),
    ...note(notes.excluded, 'left as they are: where.exclude'),
    ...notes.downgrades.map(
      (one) =>
        `DOWNGRADE in ${one.zoneId}: from ${one.from}, which ${one.nodes === 0 ? 'its parameter names' : `its parameter names or ${one.nodes} of its nodes reported at their last boot`}`,
    ),
    ...note(notes.current, 'reported this version at the last boot: asked after the others'),
  ];
  return `${lines.join('\n')}\n`;
}

function canaryLines({ canaries, uncovered }: Prepared['notes']): string[] {
  return [
    ...canaries.map(
      ({ zoneId, instanceId, standsFor }) =>
        `canary ${instanceId} in ${zoneId}${standsFor.length === 0 ? '' : ` stands for ${standsFor.join(', ')}`}`,
    ),
    ...uncovered.map(
      ({ zoneId, stratum, nodes }) =>
        `no canary in ${zoneId} stands for ${stratum}, which ${nodes} of its nodes ${nodes === 1 ? 'has' : 'have'}`,
    ),
  ];
}

/** One line for each state, naming alarms; for OK only some. */
function alarmNotes({ alarms }: Prepared['notes']): string[] {
  const says: Record<string, string> = {
    INSUFFICIENT_DATA: ', which does not stop it',
    none: ', which CloudWatch does not know: `run` is refused',
    ALARM: ': `run` is refused',
  };
  return [...Map.groupBy(alarms, (one) => one.state)].map(([state, some]) => {
    const names = some.slice(0, 5).map((one) => one.name);
    const which = `${names.join(', ')}${some.length > 5 ? ', …' : ''}`;
    return `watches ${some.length} alarm${some.length === 1 ? '' : 's'} in state ${state} (${which})${says[state] ?? ''}`;
  });
}

function note(nodes: readonly string[], what: string): string[] {
  if (nodes.length === 0) return [];
  const some = nodes.slice(0, 5).join(', ');
  return [`${nodes.length} nodes ${what} (${some}${nodes.length > 5 ? ', …' : ''})`];
}

function bar(wave: Wave, nodes: number): string {
  const cells = (count: number) => Math.max(count > 0 ? 1 : 0, Math.round((count / nodes) * BAR));
  const worst = cells(wave.worst);
  return '█'.repeat(worst) + '░'.repeat(Math.max(0, cells(wave.nodes) - worst));
}

function columns(rows: string[][]): string {
  const widths = rows[0]?.map((_, at) => Math.max(...rows.map((row) => row[at]?.length ?? 0))) ?? [];
  return rows
    .map((row) =>
      row
        .map((cell, at) => cell.padEnd(widths[at] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** One row for each zone, steps from left to right with a width by their nodes; red is what a failure could reach. */
export function planSvg(prepared: Prepared): string {
  const { spec, zones } = prepared;
  const waves = wavesOf(spec, zones).filter((wave) => wave.nodes > 0);
  const nodes = total(zones);
  const [width, left, row] = [960, 110, 44];
  const scale = (count: number) => (count / nodes) * (width - left - 10);
  let at = left;
  const bars = waves.map((wave) => {
    const y = 14 + zones.findIndex((zone) => zone.zoneId === wave.zoneId) * row;
    const wide = Math.max(3, scale(wave.nodes));
    const worst = Math.max(2, scale(wave.worst));
    const title = `${names[wave.kind]}: ${wave.nodes} nodes, at worst ${wave.worst} fail`;
    const drawn =
      `<rect x="${at.toFixed(1)}" y="${y}" width="${wide.toFixed(1)}" height="26" fill="#54aeff"><title>${title}</title></rect>` +
      `<rect x="${at.toFixed(1)}" y="${y + 18}" width="${worst.toFixed(1)}" height="8" fill="#cf222e"/>`;
    at += wide + 2;
    return drawn;
  });
  const height = 40 + zones.length * row;
  const labels = zones.map(
    (zone, index) => `<text x="0" y="${32 + index * row}">${zone.zoneId} (${zone.nodes.length})</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="13">
<title>${subjectOf(spec)} to ${nodes} nodes of ${spec.where.cluster}</title>
<rect width="${width}" height="${height}" fill="#fff"/>
${labels.join('\n')}
${bars.join('\n')}
<text x="${left}" y="${height - 8}">steps in order; blue: nodes of a step, red: nodes a failure could reach before it halts</text>
</svg>
`;
}
