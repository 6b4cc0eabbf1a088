// Each check of an image passes on a fixture of a built image, and fails on the same fixture with one fault. Stand-ins with a
// table of answers replace the host tools that a namespace cannot have (SELinux, NetworkManager, RPM).
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Check } from '../../agent/boot/phase.ts';
import { checkImage, type ImageCheckOptions } from '../../agent/image/check.ts';
import { type Machine, machineAt } from '../../agent/image/machine.ts';
import type { ExecResult } from '../../agent/port/exec-result.ts';
import { eniboot } from '../cli/executable.ts';

const KERNEL = '6.12.0-1.fc44.x86_64';
const modules = [
  'ipvlan',
  'veth',
  'br_netfilter',
  'nf_conntrack',
  'nft_masq',
  'nft_nat',
  'nft_fib_inet',
  'nft_reject_inet',
  'nft_ct',
];
const built: Record<string, string> = {
  [`/usr/lib/modules/${KERNEL}/modules.dep`]: modules.map((name) => `kernel/net/${name}.ko.xz:\n`).join(''),
  [`/usr/lib/modules/${KERNEL}/modules.builtin`]: 'kernel/fs/overlayfs/overlay.ko\n',
  '/etc/selinux/config': 'SELINUX=enforcing\nSELINUXTYPE=targeted\n',
  '/etc/fstab': 'UUID=1 / btrfs defaults 0 0\n',
  '/proc/cmdline': 'BOOT_IMAGE=/vmlinuz root=UUID=1 ro console=tty1 console=ttyS0,115200n8\n',
  '/proc/swaps': 'Filename Type Size Used Priority\n',
  '/proc/sys/net/ipv4/ip_forward': '1\n',
  '/sys/fs/cgroup/cgroup.controllers': 'cpu memory pids\n',
  '/etc/machine-id': '',
  '/home/fedora/.bashrc': '',
  '/var/log/messages': '',
  // The machine writes to this file as long as it runs.
  '/var/log/audit/audit.log': 'type=SERVICE_STOP\n',
  '/usr/libexec/eniboot/1.0.0/eniboot': 'stand-in',
  '/usr/libexec/eniboot/kubelet-version': 'Kubernetes v1.34.2\n',
  '/boot/loader/entries/1-6.12.conf':
    'title Fedora\noptions root=UUID=1 ro console=tty1 console=ttyS0,115200n8\n',
  '/etc/a-package.conf': 'its own',
  '/var/lib/lastlog/lastlog2.db': '',
  '/usr/libexec/eniboot/1.0.0/LICENSE': 'Apache',
  '/usr/libexec/eniboot/1.0.0/NOTICE': 'what is linked in',
  '/usr/libexec/eniboot/1.0.0/manifest.json': JSON.stringify({
    version: '1.0.0',
    files: [{ path: 'eniboot', sha256: createHash('sha256').update('stand-in').digest('hex') }],
    plugins: ['eniboot'],
  }),
};
/** The stand-ins' answers: the first entry whose text is the beginning of the command. */
const said: [string, string, number?][] = [
  ['uname', KERNEL],
  ['modprobe', ''],
  ['systemd-analyze verify', ''],
  ['systemctl is-enabled kubelet.service', 'disabled', 1],
  ['systemctl is-enabled', 'enabled'],
  ['systemctl list-units', ''],
  ['systemctl is-active crio.service', 'active'],
  ['ausearch', '<no matches>', 1],
  ['getenforce', 'Enforcing'],
  ['stat', 'system_u:object_r:bin_t:s0'],
  [
    'ss',
    'tcp LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=1,fd=3))\nudp UNCONN 0 0 127.0.0.1:323 0.0.0.0:*',
  ],
  // Of random-seed and duid, packages have only the names.
  [
    'rpm --query --all',
    'cn\t/etc/a-package.conf\ng\t/var/lib/systemd/random-seed\ng\t/var/lib/dhcpcd/duid\n\t/usr/bin/kubelet',
  ],
  ['rpm', '1.34.2'],
  ['nmcli', 'eth9990:disconnected\nenbcheck0:unmanaged'],
  ['journalctl', '', 1],
  ['ip', ''],
  ['udevadm', ''],
];

interface Broken {
  files?: Record<string, string>;
  links?: Record<string, string>;
  removed?: string[];
  said?: [string, string, number?][];
  free?: { mebibytes: number; inodesPercent: number };
  options?: Partial<ImageCheckOptions>;
  running?: boolean;
  /** All files are older than the machine's start; without it, all are younger. */
  old?: true;
}

const folders: string[] = [];
test.after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

function fixture(broken: Broken): Machine & { commands: string[] } {
  const root = mkdtempSync(join(tmpdir(), 'eniboot-image-'));
  folders.push(root);
  chmodSync(root, 0o755);
  execFileSync('cp', ['-a', `${join(import.meta.dirname, '../../systemd')}/.`, root]);
  for (const [path, text] of Object.entries({ ...built, ...broken.files })) put(root, path, text);
  symlinkSync('1.0.0', join(root, '/usr/libexec/eniboot/current'));
  mkdirSync(join(root, '/opt/cni/bin'), { recursive: true });
  symlinkSync('../../../usr/libexec/eniboot/current/eniboot', join(root, '/opt/cni/bin/eniboot'));
  for (const path of broken.removed ?? []) rmSync(join(root, path), { recursive: true });
  for (const [path, target] of Object.entries(broken.links ?? {})) {
    rmSync(join(root, path), { force: true });
    symlinkSync(target, join(root, path));
  }
  const commands: string[] = [];
  return {
    root,
    running: broken.running ?? true,
    since: broken.old ? Date.now() + 60_000 : 0,
    free: () => broken.free ?? { mebibytes: 9000, inodesPercent: 90 },
    pause: () => Promise.resolve(),
    commands,
    run: (file, args) => {
      const command = [file, ...args].join(' ').replace(`--root=${root} `, '');
      commands.push(command);
      const [, stdout, exitCode = 0] = [...(broken.said ?? []), ...said].find(([start]) =>
        command.startsWith(start),
      ) ?? ['', '', 127];
      const result: ExecResult = {
        command: [file, ...args],
        exitCode,
        signal: null,
        missing: exitCode === 127,
        stdout: `${stdout}\n`,
        stderr: '',
        timedOut: false,
        ms: 0,
      };
      return Promise.resolve(result);
    },
  };
}

function put(root: string, path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

async function look(broken: Broken): Promise<Check[]> {
  return checkImage(fixture(broken), { booted: false, expected: new Map(), ...broken.options });
}

const UNKNOWN_KEY = "Unknown key 'Frobnicate' in section [Service], ignoring.";
const failing = (checks: Check[]) => checks.filter((check) => check.result === 'fail').map(({ id }) => id);

const asBooted: Broken = {
  options: { booted: true },
  files: {
    '/etc/machine-id': `${'0123456789abcdef'.repeat(2)}\n`,
    '/run/eniboot/status.json': '{"verdict":"ready"}',
  },
};

test('a correct image passes every check; a check that is only possible booted, or only mounted, is skipped elsewhere', async () => {
  const skipped: string[][] = [];
  for (const broken of [{}, asBooted]) {
    const checks = await look(broken);
    assert.equal(
      checks
        .filter(({ result }) => result !== 'pass' && result !== 'skip')
        .map(({ id, summary }) => `${id}: ${summary}`),
      [],
    );
    skipped.push(checks.filter(({ result }) => result === 'skip').map(({ id }) => id));
  }
  assert.equal(skipped, [
    ['verdict', 'runtime', 'machine-id', 'forwarding', 'boot-jobs', 'selinux-denials', 'failed-units'],
    ['hygiene'],
  ]);
  const booted = (await look(asBooted)).map(({ id }) => id);
  for (const id of skipped[0] ?? []) assert.ok(booted.includes(id), `${id} is checked nowhere`);
});

const cases: [string, string, Broken, RegExp][] = [
  [
    'a module that does not exist',
    'modules',
    {
      files: {
        [`/usr/lib/modules/${KERNEL}/modules.dep`]: modules
          .slice(1)
          .map((name) => `k/${name}.ko:\n`)
          .join(''),
      },
    },
    /ipvlan is not in 6\.12/,
  ],
  [
    'a module that does not load',
    'modules',
    { said: [['modprobe nft_fib', '', 1]] },
    /nft_fib_inet cannot be loaded/,
  ],
  ['no kernel', 'modules', { running: false, removed: ['/usr/lib/modules'] }, /no kernel/],
  [
    'an ordering cycle, with exit 0',
    'unit-graph',
    { said: [['systemd-analyze', 'multi-user.target: Found ordering cycle on eniboot.service/start']] },
    /ordering cycle/,
  ],
  [
    "an unknown key in one of eniboot's units",
    'unit-graph',
    { said: [['systemd-analyze', `/usr/lib/systemd/system/eniboot.service:9: ${UNKNOWN_KEY}`]] },
    /eniboot\.service:9: Unknown key/,
  ],
  [
    'a deleted job',
    'unit-graph',
    {
      said: [
        ['systemd-analyze', 'kubelet.service: Job kubelet.service/start deleted to break ordering cycle'],
      ],
    },
    /deleted to break/,
  ],
  [
    'kubelet enabled',
    'units',
    { said: [['systemctl is-enabled kubelet', 'enabled']] },
    /kubelet\.service is enabled/,
  ],
  [
    'eniboot.service is not enabled',
    'units',
    { said: [['systemctl is-enabled eniboot.service', 'disabled', 1]] },
    /eniboot\.service is disabled/,
  ],
  [
    'cri-o not enabled',
    'units',
    { said: [['systemctl is-enabled crio.service', 'disabled', 1]] },
    /crio\.service is disabled/,
  ],
  [
    'no preset',
    'units',
    { removed: ['/usr/lib/systemd/system-preset/10-eniboot.preset'] },
    /preset is not there/,
  ],
  [
    'nm-cloud-setup not masked',
    'units',
    { links: { '/etc/systemd/system/nm-cloud-setup.timer': '/usr/lib/systemd/system/nm-cloud-setup.timer' } },
    /nm-cloud-setup\.timer is not masked/,
  ],
  [
    'systemd-oomd, which would kill the runtime',
    'units',
    { links: { '/etc/systemd/system/systemd-oomd.service': '/usr/lib/systemd/system/systemd-oomd.service' } },
    /systemd-oomd\.service is not masked/,
  ],
  ...(
    [
      ["Fedora's console on arm64", 'options ro console=tty1 console=ttyAMA0', /ends with console=ttyAMA0/],
      ['a console on a screen, last', 'options ro console=ttyS0 console=tty0', /ends with console=tty0/],
      ['no console', 'options ro', /ends with no console=/],
    ] as const
  ).map(([name, text, says]): [string, string, Broken, RegExp] => [
    name,
    'console',
    { files: { '/boot/loader/entries/1-6.12.conf': `${text}\n` } },
    says,
  ]),
  [
    'a console in the second line of options',
    'console',
    { files: { '/boot/loader/entries/a.conf': 'options ro console=ttyS0\noptions quiet console=tty0\n' } },
    /a\.conf ends with console=tty0/,
  ],
  [
    'a boot loader that has started the kernel with another console than its entry has',
    'console',
    { ...asBooted, files: { ...asBooted.files, '/proc/cmdline': 'root=UUID=1 console=ttyAMA0\n' } },
    /\/proc\/cmdline ends with console=ttyAMA0/,
  ],
  ['no boot entry', 'console', { removed: ['/boot/loader'] }, /has no entry/],
  [
    "no record of kubelet's version",
    'kubelet-version',
    { removed: ['/usr/libexec/eniboot/kubelet-version'] },
    /says nothing, and kubelet is 1\.34\.2/,
  ],
  [
    'a record of another version of kubelet',
    'kubelet-version',
    { files: { '/usr/libexec/eniboot/kubelet-version': 'Kubernetes v1.34.1\n' } },
    /says Kubernetes v1\.34\.1, and kubelet is 1\.34\.2/,
  ],
  [
    'rpm that does not answer',
    'hygiene',
    { said: [['rpm --query --all', '', 1]] },
    /rpm does not say which files packages have/,
  ],
  ['getenforce prints nothing', 'selinux', { said: [['getenforce', '', 127]] }, /SELinux is absent, and/],
  ['SELinux permissive now', 'selinux', { said: [['getenforce', 'Permissive']] }, /SELinux is permissive/],
  [
    'SELinux permissive at the next boot',
    'selinux',
    { files: { '/etc/selinux/config': 'SELINUX=permissive\n' } },
    /permissive by \/etc\/selinux\/config/,
  ],
  [
    'a plugin with a generic label',
    'plugin-label',
    { said: [['stat', 'system_u:object_r:usr_t:s0']] },
    /usr_t:s0, not bin_t/,
  ],
  [
    'swap in use',
    'swap',
    { files: { '/proc/swaps': 'Filename Type Size Used Priority\n/dev/zram0 partition 1 0 100\n' } },
    /\/dev\/zram0 is in use/,
  ],
  [
    'swap in fstab',
    'swap',
    { files: { '/etc/fstab': 'UUID=2 none swap defaults 0 0\n' } },
    /fstab has UUID=2/,
  ],
  [
    'zram at the next boot',
    'swap',
    { files: { '/usr/lib/systemd/zram-generator.conf': '[zram0]\n' } },
    /zram-generator\.conf/,
  ],
  [
    'a unit that swaps',
    'swap',
    {
      files: { '/etc/systemd/system/dev-xvdb.swap': '[Swap]\nWhat=/dev/xvdb\n' },
      options: { allowed: ['/etc/systemd/system/*'] },
    },
    /\/etc\/systemd\/system\/dev-xvdb\.swap/,
  ],
  [
    'an unknown program that listens',
    'listening',
    { said: [['ss', 'tcp LISTEN 0 9 *:8080 *:* users:(("nc",pid=9,fd=3))']] },
    /nc listens on \*:8080/,
  ],
  [
    'a sysctl overridden by a later file',
    'sysctls',
    {
      files: { '/etc/sysctl.d/99-other.conf': 'net.ipv4.ip_forward=0\n' },
      options: { allowed: ['/etc/sysctl.d/*'] },
    },
    /ip_forward is 0 by \/etc\/sysctl\.d\/99-other\.conf, not 1/,
  ],
  [
    'a kernel that does not forward',
    'forwarding',
    { ...asBooted, files: { ...asBooted.files, '/proc/sys/net/ipv4/ip_forward': '0\n' } },
    /not 1 in the kernel/,
  ],
  [
    'a sysctl of all devices overridden by a later file',
    'sysctls',
    { files: { '/usr/local/lib/sysctl.d/95-other.conf': 'net.ipv4.conf.*.rp_filter = 0\n' } },
    /conf\.\*\.rp_filter is 0 by \/usr\/local\/lib\/sysctl\.d\/95-other\.conf, not 1/,
  ],
  [
    'cri-o gives NET_RAW',
    'capabilities',
    {
      files: {
        '/etc/crio/crio.conf.d/30-site.conf': '[crio.runtime]\ndefault_capabilities = ["CHOWN", "NET_RAW"]\n',
      },
      options: { allowed: ['/etc/crio/**'] },
    },
    /30-site\.conf gives NET_RAW/,
  ],
  [
    'containerd with its default configuration',
    'capabilities',
    { files: { '/usr/bin/containerd': '' } },
    /no runtime a base_runtime_spec: containers get NET_RAW/,
  ],
  [
    'containerd with a runtime whose specification gives NET_RAW',
    'capabilities',
    {
      files: {
        '/usr/bin/containerd': '',
        '/etc/containerd/config.toml':
          '[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]\nbase_runtime_spec = "/etc/containerd/spec.json"\n',
        '/etc/containerd/spec.json': '{"process":{"capabilities":{"bounding":["CAP_CHOWN","CAP_NET_RAW"]}}}',
      },
      options: { allowed: ['/etc/containerd/**'] },
    },
    /spec\.json gives NET_RAW/,
  ],
  ['no sysctls', 'sysctls', { removed: ['/usr/lib/sysctl.d/90-eniboot.conf'] }, /is not there/],
  [
    "another executable than the manifest's",
    'digests',
    { files: { '/usr/libexec/eniboot/1.0.0/eniboot': 'other' } },
    /not what its manifest says/,
  ],
  [
    'an executable that is missing',
    'digests',
    { removed: ['/usr/libexec/eniboot/1.0.0/eniboot'] },
    /eniboot is missing$/,
  ],
  [
    'no notices of the linked software',
    'digests',
    { removed: ['/usr/libexec/eniboot/1.0.0/NOTICE'] },
    /NOTICE is not there/,
  ],
  [
    'no manifest',
    'digests',
    { removed: ['/usr/libexec/eniboot/1.0.0/manifest.json'] },
    /manifest\.json is not there/,
  ],
  [
    'a plugin that is not a link',
    'digests',
    { links: { '/opt/cni/bin/eniboot': '/tmp/other' } },
    /eniboot is not a link/,
  ],
  [
    'a package of another version',
    'versions',
    { options: { expected: new Map([['kubelet', '1.35.0']]) } },
    /kubelet is 1\.34\.2, not 1\.35\.0/,
  ],
  [
    'a package that is missing',
    'versions',
    { said: [['rpm --query --queryformat %{VERSION}\n cri-o', 'package cri-o is not installed', 1]] },
    /cri-o is not installed/,
  ],
  ['cgroup version 1', 'cgroup', { removed: ['/sys/fs/cgroup/cgroup.controllers'] }, /not cgroup version 2/],
  ['a full disk', 'disk', { free: { mebibytes: 100, inodesPercent: 50 } }, /100 MiB/],
  ['no inodes', 'disk', { free: { mebibytes: 9000, inodesPercent: 1 } }, /1 % of inodes/],
  [
    'NetworkManager that takes a card',
    'fresh-device',
    { said: [['nmcli', 'eth9990:connecting (getting IP configuration)\nenbcheck0:unmanaged']] },
    /fresh card connecting/,
  ],
  [
    'NetworkManager that takes a pod link',
    'fresh-device',
    { said: [['nmcli', 'eth9990:disconnected\nenbcheck0:disconnected']] },
    /pod link disconnected/,
  ],
  ...[
    '/etc/ssh/ssh_host_ed25519_key',
    '/var/lib/cloud/instance',
    '/var/lib/cloud/sem/once',
    '/var/lib/dbus/machine-id',
    '/var/lib/systemd/random-seed',
    '/var/lib/eniboot/i-0a/x',
    '/etc/NetworkManager/system-connections/a',
    '/var/log/journal/a/b',
    '/root/.bash_history',
    '/home/fedora/.ssh/authorized_keys',
    '/var/log/cloud-init.log',
    '/var/log/other/of-a-package.log',
    '/var/log/amazon/ssm/amazon-ssm-agent.log',
    '/var/lib/amazon/ssm/i-0a/x',
    '/var/lib/systemd/credential.secret',
    '/var/lib/NetworkManager/secret_key',
    '/root/.gnupg',
    '/etc/hostname',
    '/etc/machine-id',
    '/var/lib/dhcpcd/ens5.lease',
    '/var/lib/dhcpcd/duid',
    '/var/lib/lastlog/lastlog2.db',
    '/etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf',
    '/etc/udev/rules.d/70-persistent-net.rules',
    '/etc/ssh/sshd_config.d/50-cloud-init.conf',
    '/var/lib/nobody/thought-of',
    '/root/nobody-thought-of',
    '/var/lib/NetworkManager/internal-1-ens5.lease',
  ].map((path): [string, string, Broken, RegExp] => [
    `${path} left behind`,
    'hygiene',
    { files: { [path]: 'x' } },
    new RegExp(
      path
        .split('/')
        .slice(0, path.startsWith('/var/lib/cloud/') ? 5 : 4)
        .join('/')
        .replaceAll('.', '\\.'),
    ),
  ]),
  [
    'a boot that failed',
    'verdict',
    { ...asBooted, files: { ...asBooted.files, '/run/eniboot/status.json': '{"verdict":"failed"}' } },
    /the boot is failed/,
  ],
  [
    'a boot without a verdict',
    'verdict',
    { ...asBooted, removed: ['/run/eniboot/status.json'] },
    /without a verdict/,
  ],
  ['no machine-id after a boot', 'machine-id', { ...asBooted, removed: ['/etc/machine-id'] }, /was not made/],
  [
    'a job deleted at boot',
    'boot-jobs',
    {
      ...asBooted,
      said: [
        [
          'journalctl --boot --quiet --no-pager --output=cat --grep ordering',
          'Job deleted to break ordering cycle',
        ],
      ],
    },
    /deleted to break/,
  ],
  [
    'SELinux denials',
    'selinux-denials',
    {
      ...asBooted,
      said: [
        [
          'journalctl --boot --quiet --no-pager --output=cat --grep avc',
          'avc:  denied  { execute } for  pid=9 comm="crio" name="eniboot"',
        ],
      ],
    },
    /denied/,
  ],
  [
    'SELinux denials that only auditd has logged',
    'selinux-denials',
    {
      ...asBooted,
      said: [
        [
          'ausearch',
          'type=AVC msg=audit(1.2:3): avc:  denied  { write } for  pid=9 comm="nft" scontext=system_u:system_r:iptables_t:s0',
        ],
      ],
    },
    /denied {2}\{ write/,
  ],
  [
    'a log of auditd that cannot be read',
    'selinux-denials',
    { ...asBooted, said: [['ausearch', '', 1]] },
    /ausearch: /,
  ],
  [
    'a runtime that does not run',
    'runtime',
    { ...asBooted, said: [['systemctl is-active crio.service', 'inactive', 3]] },
    /crio\.service is inactive/,
  ],
  [
    'a failed unit',
    'failed-units',
    { ...asBooted, said: [['systemctl list-units', 'crio.service loaded failed failed x']] },
    /crio\.service/,
  ],
];

for (const [name, id, broken, summary] of cases)
  test(`fails: ${name}`, async () => {
    const checks = await look(broken);
    assert.equal(failing(checks), [id], JSON.stringify(checks.filter((check) => check.result === 'fail')));
    const check = checks.find((one) => one.id === id && one.result === 'fail');
    assert.match(check?.summary ?? '', summary);
    if (id !== 'digests') assert.is(check?.code, 'IMAGE_UNFIT');
  });

test('a line about a permissive domain is no denial', async () => {
  const line = 'type=AVC msg=audit(1.2:3): avc:  denied  { read } for  pid=9 comm="new" permissive=1';
  const said: Broken['said'] = [
    ['ausearch', line],
    ['journalctl --boot --quiet --no-pager --output=cat --grep avc', line],
  ];
  assert.equal(failing(await look({ ...asBooted, said })), []);
});

test("denials of Fedora's own services are a warning", async () => {
  const line =
    'type=AVC msg=audit(1.2:3): avc:  denied  { read } for  pid=9 comm="systemd-network" name="x" scontext=system_u:system_r:systemd_network_generator_t:s0 tcontext=system_u:object_r:init_var_run_t:s0 permissive=0';
  const checks = await look({ ...asBooted, said: [['ausearch', line]] });
  assert.equal(failing(checks), []);
  const found = checks.find(({ id }) => id === 'selinux-denials');
  assert.is(found?.result, 'warn');
  assert.match(found?.summary ?? '', /1 of other programs: .*systemd-network/);
});

test('files that a build adds can be allowed, by name and by folder', async () => {
  const files = { '/etc/kubernetes/pki/ca.crt': 'x', '/var/lib/site/a/b': 'x', '/etc/site.conf': 'x' };
  const allowed = ['/etc/kubernetes/pki/*', '/var/lib/site/**', '/etc/site.conf'];
  assert.equal(failing(await look({ files, options: { allowed } })), []);
  for (const wrong of [
    allowed.slice(1),
    [...allowed.slice(1), '/etc/kubernetes/*'],
    [...allowed.slice(1), '/etc/*/ca.crt', '/etc/kubernetes/pki/*.key'],
  ])
    assert.equal(failing(await look({ files, options: { allowed: wrong } })), ['hygiene'], wrong.join(' '));
  for (const right of ['/etc/**/ca.crt', '/etc/kub*/**', '/etc/*/p*i/c*.c*t'])
    assert.equal(
      failing(await look({ files, options: { allowed: [...allowed.slice(1), right] } })),
      [],
      right,
    );
});

test('files that the base image had before its first boot are no fault, unless an instance would use them as its own', async () => {
  const files = { '/etc/of-the-base': 'x', '/var/lib/of-the-base/a': 'x', '/var/lib/of-the-base/b': 'x' };
  const checks = await look({ files, old: true });
  assert.equal(failing(checks), []);
  const hygiene = checks.find(({ id }) => id === 'hygiene');
  assert.is(hygiene?.result, 'warn');
  assert.match(hygiene?.summary ?? '', /: \/etc\/of-the-base, \/var\/lib\/of-the-base\/$/);
  for (const path of ['/etc/ssh/ssh_host_rsa_key', '/etc/machine-id', '/var/lib/systemd/random-seed'])
    assert.equal(failing(await look({ files: { [path]: 'x' }, old: true })), ['hygiene'], path);
});

test("a file made now is younger than its machine's start; for a mounted image the start is unknown", () => {
  const { since } = machineAt('');
  const folder = mkdtempSync(join(tmpdir(), 'eniboot-image-'));
  folders.push(folder);
  const { ctimeMs } = lstatSync(folder);
  assert.ok(since > Date.UTC(2026, 0) && since < ctimeMs, `${since} ${ctimeMs}`);
  assert.is(machineAt(folder).since, 0);
});

test("an unknown key in a package's unit is no fault of the graph", async () => {
  const said: Broken['said'] = [
    ['systemd-analyze', `/usr/lib/systemd/system/other.service:9: ${UNKNOWN_KEY}`],
  ];
  assert.equal(failing(await look({ said })), []);
});

test('a check of a mounted image names the checks that it skips, runs no program of it, and is never a booted one', async () => {
  const machine = fixture({ running: false, said: [['stat', '?']] });
  const checks = await checkImage(machine, { booted: false, expected: new Map() });
  assert.equal(failing(checks), []);
  assert.equal(
    checks.filter((check) => check.result === 'skip').map(({ id }) => id),
    [
      ...['plugin-label', 'listening', 'cgroup', 'fresh-device'],
      ...['verdict', 'runtime', 'machine-id', 'forwarding', 'boot-jobs', 'selinux-denials', 'failed-units'],
    ],
  );
  assert.not.ok(machine.commands.some((command) => /^(modprobe|ip|ss|getenforce|nmcli)/.test(command)));
  const booted = await look({ running: false, options: { booted: true } });
  assert.ok(failing(booted).includes('booted'));
});

test('a new card that NetworkManager takes over a moment later is found', async () => {
  const machine = fixture({});
  let looks = 0;
  const { run } = machine;
  machine.run = async (file, args) => {
    const result = await run(file, args);
    if (file !== 'nmcli') return result;
    const state = ++looks < 3 ? 'unavailable' : 'connecting (getting IP configuration)';
    return { ...result, stdout: `eth9990:${state}\nenbcheck0:unmanaged\n` };
  };
  assert.equal(failing(await checkImage(machine, { booted: false, expected: new Map() })), ['fresh-device']);
  assert.is(looks, 3, 'the check looks until NetworkManager has taken the card');
});

test('the check removes its test devices again, also when every check fails', async () => {
  const machine = fixture({ said: [['nmcli', '', 8]] });
  assert.equal(failing(await checkImage(machine, { booted: false, expected: new Map() })), ['fresh-device']);
  assert.is(machine.commands.filter((command) => command === 'ip link del eth9990').length, 1);
});

test('on a folder that is no image the command ends with 1, and prints a table or one object', async () => {
  const empty = mkdtempSync(join(tmpdir(), 'eniboot-image-'));
  folders.push(empty);
  const table = await eniboot(['image', 'check', '--root', empty]);
  assert.is(table.code, 1, table.err);
  assert.match(table.out, /^FAIL +modules +\/usr\/lib\/modules has no kernel/m);
  assert.match(table.out, /\d+ pass, \d+ warn, \d+ fail, \d+ not applicable here\n$/);
  const json = await eniboot(['image', 'check', '--root', empty, '--json']);
  const { fit, checks } = JSON.parse(json.out) as { fit: boolean; checks: Check[] };
  assert.is(fit, false);
  assert.ok(failing(checks).includes('digests'));
  assert.is(
    table.out.match(/^IMAGE_UNFIT: /gm)?.length,
    1,
    'the remedy is printed once, with any number of failed checks',
  );
  const none = await eniboot(['image', 'check', '--root', '/nonexistent']);
  assert.is(none.code, 1);
  assert.match(none.err, /FILE_READ: .*\/nonexistent is not a folder/);
  assert.is((await eniboot(['image', 'check', '--expect', 'kubelet'])).code, 2);
  assert.ok(machineAt('/').free().mebibytes >= 0);
});

test.run();
