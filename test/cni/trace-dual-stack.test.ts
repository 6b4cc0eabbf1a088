// time limit: 300 s
// `eniboot trace` of a pod with IPv6 beside IPv4: its IPv6 objects are on ways of their own, and each that is taken
// away is named, by trace and by CHECK, with what puts it back.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Part, parts6Of, partsOf } from '../../agent/host/attachment-parts.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type PodNode } from './rig.ts';
import { addSubject, leadsTo, type Subject, traced } from './tracing.ts';

let cloud: Cloud;
let node: PodNode;
let subject: Subject;
const trace = (...args: string[]) => traced(node, ...args);
const ways6 = ['out6', 'node6', 'service6', 'outside6', 'imds6'];

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const extra = `pool: { target: 32, restSeconds: 0 }
kubernetes: { serviceCidrs: [172.20.0.0/16, "fd00:10:96::/108"] }
`;
  node = await bootPodNode(cloud, { config: configText(cloud, extra, { ipFamily: 'dual-stack' }) });
  subject = await addSubject(node, 'six');
});
test.after(() => cloud.stop());

function parts(): { all: Part[]; six: Part[] } {
  const { attachment, place } = subject.made();
  const base = partsOf(attachment, place);
  const own = base.filter(
    (part) =>
      (part.kind === 'chain' && part.text.includes('table inet')) ||
      (part.kind === 'setting' && part.path.includes('ipv6')) ||
      (part.kind === 'neighbour' && part.address.includes(':')) ||
      (part.kind === 'route' && part.text.includes('::')),
  );
  const six = [...own, ...parts6Of(attachment, place)];
  return { all: [...base, ...parts6Of(attachment, place)], six };
}

test('a healthy pod lacks nothing, and each of its objects is on a way', async () => {
  const { ways, steps, faults, exit } = await trace(subject.pod.address);
  assert.equal(faults, []);
  assert.is(exit, 0);
  assert.equal(
    ways.map((way) => way.name),
    ['vpc', 'node', 'service', 'internet', 'outside', 'imds', ...ways6],
  );
  assert.ok(steps.every((step) => step.state === 'present'));
  const shown = new Set(steps.map((step) => `${step.where} ${step.text}`));
  for (const part of parts().all)
    assert.ok(shown.has(`${part.side} ${part.text}`), `${part.side} ${part.text}`);
  // IPv4's ways hold nothing of IPv6's.
  const four = ways.filter((way) => !ways6.includes(way.name)).flatMap((way) => way.steps);
  assert.not.ok(four.some((step) => /::|_6|ipv6/.test(step.text)));
  assert.is((await trace(subject.pod.address6 ?? '')).exit, 0, 'found by its IPv6 address');
});

test('every IPv6 object that is gone is named by trace and by CHECK, and the remedy mends it', async () => {
  const { length } = parts().six;
  assert.ok(length >= 14, `${length} objects`);
  await subject.loseEach(() => parts().six);
});

test("what is missing of the node's own is named, and `eniboot repair` mends it", async () => {
  for (const [harm, where] of [
    ['nft flush set inet eniboot pool6', 'pool6'],
    ['nft flush chain inet eniboot no_service', 'no_service'],
    ['ip -6 rule del priority 512', 'IPv6 priority 512'],
    ['ip -6 rule del priority 1024', 'IPv6 priority 1024'],
    ['sysctl -qw net/ipv6/conf/all/forwarding=0', 'ipv6/conf/all/forwarding'],
  ] as const) {
    await node.sh(harm);
    const { faults } = await trace(subject.pod.id);
    const fault = faults.find((step) => step.where === 'node' && step.text.includes(where));
    assert.ok(fault, `${harm}: ${JSON.stringify(faults)}`);
    assert.match(fault?.remedy ?? '', /eniboot repair/);
    await node.eniboot(['repair']);
    assert.equal((await trace(subject.pod.id)).faults, [], `repaired after ${harm}`);
  }
});

test('--to: one way, and what the kernel decides for it', async () => {
  const [own = ''] = node.instance.bootEni.ipv6Addresses;
  await leadsTo(node, subject.pod.id, [
    ['2001:db8:1234:1a02::77', 'out6', /dev eth0/],
    ['2001:DB8:FFFF:0::1', 'out6', /via fe80:ec2::1 dev eth0/],
    [own, 'node6', /dev veth0/],
    ['fd00:10:96::a', 'service6', /dev veth0/],
    ['fd00:ec2::254', 'imds6', /No route to host/],
  ]);
  for (const [to, says] of [
    ['ff02::1', /is not the address of a host/],
    ['fe80::1', /is not the address of a host/],
    ['2001:db8::g', /is not the address of a host/],
    [subject.pod.address6 ?? '', /is the pod itself/],
  ] as const) {
    const { exitCode, stderr } = await node.tool(['trace', subject.pod.id, '--to', to]);
    assert.is(exitCode, 2, to);
    assert.match(stderr, says);
  }
});

test.run();
