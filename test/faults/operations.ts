// The operations that faults strike: the arrangement of each, the effects of its success, failure codes that would be wrong on an
// intact node, and its end. Every operation leaves the node as it found it.
import type { FailureCode } from '../../agent/messages/failure.ts';
import { STAND_IN } from '../rollout/bundles.ts';
import type { Call, FaultNode, Ran } from './node.ts';

export interface Operation {
  /** Share of the cases. */
  weight: number;
  /** Milliseconds within which it must end, with any fault of one system call. */
  boundMs: number;
  /** Arranges the call that a fault strikes. */
  arrange(node: FaultNode, serial: number): Promise<Call>;
  /** What is wrong, although the call reports success. */
  wrong(node: FaultNode, ran: Ran, serial: number): Promise<string[]>;
  /** What is wrong after the call has reported a failure. */
  wrongAfterFailure?(node: FaultNode, serial: number): Promise<string[]>;
  /** Failure codes that would be wrong about the node. */
  lies: readonly FailureCode[];
  /** A code other than 0 with which it may answer without a fault. */
  answers?: FailureCode;
  /** Runs what follows it without a fault, and brings the node to rest. @returns what does not converge */
  end(node: FaultNode, call: Call, serial: number): Promise<string[]>;
}

/** A run that a fault has struck. */
export interface Struck {
  answers: Pick<Operation, 'lies' | 'answers'>;
  ran: Ran;
  /** The system call; undefined when the run did not reach it. */
  line: string | undefined;
  /** What is wrong, by the run's own answer. */
  wrong(): Promise<string[]>;
  /** Runs what follows it without a fault. @returns what does not converge, or is left */
  end(): Promise<string[]>;
}

const POD_LIES: FailureCode[] = [
  'NETNS_GONE',
  'NETNS_OWN',
  'NODE_NOT_READY',
  'POD_ENI_DOWN',
  'POOL_EXHAUSTED',
  'ALREADY_ATTACHED',
  'ADDRESS_IN_USE',
  'ATTACHMENT_DIFFERS',
  'KERNEL_MODULE_MISSING',
  'CNI_ENVIRONMENT',
  'CNI_CONFIG',
];
export const NODE_LIES: FailureCode[] = [
  'NOT_BOOTED',
  'BOOT_ENI_NO_DEVICE',
  'CONFIG_MISSING',
  'CONFIG_INVALID',
  'NO_POD_ENI',
  'POD_ENI_DOWN',
  'DEVICE_MISSING',
  'KUBELET_MISSING',
  'BAD_DIGEST',
  'NOT_ROOT',
  'KERNEL_MODULE_MISSING',
  'SUBNETS_FULL',
  'ENI_LIMIT',
];

const podOf = (serial: number) => `p${serial}`;

async function addPod(node: FaultNode, pod: string, more?: object): Promise<object> {
  await node.sh(`ip netns add ${pod}`);
  const { exit, stdout, stderr } = await node.call(node.cni('ADD', pod, more));
  if (exit !== 0) throw new Error(`ADD of ${pod} without any fault: ${stdout}${stderr}`);
  return JSON.parse(stdout) as object;
}

/** A DEL without a fault, and the end of the namespace. */
async function endPod(node: FaultNode, pod: string): Promise<string[]> {
  const wrong: string[] = [];
  const { exit, stdout, stderr } = await node.call(node.cni('DEL', pod));
  if (exit !== 0 || stdout !== '' || stderr !== '') wrong.push(`DEL: exit ${exit}: ${stdout}${stderr}`);
  wrong.push(...(await left(node, pod)));
  await node.sh(`ip netns del ${pod} 2>/dev/null || :`);
  return wrong;
}

/** Parts of a pod that are left, on the node and in its namespace. */
async function left(node: FaultNode, pod: string): Promise<string[]> {
  const inside = await node.sh(`[ ! -e /run/netns/${pod} ] || {
    ip -n ${pod} -br link | grep -v '^lo' || :
    for family in -4 -6; do ip -n ${pod} $family rule | grep ^1024 || :; ip -n ${pod} $family route show table all proto 140; done
    nsenter --net=/run/netns/${pod} nft list tables; }`);
  const found = [...(await node.leftOf(pod)), ...inside.split('\n').filter((line) => line !== '')];
  return found.map((one) => `left of ${pod}: ${one}`);
}

/** Runs the operation again without a fault: it must succeed, with its effects. */
async function again(node: FaultNode, operation: Operation, call: Call, serial: number): Promise<string[]> {
  const ran = await node.call(call, undefined, operation.boundMs);
  if (ran.exit !== 0) return [`run again without the fault: exit ${ran.exit}: ${ran.stdout}${ran.stderr}`];
  return (await operation.wrong(node, ran, serial)).map((one) => `run again without the fault: ${one}`);
}

/** The operation ADD. */
function adding(weight: number, more: object): Operation {
  return {
    weight,
    boundMs: 25_000,
    async arrange(node, serial) {
      await node.sh(`ip netns add ${podOf(serial)}`);
      return node.cni('ADD', podOf(serial), more);
    },
    async wrong(node, { stdout }, serial) {
      const prevResult = parse(stdout);
      if (prevResult === undefined) return [`ADD succeeded and answered ${stdout}`];
      const { exit, stdout: said } = await node.call(
        node.cni('CHECK', podOf(serial), { ...more, prevResult }),
      );
      // GC and collect need from the note: ID, namespace, network.
      const note = await node.sh(`cat /run/eniboot/pool/leased/*,${podOf(serial)},eth0`);
      const noted = note.startsWith(`${podOf(serial)}\n/run/netns/${podOf(serial)}\neniboot\n`);
      return [
        ...(exit === 0 ? [] : [`ADD succeeded, CHECK says ${said}`]),
        ...(noted ? [] : [`ADD succeeded, its lease has the note ${JSON.stringify(note)}`]),
      ];
    },
    wrongAfterFailure: async (node, serial) =>
      (await left(node, podOf(serial))).map((one) => `after a failed ADD: ${one}`),
    lies: POD_LIES,
    end: (node, _, serial) => endPod(node, podOf(serial)),
  };
}

/** The operation DEL, with the namespace or after its end (`gone`). */
function deleting(weight: number, gone: boolean): Operation {
  return {
    weight,
    boundMs: 25_000,
    async arrange(node, serial) {
      await addPod(node, podOf(serial));
      if (gone) await node.sh(`ip netns del ${podOf(serial)}`);
      return node.cni('DEL', podOf(serial));
    },
    wrong: (node, _, serial) => left(node, podOf(serial)),
    lies: POD_LIES,
    end: (node, _, serial) => endPod(node, podOf(serial)),
  };
}

function checking(weight: number, broken: boolean): Operation {
  return {
    weight,
    boundMs: 25_000,
    async arrange(node, serial) {
      const prevResult = await addPod(node, podOf(serial));
      if (broken) await node.sh(`ip -n ${podOf(serial)} route del default`);
      return node.cni('CHECK', podOf(serial), { prevResult });
    },
    wrong: async () => (broken ? ['CHECK says that all is well, and the default route is missing'] : []),
    lies: broken ? POD_LIES.filter((code) => code !== 'ATTACHMENT_DIFFERS') : POD_LIES,
    ...(broken ? { answers: 'ATTACHMENT_DIFFERS' as const } : {}),
    async end(node, call, serial) {
      const { exit, stdout } = await node.call(call);
      const wanted = broken ? 1 : 0;
      return [
        ...(exit === wanted ? [] : [`CHECK without the fault: exit ${exit}: ${stdout}`]),
        ...(await endPod(node, podOf(serial))),
      ];
    },
  };
}

const gc: Operation = {
  weight: 10,
  boundMs: 25_000,
  async arrange(node, serial) {
    await addPod(node, podOf(serial));
    // GC spares a lease that is some seconds old, because its list may be older.
    await node.wait(60);
    return node.cni('GC', '', {
      'cni.dev/valid-attachments': [{ containerID: 'resident', ifname: 'eth0' }],
    });
  },
  wrong: (node, _, serial) => left(node, podOf(serial)),
  lies: POD_LIES,
  async end(node, call, serial) {
    return [...(await again(node, gc, call, serial)), ...(await endPod(node, podOf(serial)))];
  },
};

const status: Operation = {
  weight: 3,
  boundMs: 25_000,
  arrange: async (node) => node.cni('STATUS', ''),
  wrong: async () => [],
  lies: POD_LIES,
  end: (node, call, serial) => again(node, status, call, serial),
};

/** EC2 has taken a prefix away: refill removes it from the pool and requests another. */
const refill: Operation = {
  weight: 12,
  boundMs: 60_000,
  async arrange(node) {
    const resident = (await node.look()).entries.find((entry) => entry.state === 'leased')?.address;
    const prefix = (await node.look()).ec2.find((one) => !holds(one.split(' ')[1] ?? '', resident ?? ''));
    if (prefix !== undefined) {
      const [eniId, cidr = ''] = prefix.split(' ');
      node.world.cloud.ec2.send('UnassignPrivateIpAddresses', {
        NetworkInterfaceId: eniId,
        Ipv4Prefixes: [cidr],
      });
      await node.world.cloud.settled();
    }
    await node.wait(1_000);
    return { args: ['pool', 'refill', '--json'] };
  },
  wrong: wrongWithRefilled,
  lies: NODE_LIES,
  end: comesToRest,
};

/** EC2 shows unneeded prefixes: refill adds them to the pool and gives them back. */
const shrink: Operation = {
  weight: 8,
  boundMs: 60_000,
  async arrange(node) {
    const eni = node.instance.enis.find((one) => one.tags.get('eniboot:role') === 'pods');
    node.world.cloud.ec2.send('AssignPrivateIpAddresses', {
      NetworkInterfaceId: eni?.id,
      Ipv4PrefixCount: 3 - (eni?.prefixes.length ?? 0),
    });
    await node.world.cloud.settled();
    await node.wait(1_000);
    const call = { args: ['pool', 'refill', '--json'] };
    const { exit, stdout } = await node.call(call);
    if (exit !== 0) throw new Error(`refill without any fault: ${stdout}`);
    await node.wait(1_000);
    return call;
  },
  wrong: wrongWithRefilled,
  lies: NODE_LIES,
  end: comesToRest,
};

async function wrongWithRefilled(node: FaultNode, { stdout }: Ran): Promise<string[]> {
  const { changes, waiting } = (parse(stdout) ?? {}) as { changes?: string[]; waiting?: string[] };
  if (changes === undefined || waiting === undefined) return [`refill succeeded and answered ${stdout}`];
  if (waiting.length > 0) return [];
  const { owned, ec2, unfinished, leaving } = await node.look();
  const there = owned.filter((one) => !leaving.has(one)).join(' ');
  const inEc2 = ec2.filter((one) => !leaving.has(one)).sort();
  return [
    ...(there === inEc2.join(' ') ? [] : [`refill succeeded; the pool has ${there}, EC2 ${inEc2.join(' ')}`]),
    ...(unfinished.length === 0 ? [] : [`refill succeeded and leaves ${unfinished.join(', ')}`]),
  ];
}

/** Runs refill until it changes nothing, each time after all addresses have rested. */
async function comesToRest(node: FaultNode, call: Call): Promise<string[]> {
  for (let tries = 0; tries < 5; tries += 1) {
    await node.wait(1_000);
    const { exit, stdout, stderr } = await node.call(call);
    if (exit !== 0) return [`refill without the fault: exit ${exit}: ${stdout}${stderr}`];
    const { owned, ec2, leaving } = await node.look();
    const idle = (parse(stdout) as { changes?: string[] } | undefined)?.changes?.length === 0;
    if (idle && leaving.size === 0 && owned.join(' ') === [...ec2].sort().join(' ')) return [];
  }
  return ['five refills without a fault do not come to rest'];
}

/** A pod that its runtime has forgotten, long enough ago. */
const collect: Operation = {
  weight: 10,
  boundMs: 60_000,
  async arrange(node, serial) {
    await addPod(node, podOf(serial));
    await node.sh(`ip netns del ${podOf(serial)}`);
    const call = { args: ['pool', 'collect', '--json'] };
    // A namespace disappears a moment after its name.
    await node.sh(
      `for try in $(seq 100); do [ "$(ls -d /sys/class/net/enb* | wc -l)" -gt 1 ] || exit 0; sleep 0.02; done; exit 1`,
    );
    const { exit, stdout } = await node.call(call);
    if (exit !== 0) throw new Error(`collect without any fault: ${stdout}`);
    await node.wait(700);
    return call;
  },
  async wrong(node, { stdout }, serial) {
    const { freed, kept } = (parse(stdout) ?? {}) as { freed?: object[]; kept?: object[] };
    if (freed === undefined || kept === undefined) return [`collect succeeded and answered ${stdout}`];
    if (kept.length > 0) return [];
    return left(node, podOf(serial));
  },
  lies: NODE_LIES,
  async end(node, call, serial) {
    const found = await again(node, collect, call, serial);
    return [...found, ...(await left(node, podOf(serial)))];
  },
};

/** Repair of a node without its table, its rule, its setting and its files. */
const repair: Operation = {
  weight: 12,
  boundMs: 60_000,
  async arrange(node) {
    await node.sh(`nft delete table inet eniboot; ip rule del priority 512; sysctl -qw net.ipv4.ip_forward=0
      rm -f /etc/cni/net.d/10-eniboot.conflist /opt/cni/bin/eniboot /etc/kubernetes/kubelet.conf.d/10-eniboot.conf`);
    return { args: ['repair', '--json'] };
  },
  async wrong(node) {
    return (await node.differences()).map((one) => `repair succeeded: ${one}`);
  },
  lies: NODE_LIES,
  end: (node, call, serial) => again(node, repair, call, serial),
};

/** A boot of a node that has pods and all its parts. */
const bootAgain: Operation = {
  weight: 6,
  boundMs: 75_000,
  arrange: async () => ({ args: ['boot', '--json'] }),
  wrong: async (node) => (await node.differences()).map((one) => `boot is READY: ${one}`),
  lies: NODE_LIES,
  end: (node, call, serial) => again(node, bootAgain, call, serial),
};

const VERSION = '9.1.0';
let digest: string | undefined;

const update: Operation = {
  weight: 4,
  boundMs: 120_000,
  async arrange(node) {
    digest ??= node.world.bundles.publish(VERSION, STAND_IN);
    await node.sh(
      `cd /usr/libexec/eniboot; rm -rf ${VERSION} previous; ln -sfn 0.1.0 current; rm -f /var/lib/eniboot/*/version.json`,
    );
    return { args: ['update', '--version', VERSION, '--digests', digest, '--json'] };
  },
  async wrong(node) {
    const links = (await node.sh('cd /usr/libexec/eniboot; readlink current previous')).trim().split('\n');
    return links.join(' ') === `${VERSION} 0.1.0`
      ? []
      : [`update succeeded; the links are ${links.join(' ')}`];
  },
  lies: NODE_LIES,
  async end(node, call, serial) {
    const found = await again(node, update, call, serial);
    const back = await node.call({ args: [...call.args, '--action', 'rollback'] });
    if (back.exit !== 0) found.push(`rollback: exit ${back.exit}: ${back.stdout}${back.stderr}`);
    return found;
  },
};

/** By name: `add-limited` starts a program, tc. */
export const operations: Record<string, Operation> = {
  add: adding(16, {}),
  'add-limited': adding(8, {
    runtimeConfig: {
      bandwidth: { ingressRate: 1_000_000, ingressBurst: 80_000, egressRate: 1_000_000, egressBurst: 80_000 },
    },
  }),
  del: deleting(12, false),
  'del-late': deleting(4, true),
  check: checking(6, false),
  'check-broken': checking(4, true),
  gc,
  status,
  refill,
  shrink,
  collect,
  repair,
  boot: bootAgain,
  update,
};

function holds(cidr: string, address: string): boolean {
  const [base = ''] = cidr.split('/');
  const number = (text: string) => text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  return address !== '' && number(address) >= number(base) && number(address) < number(base) + 16;
}

function parse(text: string): object | undefined {
  try {
    return JSON.parse(text) as object;
  } catch {
    return undefined;
  }
}
