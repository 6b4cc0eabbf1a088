// time limit: 300 s
// `eniboot trace` of a pod with IPv6 beside IPv4: its IPv6 objects are on ways of their own, and each that is taken
// away is named, by trace and by CHECK, with what puts it back.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { attachmentOf } from '../../agent/host/attachment.ts';
import { type Part, parts6Of, partsOf } from '../../agent/host/attachment-parts.ts';
import type { NodeFile } from '../../agent/host/node-file.ts';
import { limitOf } from '../../agent/host/pod-limits.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, conf, type Pod, type PodNode, variablesOf } from './rig.ts';
import { harmful, traced } from './tracing.ts';

let cloud: Cloud;
let node: PodNode;
let pod: Pod;
const trace = (...args: string[]) => traced(node, ...args);
const limited = { ...conf, runtimeConfig: { bandwidth: { ingressRate: 50e6, egressRate: 40e6 } } };
const ways6 = ['out6', 'node6', 'service6', 'outside6', 'imds6'];

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const extra = `pool: { target: 32, restSeconds: 0 }
kubernetes: { serviceCidrs: [172.20.0.0/16, "fd00:10:96::/108"] }
`;
  node = await bootPodNode(cloud, { config: configText(cloud, extra, { ipFamily: 'dual-stack' }) });
  pod = await node.addPod('six', {}, limited);
});
test.after(() => cloud.stop());

async function checkIsContent(): Promise<boolean> {
  const answer = await node.cni('CHECK', variablesOf(pod.id, pod.netns), { ...conf, prevResult: pod.result });
  return answer.exit === 0;
}

function parts(): { all: Part[]; six: Part[] } {
  const facts = JSON.parse(node.instance.read('/run/eniboot/node.json') ?? '') as NodeFile;
  const [eni] = facts.podEnis;
  if (eni === undefined) throw new Error('no pod ENI');
  const limits = { ingress: limitOf(50e6), egress: limitOf(40e6) };
  const a = { ...attachmentOf(facts, pod.address, eni, 'eth0'), limits };
  const device = node.instance.deviceOf(eni.eniId) ?? '';
  const place = { netns: pod.netns, eni: { device, mac: eni.mac }, ipv6: true };
  const base = partsOf(a, place);
  const own = base.filter(
    (part) =>
      (part.kind === 'chain' && part.text.includes('table inet')) ||
      (part.kind === 'setting' && part.path.includes('ipv6')) ||
      (part.kind === 'neighbour' && part.address.includes(':')) ||
      (part.kind === 'route' && part.text.includes('::')),
  );
  const six = [...own, ...parts6Of(a, place)];
  return { all: [...base, ...parts6Of(a, place)], six };
}

test('a healthy pod lacks nothing, and each of its objects is on a way', async () => {
  const { ways, steps, faults, exit } = await trace(pod.address);
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
  assert.is((await trace(pod.address6 ?? '')).exit, 0, 'found by its IPv6 address');
});

test('every IPv6 object that is gone is named by trace and by CHECK, and the remedy mends it', async () => {
  const { length } = parts().six;
  assert.ok(length >= 14, `${length} objects`);
  for (let at = 0; at < length; at += 1) {
    const part = parts().six[at];
    if (part === undefined) throw new Error('fewer objects than before');
    await node.sh(harmful(part, pod.netns));
    const { faults, exit } = await trace(pod.id);
    assert.is(exit, 1, part.text);
    const fault = faults.find((step) => step.where === part.side && step.text === part.text);
    assert.ok(fault, `${part.text} is not named: ${JSON.stringify(faults)}`);
    assert.is(await checkIsContent(), false, `CHECK does not see that ${part.text} is gone`);
    if (part.command === undefined) {
      assert.match(fault?.remedy ?? '', /^delete the pod/);
      await node.cni('DEL', variablesOf(pod.id, pod.netns));
      await node.sh(`ip netns del ${pod.id}`);
      pod = await node.addPod(pod.id, {}, limited);
    } else {
      const commands = faults.map((step) => /^`(.*)`/.exec(step.remedy ?? '')?.[1] ?? 'false');
      for (const command of new Set(commands)) await node.sh(command);
    }
    assert.equal((await trace(pod.id)).faults, [], `after ${part.text} was put back`);
  }
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
    const { faults } = await trace(pod.id);
    const fault = faults.find((step) => step.where === 'node' && step.text.includes(where));
    assert.ok(fault, `${harm}: ${JSON.stringify(faults)}`);
    assert.match(fault?.remedy ?? '', /eniboot repair/);
    await node.eniboot(['repair']);
    assert.equal((await trace(pod.id)).faults, [], `repaired after ${harm}`);
  }
});

test('--to: one way, and what the kernel decides for it', async () => {
  const [own = ''] = node.instance.bootEni.ipv6Addresses;
  for (const [to, name, decided] of [
    ['2001:db8:1234:1a02::77', 'out6', /dev eth0/],
    ['2001:DB8:FFFF:0::1', 'out6', /via fe80:ec2::1 dev eth0/],
    [own, 'node6', /dev veth0/],
    ['fd00:10:96::a', 'service6', /dev veth0/],
    ['fd00:ec2::254', 'imds6', /No route to host/],
  ] as const) {
    const { ways, faults, steps } = await trace(pod.id, '--to', to);
    assert.equal(
      ways.map((way) => way.name),
      [name],
      to,
    );
    assert.equal(faults, [], to);
    const decisions = steps.filter((step) => step.what === 'decision');
    assert.ok(
      decisions.some((step) => decided.test(step.text)),
      `${to}: ${JSON.stringify(decisions)}`,
    );
  }
  for (const [to, says] of [
    ['ff02::1', /is not the address of a host/],
    ['fe80::1', /is not the address of a host/],
    ['2001:db8::g', /is not the address of a host/],
    [pod.address6 ?? '', /is the pod itself/],
  ] as const) {
    const { exitCode, stderr } = await node.tool(['trace', pod.id, '--to', to]);
    assert.is(exitCode, 2, to);
    assert.match(stderr, says);
  }
});

test.run();
