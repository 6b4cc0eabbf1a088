// time limit: 300 s
// Bandwidth of pods: by their CPU, by the runtime's request, and unlimited without either.
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Cloud, startCloud } from '../aws/index.ts';
import { configText } from '../boot/node.ts';
import { type Answer, bootPodNode, conf, type PodNode, variablesOf } from './rig.ts';

let cloud: Cloud;
let node: PodNode;

/** The node has 1,000 Mbit/s for each of 8 CPUs; this replaces what boot found out about this machine. */
const bandwidth = { baselineBits: 8e9, cpus: 8, floorBits: 100e6 };

test.before(async () => {
  cloud = await startCloud();
  node = await bootPodNode(cloud, {
    config: configText(cloud, 'pool: { target: 32, restSeconds: 0 }\n'),
  });
});
test.after(() => cloud.stop());

function tellPlugin(limits: typeof bandwidth | undefined): void {
  const facts = JSON.parse(node.instance.read('/run/eniboot/node.json') ?? '{}');
  node.instance.write('/run/eniboot/node.json', JSON.stringify({ ...facts, bandwidth: limits }));
}

async function add(name: string, runtimeConfig: unknown): Promise<Answer> {
  await node.sh(`ip netns add ${name}`);
  return node.cni('ADD', variablesOf(name, `/run/netns/${name}`), { ...conf, runtimeConfig });
}

async function remove(name: string): Promise<void> {
  const { exit, stdout } = await node.cni('DEL', variablesOf(name, `/run/netns/${name}`));
  assert.is(exit, 0, stdout);
  await node.sh(`ip netns del ${name}`);
}

/** The limits in a pod, in bit/s, read from the kernel: egress by tc, ingress by nftables. */
async function limitsIn(name: string): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const qdisc of JSON.parse(await node.sh(`ip netns exec ${name} tc -j qdisc`))) {
    if (qdisc.kind === 'tbf') found[`${qdisc.dev} out`] = qdisc.options.rate * 8;
  }
  const rules = JSON.parse(await node.sh(`ip netns exec ${name} nft -j list ruleset`)).nftables;
  for (const { rule } of rules) {
    const limit = rule?.expr.find((one: any) => one.limit)?.limit;
    if (limit === undefined) continue;
    assert.is(limit.inv, true);
    assert.is(limit.per, 'second');
    const unit = { bytes: 8, kbytes: 8_192, mbytes: 8_388_608 }[limit.rate_unit as string] ?? Number.NaN;
    found[`${rule.expr[0].match.right} in`] = limit.rate * unit;
  }
  return found;
}

const all = (ingress: number, egress = ingress) => ({
  'eth0 out': egress,
  'veth0 out': egress,
  'eth0 in': ingress,
  'veth0 in': ingress,
});

/** Bit/s that arrive at `to` from `from` ('' is the node), measured for about two seconds after the burst. */
async function throughput(from: string, to: string, address: string): Promise<number> {
  const sink = `const at = []; let sum = 0;
    require('node:net').createServer((c) => c.on('data', (d) => { sum += d.length; at.push([performance.now(), sum]); }).on('error', () => {}).on('close', () => {
      const t = at[0][0] + 1500; const first = at.find((one) => one[0] >= t) ?? at[0]; const last = at[at.length - 1];
      console.log(Math.round((last[1] - first[1]) * 8000 / (last[0] - first[0]))); process.exit();
    })).listen(5001, '0.0.0.0', () => console.log('up'))`;
  const source = `const c = require('node:net').connect(5001, process.argv[1]); const data = Buffer.alloc(65536); c.on('error', () => process.exit());
    const send = () => { while (c.write(data)); c.once('drain', send); }; c.once('connect', send);
    setTimeout(() => { c.resetAndDestroy(); process.exit(); }, 3500);`;
  const inside = (name: string, args: string[]) =>
    name === '' ? args : ['ip', 'netns', 'exec', name, ...args];
  const [file = '', ...args] = inside(to, [process.execPath, '-e', sink]);
  const server = node.instance.spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  const done = new Promise<void>((resolve) => server.once('close', () => resolve()));
  await new Promise<void>((resolve) =>
    server.stdout?.on('data', (data) => {
      said += String(data);
      if (said.includes('up')) resolve();
    }),
  );
  const [client = '', ...rest] = inside(from, [process.execPath, '-e', source, address]);
  await node.instance.run(client, rest);
  await done;
  return Number(said.split('\n')[1]);
}

test('without a request nothing is limited', async () => {
  for (const runtimeConfig of [undefined, {}, { cgroupPath: '/kubepods/pod0' }, { bandwidth: {} }]) {
    const { exit, stdout, stderr } = await add('off', runtimeConfig);
    assert.is(exit, 0, stdout);
    assert.is(stderr, '');
    assert.equal(await limitsIn('off'), {});
    await remove('off');
  }
  const facts = JSON.parse(node.instance.read('/run/eniboot/node.json') ?? '{}');
  assert.is(facts.bandwidth, undefined);
  assert.not.match(node.instance.read('/etc/cni/net.d/10-eniboot.conflist') ?? '', /capabilities/);
});

test('the limits that the runtime requests hold on both links in both directions', async () => {
  const rate = 40e6;
  const asked = await add('asked', { bandwidth: { ingressRate: rate, egressRate: rate / 2 } });
  const free = await add('free', {});
  assert.is(free.exit, 0);
  assert.equal(await limitsIn('asked'), all(rate, rate / 2));
  const addressOf = (answer: Answer) => answer.json.ips[0].address.split('/')[0];
  const boot = node.instance.bootEni.primaryIp;
  const unlimited = await throughput('free', '', boot);
  for (const [from, to, address, limit] of [
    ['asked', '', boot, rate / 2],
    ['asked', 'free', addressOf(free), rate / 2],
    ['', 'asked', addressOf(asked), rate],
    ['free', 'asked', addressOf(asked), rate],
  ] as const) {
    const measured = await throughput(from, to, address);
    const ratio = measured / limit;
    console.log(`${from || 'node'} → ${to || 'node'}: ${ratio.toFixed(2)} of the limit`);
    assert.ok(ratio > 0.4 && ratio < 1.3, `${from} → ${to}: ${measured} of ${limit}`);
    assert.ok(unlimited > 3 * limit, `without a limit only ${unlimited}`);
  }
  // CHECK compares with the limits that ADD noted, also when its own request has others; it finds changed limits.
  const check = () =>
    node.cni('CHECK', variablesOf('asked', '/run/netns/asked'), { ...conf, prevResult: asked.json });
  const content = await check();
  assert.is(content.exit, 0, content.stdout);
  await node.sh(
    `ip netns exec asked tc qdisc replace dev veth0 root tbf rate 1mbit burst 131072 latency 25ms`,
  );
  await node.sh(`ip netns exec asked nft flush chain ip eniboot arriving`);
  const { json } = await check();
  assert.is(json.code, 102);
  assert.match(json.msg, /the pod's limit veth0 .* differs: it is 1000000 bit\/s/);
  assert.match(json.msg, /the pod's chain arriving .* differs/);
  await remove('asked');
  await remove('free');
});

/** Makes the files of a pod's cgroup as kubelet does, on a stand-in for the cgroup file system. */
async function cgroup(path: string, max: string, weight: number): Promise<void> {
  await node.sh(`mountpoint -q /sys/fs/cgroup/kubepods.slice || {
      mount -t tmpfs cgroup-stand-in /sys/fs/cgroup && mkdir /sys/fs/cgroup/kubepods.slice && mount -t tmpfs none /sys/fs/cgroup/kubepods.slice; }
    mkdir -p /sys/fs/cgroup${path}; echo '${max}' > /sys/fs/cgroup${path}/cpu.max; echo ${weight} > /sys/fs/cgroup${path}/cpu.weight`);
}

/** kubelet's own arithmetic: millicores to shares (MilliCPUToShares) to weight (getCPUWeight). */
function weightOf(milliCpu: number): number {
  const shares = Math.max(2, Math.floor((milliCpu * 1024) / 1000));
  return 1 + Math.floor(((shares - 2) * 9999) / 262_142);
}

const UID = '0a1b2c3d-0000-4000-8000-123456789abc';
const POD = `kubepods-burstable-pod${UID.replaceAll('-', '_')}.slice`;
const SLICE = `/kubepods.slice/kubepods-burstable.slice/${POD}`;

test("by CPU: the share is the pod's CPU limit, else its request, of the node's CPUs", async () => {
  tellPlugin(bandwidth);
  const cases: [what: string, path: string, given: string, max: string, weight: number, mbps: number][] = [
    ['a limit of 2 CPUs', SLICE, SLICE, '200000 100000', weightOf(250), 2_000],
    ['a limit in another period', SLICE, SLICE, '12500 25000', weightOf(100), 500],
    ['a request of 1.5 CPUs, as cri-o names the cgroup', SLICE, POD, 'max 100000', weightOf(1_500), 1_500],
    [
      'a request, as cgroupfs names it',
      `/kubepods/burstable/pod${UID}`,
      `/kubepods/burstable/pod${UID}`,
      'max 100000',
      weightOf(3_000),
      3_000,
    ],
    ["a cgroup inside a pod's", SLICE, `${SLICE}/crio-1.scope`, '100000 100000', 39, 1_000],
    ['no request at all', SLICE, SLICE, 'max 100000', 1, 100],
    ['more CPUs than there are', SLICE, SLICE, '6400000 100000', 39, 8_000],
  ];
  for (const [what, path, given, max, weight, mbps] of cases) {
    await cgroup(path, max, weight);
    const { exit, stdout, stderr } = await add('cpu', { cgroupPath: given });
    assert.is(exit, 0, stdout);
    assert.is(stderr, '', what);
    for (const [link, bits] of Object.entries(await limitsIn('cpu'))) {
      assert.ok(Math.abs(bits / 1e6 / mbps - 1) < 0.03, `${what}: ${link} ${bits / 1e6}, not ${mbps} Mbit/s`);
    }
    assert.is(Object.keys(await limitsIn('cpu')).length, 4, what);
    await remove('cpu');
  }
});

test("the runtime's request comes before the share by CPU, for each direction", async () => {
  tellPlugin(bandwidth);
  await cgroup(SLICE, '100000 100000', 39);
  await add('both', { cgroupPath: SLICE, bandwidth: { egressRate: 5e6, egressBurst: 2 ** 35 - 9 } });
  assert.equal(await limitsIn('both'), all(1e9, 5e6));
  await remove('both');
  // The request is faster than any ENI. It still replaces the share.
  await add('fast', { cgroupPath: SLICE, bandwidth: { egressRate: 1e12, ingressRate: 1e12 } });
  assert.equal(await limitsIn('fast'), {});
  await remove('fast');
});

test('a request for one direction limits that direction only', async () => {
  tellPlugin(undefined);
  await add('one', { bandwidth: { ingressRate: 8e6 } });
  assert.equal(await limitsIn('one'), { 'eth0 in': 8e6, 'veth0 in': 8e6 });
  await remove('one');
  await add('one', { bandwidth: { egressRate: 8e6 } });
  assert.equal(await limitsIn('one'), { 'eth0 out': 8e6, 'veth0 out': 8e6 });
  await remove('one');
});

test('an unknown share limits nothing, and is reported', async () => {
  tellPlugin(bandwidth);
  await cgroup(SLICE, 'max 100000', 39);
  for (const [runtimeConfig, says] of [
    [{}, /no cgroupPath/],
    [{ cgroupPath: '/system.slice/podman-1.scope' }, /not the cgroup of a pod/],
    [{ cgroupPath: `/kubepods.slice/kubepods-pod${UID.replaceAll('-', '_')}.slice` }, /has no cpu.max/],
  ] as const) {
    const { exit, stderr } = await add('unknown', runtimeConfig);
    assert.is(exit, 0);
    assert.match(stderr, says);
    assert.match(stderr, /^eniboot: unknown: no bandwidth limit by CPU: .*\n$/);
    assert.equal(await limitsIn('unknown'), {});
    await remove('unknown');
  }
  tellPlugin(undefined);
});

test('an invalid limit is refused by its name, and nothing is made', async () => {
  for (const [runtimeConfig, field] of [
    [{ bandwidth: 5 }, 'runtimeConfig.bandwidth'],
    [{ bandwidth: { ingressRate: '10M' } }, 'runtimeConfig.bandwidth.ingressRate'],
    [{ bandwidth: { egressRate: -1 } }, 'runtimeConfig.bandwidth.egressRate'],
    [{ bandwidth: { egressRate: 1.5 } }, 'runtimeConfig.bandwidth.egressRate'],
    [{ bandwidth: { egressRate: 2e15 } }, 'runtimeConfig.bandwidth.egressRate'],
    [{ bandwidth: { ingressBurst: 10 } }, 'runtimeConfig.bandwidth.ingressBurst'],
    [{ cgroupPath: 7 }, 'runtimeConfig.cgroupPath'],
    [{ cgroupPath: '/kubepods/../../etc' }, 'runtimeConfig.cgroupPath'],
  ] as const) {
    const { exit, json } = await add('bad', runtimeConfig);
    assert.is.not(exit, 0);
    assert.is(json.code, 7);
    assert.ok(json.msg.includes(`${field}: `), json.msg);
    await node.sh('ip netns del bad');
  }
  assert.equal(await node.leftovers(), []);
});

test('without tc an ADD with limits fails, names tc and leaves nothing; an ADD without limits needs no tc', async () => {
  await node.sh(`mkdir -p /run/none && mount --bind /run/none /run/none && for tool in /usr/sbin/tc /sbin/tc; do
    [ ! -e $tool ] || mount --bind /dev/null $tool; done`);
  const { json } = await add('tool', { bandwidth: { egressRate: 1e6 } });
  assert.is(json.code, 100, JSON.stringify(json));
  assert.match(json.msg, /tc/);
  assert.equal(await node.leftovers(), []);
  const free = await node.cni('ADD', variablesOf('tool', '/run/netns/tool'));
  assert.is(free.exit, 0, free.stdout);
  await remove('tool');
  await node.sh('for tool in /usr/sbin/tc /sbin/tc; do umount $tool 2>/dev/null || :; done');
});

test('a program gets only pipes and /dev/null, which SELinux allows it to inherit', async () => {
  await node.sh(`mkdir -p /run/stand-in/bin; cat >/run/stand-in/bin/tc <<'EOF'
#!/bin/sh
streams=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2)
echo "$streams" >>/run/tc-streams
exec /usr/sbin/tc "$@"
EOF
    chmod +x /run/stand-in/bin/tc`);
  const { exit, stdout } = await add('pipes', { bandwidth: { egressRate: 8e6 } });
  assert.is(exit, 0, stdout);
  const streams = (await node.sh('cat /run/tc-streams; rm /run/stand-in/bin/tc')).trim().split('\n');
  assert.is(streams.length, 3);
  for (const stream of streams) assert.match(stream, /^pipe:\[\d+\]$/);
  await remove('pipes');
});

test('boot writes the bandwidth to share for the plugin, and the capability into the conflist', async () => {
  const text = configText(cloud).replace('pods:\n', 'pods:\n  bandwidth: { from: cpu }\n');
  const shared = await bootPodNode(cloud, { config: text });
  const facts = JSON.parse(shared.instance.read('/run/eniboot/node.json') ?? '{}');
  assert.is(facts.bandwidth.floorBits, 100e6);
  assert.ok(facts.bandwidth.baselineBits > 0 && facts.bandwidth.cpus > 0);
  const list = JSON.parse(shared.instance.read('/etc/cni/net.d/10-eniboot.conflist') ?? '{}');
  assert.equal(list.plugins[0].capabilities, { bandwidth: true, cgroupPath: true });
  const check = await shared.eniboot(['check', '--json']);
  assert.match(check.stdout, /Mbit\/s for each CPU of a pod/);
});

test.run();
