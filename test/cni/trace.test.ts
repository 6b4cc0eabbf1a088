// time limit: 400 s
// `eniboot trace`: a healthy pod has all its parts; trace and CHECK name every part that is removed, and the command that
// trace gives restores it.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Part } from '../../agent/attachment/parts.ts';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { bootPodNode, type PodNode, podNode, variablesOf } from './rig.ts';
import { addSubject, leadsTo, type Subject, type Trace, traced } from './tracing.ts';

let cloud: Cloud;
let node: PodNode;
let subject: Subject;

test.before(async () => {
  cloud = await startCloud();
  const extra = `pool: { target: 32, restSeconds: 0 }
egress: { table: [{ cidr: 10.0.200.0/24, action: snat-keep-port }] }
kubernetes: { serviceCidrs: [172.20.0.0/16] }
`;
  node = await bootPodNode(cloud, { config: configText(cloud, extra) });
  subject = await addSubject(node, 'a1b2c3');
});
test.after(() => cloud.stop());

const trace = (...args: string[]): Promise<Trace> => traced(node, ...args);

function parts(): Part[] {
  return subject.parts().base;
}

test('a healthy pod has all its parts, and each part is on a way', async () => {
  const { ways, steps, faults, exit } = await trace(subject.pod.address);
  assert.equal(faults, []);
  assert.is(exit, 0);
  assert.equal(
    ways.map((way) => way.name),
    ['vpc', 'node', 'service', 'internet', 'outside', 'imds'],
  );
  assert.ok(steps.every((step) => step.state === 'present'));
  const shown = new Set(steps.map((step) => `${step.where} ${step.text}`));
  for (const part of parts()) assert.ok(shown.has(`${part.side} ${part.text}`), `${part.side} ${part.text}`);
  const people = await node.tool(['trace', subject.pod.id]);
  assert.is(people.exitCode, 0);
  assert.match(people.stdout, /^all \d+ objects are there$/m);
  assert.not.match(people.stdout, /MISSING|WRONG|\u001b/);
  assert.is(await subject.checkIsContent(), true);
});

test('trace and CHECK name every missing part of the attachment, and the remedy restores it', async () => {
  const { length } = parts();
  assert.ok(length >= 25, `${length} objects`);
  await subject.loseEach(parts);
  assert.is(await subject.checkIsContent(), true);
});

test('a changed part is wrong, and trace shows what it is and what it should be', async () => {
  const cases: [(host: string) => string, RegExp][] = [
    [
      () => `ip -n ${subject.pod.id} route replace default via 10.0.64.1 dev eth0`,
      /^it is default via 10\.0\.64\.1 dev eth0/,
    ],
    [
      (host) => `ip neigh replace ${subject.pod.address} lladdr 02:00:00:00:00:01 dev ${host} nud permanent`,
      /^its MAC is 02:/,
    ],
    [(host) => `ip link set ${host} mtu 1400`, /^its MTU is 1400, not 9001$/],
    [(host) => `ip link set ${host} down`, /it is down/],
    [
      () => `nsenter --net=${subject.pod.netns} nft add rule ip eniboot output drop`,
      /^its rules are others$/,
    ],
  ];
  for (const [harm, found] of cases) {
    const command = harm(subject.pod.result.interfaces[2].name);
    await node.sh(command);
    const wrong = (await trace(subject.pod.address)).faults.filter((step) => step.state === 'wrong');
    assert.ok(
      wrong.some((step) => found.test(step.found ?? '')),
      `${command}: ${JSON.stringify(wrong)}`,
    );
    assert.is(await subject.checkIsContent(), false, command);
    await subject.renew();
  }
});

test('trace names missing rules and settings of the node, and `eniboot repair` restores its own', async () => {
  const boot = node.instance.deviceOf(node.instance.bootEni.id) ?? '';
  const egress = ['postrouting', 'egress', 'keep_port', 'marks', 'services', 'clamp'];
  const guards = ['from_enis', 'from_pods', 'to_node', 'through_node', 'replies', 'imds', 'imds_out'];
  const guarded = node.instance.enis[1]?.id;
  const outside = ['out4', 'out_arp', `out_${guarded}`, `in_${guarded}`];
  for (const [harm, where] of [
    ...[...egress, ...guards].map(
      (name) => [`nft flush chain inet eniboot ${name}`, `${name} of table inet`] as const,
    ),
    ...outside.map((name) => [`nft flush chain netdev eniboot ${name}`, `${name} of table netdev`] as const),
    [`nft flush set netdev eniboot pods_${guarded}`, `pods_${guarded}`],
    ['nft delete table netdev eniboot', `out_${guarded}`],
    ['nft flush set inet eniboot pool4', 'holds'],
    ['nft flush set inet eniboot routed4', 'routed4'],
    ['nft flush map inet eniboot actions4', 'actions4'],
    ['nft delete table inet eniboot', 'postrouting'],
    ['ip rule del priority 512', 'priority 512'],
    ['sysctl -qw net/ipv4/ip_forward=0', 'ip_forward'],
    [`sysctl -qw net/ipv4/conf/${boot}/rp_filter=1`, `${boot}/rp_filter`],
  ] as const) {
    await node.sh(harm);
    const { faults } = await trace(subject.pod.id);
    const fault = faults.find((step) => step.where === 'node' && step.text.includes(where));
    assert.ok(fault, `${harm}: ${JSON.stringify(faults)}`);
    assert.match(fault?.remedy ?? '', /eniboot repair/);
    await node.eniboot(['repair']);
    assert.equal((await trace(subject.pod.id)).faults, [], `repaired after ${harm}`);
  }
  const route = (await node.sh('ip route show default')).trim();
  const eni = node.instance.enis[1];
  const device = node.instance.deviceOf(eni?.id ?? '') ?? '';
  const owned = `/run/eniboot/pool/owned/${eni?.id}`;
  for (const [harm, mend, says] of [
    ['ip route del default', `ip route add ${route}`, /^default dev/],
    [`ip link set ${device} down`, `ip link set ${device} up`, new RegExp(`^${device} `)],
    [`mv ${owned} /run/aside`, `mv /run/aside ${owned}`, new RegExp(`^of ${subject.pod.address}$`)],
  ] as const) {
    await node.sh(harm);
    const { faults } = await trace(subject.pod.id);
    assert.ok(
      faults.some((step) => says.test(step.text)),
      `${harm}: ${JSON.stringify(faults)}`,
    );
    await node.sh(mend);
    assert.equal((await trace(subject.pod.id)).faults, [], mend);
  }
});

test("--to shows one way, and the kernel's routing decision for it", async () => {
  const other = await node.addPod('other');
  await leadsTo(node, subject.pod.id, [
    [other.address, 'vpc', /dev eth0/],
    ['10.0.3.3', 'vpc', /via 10\.0\.64\.1 dev eth0/],
    [node.instance.bootEni.primaryIp, 'node', /dev veth0/],
    ['172.20.0.10', 'service', /dev veth0/],
    ['192.0.2.7', 'internet', /any port/],
    ['10.0.200.7', 'internet', /its port kept/],
    ['169.254.169.254', 'imds', /No route to host/],
  ]);
  // A more specific route of another program: every part of eniboot is there, and yet the packet takes a wrong way.
  await node.sh(`ip -n ${subject.pod.id} route add 10.0.3.3/32 dev veth0`);
  const { faults } = await trace(subject.pod.id, '--to', '10.0.3.3');
  assert.equal(
    faults.map((step) => [step.what, step.found]),
    [['decision', 'it should leave by eth0']],
  );
  await node.sh(`ip -n ${subject.pod.id} route del 10.0.3.3/32`);
  await node.sh(
    `ip rule add priority 100 from ${subject.pod.address} iif ${subject.pod.result.interfaces[2].name} blackhole`,
  );
  const astray = await trace(subject.pod.id, '--to', '192.0.2.7');
  assert.equal(
    astray.faults.map((step) => [step.where, step.what]),
    [
      ['node', 'obstacle'],
      ['node', 'decision'],
    ],
  );
  await node.sh('ip rule del priority 100');
});

test('a filter of another program is named on the ways that it closes, and on no other', async () => {
  const table = (rule: string) =>
    `nft 'table inet mine { chain f { type filter hook forward priority 0; policy accept; ${rule}; }; }'`;
  for (const [harm, to, closed] of [
    [table('iifname "enb*" drop'), undefined, ['service', 'internet', 'outside']],
    [table('ip daddr 192.0.2.7 drop'), undefined, []],
    [table('ip daddr 192.0.2.7 drop'), '192.0.2.7', ['internet']],
    [table('ip daddr 192.0.2.7 drop'), '192.0.2.8', []],
    [table('iifname "enb*" accept; drop'), '192.0.2.7', ['internet']],
    [table('iifname "enb*" accept; oifname "enb*" accept; drop'), undefined, []],
  ] as const) {
    await node.sh(harm);
    const { ways, faults, exit } = await trace(subject.pod.id, ...(to === undefined ? [] : ['--to', to]));
    await node.sh('nft delete table inet mine');
    const named = ways.filter((way) => way.steps.some((step) => step.what === 'obstacle'));
    assert.equal(
      named.map((way) => way.name),
      [...closed],
      `${harm} ${to}`,
    );
    assert.is(exit, closed.length === 0 ? 0 : 1);
    for (const step of faults) {
      assert.match(step.text, /^table inet mine, chain f: the rule with handle \d+ drops$/);
      assert.match(step.remedy ?? '', /nft insert rule inet mine f/);
    }
  }
});

test('trace calls the parts in a namespace that is gone missing, and none in a namespace that cannot be read', async () => {
  await node.addPod('left');
  await node.sh('ip netns del left');
  for (const path of ['', 'touch /run/netns/left']) {
    await node.sh(path === '' ? ':' : path);
    const { stdout } = await node.tool(['trace', 'left']);
    assert.match(stdout, /MISSING +pod +neighbour/, stdout);
  }
  await node.sh('rm /run/netns/left; ln -s left /run/netns/left');
  const { exitCode, stdout, stderr } = await node.tool(['trace', 'left']);
  assert.is(exitCode, 1);
  assert.match(stderr, /ELOOP.*\/run\/netns\/left/);
  assert.not.match(stdout, /missing/);
  await node.sh('rm /run/netns/left');
  assert.is((await node.cni('DEL', variablesOf('left', '/run/netns/left'))).exit, 0);
});

test('a pod is found by address, container ID, its beginning, or namespace and name; else the error tells why not', async () => {
  await node.sh('ip netns add named');
  const args = 'IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1;K8S_POD_INFRA_CONTAINER_ID=x';
  const added = await node.cni('ADD', { ...variablesOf('f00d', '/run/netns/named'), CNI_ARGS: args });
  assert.is(added.exit, 0);
  for (const name of ['shop/web-1', 'f00d', 'f0', added.json.ips[0].address.split('/')[0]])
    assert.is((await trace(name)).exit, 0, name);
  await node.addPod('f00e');
  const free = (await node.sh('ls /run/eniboot/pool/free')).split(',')[0] ?? '';
  for (const [name, code, says] of [
    ['nobody', 'POD_UNKNOWN', /no pod of this node .* nobody/],
    [free, 'POD_UNKNOWN', /no pod has: it is free/],
    ['f00', 'POD_AMBIGUOUS', /^(?=.*f00d eth0 10\.0\.64\.\d+)(?=.*f00e eth0)/m],
  ] as const) {
    const { exitCode, stdout, stderr } = await node.tool(['trace', name, '--json']);
    assert.is(exitCode, 1);
    assert.is(JSON.parse(stdout).failure.code, code);
    assert.match(stderr, says);
  }
  for (const args of [
    [],
    [subject.pod.id, '--to', 'fd00::1'],
    [subject.pod.id, '--to', '10.0.0.256'],
    [subject.pod.id, '--to', subject.pod.address],
  ])
    assert.is((await node.tool(['trace', ...args])).exitCode, 2, args.join(' '));
  const pods = await node.tool(['pods']);
  assert.match(pods.stdout, /^10\.0\.64\.\d+ .* f00d +shop\/web-1 /m);
});

test('an address that EC2 does not assign to the ENI is named; without an answer of IMDS the assignment is unknown', async () => {
  const eni = node.instance.enis[1];
  const prefixes = [...(eni?.prefixes ?? [])];
  assert.ok(prefixes.length > 0);
  cloud.ec2.send('UnassignPrivateIpAddresses', { NetworkInterfaceId: eni?.id, Ipv4Prefixes: prefixes });
  await cloud.settled();
  const lost = (await trace(subject.pod.id)).faults;
  assert.ok(lost.length > 0);
  for (const step of lost) {
    assert.is(step.where, 'EC2');
    assert.match(step.text, 'its source check');
  }
  await node.sh(
    'nft "table ip deaf { chain out { type filter hook output priority 0; ip daddr 169.254.169.254 drop; }; }"',
  );
  const deaf = await trace(subject.pod.id);
  assert.equal(deaf.faults, []);
  assert.is(deaf.exit, 0, 'an unknown assignment is no fault');
  const unknown = deaf.steps.filter((step) => step.state === 'unknown');
  assert.ok(unknown.length > 0 && unknown.every((step) => step.where === 'EC2'));
  assert.match((await node.tool(['trace', subject.pod.id])).stdout, /; \d+ could not be looked at$/m);
  await node.sh('nft delete table ip deaf');
});

test('on a node that has not booted trace tells so', async () => {
  await node.sh('sed -i s/eni-/eni-0/ /run/eniboot/node.json');
  assert.match(
    (await node.tool(['trace', subject.pod.id])).stderr,
    /ATTACHMENT_DIFFERS: .* is no longer a pod ENI of this node/,
  );
  await node.sh('mv /run/eniboot/node.json /run/node.json');
  assert.match((await node.tool(['trace', subject.pod.id])).stderr, /NODE_NOT_READY/);
  await node.reboot();
  node = podNode(node);
  const { exitCode, stderr } = await node.tool(['trace', '10.0.64.16']);
  assert.is(exitCode, 1);
  assert.match(stderr, /NOT_BOOTED/);
});

test.run();
