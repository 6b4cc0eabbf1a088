// Files that an image may have below /etc, /var/lib and /root although no package brings them. Any other such file was made by
// the boot of the build machine and fails `image check`, which names it: an image passes on only known files.

export interface ExpectedFile {
  /** `*` is any text within a name, `**` any path below. */
  path: string;
  /** Only a symbolic link is expected there; its target begins with this. */
  linkTo?: string;
  why: string;
}

/** A file that the image's own build makes. */
const ours = (path: string, script: string, why: string): ExpectedFile => ({
  path,
  why: `packer/scripts/${script}: ${why}`,
});

export const EXPECTED_FILES: readonly ExpectedFile[] = [
  // Files that the build writes. test/image/provision.test.ts runs the scripts, then the check.
  ours('/etc/yum.repos.d/kubernetes.repo', '20-packages.sh', 'where kubelet is from, turned off'),
  ours('/etc/yum.repos.d/crio.repo', '20-packages.sh', 'where cri-o is from, turned off'),
  ours('/etc/pki/rpm-gpg/RPM-GPG-KEY-kubernetes', '20-packages.sh', 'the key of that repository'),
  ours('/etc/pki/rpm-gpg/RPM-GPG-KEY-crio', '20-packages.sh', 'the key of that repository'),
  ours('/etc/dnf/versionlock.toml', '20-packages.sh', 'kubelet and the runtime stay at their versions'),
  ours('/etc/crio/crio.conf.d/20-pause.conf', '70-pause.sh', 'the name of the pause image'),
  ours('/var/lib/containers/storage/**', '70-pause.sh', 'the pause image'),
  { path: '/etc/cloud/cloud.cfg.d/90-eniboot.cfg', why: 'systemd/: cloud-init leaves pod ENIs alone' },
  {
    path: '/etc/systemd/system/**',
    linkTo: '/dev/null',
    why: 'units that systemd/ and packer/scripts/ mask, systemctl(1) mask',
  },

  // Links that systemctl(1) enable and preset make for enabled units and aliases.
  { path: '/etc/systemd/system/**', linkTo: '/usr/lib/systemd/', why: 'systemctl(1) enable' },
  {
    path: '/etc/systemd/system/**',
    linkTo: '/lib/systemd/',
    why: 'systemctl(1) enable, before the merge of /usr',
  },
  {
    path: '/etc/systemd/system/multi-user.target.wants/amazon-ssm-agent.service',
    linkTo: '/etc/systemd/system/amazon-ssm-agent.service',
    why: "systemctl(1) enable: AWS's package has its unit in /etc (aws/amazon-ssm-agent, packaging/linux/amazon-ssm-agent.spec)",
  },
  { path: '/etc/systemd/user/**', linkTo: '/usr/lib/systemd/', why: 'systemctl(1) --global enable' },

  // Accounts that packages and cloud-init make. No package has these files with their contents.
  ...['passwd', 'group', 'shadow', 'gshadow', 'subuid', 'subgid'].flatMap((name) => [
    { path: `/etc/${name}`, why: 'accounts of packages: setup, useradd(8)' },
    { path: `/etc/${name}-`, why: 'the same, one account before: useradd(8)' },
  ]),
  { path: '/etc/.pwd.lock', why: 'empty; lckpwdf(3), by systemd-sysusers(8)' },
  {
    path: '/etc/sudoers.d/90-cloud-init-users',
    why: 'what the default user may, as every new instance writes it: cloud-init, cc_users_groups. The check itself runs by it',
  },

  // Made by scriptlets or triggers of packages. Most are %ghost: the package lists the name, without contents.
  { path: '/etc/.updated', why: 'the time of /usr: systemd-update-done.service(8)' },
  { path: '/var/lib/.updated', why: 'the same' },
  { path: '/etc/ld.so.cache', why: '%ghost of glibc: ldconfig(8)' },
  { path: '/etc/udev/hwdb.bin', why: '%ghost of systemd-udev: systemd-hwdb(8)' },
  { path: '/var/lib/systemd/catalog/database', why: '%ghost of systemd: journalctl(1) --update-catalog' },
  { path: '/etc/audit/audit.rules', why: '%ghost of audit: augenrules(8)' },
  { path: '/etc/alternatives/**', why: 'links of packages: alternatives(8)' },
  { path: '/var/lib/alternatives/**', why: 'the same' },
  { path: '/etc/pki/ca-trust/extracted/**', why: 'certificates of ca-certificates: update-ca-trust(8)' },
  {
    path: '/etc/pki/tls/**',
    linkTo: '/etc/pki/',
    why: 'certificates of ca-certificates: update-ca-trust(8)',
  },
  { path: '/etc/crypto-policies/**', why: 'made from what crypto-policies has: update-crypto-policies(8)' },
  { path: '/etc/selinux/**', why: 'the policy, made from its modules: semodule(8), semanage-fcontext(8)' },
  { path: '/var/lib/selinux/**', why: 'the modules of the policy, and eniboot’s file contexts: semodule(8)' },
  { path: '/etc/authselect/**', why: 'made from a profile of authselect: authselect(8)' },
  { path: '/var/lib/authselect/**', why: 'the same' },
  ...['fingerprint-auth', 'password-auth', 'postlogin', 'smartcard-auth', 'system-auth'].map((name) => ({
    path: `/etc/pam.d/${name}`,
    why: 'made from a profile of authselect: authselect(8)',
  })),
  { path: '/etc/nsswitch.conf', why: 'the same' },
  { path: '/var/lib/rpm/**', why: 'the RPM database, where the distribution keeps it there' },
  {
    path: '/var/lib/dnf/*',
    why: 'which packages were asked for, and when: dnf(8). 80-clean.sh takes the cookies of repositories',
  },

  // Files of Fedora's image, the same in each image: kiwi and fedora-kiwi-descriptions, config.sh; %ghost of systemd.
  { path: '/etc/fstab', why: 'the file systems of the base image: kiwi' },
  { path: '/etc/localtime', why: '%ghost of systemd: localtime(5)' },
  { path: '/etc/locale.conf', why: '%ghost of systemd: locale.conf(5)' },
  { path: '/etc/vconsole.conf', why: '%ghost of systemd: vconsole.conf(5)' },
  { path: '/etc/adjtime', why: '%ghost of util-linux: hwclock(8)' },
  {
    path: '/etc/default/grub',
    why: 'how the boot loader is configured: kiwi, and grubby(8) for the console',
  },
  {
    path: '/etc/kernel/cmdline',
    why: 'the kernel arguments of new kernels: grubby(8) for the console, kernel-install(8)',
  },
  { path: '/etc/sysconfig/kernel', why: 'which kernel becomes the default: kiwi, kernel-install(8)' },
  { path: '/etc/sysconfig/network', why: 'empty; kiwi' },
  { path: '/etc/resolv.conf', linkTo: '../run/', why: 'of systemd-resolved: its answers are in /run' },
  { path: '/etc/resolv.conf', linkTo: '/run/', why: 'the same' },
  ...['bash_logout', 'bash_profile', 'bashrc', 'cshrc', 'tcshrc'].map((name) => ({
    path: `/root/.${name}`,
    why: 'copied from /usr/share/rootfiles: rootfiles.conf, tmpfiles.d(5)',
  })),

  // Files that programs write until the machine stops. Of the machine they contain only a time.
  {
    path: '/var/lib/NetworkManager/timestamps',
    why: 'when which connection was used last; every five minutes: NetworkManager(8)',
  },
  {
    path: '/var/lib/NetworkManager/NetworkManager.state',
    why: 'whether networking is on: NetworkManager(8)',
  },
  {
    path: '/var/lib/NetworkManager/NetworkManager-intern.conf',
    why: 'what was set over D-Bus: NetworkManager.conf(5)',
  },
];

/** Whether a path is in the list. `target`: the target of a link. */
export function isExpected(list: readonly ExpectedFile[], path: string, target: string | undefined): boolean {
  return list.some(
    (one) =>
      (one.linkTo === undefined || target?.startsWith(one.linkTo) === true) &&
      covers(one.path.split('/'), path.split('/')),
  );
}

/** Whether a path below a folder can be in the list. */
export function mayHold(list: readonly ExpectedFile[], folder: string): boolean {
  const names = folder.split('/');
  return list.some(({ path }) => {
    const parts = path.split('/');
    const below = parts.indexOf('**');
    const known = names.slice(0, below === -1 ? undefined : below);
    return (
      (below !== -1 || parts.length > names.length) && known.every((name, at) => fits(parts[at] ?? '', name))
    );
  });
}

function covers([part, ...parts]: string[], [name, ...names]: string[]): boolean {
  if (part === undefined || name === undefined) return part === name;
  if (part !== '**') return fits(part, name) && covers(parts, names);
  return covers(parts, names) || (names.length > 0 && covers(['**', ...parts], names));
}

/** Whether a name matches a part with stars: the texts between stars occur in order, the first and last at the name's ends. */
function fits(part: string, name: string): boolean {
  const [first = '', ...texts] = part.split('*');
  const last = texts.pop();
  if (last === undefined) return part === name;
  if (name.length < first.length + last.length || !name.startsWith(first) || !name.endsWith(last))
    return false;
  let rest = name.slice(first.length, name.length - last.length);
  for (const text of texts) {
    const at = rest.indexOf(text);
    if (at === -1) return false;
    rest = rest.slice(at + text.length);
  }
  return true;
}
