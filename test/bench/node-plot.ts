// A node from power-on to its first pod, and many pods at once: an SVG for the documentation.
import type { BurstFigures, Owner, Step } from './node-steps.ts';

const colours: Record<Owner, string> = {
  machine: '#999',
  kernel: '#666',
  systemd: '#393',
  cloud: '#e90',
  eniboot: '#06c',
  'cri-o': '#939',
  kubelet: '#c33',
};
const burstColours = ['#06c', '#939', '#393'];
const WIDTH = 860;
const LEFT = 20;
const LINE = 18;

export function nodeSvg(steps: Step[], bursts: BurstFigures[], accelerator: string): string {
  const begin = steps[0]?.from ?? 0;
  const whole = (steps.at(-1)?.to ?? 1) - begin;
  const x = (moment: number) => LEFT + ((moment - begin) / whole) * (WIDTH - 2 * LEFT);
  const bars = steps.map(({ owner, what, from, to }, at) => {
    const y = 50 + at * LINE;
    const text = `${what}: ${(to - from).toFixed(1)} s`;
    // The label is beside the bar, on the side that has room.
    const right = x(to) < WIDTH / 2;
    const [anchor, tx] = right ? ['start', x(to) + 5] : ['end', x(from) - 5];
    return `<rect x="${x(from).toFixed(1)}" y="${y}" width="${Math.max(1, x(to) - x(from)).toFixed(1)}" height="13" fill="${colours[owner]}"/>
<text x="${tx.toFixed(1)}" y="${y + 11}" text-anchor="${anchor}">${escape(text)}</text>`;
  });
  const owners = (Object.keys(colours) as Owner[]).map(
    (owner, at) =>
      `<rect x="${LEFT + at * 100}" y="26" width="12" height="12" fill="${colours[owner]}"/><text x="${LEFT + at * 100 + 17}" y="36">${owner}</text>`,
  );
  const top = 50 + steps.length * LINE + 40;
  const machine = accelerator === 'kvm' ? '' : ' Emulated: only parts and ratios mean something.';
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${top + 220}" font-family="sans-serif" font-size="12">
<title>A node from power-on to its first pod, and many pods at once</title>
<rect width="${WIDTH}" height="${top + 220}" fill="#fff"/>
<text x="${LEFT}" y="16">From power-on to the first pod, ${whole.toFixed(0)} s.${machine}</text>
${owners.join('\n')}
${bars.join('\n')}
${curves(bursts, top)}
</svg>
`;
}

function curves(bursts: BurstFigures[], top: number): string {
  const end = Math.max(1, ...bursts.map(({ seconds }) => seconds));
  const most = Math.max(1, ...bursts.map(({ pods }) => pods));
  const x = (second: number) => (60 + (second / end) * (WIDTH - 80)).toFixed(1);
  const y = (pods: number) => (top + 180 - (pods / most) * 160).toFixed(1);
  const lines = bursts.map(({ started }, at) => {
    const points = started.flatMap((second, done) => [
      `${x(second)},${y(done)}`,
      `${x(second)},${y(done + 1)}`,
    ]);
    return `<polyline points="${x(0)},${y(0)} ${points.join(' ')}" fill="none" stroke="${burstColours[at % burstColours.length]}" stroke-width="2"/>`;
  });
  const names = bursts.map(
    ({ pods, seconds }, at) =>
      `<text x="70" y="${top + 30 + at * 16}" fill="${burstColours[at % burstColours.length]}">${pods} at once: ${seconds.toFixed(0)} s</text>`,
  );
  return `<line x1="60" y1="${top + 180}" x2="${WIDTH - 20}" y2="${top + 180}" stroke="#000"/><line x1="60" y1="${top + 20}" x2="60" y2="${top + 180}" stroke="#000"/>
${lines.join('\n')}
${names.join('\n')}
<text x="56" y="${top + 24}" text-anchor="end">${most}</text><text x="56" y="${top + 184}" text-anchor="end">0</text>
<text x="60" y="${top + 198}">0 s</text><text x="${WIDTH - 20}" y="${top + 198}" text-anchor="end">${end.toFixed(0)} s</text>
<text x="${WIDTH / 2}" y="${top + 214}" text-anchor="middle">Containers that run, of the pods given to kubelet at once</text>`;
}

function escape(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
}
