// The provisioning scripts of packer/, run on a root of their own: this machine's, with the programs that only Fedora or a
// network has replaced by stand-ins that keep their state in files. What real dnf and rpm do with them is e2e:ami's.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parse } from 'smol-toml';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { AMAZON_PLUGIN, PACKER } from '../packer/fetch.ts';

const repository = join(import.meta.dirname, '../..');
const KEY = 'A'.repeat(40);
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const AGENT = 'the agent';

/** Installed packages are lines of /var/lib/stand-in/rpm: name, epoch, version, release, CPU, digest of the header, licence. */
const programs: Record<string, string> = {
  dnf: `state=/var/lib/stand-in
echo "dnf $*" >>$state/calls
verb=
for word in "$@"; do
  case $word in -*) continue ;; install | remove) verb=$word; continue ;; esac
  case $verb in
  remove) sed -i "/^$word /d" $state/rpm ;;
  install)
    case $word in
    gnupg2*) [ ! -e /hidden/gpg ] || cp /hidden/gpg /stand-ins/gpg ;;
    tar*) [ ! -e /hidden/gpg ] || ln -sf /usr/bin/tar /stand-ins/tar ;;
    esac
    case $word in *.rpm) word=amazon-ssm-agent ;; esac
    for known in $(cut -d ' ' -f 1 $state/offered); do
      case $word in $known | $known-[0-9]*) grep -q "^$known " $state/rpm || grep "^$known " $state/offered >>$state/rpm ;; esac
    done ;;
  esac
done`,
  rpm: `state=/var/lib/stand-in
format= names= all=
while [ $# -gt 0 ]; do
  case $1 in --queryformat) format=$2; shift ;; -qa) all=1 ;; --quiet) format=-; ;; -*) ;; *) names="$names $1" ;; esac
  shift
done
# To rpm, brackets are a loop over an array of tags: what is between them is not printed as it stands.
case $format in *[]['[']*) echo "brackets in $format" >&2; exit 1 ;; esac
[ -z "$all" ] || names=$(cut -d ' ' -f 1 $state/rpm)
for name in $names; do
  line=$(grep "^$name " $state/rpm) || { echo "package $name is not installed"; exit 1; }
  [ "$format" != - ] || continue
  set -- $line
  printf "$(printf %s "$format" | sed -e "s/%{NEVRA}/$1-$3-$4.$5/g" -e "s/%{NAME}/$1/g" -e "s/%{EPOCHNUM}/$2/g" \\
    -e "s/%{VERSION}/$3/g" -e "s/%{RELEASE}/$4/g" -e "s/%{SHA256HEADER}/$6/g" -e "s/%{LICENSE}/$7/g")"
done`,
  curl: `while [ $# -gt 0 ]; do case $1 in --output) out=$2 ;; esac; shift; done
printf '${AGENT}' >"$out"`,
  gpg: `case " $* " in
*' --show-keys '*) printf 'pub:\\nfpr:::::::::${KEY}:\\n' ;;
*' --verify '*) echo '[GNUPG:] VALIDSIG ${KEY} 2026' ;;
esac`,
  systemctl: `echo "systemctl $*" >>/var/lib/stand-in/calls`,
};
const line = (name: string, version: string, release = '1.fc44') =>
  `${name} 0 ${version} ${release} x86_64 ${sha256(name)} MIT\n`;
const base = line('bash', '5.3') + line('zram-generator', '1.2') + line('gpg-pubkey', 'abc');
const offered = [
  line('kubelet', '1.36.1', '150500.1.1'),
  line('cri-o', '1.36.0', '150500.1.1'),
  line('cri-tools', '1.36.0', '150500.1.1'),
  line('nftables', '1.1'),
  line('amazon-ssm-agent', '3.3.1.0', '1'),
].join('');

interface Machine {
  run(script: string, env?: Record<string, string>, umask?: string): { status: number | null; said: string };
  /** Mode and path of everything in these folders. */
  modes(...folders: string[]): string;
  read(path: string): string;
  write(path: string, text: string, mode?: number): void;
  /** No gpg and no tar with the path WITHOUT, until dnf installs their packages. */
  hideTools(): void;
}

const places: string[] = [];
test.after(() => {
  for (const place of places) {
    spawnSync('umount', ['--recursive', '--lazy', place]);
    rmSync(place, { recursive: true, force: true });
  }
});

function machine(): Machine {
  const place = mkdtempSync(join(tmpdir(), 'eniboot-provision-'));
  places.push(place);
  const root = join(place, 'root');
  const mounts = `mount -t tmpfs tmpfs "$1" && cd "$1" && mkdir upper work root
    mount -t overlay -o lowerdir=/,upperdir="$1/upper",workdir="$1/work" overlay root
    mount -t tmpfs -o mode=1777 tmpfs root/tmp && mount --rbind /dev root/dev && mount --rbind /proc root/proc`;
  execFileSync('sh', ['-euc', mounts, 'sh', place]);
  const write: Machine['write'] = (path, text, mode = 0o644) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    chmodSync(join(root, path), mode);
  };
  for (const [name, text] of Object.entries(programs))
    write(`/stand-ins/${name}`, `#!/bin/sh\n${text}\n`, 0o755);
  for (const folder of ['/etc/yum.repos.d', '/etc/pki/rpm-gpg', '/etc/dnf', '/tmp/eniboot/keys'])
    mkdirSync(join(root, folder), { recursive: true });
  write('/var/lib/stand-in/rpm', base);
  write('/var/lib/stand-in/offered', offered);
  write('/var/lib/stand-in/calls', '');
  write('/tmp/eniboot/packages.lock', '');
  write('/tmp/eniboot/keys/amazon-ssm-agent.gpg', 'key');
  return {
    write,
    hideTools: () => {
      const script = `mkdir /without /hidden; mv /stand-ins/gpg /hidden/; cd /without
        for tool in /usr/sbin/* /usr/bin/*; do case $tool in */gpg | */tar) ;; *) ln -sf "$tool" . ;; esac; done`;
      execFileSync('chroot', [root, 'sh', '-euc', script]);
    },
    read: (path) => readFileSync(join(root, path), 'utf8'),
    modes: (...folders) =>
      execFileSync('/usr/sbin/chroot', [root, 'find', ...folders, '!', '-type', 'l', '-printf', '%m %p\\n'], {
        encoding: 'utf8',
      })
        .split('\n')
        .sort()
        .join('\n'),
    run: (script, env = {}, umask = '022') => {
      write(`/tmp/${script}`, readFileSync(join(repository, 'packer/scripts', script), 'utf8'));
      const { status, stdout, stderr } = spawnSync(
        '/usr/sbin/chroot',
        [root, 'sh', '-c', `umask ${umask}; exec bash /tmp/${script}`],
        {
          encoding: 'utf8',
          timeout: 60_000,
          env: {
            PATH: '/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin',
            ...{ ARCH: 'x86_64', REGION: 'eu-west-1', FEDORA_VERSION: '44', EXTRA_PACKAGES: '' },
            ...{ KUBERNETES_VERSION: '1.36.1', KUBERNETES_MINOR: '1.36', CRIO_VERSION: '1.36.0' },
            ...{ KUBERNETES_KEY: KEY, CRIO_KEY: KEY, SSM_AGENT_KEY: KEY },
            ...{ SSM_AGENT_VERSION: '3.3.1.0', SSM_AGENT_SHA256: sha256(AGENT) },
            ...env,
          },
        },
      );
      return { status, said: `${stdout}${stderr}` };
    },
  };
}

/** Where the programs of this machine are, without gpg and tar. */
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
  test(`${script} names what it could not get or read: ${broken} fails`, () => {
    const at = machine();
    at.write(`/stand-ins/${broken}`, '#!/bin/sh\necho nothing >&2\nexit 22\n', 0o755);
    const { status, said } = at.run(script);
    assert.is(status, 1, said);
    assert.match(said, says);
  });

const LOCK = '/tmp/eniboot-packages.lock';
const names = (text: string) => text.match(/^[a-z-]+(?=-\d)/gm);

test('the lists name what is in the image: the SSM agent too, and nothing that was removed', () => {
  const at = machine();
  runs(at, '20-packages.sh', '60-ssm-agent.sh');
  for (const list of [LOCK, '/tmp/eniboot-licences.txt'])
    assert.equal(names(at.read(list)), [
      'amazon-ssm-agent',
      'bash',
      'cri-o',
      'cri-tools',
      'kubelet',
      'nftables',
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
    'twice is once',
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

test("a build's own list is the lock of the next one; a package of another digest is refused", () => {
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
  // The base image has neither. The stand-in for dnf brings the programs with the packages.
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
      assert.ok(locked.includes(name), `${name} is not as the lock has it: ${call}`);
  assert.match(installs[0] ?? '', /gnupg2-2\.4-1\.fc44\.x86_64/);
  assert.is(second.read(LOCK), lock.replace(/^amazon-ssm-agent.*\n/m, ''));
});

test('a lock without gnupg2 is refused where the base image has none', () => {
  const at = machine();
  at.hideTools();
  at.write('/tmp/eniboot/packages.lock', `bash-5.3-1.fc44.x86_64 ${sha256('bash')}\n`);
  const { status, said } = at.run('20-packages.sh', WITHOUT);
  assert.is(status, 1, said);
  assert.match(said, /packages_lock lacks gnupg2/);
  assert.not.match(at.read('/var/lib/stand-in/calls'), /install .*gnupg2/);
});

test('the SSM agent brings no package that no list has', () => {
  const at = machine();
  runs(at, '20-packages.sh');
  at.write(
    '/stand-ins/dnf',
    `#!/bin/sh\nprintf '${(line('amazon-ssm-agent', '3.3.1.0', '1') + line('stowaway', '1')).replaceAll('\n', '\\n')}' >>/var/lib/stand-in/rpm\n`,
    0o755,
  );
  const { status, said } = at.run('60-ssm-agent.sh');
  assert.is(status, 1, said);
  assert.match(said, /brought packages that no lock has[^]*stowaway-1/);
});

test('what the scripts write has the same modes whatever the umask they are called with', () => {
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

test('the template asks for the very versions of Packer and its plugin that the tests run', () => {
  const template = readFileSync(join(repository, 'packer/eniboot.pkr.hcl'), 'utf8');
  const [, required] = /^ {2}required_version = "(.*)"$/m.exec(template) ?? [];
  const [, plugin] = /^ {6}version = "(.*)"$/m.exec(template) ?? [];
  assert.equal(
    [required, plugin],
    [PACKER, AMAZON_PLUGIN].map(({ version }) => version.replace('v', '= ')),
  );
});

/** A bundle whose executable says its version, and node files with the preset. */
function withArchives(at: Machine): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'eniboot-archives-'));
  places.push(folder);
  writeFileSync(join(folder, 'eniboot'), `#!/bin/sh\necho '{"version": "1.0.0"}'\n`, { mode: 0o755 });
  execFileSync('tar', ['-czf', join(folder, 'bundle.tar.gz'), '-C', folder, 'eniboot']);
  execFileSync('tar', [
    '-cf',
    join(folder, 'node-files.tar'),
    '-C',
    join(repository, 'systemd'),
    'etc',
    'usr',
  ]);
  const digests = ['bundle.tar.gz', 'node-files.tar'].map((name) => {
    const bytes = readFileSync(join(folder, name));
    at.write(`/tmp/eniboot/${name}`, '');
    execFileSync('cp', [join(folder, name), join(places.at(-2) ?? '', 'root/tmp/eniboot', name)]);
    return createHash('sha256').update(bytes).digest('hex');
  });
  return { ENIBOOT_VERSION: '1.0.0', BUNDLE_SHA256: digests[0] ?? '', NODE_FILES_SHA256: digests[1] ?? '' };
}

test('every unit of the preset gets it, the runtime among them', () => {
  const at = machine();
  const { status, said } = at.run('40-eniboot.sh', withArchives(at));
  assert.is(status, 0, said);
  const [, units = ''] = /^systemctl preset (.*)$/m.exec(at.read('/var/lib/stand-in/calls')) ?? [];
  assert.ok(units.split(' ').includes('crio.service'), units);
  assert.ok(units.split(' ').includes('kubelet.service'), units);
  assert.match(at.read('/usr/lib/systemd/system-preset/10-eniboot.preset'), /^enable crio\.service$/m);
});

for (const name of ['BUNDLE_SHA256', 'NODE_FILES_SHA256'])
  test(`an archive with another digest than ${name} stops the build, and nothing of it is unpacked`, () => {
    const at = machine();
    const { status, said } = at.run('40-eniboot.sh', { ...withArchives(at), [name]: '0'.repeat(64) });
    assert.is(status, 1, said);
    assert.match(said, /that arrived is not the one that was built/);
    assert.throws(() => at.read('/usr/libexec/eniboot/1.0.0/bundle.sha256'), /ENOENT/);
  });

test.run();
