import { execFileSync, spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Instance, startCloud } from './index.ts';
import type { Drop } from './network/network.ts';

const cloud = await startCloud();
const subnets = [...cloud.subnets.values()];
const node = await cloud.launch({ podEnis: [{ prefixes: 1, addresses: 0 }] });
const otherNode = await cloud.launch({ subnet: subnets[1]?.id ?? '' });
const podEni = node.enis[1];
const podDevice = node.deviceOf(podEni?.id ?? '') ?? '';

async function sh(instance: Instance, script: string): Promise<string> {
  const result = await instance.run('sh', ['-c', script], { timeoutMs: 8000 });
  return (result.stdout + result.stderr).trim();
}

async function succeeds(instance: Instance, script: string): Promise<boolean> {
  return (await instance.run('sh', ['-c', script], { timeoutMs: 8000 })).exitCode === 0;
}

function packets(drops: Drop[], address: string): number {
  return drops.filter((drop) => drop.address === address).reduce((sum, drop) => sum + drop.packets, 0);
}

function tapsAllowed(): boolean {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** A pod's address without the plugins: it is on the ENI's own device, because EC2 drops the other MAC of a macvlan. */
const podAddress = (podEni?.prefixes[0] ?? '').replace(
  /\.\d+\/28$/,
  (tail) => `.${Number.parseInt(tail.slice(1), 10) + 3}`,
);

/** Takes TCP connections on every address of the instance. */
async function listen(instance: Instance): Promise<void> {
  const server = instance.spawn('socat', ['-d', '-d', '-u', 'TCP4-LISTEN:80,fork,reuseaddr', '/dev/null'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  await new Promise((done) =>
    server.stderr?.on('data', (line: Buffer) => line.includes('listening') && done(undefined)),
  );
}

function connects(from: Instance, to: string, source?: string): Promise<boolean> {
  const bind = source === undefined ? '' : `,bind=${source}`;
  return succeeds(from, `socat -u /dev/null TCP4:${to}:80,connect-timeout=1${bind}`);
}

test.before(async () => {
  await Promise.all([listen(node), listen(otherNode)]);
});
test.after(() => cloud.stop());

test('the Internet sees the public address of the boot ENI, and reaches it', async () => {
  assert.is(await sh(node, `curl -sS -m 2 ${cloud.internet.curlTarget}`), node.bootEni.publicIp);
  assert.is(await sh(otherNode, `curl -sS -m 2 ${cloud.internet.curlTarget}`), otherNode.bootEni.publicIp);
  assert.is.not(node.bootEni.publicIp, otherNode.bootEni.publicIp);
});

test('a packet with a source EC2 did not assign is dropped and counted', async () => {
  const forged = '10.0.0.99';
  assert.not.ok(
    await succeeds(
      node,
      `ip addr add ${forged}/32 dev ens5; curl -sS -m 1 --interface ${forged} ${cloud.internet.curlTarget}`,
    ),
  );
  assert.ok(packets(await cloud.network.spoofed(), forged) > 0);
  assert.is(await sh(node, `ip addr del ${forged}/32 dev ens5`), '');
});

test('the check can be switched off for an ENI, and on again', async () => {
  const forged = '10.0.0.98';
  const probe = (): Promise<boolean> => connects(node, otherNode.bootEni.primaryIp, forged);
  await sh(node, `ip addr add ${forged}/32 dev ens5`);
  const count = async (): Promise<number> => packets(await cloud.network.spoofed(), forged);
  await probe();
  const before = await count();
  assert.ok(before > 0);
  const change = async (Value: boolean): Promise<void> => {
    cloud.ec2.send('ModifyNetworkInterfaceAttribute', {
      NetworkInterfaceId: node.bootEni.id,
      SourceDestCheck: { Value },
    });
    await cloud.settled();
  };
  await change(false);
  await probe();
  assert.is(await count(), before);
  await change(true);
  await probe();
  assert.ok((await count()) > before);
  await sh(node, `ip addr del ${forged}/32 dev ens5`);
});

test('instances in two subnets reach each other by private address', async () => {
  assert.ok(await connects(node, otherNode.bootEni.primaryIp));
});

test('the router answers ARP at .1, also to a probe without a sender address', async () => {
  await sh(node, `ip link set ${podDevice} up`);
  assert.match(await sh(node, `arping -D -c 1 -w 5 -I ${podDevice} 10.0.64.1`), 'Received 1 response');
  assert.match(await sh(node, `arping -c 1 -w 5 -I ens5 10.0.0.1`), 'Received 1 response');
});

test('routers can be silent to ARP probes without a sender, or to all', async () => {
  const answers = async (options: string): Promise<boolean> =>
    succeeds(node, `arping -c 1 -w 1 ${options} | grep -q 'Received 1'`);
  const probe = `-D -I ${podDevice} 10.0.64.1`;
  const ask = '-I ens5 10.0.0.1';
  await cloud.network.answerArp('addressed');
  assert.equal([await answers(probe), await answers(ask)], [false, true]);
  await cloud.network.answerArp('none');
  assert.equal([await answers(probe), await answers(ask)], [false, false]);
  await cloud.network.answerArp('all');
  assert.equal([await answers(probe), await answers(ask)], [true, true]);
});

test('an ARP request with a sender address that EC2 did not assign gets no answer', async () => {
  // On a device without an address plain arping sends the boot ENI's address, which is not assigned to this ENI.
  assert.match(
    await sh(node, `arping -c 1 -w 1 -s ${node.bootEni.primaryIp} -I ${podDevice} 10.0.64.1`),
    'Received 0 response',
  );
  assert.ok(
    (await cloud.network.spoofed()).some(
      (drop) => drop.mac === podEni?.mac && drop.address === node.bootEni.primaryIp,
    ),
  );
});

test("an address from an ENI's prefix works on that ENI, but not to the Internet and not after it is taken back", async () => {
  assert.ok(podEni);
  const table = [
    `ip addr add ${podAddress}/32 dev ${podDevice}`,
    `ip route add 10.0.64.1 dev ${podDevice} table 77`,
    `ip route add default via 10.0.64.1 dev ${podDevice} table 77`,
    `ip rule add from ${podAddress} table 77`,
    'sysctl -qw net.ipv4.conf.all.rp_filter=0',
  ];
  assert.is(await sh(node, table.join(' && ')), '');
  assert.ok(await connects(otherNode, podAddress));
  assert.not.ok(await succeeds(node, `curl -sS -m 1 --interface ${podAddress} ${cloud.internet.curlTarget}`));
  assert.ok((await cloud.network.withoutPublic()).some((one) => one.address === podAddress));

  cloud.ec2.send('UnassignPrivateIpAddresses', {
    NetworkInterfaceId: podEni?.id,
    Ipv4Prefixes: podEni?.prefixes,
  });
  await cloud.settled();
  assert.not.ok(await connects(otherNode, podAddress));
  assert.not.ok(await connects(node, otherNode.bootEni.primaryIp, podAddress));
  assert.ok(packets(await cloud.network.spoofed(), podAddress) > 0);
});

test('a packet for an address that is not assigned is not delivered', async () => {
  const unassigned = '10.0.0.77';
  const mac = node.bootEni.mac;
  const before = packets(await cloud.network.undelivered(), unassigned);
  execFileSync('ip', ['neigh', 'replace', unassigned, 'lladdr', mac, 'dev', 'sub0', 'nud', 'permanent']);
  await connects(otherNode, unassigned);
  execFileSync('ip', ['neigh', 'del', unassigned, 'dev', 'sub0']);
  assert.ok(packets(await cloud.network.undelivered(), unassigned) > before);
});

test('a hop limit of 1 keeps IMDS answers from a container behind the instance', async () => {
  const inner = (ttlLimit: string): string => `
    ip netns add ${ttlLimit}; ip link add veth-h type veth peer name veth-p netns ${ttlLimit}
    ip addr add 172.20.0.1/30 dev veth-h; ip link set veth-h up
    ip -n ${ttlLimit} addr add 172.20.0.2/30 dev veth-p; ip -n ${ttlLimit} link set veth-p up; ip -n ${ttlLimit} route add default via 172.20.0.1
    sysctl -qw net.ipv4.ip_forward=1
    printf 'table ip t {\n chain c {\n type nat hook postrouting priority 100;\n ip saddr 172.20.0.2 masquerade\n }\n}\n' | nft -f -
    ip netns exec ${ttlLimit} curl -s -m 1 -o /dev/null -w '%{http_code}' -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' http://169.254.169.254/latest/api/token`;
  assert.is(await sh(otherNode, inner('one')), '000');
  const roomy = await cloud.launch({ imds: { hopLimit: 2 } });
  assert.is(await sh(roomy, inner('two')), '200');
  await roomy.terminate();
});

test('names resolve as in a VPC', async () => {
  const resolved = await sh(node, `getent ahostsv4 ip-10-0-1-4.${cloud.region}.compute.internal | head -1`);
  assert.match(resolved, '10.0.1.4');
});

const vmTest = tapsAllowed() ? test : test.skip; // an ordinary user may lack /dev/net/tun
vmTest('a VM gets a tap, a DHCP lease for its primary address and the same source checks', async () => {
  const plugged: string[] = [];
  const vm = await cloud.launch({
    vm: {
      onPlug: async (_eni, tap) => void plugged.push(tap),
      onUnplug: async (_eni, tap) => void plugged.splice(plugged.indexOf(tap), 1),
    },
  });
  const tap = vm.deviceOf(vm.bootEni.id) ?? '';
  // Stands in for QEMU: opens the tap, sends one DHCPDISCOVER and waits for the offer.
  const program = new URL('dhcp-probe.py', import.meta.url).pathname;
  const guest = spawn('python3', [program, tap, vm.bootEni.mac], { stdio: ['ignore', 'pipe', 'inherit'] });
  let offer = '';
  guest.stdout.on('data', (chunk: Buffer) => {
    offer += chunk.toString();
  });
  await new Promise((done) => guest.once('close', done));
  assert.equal(JSON.parse(offer), {
    address: vm.bootEni.primaryIp,
    router: '10.0.0.1',
    dns: '10.0.0.2',
    mask: '255.255.255.0',
    mtu: 9001,
  });

  const made = cloud.ec2.send('CreateNetworkInterface', { SubnetId: subnets[2]?.id }) as {
    NetworkInterface: { NetworkInterfaceId: string };
  };
  const { NetworkInterfaceId } = made.NetworkInterface;
  cloud.ec2.send('AttachNetworkInterface', { NetworkInterfaceId, InstanceId: vm.id, DeviceIndex: 1 });
  while (plugged.length === 0) await delay(5);
  assert.match(execFileSync('ip', ['-o', 'link', 'show', plugged[0] ?? '']).toString(), 'master sub2');
  cloud.ec2.send('DetachNetworkInterface', {
    AttachmentId: cloud.enis.get(NetworkInterfaceId)?.attachment?.id,
  });
  while (plugged.length > 0) await delay(5);
});

test.run();
