// Pods ready over time when many start at once, with eniboot's plugin and with the Go plugins: an SVG for the documentation.

export interface Curve {
  name: string;
  colour: string;
  /** Milliseconds from the common start to the end of each ADD. */
  ends: number[];
}

export function plotSvg(curves: Curve[], cores: number): string {
  const count = Math.max(...curves.map((curve) => curve.ends.length));
  const end = Math.max(...curves.flatMap((curve) => curve.ends));
  const x = (ms: number) => (60 + (ms / end) * 560).toFixed(1);
  const y = (done: number) => (300 - (done / count) * 260).toFixed(1);
  const steps = (ends: number[]) =>
    [...ends]
      .sort((a, b) => a - b)
      .flatMap((ms, at) => [`${x(ms)},${y(at)}`, `${x(ms)},${y(at + 1)}`])
      .join(' ');
  const lines = curves.map(
    ({ colour, ends }) =>
      `<polyline points="${x(0)},${y(0)} ${steps(ends)}" fill="none" stroke="${colour}" stroke-width="2"/>`,
  );
  const names = curves.map(
    ({ name, colour }, at) => `<text x="70" y="${54 + at * 16}" fill="${colour}">${name}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 340" font-family="sans-serif" font-size="12">
<title>${count} pods at once: ADDs done over time</title>
<rect width="640" height="340" fill="#fff"/>
<line x1="60" y1="300" x2="620" y2="300" stroke="#000"/><line x1="60" y1="40" x2="60" y2="300" stroke="#000"/>
${lines.join('\n')}
${names.join('\n')}
<text x="56" y="44" text-anchor="end">${count}</text><text x="56" y="304" text-anchor="end">0</text>
<text x="60" y="318">0 ms</text><text x="620" y="318" text-anchor="end">${end.toFixed(0)} ms</text>
<text x="340" y="334" text-anchor="middle">ADDs that have answered, of ${count} started at once on ${cores} cores</text>
</svg>
`;
}
