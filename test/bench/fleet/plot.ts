// Nodes ready over time, with the bound of the buckets: as text, and as an SVG for the documentation.

/** How many nodes were ready at a time; `readyAt` is in order. */
function readyBy(readyAt: number[], seconds: number): number {
  let low = 0;
  for (let high = readyAt.length; low < high; ) {
    const middle = (low + high) >> 1;
    if ((readyAt[middle] ?? 0) <= seconds) low = middle + 1;
    else high = middle;
  }
  return low;
}

export function plotText(readyAt: number[], nodes: number, boundSeconds: number): string {
  const end = Math.max(readyAt.at(-1) ?? 0, boundSeconds);
  const rows = 12;
  const width = 50;
  const lines = Array.from({ length: rows + 1 }, (_, row) => {
    const at = (end * row) / rows;
    const count = readyBy(readyAt, at);
    const bar = '█'.repeat(Math.round((count / nodes) * width));
    return `${at.toFixed(0).padStart(6)} s  ${bar.padEnd(width, '·')} ${count}`;
  });
  return lines.join('\n');
}

export function plotSvg(readyAt: number[], nodes: number, boundSeconds: number): string {
  const end = Math.max(readyAt.at(-1) ?? 0, boundSeconds * 1.1);
  const x = (seconds: number) => 60 + (seconds / end) * 560;
  const y = (count: number) => 300 - (count / nodes) * 260;
  const curve = Array.from({ length: 141 }, (_, at) => {
    const seconds = (end * at) / 140;
    return `${x(seconds).toFixed(1)},${y(readyBy(readyAt, seconds)).toFixed(1)}`;
  }).join(' ');
  const vertical = (seconds: number, label: string, dash: string) =>
    `<line x1="${x(seconds)}" y1="30" x2="${x(seconds)}" y2="300" stroke="#888" stroke-dasharray="${dash}"/>` +
    `<text x="${x(seconds) - 4}" y="26" text-anchor="end">${label}</text>`;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 340" font-family="sans-serif" font-size="12">
<title>${nodes} nodes booting at once: nodes ready over time</title>
<rect width="640" height="340" fill="#fff"/>
<line x1="60" y1="300" x2="620" y2="300" stroke="#000"/><line x1="60" y1="40" x2="60" y2="300" stroke="#000"/>
<line x1="${x(0)}" y1="${y(0)}" x2="${x(boundSeconds)}" y2="${y(nodes)}" stroke="#bbb" stroke-width="6"/>
${vertical(boundSeconds, `bound ${boundSeconds.toFixed(0)} s`, '2 3')}
${vertical(boundSeconds * 1.1, '', '6 3')}
<polyline points="${curve}" fill="none" stroke="#06c" stroke-width="2"/>
<text x="56" y="44" text-anchor="end">${nodes}</text><text x="56" y="304" text-anchor="end">0</text>
<text x="60" y="318">0 s</text><text x="620" y="318" text-anchor="end">${end.toFixed(0)} s</text>
<text x="340" y="334" text-anchor="middle">grey: what EC2's busiest bucket allows; blue: nodes READY; dashed: 1.1 × the bound</text>
</svg>
`;
}
