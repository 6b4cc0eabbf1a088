// time limit: 240 s
// Denied packets in the journal, when the configuration asks for them: both directions, both families, and never many lines.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { eventually } from './eventually.ts';
import { block, startTwoNodes, type TwoNodes } from './two-nodes.ts';

let rig: TwoNodes;

test.before(async () => {
  rig = await startTwoNodes(6, ', logDenied: true');
});
test.after(() => rig.stop());

interface Line {
  pod: string;
  direction: string;
  from: string;
  to: string;
  protocol: string;
  port?: number;
}

function told(): Line[] {
  return rig
    .journal()
    .split('\n')
    .filter((line) => line.includes('a packet was denied'))
    .map((line) => JSON.parse(line) as Line);
}

test('who was denied, in which direction, by which port', async () => {
  const { one, two, a, b, far } = rig;
  rig.isolate('b', { policyTypes: ['Ingress'] });
  await eventually('b is shut', async () => (await one.fetch('a', `http://${b.address}/`)) === '');
  await two.fetch('far', `http://[${b.address6}]:8080/`);
  rig.isolate('a', { policyTypes: ['Egress'] });
  await eventually('a is shut', async () => (await one.fetch('a', `http://${far.address}/`)) === '');
  const wanted: Line[] = [
    { pod: 'x/b', direction: 'ingress', from: a.address, to: b.address, protocol: 'TCP', port: 80 },
    {
      pod: 'x/b',
      direction: 'ingress',
      from: far.address6 ?? '',
      to: b.address6 ?? '',
      protocol: 'TCP',
      port: 8080,
    },
    { pod: 'x/a', direction: 'egress', from: a.address, to: far.address, protocol: 'TCP', port: 80 },
  ];
  for (const line of wanted)
    await eventually(JSON.stringify(line), () =>
      told().some((one) => Object.entries(line).every(([name, value]) => one[name as keyof Line] === value)),
    );
});

test('a pod that is denied many packets fills no journal', async () => {
  rig.isolate('b', { policyTypes: ['Ingress'], ingress: [{ from: [block('192.0.2.0/24')] }] });
  await eventually('b is shut', async () => (await rig.one.fetch('a', `http://${rig.b.address}/`)) === '');
  const before = told().length;
  const flood = `import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + 2
while time.monotonic() < end:
    s.sendto(b"?", ("${rig.b.address}", 9))`;
  await rig.one.inPod('a', 'python3', ['-c', flood]);
  await eventually('some are told', () => told().length > before);
  // Five lines at once, then five a second.
  const more = told().filter(({ protocol, port }) => protocol === 'UDP' && port === 9).length;
  assert.ok(more >= 5 && more <= 25, `${more} lines for a flood of two seconds`);
});

test.run();
