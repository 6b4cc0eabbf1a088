// time limit: 300 s
// `eniboot trace` of a pod with IPv6 beside IPv4: its IPv6 parts are on ways of their own. trace and CHECK name each part that
// is removed, with the command that restores it.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Part } from '../../agent/attachment/parts.ts';
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
  const { base, six } = subject.parts();
  const own = base.filter(
    ({ what, text }) =>
      (what.kind === 'chain' && what.table.family === 'inet') ||
      (what.kind === 'setting' && what.path.includes('ipv6')) ||
      (what.kind === 'neighbour' && what.address.includes(':')) ||
      (what.kind === 'route' && text.includes('::')),
  );
  return { all: [...base, ...six], six: [...own, ...six] };
}

test('a healthy pod has all its parts, and each part is on a way', async () => {
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
  // The IPv4 ways have no IPv6 part.
  const four = ways.filter((way) => !ways6.includes(way.name)).flatMap((way) => way.steps);
  assert.not.ok(four.some((step) => /::|_6|ipv6/.test(step.text)));
  assert.is((await trace(subject.pod.address6 ?? '')).exit, 0, 'found by its IPv6 address');
});

test('trace and CHECK name every missing IPv6 part, and the remedy restores it', async () => {
  const { length } = parts().six;
  assert.ok(length >= 14, `${length} objects`);
  await subject.loseEach(() => parts().six);
});

test('trace names missing rules and settings of the node, and `eniboot repair` restores them', async () => {
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

test("--to shows one way, and the kernel's routing decision for it", async () => {
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
