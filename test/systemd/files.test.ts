// The files that are not units. Each is read by the program that reads it on a node.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { parse } from 'yaml';
import { nodeTree, runIn, withNode } from './graph.ts';
import { releases } from './releases.ts';

const stale = [
  'etc/cni/net.d/10-eniboot.conflist',
  'etc/cni/net.d/.10-eniboot.conflist.812.tmp',
  'etc/kubernetes/kubelet.conf.d/10-eniboot.conf',
  'etc/crio/crio.conf.d/10-eniboot.conf',
  'var/lib/cni/results/eniboot-0123-eth0',
];
const foreign = [
  'etc/cni/net.d/99-loopback.conf',
  'etc/kubernetes/kubelet.conf.d/20-operator.conf',
  'etc/crio/crio.conf.d/20-crun.conf',
];

for (const release of releases) {
  test(`tmpfiles of ${release}: a boot removes only the files with the last boot's decisions; a run by hand removes nothing`, () => {
    withNode({ release, cloudInit: 'fedora', runtime: 'crio' }, (root) => {
      for (const path of [...stale, ...foreign]) {
        mkdirSync(dirname(join(root, path)), { recursive: true });
        writeFileSync(join(root, path), 'x');
      }
      const file = '/usr/lib/tmpfiles.d/eniboot.conf';
      assert.is(runIn(root, 'systemd-tmpfiles', ['--create', '--remove', file]).exitCode, 0);
      for (const path of [...stale, ...foreign]) assert.ok(existsSync(join(root, path)), `by hand: ${path}`);

      const { exitCode, output } = runIn(root, 'systemd-tmpfiles', ['--create', '--remove', '--boot', file]);
      assert.is(exitCode, 0, output);
      for (const path of stale) assert.not.ok(existsSync(join(root, path)), `at boot: ${path}`);
      for (const path of foreign) assert.ok(existsSync(join(root, path)), `at boot: ${path}`);

      const connection = statSync(
        join(root, 'run/NetworkManager/system-connections/eniboot-boot-eni.nmconnection'),
      );
      assert.is(
        connection.mode & 0o777,
        0o600,
        'NetworkManager ignores a connection file that other users can read',
      );
      for (const folder of ['run/eniboot/pool', 'var/lib/eniboot/metrics', 'opt/cni/bin'])
        assert.ok(existsSync(join(root, folder)), folder);
    });
  });

  test(`sysctl of ${release}: strict on every device, over Fedora's own defaults, and forwarding`, () => {
    // The setting of systemd's 50-default.conf on Fedora, which Debian leaves out.
    const fedora =
      'net.ipv4.conf.default.rp_filter = 2\nnet.ipv4.conf.*.rp_filter = 2\n-net.ipv4.conf.all.rp_filter\n';
    ip('link', 'add', 'enbsys0', 'type', 'veth', 'peer', 'name', 'enbsys1');
    withNode(
      {
        release,
        cloudInit: 'fedora',
        runtime: 'crio',
        extra: { 'usr/lib/sysctl.d/50-default.conf': fedora },
      },
      (root) => {
        writeFileSync('/proc/sys/net/ipv4/conf/enbsys0/rp_filter', '0');
        writeFileSync('/proc/sys/net/ipv4/ip_forward', '0');
        // Only settings of this network namespace: a test must not change the machine's own.
        const { output } = runIn(root, '/usr/lib/systemd/systemd-sysctl', [
          '--prefix=net/ipv4/conf',
          '--prefix=net/ipv4/ip_forward',
        ]);
        const read = (path: string) => readFileSync(`/proc/sys/net/ipv4/${path}`, 'utf8').trim();
        assert.is(read('ip_forward'), '1', output);
        assert.is(read('conf/all/rp_filter'), '0', output);
        assert.is(read('conf/default/rp_filter'), '1', output);
        assert.is(read('conf/enbsys0/rp_filter'), '1', output);
      },
    );
    ip('link', 'del', 'enbsys0');
  });

  test(`udev of ${release}: the rules are well formed`, () => {
    withNode({ release, cloudInit: 'fedora', runtime: 'crio' }, (root) => {
      const { exitCode, output } = runIn(root, 'udevadm', [
        'verify',
        '/usr/lib/udev/rules.d/70-eniboot.rules',
      ]);
      assert.is(exitCode, 0, output);
    });
  });

  test(`udev of ${release}: a pod link keeps its MAC and name and is not managed by NetworkManager`, () => {
    ip('link', 'add', 'enbudev0', 'type', 'veth', 'peer', 'name', 'other0');
    withNode({ release, cloudInit: 'fedora', runtime: 'crio' }, (root) => {
      const before = execFileSync('ip', ['-br', 'link', 'show', 'enbudev0'], { encoding: 'utf8' });
      const ours = runIn(root, 'udevadm', ['test', '--action=add', '/sys/class/net/enbudev0']).output;
      assert.match(ours, /NM_UNMANAGED=1/);
      assert.match(ours, /ID_NET_LINK_FILE=\S*10-eniboot-pod-links\.link/);
      const other = runIn(root, 'udevadm', ['test', '--action=add', '/sys/class/net/other0']).output;
      assert.not.match(other, /ID_NET_LINK_FILE=\S*eniboot/);
      assert.is(execFileSync('ip', ['-br', 'link', 'show', 'enbudev0'], { encoding: 'utf8' }), before);
    });
    ip('link', 'del', 'enbudev0');
  });
}

/** Cards as the kernel lists them: PCI address, class, vendor, device. */
const machines = {
  'an EC2 instance with an EFA before its ENIs': [
    ['0000:00:03.0', '0x030000', '0x1d0f', '0x1111'],
    ['0000:00:04.0', '0x020000', '0x1d0f', '0xefa2'],
    ['0000:00:05.0', '0x020000', '0x1d0f', '0xec20'],
    ['0000:00:06.0', '0x020000', '0x1d0f', '0xec20'],
    ['0000:10:01.0', '0x020000', '0x1d0f', '0xec20'],
  ],
  'a virtual machine with cards behind root ports': [
    ['0000:00:05.0', '0x020000', '0x1af4', '0x1000'],
    ['0000:00:1c.0', '0x060400', '0x1b36', '0x000c'],
    ['0000:01:00.0', '0x020000', '0x1af4', '0x1041'],
  ],
} as const;
const orders: [keyof typeof machines, string, string][] = [
  ['an EC2 instance with an EFA before its ENIs', '/devices/pci0000:00/0000:00:05.0/net/ens5', 'first'],
  ['an EC2 instance with an EFA before its ENIs', '/devices/pci0000:00/0000:00:06.0/net/ens6', 'later'],
  ['an EC2 instance with an EFA before its ENIs', '/devices/pci0000:00/0000:10:01.0/net/ens33', 'later'],
  [
    'a virtual machine with cards behind root ports',
    '/devices/pci0000:00/0000:00:05.0/virtio1/net/eth0',
    'first',
  ],
  [
    'a virtual machine with cards behind root ports',
    '/devices/pci0000:00/0000:00:1c.0/0000:01:00.0/virtio2/net/eth1',
    'later',
  ],
];

for (const [machine, device, expected] of orders) {
  test(`${device} of ${machine} is ${expected}`, () => {
    // A list made here covers the kernel's own, in a mount namespace that ends with the shell.
    const cards = machines[machine].map(
      ([address, ...facts]) =>
        `d=/sys/bus/pci/devices/${address}; mkdir -p $d; echo ${facts[0]} >$d/class; echo ${facts[1]} >$d/vendor; echo ${facts[2]} >$d/device`,
    );
    const script = ['mount -t tmpfs tmpfs /sys', ...cards, `exec "$1" "$2"`].join('\n');
    const program = join(nodeTree, 'usr/lib/udev/eniboot-nic-order');
    const result = spawnSync('unshare', ['--mount', 'sh', '-euc', script, 'sh', program, device], {
      encoding: 'utf8',
    });
    assert.is(result.stderr, '');
    assert.is(result.stdout, `${expected}\n`);
  });
}

test('the program prints nothing without a card, and the device stays managed', () => {
  const program = join(nodeTree, 'usr/lib/udev/eniboot-nic-order');
  const script =
    'mount -t tmpfs tmpfs /sys; mkdir -p /sys/bus/pci/devices; exec "$1" /devices/virtual/net/lo';
  const result = spawnSync('unshare', ['--mount', 'sh', '-euc', script, 'sh', program], { encoding: 'utf8' });
  assert.is(result.stdout, '');
});

test('shell programs pass shellcheck', () => {
  const result = spawnSync('shellcheck', [join(nodeTree, 'usr/lib/udev/eniboot-nic-order')], {
    encoding: 'utf8',
  });
  assert.is(result.status, 0, result.stdout);
});

test('cloud-init does not configure pod ENIs, neither at power-on nor attached later', () => {
  const config: unknown = parse(readFileSync(join(nodeTree, 'etc/cloud/cloud.cfg.d/90-eniboot.cfg'), 'utf8'));
  assert.equal(config, {
    updates: { network: { when: ['boot-new-instance'] } },
    datasource: { Ec2: { apply_full_imds_network_config: false } },
  });
});

test('the README names every file of the tree', () => {
  const readme = readFileSync(join(nodeTree, 'README.md'), 'utf8');
  const named = new Set([...readme.matchAll(/^\| `([^`]+)` \|/gm)].map((row) => row[1]));
  const present = readdirSync(nodeTree, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath, entry.name).slice(nodeTree.length + 1))
    .filter((path) => path !== 'README.md');
  assert.equal([...named].sort(), present.sort());
});

function ip(...args: string[]): void {
  execFileSync('ip', args);
}

test.run();
