// Events that a node must survive on a real kernel with systemd, NetworkManager and cloud-init. Each case has the events;
// sound() has what holds in all cases.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type Bench,
  coldNode,
  type Device,
  hasGate,
  type Node,
  type NodeOptions,
  nodeAtGate,
  nodeFromGate,
  type Observation,
  openGate,
} from './bench.ts';
import type { Case } from './case.ts';

/** How long one boot took, in seconds. */
export interface Timing {
  boot: string;
  /** From power-on to the verdict on the console, by the host's clock; only for a machine's first boot. */
  powerOn: number | undefined;
  /** Boot clock at which eniboot started, gave its verdict, and kubelet started. */
  started: number;
  verdict: number;
  kubelet: number | undefined;
  /** Seconds from eniboot's first run to its verdict, and the part of them without waits for the cloud. */
  eniboot: number;
  own: number;
}

/** Prefixes for 110 pods on one ENI, with the tags of a node's launch template. */
const podEniAtLaunch = { prefixes: 7, tags: { 'eniboot:role': 'pods', 'eniboot:cluster': 'e2e' } };

export const cases: readonly Case<Timing[]>[] = [
  {
    name: 'good-boot',
    title: 'a node boots from nothing; kubelet starts once, after READY',
    quick: true,
    run: (bench) =>
      withNode(nodeAtGate(bench), async (node) => {
        await openGate(node);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        assert.deepEqual(seen.status.degraded, []);
        assert.equal(node.instance.enis.length, 2, 'one pod ENI beside the boot ENI');
        assert.equal(seen.status.podEnis.length, 1);
        assert.match(startsOf(seen, 'kubelet')[0]?.args ?? '', /node-ip|config/, 'kubelet got its arguments');
        await egressIsPublic(node);
        return [timing('good boot', seen)];
      }),
  },
  {
    name: 'pod-eni-at-launch',
    title: 'a pod ENI is there at power-on: it never gets a lease, and EC2 is not changed',
    run: (bench) =>
      withNode(coldNode(bench, { podEnis: [podEniAtLaunch] }), async (node) => {
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        assert.equal(node.instance.enis.length, 2);
        // The verdict's tag is the only change in EC2 by a first boot.
        assert.deepEqual(mutatingCalls(node), ['CreateTags']);
        const { bootEni } = node.instance;
        assert.deepEqual([...leasedMacs()], [bootEni.mac], 'the boot ENI alone asked for a lease');
        return [timing('pod ENI at launch', seen)];
      }),
  },
  {
    name: 'boot-eni-not-first',
    title:
      'the boot ENI is the last card in PCI order: eniboot tells NetworkManager, and the pod ENI loses its lease',
    run: (bench) =>
      withNode(coldNode(bench, { podEnis: [podEniAtLaunch], bootNicLast: true }), async (node) => {
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        const [podEni] = node.instance.enis.slice(1);
        assert.ok(leasedMacs().has(podEni?.mac ?? ''), 'the first card got a lease first');
        await egressIsPublic(node);
        return [timing('boot ENI not first', seen)];
      }),
  },
  {
    name: 'reboot',
    title: 'a reboot finds everything in place and changes nothing in EC2',
    run: (bench) =>
      withNode(coldNode(bench), async (node) => {
        const first = await node.verdict();
        sound(node, first, { verdict: 'ready' });
        const callsBefore = mutatingCalls(node).length;
        node.forgetConsole();
        await node.machine.reboot(300_000 * bench.patience);
        const second = await node.verdict();
        sound(node, second, { verdict: 'ready' });
        assert.notEqual(second.status.bootId, first.status.bootId);
        assert.deepEqual(mutatingCalls(node).slice(callsBefore), []);
        return [timing('cold boot', first), timing('reboot', second)];
      }),
  },
  {
    name: 'stop-start',
    title: 'stop and start take the public address: a boot that requires it fails, and kubelet waits',
    run: (bench) =>
      withNode(coldNode(bench, { config: { egress: { publicAddress: 'require' } } }), async (node) => {
        const first = await node.verdict();
        sound(node, first, { verdict: 'ready' });
        assert.ok(first.status.bootEni?.publicAddress, 'the boot ENI had a public address');
        await node.instance.stop();
        await node.instance.start();
        const second = await node.verdict();
        sound(node, second, { verdict: 'failed', code: 'NO_PUBLIC_ADDRESS' });
        assert.equal(second.status.bootEni?.publicAddress, undefined);
        // The operator decides that this node needs no public address, and starts the unit again.
        node.configure({ egress: { publicAddress: 'ignore' } });
        node.forgetConsole();
        await node.machine.run('systemctl start eniboot.service', 120_000 * bench.patience);
        const third = await node.verdict();
        sound(node, third, { verdict: 'ready' });
        return [timing('before stop', first), timing('after start', second)];
      }),
  },
  {
    name: 'late-eni',
    title: 'the device of the pod ENI comes 20 s after EC2 says attached',
    run: (bench) =>
      withGate(bench, {}, async (node) => {
        node.cloud.faults.device.add({ delayMs: 20_000, times: 1 });
        await openGate(node);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        const attach = seen.status.phases.find((phase) => phase.name === 'attach');
        assert.ok((attach?.waitMs ?? 0) >= 19_000, `attach waited ${attach?.waitMs} ms`);
        return [timing('late ENI', seen)];
      }),
  },
  {
    name: 'eni-never-comes',
    title: 'the device never comes: kubelet does not start, and the console tells why',
    quick: true,
    run: (bench) =>
      withGate(bench, { config: { boot: { deadlineSeconds: 60 } } }, async (node) => {
        node.cloud.faults.device.add({ never: true });
        await openGate(node);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'failed', code: 'DEVICE_MISSING' });
        assert.ok(seen.status.seconds <= 75, `the verdict came after ${seen.status.seconds} s`);
        return [timing('ENI never comes', seen)];
      }),
  },
  {
    name: 'reloads',
    title: 'repair restores everything that reloads by packages and operators undo on a READY node',
    run: (bench) =>
      withGate(bench, {}, async (node) => {
        await openGate(node);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        const failing = await failingChecks(node, bench.patience);
        for (const reload of reloads) await reloaded(node, reload, failing, bench.patience);
        return [timing('reloads', seen)];
      }),
  },
  {
    name: 'agent-crashes-once',
    title: 'the agent is killed while it attaches: the second run finishes, and kubelet starts once',
    run: (bench) =>
      withGate(bench, {}, async (node) => {
        node.cloud.faults.device.add({ delayMs: 15_000, times: 1 });
        await openGate(node);
        await attached(node);
        const killed = await node.machine.run(
          'systemctl kill --kill-whom=main --signal=KILL eniboot.service',
        );
        assert.equal(killed.exitCode, 0, killed.stderr);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        assert.equal(seen.eniboot['NRestarts'], '1');
        assert.equal(seen.status.attempts, 2, 'the deadline is that of the first run');
        assert.equal(node.instance.enis.length, 2, 'the ENI of the first run was used');
        return [timing('agent crashes once', seen)];
      }),
  },
  {
    name: 'agent-out-of-memory',
    title:
      'the agent is killed for its memory while it attaches: the second run finishes, and kubelet starts once',
    run: (bench) =>
      withGate(bench, {}, async (node) => {
        node.cloud.faults.device.add({ delayMs: 15_000, times: 1 });
        const group = '/sys/fs/cgroup/system.slice/eniboot.service';
        const property = (value: string) =>
          `systemctl set-property --runtime eniboot.service MemoryMax=${value}`;
        await openGate(node);
        await attached(node);
        const bound = await node.machine.run(`cat ${group}/memory.max`);
        assert.equal(bound.stdout.trim(), String(512 * 1024 * 1024), 'the limit of the unit holds');
        // Less memory than the agent has already: the kernel kills it at once, as for a defect.
        const killed = await node.machine.run(
          `${property('16M')}; until grep -q 'oom_kill [1-9]' ${group}/memory.events; do sleep 0.1; done; ${property('512M')}`,
        );
        assert.equal(killed.exitCode, 0, killed.stderr);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        // On a busy machine the next run may begin, and end, before the limit is restored.
        const restarts = Number(seen.eniboot['NRestarts']);
        assert.ok(restarts >= 1 && restarts <= 3, `${restarts} restarts`);
        assert.ok(seen.status.attempts >= 2, 'the deadline is that of the first run');
        return [timing('agent out of memory', seen)];
      }),
  },
  {
    name: 'program-out-of-memory',
    title: 'a program of the agent takes all memory, once: it is killed, the agent is not, and tries again',
    run: (bench) =>
      withGate(bench, {}, async (node) => {
        const nft = `#!/bin/sh
[ -e /run/eniboot/eaten ] || { : >/run/eniboot/eaten; exec tail /dev/zero; }
exec /usr/sbin/nft "$@"
`;
        const laid = await node.machine.run(
          `printf '%s' '${nft}' >/usr/local/sbin/nft && chmod +x /usr/local/sbin/nft`,
        );
        assert.equal(laid.exitCode, 0, laid.stderr);
        await openGate(node);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        assert.equal(seen.eniboot['NRestarts'], '0');
        const killed = await node.machine.run(
          'journalctl -k -b | grep -c "Memory cgroup out of memory.*(tail)"',
        );
        assert.equal(killed.stdout.trim(), '1', "the program was killed for the unit's memory limit");
        return [timing('program out of memory', seen)];
      }),
  },
  {
    name: 'ec2-unanswered',
    title: 'EC2 never answers, but everything is in place: READY, degraded',
    run: (bench) =>
      withGate(bench, { podEnis: [podEniAtLaunch] }, async (node) => {
        node.cloud.faults.ec2.add({ action: '*', unanswered: true });
        await openGate(node);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        assert.notDeepEqual(seen.status.degraded, []);
        assert.equal(seen.status.podEnis.length, 1);
        return [timing('EC2 unanswered', seen)];
      }),
  },
  {
    name: 'hot-plug-after-boot',
    title: 'an ENI attached to a running node stays bare: unmanaged, no address, no lease',
    run: (bench) =>
      withGate(bench, {}, async (node) => {
        await openGate(node);
        const before = await node.verdict();
        sound(node, before, { verdict: 'ready' });
        const eni = await attachAnother(node);
        // Longer than NetworkManager takes to begin DHCP on a device that it manages.
        await delay(15_000 * bench.patience);
        const seen = await node.observe();
        sound(node, seen, { verdict: 'ready' });
        const device = seen.devices.find((one) => one.mac === eni.mac);
        assert.ok(device, 'the device came');
        bare(device);
        assert.equal(packetsFrom(node, eni.id), 0, 'no packet was sent, not even for a lease');
        // The device is set up by hand: even then the kernel gives it no address, and no program asks for a lease.
        await node.machine.run(`ip link set ${device.name} up`);
        await delay(10_000 * bench.patience);
        const up = (await node.observe()).devices.find((one) => one.mac === eni.mac);
        assert.ok(up?.up);
        assert.equal(up.state, 'unmanaged');
        assert.deepEqual(
          up.addresses.filter((address) => !address.startsWith('fe80:')),
          [],
        );
        return [timing('hot-plug after boot', before)];
      }),
  },
  {
    name: 'ruleset-flushed',
    title: 'nft flush ruleset on a running node is undone by eniboot-repair',
    run: (bench) =>
      withGate(bench, {}, async (node) => {
        await openGate(node);
        const seen = await node.verdict();
        sound(node, seen, { verdict: 'ready' });
        const before = await ruleset(node);
        assert.match(before, /snat|masquerade/);
        const flushed = await node.machine.run('nft flush ruleset && nft list ruleset');
        assert.equal(flushed.stdout.trim(), '');
        // The timer's next round is started by hand, to save its period.
        const repaired = await node.machine.run(
          'systemctl start eniboot-repair.service',
          120_000 * bench.patience,
        );
        assert.equal(repaired.exitCode, 0, repaired.stderr);
        assert.equal(await ruleset(node), before);
        const timer = await node.machine.run('systemctl show -P ActiveState eniboot-repair.timer');
        assert.equal(timer.stdout.trim(), 'active');
        sound(node, await node.observe(), { verdict: 'ready' });
        return [timing('ruleset flushed', seen)];
      }),
  },
];

interface Expected {
  verdict: 'ready' | 'failed';
  code?: string;
}

/** What holds after every boot, in any case. */
function sound(node: Node, seen: Observation, expected: Expected): void {
  const { status } = seen;
  assert.equal(status?.verdict, expected.verdict, explain(seen));
  assert.equal(status.failure?.code, expected.code, explain(seen));
  assert.equal(seen.verdicts.length, 1, `one verdict on the console, not ${JSON.stringify(seen.verdicts)}`);
  assert.match(
    seen.verdicts[0] ?? '',
    expected.verdict === 'ready' ? /READY/ : new RegExp(`FAILED ${expected.code}`),
  );

  assert.deepEqual(seen.cycles, [], 'no ordering cycle, no deleted job');
  assert.deepEqual(seen.failedUnits, expected.verdict === 'ready' ? [] : ['eniboot.service'], 'failed units');

  const kubelet = startsOf(seen, 'kubelet');
  if (expected.verdict === 'ready') {
    assert.equal(kubelet.length, 1, `kubelet started once, not ${JSON.stringify(kubelet)}`);
    assert.equal(kubelet[0]?.eniboot, 'active', 'kubelet started after READY');
    assert.equal(seen.kubelet['ActiveState'], 'active');
    assert.equal(seen.kubelet['NRestarts'], '0');
  } else {
    assert.deepEqual(kubelet, [], 'kubelet never started');
    assert.notEqual(seen.kubelet['ActiveState'], 'active');
  }

  const { bootEni } = node.instance;
  for (const device of seen.devices) {
    if (device.mac !== bootEni.mac) {
      bare(device);
      continue;
    }
    assert.equal(device.state, 'connected', 'NetworkManager keeps the boot ENI');
    const own = device.addresses.filter((address) => !address.startsWith('fe80:'));
    assert.deepEqual(own, [`${bootEni.primaryIp}/24`], 'the boot ENI has its primary address and no other');
  }
}

/** A pod ENI as every program but eniboot must leave it. */
function bare(device: Device): void {
  assert.equal(device.state, 'unmanaged', `${device.name} is ${device.state}`);
  assert.deepEqual(device.addresses, [], `${device.name} has addresses`);
  assert.equal(device.mtu, 9001);
}

function startsOf(seen: Observation, name: string) {
  return seen.starts.filter((start) => start.name === name);
}

function explain({ status, eniboot }: Observation): string {
  if (status?.failure === undefined) return `verdict ${status?.verdict}, unit ${eniboot['ActiveState']}`;
  const { code, phase, message, facts } = status.failure;
  return `${code} in ${phase}: ${message} ${JSON.stringify(facts)}`;
}

function mutatingCalls(node: Node): string[] {
  return node.cloud.calls
    .filter((call) => call.mutating && call.accepted && call.instanceId)
    .map((call) => call.action);
}

async function egressIsPublic(node: Node): Promise<void> {
  const answer = await node.machine.run(`curl -s --max-time 10 ${node.cloud.internet.curlTarget}`);
  assert.ok(
    answer.stdout.includes(node.instance.bootEni.publicIp ?? 'none'),
    `the Internet saw ${answer.stdout || answer.stderr}`,
  );
}

/** A command that reloads settings of other programs, and whether it may undo settings that only repair restores. */
interface Reload {
  command: string;
  undoes?: true;
  /** The command is passed over on an image where this command fails. */
  needs?: string;
}

const reloads: readonly Reload[] = [
  { command: 'sysctl --system' },
  { command: 'systemctl restart systemd-sysctl.service' },
  { command: 'udevadm control --reload && udevadm trigger --action=change && udevadm settle' },
  { command: 'udevadm trigger --action=add --subsystem-match=net && udevadm settle' },
  { command: 'nmcli general reload' },
  { command: 'nmcli connection reload' },
  { command: 'systemctl reload NetworkManager.service' },
  { command: 'systemctl restart NetworkManager.service && nm-online --quiet --timeout=60' },
  { command: 'systemctl daemon-reload' },
  { command: 'systemctl daemon-reexec' },
  { command: 'networkctl reload', needs: 'systemctl is-active systemd-networkd.service', undoes: true },
  { command: 'systemctl restart nftables.service', needs: 'systemctl cat nftables.service', undoes: true },
  { command: 'firewall-cmd --reload', needs: 'systemctl is-active firewalld.service', undoes: true },
];

const ENIBOOT = '/usr/libexec/eniboot/current/eniboot';

/** Names of the checks that fail: with a VM's stand-ins one may fail from the start. */
async function failingChecks(node: Node, patience: number): Promise<string[]> {
  const { stdout, stderr } = await node.machine.run(`${ENIBOOT} check --json`, 120_000 * patience);
  assert.ok(stdout.startsWith('{'), stderr);
  const { checks } = JSON.parse(stdout) as { checks: { id: string; result: string }[] };
  return checks.filter(({ result }) => result === 'fail').map(({ id }) => id);
}

/** Boot's settings persist, or repair restores them; the boot ENI keeps its address, and pod ENIs stay without one. */
async function reloaded(
  node: Node,
  { command, undoes, needs }: Reload,
  failing: string[],
  patience: number,
): Promise<void> {
  const { machine } = node;
  if (needs !== undefined && (await machine.run(needs)).exitCode !== 0) return;
  // Stopped, so that its timer does not hide what the reload has undone.
  await machine.run('systemctl stop eniboot-repair.timer');
  const done = await machine.run(command, 120_000 * patience);
  assert.equal(done.exitCode, 0, `${command}: ${done.stderr}`);
  const repaired = await machine.run(`${ENIBOOT} repair --json`, 120_000 * patience);
  assert.equal(repaired.exitCode, 0, `${command}: ${repaired.stdout}${repaired.stderr}`);
  const { changes } = JSON.parse(repaired.stdout) as { changes: string[] };
  if (undoes !== true) assert.deepEqual(changes, [], `${command} undid something`);
  assert.deepEqual(await failingChecks(node, patience), failing, command);
  await machine.run('systemctl start eniboot-repair.timer');
  await egressIsPublic(node);
}

/** Waits until EC2 has attached the pod ENI that the agent asked for. */
async function attached(node: Node): Promise<void> {
  for (let tries = 0; node.instance.enis[1]?.attachment?.status !== 'attached'; tries += 1) {
    assert.ok(tries < 6_000, 'the agent attached no ENI');
    await delay(20);
  }
}

/** Attaches another pod ENI, as the agent's refill or an operator would hours later. */
async function attachAnother(node: Node) {
  const { cloud, instance } = node;
  const [, podEni] = instance.enis;
  assert.ok(podEni);
  const created = cloud.ec2.send('CreateNetworkInterface', { SubnetId: podEni.subnetId }) as {
    NetworkInterface: { NetworkInterfaceId: string };
  };
  const { NetworkInterfaceId } = created.NetworkInterface;
  cloud.ec2.send('AttachNetworkInterface', { NetworkInterfaceId, InstanceId: instance.id, DeviceIndex: 2 });
  const eni = cloud.enis.get(NetworkInterfaceId);
  assert.ok(eni);
  const seen = await node.machine.run(`until ip -o link | grep -q ${eni.mac}; do sleep 0.2; done`, 60_000);
  assert.equal(seen.exitCode, 0, 'the device comes');
  return eni;
}

/** The MACs with a lease, from the file of the VPC's DHCP server. */
function leasedMacs(): Set<string> {
  const lines = readFileSync('/run/eniboot-aws/dhcp/leases', 'utf8').trim().split('\n');
  return new Set(lines.flatMap((line) => line.split(' ')[1] ?? []));
}

/** Packets that the guest has sent through an ENI. */
function packetsFrom(node: Node, eniId: string): number {
  const tap = node.instance.deviceOf(eniId) ?? '';
  return Number(readFileSync(`/sys/class/net/${tap}/statistics/rx_packets`, 'utf8'));
}

/** The ruleset without its counters. */
async function ruleset(node: Node): Promise<string> {
  const listed = await node.machine.run('nft --stateless list ruleset');
  assert.equal(listed.exitCode, 0, listed.stderr);
  return listed.stdout;
}

function timing(boot: string, seen: Observation): Timing {
  const at = (unit: Record<string, string>, property: string) => Number(unit[property] ?? 0) / 1e6;
  const started = at(seen.eniboot, 'InactiveExitTimestampMonotonic');
  const { seconds } = seen.status;
  const own = seen.status.phases.reduce((sum, phase) => sum + phase.ms - phase.waitMs, 0) / 1000;
  const verdict =
    at(seen.eniboot, 'ActiveEnterTimestampMonotonic') || at(seen.eniboot, 'InactiveEnterTimestampMonotonic');
  return {
    boot,
    powerOn: seen.powerOnMs === undefined ? undefined : seen.powerOnMs / 1000,
    started,
    verdict,
    kubelet: at(seen.kubelet, 'ExecMainStartTimestampMonotonic') || undefined,
    eniboot: seconds,
    own,
  };
}

async function withGate(
  bench: Bench,
  options: NodeOptions,
  body: (node: Node) => Promise<Timing[]>,
): Promise<Timing[]> {
  if (!hasGate(bench)) await (await nodeAtGate(bench)).end();
  return withNode(nodeFromGate(bench, options), body);
}

async function withNode(starting: Promise<Node>, body: (node: Node) => Promise<Timing[]>): Promise<Timing[]> {
  const node = await starting;
  try {
    const timings = await body(node);
    assert.deepEqual(
      await node.cloud.network.spoofed(),
      [],
      'no packet left with an address its ENI does not have',
    );
    return timings;
  } catch (error) {
    if (error instanceof Error) error.message += await lastWords(node);
    throw error;
  } finally {
    await node.end();
  }
}

/** The output that helps first with a failed case. */
async function lastWords(node: Node): Promise<string> {
  const console = node.machine.console().split('\n').slice(-15).join('\n');
  const asked = node.machine.run(
    'journalctl -b -o short-monotonic --no-pager -u eniboot -u kubelet -u eniboot-repair | tail -40',
    20_000,
  );
  const journal = await asked.then(({ stdout }) => stdout).catch((error: Error) => error.message);
  return `\n--- console\n${console}\n--- journal\n${journal}`;
}
