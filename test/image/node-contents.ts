// Every file that a test puts onto a node before eniboot runs there, and its origin on a real node. A file with origin `build` or
// `package` must be installed by packer/ or systemd/, or the test would hide that it is missing: node-contents.test.ts compares.

export interface Content {
  /** `*` is anything within a name, `**` anything below. */
  path: string;
  /**
   * `build`: packer/scripts or systemd/. `package`: a package that packer/scripts/20-packages.sh installs. `operator`: the
   * operator of the cluster. `cloud`: the machine's own boot, cloud-init and DHCP. `test`: only a test; the product does not read it.
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
  { path: `${LIBEXEC}/current`, from: 'build', why: 'the version that runs' },
  { path: `${LIBEXEC}/kubelet-version`, from: 'build', why: 'the output of kubelet --version' },
  { path: '/etc/crio/crio.conf.d/20-pause.conf', from: 'build', why: 'the name of the pause image' },
  { path: '/usr/bin/kubelet', from: 'package', package: 'kubelet', why: 'kubelet' },
  { path: `${UNITS}/kubelet.service`, from: 'package', package: 'kubelet', why: 'kubelet' },
  { path: '/usr/bin/crio', from: 'package', package: 'cri-o', why: 'the runtime' },
  { path: `${UNITS}/crio.service`, from: 'package', package: 'cri-o', why: 'the runtime' },
  { path: `${UNITS}/containerd.service`, from: 'operator', why: "another runtime than the image's" },
  {
    path: '/etc/containerd/config.toml',
    from: 'operator',
    why: 'the same; docs/security.md has its required contents',
  },
  {
    path: `${UNITS}/kubelet.service.d/10-standalone.conf`,
    from: 'operator',
    why: "joining: does the same as kubeadm's drop-in",
  },
  { path: '*/kubelet.service.d/20-join.conf', from: 'operator', why: 'joining: docs/examples/join/tls' },
  {
    path: '/usr/bin/kubeadm',
    from: 'operator',
    why: 'joining with kubeadm: docs/join.md has its installation',
  },
  { path: '/var/lib/kubelet/config.yaml', from: 'operator', why: 'joining: written by kubeadm' },
  { path: '/usr/bin/kube-proxy', from: 'operator', why: 'kube-proxy, a DaemonSet elsewhere' },
  { path: `${UNITS}/kube-proxy.service`, from: 'operator', why: 'the same' },
  { path: '/etc/eniboot/config.yaml', from: 'operator', why: 'the configuration' },
  { path: '/etc/resolv.conf', from: 'cloud', why: 'name servers, by DHCP' },
  { path: '/etc/machine-id', from: 'cloud', why: 'made by systemd at the first boot' },
  {
    path: '/etc/cloud/cloud.cfg.d/90-vm.cfg',
    from: 'test',
    why: "configures Debian's cloud-init as Fedora's",
  },
  { path: '/etc/crictl.yaml', from: 'test', why: "where crictl looks, for the tests' own questions" },
  { path: `${UNITS}/e2e-*`, from: 'test', why: "the tests' own channel and images" },
  {
    path: '/usr/lib/systemd/system-preset/*',
    from: 'test',
    why: "enables the units above, and none of the image's, as the test checks",
  },
  { path: '/usr/lib/systemd/system.conf.d/10-e2e.conf', from: 'test', why: "the manager's log" },
  {
    path: '/etc/kubernetes/kubelet.conf.d/50-e2e.conf',
    from: 'test',
    why: 'settings of kubelet that the VMs of the tests need',
  },
  {
    path: `${UNITS}/kubeadm-join.service.d/e2e-name.conf`,
    from: 'test',
    why: 'the name of the node in a test',
  },
  { path: '/usr/libexec/e2e/**', from: 'test', why: "the tests' own programs" },
  { path: '/usr/share/e2e/**', from: 'test', why: "container images of the tests' pods" },
  { path: '/usr/bin/critest', from: 'test', why: 'a test suite that runs there' },
];
