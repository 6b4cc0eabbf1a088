// time limit: 300 s
// The provisioning scripts of packer/, run on a root folder of their own: this machine's root. Stand-ins that keep their state in
// files replace the programs that only Fedora has, or that need a network. e2e:ami runs them with real dnf and rpm.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'smol-toml';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkHygiene } from '../../agent/image/check-hygiene.ts';
import { checkConsole } from '../../agent/image/check-system.ts';
import { machineAt } from '../../agent/image/machine.ts';
import { AMAZON_PLUGIN, PACKER } from '../packer/fetch.ts';
import {
  base,
  line,
  type Machine,
  machine,
  offered,
  PROVISIONERS,
  programs,
  removeMachines,
  repository,
  sha256,
  withArchives,
} from './build-machine.ts';

/** A PATH with this machine's programs, without gpg and tar. */
const WITHOUT = { PATH: '/stand-ins:/without' };

function runs(at: Machine, ...scripts: string[]): void {
  for (const script of scripts) {
    const { status, said } = at.run(script);
    assert.is(status, 0, `${script}: ${said}`);
  }
}

const downloads: [script: string, broken: string, says: RegExp][] = [
  ['20-packages.sh', 'curl', /cannot get https:\/\/pkgs\.k8s\.io\/\S+\.key/],
  ['20-packages.sh', 'gpg', /has the fingerprint none, and key_fingerprints asks for A{40}/],
  ['60-ssm-agent.sh', 'curl', /cannot get https:\/\/s3\.eu-west-1\.amazonaws\.com\/\S+\.rpm/],
];
for (const [script, broken, says] of downloads)
  test(`${script} names the file or package that it could not get or read: ${broken} fails`, () => {
    const at = machine();
    at.write(`/stand-ins/${broken}`, '#!/bin/sh\necho nothing >&2\nexit 22\n', 0o755);
    const { status, said } = at.run(script);
    assert.is(status, 1, said);
    assert.match(said, says);
  });

const LOCK = '/tmp/eniboot-packages.lock';
const names = (text: string) => text.match(/^[A-Za-z-]+(?=-\d)/gm);

test('the lists name the packages of the image, also the SSM agent, and no removed package', () => {
  const at = machine();
  runs(at, '20-packages.sh', '60-ssm-agent.sh');
  for (const list of [LOCK, '/tmp/eniboot-licences.txt'])
    assert.equal(names(at.read(list)), [
      ...['NetworkManager', 'amazon-ssm-agent', 'audit', 'bash', 'chrony', 'conntrack-tools'],
      ...['container-selinux', 'cri-o', 'cri-tools', 'ethtool', 'iproute', 'iproute-tc', 'kernel-core'],
      ...['kubelet', 'nftables', 'policycoreutils-python-utils', 'skopeo'],
    ]);
  assert.match(
    at.read(LOCK),
    new RegExp(`^amazon-ssm-agent-3\\.3\\.1\\.0-1\\.x86_64 ${sha256('amazon-ssm-agent')}$`, 'm'),
  );
  assert.not.match(at.read('/var/lib/stand-in/calls'), /gpgcheck/, 'no check is switched off');
  const before = [at.read(LOCK), at.read('/etc/dnf/versionlock.toml'), at.read('/etc/yum.repos.d/crio.repo')];
  runs(at, '20-packages.sh', '60-ssm-agent.sh');
  assert.equal(
    [at.read(LOCK), at.read('/etc/dnf/versionlock.toml'), at.read('/etc/yum.repos.d/crio.repo')],
    before,
    'a second run changes nothing',
  );
});

test('kubelet and the runtime are locked to their versions, and their repositories are off', () => {
  const at = machine();
  runs(at, '20-packages.sh');
  const { packages } = parse(at.read('/etc/dnf/versionlock.toml')) as {
    packages: { name: string; conditions: { key: string; comparator: string; value: string }[] }[];
  };
  assert.equal(
    packages.map(({ name, conditions: [one] }) => [name, one?.key, one?.comparator, one?.value]),
    [
      ['kubelet', 'evr', '=', '0:1.36.1-150500.1.1'],
      ['cri-o', 'evr', '=', '0:1.36.0-150500.1.1'],
      ['cri-tools', 'evr', '=', '0:1.36.0-150500.1.1'],
    ],
  );
  for (const name of ['kubernetes', 'crio']) {
    const text = at.read(`/etc/yum.repos.d/${name}.repo`);
    assert.match(text, /^enabled=0\ngpgcheck=1\nrepo_gpgcheck=1$/m);
  }
});

test('the list of a build is the lock of the next build; a package with another digest is refused', () => {
  const first = machine();
  runs(first, '20-packages.sh', '60-ssm-agent.sh');
  const lock = first.read(LOCK);
  const second = machine();
  second.write('/tmp/eniboot/packages.lock', lock);
  runs(second, '20-packages.sh', '60-ssm-agent.sh');
  assert.is(second.read(LOCK), lock);
  const third = machine();
  third.write('/tmp/eniboot/packages.lock', lock.replace(sha256('kubelet'), '0'.repeat(64)));
  const { status, said } = third.run('20-packages.sh');
  assert.is(status, 1);
  assert.match(said, /these differ from packages_lock[^]*kubelet-1\.36\.1/);
});

test('with a lock nothing is installed before it holds, gpg and tar included', () => {
  const first = machine();
  const more = line('gnupg2', '2.4') + line('tar', '1.35');
  first.write('/var/lib/stand-in/rpm', base + more);
  runs(first, '20-packages.sh', '60-ssm-agent.sh');
  const lock = first.read(LOCK);
  const second = machine();
  // The base image has neither gpg nor tar. The stand-in for dnf installs them with their packages.
  second.write('/var/lib/stand-in/offered', offered + more);
  second.hideTools();
  second.write('/tmp/eniboot/packages.lock', lock);
  const { status, said } = second.run('20-packages.sh', WITHOUT);
  assert.is(status, 0, said);
  const installs = second
    .read('/var/lib/stand-in/calls')
    .split('\n')
    .filter((call) => / install( |$)/.test(call));
  const locked = lock.split('\n').map((one) => one.split(' ')[0]);
  for (const call of installs)
    for (const name of call.slice(call.indexOf(' install ') + ' install '.length).split(' '))
      assert.ok(locked.includes(name), `${name} differs from the lock: ${call}`);
  assert.match(installs[0] ?? '', /gnupg2-2\.4-1\.fc44\.x86_64/);
  assert.is(second.read(LOCK), lock.replace(/^amazon-ssm-agent.*\n/m, ''));
});

test('a lock without gnupg2 is refused when the base image has none', () => {
  const at = machine();
  at.hideTools();
  at.write('/tmp/eniboot/packages.lock', `bash-1.0-1.fc44.x86_64 ${sha256('bash')}\n`);
  const { status, said } = at.run('20-packages.sh', WITHOUT);
  assert.is(status, 1, said);
  assert.match(said, /packages_lock has no gnupg2/);
  assert.not.match(at.read('/var/lib/stand-in/calls'), /install .*gnupg2/);
});

test('packages of the base image stay as they are, and the build tells which could not', () => {
  const at = machine();
  const { status, said } = at.run('20-packages.sh', { EXTRA_PACKAGES: 'bash chrony-1.0' });
  assert.is(status, 0, said);
  for (const kept of ['bash', 'iproute', 'NetworkManager', 'audit', 'chrony'])
    assert.match(at.read(LOCK), new RegExp(`^${kept}-1\\.0-1\\.fc44\\.x86_64 `, 'm'));
  assert.not.match(said, /of the base image/);
  // Installing this package changes another one.
  const other = machine();
  const dnf = programs['dnf'] ?? '';
  other.write(
    '/stand-ins/dnf',
    `#!/bin/sh\n${dnf}\nsed -i 's/^audit 0 1.0/audit 0 1.1/' $state/rpm\n`,
    0o755,
  );
  const second = other.run('20-packages.sh');
  assert.is(second.status, 0, second.said);
  assert.match(second.said, /of the base image [^]*\n {2}audit\.x86_64 1\.0-1\.fc44 -> 1\.1-1\.fc44\n/);
});

test('a lock holds after Fedora has dropped a build that it names', () => {
  const first = machine();
  runs(first, '20-packages.sh', '60-ssm-agent.sh');
  const lock = first.read(LOCK);
  const later = machine();
  later.write('/tmp/eniboot/packages.lock', lock);
  later.write('/var/lib/stand-in/offered', offered.replace(/^skopeo 0 1\.1/m, 'skopeo 0 1.2'));
  later.write('/var/lib/stand-in/archived', line('skopeo', '1.0') + line('skopeo', '1.1'));
  runs(later, '20-packages.sh', '60-ssm-agent.sh');
  assert.is(later.read(LOCK), lock);
  assert.throws(() => later.read('/etc/yum.repos.d/eniboot-updates-archive.repo'), /ENOENT/);
  // A first build takes the newest packages, and not those of the archive.
  assert.not.match(first.read('/var/lib/stand-in/calls'), /skopeo-1/);
});

test('the SSM agent brings no package that is in no list', () => {
  const at = machine();
  runs(at, '20-packages.sh');
  at.write('/var/lib/stand-in/lacks', 'stowaway');
  const { status, said } = at.run('60-ssm-agent.sh');
  assert.is(status, 1, said);
  assert.match(said, /stowaway is needed by amazon-ssm-agent[^]*name what it needs in extra_packages/);
});

test("the SSM agent comes from the Region's own domain, in China's partition too", () => {
  const at = machine();
  runs(at, '20-packages.sh');
  const { status, said } = at.run('60-ssm-agent.sh', { REGION: 'cn-north-1' });
  assert.is(status, 0, said);
});

test('a missing kernel module: the suggested remedy is right for both CPUs', () => {
  const at = machine();
  runs(at, '20-packages.sh', '30-modules.sh');
  at.write('/var/lib/stand-in/missing-modules', 'ipvlan\n');
  const { status, said } = at.run('30-modules.sh');
  assert.is(status, 1, said);
  assert.match(said, /add kernel-modules-6\.17\.1-300\.fc44 to extra_packages/);
});

test('the scripts write files with the same modes under any umask', () => {
  const modes = (umask: string) => {
    const at = machine();
    const { status, said } = at.run('20-packages.sh', {}, umask);
    assert.is(status, 0, said);
    const archives = withArchives(at);
    const eniboot = at.run('40-eniboot.sh', archives, umask);
    assert.is(eniboot.status, 0, eniboot.said);
    return at.modes('/etc/yum.repos.d', '/etc/pki/rpm-gpg', '/etc/dnf', '/usr/libexec/eniboot', '/opt/cni');
  };
  const usual = modes('022');
  assert.match(usual, /644 .*kubernetes\.repo/);
  for (const umask of ['077', '002']) assert.is(modes(umask), usual, umask);
});

test('the template requires the same versions of Packer and its plugin that the tests run', () => {
  const template = readFileSync(join(repository, 'packer/eniboot.pkr.hcl'), 'utf8');
  const [, required] = /^ {2}required_version = "(.*)"$/m.exec(template) ?? [];
  const [, plugin] = /^ {6}version = "(.*)"$/m.exec(template) ?? [];
  assert.equal(
    [required, plugin],
    [PACKER, AMAZON_PLUGIN].map(({ version }) => version.replace('v', '= ')),
  );
});

test("every unit of the preset is enabled, also the runtime's", () => {
  const at = machine();
  const { status, said } = at.run('40-eniboot.sh', withArchives(at));
  assert.is(status, 0, said);
  const [, units = ''] = /^systemctl preset (.*)$/m.exec(at.read('/var/lib/stand-in/calls')) ?? [];
  assert.ok(units.split(' ').includes('crio.service'), units);
  assert.ok(units.split(' ').includes('kubelet.service'), units);
  assert.match(at.read('/usr/lib/systemd/system-preset/10-eniboot.preset'), /^enable crio\.service$/m);
});

for (const name of ['BUNDLE_SHA256', 'NODE_FILES_SHA256'])
  test(`an archive with another digest than ${name} stops the build, and is not unpacked`, () => {
    const at = machine();
    const { status, said } = at.run('40-eniboot.sh', { ...withArchives(at), [name]: '0'.repeat(64) });
    assert.is(status, 1, said);
    assert.match(said, /that arrived is not the one that was built/);
    assert.throws(() => at.read('/usr/libexec/eniboot/1.0.0/bundle.sha256'), /ENOENT/);
  });

/** Files that the boot of a build instance has made: by cloud-init, its DHCP client, NetworkManager, systemd, sshd and chrony. */
const madeByBoot = [
  ...['dhcpcd/ens5.lease', 'dhcpcd/duid', 'dhcpcd/secret', 'dhclient/dhclient.leases'],
  ...['NetworkManager/secret_key', 'NetworkManager/internal-1-ens5.lease', 'NetworkManager/seen-bssids'],
  ...[
    'systemd/random-seed',
    'systemd/credential.secret',
    'systemd/timers/stamp-fstrim.timer',
    'systemd/timesync/clock',
  ],
  ...['cloud/instances/i-1/user-data.txt', 'cloud/data/instance-id', 'cloud/seed/x', 'lastlog/lastlog2.db'],
  ...[
    'chrony/drift',
    'dbus/machine-id',
    'logrotate/logrotate.status',
    'dnf/repos/fedora/countme',
    'cni/results/a',
  ],
  ...['amazon/ssm/i-1/registration', 'eniboot/i-1/pin.json', 'eniboot/metrics/eniboot.prom'],
]
  .map((name) => `/var/lib/${name}`)
  .concat(
    ['/etc/hostname', '/etc/ssh/ssh_host_rsa_key', '/etc/ssh/sshd_config.d/50-cloud-init.conf'],
    ['/etc/NetworkManager/system-connections/cloud-init-ens5.nmconnection'],
    [
      '/etc/NetworkManager/conf.d/30-cloud-init-ip6-addr-gen-mode.conf',
      '/etc/NetworkManager/conf.d/99-cloud-init.conf',
    ],
    ['/etc/udev/rules.d/70-persistent-net.rules', '/root/.bash_history', '/root/.gnupg/trustdb.gpg'],
    [
      '/root/.ssh/authorized_keys',
      '/root/.cache/x',
      '/home/fedora/.ssh/authorized_keys',
      '/home/fedora/.bash_history',
    ],
    ['/var/log/cloud-init.log', '/var/log/journal/a/system.journal', '/var/log/dnf5.log'],
  );

/** Runs all provisioners, with files made meanwhile. `packages`: stands in for packages that own the base image's files. */
async function provisioned({ clean }: { clean: boolean }) {
  const at = machine();
  execFileSync('find', [at.root, '-xdev', '-path', '*/var/log/*', '-type', 'f', '-delete']);
  at.write('/etc/selinux/config', 'SELINUX=permissive\n');
  at.write(
    '/boot/loader/entries/1-6.17.conf',
    'title x\noptions root=UUID=1 ro console=tty1 console=ttyAMA0\n',
  );
  at.write('/etc/kernel/cmdline', 'root=UUID=1 ro console=ttyAMA0,115200\n');
  at.write('/etc/default/grub', 'GRUB_CMDLINE_LINUX="console=tty0 rw console=ttyAMA0"\nGRUB_TIMEOUT=0\n');
  for (const folder of ['etc/machine-id', 'etc/hostname', 'var/lib/dbus', 'root', 'home', 'etc/ssh'])
    rmSync(join(at.root, folder), { recursive: true, force: true });
  const packaged = execFileSync('find', ['etc', 'var/lib', '!', '-type', 'd'], {
    cwd: at.root,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
  });
  const archives = withArchives(at);
  const did = (script: string) => {
    const { status, said } = at.run(script, archives);
    assert.is(status, 0, `${script}: ${said}`);
  };
  for (const script of PROVISIONERS) did(`${script}.sh`);
  for (const path of madeByBoot) at.write(path, 'of the build instance\n');
  at.write('/etc/machine-id', 'of the build instance\n');
  if (clean) did('80-clean.sh');
  const files = machineAt(at.root);
  const looked: typeof files = {
    ...files,
    run: (file, args) => {
      const stdout = packaged.replaceAll(/^(?=.)/gm, '\t/');
      return Promise.resolve({
        ...{ command: [file, ...args], exitCode: 0, signal: null, missing: false, stdout, stderr: '' },
        ...{ timedOut: false, ms: 0 },
      });
    },
  };
  // Files of the stand-ins.
  return { at, files: looked, hygiene: await checkHygiene(looked, ['/var/lib/stand-in/*']) };
}

test('after the scripts the check passes, with any files that the boot has made before', async () => {
  const { at, files, hygiene } = await provisioned({ clean: true });
  assert.is(hygiene.result, 'pass', hygiene.summary);
  assert.is(at.read('/usr/libexec/eniboot/kubelet-version'), 'Kubernetes v1.36.1\n');
  const found = checkConsole(files, false);
  assert.is(found.result, 'pass', found.summary);
  assert.is(
    at.read('/boot/loader/entries/1-6.17.conf'),
    'title x\noptions root=UUID=1 ro console=tty1 console=ttyS0,115200n8\n',
  );
  assert.is(at.read('/etc/kernel/cmdline'), 'root=UUID=1 ro console=tty1 console=ttyS0,115200n8\n');
  assert.is(
    at.read('/etc/default/grub'),
    'GRUB_CMDLINE_LINUX="rw console=tty1 console=ttyS0,115200n8"\nGRUB_TIMEOUT=0\n',
  );
});

test('a file that the boot has made and no script removes fails the check by its name', async () => {
  const { hygiene } = await provisioned({ clean: false });
  assert.is(hygiene.result, 'fail');
  const left = hygiene.evidence['left'] as string[];
  const unseen = [...madeByBoot, '/etc/machine-id'].filter(
    (path) => !left.some((one) => one === path || (one.endsWith('/') && path.startsWith(one))),
  );
  assert.equal(unseen, []);
});

test('every node file gets the label of its place', () => {
  const at = machine();
  at.write('/etc/selinux/config', 'SELINUX=enforcing\n');
  const archives = withArchives(at);
  for (const script of ['20-packages.sh', '40-eniboot.sh', '50-host.sh']) {
    const { status, said } = at.run(script, archives);
    assert.is(status, 0, `${script}: ${said}`);
  }
  const labelled = new Set(
    [...at.read('/var/lib/stand-in/calls').matchAll(/^label (.*?)\/?$/gm)].map(([, path]) => path),
  );
  const installed = execFileSync('find', ['etc', 'usr', '!', '-type', 'd', '-printf', '/%p\n'], {
    cwd: join(repository, 'systemd'),
    encoding: 'utf8',
  });
  for (const path of installed.trim().split('\n')) assert.ok(labelled.has(path), `${path} is not labelled`);
  assert.ok(labelled.has('/opt/cni') && labelled.has('/usr/libexec/eniboot'));
});

test.after(removeMachines);
test('a service that writes its state when it stops is stopped before the state is removed', async () => {
  const { at } = await provisioned({ clean: true });
  const calls = at.read('/var/lib/stand-in/calls');
  for (const unit of ['systemd-random-seed', 'amazon-ssm-agent', 'chronyd'])
    assert.match(calls, new RegExp(`^systemctl stop ${unit}\\.service$`, 'm'));
});

test.run();
