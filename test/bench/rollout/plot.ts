// Finished nodes over time, for each fleet: an SVG for the documentation.
import type { Measured } from './measure.ts';

const colours = ['#1668c7', '#c2410c', '#15803d'];

export function plotSvg(fleets: Measured[]): string {
  const end = Math.max(...fleets.map((fleet) => fleet.simulatedSeconds));
  const x = (seconds: number) => (60 + (seconds / end) * 560).toFixed(1);
  const y = (share: number) => (300 - share * 260).toFixed(1);
  const lines = fleets.map(({ course, nodes }, at) => {
    const points = course.flatMap(([seconds, home], index) => {
      const before = course[index - 1]?.[1] ?? 0;
      return [`${x(seconds)},${y(before / nodes)}`, `${x(seconds)},${y(home / nodes)}`];
    });
    return `<polyline points="${points.join(' ')}" fill="none" stroke="${colours[at % colours.length]}" stroke-width="2"/>`;
  });
  const names = fleets.map(
    ({ nodes }, at) =>
      `<text x="70" y="${54 + at * 16}" fill="${colours[at % colours.length]}">${nodes} nodes</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 340" font-family="sans-serif" font-size="12">
<title>A rollout through three zones: nodes that are home, over time</title>
<rect width="640" height="340" fill="#fff"/>
<line x1="60" y1="300" x2="620" y2="300" stroke="#000"/><line x1="60" y1="40" x2="60" y2="300" stroke="#000"/>
${lines.join('\n')}
${names.join('\n')}
<text x="56" y="44" text-anchor="end">100 %</text><text x="56" y="304" text-anchor="end">0</text>
<text x="60" y="318">0 h</text><text x="620" y="318" text-anchor="end">${(end / 3600).toFixed(1)} h</text>
<text x="340" y="334" text-anchor="middle">share of the fleet that is home; level stretches are the waits after canary, share and zone</text>
</svg>
`;
}
