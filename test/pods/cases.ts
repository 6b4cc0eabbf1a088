// The tasks of pods on a real kernel, with a real ipvlan.
import assert from 'node:assert/strict';
import { contains } from '../../agent/host/ipv4.ts';
import { startCloud } from '../aws/index.ts';
import { conf, variablesOf } from '../cni/rig.ts';
import type { Outcome } from '../hostile/run.ts';
import { playInVm } from '../model/vm.ts';
import type { Case } from '../vm/case.ts';
import { askFromContainer, cnitool, imageArchive } from './callers.ts';
import { type Answer, dualStack } from './dual-stack.ts';
import { type Flow, type FlowFact, follow } from './flow.ts';
import { fill } from './full.ts';
import { measureGuards } from './guard-cost.ts';
import { playInVms } from './hostile.ts';
import { bootPodNode } from './node.ts';
import { endPair, nodePair, type Pair } from './pair.ts';
import { measurePaths } from './paths.ts';
import { proxyModes, proxyOff, proxyOn } from './proxy.ts';
import { serviceFlows, servicesOf } from './services.ts';

/** Facts that a case found out, for the evidence. */
export interface Facts {
  flows?: FlowFact[];
  answers?: Answer[];
  hostile?: Record<string, Outcome>;
  [figure: string]: unknown;
}

export const cases: readonly Case<Facts>[] = [
  {
    name: 'pods-and-nodes',
    title:
      'pods reach pods, nodes and the Internet across ENIs, nodes, zones and clusters, without NAT inside the VPC',
    quick: true,
    run: async (bench) => {
      const pair = await nodePair(bench);
      const { one, two, a, b, c, far, cloud } = pair;
      const enis = one.node.instance.enis.map((eni) => eni.secondaryIps);
      assert.ok(enis[1]?.includes(a.address) && enis[1].includes(b.address), 'a and b share an ENI');
      assert.ok(enis[2]?.includes(c.address), 'c is on another');
      const flows = await followAll(pair, [
        { what: 'pod to pod on its ENI', client: [one, 'a'], to: `${b.address}:80`, sees: a.address },
        {
          what: 'pod to pod on another ENI of its node',
          client: [one, 'a'],
          to: `${c.address}:80`,
          sees: a.address,
        },
        { what: 'pod to pod on another node', client: [one, 'a'], to: `${far.address}:80`, sees: a.address },
        {
          what: 'pod on another node to pod',
          client: [two, 'far'],
          to: `${c.address}:80`,
          sees: far.address,
        },
        { what: 'pod to its node', client: [one, 'c'], to: `${one.address}:80`, sees: c.address },
        { what: 'node to its pod', client: [one, ''], to: `${c.address}:80`, sees: one.address },
        { what: 'pod to another node', client: [one, 'a'], to: `${two.address}:80`, sees: a.address },
        {
          what: 'node to a pod of another node',
          client: [two, ''],
          to: `${a.address}:80`,
          sees: two.address,
        },
        {
          what: "pod to the Internet, by the boot ENI's public address",
          client: [one, 'c'],
          to: cloud.internet.curlTarget,
          sees: one.node.instance.bootEni.publicIp ?? 'none',
        },
      ]);
      const imds =
        'curl -s --max-time 5 -o /dev/null -w %{http_code} http://169.254.169.254/latest/meta-data/ || true';
      assert.equal(await one.sh(`ip netns exec a ${imds}`), '000', 'IMDS does not answer a pod');
      assert.equal(await one.sh(imds), '401', 'IMDS answers the node');
      // CHECK only reads the kernel.
      const check = await one.cni(
        'CHECK',
        { ...variablesOf('c', c.netns), PATH: '/nowhere' },
        { ...conf, prevResult: c.result },
      );
      assert.equal(check.exit, 0, check.stdout);
      return { flows, ...(await clean(pair)) };
    },
  },
  {
    name: 'lost-namespace',
    title:
      'an address that a lost namespace still carries is not given to a pod: the kernel refuses, the next one is taken',
    quick: true,
    run: async (bench) => {
      const pair = await nodePair(bench);
      const { one } = pair;
      const before = await one.leftovers();
      const lost = await one.addPod('lost');
      // A process keeps the namespace and its ipvlan, and the pool has lost the lease: the next pod would get this address first.
      const holder = await one.sh(`setsid ip netns exec lost sleep 3600 >/dev/null 2>&1 & echo $!
        until [ "$(readlink /proc/$!/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.1; done
        ip netns del lost
        cd /run/eniboot/pool
        for lease in leased/*,lost,eth0; do eni=\${lease#*,}; mv "$lease" "free/${lost.address},\${eni%%,*},0"; done`);
      const next = await one.addPod('next');
      assert.notEqual(next.address, lost.address);
      const noted = await one.sh('ls /run/eniboot/pool/in-use');
      assert.ok(noted.includes(`${lost.address},`), 'the refused address is noted');
      const free = await one.sh('ls /run/eniboot/pool/free');
      assert.ok(free.includes(`${lost.address},`), 'the refused address stays free');
      const flows = await followAll(pair, [
        {
          what: 'the next pod',
          client: [one, 'next'],
          to: `${pair.far.address}:80`,
          sees: next.address,
        },
      ]);
      // After the namespace and the note are gone, the address is like any other.
      await one.sh(`kill ${holder.trim()}; sleep 2; rm -r /run/eniboot/pool/in-use`);
      await one.deletePod('next');
      const again = await one.addPod('again');
      assert.equal(again.address, lost.address, 'it has rested longest');
      await one.deletePod('again');
      assert.deepEqual(await one.leftovers(), before);
      return { flows, refused: lost.address, ...(await clean(pair)) };
    },
  },
  {
    name: 'starving',
    title:
      'a pod with NET_ADMIN that carries nearly all free addresses does not keep other pods from starting, and is named',
    run: async (bench) => {
      const pair = await nodePair(bench);
      const { two } = pair;
      const before = await two.leftovers();
      await two.addPod('evil');
      const names = await two.sh('ls /run/eniboot/pool/free | sort -V | cut -d, -f1');
      // Two are left for the pods that follow.
      const taken = names.trim().split('\n').slice(0, -2);
      assert.ok(taken.length >= 12, names);
      await two.sh(taken.map((address) => `ip -n evil address add ${address}/20 dev eth0`).join('\n'));
      const timed: number[] = [];
      for (const name of ['first', 'second']) {
        await two.sh(`ip netns add ${name}`);
        const began = performance.now();
        const { exit, stdout } = await two.cni('ADD', {
          ...variablesOf(name, `/run/netns/${name}`),
          PATH: '/nowhere',
        });
        timed.push(Math.round(performance.now() - began));
        assert.equal(exit, 0, stdout);
      }
      // Addresses of other pods may begin or end their rest meanwhile.
      const cooling = await two.sh('ls /run/eniboot/pool/cooling | cut -d, -f1');
      const resting = cooling.split('\n').filter((address) => taken.includes(address));
      assert.deepEqual(resting, [], 'none of them rests');
      const pool = JSON.parse(await two.sh('/usr/libexec/eniboot/current/eniboot pool --json'));
      assert.deepEqual(pool.carried.map(({ address }: { address: string }) => address).sort(), taken.sort());
      assert.ok(pool.carried.every(({ pod }: { pod?: string }) => pod === 'evil'));
      for (const name of ['evil', 'first', 'second']) await two.deletePod(name);
      assert.deepEqual(await two.leftovers(), before);
      await two.sh('rm -r /run/eniboot/pool/in-use');
      return { tried: pool.inUse, addMs: timed, ...(await clean(pair)) };
    },
  },
  ...proxyModes.map(
    (mode): Case<Facts> => ({
      name: `services-${mode}`,
      title: `Services and NodePorts, kube-proxy (a stand-in) in ${mode} mode: pods keep their address, Local the client's`,
      run: async (bench) => {
        const pair = await nodePair(bench);
        const { one, a } = pair;
        await one.sh(proxyOn(mode, one.address, servicesOf(pair)));
        try {
          const flows = await followAll(pair, serviceFlows(mode, pair));
          assert.equal(await one.ask('a', '172.20.0.53:53', 'UDP4'), a.address, 'a Service of UDP');
          return { flows, ...(await clean(pair)) };
        } finally {
          await one.sh(proxyOff(mode));
        }
      },
    }),
  ),
  {
    name: 'chained',
    title:
      "libcni (cnitool) with portmap, tuning, sbr, firewall and bandwidth behind eniboot; a hostPort shows the client's address",
    run: async (bench) => {
      const pair = await nodePair(bench);
      const { one, two, b, far } = pair;
      const before = await one.leftovers();
      const list = {
        name: 'chained',
        plugins: [
          { type: 'eniboot' },
          { type: 'portmap', capabilities: { portMappings: true } },
          { type: 'tuning', sysctl: { 'net.core.somaxconn': '500' } },
          { type: 'firewall', backend: 'iptables' },
          { type: 'bandwidth', capabilities: { bandwidth: true } },
        ],
      };
      const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }];
      await one.sh('ip netns add web');
      const added = JSON.parse(await cnitool(one, 'add', list, 'web', { portMappings }));
      // CHECK of bandwidth requires a veth even when it has set no limit. So bandwidth is not in the chain for CHECK.
      const others = { ...list, plugins: list.plugins.filter(({ type }) => type !== 'bandwidth') };
      await cnitool(one, 'check', others, 'web', { portMappings });
      const checked = await refusalOf(cnitool(one, 'check', list, 'web', { portMappings }));
      assert.match(checked, /no veth peer/);
      const web = added.ips[0].address.split('/')[0];
      assert.equal((await one.sh('ip netns exec web sysctl -n net.core.somaxconn')).trim(), '500');
      await one.serve(['web']);
      const publicIp = one.node.instance.bootEni.publicIp ?? 'none';
      const flows = await followAll(pair, [
        {
          what: 'hostPort from a node of the VPC',
          client: [two, ''],
          to: `${one.address}:8080`,
          sees: two.address,
        },
        {
          what: 'hostPort from a pod of the VPC',
          client: [two, 'far'],
          to: `${one.address}:8080`,
          sees: far.address,
        },
        {
          what: 'hostPort from a pod of the node',
          client: [one, 'b'],
          to: `${one.address}:8080`,
          sees: b.address,
        },
        {
          what: 'hostPort from the Internet',
          client: 'internet',
          to: `${publicIp}:8080`,
          sees: '203.0.113.80',
        },
        { what: 'from the chained pod', client: [one, 'web'], to: `${far.address}:80`, sees: web },
      ]);
      await cnitool(one, 'del', list, 'web', { portMappings });
      await one.sh('kill $(ip netns pids web); ip netns del web');

      // With limits, bandwidth requires a veth for eth0, and an ipvlan is none: the ADD fails with this reason and is undone.
      await one.sh('ip netns add slow');
      const bandwidth = { ingressRate: 1e6, ingressBurst: 1e6, egressRate: 1e6, egressBurst: 1e6 };
      const refusal = await refusalOf(cnitool(one, 'add', list, 'slow', { bandwidth }));
      assert.match(refusal, /veth/);
      await cnitool(one, 'del', list, 'slow', { bandwidth });
      await one.sh('ip netns del slow');
      assert.deepEqual(await one.leftovers(), before);
      return { flows, checked: checked.slice(-300), refusal: refusal.slice(-300), ...(await clean(pair)) };
    },
  },
  {
    name: 'sbr',
    title:
      "sbr behind eniboot: it takes eth0's routes out of the main table, which eniboot's CHECK names; pods are reached, the Internet is not",
    run: async (bench) => {
      const pair = await nodePair(bench);
      const { one, far, cloud } = pair;
      const before = await one.leftovers();
      const list = { name: 'sbr', plugins: [{ type: 'eniboot' }, { type: 'sbr' }] };
      await one.sh('ip netns add routed');
      const added = JSON.parse(await cnitool(one, 'add', list, 'routed'));
      const address = added.ips[0].address.split('/')[0];
      const flows = await followAll(pair, [
        { what: 'from a pod with sbr', client: [one, 'routed'], to: `${far.address}:80`, sees: address },
      ]);
      const complaint = await cnitool(one, 'check', list, 'routed').then(
        () => assert.fail('CHECK found nothing'),
        (error: Error) => error.message,
      );
      assert.match(complaint, /ATTACHMENT_DIFFERS.*route/);
      // sbr also sends everything else to the address's gateway: the subnet's router, which has no public address for the pod.
      assert.equal(await one.ask('routed', cloud.internet.curlTarget), '');
      await cnitool(one, 'del', list, 'routed');
      await one.sh('ip netns del routed');
      assert.deepEqual(await one.leftovers(), before);
      return { flows, check: complaint.slice(-400) };
    },
  },
  {
    name: 'containerd',
    title:
      "containerd's own client starts containers with the boot's conflist; each ends with a DEL without a namespace",
    run: async (bench) => {
      const { one, far } = await nodePair(bench);
      const before = await one.leftovers();
      await one.sh(
        `systemctl start containerd
        ${imageArchive}
        ctr images import /run/e2e/image.tar`,
        300_000,
      );
      try {
        const own = one.node.instance.enis.slice(1).flatMap((eni) => eni.secondaryIps);
        const seen: string[] = [];
        for (let round = 0; round < 2; round += 1) {
          const address = await askFromContainer(one, 'ctr', `${far.address}:80`);
          assert.ok(own.includes(address), `the server saw ${address}`);
          assert.deepEqual(await one.leftovers(), before);
          seen.push(address);
        }
        const version = (await one.sh('containerd --version')).trim();
        return { version, seen };
      } finally {
        await one.sh('systemctl stop containerd; umount -R /run/containerd 2>/dev/null || :');
      }
    },
  },
  {
    name: 'paths',
    title:
      "latency and throughput of a pod's paths compared with the node's own to the same place, as ratios",
    run: async (bench) => {
      const pair = await nodePair(bench);
      const { paths, ratios, rounds } = await measurePaths(pair);
      return { paths, ratios, rounds };
    },
  },
  {
    name: 'guard-cost',
    title: 'latency and throughput with and without the guards, in turns, as ratios',
    run: async (bench) => {
      const { paths, rounds } = await measureGuards(await nodePair(bench));
      return { paths, rounds };
    },
  },
  {
    name: 'ipv6-disabled',
    title: 'a pod whose namespace has IPv6 disabled',
    run: async (bench) => {
      const pair = await nodePair(bench);
      const { one, far } = pair;
      await one.sh(
        'ip netns add four; ip netns exec four sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1',
      );
      const { exit, json, stdout } = await one.cni('ADD', variablesOf('four', '/run/netns/four'));
      assert.equal(exit, 0, stdout);
      const address = json.ips[0].address.split('/')[0];
      const flows = await followAll(pair, [
        { what: 'a pod without IPv6', client: [one, 'four'], to: `${far.address}:80`, sees: address },
      ]);
      const check = await one.cni(
        'CHECK',
        { ...variablesOf('four', '/run/netns/four'), PATH: '/nowhere' },
        { ...conf, prevResult: json },
      );
      assert.equal(check.exit, 0, check.stdout);
      await one.deletePod('four');
      return { flows, ...(await clean(pair)) };
    },
  },
  {
    name: 'dual-stack',
    title: 'pods with IPv6 beside IPv4: pod to pod, to the Internet and to a Service, without NAT',
    run: async (bench) => {
      await endPair();
      return { ...(await dualStack(bench)) };
    },
  },
  {
    name: 'hostile',
    title:
      "hostile pods attack the node's credentials, other addresses and their neighbours; with the guard and without it",
    run: async (bench) => {
      await endPair();
      return { hostile: await playInVms(bench) };
    },
  },
  {
    name: 'model',
    title: 'random operations and real reboots, compared with the model after each (SEED, OPS)',
    run: async (bench) => {
      await endPair();
      const seed = Number(process.env['SEED'] ?? Math.floor(Math.random() * 1e9));
      const ops = Number(process.env['OPS'] ?? 300);
      process.stdout.write(`    SEED=${seed} OPS=${ops}\n`);
      const { problems, trace, counts, added, exhausted } = await playInVm(bench, ops, seed, (done, last) => {
        if (ops <= 30 || done % 10 === 0) process.stdout.write(`    ${last.slice(0, 300)}\n`);
      });
      assert.deepEqual(
        problems,
        [],
        `SEED=${seed}: ${problems.join('\n')}\nafter\n${trace.slice(-10).join('\n')}`,
      );
      return { seed, operations: ops, counts, added, exhausted };
    },
  },
  {
    name: 'podman',
    title: 'podman 4 with its CNI backend, on Debian 12 (systemd 252, kernel 6.1), where pods may reach IMDS',
    image: 'bookworm',
    run: async (bench) => {
      await endPair();
      const cloud = await startCloud();
      const node = await bootPodNode(bench, cloud, 'bookworm', {
        config: { pods: { max: 16, allowImds: true }, pool: { lowWater: 0, restSeconds: 1 } },
        // A pod is one hop further from IMDS than its node.
        imds: { hopLimit: 2 },
      });
      try {
        const peer = await node.addPod('peer');
        await node.serve(['peer']);
        const before = await node.leftovers();
        await node.sh(
          `mkdir -p /etc/containers
          printf '[network]\nnetwork_backend = "cni"\n[engine]\nevents_logger = "file"\n' >/etc/containers/containers.conf
          ${imageArchive}
          podman load -i /run/e2e/image.tar`,
          300_000,
        );
        const address = await askFromContainer(node, 'podman', `${peer.address}:80`);
        const prefixes = node.node.instance.enis[1]?.prefixes ?? [];
        assert.ok(
          prefixes.some((prefix) => contains(prefix, `${address}/32`)),
          `the server saw ${address}`,
        );
        assert.deepEqual(await node.leftovers(), before);
        const imds =
          'curl -s --max-time 10 -o /dev/null -w %{http_code} http://169.254.169.254/latest/meta-data/ || true';
        assert.equal(await node.sh(`ip netns exec peer ${imds}`), '401', 'IMDS answers a pod that may');
        await node.deletePod('peer');
        assert.deepEqual(await node.leftovers(), []);
        return { version: (await node.sh('podman --version')).trim(), seen: [address] };
      } finally {
        await node.node.end();
        await cloud.stop();
      }
    },
  },
  {
    name: 'full-203',
    title: '203 pods, the most for a type of 8 ENIs with 30 addresses without prefixes; the node has no IPv6',
    run: (bench) => fill(bench, { addressing: 'addresses', pods: 203, kernelArguments: ['ipv6.disable=1'] }),
  },
  {
    name: 'full-250',
    title: '250 pods on prefixes',
    run: (bench) => fill(bench, { addressing: 'prefixes', pods: 250, kernelArguments: [] }),
  },
];

async function followAll({ one, two, cloud }: Pair, flows: Flow[]): Promise<FlowFact[]> {
  // Captures of an earlier case are discarded.
  for (const node of [one, two]) await node.captured();
  const facts: FlowFact[] = [];
  for (const flow of flows) facts.push(await follow([one, two], cloud, flow));
  return facts;
}

/** Holds after any case: no packet with a wrong sender, and none dropped by a reverse-path filter, which are strict. */
async function clean({ one, two, cloud }: Pair): Promise<Pick<Facts, 'reversePathDrops'>> {
  await cloud.settled();
  assert.deepEqual(await cloud.network.spoofed(), [], 'no packet left with an address its ENI does not have');
  assert.deepEqual(
    await cloud.network.undelivered(),
    [],
    'no packet came for an address its ENI does not have',
  );
  let reversePathDrops = 0;
  for (const node of [one, two]) {
    const boot = await node.sh(
      `grep -l '${node.node.instance.bootEni.mac}' /sys/class/net/*/address | cut -d/ -f5`,
    );
    const filters = await node.sh('cd /proc/sys/net/ipv4/conf; grep . */rp_filter');
    for (const line of filters.trim().split('\n')) {
      const [device = '', value] = line.split('/rp_filter:');
      const wanted = device === 'all' ? '0' : device === boot.trim() ? '2' : '1';
      assert.equal(value, wanted, `rp_filter of ${device} on node ${node.name}`);
    }
    const counters = await node.sh(
      `for net in '' $(ip netns list | cut -d' ' -f1); do \${net:+ip netns exec $net} nstat -asz TcpExtIPReversePathFilter; done`,
    );
    for (const [, count] of counters.matchAll(/IPReversePathFilter\s+(\d+)/g))
      reversePathDrops += Number(count);
  }
  assert.equal(reversePathDrops, 0, 'packets dropped by reverse-path filters');
  return { reversePathDrops };
}

/** The error of a call that must be refused. */
function refusalOf(call: Promise<string>): Promise<string> {
  return call.then(
    () => assert.fail('the call was not refused'),
    (error: Error) => error.message,
  );
}
