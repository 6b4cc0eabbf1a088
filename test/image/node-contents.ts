// Whatever a test puts onto a node before eniboot runs there, and who puts it there on a real one. What stands here as the image's
// must be what packer/ and systemd/ install, or the test hides that they do not: node-contents.test.ts compares.

export interface Content {
  /** `*` is anything within a name, `**` anything below. */
  path: string;
  /**
   * `build`: packer/scripts or systemd/. `package`: of the package that packer/scripts/20-packages.sh installs. `operator`: whoever runs
   * the cluster. `cloud`: the machine's own boot, cloud-init and DHCP. `test`: nobody; the product does not look at it.
   */
  from: 'build' | 'package' | 'operator' | 'cloud' | 'test';
  package?: string;
  why: string;
}

const LIBEXEC = '/usr/libexec/eniboot';
const UNITS = '/usr/lib/systemd/system';

export const NODE_CONTENTS: readonly Content[] = [
  { path: `${LIBEXEC}/*/eniboot`, from: 'build', why: 'the executable of the bundle' },
  { path: `${LIBEXEC}/*/manifest.json`, from: 'build', why: 'the digests of the bundle' },
  { path: `${LIBEXEC}/current`, from: 'build', why: 'which version runs' },
  { path: `${LIBEXEC}/kubelet-version`, from: 'build', why: 'what kubelet --version says' },
  { path: '/etc/crio/crio.conf.d/20-pause.conf', from: 'build', why: 'the name of the pause image' },
  { path: '/usr/bin/kubelet', from: 'package', package: 'kubelet', why: 'kubelet' },
  { path: `${UNITS}/kubelet.service`, from: 'package', package: 'kubelet', why: 'kubelet' },
  { path: '/usr/bin/crio', from: 'package', package: 'cri-o', why: 'the runtime' },
  { path: `${UNITS}/crio.service`, from: 'package', package: 'cri-o', why: 'the runtime' },
  { path: `${UNITS}/containerd.service`, from: 'operator', why: "another runtime than the image's" },
  {
    path: '/etc/containerd/config.toml',
    from: 'operator',
    why: 'the same; docs/security.md says what it must have',
  },
  {
    path: `${UNITS}/kubelet.service.d/10-standalone.conf`,
    from: 'operator',
    why: "joining: what kubeadm's drop-in does",
  },
  { path: '/var/lib/kubelet/config.yaml', from: 'operator', why: 'joining: what kubeadm writes' },
  { path: '/usr/bin/kube-proxy', from: 'operator', why: 'kube-proxy, a DaemonSet elsewhere' },
  { path: `${UNITS}/kube-proxy.service`, from: 'operator', why: 'the same' },
  { path: '/etc/eniboot/config.yaml', from: 'operator', why: 'the configuration' },
  { path: '/etc/resolv.conf', from: 'cloud', why: 'name servers, by DHCP' },
  { path: '/etc/machine-id', from: 'cloud', why: 'made by systemd at the first boot' },
  { path: '/etc/cloud/cloud.cfg.d/90-vm.cfg', from: 'test', why: "Debian's cloud-init as Fedora has it" },
  { path: '/etc/crictl.yaml', from: 'test', why: "where crictl looks, for the tests' own questions" },
  { path: `${UNITS}/e2e-*`, from: 'test', why: "the tests' own channel and images" },
  {
    path: '/usr/lib/systemd/system-preset/*',
    from: 'test',
    why: "enables the above; nothing of the image's, which the test looks at",
  },
  { path: '/usr/lib/systemd/system.conf.d/10-e2e.conf', from: 'test', why: "the manager's log" },
  { path: '/usr/libexec/e2e/**', from: 'test', why: "the tests' own programs" },
  { path: '/usr/share/e2e/**', from: 'test', why: "container images of the tests' pods" },
  { path: '/usr/bin/critest', from: 'test', why: 'a suite that is run there' },
];
