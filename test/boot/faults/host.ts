// Faults of the machine itself: its programs, kernel settings, file systems, other software, and other runs.
import { setTimeout as delay } from 'node:timers/promises';
import { is, match, ok } from 'uvu/assert';
import { POD_ROLE, ROLE_TAG } from '../../../agent/aws/tags.ts';
import type { Status } from '../../../agent/boot/verdict/status.ts';
import { ENIBOOT } from '../node.ts';
import type { Bench, Fault } from './fault.ts';
import { HINDERED, kernelThat, missing, ONLY_NEEDED, STAND_INS_FIRST, standIn } from './stand-in.ts';
import { faultDone, phaseBegun, verifyWaitsAt } from './watch.ts';

const DEAD = { deadlineSeconds: 10 } as const;
const SOON = { deadlineSeconds: 14 } as const;
const podEni = { podEnis: [{ prefixes: 7, tags: { [ROLE_TAG]: POD_ROLE } }] };

const foreignTables = `table inet firewalld {
  chain filter_INPUT {
    type filter hook input priority filter + 10; policy accept;
    ct state established,related accept
  }
}
table ip nat {
  chain KUBE-POSTROUTING {
    meta mark and 0x4000 == 0x4000 masquerade
  }
}
`;

function shell(script: string): (bench: Bench) => Promise<void> {
  return async ({ instance }) => {
    const { exitCode, stderr } = await instance.run('sh', ['-ec', script], { timeoutMs: 30_000 });
    if (exitCode !== 0) throw new Error(`fault not made: ${stderr}`);
  };
}

/** Makes a folder read-only, as a file system of its own. */
const readOnly = (path: string) =>
  shell(`mkdir -p ${path}; mount --bind ${path} ${path}; mount -o remount,bind,ro ${path}`);

/** The image has no record of kubelet's version, and kubelet is this script. */
const kubeletAsked = (script: string) => async (bench: Bench) => {
  await shell('rm /usr/libexec/eniboot/kubelet-version')(bench);
  await standIn(bench, 'kubelet', script);
};

const lacks = (program: string): Fault => ({
  name: `${program} is not installed`,
  arrange: missing(program),
  path: ONLY_NEEDED,
  expect: { verdict: 'failed', code: 'TOOL_MISSING', atOnce: true },
  prove: (_bench, { status }) => is(status?.failure?.facts['tool'], program),
});

async function provesTable({ instance }: Bench): Promise<void> {
  const { stdout } = await instance.run('nft', ['list', 'table', 'inet', 'eniboot']);
  match(stdout, /snat ip to/);
}

async function flush({ instance }: Bench): Promise<void> {
  await instance.run('nft', ['flush', 'ruleset']);
}

export const hostFaults: Fault[] = [
  // Each limit is reached in another place; with the largest, a first program starts.
  ...[21, 24, 27].map(
    (openFiles): Fault => ({
      name: `no file descriptor is left for a program or a connection: ${openFiles} may be open`,
      deadlineSeconds: 10,
      openFiles,
      // The phase that fails cannot observe, so `eniboot plan`, which can, lists all that it would do.
      leaves: [
        'write /run/NetworkManager/conf.d/90-eniboot.conf: only ens5 is managed',
        'write /run/eniboot/vpc-cidrs.json',
        'write /run/sysctl.d/zz-eniboot.conf',
        'set net/ipv4/ip_forward to 1',
        'set net/ipv4/conf/ens5/rp_filter to 2',
        'create tables inet and netdev eniboot',
        'add rule 512: marked replies use the main table',
      ],
      expect: { verdict: 'failed', code: 'SYSTEM_EXHAUSTED', withinSeconds: 20 },
      prove({ instance }) {
        const written = JSON.parse(instance.read('/run/eniboot/status.json') ?? '{}') as Partial<Status>;
        is(written.verdict, 'failed', 'the verdict is in the status file too');
      },
    }),
  ),
  ...['nft', 'ip'].map(lacks),
  {
    name: 'flock is not installed',
    arrange: missing('flock'),
    path: ONLY_NEEDED,
    expect: { verdict: 'failed', code: 'TOOL_MISSING' },
  },
  {
    name: 'arping is not installed: a warning',
    arrange: missing('arping'),
    path: ONLY_NEEDED,
    expect: { verdict: 'ready' },
    prove: (_bench, { status }) => {
      const checks = status?.phases.flatMap((phase) => phase.checks) ?? [];
      ok(checks.some((check) => check.id.startsWith('router') && check.result === 'warn'));
    },
  },
  {
    name: 'nft fails: the kernel has no support for nftables',
    ...DEAD,
    arrange: (bench) => standIn(bench, 'nft', 'echo "Operation not supported" >&2; exit 1'),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'NFT_FAILED', phase: 'egress' },
  },
  {
    name: 'a kernel without the egress hook',
    arrange: (bench) =>
      standIn(
        bench,
        'nft',
        `case "$*" in *-f*) ;; *) exec /usr/sbin/nft "$@" ;; esac
text=$(cat)
case "$text" in *'hook egress'*) echo 'Error: Could not process rule: Operation not supported' >&2; exit 1 ;; esac
printf '%s\\n' "$text" | /usr/sbin/nft "$@"`,
      ),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'KERNEL_NO_EGRESS_HOOK', phase: 'egress', atOnce: true },
  },
  {
    name: 'nft never ends',
    ...DEAD,
    arrange: (bench) => standIn(bench, 'nft', 'exec sleep 60'),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'NFT_FAILED', phase: 'egress', withinSeconds: 25 },
  },
  {
    name: 'another program deletes the table after every load',
    ...DEAD,
    arrange: (bench) =>
      standIn(bench, 'nft', `if [ "$1" = -f ]; then cat >/dev/null; else exec /usr/sbin/nft "$@"; fi`),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'EGRESS_TABLE_DIFFERS', phase: 'egress' },
  },
  {
    name: 'another program deletes the policy rule every time it is made',
    ...DEAD,
    launch: HINDERED,
    arrange: kernelThat('^ip rule add '),
    expect: { verdict: 'failed', code: 'EGRESS_RULE_MISSING', phase: 'egress' },
  },
  {
    name: 'the kernel refuses every change of links, rules and routes',
    ...DEAD,
    launch: HINDERED,
    arrange: kernelThat('^ip ', '1 Operation not permitted'),
    expect: { verdict: 'failed', code: 'KERNEL_CHANGE', phase: 'egress' },
  },
  {
    name: 'no netlink socket can be opened',
    ...DEAD,
    launch: HINDERED,
    arrange: ({ instance }) => instance.write('/run/stand-in/no-netlink', ''),
    expect: { verdict: 'failed', code: 'NETLINK_UNAVAILABLE', phase: 'egress' },
  },
  {
    name: 'no netlink socket can be opened, and the kernel needs no change',
    ...SOON,
    bootedBefore: true,
    launch: HINDERED,
    arrange: ({ instance }) => instance.write('/run/stand-in/no-netlink', ''),
    expect: { verdict: 'failed', code: 'NETLINK_UNAVAILABLE', phase: 'verify', withinSeconds: 22 },
  },
  {
    name: 'every ip command fails',
    ...DEAD,
    arrange: (bench) => standIn(bench, 'ip', 'echo "Cannot open netlink socket" >&2; exit 1'),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'KERNEL_QUERY', phase: 'identify' },
  },
  {
    name: 'the output of ip is not JSON',
    arrange: (bench) => standIn(bench, 'ip', 'echo "1: lo: <LOOPBACK>"'),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'INTERNAL', phase: 'identify', atOnce: true },
  },
  {
    name: 'kernel settings cannot be written',
    ...DEAD,
    arrange: shell('mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys'),
    expect: { verdict: 'failed', code: 'KERNEL_CHANGE', phase: 'egress' },
  },
  {
    name: 'a write to a kernel setting succeeds and has no effect',
    ...DEAD,
    arrange: shell('mount --bind /dev/null /proc/sys/net/ipv4/ip_forward'),
    expect: { verdict: 'failed', code: 'SYSCTL_DIFFERS', phase: 'egress' },
  },
  {
    name: 'nftables tables of other programs are kept',
    arrange: shell(`nft -f - <<'END'
${foreignTables}END
`),
    expect: { verdict: 'ready' },
    prove: async (bench) => {
      await provesTable(bench);
      const { stdout } = await bench.instance.run('nft', ['list', 'tables']);
      match(stdout, /table inet firewalld\n/);
      match(stdout, /table ip nat\n/);
    },
  },
  {
    name: 'nft flush ruleset before the second boot',
    bootedBefore: true,
    arrange: flush,
    expect: { verdict: 'ready' },
    prove: async (bench, { status }) => {
      await provesTable(bench);
      is(status?.cloud.ec2Mutating, 0);
    },
  },
  ...(['attach', 'kubelet', 'verify'] as const).map(
    (phase): Fault => ({
      name: `nft flush ruleset when ${phase} begins`,
      arrange: verifyWaitsAt('nft'),
      path: STAND_INS_FIRST,
      async during(bench, over) {
        await phaseBegun(bench.instance, phase, over);
        await flush(bench);
        faultDone(bench);
      },
      expect: { verdict: 'ready' },
      prove: provesTable,
    }),
  ),
  {
    name: 'a firewall reloads ten times while the node boots',
    arrange: verifyWaitsAt('nft'),
    path: STAND_INS_FIRST,
    async during(bench, over) {
      for (let times = 0; times < 10 && !over.aborted; times += 1) {
        await flush(bench);
        await delay(120);
      }
      faultDone(bench);
    },
    expect: { verdict: 'ready' },
    prove: provesTable,
  },
  {
    name: '/opt is read-only',
    ...DEAD,
    arrange: readOnly('/opt/cni'),
    expect: { verdict: 'failed', code: 'FILE_WRITE', phase: 'install', withinSeconds: 20 },
  },
  {
    name: '/etc is read-only',
    ...DEAD,
    arrange: readOnly('/etc/kubernetes'),
    expect: { verdict: 'failed', code: 'FILE_WRITE', phase: 'kubelet', withinSeconds: 20 },
  },
  {
    name: '/etc/cni is read-only',
    ...SOON,
    arrange: readOnly('/etc/cni'),
    expect: { verdict: 'failed', code: 'FILE_WRITE', phase: 'ready', withinSeconds: 22 },
  },
  {
    name: '/var/lib/eniboot is read-only',
    ...DEAD,
    arrange: readOnly('/var/lib/eniboot'),
    expect: { verdict: 'failed', code: 'FILE_WRITE', phase: 'attach', withinSeconds: 20 },
  },
  {
    name: '/run is read-only',
    arrange: readOnly('/run'),
    expect: { verdict: 'failed', code: 'FILE_WRITE', phase: 'identify' },
  },
  {
    name: '/run is full when the pool is written',
    ...DEAD,
    arrange: shell('mkdir -p /run/eniboot; mount -t tmpfs -o nr_inodes=60 tmpfs /run/eniboot'),
    expect: { verdict: 'failed', code: 'FILE_WRITE', phase: 'attach', withinSeconds: 20 },
    // The tables already have the addresses that were to enter the pool. Before EC2 answers, a run does not know them.
    leaves: ['replace tables inet and netdev eniboot'],
    prove: (_bench, { status }) => is(status?.failure?.facts['errno'], 'ENOSPC'),
  },
  {
    name: 'the disk is full when drop-ins are written',
    ...DEAD,
    arrange: shell(
      'mkdir -p /etc/kubernetes; mount -t tmpfs -o size=4k tmpfs /etc/kubernetes; dd if=/dev/zero of=/etc/kubernetes/full bs=4k count=1 2>/dev/null',
    ),
    expect: { verdict: 'failed', code: 'FILE_WRITE', phase: 'kubelet', withinSeconds: 20 },
    prove: (_bench, { status }) => is(status?.failure?.facts['errno'], 'ENOSPC'),
  },
  {
    name: 'the executable differs from its manifest',
    arrange: shell(
      `for m in /usr/libexec/eniboot/*/manifest.json; do sed -i 's/"sha256": *"[0-9a-f]\\{8\\}/"sha256": "00000000/' $m; done`,
    ),
    expect: { verdict: 'failed', code: 'BAD_DIGEST', phase: 'install', atOnce: true },
  },
  {
    name: 'the manifest is missing',
    arrange: shell('rm -f /usr/libexec/eniboot/*/manifest.json'),
    expect: { verdict: 'failed', code: 'MANIFEST_MISSING', phase: 'install', atOnce: true },
  },
  {
    name: 'the manifest is damaged',
    arrange: shell('for m in /usr/libexec/eniboot/*/manifest.json; do printf "{\\"version\\"" > $m; done'),
    expect: { verdict: 'failed', code: 'MANIFEST_MISSING', phase: 'install', atOnce: true },
  },
  {
    name: 'a folder stands where a plugin belongs',
    ...DEAD,
    arrange: shell('mkdir -p /opt/cni/bin/eniboot/x'),
    expect: { verdict: 'failed', code: 'FILE_WRITE', phase: 'install', withinSeconds: 20 },
  },
  {
    name: 'there is no kubelet',
    arrange: shell('rm /usr/libexec/eniboot/kubelet-version'),
    expect: { verdict: 'failed', code: 'KUBELET_MISSING', phase: 'kubelet', atOnce: true },
  },
  {
    name: 'kubelet hangs at the first call for its version and answers the second',
    arrange: kubeletAsked(
      '[ -e /run/kubelet-asked ] || { : >/run/kubelet-asked; exec sleep 60; }\necho Kubernetes v1.36.1',
    ),
    path: STAND_INS_FIRST,
    expect: { verdict: 'ready' },
  },
  {
    name: 'kubelet never answers with its version',
    ...SOON,
    arrange: kubeletAsked('exec sleep 60'),
    path: STAND_INS_FIRST,
    expect: { verdict: 'failed', code: 'KUBELET_SILENT', phase: 'kubelet', withinSeconds: 24 },
  },
  {
    name: 'kubelet is older than the versions that eniboot can configure',
    arrange: shell('echo Kubernetes v1.19.3 > /usr/libexec/eniboot/kubelet-version'),
    expect: { verdict: 'failed', code: 'KUBELET_UNSUPPORTED', phase: 'kubelet', atOnce: true },
  },
  {
    name: 'the API server cannot be reached, and must be',
    ...SOON,
    config: { apiServer: { endpoint: 'https://10.0.0.200:6443', required: true } },
    expect: { verdict: 'failed', code: 'API_SERVER_UNREACHABLE', phase: 'verify', withinSeconds: 24 },
  },
  {
    name: 'the API server has an IPv6 address',
    config: { apiServer: { endpoint: 'https://[::1]:6443', required: true } },
    arrange: shell('python3 -m http.server --bind ::1 6443 >/dev/null 2>&1 & sleep 1'),
    expect: { verdict: 'ready' },
  },
  {
    name: 'the API server cannot be reached, and the configuration does not require it',
    config: { apiServer: { endpoint: 'https://10.0.0.200:6443' } },
    expect: { verdict: 'ready' },
  },
  {
    name: 'the instance waits in a warm pool: the node is READY and kubelet does not start',
    launch: { lifecycleState: 'Warmed:Stopped' },
    expect: { verdict: 'ready', kubelet: 'held' },
    prove: async ({ node, instance }) => {
      instance.record.lifecycleState = 'InService';
      await node.reboot();
      is((await node.boot()).status?.verdict, 'ready');
      ok(node.kubeletReleased(), 'kubelet is released when the instance goes into service');
    },
  },
  {
    name: 'another run holds the lock and does not end',
    arrange: async ({ instance }) => {
      instance.spawn('sh', ['-c', 'mkdir -p /run/eniboot/pool; exec flock /run/eniboot/pool/lock sleep 90'], {
        stdio: 'ignore',
      });
      await delay(300);
    },
    expect: { verdict: 'refused', code: 'ALREADY_RUNNING' },
    prove: ({ instance }) =>
      is(instance.read('/run/eniboot/status.json'), undefined, 'no verdict of this run'),
  },
  {
    name: 'two runs at once',
    async during({ instance }) {
      const other = await instance.run(ENIBOOT, ['boot', '--json'], { timeoutMs: 60_000 });
      is(other.exitCode, 0, other.stderr);
    },
    expect: { verdict: 'ready' },
    prove: ({ instance }) => is(instance.enis.length, 2, 'one pod ENI'),
  },
  {
    name: 'no baseline bandwidth is published for the instance type, and pods are to share it by CPU',
    launch: { type: 'm4.large' },
    config: { pods: { subnets: { tags: { eniboot: 'pods' } }, bandwidth: { from: 'cpu' } } },
    expect: { verdict: 'degraded' },
    // EC2 has answered, so the tag with the verdict can be read there.
    prove: ({ instance }) => is(instance.record.tags.get('eniboot:verdict')?.split('@')[0], 'ready'),
  },
  {
    name: 'earlier runs have used up the time of this boot',
    arrange: async ({ instance }) => {
      const bootId = instance.read('/proc/sys/kernel/random/boot_id')?.trim();
      const state = { bootId, startedMs: -100_000, extendedMs: 0, attempts: 3 };
      instance.write('/run/eniboot/deadline.json', JSON.stringify(state));
    },
    expect: { verdict: 'failed', code: 'DEADLINE', phase: 'identify', atOnce: true },
    prove: async ({ node }, { status }) => {
      is(status?.attempts, 4);
      is((await node.boot()).status?.verdict, 'ready', 'after the verdict a new run has time again');
    },
  },
  {
    name: 'ten runs of this boot have crashed',
    arrange: async ({ instance }) => {
      const bootId = instance.read('/proc/sys/kernel/random/boot_id')?.trim();
      const [uptime = ''] = (instance.read('/proc/uptime') ?? '').split(' ');
      const state = { bootId, startedMs: Number(uptime) * 1000, extendedMs: 0, attempts: 10 };
      instance.write('/run/eniboot/deadline.json', JSON.stringify(state));
    },
    expect: { verdict: 'failed', code: 'CRASH_LOOP', phase: 'identify', atOnce: true },
    prove: async ({ node, instance }, { status }) => {
      is(status?.failure?.facts['attempts'], 11);
      is(instance.record.tags.get('eniboot:verdict')?.split('@')[0], 'failed:CRASH_LOOP');
      is((await node.boot()).status?.verdict, 'ready', '`eniboot boot` by hand runs again');
    },
  },
  {
    name: 'the files that eniboot keeps in /run are damaged',
    bootedBefore: true,
    arrange: shell(
      `for f in deadline attach egress vpc-cidrs digests; do printf '{"' > /run/eniboot/$f.json; done`,
    ),
    expect: { verdict: 'ready' },
  },
  ...['null', '[]', '{"counter":1,"open":[{}]}', '{"counter":1,"open":[null]}'].map(
    (text): Fault => ({
      name: `the files that eniboot keeps in /run contain ${text}`,
      arrange: shell(
        `mkdir -p /run/eniboot; for f in deadline attach egress vpc-cidrs digests node tally; do printf '%s' '${text}' > /run/eniboot/$f.json; done`,
      ),
      expect: { verdict: 'ready' },
    }),
  ),
  {
    name: 'the files that eniboot keeps in /var are damaged, and EC2 does not answer',
    ...DEAD,
    launch: podEni,
    bootedBefore: true,
    arrange: async (bench) => {
      await shell(`printf '{' > /var/lib/eniboot/${bench.instance.id}/enis.json`)(bench);
      bench.cloud.faults.ec2.add({ action: '*', unanswered: true, instanceId: bench.instance.id });
    },
    expect: { verdict: 'degraded', withinSeconds: 20 },
  },
];
