// A root folder on which the provisioning scripts of packer/ run: this machine's root. Stand-ins that keep their state in
// files replace the programs that only Fedora has, or that need a network.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** The provisioners of packer/eniboot.pkr.hcl, without the one that reads the base image and those that run last. */
export const PROVISIONERS = [
  '20-packages',
  '30-modules',
  '40-eniboot',
  '50-host',
  '60-ssm-agent',
  '70-pause',
];
export const repository = join(import.meta.dirname, '../..');
const KEY = 'A'.repeat(40);
export const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const AGENT = 'the agent';

/**
 * Packages are lines: name, epoch, version, release, CPU, digest of the header, licence. In /var/lib/stand-in `rpm` lists the
 * installed ones, `offered` the newest of each in the repositories, `archived` those that only updates-archive has, and `agent`
 * the package in the file of the SSM agent.
 */
const PACKAGES = `state=/var/lib/stand-in
echo "\${0##*/} $*" >>$state/calls
# matching WORD FILE: lines of the file that the word may mean
matching() {
  awk -v w="$1" 'w == $1 || w == $1 "." $5 || w == $1 "-" $3 || w == $1 "-" $3 "-" $4 || w == $1 "-" $3 "-" $4 "." $5 ||
    w == $1 "-" $2 ":" $3 "-" $4 "." $5' "$2"
}`;

/** As strict as the originals: dnf 5 (doc/commands/install.8.rst, `best`), and rpm with _pkgverify_level=all, as in Fedora 45. */
export const programs: Record<string, string> = {
  dnf: `${PACKAGES}
verb=
for word in "$@"; do
  case $word in -*) continue ;; install | remove | clean) verb=$word; continue ;; esac
  case $verb in
  remove) sed -i "/^$word /d" $state/rpm ;;
  install)
    case $word in *.rpm) echo "Transaction failed: Signature verification failed. The package $word is not signed." >&2; exit 1 ;; esac
    cat $state/offered >/tmp/known
    grep -qsx enabled=1 $(grep -lsx '\\[updates-archive\\]' /etc/yum.repos.d/*.repo) </dev/null && cat $state/archived >>/tmp/known
    found=$(matching "$word" /tmp/known | tail -n 1)
    [ -n "$found" ] || found=$(matching "$word" $state/rpm)
    [ -n "$found" ] || { echo "No match for argument: $word" >&2; exit 1; }
    name=\${found%% *}
    # The build that was found replaces an installed one; a name alone finds the newest build.
    sed -i "/^$name /d" $state/rpm
    echo "$found" >>$state/rpm
    case $name in
    gnupg2) [ ! -e /hidden/gpg ] || cp /hidden/gpg /stand-ins/gpg ;;
    tar) [ ! -e /hidden/gpg ] || ln -sf /usr/bin/tar /stand-ins/tar ;;
    esac ;;
  esac
done`,
  rpm: `${PACKAGES}
format= names= all= upgrade= unsigned=
while [ $# -gt 0 ]; do
  case $1 in
  --queryformat) format=$2; shift ;;
  -qa) all=1 ;;
  --quiet) format=- ;;
  --upgrade) upgrade=1 ;;
  --nosignature) unsigned=1 ;;
  -*) ;;
  *) names="$names $1" ;;
  esac
  shift
done
if [ -n "$upgrade" ]; then
  [ -n "$unsigned" ] || { echo "package $names does not verify: no signature" >&2; exit 1; }
  [ ! -e $state/lacks ] || { echo "error: Failed dependencies: $(cat $state/lacks) is needed by amazon-ssm-agent" >&2; exit 1; }
  ! grep -qxFf $state/agent $state/rpm || { echo "package amazon-ssm-agent is already installed" >&2; exit 2; }
  cat $state/agent >>$state/rpm
  exit
fi
# For rpm, brackets are a loop over an array of tags: rpm does not print the text between them unchanged.
case $format in *[]['[']*) echo "brackets in $format" >&2; exit 1 ;; esac
[ -z "$all" ] || names=$(awk '{ print $1 "-" $3 "-" $4 "." $5 }' $state/rpm)
for name in $names; do
  line=$(matching "$name" $state/rpm)
  [ -n "$line" ] || { echo "package $name is not installed"; exit 1; }
  [ "$format" != - ] || continue
  set -- $line
  printf "$(printf %s "$format" | sed -e "s/%{NEVRA}/$1-$3-$4.$5/g" -e "s/%{NAME}/$1/g" -e "s/%{EPOCHNUM}/$2/g" -e "s/%{ARCH}/$5/g" \\
    -e "s/%{VERSION}/$3/g" -e "s/%{RELEASE}/$4/g" -e "s/%{SHA256HEADER}/$6/g" -e "s/%{LICENSE}/$7/g")"
done`,
  curl: `while [ $# -gt 0 ]; do case $1 in --output) out=$2 ;; https://*) url=$1 ;; esac; shift; done
# This host does not exist: China's partition has a domain of its own.
case $url in https://s3.cn-*.amazonaws.com/*) echo "curl: (6) Could not resolve host" >&2; exit 6 ;; esac
printf '${AGENT}' >"$out"`,
  gpg: `case " $* " in
*' --show-keys '*) printf 'pub:\\nfpr:::::::::${KEY}:\\n' ;;
*' --verify '*) echo '[GNUPG:] VALIDSIG ${KEY} 2026' ;;
esac`,
  // AWS's package has its unit in /etc (aws/amazon-ssm-agent, packaging/linux/amazon-ssm-agent.spec, %files): the link that
  // systemctl makes leads there, and not below /usr.
  systemctl: `echo "systemctl $*" >>/var/lib/stand-in/calls
[ "$*" != 'enable amazon-ssm-agent.service' ] || {
  wants=/etc/systemd/system/multi-user.target.wants
  mkdir -p $wants && ln -sf /etc/systemd/system/amazon-ssm-agent.service $wants/
}`,
  kubelet: `[ "$*" = --version ] && echo Kubernetes v1.36.1`,
  restorecon: `for word in "$@"; do case $word in -*) ;; *) [ -e "$word" ] || [ -L "$word" ] || exit 1; echo "label $word" >>/var/lib/stand-in/calls ;; esac; done`,
  modprobe: `! grep -qxs "$1" /var/lib/stand-in/missing-modules`,
  uname: `case $1 in -r) echo 6.17.1-300.fc44.x86_64 ;; *) exec /usr/bin/uname "$@" ;; esac`,
  // As root, each run of skopeo opens a cache of blobs (containers/image, pkg/blobinfocache/default.go).
  skopeo: `mkdir -p /var/lib/containers/storage/overlay-images /var/lib/containers/cache
echo "$*" >/var/lib/containers/storage/overlay-images/images.json
echo "$*" >/var/lib/containers/cache/blob-info-cache-v1.sqlite`,
  ...Object.fromEntries(
    ['semanage', 'udevadm', 'nmcli', 'swapoff', 'journalctl', 'sync'].map((name) => [name, ':']),
  ),
};
export const line = (name: string, version: string, release = '1.fc44', arch = 'x86_64') =>
  `${name} 0 ${version} ${release} ${arch} ${sha256(name)} MIT\n`;
/** Packages of Fedora's image that the build needs; the repositories have newer ones by now. */
export const base = [
  ...['bash', 'zram-generator', 'gpg-pubkey', 'iproute', 'NetworkManager', 'audit', 'chrony'].map((name) =>
    line(name, '1.0'),
  ),
  line('kernel-core', '6.17.1', '300.fc44'),
].join('');
const needed = ['nftables', 'iproute', 'iproute-tc', 'ethtool', 'conntrack-tools', 'container-selinux'];
export const offered = [
  line('kubelet', '1.36.1', '150500.1.1'),
  line('cri-o', '1.36.0', '150500.1.1'),
  line('cri-tools', '1.36.0', '150500.1.1'),
  ...[...needed, 'policycoreutils-python-utils', 'skopeo', 'NetworkManager', 'audit', 'chrony', 'bash'].map(
    (name) => line(name, '1.1'),
  ),
].join('');

export interface Machine {
  /** The folder that is the machine's `/`. */
  root: string;
  /** Paths of the files that were written since the machine was made, without folders. */
  written(): string[];
  run(script: string, env?: Record<string, string>, umask?: string): { status: number | null; said: string };
  /** Mode and path of every file and folder below these folders. */
  modes(...folders: string[]): string;
  read(path: string): string;
  write(path: string, text: string, mode?: number): void;
  /** Removes gpg and tar from the path WITHOUT, until dnf installs their packages. */
  hideTools(): void;
}

const places: string[] = [];
/** Called after the last test of a file. */
export function removeMachines(): void {
  for (const place of places) {
    spawnSync('umount', ['--recursive', '--lazy', place]);
    rmSync(place, { recursive: true, force: true });
  }
}

export function machine(): Machine {
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
  write('/var/lib/stand-in/archived', '');
  write('/var/lib/stand-in/agent', line('amazon-ssm-agent', '3.3.1.0', '1'));
  write('/var/lib/stand-in/calls', '');
  write('/tmp/eniboot/packages.lock', '');
  write('/tmp/eniboot/keys/amazon-ssm-agent.gpg', 'key');
  return {
    root,
    written: () =>
      execFileSync('find', ['.', '!', '-type', 'd', '-printf', '/%P\\n'], {
        cwd: join(place, 'upper'),
        encoding: 'utf8',
      })
        .trim()
        .split('\n'),
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
            ...{ PAUSE_IMAGE: `registry.k8s.io/pause:3.10@sha256:${'3'.repeat(64)}` },
            ...{ SSM_AGENT_VERSION: '3.3.1.0', SSM_AGENT_SHA256: sha256(AGENT) },
            ...env,
          },
        },
      );
      return { status, said: `${stdout}${stderr}` };
    },
  };
}

/** A bundle whose executable prints its version, and node files with the preset. */
export function withArchives(at: Machine): Record<string, string> {
  const folder = mkdtempSync(join(tmpdir(), 'eniboot-archives-'));
  places.push(folder);
  writeFileSync(join(folder, 'eniboot'), `#!/bin/sh\necho '{"version": "1.0.0"}'\n`, { mode: 0o755 });
  writeFileSync(join(folder, 'manifest.json'), '{}');
  execFileSync('tar', ['-czf', join(folder, 'bundle.tar.gz'), '-C', folder, 'eniboot', 'manifest.json']);
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
    execFileSync('cp', [join(folder, name), join(at.root, 'tmp/eniboot', name)]);
    return createHash('sha256').update(bytes).digest('hex');
  });
  return { ENIBOOT_VERSION: '1.0.0', BUNDLE_SHA256: digests[0] ?? '', NODE_FILES_SHA256: digests[1] ?? '' };
}
