// The files that tell kubelet and cri-o about this node. Pure: the kubelet phase reads the machine and writes the files.
import ipaddr from 'ipaddr.js';
import { stringify as toToml } from 'smol-toml';
import { stringify as toYaml } from 'yaml';
import { nodeLabelProblem } from '../../../config/node-labels.ts';
import { Failure } from '../../../messages/failure.ts';
import { kubeReserved } from './reserved.ts';

export interface KubeletNode {
  /** As `kubelet --version` prints it, or only the version: `Kubernetes v1.36.6`, `1.36`. */
  kubeletVersion: string;
  instanceId: string;
  instanceType: string;
  region: string;
  zone: string;
  zoneId: string;
  /** The boot ENI's primary address, and with dual stack its IPv6 address if it has one. */
  nodeIps: string[];
  /** Pods have IPv6 too. */
  dualStack: boolean;
  maxPods: number;
  /** MemTotal of this machine in bytes: the memory without the part that the hypervisor and the kernel took. */
  memoryBytes: number;
  vcpus: number;
  /** The installed runtime; cri-o when both are installed. */
  runtime: 'crio' | 'containerd';
  /** Text of /etc/resolv.conf. */
  resolvConf: string;
  clusterDns: string[];
  clusterDomain: string;
  /** Configured labels, beside the labels that are always set. */
  labels: Record<string, string>;
  /** Path of the bootstrap kubeconfig, when eniboot writes one. */
  bootstrapKubeconfig: string | undefined;
}

export interface KubeletFile {
  /** Where the file is written, under /run. */
  path: string;
  /** Where a copy goes, when the program that reads the file looks only there. */
  copy?: string;
  mode: number;
  text: string;
}

/** Minor versions of Kubernetes 1 whose KubeletConfiguration and flags were compared field by field with these files. */
export const supportedKubelets = { oldest: 30, newest: 37 };

const written = '# Written by eniboot at every boot; changes here are lost.';
const header = `${written} A file that sorts after this one overrides it.\n`;
/** Where each runtime listens by default, according to its documentation. */
const sockets = {
  crio: 'unix:///var/run/crio/crio.sock',
  containerd: 'unix:///run/containerd/containerd.sock',
};
const dropInDirectory = '/etc/kubernetes/kubelet.conf.d';

/**
 * The drop-in for kubelet, its flags as an environment file, and the drop-in for cri-o.
 *
 * One form serves all supported kubelets: from 1.30 on `--config-dir` needs no feature switch (1.28 and 1.29 needed
 * KUBELET_CONFIG_DROPIN_DIR_ALPHA), and no field used here was added, renamed or removed since. Node IP and labels have no
 * field in KubeletConfiguration and stay flags.
 *
 * Throws KUBELET_UNSUPPORTED for another minor version and CONFIG_INVALID for a label that kubelet may not set.
 */
export function kubeletFiles(node: KubeletNode): KubeletFile[] {
  requireSupported(node.kubeletVersion);
  // With an empty --node-ip, kubelet would choose an address itself, by the default route of that moment.
  const [ipv4 = '', ...ipv6] = node.nodeIps;
  if (!ipaddr.IPv4.isValidFourPartDecimal(ipv4) || ipv6.some((one) => !ipaddr.IPv6.isValid(one)))
    throw new Failure(
      'INTERNAL',
      `not an IPv4 address and at most IPv6 ones: ${JSON.stringify(node.nodeIps)}`,
    );
  return [
    {
      path: '/run/eniboot/kubelet/10-eniboot.conf',
      copy: `${dropInDirectory}/10-eniboot.conf`,
      mode: 0o644,
      text: header + toYaml(kubeletConfiguration(node)),
    },
    {
      path: '/run/eniboot/kubelet.env',
      mode: 0o644,
      text: `${written}\nENIBOOT_KUBELET_ARGS="${flags(node).join(' ')}"\n`,
    },
    {
      path: '/run/eniboot/crio/10-eniboot.conf',
      copy: '/etc/crio/crio.conf.d/10-eniboot.conf',
      mode: 0o644,
      text: header + toToml(crioConfiguration()),
    },
  ];
}

function kubeletConfiguration(node: KubeletNode): Record<string, unknown> {
  const reserved = kubeReserved(node);
  return {
    apiVersion: 'kubelet.config.k8s.io/v1beta1',
    kind: 'KubeletConfiguration',
    providerID: `aws:///${node.zone}/${node.instanceId}`,
    maxPods: node.maxPods,
    // Must agree with cri-o's cgroup_manager. From 1.34 on kubelet asks the runtime, and this is its fallback.
    cgroupDriver: 'systemd',
    containerRuntimeEndpoint: sockets[node.runtime],
    kubeReserved: { cpu: `${reserved.cpuMillis}m`, memory: `${reserved.memoryMiB}Mi` },
    resolvConf: resolverFile(node.resolvConf),
    clusterDomain: node.clusterDomain,
    ...(node.clusterDns.length > 0 ? { clusterDNS: node.clusterDns } : {}),
  };
}

function flags(node: KubeletNode): string[] {
  for (const [key, value] of Object.entries(node.labels)) requireLabel(key, value);
  const labels = {
    'topology.kubernetes.io/region': node.region,
    'topology.kubernetes.io/zone': node.zone,
    'topology.k8s.aws/zone-id': node.zoneId,
    'node.kubernetes.io/instance-type': node.instanceType,
    // A pod that needs IPv6 can choose its node by this label, in a cluster with both kinds of nodes.
    ...(node.dualStack ? { 'eniboot/ip-family': 'dual-stack' } : {}),
    ...node.labels,
  };
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  // Two addresses of different families make a dual-stack node (kubelet reference, --node-ip; GA since 1.30).
  const nodeIp = node.nodeIps.join(',');
  return [
    ...[`--config-dir=${dropInDirectory}`, `--node-ip=${nodeIp}`, `--node-labels=${pairs.join(',')}`],
    // kubelet reads it only while the file of --kubeconfig, which stays the operator's, does not hold a valid certificate.
    ...(node.bootstrapKubeconfig === undefined ? [] : [`--bootstrap-kubeconfig=${node.bootstrapKubeconfig}`]),
  ];
}

/** Selects the network by name, so that no other configuration in the directory can become the default. */
function crioConfiguration() {
  return {
    crio: {
      network: {
        cni_default_network: 'eniboot',
        network_dir: '/etc/cni/net.d/',
        plugin_dirs: ['/opt/cni/bin/'],
      },
      runtime: { cgroup_manager: 'systemd' },
    },
  };
}

/** Pods cannot reach systemd-resolved's stub on the node's loopback, so they get the servers behind it. */
function resolverFile(resolvConf: string): string {
  const stub = /^[ \t]*nameserver[ \t]+127\.0\.0\.5[34][ \t\r]*$/m.test(resolvConf);
  return stub ? '/run/systemd/resolve/resolv.conf' : '/etc/resolv.conf';
}

function requireSupported(version: string): void {
  const [, major, minor] = /^(?:Kubernetes )?v?(\d+)\.(\d+)(?:[.+-].*)?$/.exec(version.trimEnd()) ?? [];
  const { oldest, newest } = supportedKubelets;
  if (major === '1' && Number(minor) >= oldest && Number(minor) <= newest) return;
  const supported = `1.${oldest} to 1.${newest}`;
  throw new Failure(
    'KUBELET_UNSUPPORTED',
    `kubelet is version ${JSON.stringify(version)}; eniboot knows ${supported}`,
    {
      version,
      supported,
    },
  );
}

function requireLabel(key: string, value: string): void {
  const problem = nodeLabelProblem(key, value);
  if (problem === undefined) return;
  const path = `kubernetes.labels[${JSON.stringify(key)}]`;
  throw new Failure('CONFIG_INVALID', `${path} ${problem}`, { path, value });
}
