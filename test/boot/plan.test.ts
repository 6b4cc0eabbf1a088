// time limit: 240 s
// A boot does what `eniboot plan` lists: the first round of each phase, in order, up to and with the first phase that has
// changes. Changes that depend on the end of those are marked as provisional. After the boot the plan is empty.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Status } from '../../agent/boot/verdict/status.ts';
import { type Instance, startCloud } from '../aws/index.ts';
import { configText, launchNode, type Node, type NodeOptions } from './node.ts';
import { type Planned, planOf } from './planned.ts';

const cloud = await startCloud();
test.after(() => cloud.stop());

/** The phases up to and with the first phase that has changes. */
function certain(phases: Planned[]): Planned[] {
  const first = phases.findIndex((phase) => phase.changes.length > 0);
  const known = first === -1 ? phases : phases.slice(0, first + 1);
  for (const phase of phases)
    assert.is(phase.provisional === true, !known.includes(phase), `${phase.name} is provisional or not`);
  return known;
}

/** Runs plan, then boot, and compares their changes. */
async function bootAsPlanned(node: Node): Promise<{ planned: Planned[]; status: Status }> {
  const { phases: planned } = await planOf(node);
  const { status, result } = await node.boot();
  if (status?.verdict !== 'ready') throw new Error(result.stderr);
  for (const { name, changes } of certain(planned)) {
    const { rounds = [] } = status.phases.find((phase) => phase.name === name) ?? {};
    assert.equal(rounds[0] ?? [], changes, `the first round of ${name}`);
  }
  const { phases: left } = await planOf(node);
  assert.equal(
    left.flatMap((phase) => phase.changes),
    [],
    'nothing is left',
  );
  return { planned, status };
}

const named = (phases: Planned[]) => phases.flatMap((phase) => (phase.changes.length > 0 ? phase.name : []));

async function ready(options: NodeOptions = {}): Promise<Node> {
  const node = await launchNode(cloud, options);
  assert.is((await node.boot()).status?.verdict, 'ready');
  return node;
}

async function shell({ instance }: { instance: Instance }, script: string): Promise<void> {
  const { exitCode, stderr } = await instance.run('sh', ['-ec', script]);
  assert.is(exitCode, 0, stderr);
}

test('a first boot: the plan is the first round, and the rest of it is provisional', async () => {
  const { planned, status } = await bootAsPlanned(await launchNode(cloud));
  assert.equal(named(planned), ['reserve', 'egress', 'attach', 'install', 'kubelet', 'ready']);
  assert.equal(
    certain(planned).map((phase) => phase.name),
    ['identify', 'reserve'],
  );
  const { rounds } = status.phases.find((phase) => phase.name === 'attach') as Status['phases'][0];
  assert.equal(rounds[0], ['create an ENI with 7 prefixes and attach it at index 1']);
  assert.match(
    rounds[1]?.join('\n') ?? '',
    /prepare \S+: .*\n[^]*replace tables[^]*add \S+\/28 of eni-\w+ to the pool/,
  );
  assert.is(rounds.length, 2);
});

test('each kernel change in the plan has the commands that do the same by hand', async () => {
  const node = await ready();
  const device = node.instance.deviceOf(node.instance.enis[1]?.id ?? '');
  await shell(
    node,
    `ip rule del priority 512; echo 0 > /proc/sys/net/ipv4/ip_forward
    ip link set ${device} mtu 1500 addrgenmode eui64; ip address add 192.0.2.7/24 dev ${device}
    ip route add 192.0.2.128/25 dev ${device}; ip link set ${device} down`,
  );
  const { stdout } = await node.eniboot(['plan']);
  const commands = stdout.split('\n').filter((line) => line.startsWith('        '));
  assert.match(stdout, /\+ add rule 512: .*\n {8}ip rule add priority 512 fwmark /);
  assert.ok(commands.length >= 6, stdout);
  await shell(node, commands.join('\n'));
  assert.equal(named((await planOf(node)).phases), []);
});

test('a second boot has an empty plan', async () => {
  const { planned, status } = await bootAsPlanned(await ready());
  assert.equal(named(planned), []);
  assert.equal(
    status.phases.flatMap((phase) => phase.rounds),
    [],
  );
});

test('after a reboot each phase makes the planned changes', async () => {
  const node = await ready();
  await node.reboot();
  const { status } = await bootAsPlanned(node);
  // All that a plan depends on is there already: each phase is done after one round.
  for (const phase of status.phases)
    assert.ok(phase.rounds.length <= 1, `${phase.name}: ${phase.rounds.length}`);
});

const drifts: [what: string, phase: string, script: (node: Node) => string][] = [
  ['its tables', 'egress', () => 'nft flush ruleset'],
  [
    'a rule and a setting',
    'egress',
    () => 'ip rule del priority 512; echo 0 > /proc/sys/net/ipv4/ip_forward',
  ],
  ['a plugin', 'install', () => 'rm /opt/cni/bin/eniboot'],
  ['a drop-in', 'kubelet', () => 'rm /etc/crio/crio.conf.d/10-eniboot.conf'],
  ['the conflist', 'ready', () => 'rm /etc/cni/net.d/10-eniboot.conflist'],
  [
    'a pod ENI’s device',
    'attach',
    ({ instance }) => {
      const device = instance.deviceOf(instance.enis[1]?.id ?? '');
      return `ip link set ${device} down mtu 1500; ip address add 192.0.2.7/24 dev ${device}`;
    },
  ],
];
for (const [what, phase, script] of drifts)
  test(`another program has changed ${what}: boot and repair do what plan lists`, async () => {
    const node = await ready();
    await shell(node, script(node));
    const known = certain((await bootAsPlanned(node)).planned);
    assert.equal(named(known), [phase]);
    await shell(node, script(node));
    const { stdout } = await node.eniboot(['repair', '--json']);
    assert.equal(JSON.parse(stdout), { changes: known.flatMap((one) => one.changes), failures: [] });
    assert.equal(named((await planOf(node)).phases), []);
  });

test('EC2 has given a pod ENI another prefix: refill adds what plan lists', async () => {
  const node = await ready({ config: configText(cloud, 'pool: { target: 16 }\n') });
  const podEni = node.instance.enis[1]?.id ?? '';
  cloud.ec2.send('AssignPrivateIpAddresses', { NetworkInterfaceId: podEni, Ipv4PrefixCount: 1 });
  const { phases } = await planOf(node);
  assert.equal(named(phases), ['attach']);
  const listed = phases.flatMap((phase) => phase.changes);
  assert.match(listed.join('\n'), /^replace tables inet and netdev eniboot\nadd \S+ of eni-\w+ to the pool$/);
  const { exitCode, stdout, stderr } = await node.eniboot(['pool', 'refill', '--json']);
  assert.is(exitCode, 0, stderr);
  const added = listed[1]?.replace(/^add (.*) to the pool$/, 'added $1');
  assert.equal((JSON.parse(stdout) as { changes: string[] }).changes, [added]);
  assert.equal(named((await planOf(node)).phases), []);
});

test.run();
