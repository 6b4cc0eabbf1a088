// time limit: 240 s
// Changes on a node while its pods live. Repair applies them to running pods: `check` tells the change before, CHECK and a
// second repair find nothing afterwards. docs/runbook.md has the table for operators.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Check } from '../../agent/boot/phase.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { bootPodNode, conf, type Pod, type PodNode, variablesOf } from '../cni/rig.ts';
import { configText } from './node.ts';

let cloud: Cloud;
let node: PodNode;
let pod: Pod;
let device: string;
const free = '10.0.0.99';

test.before(async () => {
  cloud = await startCloud({ ipv6: true });
  const extra = 'kubernetes: { serviceCidrs: [172.20.0.0/16, "fd00:10:96::/108"] }\n';
  node = await bootPodNode(cloud, { config: configText(cloud, extra, { ipFamily: 'dual-stack' }) });
  const request = { runtimeConfig: { bandwidth: { ingressRate: 400e6, egressRate: 400e6 } } };
  pod = await node.addPod('a', {}, { ...conf, ...request });
  // Repair skips a pod that is still being made, by the age of its lease.
  await node.sh("touch -d '1 minute ago' /run/eniboot/pool/leased/*");
  device = node.instance.deviceOf(node.instance.bootEni.id) ?? '';
  await node.serve('');
});
test.after(() => cloud.stop());

interface Change {
  what: string;
  /** A command on the node, or a change in EC2. DEVICE is the boot ENI's device. */
  change: string | (() => void);
  /** The row of `check` that tells the change, and its text. */
  row: 'node-file' | 'pods';
  says: RegExp;
  /** A command in the pod or on the node, and its output afterwards. */
  shown: string;
  shows: RegExp;
}

const inPod = (command: string) => `ip netns exec a ${command}`;
const changes: Change[] = [
  {
    what: 'keepalived or kube-vip gives the boot ENI’s device an address',
    change: `ip address add ${free}/32 dev DEVICE`,
    row: 'node-file',
    says: /10\.0\.0\.99/,
    shown: inPod(`ip route get ${free}`),
    shows: /dev veth0/,
  },
  {
    what: 'the same address is removed',
    change: `ip address del ${free}/32 dev DEVICE`,
    row: 'node-file',
    says: /addresses: \S+ [^ ]*, not/,
    shown: inPod(`ip route get ${free}`),
    shows: /dev eth0/,
  },
  {
    what: 'an address on the loopback',
    change: 'ip address add 10.0.0.98/32 dev lo',
    row: 'node-file',
    says: /10\.0\.0\.98/,
    shown: inPod('ip route get 10.0.0.98'),
    shows: /dev veth0/,
  },
  {
    what: 'an IPv6 address',
    change: 'ip address add 2001:db8:77::7/128 dev DEVICE nodad',
    row: 'node-file',
    says: /2001:db8:77::7/,
    shown: inPod('ip -6 route get 2001:db8:77::7'),
    shows: /dev veth0/,
  },
  {
    what: 'EC2 gives the boot ENI another address',
    change: () => {
      cloud.ec2.send('AssignPrivateIpAddresses', {
        NetworkInterfaceId: node.instance.bootEni.id,
        PrivateIpAddresses: ['10.0.0.97'],
      });
    },
    row: 'node-file',
    says: /10\.0\.0\.97/,
    shown: inPod('ip route get 10.0.0.97'),
    shows: /dev veth0/,
  },
  {
    what: 'the VPC gets another block',
    change: () => {
      cloud.vpc.cidrs.push('100.80.0.0/16');
    },
    row: 'node-file',
    says: /100\.80\.0\.0\/16/,
    shown: `${inPod('ip route get 100.80.0.1')}; ip route show table all | grep -c '^100.80.0.0/16 via .* table' || :`,
    shows: /dev eth0[^]*\n1\n/,
  },
  {
    what: 'the VPC loses the block',
    change: () => {
      cloud.vpc.cidrs.pop();
    },
    row: 'node-file',
    says: /routes of pods: .*, not .*100\.80/,
    shown: `${inPod('ip route get 100.80.0.1')}; ip route show table all | grep -c '^100.80.0.0/16' || :`,
    shows: /dev veth0[^]*\n0\n/,
  },
  {
    what: 'the MTU of the boot ENI’s device',
    change: 'ip link set DEVICE mtu 1500',
    row: 'node-file',
    says: /MTU: 1500, not 9001/,
    shown: `cat /sys/class/net/enb*/mtu; ${inPod('ip link show veth0')}`,
    shows: /^1500\n[^]*mtu 1500/,
  },
  {
    what: 'and back',
    change: 'ip link set DEVICE mtu 9001',
    row: 'node-file',
    says: /MTU: 9001, not 1500/,
    shown: `cat /sys/class/net/enb*/mtu; ${inPod('ip link show veth0')}`,
    shows: /^9001\n[^]*mtu 9001/,
  },
  {
    what: "the pod's policy rules and its table on the node are flushed",
    change:
      'ip rule del priority 1024; ip rule del priority 1025; ip route flush table $(ip route show table all | sed -n "s/.*onlink.*table \\([0-9]*\\) .*/\\1/p;s/.*table \\([0-9]*\\) proto 140 onlink.*/\\1/p" | head -n 1)',
    row: 'pods',
    says: /the node lacks the rule/,
    shown: 'ip rule show',
    shows: /1024:[^]*1025:/,
  },
  {
    what: 'the pod has lost its routes and its nftables rules',
    change: `${inPod('ip route flush proto 140')}; ${inPod('nft flush ruleset')}; ${inPod('ip route add default via 192.0.2.1 dev veth0 onlink')}`,
    row: 'pods',
    says: /it lacks the route 10\.0\.0\.0\/16/,
    // The default route now belongs to another program.
    shown: inPod('ip route show'),
    shows: /default via 192\.0\.2\.1[^]*10\.0\.0\.0\/16 via/,
  },
];

async function rows(): Promise<Check[]> {
  const { stdout, stderr } = await node.eniboot(['check', '--json']);
  assert.ok(stdout.startsWith('{'), stderr);
  return (JSON.parse(stdout) as { checks: Check[] }).checks.filter(
    ({ id }) => id === 'node-file' || id === 'pods',
  );
}

async function repair(): Promise<string[]> {
  const { exitCode, stdout, stderr } = await node.eniboot(['repair', '--json']);
  assert.is(exitCode, 0, stdout + stderr);
  return JSON.parse(stdout).changes;
}

test('without a change repair does nothing', async () => {
  // The stand-in for ipvlan is a link of another kind, whose mode repair cannot compare.
  assert.equal(await repair(), []);
  assert.equal(
    (await rows()).map(({ result }) => result),
    ['pass', 'pass'],
  );
});

for (const { what, change, row, says, shown, shows } of changes)
  test(`${what}: check tells the change, and repair applies it to the pods`, async () => {
    if (typeof change === 'function') change();
    else await node.sh(change.replaceAll('DEVICE', device));
    const before = (await rows()).find(({ id }) => id === row);
    assert.is(before?.result, 'warn', JSON.stringify(before));
    assert.match(before?.summary ?? '', says);
    assert.not.match(await node.sh(shown), shows, 'not yet');
    const said = await repair();
    assert.match(said.join('\n'), /pod a: .*: put back|pod a: /, said.join('\n'));
    assert.match(await node.sh(shown), shows, said.join('\n'));
    assert.equal(await repair(), []);
    assert.equal(
      (await rows()).map(({ result }) => result),
      ['pass', 'pass'],
    );
  });

test('a pod reaches a new address of its node, and CHECK passes', async () => {
  await node.sh(
    `${inPod('ip route del default')}; ${inPod(`ip route add default via ${node.instance.bootEni.primaryIp} dev veth0 src ${pod.address} proto 140`)}`,
  );
  await node.sh(`ip address add ${free}/32 dev ${device}`);
  assert.is.not(await node.fetch('a', `http://${free}/`), pod.address);
  await repair();
  assert.is(await node.fetch('a', `http://${free}/`), pod.address);
  const { exit, stdout } = await node.cni('CHECK', variablesOf('a', pod.netns), {
    ...conf,
    prevResult: pod.result,
  });
  assert.is(exit, 0, stdout);
});

test('repair keeps routes that a pod has set: another route to the VPC, another default route', async () => {
  const theirs = `ip -n a link add net1 type veth peer name peer1; ip -n a link set net1 up; ip -n a link set peer1 up
    ip -n a address add 192.0.2.9/24 dev net1; ip -n a route replace 10.0.0.0/16 via 192.0.2.1
    ip -n a route replace default via 192.0.2.1; ip -n a -6 route replace default via fe80::9 dev net1 metric 1024`;
  await node.sh(theirs);
  const look = () => node.sh('ip -n a route show; ip -n a -6 route show | grep default');
  const seen = await look();
  assert.equal(await repair(), []);
  assert.is(await look(), seen);
  const removed = await node.cni('DEL', variablesOf('a', pod.netns));
  assert.is(removed.exit, 0, removed.stdout);
  assert.equal(await node.leftovers(), []);
});

test.run();
