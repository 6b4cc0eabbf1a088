// The provisioning scripts that install packages, with the real programs: dnf5 and RPM, configured as Fedora's, with repositories of
// empty packages. They confirm the behaviour of the stand-ins in test/image/provision.test.ts.
// time limit: 300 s
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { debianRoot } from './root.ts';

const scripts = join(import.meta.dirname, '../../packer/scripts');
const KEY = 'A'.repeat(40);
const LOCK = '/tmp/eniboot-packages.lock';

/** name-version, and a package that it requires. */
type Package = string | [nameVersion: string, requires: string];

const asked = ['nftables', 'iproute-tc', 'ethtool', 'conntrack-tools', 'container-selinux', 'skopeo'];
/** Packages of Fedora's image; of four of these there are newer builds by now. */
const base = [
  'bash-5.3',
  'zram-generator-1.2',
  'iproute-1.0',
  'NetworkManager-1.0',
  'audit-1.0',
  'chrony-1.0',
];
const repositories: Record<string, Package[]> = {
  updates: [
    ...[...asked, 'policycoreutils-python-utils', 'iproute', 'NetworkManager', 'audit', 'chrony'].map(
      (name) => `${name}-1.1`,
    ),
    ['needs-newer-audit-1', 'audit >= 1.1'],
  ],
  'updates-archive': ['skopeo-1.0', 'audit-1.0', 'skopeo-1.1', 'audit-1.1'],
  kubernetes: ['kubelet-1.36.1', 'kubelet-1.36.2', 'cri-tools-1.36.0'],
  crio: ['cri-o-1.36.0'],
  // These packages are in no repository.
  base,
  local: ['amazon-ssm-agent-3.3.1.0', ['needy-agent-1', 'stowaway']],
};
const settings: Record<string, string> = {
  // dnf5's own default, which Debian changes and Fedora does not (dnf5.conf(5), best).
  '/etc/dnf/dnf.conf': '[main]\nbest=True\ngpgcheck=True\n',
  '/etc/dnf/vars/releasever': '44',
  // From Fedora 45 on RPM refuses packages without a signature. dnf tells it what a repository allows.
  '/etc/rpm/macros.fedora': '%_pkgverify_level all\n',
  '/etc/yum.repos.d/updates.repo':
    '[updates]\nname=updates\nbaseurl=file:///repo/updates\nenabled=1\ngpgcheck=0\n',
  // The scripts' own repositories, with packages of these tests.
  '/etc/dnf/repos.override.d/99-here.repo': ['kubernetes', 'crio', 'updates-archive']
    .map((name) => `[${name}]\nbaseurl=file:///repo/${name}\ngpgcheck=0\nrepo_gpgcheck=0\n`)
    .join(''),
};
const programs: Record<string, string> = {
  dnf: 'exec dnf5 "$@"',
  systemctl: ':',
  // An extracted package does not make this link.
  awk: 'exec gawk "$@"',
  curl: `while [ $# -gt 0 ]; do case $1 in --output) out=$2 ;; https://*) url=$1 ;; esac; shift; done
case $url in *.rpm) cp /repo/local/amazon-ssm-agent-*.rpm "$out" ;; *) echo key >"$out" ;; esac`,
  gpg: `case " $* " in
*' --show-keys '*) printf 'pub:\\nfpr:::::::::${KEY}:\\n' ;;
*' --verify '*) echo '[GNUPG:] VALIDSIG ${KEY} 2026' ;;
esac`,
};

interface Ended {
  status: number | null;
  said: string;
}

interface Machine {
  root: string;
  run(...command: string[]): Ended;
  /** Runs one of packer/scripts. */
  script(name: string, env?: Record<string, string>): Ended;
  read(path: string): string;
  write(path: string, text: string, mode?: number): void;
  /** The installed builds of packages. */
  builds(...names: string[]): string[];
}

const places: string[] = [];
test.after(() => {
  for (const place of places) {
    spawnSync('umount', ['--recursive', '--lazy', place]);
    rmSync(place, { recursive: true, force: true });
  }
});

/** A root of its own, an overlay on `below`. */
function over(below: string): Machine {
  const place = mkdtempSync(join(tmpdir(), 'eniboot-dnf-'));
  places.push(place);
  const root = join(place, 'root');
  const mounts = `mount -t tmpfs tmpfs "$1" && cd "$1" && mkdir upper work root
    mount -t overlay -o lowerdir="$2",upperdir="$1/upper",workdir="$1/work" overlay root
    mkdir -p root/dev root/proc root/tmp && mount --rbind /dev root/dev && mount --rbind /proc root/proc`;
  execFileSync('sh', ['-euc', mounts, 'sh', place, below]);
  const run = (command: string[], env: Record<string, string> = {}): Ended => {
    const { status, stdout, stderr } = spawnSync('/usr/sbin/chroot', [root, ...command], {
      encoding: 'utf8',
      timeout: 120_000,
      env: { PATH: '/stand-ins:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8', HOME: '/root', ...env },
    });
    return { status, said: `${stdout}${stderr}` };
  };
  const write: Machine['write'] = (path, text, mode = 0o644) => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
    chmodSync(join(root, path), mode);
  };
  return {
    root,
    write,
    run: (...command) => run(command),
    read: (path) => readFileSync(join(root, path), 'utf8'),
    builds: (...names) =>
      run(['rpm', '--query', '--queryformat', '%{NAME}-%{VERSION}\n', ...names])
        .said.trim()
        .split('\n'),
    script: (name, env) => {
      write(`/tmp/${name}`, readFileSync(join(scripts, name), 'utf8'));
      return run(['bash', `/tmp/${name}`], {
        ...{ ARCH: 'x86_64', REGION: 'eu-west-1', FEDORA_VERSION: '44', EXTRA_PACKAGES: '' },
        ...{ KUBERNETES_VERSION: '1.36.1', KUBERNETES_MINOR: '1.36', CRIO_VERSION: '1.36.0' },
        ...{ KUBERNETES_KEY: KEY, CRIO_KEY: KEY, SSM_AGENT_KEY: KEY, SSM_AGENT_VERSION: '3.3.1.0' },
        ...{ SSM_AGENT_SHA256: agentDigest(root) },
        ...env,
      });
    },
  };
}

function must(ended: Ended): string {
  assert.is(ended.status, 0, ended.said);
  return ended.said;
}

function agentDigest(root: string): string {
  const folder = join(root, 'repo/local');
  const file = readdirSync(folder).find((name) => name.startsWith('amazon-ssm-agent')) ?? '';
  return createHash('sha256')
    .update(readFileSync(join(folder, file)))
    .digest('hex');
}

/** The root with repositories, and the base image's packages installed. Made once. */
function prepare(): string {
  const at = over(debianRoot());
  for (const folder of ['yum.repos.d', 'pki/rpm-gpg', 'rpm', 'dnf'])
    mkdirSync(join(at.root, 'etc', folder), { recursive: true });
  // Debian's addition: a repository of packages that were downloaded before.
  rmSync(join(at.root, 'etc/dnf/libdnf5-plugins'), { recursive: true, force: true });
  for (const [path, text] of Object.entries(settings)) at.write(path, text);
  for (const [name, text] of Object.entries(programs))
    at.write(`/stand-ins/${name}`, `#!/bin/sh\n${text}\n`, 0o755);
  // Each build is built once, because locks have its digest.
  const specs = new Map(
    Object.values(repositories)
      .flat()
      .map((one) => (typeof one === 'string' ? ([one, ''] as const) : one)),
  );
  for (const [build, requires] of specs) {
    const [, name, version] = /^(.*)-([^-]*)$/.exec(build) ?? [];
    const text = `Name: ${name}\nVersion: ${version}\nRelease: 1.fc44\nSummary: x\nLicense: MIT\nBuildArch: noarch\n`;
    at.write(
      `/specs/${build}.spec`,
      `${text}${requires === '' ? '' : `Requires: ${requires}\n`}%description\nx\n%files\n`,
    );
  }
  const commands = [
    `for spec in /specs/*.spec; do
  rpmbuild --quiet -bb --define '_rpmdir /pool' --define '_build_name_fmt %%{NAME}-%%{VERSION}.rpm' $spec
done`,
    ...Object.entries(repositories).map(
      ([repository, packages]) => `mkdir -p /repo/${repository}
for build in ${packages.map((one) => (typeof one === 'string' ? one : one[0])).join(' ')}; do
  cp /pool/$build.rpm /repo/${repository}/
done
createrepo_c --quiet /repo/${repository}`,
    ),
  ];
  must(at.run('sh', '-euc', commands.join('\n')));
  must(at.run('sh', '-euc', 'mkdir -p /var/lib/rpm; rpm --install --nodeps --nosignature /repo/base/*.rpm'));
  return at.root;
}

const prepared = prepare();
function machine(): Machine {
  const at = over(prepared);
  at.write('/tmp/eniboot/packages.lock', '');
  at.write('/tmp/eniboot/keys/amazon-ssm-agent.gpg', 'key');
  return at;
}

/** The behaviour that the stand-ins of provision.test.ts copy: [what, command, exit code, output, builds afterwards]. */
const facts: [string, string, number, RegExp, string[]][] = [
  [
    'dnf upgrades an installed package that is named without a version',
    'dnf5 -y install audit',
    0,
    /Upgrading/,
    ['audit-1.1'],
  ],
  [
    'dnf also upgrades it when it is named with another package',
    'dnf5 -y install audit skopeo',
    0,
    /Upgrading/,
    ['audit-1.1'],
  ],
  ['an installed dependency is not changed', 'dnf5 -y install skopeo', 0, /skopeo/, ['audit-1.0']],
  [
    'a build that repositories no longer have is not found',
    'dnf5 -y install skopeo-1.0-1.fc44.noarch',
    1,
    /No match for argument: skopeo-1\.0/,
    ['audit-1.0'],
  ],
  [
    'a package that no repository has is not found',
    'dnf5 -y install nothing',
    1,
    /No match for argument/,
    ['audit-1.0'],
  ],
  [
    'RPM refuses a package without a signature',
    'rpm --upgrade /repo/local/amazon-ssm-agent-3.3.1.0.rpm',
    1,
    /no signature/,
    ['package amazon-ssm-agent is not installed'],
  ],
  [
    'RPM accepts it with --nosignature, as in 60-ssm-agent.sh',
    'rpm --upgrade --nosignature /repo/local/amazon-ssm-agent-3.3.1.0.rpm',
    0,
    /^$/,
    ['amazon-ssm-agent-3.3.1.0'],
  ],
  [
    'RPM installs no dependency by itself',
    'rpm --upgrade --nosignature /repo/local/needy-agent-1.rpm',
    1,
    /stowaway is needed by needy-agent/,
    ['package needy-agent is not installed'],
  ],
];
for (const [what, command, status, says, builds] of facts)
  test(`${what}: ${command}`, () => {
    const at = machine();
    const ended = at.run('sh', '-c', command);
    assert.is(ended.status, status, ended.said);
    assert.match(ended.said, says);
    const names = builds.map((one) => one.replace(/^package (\S+) .*$/, '$1').replace(/-[\d.]+$/, ''));
    assert.equal(at.builds(...names), builds);
  });

test('20-packages.sh and 60-ssm-agent.sh install missing packages, and do not change the rest of the base image', () => {
  const at = machine();
  must(at.script('20-packages.sh'));
  must(at.script('60-ssm-agent.sh'));
  assert.equal(at.builds('iproute', 'NetworkManager', 'audit', 'chrony', 'kubelet', 'cri-o', 'skopeo'), [
    ...['iproute-1.0', 'NetworkManager-1.0', 'audit-1.0', 'chrony-1.0'],
    ...['kubelet-1.36.1', 'cri-o-1.36.0', 'skopeo-1.1'],
  ]);
  assert.match(at.read(LOCK), /^amazon-ssm-agent-3\.3\.1\.0-1\.fc44\.noarch [0-9a-f]{64}$/m);
  assert.not.match(at.read(LOCK), /^zram-generator/m);
  // A second run changes nothing.
  const lock = at.read(LOCK);
  must(at.script('20-packages.sh'));
  must(at.script('60-ssm-agent.sh'));
  assert.is(at.read(LOCK), lock);
});

test('dnf reads the version lock: kubelet stays at its version when its repository has a newer one', () => {
  const at = machine();
  must(at.script('20-packages.sh'));
  assert.match(must(at.run('dnf5', 'versionlock', 'list')), /kubelet\n.*evr = 0:1\.36\.1-1\.fc44/);
  must(at.run('dnf5', '-y', '--enable-repo=kubernetes', 'upgrade'));
  assert.equal(at.builds('kubelet', 'audit'), ['kubelet-1.36.1', 'audit-1.1']);
});

test('a needed package may require a newer build of an installed one: the script tells so', () => {
  const at = machine();
  const said = must(at.script('20-packages.sh', { EXTRA_PACKAGES: 'needs-newer-audit' }));
  assert.match(said, /of the base image [^]*audit\S* 1\.0-1\.fc44 -> 1\.1-1\.fc44/);
});

test('a lock holds after Fedora has dropped builds that it names', () => {
  const first = machine();
  must(first.script('20-packages.sh'));
  const lock = first.read(LOCK);
  const later = machine();
  later.write('/tmp/eniboot/packages.lock', lock);
  // A newer build has replaced skopeo-1.1; the archive still has it.
  must(
    later.run(
      'sh',
      '-euc',
      'rm -r /repo/updates/skopeo-1.1.rpm /repo/updates/repodata; createrepo_c --quiet /repo/updates',
    ),
  );
  must(later.script('20-packages.sh'));
  assert.is(later.read(LOCK), lock);
  assert.equal(readdirSync(join(later.root, 'etc/yum.repos.d')).sort(), [
    ...['crio.repo', 'kubernetes.repo', 'updates.repo'],
  ]);
  // When the archive cannot be reached, an installation that needs it fails.
  const apart = machine();
  apart.write('/tmp/eniboot/packages.lock', lock);
  must(apart.run('rm', '-r', '/repo/updates-archive'));
  must(apart.script('20-packages.sh'));
  assert.is(apart.read(LOCK), lock);
});

test.run();
